//! What becomes of each of Interlock's options: one line an option, in the order in which ours are written.

use super::values::{
    Reader, access_log, any_text, ciphers, connect_timeout, delay, flag, go_time, grace, header_buffers,
    keepalive_timeout, kilobytes, lines, nginx_time, port, preferences, protocols, publish_mode, seconds,
    service_labels, size, stop_signal, target_port, text, texts, whole, workers,
};

/// An option of Interlock's.
pub struct Rule {
    /// Its name.
    pub option: &'static str,
    /// What becomes of it.
    pub becomes: Becomes,
}

/// What becomes of an option.
pub enum Becomes {
    /// A key of ours, by its path below the top or below the cluster.
    Key(&'static str, Reader),
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// It is looked at together with others.
    Elsewhere,
}

use Becomes::{Elsewhere, Key, Nothing};

const fn rule(option: &'static str, becomes: Becomes) -> Rule {
    Rule { option, becomes }
}

const NO_EXTENSION: &str = "there is no extension service: the operator renders the files itself";
const NO_GRPC: &str = "nobody asks the operator over gRPC";
const FORMATS: &str = "the formats are those of nginx.access_log: main, trace and json";
const HAPROXY: &str = "it is an option of the HAProxy extension";
const NO_DH: &str = "the ciphers of TLS 1.2 and 1.3 need no parameters";

/// Options at the top of the file.
pub const CORE: &[Rule] = &[
    rule("DockerURL", Key("engine.endpoint", text)),
    rule("PollInterval", Key("engine.poll_interval", go_time)),
    rule("TLSCACert", Elsewhere),
    rule("TLSCert", Elsewhere),
    rule("TLSKey", Elsewhere),
    rule("AllowInsecure", Elsewhere),
    rule("ListenAddr", Nothing(NO_GRPC)),
    rule("EndpointOverride", Nothing(NO_GRPC)),
    rule("Extensions", Elsewhere),
];

/// Options of `[Extensions.<name>]`.
pub const EXTENSION: &[Rule] = &[
    rule("ServiceCluster", Key("service_cluster", any_text)),
    rule("Networks", Key("networks", texts)),
    rule("ProxyServiceName", Elsewhere),
    rule("ProxyImage", Elsewhere),
    rule("PublishMode", Key("proxy.publish_mode", publish_mode)),
    rule("ProxyReplicas", Key("proxy.replicas", whole::<0, 1000>)),
    rule("PublishedPort", Key("proxy.ports.http", port)),
    rule("PublishedSSLPort", Key("proxy.ports.https", port)),
    rule("TargetPort", Key("", target_port)),
    rule("TargetSSLPort", Key("", target_port)),
    rule("ProxyConstraints", Key("proxy.constraints", texts)),
    rule("ProxyPlacementPreferences", Key("proxy.spread", preferences)),
    rule("ProxyUpdateDelay", Key("proxy.update.delay", delay)),
    rule("ProxyStopSignal", Key("proxy.stop_signal", stop_signal)),
    rule("ProxyStopGracePeriod", Key("proxy.stop_grace_period", grace)),
    rule("ProxyLabels", Key("proxy.labels", service_labels)),
    rule("ProxyContainerLabels", Key("proxy.container_labels", service_labels)),
    rule("ProxyArgs", Nothing("the proxies' command is Dovetail's own, or proxy.command")),
    rule("ProxyConfigPath", Nothing("the files have places of their own")),
    rule("Image", Nothing(NO_EXTENSION)),
    rule("Args", Nothing(NO_EXTENSION)),
    rule("Labels", Nothing(NO_EXTENSION)),
    rule("ContainerLabels", Nothing(NO_EXTENSION)),
    rule("Constraints", Nothing(NO_EXTENSION)),
    rule("PlacementPreferences", Nothing(NO_EXTENSION)),
    rule("ServiceName", Nothing(NO_EXTENSION)),
    rule("Template", Nothing("nginx files are not made from a template")),
    rule(
        "HitlessServiceUpdate",
        Nothing("new proxies start before old ones stop, and services in VIP mode do not touch them at all"),
    ),
    rule("ConfigImage", Nothing("there is no config service")),
    rule("ConfigServiceName", Nothing("there is no config service")),
    rule("Config", Elsewhere),
];

/// Options of `[Extensions.<name>.Config]`.
pub const NGINX: &[Rule] = &[
    rule("User", Key("nginx.user", text)),
    rule("WorkerProcesses", Key("nginx.worker_processes", workers)),
    rule("MaxConnections", Key("nginx.worker_connections", whole::<64, 1_000_000>)),
    rule("RLimitNoFile", Key("nginx.worker_rlimit_nofile", whole::<64, 10_000_000>)),
    rule("ConnectTimeout", Key("nginx.connect_timeout", connect_timeout)),
    rule("SendTimeout", Key("nginx.send_timeout", seconds)),
    rule("ReadTimeout", Key("nginx.read_timeout", seconds)),
    rule("KeepaliveTimeout", Key("nginx.keepalive_timeout", keepalive_timeout)),
    rule("UpstreamZoneSize", Key("nginx.upstream_zone_size", kilobytes)),
    rule("ClientMaxBodySize", Key("nginx.client_max_body_size", size::<0>)),
    rule("ClientBodyBufferSize", Key("nginx.client_body_buffer_size", size::<1024>)),
    rule("ClientBodyTimeout", Key("nginx.client_body_timeout", nginx_time)),
    rule("ClientHeaderBufferSize", Key("nginx.client_header_buffer_size", size::<512>)),
    rule("LargeClientHeaderBuffers", Key("nginx.large_client_header_buffers", header_buffers)),
    rule("UnderscoresInHeaders", Key("nginx.underscores_in_headers", flag)),
    rule("HideInfoHeaders", Key("nginx.hide_info_headers", flag)),
    rule("SSLProtocols", Key("nginx.ssl_protocols", protocols)),
    rule("SSLCiphers", Key("nginx.ssl_ciphers", ciphers)),
    rule("AccessLogPath", Key("nginx.access_log", access_log)),
    rule("GlobalOptions", Elsewhere),
    rule("HTTPOptions", Key("nginx.extra.http", lines)),
    rule("TCPOptions", Key("nginx.extra.stream", lines)),
    rule("IPHash", Key("nginx.ip_hash", flag)),
    rule("ErrorLogPath", Nothing("proxies log to their standard output; how much is nginx.error_log_level")),
    rule("MainLogFormat", Nothing(FORMATS)),
    rule("TraceLogFormat", Nothing(FORMATS)),
    rule("PidPath", Nothing("nobody outside its container sees it")),
    rule("HTTPVersion", Nothing("applications are always spoken to in HTTP/1.1")),
    rule("SSLOpts", Nothing("what it says has a place in nginx.ssl_protocols, nginx.ssl_ciphers or nginx.extra.http")),
    rule("SSLDefaultDHParam", Nothing(NO_DH)),
    rule("SSLDefaultDHParamPath", Nothing(NO_DH)),
    rule("SSLVerify", Nothing("clients need a certificate where a service says com.docker.lb.client_ca_cert")),
    rule("ServerNamesHashBucketSize", Nothing("it follows the names")),
    rule("Version", Nothing("it never had an effect; the version of nginx is nginx.version")),
    rule("AdminUser", Nothing("it never had an effect with nginx")),
    rule("AdminPass", Nothing("it never had an effect with nginx")),
    rule("ClientTimeout", Nothing(HAPROXY)),
    rule("ServerTimeout", Nothing(HAPROXY)),
    rule("DefaultOptions", Nothing(HAPROXY)),
];

#[cfg(test)]
mod tests {
    use super::*;

    const GUIDE: &str = include_str!("../../../../docs/migration.md");

    #[test]
    fn the_guide_tells_what_becomes_of_every_option() {
        let haproxy = |becomes: &Becomes| matches!(becomes, Nothing(reason) if *reason == HAPROXY);
        for rule in CORE.iter().chain(EXTENSION).chain(NGINX).filter(|rule| !haproxy(&rule.becomes)) {
            let told = match rule.option {
                "Extensions" => GUIDE.contains("`[Extensions.NAME]`"),
                // The table it stands for.
                "Config" => true,
                option => GUIDE.contains(&format!("`{option}`")) || GUIDE.contains(&format!("`{option} = ")),
            };
            assert!(told, "docs/migration.md does not name {}", rule.option);
        }
    }

    #[test]
    fn the_guide_names_every_label() {
        for label in model::labels::ROUTING {
            let short = label.strip_prefix(model::labels::PREFIX).expect("it is a routing label");
            assert!(GUIDE.contains(&format!("`{short}`")), "docs/migration.md does not name {short}");
        }
    }

    #[test]
    fn no_option_has_two_rules() {
        for rules in [CORE, EXTENSION, NGINX] {
            let mut names: Vec<String> = rules.iter().map(|rule| rule.option.to_lowercase()).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), rules.len());
        }
    }
}
