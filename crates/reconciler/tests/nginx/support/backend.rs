//! Applications.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::tls::Identity;

/// Two tasks in this process, at 127.0.0.2 and 127.0.0.3 on one port.
pub struct Backend {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
}

pub const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
pub const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Nothing listens here.
pub const GONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

impl Backend {
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// An application that speaks TLS only.
    pub async fn with_tls(identity: &Identity) -> Self {
        Self::serve(Some(identity.acceptor())).await
    }

    async fn serve(tls: Option<TlsAcceptor>) -> Self {
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (first, second) = loop {
            let first = TcpListener::bind((FIRST, 0)).await.unwrap();
            let port = first.local_addr().unwrap().port();
            if let Ok(second) = TcpListener::bind((SECOND, port)).await {
                break (first, second);
            }
        };
        let port = first.local_addr().unwrap().port();
        for listener in [first, second] {
            let (connections, requests, tls) = (Arc::clone(&connections), Arc::clone(&requests), tls.clone());
            tokio::spawn(async move {
                let address = listener.local_addr().unwrap().to_string();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (address, requests, tls) = (address.clone(), Arc::clone(&requests), tls.clone());
                    tokio::spawn(async move {
                        match tls {
                            None => answer(stream, &address, &requests).await,
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    let name = stream.get_ref().1.server_name().unwrap_or("nobody").to_owned();
                                    answer(stream, &format!("{address}\nname: {name}"), &requests).await;
                                }
                            }
                        }
                    });
                }
            });
        }
        Self { port, connections, requests }
    }
}

/// Answers requests of one connection: with what it was sent, or as the path asks for.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, who: &str, requests: &AtomicUsize) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let mut more = [0; 4096];
            match stream.read(&mut more).await {
                Ok(0) | Err(_) => return,
                Ok(count) => buffer.extend(&more[..count]),
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let lower = head.to_ascii_lowercase();
        let length = lower.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse().ok());
        let mut body: usize = length.unwrap_or(0);
        let arrived = body.min(buffer.len());
        buffer.drain(..arrived);
        body -= arrived;
        while body > 0 {
            let mut more = [0; 4096];
            let most = body.min(more.len());
            match stream.read(&mut more[..most]).await {
                Ok(0) | Err(_) => return,
                Ok(count) => body -= count,
            }
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, headers) = match path.as_str() {
            "/missing" => ("404 Not Found", ""),
            "/busy" => ("503 Service Unavailable", ""),
            "/echo" => ("200 OK", "x-request-id: mine\r\nx-upstream-addr: mine\r\nx-other: mine\r\n"),
            "/crash" => return,
            "/never" => return std::future::pending().await,
            "/ws" => {
                assert!(lower.contains("connection: upgrade\r\n"), "{head}");
                let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
                stream.write_all(switch.as_bytes()).await.unwrap();
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                return;
            }
            _ => ("200 OK", ""),
        };
        let body = format!("backend: {who}\n{head}");
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len());
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
        if lower.contains("connection: close\r\n") {
            let _ = stream.shutdown().await;
            return;
        }
    }
}
