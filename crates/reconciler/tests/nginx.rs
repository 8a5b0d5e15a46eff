//! The rendered files in a real nginx: accepted by it, and serving what was meant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dovetail_reconciler::nginx::{self, AccessLog, ErrorLogLevel, Forwarded, Text, Workers};
use dovetail_reconciler::{ClusterSettings, Settings, check, compile};
use model::{
    BackendMode, Backends, ClusterName, CreatedAt, Desired, Host, Network, NetworkId, Options, Published, Request,
    Scale, Service, Task,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

// === What is asked for ===

/// A service; `hosts` are comma-separated, none makes a default backend.
fn service(name: &str, hosts: &str, mode: BackendMode, addresses: &[Ipv4Addr], port: u16) -> Service {
    let network = || "n1".into();
    Service {
        id: name.into(),
        name: name.to_owned(),
        created_at: CreatedAt(0),
        stack: None,
        labels: BTreeMap::new(),
        asked: Ok(Request {
            hosts: hosts.split(',').filter(|host| !host.is_empty()).map(|host| Host::parse(host).unwrap()).collect(),
            port: NonZeroU16::new(port).unwrap(),
            network: None,
            backend_mode: mode,
            default_backend: hosts.is_empty(),
            service_cluster: String::new(),
            options: Options::default(),
        }),
        warnings: Vec::new(),
        scale: Scale::AtLeastOne,
        networks: BTreeSet::from([network()]),
        backends: match mode {
            BackendMode::Vip => {
                Backends::Vip { addresses: BTreeMap::from([(network(), addresses[0].into())]), has_run: true }
            }
            BackendMode::Task => Backends::Tasks {
                tasks: addresses
                    .iter()
                    .enumerate()
                    .map(|(n, address)| Task {
                        id: format!("{name}.{n}").as_str().into(),
                        slot: n as u64,
                        node: "node".into(),
                        addresses: BTreeMap::from([(network(), (*address).into())]),
                    })
                    .collect(),
                stale: false,
            },
        },
    }
}

fn files(services: &[Service], settings: &nginx::Settings) -> BTreeMap<String, String> {
    let cluster = ClusterName::parse("main").unwrap();
    let desired = Desired {
        services: services.iter().map(|service| (service.id.clone(), Arc::new(service.clone()))).collect(),
        networks: [(NetworkId::new("n1"), Arc::new(Network { id: "n1".into(), name: "app".into() }))]
            .into_iter()
            .collect(),
        secrets: imbl::OrdMap::new(),
    };
    let of_cluster = ClusterSettings { nginx: settings.clone(), ..ClusterSettings::default() };
    let all = Settings { clusters: BTreeMap::from([(cluster.clone(), of_cluster)]) };
    assert_eq!(settings.check(), Ok(()));
    let compiled = compile(&desired, &BTreeMap::from([(cluster.clone(), Published::Nothing)]), &all);
    let spec = &compiled.specs[&cluster];
    assert_eq!(check(spec), Ok(()));
    nginx::render(spec, settings)
}

// === A real nginx ===

fn nginx_program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    directories
        .map(|directory| directory.join("nginx"))
        .find(|program| program.exists())
        .expect("these tests need a real nginx, and there is none: install Debian's package nginx-light")
}

/// A directory with the files; removed when dropped.
struct Files {
    directory: PathBuf,
}

impl Files {
    /// Writes the files with the paths changed to a directory of our own. Everything else is as rendered.
    fn write(services: &[Service], settings: &nginx::Settings) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let directory = std::env::temp_dir().join(format!("dovetail-nginx-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("dovetail")).unwrap();
        let files = Self { directory };
        let at = |name: &str| files.directory.join(name).display().to_string();
        let settings = nginx::Settings {
            pid_path: Text::parse(&at("pid")).unwrap(),
            user: Text::parse("root").unwrap(),
            ..settings.clone()
        };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("    {kind}_temp_path {};\n", at(kind)))
            .collect();
        for (path, text) in self::files(services, &settings) {
            let text = text
                .replace("/etc/nginx/dovetail/", &at("dovetail/"))
                .replace("/dev/stdout", &at("access.log"))
                .replace("/dev/stderr", &at("error.log"))
                .replace("http {\n", &format!("http {{\n{temporary}"));
            std::fs::write(at(path.strip_prefix("/etc/nginx/").unwrap()), text).unwrap();
        }
        files
    }

    fn command(&self) -> Command {
        let mut command = Command::new(nginx_program());
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

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// `nginx -t` accepts the files, and finds nothing odd.
#[track_caller]
fn accepted(what: &str, services: &[Service], settings: &nginx::Settings) {
    let files = Files::write(services, settings);
    let output = files.command().arg("-t").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &files.log("error.log");
    assert!(output.status.success(), "{what}: {said}");
    let odd = said.lines().find(|line| line.contains("[warn]") && !line.contains("\"user\" directive"));
    assert_eq!(odd, None, "{what}");
}

/// What nginx says when it checks these files by its own command, and whether it is content.
fn checked(files: &Files) -> (bool, String) {
    let main = files.directory.join("nginx.conf").display().to_string();
    let command = nginx::COMMAND.map(|word| if word == nginx::MAIN_FILE { main.clone() } else { word.to_owned() });
    let command = nginx::check_command(&command).unwrap();
    // It writes where its files say, too: that is another file here, and standard error in a container.
    let output = Command::new(nginx_program()).args(&command[1..]).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// An nginx that runs; stopped by its process id when dropped, also while a test panics.
struct Proxy {
    files: Files,
    process: Child,
    port: u16,
}

impl Proxy {
    async fn start(services: &[Service], settings: nginx::Settings) -> Self {
        // Both at once, or the second could be the first. 443 is for one nginx only, and a test may run two.
        let free = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let [port, https_port] = free.map(|listener| listener.local_addr().unwrap().port());
        let settings = nginx::Settings {
            http_port: NonZeroU16::new(port).unwrap(),
            https_port: NonZeroU16::new(https_port).unwrap(),
            worker_processes: Workers::Count(NonZeroU16::MIN),
            ..settings
        };
        let files = Files::write(services, &settings);
        let process = files.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut proxy = Self { files, process, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
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

    /// Sends a request as written and reads until the other side closes.
    async fn send(&self, request: &str) -> Response {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes)).await.expect("an answer").unwrap();
        Response::parse(&String::from_utf8_lossy(&bytes))
    }

    async fn get(&self, host: &str, path: &str) -> Response {
        self.get_with(host, path, "").await
    }

    /// `headers` are whole lines.
    async fn get_with(&self, host: &str, path: &str, headers: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n")).await
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

#[derive(Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Response {
    fn parse(text: &str) -> Self {
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
    fn header(&self, name: &str) -> Option<&str> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect();
        assert!(values.len() <= 1, "{name} is there {} times: {self:?}", values.len());
        values.first().copied()
    }

    /// What the backend was sent in a header.
    #[track_caller]
    fn sent(&self, name: &str) -> Option<&str> {
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
    fn assert_all_five(&self) {
        let id = self.header("x-request-id").expect("x-request-id");
        assert!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
        assert!(self.header("x-proxy-id").is_some_and(|id| !id.is_empty()), "{self:?}");
        assert_eq!(self.header("x-server-info"), Some("dovetail"));
        assert!(self.header("x-upstream-addr").is_some_and(|address| !address.is_empty()), "{self:?}");
        let seconds = self.header("x-upstream-response-time").expect("x-upstream-response-time");
        assert!(seconds.split(", ").any(|one| one.parse::<f64>().is_ok()), "{seconds:?}");
    }

    #[track_caller]
    fn assert_none_of_five(&self) {
        for name in ["x-request-id", "x-proxy-id", "x-server-info", "x-upstream-addr", "x-upstream-response-time"] {
            assert_eq!(self.header(name), None);
        }
    }
}

// === Backends ===

/// Two tasks in this process, at 127.0.0.2 and 127.0.0.3 on one port.
struct Backend {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Nothing listens here.
const GONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

impl Backend {
    async fn start() -> Self {
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
            let (connections, requests) = (Arc::clone(&connections), Arc::clone(&requests));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(answer(stream, Arc::clone(&requests)));
                }
            });
        }
        Self { port, connections, requests }
    }
}

/// Answers requests of one connection: with what it was sent, or as the path asks for.
async fn answer(mut stream: TcpStream, requests: Arc<AtomicUsize>) {
    let address = stream.local_addr().unwrap();
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
        requests.fetch_add(1, Ordering::SeqCst);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, headers) = match path.as_str() {
            "/missing" => ("404 Not Found", ""),
            "/busy" => ("503 Service Unavailable", ""),
            "/echo" => ("200 OK", "x-request-id: mine\r\nx-upstream-addr: mine\r\nx-other: mine\r\n"),
            "/crash" => return,
            "/ws" => {
                assert!(head.to_ascii_lowercase().contains("connection: upgrade\r\n"), "{head}");
                let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
                stream.write_all(switch.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                return;
            }
            _ => ("200 OK", ""),
        };
        let body = format!("backend: {address}\n{head}");
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len());
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn backend_of(response: &Response) -> &str {
    response.sent("backend").unwrap_or_else(|| panic!("not from a backend: {response:?}"))
}

// === Accepted ===

#[test]
fn nginx_accepts_every_choice_of_settings() {
    let services = [
        service("vip", "demo.local", BackendMode::Vip, &[FIRST], 80),
        service("tasks", "demo.local,*.demo.local", BackendMode::Task, &[FIRST, SECOND], 80),
    ];
    let trusted = || ["10.0.0.0/8", "192.168.1.1", "fd00::/8"].map(|network| network.parse().unwrap()).into();
    let default = nginx::Settings::default;
    for (what, settings) in [
        ("default", default()),
        ("overwrite", nginx::Settings { forwarded: Forwarded::Overwrite, ..default() }),
        ("keep from trusted", nginx::Settings { trusted_proxies: trusted(), ..default() }),
        ("PROXY protocol", nginx::Settings { proxy_protocol: true, ..default() }),
        ("trusted PROXY protocol", nginx::Settings { proxy_protocol: true, trusted_proxies: trusted(), ..default() }),
        ("no x- headers", nginx::Settings { hide_info_headers: true, ..default() }),
        ("JSON", nginx::Settings { access_log: AccessLog::Json, error_log_level: ErrorLogLevel::Info, ..default() }),
        ("trace", nginx::Settings { access_log: AccessLog::Trace, forwarded: Forwarded::Overwrite, ..default() }),
        ("no log", nginx::Settings { access_log: AccessLog::Off, ..default() }),
        ("no keep-alive", nginx::Settings { upstream_keepalive: 0, ..default() }),
        ("odd sizes", nginx::Settings { upstream_zone_size: 70_001, proxy_buffer_size: 1025, ..default() }),
        ("short times", nginx::Settings { connect_timeout: Duration::from_millis(1), ..default() }),
    ] {
        accepted(what, &services, &settings);
        accepted(what, &[], &settings);
    }
}

#[test]
fn nginx_accepts_long_names_strange_names_and_many_of_them() {
    let settings = nginx::Settings::default();
    let one = [FIRST];
    let long = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
    let strange = service("x }\nevil; \"$y' #\u{0}", "_a_.local,10.0.0.1,xn--a,a--b.local", BackendMode::Vip, &one, 1);
    let wild = service("wild", "*.local,*.a.local,a.local,_any.local", BackendMode::Vip, &one, 1);
    let longest = service(&"n".repeat(9000), &format!("{long},*.{}", &long[2..]), BackendMode::Vip, &one, 65535);
    accepted("long and strange names", &[strange, wild, longest], &settings);

    let many: Vec<Service> = (0..3000)
        .map(|n| {
            service(&format!("s{n}"), &format!("host-{n}.example.org,*.{n}.example.org"), BackendMode::Vip, &one, 80)
        })
        .collect();
    accepted("3000 services", &many, &settings);

    let addresses: Vec<Ipv4Addr> =
        (0..3000_u16).map(|n| Ipv4Addr::new(10, 0, (n / 250) as u8, (n % 250) as u8)).collect();
    for count in [1, 30, 31, 32, 33, 100, 500, 3000] {
        let large = service("large", "large.local", BackendMode::Task, &addresses[..count], 80);
        accepted(&format!("{count} tasks"), &[large], &settings);
    }
    let hosts: Vec<String> = (0..5000).map(|n| format!("host-{n}.example.org")).collect();
    accepted("5000 hosts", &[service("hosts", &hosts.join(","), BackendMode::Vip, &one, 80)], &settings);
}

// === Serving ===

#[tokio::test]
async fn requests_are_routed_by_host_and_spread_over_tasks() {
    let (tasks, vip, fallback) = (Backend::start().await, Backend::start().await, Backend::start().await);
    let mut services = vec![
        service("tasks", "tasks.local,*.wild.local", BackendMode::Task, &[FIRST, SECOND], tasks.port),
        service("vip", "vip.local", BackendMode::Vip, &[SECOND], vip.port),
    ];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;

    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..10 {
        let response = proxy.get("tasks.local", "/ping").await;
        assert_eq!(response.status, 200);
        response.assert_all_five();
        assert_eq!(response.header("x-upstream-addr"), Some(backend_of(&response)));
        assert_eq!(response.header("x-request-id"), response.sent("x-request-id"));
        *seen.entry(backend_of(&response).to_owned()).or_default() += 1;
    }
    let expected = [FIRST, SECOND].map(|address| (format!("{address}:{}", tasks.port), 5));
    assert_eq!(seen, BTreeMap::from(expected));

    let at_vip = format!("{SECOND}:{}", vip.port);
    for host in ["vip.local", "VIP.local", "vip.local:8080", "vip.local."] {
        assert_eq!(backend_of(&proxy.get(host, "/").await), at_vip, "{host}");
    }
    for host in ["a.wild.local", "a.b.wild.local"] {
        assert!(backend_of(&proxy.get(host, "/").await).ends_with(&format!(":{}", tasks.port)), "{host}");
    }
    // An absolute address in the request line names the host.
    let response = proxy.send("GET http://vip.local/x HTTP/1.1\r\nHost: vip.local\r\nConnection: close\r\n\r\n").await;
    assert_eq!(backend_of(&response), at_vip);
    // Paths reach the application as they were written.
    assert!(proxy.get("vip.local", "/a%2Fb//c/../d?e=%20").await.body.contains("GET /a%2Fb//c/../d?e=%20 HTTP/1.1"));

    for host in ["unknown.local", "wild.local", "127.0.0.1"] {
        let response = proxy.get(host, "/ping").await;
        assert_eq!(response.status, 503, "{host}");
        assert!(response.body.len() < 1024);
        response.assert_none_of_five();
        assert_eq!(response.header("server"), Some("nginx"), "no version");
    }
    assert_eq!(proxy.send("GET / HTTP/1.0\r\n\r\n").await.status, 503);
    assert_eq!(proxy.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.status, 400);
    assert_eq!(proxy.get("a;b{}", "/").await.status, 503);
    assert_eq!(proxy.get("a/b", "/").await.status, 400);

    for host in ["tasks.local", "unknown.local", "whatever"] {
        let response = proxy.get(host, "/.dovetail/health").await;
        assert_eq!((response.status, response.body.as_str()), (200, "ok\n"), "{host}");
        response.assert_none_of_five();
    }
    let log = proxy.files.log("access.log");
    assert!(log.contains("GET /ping") && !log.contains("health"), "{log}");

    services.push(service("fallback", "", BackendMode::Task, &[FIRST], fallback.port));
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    let at_fallback = format!("{FIRST}:{}", fallback.port);
    let response = proxy.get("unknown.local", "/ping").await;
    assert_eq!(backend_of(&response), at_fallback);
    response.assert_all_five();
    // A request without a host gets one, since HTTP/1.1 to the application demands it.
    let response = proxy.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((backend_of(&response), response.sent("host")), (at_fallback.as_str(), Some("127.0.0.1")));
    assert_eq!(backend_of(&proxy.get("vip.local", "/").await), at_vip);
    assert_eq!(proxy.get("unknown.local", "/.dovetail/health").await.body, "ok\n");
}

#[tokio::test]
async fn proxied_errors_carry_the_headers_and_an_application_s_error_sets_nothing_aside() {
    let backend = Backend::start().await;
    let services = [
        service("app", "app.local", BackendMode::Task, &[FIRST, SECOND], backend.port),
        service("half", "half.local", BackendMode::Task, &[FIRST, GONE], backend.port),
        service("mixed-vip", "mixed.local", BackendMode::Vip, &[SECOND], backend.port),
        service("mixed-tasks", "mixed.local", BackendMode::Task, &[GONE], backend.port),
        service("gone", "gone.local", BackendMode::Vip, &[GONE], backend.port),
        service("all-gone", "all-gone.local", BackendMode::Task, &[GONE, Ipv4Addr::new(127, 0, 0, 5)], backend.port),
    ];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;

    let response = proxy.get("app.local", "/missing").await;
    assert_eq!(response.status, 404);
    assert!(backend_of(&response).starts_with("127.0.0."), "the application's own page");
    response.assert_all_five();

    // The application's own header of the same name is replaced, others pass.
    let response = proxy.get("app.local", "/echo").await;
    response.assert_all_five();
    assert_eq!(response.header("x-upstream-addr"), Some(backend_of(&response)));
    assert_eq!(response.header("x-other"), Some("mine"));

    for _ in 0..6 {
        let response = proxy.get("app.local", "/busy").await;
        assert_eq!(response.status, 503);
        response.assert_all_five();
        assert_eq!(proxy.get("app.local", "/ping").await.status, 200, "busy on one path is busy on one path");
    }

    for _ in 0..6 {
        assert_eq!(proxy.get("half.local", "/ping").await.status, 200, "a task that is gone is passed by");
        assert_eq!(proxy.get("mixed.local", "/ping").await.status, 200);
    }
    // A crash behind the VIP does not set the VIP aside.
    for _ in 0..3 {
        assert_eq!(proxy.get("mixed.local", "/crash").await.status, 502);
        assert_eq!(proxy.get("mixed.local", "/ping").await.status, 200);
    }

    for host in ["gone.local", "all-gone.local", "all-gone.local"] {
        let response = proxy.get(host, "/ping").await;
        assert_eq!(response.status, 502, "{host}");
        response.assert_all_five();
    }

    // A POST that reached the application is not sent twice.
    let before = backend.requests.load(Ordering::SeqCst);
    let request = "POST /crash HTTP/1.1\r\nHost: app.local\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(proxy.send(request).await.status, 502);
    assert_eq!(backend.requests.load(Ordering::SeqCst), before + 1);

    let settings = nginx::Settings { hide_info_headers: true, default_status: 404, ..nginx::Settings::default() };
    let proxy = Proxy::start(&services, settings).await;
    proxy.get("app.local", "/ping").await.assert_none_of_five();
    proxy.get("gone.local", "/ping").await.assert_none_of_five();
    assert_eq!(proxy.get("app.local", "/echo").await.header("x-request-id"), Some("mine"));
    assert_eq!(proxy.get("unknown.local", "/").await.status, 404);
}

#[tokio::test]
async fn websockets_need_no_label_and_other_upgrades_are_not_passed_on() {
    let backend = Backend::start().await;
    let services = [service("app", "app.local", BackendMode::Vip, &[FIRST], backend.port)];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;

    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    let upgrade =
        "GET /ws HTTP/1.1\r\nHost: app.local\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(Duration::from_secs(20), stream.read_u8()).await.expect("an answer").unwrap());
    }
    let head = Response::parse(&String::from_utf8_lossy(&head));
    assert_eq!(head.status, 101);
    head.assert_all_five();
    for message in [&b"first"[..], b"\x00second"] {
        stream.write_all(message).await.unwrap();
        let mut back = vec![0; message.len()];
        timeout(Duration::from_secs(20), stream.read_exact(&mut back)).await.expect("an echo").unwrap();
        assert_eq!(back, message);
    }

    let response = proxy.get_with("app.local", "/ping", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n").await;
    assert_eq!((response.status, response.sent("upgrade"), response.sent("connection")), (200, None, None));
}

#[tokio::test]
async fn connections_to_upstreams_are_kept() {
    let backend = Backend::start().await;
    let services = [service("app", "app.local", BackendMode::Vip, &[FIRST], backend.port)];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("app.local", "/ping").await.status, 200);
    }
    assert_eq!(backend.requests.load(Ordering::SeqCst), 20);
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);

    let settings = nginx::Settings { upstream_keepalive_requests: 5, ..nginx::Settings::default() };
    let proxy = Proxy::start(&services, settings).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("app.local", "/ping").await.status, 200);
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1 + 4);
}

#[tokio::test]
async fn what_a_request_says_about_its_way_is_kept_or_overwritten() {
    let backend = Backend::start().await;
    let services = [service("app", "app.local", BackendMode::Vip, &[FIRST], backend.port)];
    let said = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Request-ID: abc-123\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-Host: evil\r\n";
    let default = nginx::Settings::default;
    let trusting = |network: &str| BTreeSet::from([network.parse().unwrap()]);
    let overwrite = nginx::Settings { forwarded: Forwarded::Overwrite, ..default() };
    let trusted = nginx::Settings { trusted_proxies: trusting("127.0.0.0/8"), ..default() };
    let untrusted = nginx::Settings { trusted_proxies: trusting("10.0.0.0/8"), ..default() };
    for (what, settings, address, forwarded_for, proto, id) in [
        ("keep", default(), "127.0.0.1", "192.0.2.7, 127.0.0.1", "https", Some("abc-123")),
        ("overwrite", overwrite, "127.0.0.1", "127.0.0.1", "http", None),
        ("keep from trusted", trusted, "192.0.2.7", "192.0.2.7, 127.0.0.1", "https", Some("abc-123")),
        ("keep from trusted, but not trusted", untrusted, "127.0.0.1", "127.0.0.1", "http", None),
    ] {
        let overwrites = settings.forwarded == Forwarded::Overwrite;
        let proxy = Proxy::start(&services, settings).await;
        let response = proxy.get_with("app.local:8080", "/ping", said).await;
        assert_eq!(response.sent("host"), Some("app.local:8080"), "{what}");
        assert_eq!(response.sent("x-real-ip"), Some(address), "{what}");
        assert_eq!(response.sent("x-forwarded-for"), Some(forwarded_for), "{what}");
        assert_eq!(response.sent("x-forwarded-proto"), Some(proto), "{what}");
        assert_eq!(response.sent("x-forwarded-host"), if overwrites { None } else { Some("evil") }, "{what}");
        assert_eq!(response.header("x-request-id"), response.sent("x-request-id"), "{what}");
        match id {
            Some(id) => assert_eq!(response.header("x-request-id"), Some(id), "{what}"),
            None => response.assert_all_five(),
        }
        // Nothing said: what nginx sees.
        let response = proxy.get("app.local", "/ping").await;
        response.assert_all_five();
        assert_eq!(response.sent("x-forwarded-for"), Some("127.0.0.1"), "{what}");
        assert_eq!(response.sent("x-forwarded-proto"), Some("http"), "{what}");
        // An id that is none is replaced.
        let response = proxy.get_with("app.local", "/ping", "X-Request-ID: a b\"<script>\r\n").await;
        response.assert_all_five();
    }

    for trusted_proxies in [BTreeSet::new(), trusting("127.0.0.0/8")] {
        let proxy =
            Proxy::start(&services, nginx::Settings { proxy_protocol: true, trusted_proxies, ..default() }).await;
        let request = "GET /ping HTTP/1.1\r\nHost: app.local\r\nConnection: close\r\n\r\n";
        let response = proxy.send(&format!("PROXY TCP4 192.0.2.9 10.0.0.1 5555 80\r\n{request}")).await;
        assert_eq!(response.sent("x-real-ip"), Some("192.0.2.9"));
        assert_eq!(response.sent("x-forwarded-for"), Some("192.0.2.9"));
    }
}

#[tokio::test]
async fn the_application_sees_the_host_that_routed_the_request_and_no_proxy_header() {
    let backend = Backend::start().await;
    let services = [service("app", "app.local", BackendMode::Vip, &[FIRST], backend.port)];
    let proxy = Proxy::start(&services, nginx::Settings::default()).await;
    for (line, host, sent) in [
        ("GET /ping", "app.local", "app.local"),
        ("GET /ping", "App.Local:8080", "App.Local:8080"),
        ("GET /ping", "app.local.", "app.local."),
        ("GET http://app.local/ping", "admin.internal", "app.local"),
        ("GET http://app.local/ping", "app.local.evil", "app.local"),
    ] {
        let rest = "Connection: close\r\nProxy: http://192.0.2.1/\r\n\r\n";
        let response = proxy.send(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n{rest}")).await;
        assert_eq!(response.sent("host"), Some(sent), "{line}, Host: {host}");
        assert_eq!(response.sent("proxy"), None, "{line}, Host: {host}");
    }
}

#[test]
fn the_command_and_the_main_file_belong_together() {
    let main = &files(&[], &nginx::Settings::default())[nginx::MAIN_FILE];
    assert_eq!(main.matches("daemon off;").count(), 1);
    assert!(!nginx::COMMAND.join(" ").contains("daemon"));
    assert!(nginx::COMMAND.contains(&nginx::MAIN_FILE));
    assert!(Path::new(nginx::MAIN_FILE).is_absolute());
}

#[test]
fn the_check_ends_and_says_why_in_lines_that_are_recognised() {
    let files = Files::write(&[], &nginx::Settings::default());
    let (content, said) = checked(&files);
    assert!(content, "{said}");
    let main = files.directory.join("nginx.conf");
    let text = std::fs::read_to_string(&main).unwrap();
    for (line, instead, words) in [
        ("http {", "http ;", "directive \"http\" has no opening \"{\""),
        ("    tcp_nodelay on;", "    no_such_directive on;", "unknown directive \"no_such_directive\""),
        ("    tcp_nodelay on;", "    upstream away { server no-such-host.invalid; }", nginx::UNRESOLVED),
    ] {
        assert!(text.contains(line));
        std::fs::write(&main, text.replace(line, instead)).unwrap();
        let (content, said) = checked(&files);
        let refusals: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix(nginx::REFUSAL)).collect();
        assert!(!content && refusals.len() == 1 && refusals[0].starts_with(words), "{said}");
    }
}
