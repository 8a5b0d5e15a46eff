//! One request on a connection of its own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// `curl -H "Host: HOST" http://ADDRESS/PATH`, within three seconds.
///
/// # Errors
/// When there is no whole answer by then.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    timeout(Duration::from_secs(3), exchange(address, host, path)).await?
}

async fn exchange(address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::get(path).header("host", host).header("connection", "close").body(Empty::<Bytes>::new());
    let answered = async {
        let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // The connection ends with the answer, which may be read by then and not yet handed over.
        ended = connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(io::Error::other(error)),
        },
    }
}
