//! The controller's configuration: one YAML file, read once at the start. Every key has a default, unknown and
//! duplicate keys are errors, and every error names the line, the field and what is allowed.

mod check;
mod convert;
mod entries;
mod read;
mod registry;
mod scalars;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use convert::{ClusterParts, UnknownCluster, engine_endpoint};
pub use entries::Entries;
pub use read::{ConfigError, load, parse, read_word, schema};
pub use scalars::{
    AccessLog, Capability, Claimed, Cluster, ErrorLogLevel, FailureAction, Forwarded, ImagePolicy, Instance, Listen,
    LogFormat, LogLevel, NginxVersion, Parallelism, Port, PublishMode, RoutingLabel, Scalar, ServiceName, Size, Span,
    TlsProtocol, UpdateCheck, UpdateOrder, Whole, Word, Workers,
};

/// The configuration of the Dovetail controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name of this installation: 1 to 16 of `[a-z0-9-]`. Every object that Dovetail creates carries it in
    /// the label `dovetail.instance`; two installations on one swarm need two names.
    pub instance: Instance,
    /// How the Docker Engine is reached.
    pub engine: Engine,
    /// The log, on standard output.
    pub log: Log,
    /// The HTTP server for health, metrics and routes.
    pub admin: Admin,
    /// Labels for every object that Dovetail creates, such as UCP's `com.docker.ucp.access.label`.
    pub object_labels: Entries<String, String>,
    /// Who may claim which hosts; without rules, everybody every host. A host that some rules are about may be claimed by
    /// services that one of them admits, any other host by everybody.
    pub claims: Vec<Claim>,
    /// In task mode, a task in whose place three others ended by themselves within five minutes gets requests once it has
    /// run for twice as long as they lasted, and at the latest after this; null: at once.
    pub crash_loop_wait: Option<Span>,
    /// The proxies: one service each, by a name of your choice (1 to 16 of `[a-z0-9-]`).
    pub clusters: Entries<Cluster, ClusterSettings>,
}

/// Who may claim some hosts; without stacks and access labels, nobody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The hosts: `shop.example.org`, all below it as `*.shop.example.org`, or `*` for every host and the default backend.
    pub hosts: Vec<Claimed>,
    /// Services of these stacks may.
    #[serde(default)]
    pub stacks: Vec<Word>,
    /// And services whose `com.docker.ucp.access.label` is one of these or below one, such as /prod for /prod/shop.
    #[serde(default)]
    pub access_labels: Vec<Word>,
}

/// How the Docker Engine is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// `unix:///path` or `tcp://host:port`. It must be a manager's, or UCP's.
    pub endpoint: Word,
    /// Client certificates for a `tcp://` endpoint, as in a UCP client bundle; null for none.
    pub tls: Option<EngineTls>,
    /// The longest time for one call.
    pub timeout: Span,
    /// How often the cluster's state is read when no event says that something changed. It is stretched to ten
    /// times the duration of the last complete reading, and to a minute at most.
    pub poll_interval: Span,
}

/// Client certificates for the Docker Engine. Only this CA is trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineTls {
    /// The CA that signed the Engine's certificate (PEM).
    pub ca: PathBuf,
    /// The client certificate (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// The log, on standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `json`: one object a line; `text`: for people.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` (each short-circuit with its reason) or `trace`.
    pub level: LogLevel,
}

/// The HTTP server for health, metrics and routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where it listens: loopback, or an address of a network that only operators reach. It has no
    /// authentication.
    pub listen: Listen,
}

/// One proxy service with its settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// The value of the label `com.docker.lb.service_cluster` that these proxies serve; empty for services
    /// without the label.
    pub service_cluster: String,
    /// The only networks that the proxies join, by name or id; null: exactly those that published services
    /// need.
    pub networks: Option<Vec<Word>>,
    /// Routing labels that no service of this cluster may use: a service that does is not routed, and told.
    pub refused_labels: Vec<RoutingLabel>,
    /// The proxy service.
    pub proxy: Proxy,
    /// nginx in the proxies.
    pub nginx: Nginx,
}

/// The proxy service. A change here is one rolling update. A value that an operator changed with
/// `docker service update` stays until the same key changes here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// The name of the Swarm service.
    pub name: ServiceName,
    /// The image; it must hold nginx of the version in `nginx.version`.
    pub image: Word,
    /// The tag is resolved to a digest when it is written into the service. `keep`: a tag that moves later is not
    /// noticed; `follow`: it is rolled out, within five minutes.
    pub image_policy: ImagePolicy,
    /// A file with the credentials of the image's registry, such as Docker's `config.json`, read at the start; null
    /// for none. It must hold them itself: no credential helper is run.
    pub registry_auth_file: Option<PathBuf>,
    /// What was read from that file.
    #[serde(skip)]
    pub registry_auth: Option<swarm::RegistryAuth>,
    /// The command; null for nginx with the generated configuration.
    pub command: Option<Vec<String>>,
    /// `ingress`: by the routing mesh, `replicas` proxies; `host`: one proxy on each node that the constraints
    /// choose, on the node's own port.
    pub publish_mode: PublishMode,
    /// How many proxies in ingress mode. In host mode the nodes decide.
    pub replicas: Whole<0, 1000>,
    /// The published ports; null for one that is not published.
    pub ports: Ports,
    /// Placement constraints, such as `node.labels.proxy==true`.
    pub constraints: Vec<String>,
    /// Placement preferences: node labels to spread over, such as `node.labels.zone`.
    pub spread: Vec<String>,
    /// How updates are rolled out.
    pub update: Update,
    /// The signal that stops a proxy; nginx finishes open requests on SIGQUIT.
    pub stop_signal: Word,
    /// How long a proxy may take to finish open requests before it is killed.
    pub stop_grace_period: Span,
    /// How Swarm learns that a proxy answers; null for no check.
    pub health_check: Option<HealthCheck>,
    /// Kernel settings of the container.
    pub sysctls: Entries<String, String>,
    /// Capabilities to take from the proxies, such as ALL; without any, they have Docker's default.
    pub cap_drop: Vec<Capability>,
    /// Capabilities to give them all the same. Started as root, nginx needs CHOWN, SETGID and SETUID, and in some images
    /// NET_BIND_SERVICE and DAC_OVERRIDE.
    pub cap_add: Vec<Capability>,
    /// Environment variables.
    pub env: Entries<String, String>,
    /// Labels of the service, beside those of Dovetail.
    pub labels: Entries<String, String>,
    /// Labels of its containers.
    pub container_labels: Entries<String, String>,
    /// Limits and reservations of each proxy.
    pub resources: Resources,
}

/// The published ports of the proxies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ports {
    /// HTTP; null to publish none.
    pub http: Option<Port>,
    /// TLS; null to publish none. Without a service for the name that a client asks for, the handshake is refused.
    pub https: Option<Port>,
}

/// How updates of the proxies are rolled out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// Whether `nginx -t` runs on the new files, in one container beside the proxies, before an update; it costs a second
    /// or two. `auto`: when something differs from what works that the generator cannot vouch for (a secret or its use,
    /// the image, `command`, `env`, `sysctls`, capabilities, a setting of nginx), and where nothing works yet, if there
    /// are secrets; `always`: before every update to something new; `never`. What fails is held as a failed update is. A check that
    /// comes to no end, or that the cluster refuses, keeps nothing. `always` is as `auto` once routes have changed for longer than
    /// `deadline` before any check has ended. With a `command` that does not start nginx itself
    /// there is none.
    pub check: UpdateCheck,
    /// How many proxies at a time. `auto`: a quarter of the replicas, at least one, where the new ones start first;
    /// else one after the other.
    pub parallelism: Parallelism,
    /// The pause between two steps.
    pub delay: Option<Span>,
    /// How long Swarm watches a new proxy before it counts as good.
    pub monitor: Span,
    /// `auto`: start-first where no host port is involved and no limit of replicas a node leaves too little room, else
    /// stop-first.
    pub order: UpdateOrder,
    /// What Swarm does by itself when a new proxy fails.
    pub failure_action: FailureAction,
    /// A rollout without progress for so long is taken back.
    pub deadline: Span,
    /// Proxies that keep ending within this time after a rollout count as its failure, although Swarm called it
    /// complete; null: they do not.
    pub soak: Option<Span>,
    /// A generation that failed is tried again after this long, then after twice as long, and so on.
    pub retry_after: Span,
}

/// How Swarm learns that a proxy answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheck {
    /// The test, in Docker's form: `CMD` or `CMD-SHELL` first; null for a request to the health path by
    /// whichever of wget and curl the image has.
    pub test: Option<Vec<String>>,
    /// The time between two tests.
    pub interval: Span,
    /// The longest time for one.
    pub timeout: Span,
    /// How many must fail in a row.
    pub retries: Whole<1, 100>,
    /// Failures do not count for so long after the start.
    pub start_period: Span,
}

/// Limits and reservations of each proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// The most memory; null for no limit.
    pub memory_limit: Option<Size>,
    /// Memory set aside; null for none.
    pub memory_reservation: Option<Size>,
}

/// nginx in the proxies. Times and sizes have nginx's meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Nginx {
    /// The version in the image, in quotes: what is rendered follows it where versions differ.
    pub version: NginxVersion,
    /// The user that the worker processes run as.
    pub user: Word,
    /// How many worker processes; `auto` for one a processor.
    pub worker_processes: Workers,
    /// Connections of one worker, to clients and to upstreams together.
    pub worker_connections: Whole<64, 1000000>,
    /// Open files of one worker.
    pub worker_rlimit_nofile: Whole<64, 10000000>,
    /// How long a stopping worker may finish open connections; keep it below `proxy.stop_grace_period`.
    pub worker_shutdown_timeout: Span,
    /// How long a connection to an upstream may take.
    pub connect_timeout: Span,
    /// The longest time between two writes to an upstream or a client.
    pub send_timeout: Span,
    /// The longest time between two reads from an upstream.
    pub read_timeout: Span,
    /// How long an idle client connection is kept.
    pub keepalive_timeout: Span,
    /// Idle connections kept to each upstream, by each worker; 0: each request has a connection of its own.
    pub upstream_keepalive: Whole<0, 10000>,
    /// How long an idle connection to an upstream is kept; below the time after which applications close it (Node,
    /// uvicorn and Apache: 5 s), and below 900 s, when IPVS forgets it.
    pub upstream_keepalive_timeout: Span,
    /// Requests on one connection to an upstream before it is closed, so that VIP connections spread.
    pub upstream_keepalive_requests: Whole<1, 1000000>,
    /// An upstream connection older than this is closed after its request, for the same reason.
    pub upstream_keepalive_time: Span,
    /// The smallest shared memory of an upstream; large ones get more.
    pub upstream_zone_size: Size,
    /// The largest request body.
    pub client_max_body_size: Size,
    /// The part of it kept in memory.
    pub client_body_buffer_size: Size,
    /// The longest time between two reads of a request body.
    pub client_body_timeout: Span,
    /// The buffer for request headers.
    pub client_header_buffer_size: Size,
    /// Number and size of the buffers for large request headers.
    pub large_client_header_buffers: HeaderBuffers,
    /// The buffer for a response's header: all its cookies have to fit.
    pub proxy_buffer_size: Size,
    /// Whether header names may hold underscores.
    pub underscores_in_headers: bool,
    /// The path at which every proxy answers 200, on any host.
    pub health_path: Word,
    /// Whether the five `x-` response headers are left out.
    pub hide_info_headers: bool,
    /// `keep`: X-Forwarded-Proto and X-Request-ID of a request are passed on; `overwrite`: they are replaced.
    pub forwarded: Forwarded,
    /// Addresses (CIDR) of balancers in front whose X-Forwarded-For names the client.
    pub trusted_proxies: Vec<Word>,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// The versions of TLS that clients may speak.
    pub ssl_protocols: Vec<TlsProtocol>,
    /// The ciphers of TLS 1.2 and before, in OpenSSL's form.
    pub ssl_ciphers: Word,
    /// The port that redirects to HTTPS name; null for the published one. Set it to 443 behind a balancer.
    pub https_redirect_port: Option<Port>,
    /// A file in the image with the authorities, in PEM, that must have signed the certificates of applications that
    /// are spoken to over TLS.
    pub backend_authorities: Word,
    /// Whether a client's address keeps it at one task, wherever all services are in task mode and have no label that says
    /// how a client is kept.
    pub ip_hash: bool,
    /// Modules to load, by their files in the image; an image whose `stream` is a module needs it here for
    /// `ssl_passthrough`.
    pub dynamic_modules: Vec<Word>,
    /// Ways of Interlock that were left behind.
    pub compat: Compat,
    /// Lines in nginx's language, as they are.
    pub extra: Extra,
    /// How requests are logged, on the proxies' standard output: `main` (the combined format and
    /// X-Forwarded-For), `trace` (with the request's id and times), `json` or `off`.
    pub access_log: AccessLog,
    /// The least severe messages that the proxies log about themselves.
    pub error_log_level: ErrorLogLevel,
}

/// Ways of Interlock that were left behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compat {
    /// With `context_root_rewrite`, a path without a dot and without a final slash is redirected (301) to the same with
    /// a slash.
    pub trailing_slash_redirect: bool,
}

/// Lines in nginx's language, at the end of the block that they are named after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Extra {
    /// Outside of all blocks.
    pub main: Vec<String>,
    /// In `http`.
    pub http: Vec<String>,
    /// In `stream`.
    pub stream: Vec<String>,
}

/// Number and size of buffers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderBuffers {
    /// How many.
    pub number: Whole<1, 64>,
    /// How large each.
    pub size: Size,
}

impl Default for Config {
    fn default() -> Self {
        let main = Cluster(model::ClusterName::parse("main").expect("a name"));
        Self {
            instance: Instance(model::InstanceName::parse("main").expect("a name")),
            engine: Engine::default(),
            log: Log::default(),
            admin: Admin::default(),
            object_labels: Entries::default(),
            claims: Vec::new(),
            crash_loop_wait: Some(Span::seconds(120)),
            clusters: Entries(BTreeMap::from([(main, ClusterSettings::default())])),
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            endpoint: Word("unix:///var/run/docker.sock".into()),
            tls: None,
            timeout: Span::seconds(20),
            poll_interval: Span::seconds(3),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: LogLevel::Info }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: Listen(([127, 0, 0, 1], 8717).into()) }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            name: ServiceName("dovetail-proxy".into()),
            image: Word("nginx:1.28".into()),
            image_policy: ImagePolicy::Keep,
            registry_auth_file: None,
            registry_auth: None,
            command: None,
            publish_mode: PublishMode::Ingress,
            replicas: Whole(2),
            ports: Ports::default(),
            constraints: Vec::new(),
            spread: Vec::new(),
            update: Update::default(),
            stop_signal: Word("SIGQUIT".into()),
            stop_grace_period: Span::seconds(30),
            health_check: Some(HealthCheck::default()),
            sysctls: Entries(BTreeMap::from([("net.ipv4.tcp_keepalive_time".into(), "600".into())])),
            cap_drop: Vec::new(),
            cap_add: Vec::new(),
            env: Entries::default(),
            labels: Entries::default(),
            container_labels: Entries::default(),
            resources: Resources::default(),
        }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: Some(Whole(8080)), https: Some(Whole(8443)) }
    }
}

impl Default for Update {
    fn default() -> Self {
        Self {
            check: UpdateCheck::Auto,
            parallelism: Parallelism::Auto,
            delay: None,
            monitor: Span::seconds(3),
            order: UpdateOrder::Auto,
            failure_action: FailureAction::Rollback,
            deadline: Span::seconds(60),
            soak: Some(Span::seconds(30)),
            retry_after: Span::seconds(600),
        }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            test: None,
            interval: Span::seconds(1),
            timeout: Span::seconds(3),
            retries: Whole(3),
            start_period: Span::seconds(40),
        }
    }
}

impl Default for Nginx {
    fn default() -> Self {
        Self {
            version: NginxVersion(1, 28, 0),
            user: Word("nginx".into()),
            worker_processes: Workers::Auto,
            worker_connections: Whole(4096),
            worker_rlimit_nofile: Whole(65535),
            worker_shutdown_timeout: Span::seconds(25),
            connect_timeout: Span::seconds(5),
            send_timeout: Span::seconds(600),
            read_timeout: Span::seconds(600),
            keepalive_timeout: Span::seconds(75),
            upstream_keepalive: Whole(32),
            upstream_keepalive_timeout: Span::seconds(4),
            upstream_keepalive_requests: Whole(1000),
            upstream_keepalive_time: Span::seconds(300),
            upstream_zone_size: Size(64 << 10),
            client_max_body_size: Size(32 << 20),
            client_body_buffer_size: Size(8 << 10),
            client_body_timeout: Span::seconds(60),
            client_header_buffer_size: Size(1 << 10),
            large_client_header_buffers: HeaderBuffers { number: Whole(4), size: Size(8 << 10) },
            proxy_buffer_size: Size(16 << 10),
            underscores_in_headers: false,
            health_path: Word("/.dovetail/health".into()),
            hide_info_headers: false,
            forwarded: Forwarded::Keep,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            ssl_protocols: vec![TlsProtocol::V1_2, TlsProtocol::V1_3],
            ssl_ciphers: Word("HIGH:!aNULL:!MD5".into()),
            https_redirect_port: None,
            backend_authorities: Word("/etc/ssl/certs/ca-certificates.crt".into()),
            ip_hash: false,
            dynamic_modules: Vec::new(),
            compat: Compat::default(),
            extra: Extra::default(),
            access_log: AccessLog::Main,
            error_log_level: ErrorLogLevel::Warn,
        }
    }
}
