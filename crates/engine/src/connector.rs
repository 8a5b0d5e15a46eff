//! Opens connections to the endpoint, and counts the bytes on them.
//!
//! The URI of a request is not looked at: one connector knows one endpoint.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::endpoint::{Address, Endpoint};
use crate::tls::{TlsError, client_config};
use crate::traffic::{Counters, add};

/// How long a connection may take to come about: a kernel tries for two minutes.
const CONNECT: Duration = Duration::from_secs(5);

/// A peer that does not answer is noticed after about 15 s + 3 x 5 s, also while nothing is sent.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Connector {
    way: Way,
    counters: Arc<Counters>,
}

#[derive(Clone)]
enum Way {
    Unix(PathBuf),
    Tcp { uri: Uri, http: HttpConnector, tls: Option<(Arc<ClientConfig>, ServerName<'static>)> },
}

impl Connector {
    /// Reads the TLS files, if any; connects to nothing yet.
    pub fn new(endpoint: &Endpoint, counters: Arc<Counters>) -> Result<Self, ConnectError> {
        let way = match &endpoint.address {
            Address::Unix(path) => Way::Unix(path.clone()),
            Address::Tcp { host, .. } => {
                let host_error = || ConnectError::Host(host.clone());
                let uri = Uri::builder()
                    .scheme("http")
                    .authority(endpoint.authority())
                    .path_and_query("/")
                    .build()
                    .map_err(|_| host_error())?;
                let tls = match &endpoint.tls {
                    Some(tls) => Some((
                        Arc::new(client_config(tls)?),
                        // An address is verified against the addresses in the certificate.
                        ServerName::try_from(host.clone()).map_err(|_| host_error())?,
                    )),
                    None => None,
                };
                let mut http = HttpConnector::new();
                http.enforce_http(false);
                http.set_nodelay(true);
                // Shared by the addresses of a name, so that one of a dead manager does not keep from the others.
                http.set_connect_timeout(Some(CONNECT));
                http.set_keepalive(Some(KEEPALIVE));
                http.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
                http.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
                Way::Tcp { uri, http, tls }
            }
        };
        Ok(Self { way, counters })
    }
}

/// Why an Engine cannot even be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The TLS files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The host in the endpoint.
    #[error("{0:?} is neither a host name nor an IP address")]
    Host(String),
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Counted>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { way, counters } = self.clone();
        Box::pin(async move {
            let stream: Box<dyn Stream> = match way {
                Way::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Way::Tcp { uri, mut http, tls } => {
                    let tcp = http.call(uri).await?.into_inner();
                    match tls {
                        Some((config, name)) => Box::new(TlsConnector::from(config).connect(name, tcp).await?),
                        None => Box::new(tcp),
                    }
                }
            };
            counters.connections.fetch_add(1, Ordering::Relaxed);
            Ok(TokioIo::new(Counted { stream, counters }))
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that counts what passes, above TLS.
pub(crate) struct Counted {
    stream: Box<dyn Stream>,
    counters: Arc<Counters>,
}

impl Connection for Counted {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        add(&self.counters.bytes_received, buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            add(&self.counters.bytes_sent, written);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(written)) = polled {
            add(&self.counters.bytes_sent, written);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
