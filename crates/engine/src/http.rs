//! One pooled HTTP client for everything that goes to the Engine, our calls and bollard's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use swarm::{Class, RegistryAuth, limits};

use crate::classify::classify;
use crate::connector::{ConnectError, Connector};
use crate::decode::{self, List};
use crate::endpoint::{Address, Endpoint};
use crate::traffic::Counters;

/// 100,000 tasks are 125 MiB. More than this is no answer to our questions.
const LARGEST_ANSWER: usize = 1 << 30;
/// Connections that were not needed for this long are closed. The Engine itself never closes one.
const IDLE: Duration = Duration::from_secs(60);
/// Calls that run side by side keep their connections up to this many.
const IDLE_CONNECTIONS: usize = 8;
/// So much is read from a connection at once, and the head of an answer must fit. hyper's own choice grows with the
/// length of answers, up to 400 KiB.
const READ_AT_ONCE: usize = 64 << 10;

pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// A failed call that does not know yet what it was made for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub class: Class,
    pub message: String,
}

impl Failure {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// An answer with a status that is no success.
    pub fn answered(status: u16, message: &str) -> Self {
        let class = classify(status, message);
        Self::new(class, if message.is_empty() { format!("status {status}") } else { message.to_owned() })
    }

    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Class::Malformed, message)
    }
}

pub(crate) struct Http {
    client: Client<Connector, Body>,
    endpoint: Endpoint,
    counters: Arc<Counters>,
    /// The API version in our paths as `major << 16 | minor`; 0 before the first call.
    api: AtomicU32,
}

impl Http {
    pub fn new(endpoint: &Endpoint, counters: Arc<Counters>) -> Result<Self, ConnectError> {
        let connector = Connector::new(endpoint, Arc::clone(&counters))?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_read_buf_exact_size(READ_AT_ONCE)
            .build(connector);
        Ok(Self { client, endpoint: endpoint.clone(), counters, api: AtomicU32::new(0) })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub async fn get(&self, path: &str, query: &Query) -> Result<Bytes, Failure> {
        read(self, self.open(path, query).await?).await
    }

    /// The answer to a GET that is a list, each object read as it arrives.
    pub async fn get_list<T>(
        &self,
        path: &str,
        query: &Query,
        read: impl FnMut(&[u8]) -> Result<Option<T>, String>,
    ) -> Result<Vec<T>, Failure> {
        let mut body = Limited::new(self.open(path, query).await?.into_body(), LARGEST_ANSWER);
        let mut list = List::new(read);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(self, error))?;
            if let Ok(bytes) = frame.into_data() {
                list.push(&bytes).map_err(Failure::malformed)?;
            }
            // Where the Engine is faster than we are, other tasks and the deadline must have their turn.
            tokio::task::yield_now().await;
        }
        list.end().map_err(Failure::malformed)
    }

    /// The same as [`Http::get`] with credentials of a registry.
    pub async fn get_with(&self, path: &str, auth: Option<&RegistryAuth>) -> Result<Bytes, Failure> {
        let api = self.api().await?;
        let mut request = Request::get(self.uri(Some(api), path)?);
        if let Some(auth) = auth {
            request = request.header("x-registry-auth", auth.header());
        }
        let request = request.body(full(Bytes::new())).map_err(unsendable)?;
        read(self, refuse_failure(self, self.send(request).await?).await?).await
    }

    /// Without a version in the path: for what must work before the version is known.
    pub async fn get_unversioned(&self, path: &str) -> Result<Bytes, Failure> {
        read(self, self.open_unversioned(path).await?).await
    }

    /// Writes the spec of a service. Without a version in the path, which is the Engine's newest: from a spec that is
    /// written in an older one it takes, without a word, whatever came later, and so what a person or a stack has set.
    pub async fn post_spec(
        &self,
        path: &str,
        query: &Query,
        spec: &Value,
        auth: Option<&RegistryAuth>,
    ) -> Result<Bytes, Failure> {
        let mut request =
            Request::post(self.uri(None, &query.behind(path))?).header("content-type", "application/json");
        if let Some(auth) = auth {
            request = request.header("x-registry-auth", auth.header());
        }
        let request = request.body(full(spec.to_string().into())).map_err(unsendable)?;
        read(self, refuse_failure(self, self.send(request).await?).await?).await
    }

    /// The beginning of the answer to a GET: at most so many bytes, and no more is read. Such an answer is not whole,
    /// so this is for what is only shown.
    pub async fn get_beginning(&self, path: &str, query: &Query, limit: usize) -> Result<Bytes, Failure> {
        let mut body = self.open(path, query).await?.into_body();
        let mut bytes = BytesMut::new();
        while bytes.len() < limit {
            match body.frame().await {
                None => break,
                Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(self.unreachable(&error)),
            }
        }
        bytes.truncate(limit);
        Ok(bytes.freeze())
    }

    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        let api = self.api().await?;
        let request = Request::delete(self.uri(Some(api), path)?).body(full(Bytes::new())).map_err(unsendable)?;
        read(self, refuse_failure(self, self.send(request).await?).await?).await.map(drop)
    }

    /// The head of the answer to a GET, when it is a success; the body is the caller's to read.
    pub async fn open(&self, path: &str, query: &Query) -> Result<Response<Incoming>, Failure> {
        let api = self.api().await?;
        let response = self.send(self.empty_get(self.uri(Some(api), &query.behind(path))?)?).await?;
        refuse_failure(self, response).await
    }

    pub async fn open_unversioned(&self, path: &str) -> Result<Response<Incoming>, Failure> {
        let response = self.send(self.empty_get(self.uri(None, path)?)?).await?;
        refuse_failure(self, response).await
    }

    /// Takes a request that bollard made, and puts endpoint and version into its URI.
    pub async fn forward(
        &self,
        request: bollard::BollardRequest,
    ) -> Result<Response<Incoming>, bollard::errors::Error> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = self
            .uri(self.known_api(), path)
            .map_err(|failure| bollard::errors::Error::IOError { err: std::io::Error::other(failure.message) })?;
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        Ok(self.client.request(Request::from_parts(parts, body.boxed_unsync())).await?)
    }

    /// The API version that our paths name: 1.41, whose answers we know, or the oldest that a newer engine
    /// still speaks. ([`Http::post_spec`] names none.) Asked once; [`Http::forget_api`] makes the next call ask again.
    pub async fn api(&self) -> Result<(u32, u32), Failure> {
        if let Some(known) = self.known_api() {
            return Ok(known);
        }
        let version = decode::version(&self.get_unversioned("/version").await?).map_err(Failure::malformed)?;
        Ok(self.settle_api(&version))
    }

    pub fn settle_api(&self, version: &decode::Version) -> (u32, u32) {
        let api = limits::API_VERSION.max(version.oldest_api);
        self.api.store(api.0 << 16 | api.1 & 0xffff, Ordering::Relaxed);
        api
    }

    /// The engine behind the endpoint was replaced by one that does not speak our version any more.
    pub fn forget_api(&self) {
        self.api.store(0, Ordering::Relaxed);
    }

    fn known_api(&self) -> Option<(u32, u32)> {
        match self.api.load(Ordering::Relaxed) {
            0 => None,
            api => Some((api >> 16, api & 0xffff)),
        }
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        self.client.request(request).await.map_err(|error| self.unreachable(&error))
    }

    pub fn unreachable(&self, error: &(dyn Error + 'static)) -> Failure {
        let why = chain(error);
        // Only root and a group may use the socket, and which group differs from machine to machine.
        let unix = matches!(self.endpoint.address, Address::Unix(_));
        let hint = if unix && why.contains("Permission denied") { "; be root, or in the socket's group" } else { "" };
        Failure::new(Class::Unreachable, format!("no answer from {}: {why}{hint}", self.endpoint))
    }

    fn empty_get(&self, uri: Uri) -> Result<Request<Body>, Failure> {
        Request::builder().method(Method::GET).uri(uri).body(full(Bytes::new())).map_err(unsendable)
    }

    fn uri(&self, api: Option<(u32, u32)>, path_and_query: &str) -> Result<Uri, Failure> {
        let scheme = if self.endpoint.tls.is_some() { "https" } else { "http" };
        let path = match api {
            Some((major, minor)) => format!("/v{major}.{minor}{path_and_query}"),
            None => path_and_query.to_owned(),
        };
        Uri::builder()
            .scheme(scheme)
            .authority(self.endpoint.authority())
            .path_and_query(path)
            .build()
            .map_err(unsendable)
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn unsendable(error: hyper::http::Error) -> Failure {
    Failure::new(Class::Refused, format!("the request cannot be written: {error}"))
}

async fn refuse_failure(http: &Http, response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = read(http, response).await?;
    Err(Failure::answered(status.as_u16(), &decode::error_message(&body)))
}

async fn read(http: &Http, response: Response<Incoming>) -> Result<Bytes, Failure> {
    let whole = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
    whole.map(Collected::to_bytes).map_err(|error| broken(http, error))
}

/// Why a body could not be read to its end.
fn broken(http: &Http, error: Box<dyn Error + Send + Sync>) -> Failure {
    if error.is::<LengthLimitError>() {
        return Failure::malformed(format!("the answer is longer than {LARGEST_ANSWER} bytes"));
    }
    http.unreachable(error.as_ref())
}

/// An error with all its causes; one that only repeats the text before it is left out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

/// Whether the text can stand in a path as it is. Names and ids of Swarm can. What cannot names nothing in
/// Swarm, and is not sent: escaped or not, the Engine would clean `..` and `/` and answer another question.
pub(crate) fn is_segment(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.bytes().all(plain) && text.bytes().any(|b| b != b'.')
}

/// Whether the text can be an image, which stands in a path with its slashes and colons.
pub(crate) fn is_image(text: &str) -> bool {
    text.split('/').all(|part| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@');
        !part.is_empty() && part.bytes().all(plain) && part.bytes().any(|b| b != b'.')
    })
}

/// A query string in the making.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(&'static str, String)>,
    filters: BTreeMap<&'static str, Vec<String>>,
}

impl Query {
    pub fn pair(mut self, name: &'static str, value: impl ToString) -> Self {
        self.pairs.push((name, value.to_string()));
        self
    }

    /// Values of one name are alternatives to the Engine; names must all hold.
    pub fn filter(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.filters.entry(name).or_default().push(value.into());
        self
    }

    fn behind(&self, path: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.pairs {
            query.append_pair(name, value);
        }
        if !self.filters.is_empty() {
            query.append_pair("filters", &serde_json::json!(self.filters).to_string());
        }
        match query.finish() {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        for (query, written) in [
            (Query::default(), "/tasks"),
            (Query::default().pair("version", u64::MAX), "/tasks?version=18446744073709551615"),
            (
                Query::default().filter("desired-state", "running").filter("service", "a&b"),
                "/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%2C%22service%22%3A%5B%22a%26b%22%5D%7D",
            ),
            (
                Query::default().pair("since", 1).filter("type", "node").filter("type", "se\"cret"),
                "/tasks?since=1&filters=%7B%22type%22%3A%5B%22node%22%2C%22se%5C%22cret%22%5D%7D",
            ),
        ] {
            assert_eq!(query.behind("/tasks"), written);
        }
    }

    #[test]
    fn only_what_can_be_a_name_goes_into_a_path() {
        for (text, good) in [
            ("web", true),
            ("stack_web.1-a", true),
            ("28fqno6i2osrgibo4uxhwxccu", true),
            ("", false),
            (".", false),
            ("..", false),
            ("../info", false),
            ("a?b", false),
            ("a b", false),
            ("a%2Fb", false),
            ("é", false),
        ] {
            assert_eq!(is_segment(text), good, "{text:?}");
        }
        for (text, good) in [
            ("nginx", true),
            ("10.99.0.254:5000/team/nginx:1.28", true),
            ("nginx@sha256:0123", true),
            ("", false),
            ("/nginx", false),
            ("a/../b", false),
            ("a//b", false),
            ("nginx?x", false),
            ("nginx%2f", false),
        ] {
            assert_eq!(is_image(text), good, "{text:?}");
        }
    }
}
