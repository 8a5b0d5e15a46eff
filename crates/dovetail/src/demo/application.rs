//! The demo application, which answers like the one in the founding document: `GET /ping` says which container
//! answered, its version, its environment and the request's id.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What makes one container different from another.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The container.
    pub instance: String,
    /// The image's tag.
    pub version: String,
    /// The environment variable `METADATA`.
    pub metadata: String,
}

/// A container of it. Dropped, it finishes open requests and closes its connections.
#[derive(Debug)]
pub struct Container {
    /// Where it listens.
    pub address: SocketAddr,
    stop: CancellationToken,
}

impl Container {
    /// Starts one on a listener.
    pub fn start(listener: TcpListener, identity: Identity) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let told = stop.clone().cancelled_owned();
        let router = Router::new().route("/ping", get(ping)).with_state(identity);
        tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(told).into_future());
        Ok(Self { address, stop })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The answer, in the founding document's order.
#[derive(Serialize)]
struct Pong<'a> {
    instance: &'a str,
    version: &'a str,
    metadata: &'a str,
    request_id: &'a str,
}

async fn ping(State(me): State<Identity>, headers: HeaderMap) -> Response {
    let request_id = headers.get("x-request-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let pong = Pong { instance: &me.instance, version: &me.version, metadata: &me.metadata, request_id };
    (AppendHeaders([(header::SET_COOKIE, "session=1; Path=/")]), Json(pong)).into_response()
}
