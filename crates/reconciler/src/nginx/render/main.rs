//! `nginx.conf`: what is said once for all routes.

use model::ProxySpec;

use super::super::names::BUCKET_SIZE;
use super::super::settings::{AccessLog, ErrorLogLevel, Forwarded, Settings, TlsProtocol, Workers};
use super::super::values::AdminLine;
use super::super::writer::{Value, Writer};
use super::{Layout, Names, Overview, routes, streams};

pub(super) fn text(spec: &ProxySpec, overview: &Overview, layout: &Layout<'_>) -> String {
    let settings = layout.settings;
    let mut writer = Writer::default();
    writer.comment("Made by Dovetail; the routes are in the files included below.");
    for module in &settings.dynamic_modules {
        writer.line("load_module", &[Value::Text(module)]);
    }
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
        hashes(writer, overview);
        clients(writer, settings);
        client_addresses(writer, settings);
        writer.blank();
        let way = request_variables(writer, settings);
        writer.blank();
        requests(writer, settings, &way);
        writer.blank();
        responses(writer, settings);
        tls(writer, settings);
        backend_tls(writer, overview, settings);
        if settings.proxy_protocol {
            routes::health_server(writer, settings);
        }
        extra(writer, &settings.extra.http);
        writer.line("include", &[Value::Word("/etc/nginx/dovetail/cookies*.conf")]);
        writer.line("include", &[Value::Word("/etc/nginx/dovetail/routes*.conf")]);
    });
    if layout.passthrough || !settings.extra.stream.is_empty() {
        writer.blank();
        writer.block("stream", &[], |writer| {
            if layout.passthrough {
                streams::block(writer, spec, overview, settings);
            }
            extra(writer, &settings.extra.stream);
        });
    }
    extra(&mut writer, &settings.extra.main);
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
fn hashes(writer: &mut Writer, overview: &Overview) {
    writer.line("server_names_hash_bucket_size", &[Value::Number(bucket_size(&overview.hosts))]);
    writer.line("server_names_hash_max_size", &[Value::Number(table_size(overview.hosts.count, 1024))]);
    writer.line("variables_hash_bucket_size", &[Value::Number(1024)]);
    writer.line("variables_hash_max_size", &[Value::Number(table_size(overview.cookies.things().len(), 2048))]);
}

/// An element is a pointer, a length and the name, padded to pointers. A bucket holds eight of the longest.
pub(super) fn bucket_size(names: &Names) -> u64 {
    let longest = names.lengths.largest().copied().unwrap_or(0) as u64;
    ((longest + 24) * 8).next_power_of_two().max(BUCKET_SIZE)
}

pub(super) fn table_size(count: usize, at_least: u64) -> u64 {
    (count as u64 * 2).next_power_of_two().max(at_least)
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
    real_ip_from(writer, settings);
    let header = if settings.proxy_protocol { "proxy_protocol" } else { "X-Forwarded-For" };
    writer.line("real_ip_header", &[Value::Word(header)]);
    writer.line("real_ip_recursive", &[Value::Word("on")]);
}

/// Whose word is taken; where nobody is named, everybody's.
pub(super) fn real_ip_from(writer: &mut Writer, settings: &Settings) {
    for network in &settings.trusted_proxies {
        writer.line("set_real_ip_from", &[Value::Network(*network)]);
    }
    if settings.trusted_proxies.is_empty() {
        writer.line("set_real_ip_from", &[Value::Word("0.0.0.0/0")]);
    }
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
    // Past the hop by which TLS comes where some of it is passed through, the sender is a socket.
    let entries = [("default", "$realip_remote_addr"), ("unix:", "$proxy_protocol_addr")];
    map(writer, "$realip_remote_addr", "$dovetail_sender", &entries);
    writer.block("geo", &[Value::Word("$dovetail_sender"), Value::Word(trusted)], |writer| {
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
        let entries = [("default", r#""$http_x_forwarded_for, $dovetail_sender""#), ("''", "$dovetail_sender")];
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
    for header in INFO_HEADERS.map(|(header, _)| header) {
        // An application that echoes one of them must not make it two.
        writer.line("proxy_hide_header", &[Value::Word(header)]);
    }
    info_headers(writer, settings);
    writer.blank();
}

/// The headers that a response from an upstream gets, and their values.
const INFO_HEADERS: [(&str, &str); 5] = [
    ("x-request-id", "$dovetail_sent_request_id"),
    ("x-proxy-id", "$dovetail_sent_proxy_id"),
    ("x-server-info", "$dovetail_sent_server_info"),
    ("x-upstream-addr", "$upstream_addr"),
    ("x-upstream-response-time", "$dovetail_sent_time"),
];

/// Adds them: for all servers, and again in each server with an `add_header` of its own.
pub(super) fn info_headers(writer: &mut Writer, settings: &Settings) {
    if settings.hide_info_headers {
        return;
    }
    for (header, value) in INFO_HEADERS {
        writer.line("add_header", &[Value::Word(header), Value::Word(value), Value::Word("always")]);
    }
}

/// How TLS is spoken, whoever the certificate is of.
fn tls(writer: &mut Writer, settings: &Settings) {
    let protocols: Vec<Value<'_>> = settings
        .ssl_protocols
        .iter()
        .map(|protocol| match protocol {
            TlsProtocol::V1_0 => Value::Word("TLSv1"),
            TlsProtocol::V1_1 => Value::Word("TLSv1.1"),
            TlsProtocol::V1_2 => Value::Word("TLSv1.2"),
            TlsProtocol::V1_3 => Value::Word("TLSv1.3"),
        })
        .collect();
    writer.line("ssl_protocols", &protocols);
    writer.line("ssl_ciphers", &[Value::Text(&settings.ssl_ciphers)]);
    writer.line("ssl_session_cache", &[Value::Word("shared:dovetail:10m")]);
    writer.line("ssl_session_timeout", &[Value::Time(std::time::Duration::from_secs(3600))]);
    // Each proxy would have keys of its own, and a ticket resumes a session past the check of a client's certificate
    // in releases of nginx before 1.27.4.
    writer.line("ssl_session_tickets", &[Value::Word("off")]);
    // Whether a request is for another host than the connection.
    let same = r#""~*^(?<named>[^ ]+) \k<named>$""#;
    map(writer, r#""$ssl_server_name $host""#, "$dovetail_misdirected", &[("default", "1"), (same, "''")]);
    writer.line("limit_req_status", &[Value::Number(429)]);
    // A redirect names the path only: behind a balancer, nginx knows neither the scheme nor the port.
    writer.line("absolute_redirect", &[Value::Word("off")]);
    writer.blank();
}

/// Whose certificates are believed of applications that speak TLS. nginx reads all of them for each place where this stands;
/// so it stands here, where 1.23.1 and later read them once, and only while somebody needs it: an image may not have the file.
fn backend_tls(writer: &mut Writer, overview: &Overview, settings: &Settings) {
    if overview.verified > 0 {
        writer.line("proxy_ssl_verify", &[Value::Word("on")]);
        writer.line("proxy_ssl_verify_depth", &[Value::Number(4)]);
        writer.line("proxy_ssl_trusted_certificate", &[Value::Text(&settings.backend_authorities)]);
        writer.blank();
    }
}

fn extra(writer: &mut Writer, lines: &[AdminLine]) {
    for line in lines {
        writer.admin_line(line);
    }
}
