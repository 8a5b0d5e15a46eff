//! A real nginx.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use dovetail_reconciler::nginx::{self, Text, Version, Workers};
use model::Service;
use std::num::NonZeroU16;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::http::{Response, exchange, get};
use super::services::files;
use super::tls::Client;

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("DOVETAIL_TEST_NGINX") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    directories
        .map(|directory| directory.join("nginx"))
        .find(|program| program.exists())
        .expect("these tests need a real nginx, and there is none: install Debian's package nginx-light")
}

/// The module with `stream`, which Debian's nginx loads.
fn stream_module() -> Text {
    let directory =
        std::env::var("DOVETAIL_TEST_NGINX_MODULES").unwrap_or_else(|_| "/usr/lib/nginx/modules".to_owned());
    let module = format!("{directory}/ngx_stream_module.so");
    assert!(std::fs::exists(&module).unwrap(), "no {module}: install Debian's package libnginx-mod-stream");
    Text::parse(&module).unwrap()
}

/// The version of the nginx that is tested.
fn version() -> Version {
    static VERSION: OnceLock<Version> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let output = Command::new(program()).arg("-v").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let version = said.trim().rsplit_once("nginx/").unwrap_or_else(|| panic!("what version is {said:?}?")).1;
        version.parse().unwrap()
    })
}

/// A port that nobody listens on: below those that the kernel gives to outgoing connections, and never the same twice.
fn free_port() -> NonZeroU16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_process = std::process::id() as u16 % COUNT;
    for _ in 0..COUNT {
        let next = NEXT.fetch_add(1, Ordering::SeqCst);
        let port = FIRST + (u32::from(of_process) * 61 + u32::from(next)).rem_euclid(u32::from(COUNT)) as u16;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return NonZeroU16::new(port).unwrap();
        }
    }
    panic!("no port is free");
}

/// A directory with the files; removed when dropped.
pub struct Files {
    directory: PathBuf,
    http_port: u16,
    https_port: u16,
}

impl Files {
    /// Writes the files with paths and ports of our own. Everything else is as rendered.
    pub fn write(services: &[Service], settings: &nginx::Settings, secrets: &[(&str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let directory = std::env::temp_dir().join(format!("dovetail-nginx-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("dovetail")).unwrap();
        std::fs::create_dir_all(directory.join("secrets")).unwrap();
        let (http_port, https_port) = (free_port(), free_port());
        let files = Self { directory, http_port: http_port.get(), https_port: https_port.get() };
        let at = |name: &str| files.directory.join(name).display().to_string();
        let mut dynamic_modules = settings.dynamic_modules.clone();
        dynamic_modules.push(stream_module());
        let settings = nginx::Settings {
            version: version(),
            pid_path: Text::parse(&at("pid")).unwrap(),
            // Workers have little rights, as in a proxy: they must be able to read what they read later.
            user: Text::parse("daemon").unwrap(),
            http_port,
            https_port,
            dynamic_modules,
            ..settings.clone()
        };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("    {kind}_temp_path {};\n", at(kind)))
            .collect();
        for (path, text) in self::files(services, &settings) {
            let text = text
                .replace("/etc/nginx/dovetail/", &at("dovetail/"))
                .replace("/var/run/dovetail-", &at("dovetail-"))
                .replace("/run/secrets/", &at("secrets/"))
                .replace("/etc/ssl/certs/ca-certificates.crt", &at("secrets/authorities"))
                .replace("/dev/stdout", &at("access.log"))
                .replace("/dev/stderr", &at("error.log"))
                .replace(&format!("127.0.0.1:{}", nginx::HEALTH_PORT), &format!("127.0.0.1:{}", free_port()))
                .replace("http {\n", &format!("http {{\n{temporary}"));
            std::fs::write(at(path.strip_prefix("/etc/nginx/").unwrap()), text).unwrap();
        }
        for (name, text) in secrets {
            std::fs::write(files.directory.join("secrets").join(name), text).unwrap();
        }
        files
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        let error_log = self.directory.join("error.log");
        command
            .arg("-e")
            .arg(error_log)
            .arg("-p")
            .arg(&self.directory)
            .arg("-c")
            .arg(self.directory.join("nginx.conf"));
        command
    }

    /// What nginx says when it checks these files by its own command, and whether it is content.
    pub fn check(&self) -> (bool, String) {
        let main = self.directory.join("nginx.conf").display().to_string();
        let command = nginx::COMMAND.map(|word| if word == nginx::MAIN_FILE { main.clone() } else { word.to_owned() });
        let command = nginx::check_command(&command).unwrap();
        // It writes where its files say, too: that is another file here, and standard error in a container.
        let output = Command::new(program()).args(&command[1..]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// What is in a log by now.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// Puts another text in the place of a file's.
    pub fn overwrite(&self, name: &str, text: &str) {
        std::fs::write(self.directory.join(name), text).unwrap();
    }

    /// A file as it was written.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap()
    }

    /// `nginx -t` accepts the files, and finds nothing odd.
    #[track_caller]
    pub fn assert_accepted(&self, what: &str) {
        let output = self.command().arg("-t").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &self.log("error.log");
        assert!(output.status.success(), "{what}: {said}");
        let odd = said.lines().find(|line| line.contains("[warn]") && !line.contains("\"user\" directive"));
        assert_eq!(odd, None, "{what}");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// `nginx -t` accepts the files, and finds nothing odd.
#[track_caller]
pub fn accepted(what: &str, services: &[Service], settings: &nginx::Settings) {
    accepted_with_secrets(what, services, settings, &[]);
}

/// The same with the content of each secret that the services name, and of `authorities` for applications that speak TLS.
#[track_caller]
pub fn accepted_with_secrets(what: &str, services: &[Service], settings: &nginx::Settings, secrets: &[(&str, &str)]) {
    Files::write(services, settings, secrets).assert_accepted(what);
}

/// An nginx that runs; stopped by its process id when dropped, also while a test panics.
pub struct Proxy {
    pub files: Files,
    process: Child,
}

impl Proxy {
    pub async fn start(services: &[Service], settings: nginx::Settings) -> Self {
        Self::with_secrets(services, settings, &[]).await
    }

    /// With the content of each secret that the services name, and of `authorities` for applications that speak TLS.
    pub async fn with_secrets(services: &[Service], settings: nginx::Settings, secrets: &[(&str, &str)]) -> Self {
        let settings = nginx::Settings { worker_processes: Workers::Count(NonZeroU16::MIN), ..settings };
        let files = Files::write(services, &settings, secrets);
        files.assert_accepted("what is started");
        let process = files.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut proxy = Self { files, process };
        let deadline = Instant::now() + Duration::from_secs(20);
        let ports = [proxy.files.http_port, proxy.files.https_port];
        while TcpStream::connect(("127.0.0.1", ports[0])).await.is_err()
            || TcpStream::connect(("127.0.0.1", ports[1])).await.is_err()
        {
            let ended = proxy.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "nginx does not listen: {}",
                proxy.files.log("error.log")
            );
            sleep(Duration::from_millis(20)).await;
        }
        proxy
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.files.http_port)).await.unwrap()
    }

    pub async fn connect_tls_port(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.files.https_port)).await.unwrap()
    }

    /// The same, of a client on this address of the machine.
    pub async fn connect_tls_port_from(&self, client: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((client, 0).into()).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, self.files.https_port).into()).await.unwrap()
    }

    /// A TLS connection, with the name asked for.
    pub async fn connect_tls(&self, client: &Client, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        client.handshake(self.connect_tls_port().await, name).await
    }

    /// Sends a request as written and reads until the other side closes.
    pub async fn send(&self, request: &str) -> Response {
        exchange(&mut self.connect().await, request).await
    }

    pub async fn get(&self, host: &str, path: &str) -> Response {
        self.get_with(host, path, "").await
    }

    /// `headers` are whole lines.
    pub async fn get_with(&self, host: &str, path: &str, headers: &str) -> Response {
        self.send(&get(host, path, headers)).await
    }

    /// The same over TLS, with the host's name asked for.
    #[track_caller]
    pub fn get_tls(&self, client: &Client, host: &str, path: &str) -> impl Future<Output = Response> {
        self.get_tls_as(client, host, host, path)
    }

    /// With another name asked for than the request is for.
    pub async fn get_tls_as(&self, client: &Client, name: &str, host: &str, path: &str) -> Response {
        let mut stream = self
            .connect_tls(client, name)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}; {}", self.files.log("error.log")));
        exchange(&mut stream, &get(host, path, "")).await
    }

    /// Whether a connection that says nothing but these bytes is closed without an answer.
    pub async fn is_closed_after(&self, bytes: &[u8]) -> bool {
        let mut stream = self.connect_tls_port().await;
        stream.write_all(bytes).await.unwrap();
        let mut buffer = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut buffer);
        timeout(Duration::from_secs(20), read).await.expect("an end").is_err() || buffer.is_empty()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The signal goes to the master, which stops its workers; killing the master would leave them behind.
        let id = self.process.id().to_string();
        let told =
            Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status().is_ok_and(|told| told.success());
        if !told {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}
