//! The demo application: what stands behind the proxy in the demo and the end-to-end tests.
//!
//! It answers like the application in the founding document (`ehazlett/docker-demo`): `/ping` says
//! which container answered, which version it is and which request it saw. With `--tls-cert FILE --tls-key FILE` (or
//! `--tls-cert=FILE`) it speaks TLS.

mod tls;

use std::{collections::BTreeMap, env, fs, io, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, Html, IntoResponse, Response},
    routing::{any, get},
};
use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// The longest that `/slow` waits: a mistyped number must not hold a connection for days.
const SLOWEST: Duration = Duration::from_secs(600);

/// Who answers: fixed when the program starts.
struct Identity {
    instance: String,
    version: String,
    metadata: String,
}

impl Identity {
    fn from_env() -> Self {
        // Docker gives every container its own host name; that is the name in `docker ps`.
        let instance =
            fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default();
        Self {
            instance,
            version: env::var("VERSION").unwrap_or_else(|_| "0.1".to_owned()),
            metadata: env::var("METADATA").unwrap_or_default(),
        }
    }
}

/// The answer to `/ping`, in the founding document's order.
#[derive(Serialize)]
struct Pong<'a> {
    instance: &'a str,
    version: &'a str,
    metadata: &'a str,
    request_id: &'a str,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let port = port(env::var("PORT").ok(), env::var("LISTEN_PORT").ok())?;
    // Handlers before the listener: as process 1 an unhandled signal would simply be ignored.
    let stop = stop_signal()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    println!("listening on {}", listener.local_addr()?);
    let app = app(Identity::from_env());
    let arguments: Vec<String> = env::args().skip(1).collect();
    match (argument(&arguments, "--tls-cert"), argument(&arguments, "--tls-key")) {
        (Some(certificate), Some(key)) => {
            let listener = tls::Listener::new(listener, certificate, key)?;
            axum::serve(listener, app).with_graceful_shutdown(stop).await
        }
        (None, None) => axum::serve(listener, app).with_graceful_shutdown(stop).await,
        _ => Err(io::Error::other("--tls-cert and --tls-key go together")),
    }
}

/// The value of `NAME VALUE` or `NAME=VALUE`.
fn argument<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(at, argument)| match argument.strip_prefix(name)? {
        "" => arguments.get(at + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    })
}

fn app(identity: Identity) -> Router {
    Router::new()
        .route("/", any(home))
        .route("/ping", any(ping))
        .route("/headers", any(headers))
        .route("/status/{code}", any(status))
        .route("/slow/{ms}", any(slow))
        .route("/ws", get(ws))
        .with_state(Arc::new(identity))
}

/// The port to listen on: `PORT`, else `LISTEN_PORT`, else 8080.
fn port(port: Option<String>, listen_port: Option<String>) -> io::Result<u16> {
    match port.or(listen_port) {
        None => Ok(8080),
        Some(text) => {
            text.parse().map_err(|_| io::Error::other(format!("PORT or LISTEN_PORT is not a port number: {text:?}")))
        }
    }
}

/// Ready when the container is asked to stop; the requests that are open then still get their answer.
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn home(State(me): State<Arc<Identity>>) -> Html<String> {
    Html(format!(
        "<!doctype html>\n<title>Dovetail demo</title>\n<h1>Dovetail demo</h1>\n\
         <p>Instance <code>{}</code>, version {}, metadata {}.</p>\n",
        escape(&me.instance),
        escape(&me.version),
        escape(&me.metadata),
    ))
}

async fn ping(State(me): State<Arc<Identity>>, headers: HeaderMap) -> Response {
    let pong = Json(Pong {
        instance: &me.instance,
        version: &me.version,
        metadata: &me.metadata,
        request_id: header_text(&headers, "x-request-id"),
    });
    if has_session(&headers) {
        return pong.into_response();
    }
    let cookie = session_cookie(Timestamp::now());
    (AppendHeaders([(header::SET_COOKIE, cookie)]), pong).into_response()
}

async fn headers(headers: HeaderMap) -> Json<BTreeMap<String, Vec<String>>> {
    let mut seen = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in &headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        seen.entry(name.to_string()).or_default().push(value);
    }
    Json(seen)
}

async fn status(Path(code): Path<u16>) -> Response {
    // Below 200 is not an answer but the announcement of one.
    match StatusCode::from_u16(code) {
        Ok(status) if code >= 200 => (status, format!("{code}\n")).into_response(),
        _ => (StatusCode::BAD_REQUEST, "a status is 200 to 999\n").into_response(),
    }
}

async fn slow(state: State<Arc<Identity>>, Path(ms): Path<u64>, headers: HeaderMap) -> Response {
    tokio::time::sleep(Duration::from_millis(ms).min(SLOWEST)).await;
    ping(state, headers).await
}

async fn ws(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        // Pings are answered, and a close is confirmed, by the library.
        let reply = matches!(message, Message::Text(_) | Message::Binary(_));
        if reply && socket.send(message).await.is_err() {
            return;
        }
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn has_session(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .any(|cookie| cookie.trim_start().starts_with("session="))
}

/// A cookie for one day, as in the founding document.
fn session_cookie(now: Timestamp) -> String {
    let expires = Timestamp::from_second(now.as_second() + 86_400).unwrap_or(now).strftime("%a, %d %b %Y %H:%M:%S GMT");
    format!("session={}; Path=/; Expires={expires}; Max-Age=86400", now.as_nanosecond())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn identity() -> Identity {
        Identity { instance: "df20f55fc943".to_owned(), version: "0.1".to_owned(), metadata: "demo".to_owned() }
    }

    /// One request over a real connection; the whole answer as text.
    async fn ask(request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app(identity())).await });
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("{request}Host: demo.local\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer
    }

    #[tokio::test]
    async fn ping_answers_like_the_founding_document() {
        let answer = ask("GET /ping HTTP/1.1\r\nX-Request-Id: f884\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("set-cookie: session="), "{answer}");
        let body = r#"{"instance":"df20f55fc943","version":"0.1","metadata":"demo","request_id":"f884"}"#;
        assert!(answer.ends_with(body), "{answer}");
    }

    #[tokio::test]
    async fn a_client_with_a_session_keeps_it() {
        let answer = ask("GET /ping HTTP/1.1\r\nCookie: a=1; session=7\r\n").await;
        assert!(!answer.contains("set-cookie"), "{answer}");
    }

    #[tokio::test]
    async fn other_paths() {
        for (path, first_line) in [
            ("/", "HTTP/1.1 200 OK"),
            ("/headers", "HTTP/1.1 200 OK"),
            ("/slow/1", "HTTP/1.1 200 OK"),
            ("/status/404", "HTTP/1.1 404 Not Found"),
            ("/status/503", "HTTP/1.1 503 Service Unavailable"),
            ("/status/101", "HTTP/1.1 400 Bad Request"),
            ("/status/x", "HTTP/1.1 400 Bad Request"),
            ("/nowhere", "HTTP/1.1 404 Not Found"),
        ] {
            let answer = ask(&format!("GET {path} HTTP/1.1\r\n")).await;
            assert!(answer.starts_with(first_line), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn headers_are_shown_as_received() {
        let answer = ask("GET /headers HTTP/1.1\r\nX-Real-IP: 10.0.0.1\r\n").await;
        assert!(answer.contains(r#""x-real-ip":["10.0.0.1"]"#), "{answer}");
    }

    #[tokio::test]
    async fn a_websocket_echoes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app(identity())).await });
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = "GET /ws HTTP/1.1\r\nHost: demo.local\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        // A masked text frame "hi" with a mask of zeros; the echo comes back unmasked.
        stream.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
        let mut rest = Vec::new();
        while !rest.ends_with(b"\x81\x02hi") {
            assert_ne!(stream.read_buf(&mut rest).await.unwrap(), 0, "closed before the echo");
        }
        server.abort();
    }

    #[test]
    fn the_cookie_lives_a_day() {
        let now = Timestamp::from_nanosecond(1_510_172_906_715_624_280).unwrap();
        assert_eq!(
            session_cookie(now),
            "session=1510172906715624280; Path=/; Expires=Thu, 09 Nov 2017 20:28:26 GMT; Max-Age=86400"
        );
    }

    #[test]
    fn arguments_are_read_in_both_forms() {
        let arguments = ["--tls-cert=/a", "--tls-key", "/b"].map(str::to_owned);
        assert_eq!(argument(&arguments, "--tls-cert"), Some("/a"));
        assert_eq!(argument(&arguments, "--tls-key"), Some("/b"));
        assert_eq!(argument(&arguments, "--tls"), None);
    }

    #[test]
    fn the_port_comes_from_the_environment() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(port(None, None).unwrap(), 8080);
        assert_eq!(port(None, text("81")).unwrap(), 81);
        assert_eq!(port(text("80"), text("81")).unwrap(), 80);
        assert!(port(text("eighty"), None).is_err());
    }
}
