//! Raw calls to the Engine, for what the docker client has no option for.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// One call, in the newest version that the Engine speaks; the body is null where there is none.
pub async fn call(socket: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value)> {
    let stream = UnixStream::connect(socket).await.with_context(|| format!("connect to {}", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "engine")
        .header("content-type", "application/json")
        .body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
}

/// Changes the spec of a service as it is now.
pub async fn edit_service(socket: &Path, name: &str, edit: impl FnOnce(&mut Value)) -> Result<()> {
    let (_, service) = call(socket, Method::GET, &format!("/services/{name}"), None).await?;
    let version = service["Version"]["Index"].as_u64().with_context(|| format!("{name} has a version: {service}"))?;
    let mut spec = service["Spec"].clone();
    edit(&mut spec);
    let path = format!("/services/{name}/update?version={version}");
    let (status, answer) = call(socket, Method::POST, &path, Some(&spec)).await?;
    if status.is_success() { Ok(()) } else { bail!("{path}: {status} {answer}") }
}
