//! How nginx is set up; the program's YAML maps onto it.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

use model::values::Cidr;
use serde::{Deserialize, Serialize};

use super::values::{AdminLine, Text, Version};

/// Everything that can be set; it is written into manifests, so that a setup that worked can be gone back to. The defaults are Interlock's where it had the option, and nothing speaks against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The nginx in the proxy image; what is rendered follows it.
    pub version: Version,
    /// The user that workers run as; it must exist in the image.
    pub user: Text,
    /// How many workers.
    pub worker_processes: Workers,
    /// Connections of one worker, to clients and to upstreams together.
    pub worker_connections: u32,
    /// Open files of one worker.
    pub worker_rlimit_nofile: u32,
    /// How long a stopping worker may finish open connections; less than the proxy service's grace period.
    pub worker_shutdown_timeout: Duration,
    /// Where the process id is written.
    pub pid_path: Text,
    /// The port that nginx listens on, inside its container.
    pub http_port: NonZeroU16,
    /// The port for TLS, likewise.
    pub https_port: NonZeroU16,
    /// The port at which clients reach that one, for redirects; `None`: it is not published.
    pub published_https: Option<NonZeroU16>,
    /// The versions of TLS.
    pub ssl_protocols: BTreeSet<TlsProtocol>,
    /// The ciphers of TLS 1.2 and before, in OpenSSL's form.
    pub ssl_ciphers: Text,
    /// A file in the image with the authorities, in PEM, that must have signed the certificates of applications that are
    /// spoken to over TLS.
    pub backend_authorities: Text,
    /// Whether clients stay at one task by their address, wherever all services are in task mode and nothing else is
    /// said: Interlock's `IPHash`.
    pub ip_hash: bool,
    /// Modules to load, by their files in the image.
    pub dynamic_modules: Vec<Text>,
    /// Lines as they are.
    pub extra: ExtraLines,
    /// With `context_root_rewrite`, a path without a dot and without a final slash is redirected to the same with a
    /// slash, as Interlock did.
    pub trailing_slash_redirect: bool,
    /// Whether every connection starts with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Balancers in front of the proxies, whose word on the client's address is taken. With `proxy_protocol` and
    /// none named, everyone's: whoever reaches the port has to speak it.
    pub trusted_proxies: BTreeSet<Cidr>,
    /// What happens to what a request says about its way so far.
    pub forwarded: Forwarded,
    /// Answers 200 on every host.
    pub health_path: Text,
    /// The status for unknown hosts.
    pub default_status: u16,
    /// Leaves the five `x-` headers out of responses.
    pub hide_info_headers: bool,
    /// How long a connection to an upstream may take.
    pub connect_timeout: Duration,
    /// The longest time between two writes, to an upstream or to a client.
    pub send_timeout: Duration,
    /// The longest time between two reads from an upstream; ends an idle WebSocket, too.
    pub read_timeout: Duration,
    /// How long an idle client connection is kept.
    pub keepalive_timeout: Duration,
    /// Idle connections that one worker keeps to one upstream; 0: none.
    pub upstream_keepalive: u32,
    /// How long such a connection is kept. Below 5 s, when Node, uvicorn and Apache close an idle one: a request that is
    /// sent into a closing connection fails, and is not sent again unless it is safe to repeat. And below 900 s, when IPVS
    /// forgets an idle flow.
    pub upstream_keepalive_timeout: Duration,
    /// After so many requests it is closed: behind a VIP, only a new connection can reach another task.
    pub upstream_keepalive_requests: u32,
    /// After so long it is closed, for the same reason.
    pub upstream_keepalive_time: Duration,
    /// The smallest shared memory of an upstream; large upstreams get more.
    pub upstream_zone_size: u64,
    /// The largest request body; 0: any.
    pub client_max_body_size: u64,
    /// The part of it that is kept in memory.
    pub client_body_buffer_size: u64,
    /// The longest time between two reads of it.
    pub client_body_timeout: Duration,
    /// The buffer for a request's header.
    pub client_header_buffer_size: u64,
    /// The buffers for headers that do not fit.
    pub large_client_header_buffers: LargeHeaderBuffers,
    /// The buffer for a response's header: all its cookies have to fit.
    pub proxy_buffer_size: u64,
    /// Whether header names may hold underscores.
    pub underscores_in_headers: bool,
    /// Whether requests are logged, on standard output, and how.
    pub access_log: AccessLog,
    /// What nginx says about itself, on standard error.
    pub error_log_level: ErrorLogLevel,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsProtocol {
    /// 1.0, for very old clients only.
    V1_0,
    /// 1.1, likewise.
    V1_1,
    /// 1.2.
    V1_2,
    /// 1.3.
    V1_3,
}

/// Lines that the cluster's administrator adds, at the end of the block that they are named after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraLines {
    /// Outside of all blocks.
    pub main: Vec<AdminLine>,
    /// In `http`.
    pub http: Vec<AdminLine>,
    /// In `stream`, which is there when it has a line or when something is passed through.
    pub stream: Vec<AdminLine>,
}

/// How many worker processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workers {
    /// One a processor.
    Auto,
    /// So many.
    Count(NonZeroU16),
}

/// What happens to `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Request-ID` of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forwarded {
    /// They are passed on, `X-Forwarded-For` with the client's address added. If `trusted_proxies` are named,
    /// only theirs.
    Keep,
    /// They are replaced by what nginx sees itself.
    Overwrite,
}

/// Number and size of buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeHeaderBuffers {
    /// How many.
    pub number: u32,
    /// The size of each.
    pub size: u64,
}

/// How requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLog {
    /// Not at all.
    Off,
    /// Interlock's `main`: the combined format and `X-Forwarded-For`.
    Main,
    /// Interlock's `trace`: `main` with the request's id and times.
    Trace,
    /// One JSON object a line.
    Json,
}

/// The least that nginx says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorLogLevel {
    /// Errors.
    Error,
    /// Warnings, too.
    Warn,
    /// Starts and stops of workers, too.
    Notice,
    /// Everything.
    Info,
}

impl Default for Settings {
    fn default() -> Self {
        let text = |text| Text::parse(text).expect("a default is possible");
        Self {
            version: Version { major: 1, minor: 22, patch: 1 },
            user: text("nginx"),
            worker_processes: Workers::Auto,
            worker_connections: 4096,
            worker_rlimit_nofile: 65_535,
            worker_shutdown_timeout: Duration::from_secs(25),
            pid_path: text("/var/run/proxy.pid"),
            http_port: NonZeroU16::new(80).expect("80 is not 0"),
            https_port: NonZeroU16::new(443).expect("443 is not 0"),
            published_https: NonZeroU16::new(8443),
            ssl_protocols: BTreeSet::from([TlsProtocol::V1_2, TlsProtocol::V1_3]),
            ssl_ciphers: text("HIGH:!aNULL:!MD5"),
            backend_authorities: text("/etc/ssl/certs/ca-certificates.crt"),
            ip_hash: false,
            dynamic_modules: Vec::new(),
            extra: ExtraLines::default(),
            trailing_slash_redirect: false,
            proxy_protocol: false,
            trusted_proxies: BTreeSet::new(),
            forwarded: Forwarded::Keep,
            health_path: text("/.dovetail/health"),
            default_status: 503,
            hide_info_headers: false,
            connect_timeout: Duration::from_secs(5),
            send_timeout: Duration::from_secs(600),
            read_timeout: Duration::from_secs(600),
            keepalive_timeout: Duration::from_secs(75),
            upstream_keepalive: 32,
            upstream_keepalive_timeout: Duration::from_secs(4),
            upstream_keepalive_requests: 1000,
            upstream_keepalive_time: Duration::from_secs(300),
            upstream_zone_size: 64 * 1024,
            client_max_body_size: 32 * 1024 * 1024,
            client_body_buffer_size: 8 * 1024,
            client_body_timeout: Duration::from_secs(60),
            client_header_buffer_size: 1024,
            large_client_header_buffers: LargeHeaderBuffers { number: 4, size: 8 * 1024 },
            proxy_buffer_size: 16 * 1024,
            underscores_in_headers: false,
            access_log: AccessLog::Main,
            error_log_level: ErrorLogLevel::Warn,
        }
    }
}

/// A setting with a value that nginx, or our use of it, does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct InvalidSetting {
    /// The field of [`Settings`].
    pub setting: &'static str,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Settings {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn check(&self) -> Result<(), Vec<InvalidSetting>> {
        let mut invalid = Vec::new();
        let mut demand = |holds: bool, setting: &'static str, message: &str| {
            if !holds {
                invalid.push(InvalidSetting { setting, message: message.to_owned() });
            }
        };
        let year = Duration::from_secs(365 * 24 * 3600);
        let known = Version::OLDEST <= self.version && self.version < Version::TOO_NEW;
        demand(known, "version", "only 1.22 to 1.30 are known");
        let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        demand(self.user.as_str().chars().all(of_a_name), "user", "a name of letters, digits, -, _ and .");
        demand(self.pid_path.as_str().starts_with('/'), "pid_path", "a path that starts with /");
        let of_a_path = |c: char| of_a_name(c) || c == '/' || c == '~';
        let health = self.health_path.as_str();
        let plain = (2..=128).contains(&health.len()) && health.starts_with('/');
        let plain = plain && health.chars().all(of_a_path);
        // nginx compares with the path after resolving these, so it would never match.
        let resolved = health.contains("//") || health.split('/').any(|part| part == "." || part == "..");
        demand(plain && !resolved, "health_path", "a path of letters, digits and - _ . ~ /, such as /.dovetail/health");
        let status = (400..=599).contains(&self.default_status);
        demand(status, "default_status", "an error status: 400 to 599");
        demand(!self.ssl_protocols.is_empty(), "ssl_protocols", "at least one");
        demand(self.http_port != self.https_port, "https_port", "another port than http_port");
        demand(self.worker_connections >= 16, "worker_connections", "at least 16");
        demand(self.worker_rlimit_nofile >= 16, "worker_rlimit_nofile", "at least 16");
        demand(self.upstream_keepalive_requests >= 1, "upstream_keepalive_requests", "at least 1");
        demand(self.upstream_zone_size >= 32 * 1024, "upstream_zone_size", "at least 32k");
        demand(self.upstream_zone_size <= 64 * 1024 * 1024, "upstream_zone_size", "at most 64m");
        demand(self.client_body_buffer_size >= 1024, "client_body_buffer_size", "at least 1k");
        demand(self.client_header_buffer_size >= 512, "client_header_buffer_size", "at least 512");
        let large = self.large_client_header_buffers;
        demand(large.number >= 1, "large_client_header_buffers", "at least 1 buffer");
        demand(large.size >= 512, "large_client_header_buffers", "buffers of at least 512 bytes");
        demand((1024..=1024 * 1024).contains(&self.proxy_buffer_size), "proxy_buffer_size", "1k to 1m");
        let below_ipvs = self.upstream_keepalive_timeout < Duration::from_secs(900);
        demand(
            below_ipvs,
            "upstream_keepalive_timeout",
            "below 900s, when the kernel forgets idle flows through a VIP",
        );
        for (setting, time) in [
            ("worker_shutdown_timeout", self.worker_shutdown_timeout),
            ("connect_timeout", self.connect_timeout),
            ("send_timeout", self.send_timeout),
            ("read_timeout", self.read_timeout),
            ("upstream_keepalive_timeout", self.upstream_keepalive_timeout),
            ("upstream_keepalive_time", self.upstream_keepalive_time),
            ("client_body_timeout", self.client_body_timeout),
        ] {
            let possible = Duration::from_millis(1) <= time && time <= year;
            demand(possible, setting, "more than nothing, and at most a year");
        }
        demand(self.keepalive_timeout <= year, "keepalive_timeout", "at most a year");
        if invalid.is_empty() { Ok(()) } else { Err(invalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_possible() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    /// Node, uvicorn and Apache close a connection that is idle for 5 s, and a request that is under way then is lost.
    #[test]
    fn idle_connections_to_upstreams_are_closed_before_applications_do() {
        assert!(Settings::default().upstream_keepalive_timeout < Duration::from_secs(5));
    }

    #[test]
    fn impossible_settings_are_named() {
        type Break = fn(&mut Settings);
        let cases: [(Break, &str); 9] = [
            (|s| s.version.minor = 31, "version: only 1.22 to 1.30 are known"),
            (|s| s.version.minor = 20, "version: only 1.22 to 1.30 are known"),
            (|s| s.user = Text::parse("a b").unwrap(), "user: a name of letters, digits, -, _ and ."),
            (
                |s| s.health_path = Text::parse("health").unwrap(),
                "health_path: a path of letters, digits and - _ . ~ /, such as /.dovetail/health",
            ),
            (
                |s| s.health_path = Text::parse("/a/../b").unwrap(),
                "health_path: a path of letters, digits and - _ . ~ /, such as /.dovetail/health",
            ),
            (|s| s.default_status = 200, "default_status: an error status: 400 to 599"),
            (
                |s| s.upstream_keepalive_timeout = Duration::from_secs(900),
                "upstream_keepalive_timeout: below 900s, when the kernel forgets idle flows through a VIP",
            ),
            (|s| s.connect_timeout = Duration::ZERO, "connect_timeout: more than nothing, and at most a year"),
            (|s| s.upstream_zone_size = 1024, "upstream_zone_size: at least 32k"),
        ];
        for (damage, expect) in cases {
            let mut settings = Settings::default();
            damage(&mut settings);
            let invalid: Vec<String> = settings.check().unwrap_err().iter().map(ToString::to_string).collect();
            assert_eq!(invalid, [expect]);
        }
    }
}
