//! From the file's words to the settings of the crates that use them.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use actuator::settings::{self, Mode, Order, Policy, Publish};
use actuator::{CheckPolicy, Checks, ProxySettings};
use model::ClusterName;
use reconciler::nginx;

use super::{
    AccessLog, Capability, ClusterSettings, Config, ErrorLogLevel, FailureAction, Forwarded, ImagePolicy, Nginx,
    Parallelism, Proxy, PublishMode, TlsProtocol, UpdateCheck, UpdateOrder, Workers,
};

/// The port that nginx listens on inside its container.
const HTTP_TARGET: u16 = 80;
/// The same for TLS.
const HTTPS_TARGET: u16 = 443;

/// One cluster's settings, for every crate that needs some.
#[derive(Clone, Debug)]
pub struct ClusterParts {
    /// Its name.
    pub name: ClusterName,
    /// What the proxies should do.
    pub reconciler: reconciler::ClusterSettings,
    /// What the proxy service should look like.
    pub actuator: actuator::Settings,
    /// How many addresses the proxies take.
    pub observer: observer::Proxies,
}

/// A key below one cluster and what is wrong with it.
pub(super) type Complaint = (Vec<&'static str>, String);

/// A cluster was named that the configuration does not have.
#[derive(Debug)]
pub struct UnknownCluster {
    name: String,
    known: String,
}

impl fmt::Display for UnknownCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no cluster {:?} in the configuration; there is {}", self.name, self.known)
    }
}

impl std::error::Error for UnknownCluster {}

impl Config {
    /// What the reconciler has to know beside the clusters.
    pub fn reconciler(&self) -> reconciler::Settings {
        let words = |words: &[super::Word]| words.iter().map(|word| word.0.clone()).collect();
        let rule = |claim: &super::Claim| reconciler::ClaimRule {
            hosts: claim.hosts.iter().map(|hosts| hosts.0.clone()).collect(),
            stacks: words(&claim.stacks),
            access_labels: words(&claim.access_labels),
        };
        let claims = reconciler::Claims { rules: self.claims.iter().map(rule).collect() };
        reconciler::Settings { claims, ..reconciler::Settings::default() }
    }

    /// Every cluster's settings, by name. [`super::parse`] has checked that they are possible.
    pub fn clusters(&self) -> Vec<ClusterParts> {
        self.clusters
            .0
            .iter()
            .map(|(name, cluster)| self.cluster(&name.0, cluster).expect("the configuration was checked"))
            .collect()
    }

    /// Makes sure that there is a cluster of this name.
    ///
    /// # Errors
    /// If not, with those there are.
    pub fn require_cluster(&self, name: &str) -> Result<(), UnknownCluster> {
        let known: Vec<&str> = self.clusters.0.keys().map(|cluster| cluster.0.as_str()).collect();
        if known.contains(&name) {
            return Ok(());
        }
        Err(UnknownCluster { name: name.to_owned(), known: known.join(", ") })
    }

    /// The observer's settings, with what it must know of every cluster's proxies.
    pub fn observer(&self) -> observer::Settings {
        observer::Settings {
            poll_interval: self.engine.poll_interval.0,
            crash_loop_wait: self.crash_loop_wait.map_or(Duration::ZERO, |wait| wait.0),
            proxies: self.clusters().into_iter().map(|parts| (parts.name, parts.observer)).collect(),
            ..observer::Settings::default()
        }
    }

    /// One cluster's settings.
    pub(super) fn cluster(&self, name: &ClusterName, cluster: &ClusterSettings) -> Result<ClusterParts, Complaint> {
        let networks: Option<BTreeSet<String>> =
            cluster.networks.as_ref().map(|names| names.iter().map(|name| name.0.clone()).collect());
        let nginx = nginx_settings(&cluster.nginx, &cluster.proxy.ports)?;
        let mut proxy = proxy_settings(&cluster.proxy, &cluster.nginx);
        proxy.networks = networks.clone();
        let mut actuator = actuator::Settings::new(self.instance.0.clone(), name.clone(), proxy);
        actuator.registry_auth = cluster.proxy.registry_auth.clone();
        actuator.checks = checks(cluster.proxy.update.check, &actuator.proxy.command)?;
        actuator.object_labels = self.object_labels.0.clone();
        actuator.poll_interval = self.engine.poll_interval.0;
        actuator.rollout_deadline = cluster.proxy.update.deadline.0;
        actuator.soak = cluster.proxy.update.soak.map_or(Duration::ZERO, |soak| soak.0);
        actuator.hold_retry = cluster.proxy.update.retry_after.0;
        let service_cluster = cluster.service_cluster.clone();
        let observer = proxies(&actuator.proxy, service_cluster.clone());
        let refused_labels = cluster.refused_labels.iter().map(|label| label.0.clone()).collect();
        let reconciler = reconciler::ClusterSettings { service_cluster, nginx, networks, refused_labels };
        Ok(ClusterParts { name: name.clone(), reconciler, actuator, observer })
    }
}

/// What the observer must know of the proxies to tell whether a network has room for them.
fn proxies(proxy: &ProxySettings, service_cluster: String) -> observer::Proxies {
    let replicas = match proxy.mode {
        Mode::Replicated(replicas) => Some(replicas),
        Mode::Global => None,
    };
    observer::Proxies {
        service: proxy.service_name.clone(),
        service_cluster,
        replicas,
        // Stop-first, a new proxy gets the address that the old one gives back.
        surge: match proxy.order(&proxy.update) {
            Order::StartFirst => proxy.parallelism(&proxy.update).min(replicas.unwrap_or(u64::MAX)),
            Order::StopFirst => 0,
        },
        vip: match proxy.publish {
            Publish::Ingress => true,
            Publish::Host => false,
        },
    }
}

/// The Engine's endpoint: as named on the command line, with the docker client's variables, or as in the file.
///
/// # Errors
/// When it is no endpoint.
pub fn engine_endpoint(config: &Config, named: Option<&str>) -> Result<engine::Endpoint, engine::EndpointError> {
    match named {
        Some(endpoint) => engine::Endpoint::as_the_client_reads(endpoint),
        None => {
            let tls = config.engine.tls.as_ref().map(|tls| engine::Tls {
                ca: tls.ca.clone(),
                cert: tls.cert.clone(),
                key: tls.key.clone(),
            });
            engine::Endpoint::parse(&config.engine.endpoint.0, tls)
        }
    }
}

/// All that the actuator is to know of nginx beside how it is started.
fn checks(policy: UpdateCheck, command: &[String]) -> Result<Checks, Complaint> {
    let check = nginx::check_command(command);
    if check.is_none() && policy == UpdateCheck::Always {
        let message = "always needs a command that starts nginx itself, since that is run with -t: use auto or never";
        return Err((vec!["proxy", "update", "check"], message.into()));
    }
    Ok(Checks {
        policy: match policy {
            UpdateCheck::Auto => CheckPolicy::Auto,
            UpdateCheck::Always => CheckPolicy::Always,
            UpdateCheck::Never => CheckPolicy::Never,
        },
        command: check.unwrap_or_default(),
        refusal: nginx::REFUSAL.into(),
        beyond: nginx::UNRESOLVED.into(),
        vouched: format!("{}/", nginx::ROUTES_DIRECTORY),
    })
}

fn proxy_settings(proxy: &Proxy, nginx: &Nginx) -> ProxySettings {
    let update = &proxy.update;
    let policy = Policy {
        parallelism: match update.parallelism {
            Parallelism::Auto => None,
            Parallelism::Count(count) => Some(count),
        },
        delay: update.delay.map_or(Duration::ZERO, |delay| delay.0),
        order: match update.order {
            UpdateOrder::Auto => None,
            UpdateOrder::StartFirst => Some(Order::StartFirst),
            UpdateOrder::StopFirst => Some(Order::StopFirst),
        },
        monitor: update.monitor.0,
        max_failure_ratio: 0.0,
        failure_action: match update.failure_action {
            FailureAction::Rollback => settings::FailureAction::Rollback,
            FailureAction::Pause => settings::FailureAction::Pause,
        },
    };
    let host = proxy.publish_mode == PublishMode::Host;
    let mut ports = Vec::new();
    ports.extend(published(proxy.ports.http).map(|published| settings::Port { published, target: HTTP_TARGET }));
    ports.extend(published(proxy.ports.https).map(|published| settings::Port { published, target: HTTPS_TARGET }));
    let mut wanted = ProxySettings::new(proxy.name.0.clone(), proxy.image.0.clone());
    wanted.image_policy = match proxy.image_policy {
        ImagePolicy::Keep => settings::ImagePolicy::Keep,
        ImagePolicy::Follow => settings::ImagePolicy::Follow,
    };
    wanted.command =
        proxy.command.clone().unwrap_or_else(|| nginx::COMMAND.iter().map(|&word| word.to_owned()).collect());
    // In host mode two replicas on one node would wait for the port of the other for ever.
    wanted.mode = if host { Mode::Global } else { Mode::Replicated(proxy.replicas.0) };
    wanted.publish = if host { Publish::Host } else { Publish::Ingress };
    wanted.ports = ports;
    wanted.constraints = proxy.constraints.clone();
    wanted.spread = proxy.spread.clone();
    wanted.rollback = Policy { failure_action: settings::FailureAction::Pause, ..policy };
    wanted.update = policy;
    wanted.stop_signal = proxy.stop_signal.0.clone();
    wanted.stop_grace_period = proxy.stop_grace_period.0;
    wanted.health_check = proxy.health_check.as_ref().map(|check| settings::HealthCheck {
        test: check.test.clone().unwrap_or_else(|| default_test(nginx)),
        interval: check.interval.0,
        timeout: check.timeout.0,
        retries: check.retries.0,
        start_period: check.start_period.0,
    });
    wanted.sysctls = proxy.sysctls.0.clone();
    let names = |capabilities: &[Capability]| capabilities.iter().map(|capability| capability.0.clone()).collect();
    (wanted.capability_drop, wanted.capability_add) = (names(&proxy.cap_drop), names(&proxy.cap_add));
    wanted.labels = proxy.labels.0.clone();
    wanted.container_labels = proxy.container_labels.0.clone();
    wanted.env = proxy.env.0.clone();
    wanted.limits.memory = proxy.resources.memory_limit.map(|size| size.0);
    wanted.reservations.memory = proxy.resources.memory_reservation.map(|size| size.0);
    wanted
}

/// A request to the health path, by whichever of wget (Alpine's and Debian's busybox) and curl (the official
/// image on Debian) the image has. The path is checked to be of harmless characters.
fn default_test(nginx: &Nginx) -> Vec<String> {
    let port = if nginx.proxy_protocol { nginx::HEALTH_PORT } else { HTTP_TARGET };
    let url = format!("http://127.0.0.1:{port}{}", nginx.health_path);
    let line = format!("wget -q -O /dev/null {url} 2>/dev/null || curl -fsS -o /dev/null {url}");
    vec!["CMD-SHELL".into(), line]
}

fn admin_lines(block: &'static str, lines: &[String]) -> Result<Vec<nginx::AdminLine>, Complaint> {
    let line = |line: &String| {
        nginx::AdminLine::parse(line).map_err(|error| (vec!["nginx", "extra", block], error.to_string()))
    };
    lines.iter().map(line).collect()
}

fn published(port: Option<super::Port>) -> Option<u16> {
    port.and_then(|port| u16::try_from(port.0).ok())
}

fn nginx_settings(nginx: &Nginx, ports: &super::Ports) -> Result<nginx::Settings, Complaint> {
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let text = |key: &'static str, word: &super::Word| {
        nginx::Text::parse(&word.0).map_err(|error| (vec!["nginx", key], error.to_string()))
    };
    let trusted_proxies = nginx
        .trusted_proxies
        .iter()
        .map(|network| network.0.parse())
        .collect::<Result<_, model::values::ValueError>>()
        .map_err(|error| (vec!["nginx", "trusted_proxies"], error.to_string()))?;
    let defaults = nginx::Settings::default();
    let settings = nginx::Settings {
        version: nginx::Version { major: nginx.version.0, minor: nginx.version.1, patch: nginx.version.2 },
        user: text("user", &nginx.user)?,
        worker_processes: match nginx.worker_processes {
            Workers::Auto => nginx::Workers::Auto,
            Workers::Count(count) => nginx::Workers::Count(NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN)),
        },
        worker_connections: narrow(nginx.worker_connections.0),
        worker_rlimit_nofile: narrow(nginx.worker_rlimit_nofile.0),
        worker_shutdown_timeout: nginx.worker_shutdown_timeout.0,
        pid_path: defaults.pid_path,
        http_port: NonZeroU16::new(HTTP_TARGET).expect("80 is not 0"),
        https_port: NonZeroU16::new(HTTPS_TARGET).expect("443 is not 0"),
        published_https: published(nginx.https_redirect_port.or(ports.https)).and_then(NonZeroU16::new),
        ssl_protocols: nginx
            .ssl_protocols
            .iter()
            .map(|protocol| match protocol {
                TlsProtocol::V1_0 => nginx::TlsProtocol::V1_0,
                TlsProtocol::V1_1 => nginx::TlsProtocol::V1_1,
                TlsProtocol::V1_2 => nginx::TlsProtocol::V1_2,
                TlsProtocol::V1_3 => nginx::TlsProtocol::V1_3,
            })
            .collect(),
        ssl_ciphers: text("ssl_ciphers", &nginx.ssl_ciphers)?,
        backend_authorities: text("backend_authorities", &nginx.backend_authorities)?,
        ip_hash: nginx.ip_hash,
        dynamic_modules: nginx
            .dynamic_modules
            .iter()
            .map(|module| text("dynamic_modules", module))
            .collect::<Result<_, Complaint>>()?,
        extra: nginx::ExtraLines {
            main: admin_lines("main", &nginx.extra.main)?,
            http: admin_lines("http", &nginx.extra.http)?,
            stream: admin_lines("stream", &nginx.extra.stream)?,
        },
        trailing_slash_redirect: nginx.compat.trailing_slash_redirect,
        proxy_protocol: nginx.proxy_protocol,
        trusted_proxies,
        forwarded: match nginx.forwarded {
            Forwarded::Keep => nginx::Forwarded::Keep,
            Forwarded::Overwrite => nginx::Forwarded::Overwrite,
        },
        health_path: text("health_path", &nginx.health_path)?,
        default_status: defaults.default_status,
        hide_info_headers: nginx.hide_info_headers,
        connect_timeout: nginx.connect_timeout.0,
        send_timeout: nginx.send_timeout.0,
        read_timeout: nginx.read_timeout.0,
        keepalive_timeout: nginx.keepalive_timeout.0,
        upstream_keepalive: narrow(nginx.upstream_keepalive.0),
        upstream_keepalive_timeout: nginx.upstream_keepalive_timeout.0,
        upstream_keepalive_requests: narrow(nginx.upstream_keepalive_requests.0),
        upstream_keepalive_time: nginx.upstream_keepalive_time.0,
        upstream_zone_size: nginx.upstream_zone_size.0,
        client_max_body_size: nginx.client_max_body_size.0,
        client_body_buffer_size: nginx.client_body_buffer_size.0,
        client_body_timeout: nginx.client_body_timeout.0,
        client_header_buffer_size: nginx.client_header_buffer_size.0,
        large_client_header_buffers: nginx::LargeHeaderBuffers {
            number: narrow(nginx.large_client_header_buffers.number.0),
            size: nginx.large_client_header_buffers.size.0,
        },
        proxy_buffer_size: nginx.proxy_buffer_size.0,
        underscores_in_headers: nginx.underscores_in_headers,
        access_log: match nginx.access_log {
            AccessLog::Off => nginx::AccessLog::Off,
            AccessLog::Main => nginx::AccessLog::Main,
            AccessLog::Trace => nginx::AccessLog::Trace,
            AccessLog::Json => nginx::AccessLog::Json,
        },
        error_log_level: match nginx.error_log_level {
            ErrorLogLevel::Error => nginx::ErrorLogLevel::Error,
            ErrorLogLevel::Warn => nginx::ErrorLogLevel::Warn,
            ErrorLogLevel::Notice => nginx::ErrorLogLevel::Notice,
            ErrorLogLevel::Info => nginx::ErrorLogLevel::Info,
        },
    };
    match settings.check() {
        Ok(()) => Ok(settings),
        Err(invalid) => {
            let first = invalid.into_iter().next().expect("a refusal has a reason");
            let value = serde_json::to_value(nginx).map(|known| known[first.setting].clone()).unwrap_or_default();
            let message =
                if value.is_null() { first.message } else { format!("{value} is not possible: {}", first.message) };
            Err((vec!["nginx", first.setting], message))
        }
    }
}
