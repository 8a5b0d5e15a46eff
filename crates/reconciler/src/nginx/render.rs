//! A spec in nginx's language.
//!
//! # Guarantees
//! - Same spec and settings, same bytes.
//! - What a service's labels hold reaches a file only through [`Writer`].
//! - What can be said once is said once, in `nginx.conf`; a group's text holds only what is its own. A group
//!   whose services change leaves the texts of all others, and `nginx.conf`, as they are.
//! - IPv4 only is listened on: an overlay network has no other addresses for the proxy, and a container without
//!   IPv6 would not start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use model::{BackendMode, Contribution, Group, Host, ProxySpec, ServiceId};

use super::settings::{AccessLog, ErrorLogLevel, Forwarded, Settings, Workers};
use super::writer::{Upstream, Value, Writer};

/// How the proxy's container starts nginx. It goes with [`MAIN_FILE`], which holds `daemon off;`: no second one
/// may come from an image's entrypoint. `-e` keeps nginx from opening a log file before it has read anything.
pub const COMMAND: [&str; 5] = ["nginx", "-e", "/dev/stderr", "-c", MAIN_FILE];

/// The path of the file that includes all others.
pub const MAIN_FILE: &str = "/etc/nginx/nginx.conf";

/// Where the routes are.
pub const ROUTES_DIRECTORY: &str = "/etc/nginx/dovetail";

/// Where the health path is also answered, on loopback, when the HTTP port expects the PROXY protocol.
pub const HEALTH_PORT: u16 = 8718;

/// The bytes of routes in one file, and so the most that one group may need: well under what a config object
/// holds on older engines, 500 KiB.
pub(crate) const PIECE_LIMIT: usize = 400 * 1024;

/// At least the bytes that a service adds to each group that it is in, its hosts and a share of the fixed text
/// included. The law "a group's text is not larger than the weights of its services" has a test below.
pub(crate) fn weight(contribution: &Contribution) -> usize {
    // The fixed text of a group with its longest possible name, which appears five times; a comment has at most
    // 300 characters, of up to four bytes each.
    const FIXED: usize = 1024 + 5 * 264;
    const COMMENT: usize = 4 + 4 * 303;
    const ENDPOINT: usize = "    server [ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535 max_fails=0;\n".len();
    let hosts: usize = contribution.hosts.iter().map(|host| "    server_name ;\n".len() + host.as_str().len()).sum();
    FIXED + COMMENT + hosts + contribution.endpoints.len() * ENDPOINT
}

/// The text of every file, by its path.
pub fn render(spec: &ProxySpec, settings: &Settings) -> BTreeMap<String, String> {
    let mut pieces: BTreeMap<String, String> = spec
        .groups
        .iter()
        .map(|group| (group.first_host().as_str().to_owned(), group_text(group, spec, settings)))
        .collect();
    // No host holds a parenthesis.
    pieces.insert("(default)".to_owned(), default_text(spec, settings));
    let shards = model::split(pieces, PIECE_LIMIT, |text| text.len());
    let mut files: BTreeMap<String, String> = shards
        .into_iter()
        .map(|shard| {
            let suffix = if shard.prefix.is_empty() { String::new() } else { format!("-{}", shard.prefix) };
            let text = shard.pieces.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n");
            (format!("{ROUTES_DIRECTORY}/routes{suffix}.conf"), text)
        })
        .collect();
    files.insert(MAIN_FILE.to_owned(), main_text(spec, settings));
    files
}

// === Routes ===

/// One upstream and one server.
fn group_text(group: &Group, spec: &ProxySpec, settings: &Settings) -> String {
    let name = Upstream::Group(group.first_host());
    let mut writer = Writer::default();
    upstream(&mut writer, name, &group.services, spec, settings);
    writer.block("server", &[], |writer| {
        listen(writer, settings, &[]);
        for host in &group.hosts {
            writer.line("server_name", &[Value::Host(host)]);
        }
        health(writer, settings);
        writer.block("location", &[Value::Word("/")], |writer| writer.line("proxy_pass", &[Value::To(name)]));
    });
    writer.finish()
}

/// Who answers when nobody is named: the default backends, or nginx itself.
fn default_text(spec: &ProxySpec, settings: &Settings) -> String {
    let mut writer = Writer::default();
    if !spec.default_backends.is_empty() {
        upstream(&mut writer, Upstream::Default, &spec.default_backends, spec, settings);
    }
    writer.block("server", &[], |writer| {
        listen(writer, settings, &[Value::Word("default_server")]);
        health(writer, settings);
        writer.block("location", &[Value::Word("/")], |writer| {
            if spec.default_backends.is_empty() {
                writer.line("return", &[Value::Number(settings.default_status.into())]);
            } else {
                writer.line("proxy_pass", &[Value::To(Upstream::Default)]);
            }
        });
    });
    writer.finish()
}

fn upstream(writer: &mut Writer, name: Upstream<'_>, services: &[ServiceId], spec: &ProxySpec, settings: &Settings) {
    let none = BTreeSet::new();
    let endpoints = |id: &ServiceId| spec.endpoints.get(id).unwrap_or(&none);
    let servers: usize = services.iter().map(|id| endpoints(id).len()).sum();
    writer.block("upstream", &[Value::Upstream(name)], |writer| {
        writer.line("zone", &[Value::Upstream(name), Value::Size(zone_size(servers, settings))]);
        for id in services {
            let from = spec.contributions.get(id);
            if let Some(Contribution { name, mode, network, .. }) = from.map(|from| &**from) {
                writer.comment(&format!("{name}, service {id}, {} over network {network}", mode.as_str()));
            }
            let vip = from.is_some_and(|from| from.mode == BackendMode::Vip);
            for endpoint in endpoints(id) {
                let endpoint = Value::Endpoint(*endpoint);
                if vip {
                    // Behind it is a whole service: one task's failure must not set it aside.
                    writer.line("server", &[endpoint, Value::Parameter("max_fails", 0)]);
                } else {
                    writer.line("server", &[endpoint]);
                }
            }
        }
        if settings.upstream_keepalive > 0 {
            writer.line("keepalive", &[Value::Number(settings.upstream_keepalive.into())]);
            writer.line("keepalive_timeout", &[Value::Time(settings.upstream_keepalive_timeout)]);
            writer.line("keepalive_requests", &[Value::Number(settings.upstream_keepalive_requests.into())]);
            writer.line("keepalive_time", &[Value::Time(settings.upstream_keepalive_time)]);
        }
    });
    writer.blank();
}

/// A server takes less than 1 KiB of the zone; a zone that is too small keeps nginx from starting. Rounded, so
/// that the line does not change with every task.
fn zone_size(servers: usize, settings: &Settings) -> u64 {
    let needed = (servers as u64 * 1024 + 32 * 1024).next_power_of_two();
    needed.max(settings.upstream_zone_size.next_multiple_of(4096))
}

fn listen(writer: &mut Writer, settings: &Settings, how: &[Value<'_>]) {
    let mut values = vec![Value::Number(settings.http_port.get().into())];
    values.extend(how);
    if settings.proxy_protocol {
        values.push(Value::Word("proxy_protocol"));
    }
    writer.line("listen", &values);
}

/// The container's own health check cannot speak the PROXY protocol, so it gets a listener of its own.
fn health_server(writer: &mut Writer, settings: &Settings) {
    writer.block("server", &[], |writer| {
        writer.line("listen", &[Value::Endpoint(SocketAddr::from(([127, 0, 0, 1], HEALTH_PORT)))]);
        health(writer, settings);
    });
}

fn health(writer: &mut Writer, settings: &Settings) {
    writer.block("location", &[Value::Word("="), Value::Text(&settings.health_path)], |writer| {
        writer.line("access_log", &[Value::Word("off")]);
        writer.line("return", &[Value::Number(200), Value::Format(r"ok\n")]);
    });
}

// === nginx.conf ===

fn main_text(spec: &ProxySpec, settings: &Settings) -> String {
    let mut writer = Writer::default();
    writer.comment("Made by Dovetail; the routes are in the files included below.");
    writer.line("daemon", &[Value::Word("off")]);
    writer.line("user", &[Value::Text(&settings.user)]);
    let workers = match settings.worker_processes {
        Workers::Auto => Value::Word("auto"),
        Workers::Count(count) => Value::Number(count.get().into()),
    };
    writer.line("worker_processes", &[workers]);
    writer.line("worker_rlimit_nofile", &[Value::Number(settings.worker_rlimit_nofile.into())]);
    writer.line("worker_shutdown_timeout", &[Value::Time(settings.worker_shutdown_timeout)]);
    writer.line("pid", &[Value::Text(&settings.pid_path)]);
    let level = match settings.error_log_level {
        ErrorLogLevel::Error => "error",
        ErrorLogLevel::Warn => "warn",
        ErrorLogLevel::Notice => "notice",
        ErrorLogLevel::Info => "info",
    };
    writer.line("error_log", &[Value::Word("/dev/stderr"), Value::Word(level)]);
    writer.blank();
    writer.block("events", &[], |writer| {
        writer.line("worker_connections", &[Value::Number(settings.worker_connections.into())]);
    });
    writer.blank();
    writer.block("http", &[], |writer| {
        logs(writer, settings);
        hashes(writer, spec);
        clients(writer, settings);
        client_addresses(writer, settings);
        writer.blank();
        let way = request_variables(writer, settings);
        writer.blank();
        requests(writer, settings, &way);
        writer.blank();
        responses(writer, settings);
        if settings.proxy_protocol {
            health_server(writer, settings);
        }
        writer.line("include", &[Value::Word("/etc/nginx/dovetail/routes*.conf")]);
    });
    writer.finish()
}

fn logs(writer: &mut Writer, settings: &Settings) {
    const MAIN: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for""#;
    const TRACE: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for" $dovetail_request_id $msec $request_time $upstream_connect_time $upstream_header_time $upstream_response_time"#;
    const JSON: &str = r#"{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","host":"$host","uri":"$request_uri","protocol":"$server_protocol","status":"$status","bytes":"$body_bytes_sent","request_time":"$request_time","request_id":"$dovetail_request_id","upstream_addr":"$upstream_addr","upstream_status":"$upstream_status","upstream_connect_time":"$upstream_connect_time","upstream_header_time":"$upstream_header_time","upstream_response_time":"$upstream_response_time","referer":"$http_referer","user_agent":"$http_user_agent","forwarded_for":"$http_x_forwarded_for"}"#;
    let (name, format) = match settings.access_log {
        AccessLog::Off => return writer.line("access_log", &[Value::Word("off")]),
        AccessLog::Main => ("main", vec![Value::Format(MAIN)]),
        AccessLog::Trace => ("trace", vec![Value::Format(TRACE)]),
        AccessLog::Json => ("json", vec![Value::Word("escape=json"), Value::Format(JSON)]),
    };
    writer.line("log_format", &[&[Value::Word(name)], &*format].concat());
    writer.line("access_log", &[Value::Word("/dev/stdout"), Value::Word(name)]);
}

/// The tables of names. A bucket that is too small for a name keeps nginx from starting; sizes go in powers of
/// two, with room, so that `nginx.conf` seldom changes because a host came.
fn hashes(writer: &mut Writer, spec: &ProxySpec) {
    let hosts = || spec.groups.iter().flat_map(|group| &group.hosts);
    let longest = hosts().map(|host: &Host| host.as_str().len()).max().unwrap_or(0) as u64;
    // An element is a pointer, a length and the name, padded to pointers. A bucket holds eight of the longest.
    let bucket = ((longest + 24) * 8).next_power_of_two().max(1024);
    let count = (hosts().count() as u64 * 2).next_power_of_two().max(1024);
    writer.line("server_names_hash_bucket_size", &[Value::Number(bucket)]);
    writer.line("server_names_hash_max_size", &[Value::Number(count)]);
    writer.line("variables_hash_bucket_size", &[Value::Number(128)]);
    writer.line("variables_hash_max_size", &[Value::Number(2048)]);
}

/// How clients are treated.
fn clients(writer: &mut Writer, settings: &Settings) {
    let on = |on| Value::Word(if on { "on" } else { "off" });
    let large = settings.large_client_header_buffers;
    writer.line("server_tokens", &[on(false)]);
    writer.line("default_type", &[Value::Word("text/plain")]);
    writer.line("tcp_nodelay", &[on(true)]);
    writer.line("keepalive_timeout", &[Value::Time(settings.keepalive_timeout)]);
    writer.line("send_timeout", &[Value::Time(settings.send_timeout)]);
    writer.line("client_max_body_size", &[Value::Size(settings.client_max_body_size)]);
    writer.line("client_body_buffer_size", &[Value::Size(settings.client_body_buffer_size)]);
    writer.line("client_body_timeout", &[Value::Time(settings.client_body_timeout)]);
    writer.line("client_header_buffer_size", &[Value::Size(settings.client_header_buffer_size)]);
    writer.line("large_client_header_buffers", &[Value::Number(large.number.into()), Value::Size(large.size)]);
    writer.line("underscores_in_headers", &[on(settings.underscores_in_headers)]);
}

/// Whose word on the client's address is taken.
fn client_addresses(writer: &mut Writer, settings: &Settings) {
    if settings.trusted_proxies.is_empty() && !settings.proxy_protocol {
        return;
    }
    for network in &settings.trusted_proxies {
        writer.line("set_real_ip_from", &[Value::Network(*network)]);
    }
    if settings.trusted_proxies.is_empty() {
        writer.line("set_real_ip_from", &[Value::Word("0.0.0.0/0")]);
    }
    let header = if settings.proxy_protocol { "proxy_protocol" } else { "X-Forwarded-For" };
    writer.line("real_ip_header", &[Value::Word(header)]);
    writer.line("real_ip_recursive", &[Value::Word("on")]);
}

/// The variables that hold what a request to an upstream says about its way.
struct Way {
    forwarded_for: &'static str,
    proto: &'static str,
}

/// Defines what requests to upstreams carry, in variables of ours.
fn request_variables(writer: &mut Writer, settings: &Settings) -> Way {
    // Only WebSockets: passing on any `Upgrade` would let h2c through, and with it requests that nginx never sees.
    map(writer, "$http_upgrade", "$dovetail_upgrade", &[("default", "''"), ("websocket", "websocket")]);
    // Without an upgrade no `Connection` is sent, and the connection is kept.
    map(writer, "$http_upgrade", "$dovetail_connection", &[("default", "''"), ("websocket", "upgrade")]);
    // The client's `Host` with its port, as long as it is the host that the request was routed by: a request that
    // names another one in its first line must not reach the application under a host that is not its own. A
    // request of HTTP/1.0 may have none, and one of HTTP/1.1 to the upstream must.
    let same = r#""~*^(?<routed>[^ ]+) \k<routed>\.?(:[0-9]+)?$""#;
    let entries = [("default", "$host"), (same, "$http_host"), (r#""~^ ""#, "$server_addr")];
    map(writer, r#""$host $http_host""#, "$dovetail_host", &entries);
    let (request_id, their_proto, forwarded_for) = match settings.forwarded {
        Forwarded::Overwrite => {
            map(writer, "$request_id", "$dovetail_request_id", &[("default", "$request_id")]);
            return Way { forwarded_for: "$remote_addr", proto: "$scheme" };
        }
        Forwarded::Keep if settings.trusted_proxies.is_empty() => {
            ("$http_x_request_id", "$http_x_forwarded_proto", "$proxy_add_x_forwarded_for")
        }
        Forwarded::Keep => {
            trusted_variables(writer, settings);
            ("$dovetail_their_request_id", "$dovetail_their_proto", "$dovetail_forwarded_for")
        }
    };
    map(writer, their_proto, "$dovetail_proto", &[("default", their_proto), ("''", "$scheme")]);
    let sane = r#""~^[A-Za-z0-9._:=+/@-]{1,128}$""#;
    map(writer, request_id, "$dovetail_request_id", &[("default", "$request_id"), (sane, request_id)]);
    Way { forwarded_for, proto: "$dovetail_proto" }
}

/// What a request says about its way, if a trusted balancer sent it.
fn trusted_variables(writer: &mut Writer, settings: &Settings) {
    let trusted = "$dovetail_trusted";
    writer.block("geo", &[Value::Word("$realip_remote_addr"), Value::Word(trusted)], |writer| {
        writer.line("default", &[Value::Number(0)]);
        for network in &settings.trusted_proxies {
            writer.line("", &[Value::Network(*network), Value::Number(1)]);
        }
    });
    map(writer, trusted, "$dovetail_their_request_id", &[("default", "''"), ("1", "$http_x_request_id")]);
    map(writer, trusted, "$dovetail_their_proto", &[("default", "''"), ("1", "$http_x_forwarded_proto")]);
    let added = if settings.proxy_protocol {
        // It balances connections, and the client is the last that the list can name.
        "$proxy_add_x_forwarded_for"
    } else {
        // The client is in the list already; what is missing in it is the balancer itself.
        let entries = [("default", r#""$http_x_forwarded_for, $realip_remote_addr""#), ("''", "$realip_remote_addr")];
        map(writer, "$http_x_forwarded_for", "$dovetail_added_forwarded_for", &entries);
        "$dovetail_added_forwarded_for"
    };
    map(writer, trusted, "$dovetail_forwarded_for", &[("default", "$remote_addr"), ("1", added)]);
}

fn map(writer: &mut Writer, from: &'static str, to: &'static str, entries: &[(&'static str, &'static str)]) {
    writer.block("map", &[Value::Word(from), Value::Word(to)], |writer| {
        for (key, value) in entries {
            writer.line(key, &[Value::Word(value)]);
        }
    });
}

/// How requests are passed on.
fn requests(writer: &mut Writer, settings: &Settings, way: &Way) {
    writer.line("proxy_http_version", &[Value::Word("1.1")]);
    for (header, value) in [
        ("Host", "$dovetail_host"),
        ("Upgrade", "$dovetail_upgrade"),
        ("Connection", "$dovetail_connection"),
        ("X-Real-IP", "$remote_addr"),
        ("X-Forwarded-For", way.forwarded_for),
        ("X-Forwarded-Proto", way.proto),
        ("X-Request-ID", "$dovetail_request_id"),
        // Applications of the CGI kind would take a client's `Proxy` for their HTTP_PROXY.
        ("Proxy", "''"),
    ] {
        writer.line("proxy_set_header", &[Value::Word(header), Value::Word(value)]);
    }
    if settings.forwarded == Forwarded::Overwrite {
        // The other headers in which a client could claim the same things.
        for header in ["Forwarded", "X-Forwarded-Host", "X-Forwarded-Port"] {
            writer.line("proxy_set_header", &[Value::Word(header), Value::Word("''")]);
        }
    }
    writer.line("proxy_connect_timeout", &[Value::Time(settings.connect_timeout)]);
    writer.line("proxy_send_timeout", &[Value::Time(settings.send_timeout)]);
    writer.line("proxy_read_timeout", &[Value::Time(settings.read_timeout)]);
    writer.line("proxy_socket_keepalive", &[Value::Word("on")]);
    writer.line("proxy_redirect", &[Value::Word("off")]);
    writer.line("proxy_buffer_size", &[Value::Size(settings.proxy_buffer_size)]);
    writer.line("proxy_buffers", &[Value::Number(8), Value::Size(settings.proxy_buffer_size)]);
    // What an upstream answers is passed on, whatever its status: nginx counts a retried status as a failure, and
    // an application that answers 503 on one path would be set aside as a whole. POST and its like are tried again
    // only if nothing was sent (no `non_idempotent`).
    let when = [Value::Word("error"), Value::Word("timeout"), Value::Word("invalid_header")];
    writer.line("proxy_next_upstream", &when);
    writer.line("proxy_next_upstream_tries", &[Value::Number(3)]);
    writer.line("proxy_next_upstream_timeout", &[Value::Time(settings.connect_timeout * 3)]);
}

/// What responses tell about the way they came. An empty header is not sent, so these stand here once, and only
/// responses that come from an upstream, or from its failing, carry them. A `location` with an `add_header` of its
/// own would have to repeat them.
fn responses(writer: &mut Writer, settings: &Settings) {
    if settings.hide_info_headers {
        return;
    }
    let proxied = |value| [("default", value), ("''", "''")];
    map(writer, "$upstream_addr", "$dovetail_sent_request_id", &proxied("$dovetail_request_id"));
    map(writer, "$upstream_addr", "$dovetail_sent_proxy_id", &proxied("$hostname"));
    map(writer, "$upstream_addr", "$dovetail_sent_server_info", &proxied("dovetail"));
    // Where no header came, as in a 502, the time until that was clear.
    let time = [("default", "$upstream_header_time"), (r#""~^[-,: ]*$""#, "$upstream_response_time")];
    map(writer, "$upstream_header_time", "$dovetail_sent_time", &time);
    writer.blank();
    for (header, value) in [
        ("x-request-id", "$dovetail_sent_request_id"),
        ("x-proxy-id", "$dovetail_sent_proxy_id"),
        ("x-server-info", "$dovetail_sent_server_info"),
        ("x-upstream-addr", "$upstream_addr"),
        ("x-upstream-response-time", "$dovetail_sent_time"),
    ] {
        // An application that echoes one of them must not make it two.
        writer.line("proxy_hide_header", &[Value::Word(header)]);
        writer.line("add_header", &[Value::Word(header), Value::Word(value), Value::Word("always")]);
    }
    writer.blank();
}

#[cfg(test)]
mod tests;
