//! A WebSocket through the proxy, as a browser opens it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wait::stretched;

/// An open one, to the demo application's `/ws`, which echoes.
pub struct WebSocket(TokioIo<Upgraded>);

impl WebSocket {
    /// Opens one.
    pub async fn open(address: &str, host: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::get("/ws")
            .header("host", host)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status() == 101, "the upgrade passes, not {}", response.status());
        Ok(Self(TokioIo::new(hyper::upgrade::on(response).await?)))
    }

    /// Sends a text and expects its echo, within 5 s.
    pub async fn echo(&mut self) -> Result<()> {
        // A masked text frame "hi" with the mask 0, and its echo.
        self.0.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await?;
        let mut echo = [0; 4];
        let read = timeout(stretched(Duration::from_secs(5)), self.0.read_exact(&mut echo));
        read.await.context("no echo in time")?.context("the echo")?;
        ensure!(echo == [0x81, 0x02, b'h', b'i'], "the echo comes back, not {echo:?}");
        Ok(())
    }
}
