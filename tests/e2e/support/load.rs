//! Requests: single ones, many, and a steady stream whose failures are counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::wait::stretched;

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers by lower-case name; of several with one name, the last.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// A header, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// One GET at the first of several addresses that answers anything: what a balancer in front of the proxies does.
pub async fn get_any(addresses: &[String], host: &str, path: &str) -> Result<Answer> {
    let mut last = anyhow::anyhow!("no address is known");
    for address in addresses {
        match get(address, host, path).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How long a client waits: longer than the proxy's own wait for an upstream that is gone (5 s), after which it asks
/// another.
const PATIENCE: Duration = Duration::from_secs(10);

/// One GET on a connection of its own.
pub async fn get(address: &str, host: &str, path: &str) -> Result<Answer> {
    get_with(address, host, path, &[]).await
}

/// The same with more headers.
pub async fn get_with(address: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    get_within(address, host, path, headers, stretched(PATIENCE)).await
}

/// The same with another deadline.
pub async fn get_within(
    address: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    within: Duration,
) -> Result<Answer> {
    let exchange = async {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::get(path).header("host", host).header("connection", "close");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        anyhow::Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
    };
    timeout(within, exchange).await.with_context(|| format!("no answer within {} s", within.as_secs_f64()))?
}

/// A steady stream of requests.
pub struct Load {
    counts: Arc<Mutex<Counts>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What became of them.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Requests sent.
    pub sent: u64,
    /// Requests that were not answered with the expected status.
    pub failed: u64,
    /// The longest time between two good answers.
    pub longest_gap: Duration,
    /// The slowest good answer.
    pub slowest: Duration,
    /// Failures by their text or status.
    pub failures: BTreeMap<String, u64>,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} requests, {} failed, longest gap {} ms, slowest {} ms {:?}",
            self.sent,
            self.failed,
            self.longest_gap.as_millis(),
            self.slowest.as_millis(),
            self.failures
        )
    }
}

impl Load {
    /// GETs `path` of `host` every `every`, until stopped or for 10 minutes; anything but 200 is a failure.
    pub fn start(addresses: &[String], host: &str, path: &str, every: Duration) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let stop = CancellationToken::new();
        let (addresses, host, path) = (addresses.to_vec(), host.to_owned(), path.to_owned());
        let (inner, token) = (Arc::clone(&counts), stop.clone());
        let task = tokio::spawn(async move {
            let mut ticks = interval(every);
            let last_good = Arc::new(Mutex::new(Instant::now()));
            let end = Instant::now() + Duration::from_secs(600);
            let mut open = tokio::task::JoinSet::new();
            while Instant::now() < end {
                tokio::select! {
                    () = token.cancelled() => break,
                    _ = ticks.tick() => {}
                }
                let (addresses, host, path) = (addresses.clone(), host.clone(), path.clone());
                let (counts, last_good) = (Arc::clone(&inner), Arc::clone(&last_good));
                open.spawn(async move {
                    let started = Instant::now();
                    let answer = get_any(&addresses, &host, &path).await;
                    let mut counts = counts.lock().expect("no panic while counting");
                    counts.sent += 1;
                    match answer {
                        Ok(answer) if answer.status == 200 => {
                            counts.slowest = counts.slowest.max(started.elapsed());
                            let mut last_good = last_good.lock().expect("no panic while counting");
                            counts.longest_gap = counts.longest_gap.max(last_good.elapsed());
                            *last_good = Instant::now();
                        }
                        Ok(answer) => {
                            counts.failed += 1;
                            *counts.failures.entry(answer.status.to_string()).or_default() += 1;
                        }
                        Err(error) => {
                            counts.failed += 1;
                            *counts.failures.entry(error.to_string()).or_default() += 1;
                        }
                    }
                });
                while open.try_join_next().is_some() {}
            }
            while open.join_next().await.is_some() {}
        });
        Self { counts, stop, task }
    }

    /// Stops it and tells what became of the requests.
    pub async fn stop(self) -> Counts {
        self.stop.cancel();
        let _ = self.task.await;
        self.counts.lock().expect("no panic while counting").clone()
    }
}
