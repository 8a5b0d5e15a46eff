//! A proxy in front of the Engine that behaves like UCP's: it demands a client certificate, puts what is created into
//! a collection and on the nodes of its orchestrator, refuses what reaches the host, and hides what is in no
//! collection.
//!
//! Deliberately missing: hijacked connections (`docker exec`, `attach`), roles, and more than one user.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::calls::{Call, Calls, without_version};

/// The label that names an object's collection.
pub const ACCESS_LABEL: &str = "com.docker.ucp.access.label";
/// The collection of whoever names none.
pub const COLLECTION: &str = "/Shared";
/// What a node must have for tasks to run there.
pub const NODE_LABEL: &str = "com.docker.ucp.orchestrator.swarm";

/// The proxy; it stops when dropped.
pub struct Admission {
    address: SocketAddr,
    calls: Arc<Calls>,
    stop: CancellationToken,
}

impl Admission {
    /// Listens at `address` with the server certificate in `certificates`, whose CA signs the clients' too, and
    /// passes calls on to `upstream`.
    pub async fn start(address: &str, certificates: &Path, upstream: PathBuf) -> Result<Self> {
        let acceptor = acceptor(certificates)?;
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let admission = Self { address: listener.local_addr()?, calls: Arc::default(), stop: CancellationToken::new() };
        let (calls, stop) = (Arc::clone(&admission.calls), admission.stop.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { return };
                let (calls, stop, upstream) = (Arc::clone(&calls), stop.clone(), upstream.clone());
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Without a certificate it ends here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let (calls, upstream) = (Arc::clone(&calls), upstream.clone());
                        async move { pass(request, &upstream, &calls).await }
                    });
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = connection => {}
                    }
                });
            }
        });
        Ok(admission)
    }

    /// Where it listens, as `DOCKER_HOST` names it.
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// The writes so far.
    pub fn writes(&self) -> Vec<Call> {
        self.calls.writes()
    }

    /// Forgets the calls so far.
    pub fn clear(&self) {
        self.calls.clear();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn acceptor(certificates: &Path) -> Result<TlsAcceptor> {
    let chain = |name: &str| -> Result<Vec<CertificateDer<'static>>> {
        let file = certificates.join(name);
        let chain = CertificateDer::pem_file_iter(&file).with_context(|| format!("read {}", file.display()))?;
        Ok(chain.collect::<Result<_, _>>()?)
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain("ca.pem")?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain("server.pem")?, PrivateKeyDer::from_pem_file(certificates.join("server-key.pem"))?)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

type Body = BoxBody<Bytes, hyper::Error>;

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    answer(status, &json!({ "message": message }))
}

/// The kinds of objects that live in collections.
const KINDS: [&str; 4] = ["services", "configs", "secrets", "networks"];

/// What a path names: a kind, and the name or id of an object of it or a verb such as `create`.
fn object_of(path: &str) -> Option<(&str, Option<&str>)> {
    let mut words = path.trim_start_matches('/').split('/');
    let kind = words.next().filter(|kind| KINDS.contains(kind))?;
    Some((kind, words.next()))
}

async fn pass(request: Request<Incoming>, upstream: &Path, calls: &Calls) -> Result<Response<Body>> {
    let path = without_version(request.uri().path());
    let method = request.method().clone();
    let place = calls.came(&method, &path);
    let response = admit(request, upstream, &method, &path).await?;
    calls.answered(place, response.status());
    Ok(response)
}

async fn admit(request: Request<Incoming>, upstream: &Path, method: &Method, path: &str) -> Result<Response<Body>> {
    let object = object_of(path);
    match object {
        Some((kind, Some(name))) if !matches!(name, "create" | "prune") => {
            let (status, found) = fetch(upstream, &format!("/{kind}/{name}")).await?;
            if status.is_success() && !is_visible(&found) {
                return Ok(refuse(StatusCode::NOT_FOUND, &format!("{kind} {name} not found")));
            }
        }
        _ => {}
    }
    let creates = path.ends_with("/create") && object.is_some();
    let updates = matches!(object, Some(("services", _))) && path.ends_with("/update");
    if *method == Method::POST && (creates || updates) {
        let (mut head, body) = request.into_parts();
        let mut body: Value = serde_json::from_slice(&body.collect().await?.to_bytes())?;
        if path.starts_with("/services/")
            && let Err(refusal) = adapt_service(&mut body)
        {
            return Ok(refuse(StatusCode::FORBIDDEN, refusal));
        }
        put_into_collection(&mut body["Labels"]);
        let bytes = Bytes::from(body.to_string());
        head.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
        head.headers.remove(header::TRANSFER_ENCODING);
        return send(upstream, Request::from_parts(head, whole(bytes))).await;
    }
    let is_list = *method == Method::GET && (matches!(object, Some((_, None))) || path == "/tasks");
    let response = send(upstream, request.map(|body| body.boxed())).await?;
    if !is_list || !response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let mut list: Vec<Value> = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    if path == "/tasks" {
        let (_, services) = fetch(upstream, "/services").await?;
        let services = services.as_array().cloned().unwrap_or_default();
        let visible: Vec<&Value> =
            services.iter().filter(|service| is_visible(service)).map(|service| &service["ID"]).collect();
        list.retain(|task| visible.contains(&&task["ServiceID"]));
    } else {
        list.retain(is_visible);
    }
    Ok(answer(status, &Value::Array(list)))
}

/// Of the networks, those that are nobody's are everybody's.
fn is_visible(object: &Value) -> bool {
    let labels = if object["Spec"].is_object() { &object["Spec"]["Labels"] } else { &object["Labels"] };
    let is_common_network =
        object["Driver"].is_string() && (object["Ingress"] == true || object["Driver"] != "overlay");
    is_common_network || labels[ACCESS_LABEL].as_str().is_some_and(|label| label.starts_with(COLLECTION))
}

fn put_into_collection(labels: &mut Value) {
    if !labels.is_object() {
        *labels = json!({});
    }
    if labels[ACCESS_LABEL].as_str().is_none_or(str::is_empty) {
        labels[ACCESS_LABEL] = json!(COLLECTION);
    }
    for (label, value) in [("com.docker.ucp.collection", "shared"), ("com.docker.ucp.collection.swarm", "true")] {
        labels[label] = json!(value);
    }
}

/// A service goes where its orchestrator is, and sees nothing of the host.
fn adapt_service(spec: &mut Value) -> Result<(), &'static str> {
    let template = &mut spec["TaskTemplate"];
    let mounts = template["ContainerSpec"]["Mounts"].as_array().cloned().unwrap_or_default();
    if mounts.iter().any(|mount| mount["Type"] == "bind") {
        return Err("access denied: host bind mounts are not allowed");
    }
    put_into_collection(&mut template["ContainerSpec"]["Labels"]);
    let constraint = json!(format!("node.labels.{NODE_LABEL}==true"));
    let placement = &mut template["Placement"];
    match placement["Constraints"].as_array_mut() {
        Some(constraints) if constraints.contains(&constraint) => {}
        Some(constraints) => constraints.push(constraint),
        None => placement["Constraints"] = json!([constraint]),
    }
    Ok(())
}

async fn send(upstream: &Path, request: Request<Body>) -> Result<Response<Body>> {
    let stream = UnixStream::connect(upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(|body| body.boxed()))
}

async fn fetch(upstream: &Path, path: &str) -> Result<(StatusCode, Value)> {
    super::api::call(upstream, Method::GET, path, None).await
}
