//! The few answers of an Engine that an observer asks for, on a unix socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;

use crate::cluster::{Churn, Cluster, network};

/// It serves until it is dropped.
pub struct Server {
    socket: PathBuf,
    _directory: TempDir,
    _tasks: JoinSet<()>,
}

/// The cluster as the last list of services showed it.
struct Shown {
    cluster: Cluster,
    services: Arc<[u8]>,
    tasks: Arc<[u8]>,
}

struct Shared {
    shown: Mutex<Shown>,
    /// A look is over: an event asks for the next one.
    looked: Notify,
}

impl Server {
    pub fn start(services: u32, churn: Churn) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("engine.sock");
        let listener = UnixListener::bind(&socket)?;
        let cluster = Cluster { services, churn, changes: 0 };
        let shared = Arc::new(Shared { shown: Mutex::new(Shown::new(cluster)), looked: Notify::new() });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(Arc::clone(&shared).serve(stream));
            }
        });
        Ok(Self { socket, _directory: directory, _tasks: tasks })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Shown {
    fn new(cluster: Cluster) -> Self {
        Self { services: cluster.services().into(), tasks: cluster.tasks().into(), cluster }
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut stream: UnixStream) {
        while let Some(path) = requested(&mut stream).await {
            let path = path.split_once("/v1.41").map_or(path.as_str(), |(_, path)| path);
            let served = match path.split('?').next().unwrap_or_default() {
                "/version" => {
                    let version = r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;
                    write(&mut stream, version.as_bytes()).await
                }
                "/_ping" => write(&mut stream, b"OK").await,
                "/services" => {
                    let services = Arc::clone(&self.shown.lock().await.services);
                    write(&mut stream, &services).await
                }
                "/tasks" => {
                    let tasks = Arc::clone(&self.shown.lock().await.tasks);
                    let served = write(&mut stream, &tasks).await;
                    self.change().await;
                    served
                }
                "/events" => self.tell(&mut stream).await,
                _ => write(&mut stream, network().to_string().as_bytes()).await,
            };
            if served.is_err() {
                return;
            }
        }
    }

    /// What the next look will see.
    async fn change(&self) {
        let mut shown = self.shown.lock().await;
        if shown.cluster.churn != Churn::None {
            *shown = Shown::new(Cluster { changes: shown.cluster.changes + 1, ..shown.cluster });
        }
        self.looked.notify_one();
    }

    /// An event after each look, for ever.
    async fn tell(&self, stream: &mut UnixStream) -> std::io::Result<()> {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        loop {
            self.looked.notified().await;
            let event = "{\"Type\":\"node\",\"Action\":\"update\"}\n";
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        }
    }
}

/// As the Engine does it: one chunk.
async fn write(stream: &mut UnixStream, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.write_all(b"\r\n0\r\n\r\n").await
}

/// The path of the next request; none if there will be none.
async fn requested(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let line = String::from_utf8(head).ok()?;
    line.strip_prefix("GET ")?.split(' ').next().map(str::to_owned)
}
