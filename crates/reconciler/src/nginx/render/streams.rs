//! TLS that is passed through: `stream` reads the name that a client asks for, and hands the bytes on.
//!
//! The port's own server puts the PROXY protocol in front of every connection, so that the servers of `http` still
//! know the client; a second server, on a socket, takes it off again for applications.

use std::time::Duration;

use model::{Group, ProxySpec, Tls};

use super::super::settings::Settings;
use super::super::writer::{Upstream, Value, Writer};
use super::{Overview, main, upstreams};

/// Where the servers of `http` listen for TLS.
pub(super) const TLS_SOCKET: &str = "unix:/var/run/dovetail-tls.sock";

/// Where connections that are passed through lose the PROXY protocol.
const PASSTHROUGH_SOCKET: &str = "unix:/var/run/dovetail-passthrough.sock";

/// How long a connection may be silent on its way to one of these sockets: as long as the label `timeout` can allow. What
/// listens there has times of its own, and the connections of all services over TLS come this way.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The upstream of a group whose bytes are passed through.
pub(super) fn upstream_text(group: &Group, spec: &ProxySpec, settings: &Settings) -> Option<String> {
    if group.passthrough.is_empty() {
        return None;
    }
    let mut writer = Writer::default();
    upstreams::of_stream(&mut writer, name(group), &group.passthrough, spec, settings);
    Some(writer.finish())
}

/// A group's part of the table from name to upstream.
pub(super) fn names_text(group: &Group) -> Option<String> {
    let to = match group.tls.as_ref()? {
        Tls::Passthrough => Value::Upstream(name(group)),
        // It must not go where a star or unknown names go.
        Tls::Terminate { .. } => Value::Word("''"),
    };
    let mut writer = Writer::default();
    for host in &group.hosts {
        writer.line("", &[Value::MapHost(host), to]);
    }
    (!group.hosts.is_empty()).then(|| writer.finish())
}

/// The default backend, if unknown names are passed through to it.
fn default(spec: &ProxySpec) -> Option<&Group> {
    spec.default_backend.as_deref().filter(|group| !group.passthrough.is_empty())
}

fn name(group: &Group) -> Upstream<'_> {
    Upstream::Passthrough { host: group.hosts.first() }
}

/// The `stream` block of `nginx.conf`, around what is included.
pub(super) fn block(writer: &mut Writer, spec: &ProxySpec, overview: &Overview, settings: &Settings) {
    let (by_name, to_socket) = ("$dovetail_passthrough", "$dovetail_listener");
    writer.line("map_hash_bucket_size", &[Value::Number(main::bucket_size(&overview.tls))]);
    writer.line("map_hash_max_size", &[Value::Number(main::table_size(overview.tls.count, 2048))]);
    writer.block("map", &[Value::Word("$ssl_preread_server_name"), Value::Word(by_name)], |writer| {
        writer.line("hostnames", &[]);
        if let Some(group) = default(spec) {
            writer.line("default", &[Value::Upstream(name(group))]);
        }
        writer.line("include", &[Value::Word("/etc/nginx/dovetail/passthrough*.map")]);
    });
    writer.block("map", &[Value::Word(by_name), Value::Word(to_socket)], |writer| {
        writer.line("default", &[Value::Word(PASSTHROUGH_SOCKET)]);
        writer.line("''", &[Value::Word(TLS_SOCKET)]);
    });
    writer.line("proxy_connect_timeout", &[Value::Time(settings.connect_timeout)]);
    writer.line("proxy_socket_keepalive", &[Value::Word("on")]);
    writer.line("tcp_nodelay", &[Value::Word("on")]);
    writer.block("server", &[], |writer| {
        let mut listen = vec![Value::Number(settings.https_port.get().into()), Value::Word("so_keepalive=on")];
        if settings.proxy_protocol {
            listen.push(Value::Word("proxy_protocol"));
        }
        writer.line("listen", &listen);
        if settings.proxy_protocol {
            main::real_ip_from(writer, settings);
        }
        writer.line("ssl_preread", &[Value::Word("on")]);
        writer.line("proxy_protocol", &[Value::Word("on")]);
        writer.line("proxy_timeout", &[Value::Time(LONGEST)]);
        writer.line("proxy_pass", &[Value::Word(to_socket)]);
    });
    writer.block("server", &[], |writer| {
        writer.line("listen", &[Value::Word(PASSTHROUGH_SOCKET), Value::Word("proxy_protocol")]);
        writer.line("ssl_preread", &[Value::Word("on")]);
        writer.line("proxy_timeout", &[Value::Time(settings.read_timeout)]);
        writer.line("proxy_pass", &[Value::Word(by_name)]);
    });
    writer.line("include", &[Value::Word("/etc/nginx/dovetail/streams*.conf")]);
}
