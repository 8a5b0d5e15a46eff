//! A proxy in front of the Engine's socket that writes down every call, lets only those pass that an operator must be
//! permitted, and can break them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::calls::{Call, Calls, without_version};
use super::crowd::Crowd;
use super::permissions;

/// What is done with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// They pass.
    Pass,
    /// They are answered 500.
    Fail,
    /// Connections are closed without an answer.
    Refuse,
    /// They pass, each after 3 s.
    Slow,
    /// Their answers end in the middle.
    Half,
    /// They are never answered.
    Silent,
}

/// The proxy; it stops when dropped.
pub struct Recorder {
    socket: PathBuf,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// What its connections share.
struct Shared {
    upstream: PathBuf,
    calls: Calls,
    /// Calls that were refused, since nobody has to be permitted to make them.
    offences: Mutex<Vec<String>>,
    mood: Mutex<Mood>,
    /// Services that the engine's lists have more.
    crowd: Mutex<Option<Crowd>>,
    /// Ends the connections that stand.
    standing: Mutex<CancellationToken>,
}

impl Recorder {
    /// Listens at `socket` and passes calls on to `upstream`.
    pub fn start(socket: PathBuf, upstream: PathBuf) -> Result<Self> {
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).context("bind the recorder's socket")?;
        let shared = Arc::new(Shared {
            upstream,
            calls: Calls::default(),
            offences: Mutex::default(),
            mood: Mutex::new(Mood::Pass),
            crowd: Mutex::default(),
            standing: Mutex::default(),
        });
        let recorder = Self { socket, shared: Arc::clone(&shared), stop: CancellationToken::new() };
        let stop = recorder.stop.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { return };
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                let broken = lock(&shared.standing).clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let shared = Arc::clone(&shared);
                        async move { shared.answer(request).await }
                    });
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = broken.cancelled() => {}
                        _ = connection => {}
                    }
                });
            }
        });
        Ok(recorder)
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.all()
    }

    /// The calls that were refused since the last time, because an operator needs no permission for them.
    pub fn take_offences(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.shared.offences))
    }

    /// The writes so far.
    pub fn writes(&self) -> Vec<Call> {
        self.shared.calls.writes()
    }

    /// Forgets the calls so far.
    pub fn clear(&self) {
        self.shared.calls.clear();
    }

    /// Puts services into the engine's lists from now on.
    pub fn set_crowd(&self, crowd: Crowd) {
        *lock(&self.shared.crowd) = Some(crowd);
    }

    /// Changes what is done with calls from now on. A change for the worse ends the connections that stand, the
    /// stream of events among them; after one for the better, calls that hang go on hanging.
    pub fn set_mood(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
        if mood != Mood::Pass {
            std::mem::take(&mut *lock(&self.shared.standing)).cancel();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_file(&self.socket);
    }
}

type Body = BoxBody<Bytes, anyhow::Error>;

impl Shared {
    /// What the engine answers, and what the crowd adds to its lists.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (path, query) = (without_version(request.uri().path()), request.uri().query().unwrap_or_default());
        if let Some(list) = lock(&self.crowd).as_ref().and_then(|crowd| crowd.tasks_of_one(&path, query)) {
            let place = self.calls.came(request.method(), &path);
            self.calls.answered(place, StatusCode::OK);
            return Ok(Response::new(whole(list)));
        }
        let more = lock(&self.crowd).as_ref().and_then(|crowd| crowd.of(&path, query));
        let response = self.pass(request, &path).await?;
        match more {
            Some(more) if response.status().is_success() => with_more(response, more).await,
            _ => Ok(response),
        }
    }

    async fn pass(&self, request: Request<Incoming>, path: &str) -> Result<Response<Body>> {
        let method = request.method().clone();
        let place = self.calls.came(&method, path);
        let (request, refusal) = filter(request, &method, path).await?;
        if let Some(refusal) = refusal {
            let offence = format!("{method} {path}: {refusal}");
            let answer = message(StatusCode::FORBIDDEN, &offence);
            lock(&self.offences).push(offence);
            return Ok(answer);
        }
        let mood = *lock(&self.mood);
        match mood {
            Mood::Pass | Mood::Half => {}
            Mood::Slow => tokio::time::sleep(std::time::Duration::from_secs(3)).await,
            // Whoever asked hangs up at some time.
            Mood::Silent => std::future::pending().await,
            Mood::Refuse => anyhow::bail!("refused"),
            Mood::Fail => return Ok(message(StatusCode::INTERNAL_SERVER_ERROR, "broken by the test")),
        }
        let stream = UnixStream::connect(&self.upstream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        self.calls.answered(place, response.status());
        if mood == Mood::Half {
            return half(response).await;
        }
        Ok(response.map(|body| body.map_err(Into::into).boxed()))
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().expect("no panic while recording")
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn message(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::from(serde_json::json!({ "message": message }).to_string())));
    *response.status_mut() = status;
    response
}

/// The request, and why it is not let through.
async fn filter(
    request: Request<Incoming>,
    method: &Method,
    path: &str,
) -> Result<(Request<Body>, Option<&'static str>)> {
    if !permissions::may_call(method, path) {
        return Ok((request.map(|body| body.map_err(Into::into).boxed()), Some("an operator makes no such call")));
    }
    if !permissions::has_body(method, path) {
        return Ok((request.map(|body| body.map_err(Into::into).boxed()), None));
    }
    let (head, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let refusal = permissions::refusal(path, &serde_json::from_slice(&bytes)?);
    Ok((Request::from_parts(head, whole(bytes)), refusal))
}

/// A list and more items.
async fn with_more(response: Response<Body>, more: Bytes) -> Result<Response<Body>> {
    let (mut head, body) = response.into_parts();
    let list = body.collect().await?.to_bytes();
    let end = list.iter().rposition(|byte| *byte == b']').context("a list ends with a bracket")?;
    let list = list.slice(..end);
    let comma = if list.trim_ascii().ends_with(b"[") { "" } else { "," };
    let parts = [list, Bytes::from(comma), more, Bytes::from("]")];
    let length: usize = parts.iter().map(Bytes::len).sum();
    head.headers.insert(hyper::header::CONTENT_LENGTH, length.into());
    head.headers.remove(hyper::header::TRANSFER_ENCODING);
    let frames = futures::stream::iter(parts).map(|part| Ok(hyper::body::Frame::data(part)));
    Ok(Response::from_parts(head, BodyExt::boxed(http_body_util::StreamBody::new(frames))))
}

/// The head of a response and half of its body; of a stream, which has no half, nothing.
async fn half(response: Response<Incoming>) -> Result<Response<Body>> {
    let (head, body) = response.into_parts();
    let broken = futures::stream::iter([Err(anyhow::anyhow!("broken off by the test"))]);
    let mut whole = Bytes::new();
    if let Ok(collected) = tokio::time::timeout(std::time::Duration::from_secs(2), body.collect()).await {
        whole = collected?.to_bytes();
    }
    let first = Ok(hyper::body::Frame::data(whole.slice(..whole.len() / 2)));
    let frames = futures::stream::iter([first]).chain(broken);
    Ok(Response::from_parts(head, BodyExt::boxed(http_body_util::StreamBody::new(frames))))
}
