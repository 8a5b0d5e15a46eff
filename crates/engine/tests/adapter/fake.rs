//! An HTTP server that answers as a test says, well or badly, over a unix socket or TLS.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dovetail_engine::{Endpoint, Tls};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;

#[derive(Clone, Debug)]
pub struct Request {
    /// As in `GET /v1.41/services?status=true`.
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// What to write, and what to do then.
pub struct Answer {
    bytes: Vec<u8>,
    then: Then,
}

enum Then {
    NextRequest,
    Close,
    Hang,
    /// A chunk of the body for each message; the body ends when the sender is dropped, and breaks off after
    /// an empty message.
    Chunks(mpsc::UnboundedReceiver<Vec<u8>>),
}

pub fn ok(body: Value) -> Answer {
    status(200, &body.to_string())
}

pub fn status(code: u16, body: &str) -> Answer {
    answer(code, body.len(), body, Then::NextRequest)
}

pub fn refusal(code: u16, message: &str) -> Answer {
    status(code, &json!({ "message": message }).to_string())
}

/// The head and half of the body, and then nothing.
pub fn stalled(body: &str) -> Answer {
    answer(200, body.len() * 2, body, Then::Hang)
}

/// The head and half of the body, and then the end of the connection.
pub fn broken_off(body: &str) -> Answer {
    answer(200, body.len() * 2, body, Then::Close)
}

/// Not even a head.
pub fn silence() -> Answer {
    Answer { bytes: Vec::new(), then: Then::Hang }
}

pub fn stream() -> (mpsc::UnboundedSender<Vec<u8>>, Answer) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    (sender, Answer { bytes: head, then: Then::Chunks(receiver) })
}

fn answer(code: u16, length: usize, body: &str, then: Then) -> Answer {
    let date = "Tue, 24 Nov 2026 22:20:09 GMT";
    let head = format!("HTTP/1.1 {code} Status\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n{body}");
    Answer { bytes: head.into_bytes(), then }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

pub struct Fake {
    pub endpoint: Endpoint,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    _directory: TempDir,
}

struct Shared {
    handler: Box<Handler>,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    /// On a unix socket. `/version` and `/_ping` are answered as Engine 20.10 would; everything else is the
    /// handler's, which may panic where a request should not come.
    pub fn on_socket(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::answering_all(move |request| match request.line.as_str() {
            "GET /version" => ok(json!({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"})),
            "GET /_ping" => status(200, "OK"),
            _ => handler(request),
        })
    }

    pub fn answering_all(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let endpoint = Endpoint::parse(&format!("unix://{}", path.display()), None).unwrap();
        let (fake, shared) = Self::new(endpoint, directory, Box::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&shared).serve(stream));
            }
        });
        fake
    }

    /// On 127.0.0.1 with TLS; every request is answered with an empty list, `/version` as above. Clients
    /// need a certificate of `clients`. The endpoint uses the files that `tls` makes in the directory.
    pub async fn on_tls(server: &Authority, clients: &Authority, tls: impl FnOnce(&TempDir) -> Tls) -> Self {
        Self::on_tls_for(&["127.0.0.1"], server, clients, tls).await
    }

    pub async fn on_tls_for(
        names: &[&str],
        server: &Authority,
        clients: &Authority,
        tls: impl FnOnce(&TempDir) -> Tls,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = Endpoint::parse(&format!("tcp://{address}"), Some(tls(&directory))).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server.server_config(names, clients)));
        let handler = |request: &Request| match request.line.as_str() {
            "GET /version" => ok(json!({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"})),
            _ => ok(json!([])),
        };
        let (fake, shared) = Self::new(endpoint, directory, Box::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        shared.serve(stream).await;
                    }
                });
            }
        });
        fake
    }

    fn new(endpoint: Endpoint, directory: TempDir, handler: Box<Handler>) -> (Self, Arc<Shared>) {
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let shared =
            Arc::new(Shared { handler, requests: Arc::clone(&requests), connections: Arc::clone(&connections) });
        (Self { endpoint, requests, connections, _directory: directory }, shared)
    }

    /// The request lines so far, without the one that asks for the version.
    pub fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).filter(|line| line != "GET /version").collect()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        while let Some(request) = read_request(&mut stream).await {
            self.requests.lock().unwrap().push(request.clone());
            let Answer { bytes, then } = (self.handler)(&request);
            if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            match then {
                Then::NextRequest => {}
                Then::Close => return,
                Then::Hang => std::future::pending().await,
                Then::Chunks(mut chunks) => {
                    while let Some(chunk) = chunks.recv().await {
                        if chunk.is_empty() {
                            return;
                        }
                        let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
                        bytes.extend_from_slice(&chunk);
                        bytes.extend_from_slice(b"\r\n");
                        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                    if stream.write_all(b"0\r\n\r\n").await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Some(Request { line, headers, body })
}
