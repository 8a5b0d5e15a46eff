//! Requests as written, and their responses.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A request; `headers` are whole lines.
pub fn get(host: &str, path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n")
}

/// Sends a request as written and reads its response.
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str) -> Response {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(30), async {
        // Until the other side closes, or everything is there: what was refused is read for a while after the response.
        while !is_whole(&bytes) && stream.read_buf(&mut bytes).await.unwrap() > 0 {}
    })
    .await
    .expect("an answer");
    Response::parse(&String::from_utf8_lossy(&bytes))
}

/// Whether this is a head and as much of a body as it says.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let length = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    length.is_some_and(|length| bytes.len() >= head + 4 + length)
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status: status.unwrap_or_else(|| panic!("no response: {text:?}")), headers, body: body.to_owned() }
    }

    /// The one value of a header, if it is there.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect();
        assert!(values.len() <= 1, "{name} is there {} times: {self:?}", values.len());
        values.first().copied()
    }

    /// What the backend was sent in a header.
    #[track_caller]
    pub fn sent(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        let values: Vec<&str> = self
            .body
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with(&prefix))
            .map(|line| &line[prefix.len()..])
            .collect();
        assert!(values.len() <= 1, "{name} was sent {} times: {self:?}", values.len());
        values.first().copied()
    }

    #[track_caller]
    pub fn assert_all_five(&self) {
        let id = self.header("x-request-id").expect("x-request-id");
        assert!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
        assert!(self.header("x-proxy-id").is_some_and(|id| !id.is_empty()), "{self:?}");
        assert_eq!(self.header("x-server-info"), Some("dovetail"));
        assert!(self.header("x-upstream-addr").is_some_and(|address| !address.is_empty()), "{self:?}");
        let seconds = self.header("x-upstream-response-time").expect("x-upstream-response-time");
        assert!(seconds.split(", ").any(|one| one.parse::<f64>().is_ok()), "{seconds:?}");
    }

    #[track_caller]
    pub fn assert_none_of_five(&self) {
        for name in ["x-request-id", "x-proxy-id", "x-server-info", "x-upstream-addr", "x-upstream-response-time"] {
            assert_eq!(self.header(name), None);
        }
    }

    /// Which task answered.
    #[track_caller]
    pub fn backend(&self) -> &str {
        self.sent("backend").unwrap_or_else(|| panic!("not from a backend: {self:?}"))
    }
}
