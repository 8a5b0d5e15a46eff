//! TLS that is passed through: `stream` reads the name that a client asks for, and hands the bytes on.
//!
//! The port's own server puts the PROXY protocol in front of every connection, so that the servers of `http` still
//! know the client; a second server, on a socket, takes it off again for applications.

use std::collections::BTreeMap;

use model::{Group, Host, ProxySpec, Tls};

use super::super::settings::Settings;
use super::super::writer::{Upstream, Value, Writer};
use super::{main, upstreams};

/// Where the servers of `http` listen for TLS.
pub(super) const TLS_SOCKET: &str = "unix:/var/run/dovetail-tls.sock";

/// Where connections that are passed through lose the PROXY protocol.
const PASSTHROUGH_SOCKET: &str = "unix:/var/run/dovetail-passthrough.sock";

/// The upstreams, and the table from name to upstream; both by the group's first host.
pub(super) fn texts(spec: &ProxySpec, settings: &Settings) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut all_upstreams, mut all_names) = (BTreeMap::new(), BTreeMap::new());
    for group in spec.groups.iter().chain(default(spec)) {
        // No host holds a parenthesis.
        let key = || group.hosts.first().map_or("(default)", Host::as_str).to_owned();
        let to = match &group.tls {
            Some(Tls::Passthrough) => Value::Upstream(name(group)),
            // It must not go where a star or unknown names go.
            Some(Tls::Terminate { .. }) => Value::Word("''"),
            None => continue,
        };
        if !group.hosts.is_empty() {
            let mut names = Writer::default();
            for host in &group.hosts {
                names.line("", &[Value::MapHost(host), to]);
            }
            all_names.insert(key(), names.finish());
        }
        if !group.passthrough.is_empty() {
            let mut upstreams = Writer::default();
            upstreams::of_stream(&mut upstreams, name(group), &group.passthrough, spec, settings);
            all_upstreams.insert(key(), upstreams.finish());
        }
    }
    (all_upstreams, all_names)
}

/// The default backend, if unknown names are passed through to it.
fn default(spec: &ProxySpec) -> Option<&Group> {
    spec.default_backend.as_ref().filter(|group| !group.passthrough.is_empty())
}

fn name(group: &Group) -> Upstream<'_> {
    Upstream::Passthrough { host: group.hosts.first() }
}

/// The `stream` block of `nginx.conf`, around what is included.
pub(super) fn block(writer: &mut Writer, spec: &ProxySpec, settings: &Settings) {
    let (by_name, to_socket) = ("$dovetail_passthrough", "$dovetail_listener");
    let hosts = || spec.groups.iter().filter(|group| group.tls.is_some()).flat_map(|group| &group.hosts);
    writer.line("map_hash_bucket_size", &[Value::Number(main::bucket_size(hosts()))]);
    writer.line("map_hash_max_size", &[Value::Number((hosts().count() as u64 * 2).next_power_of_two().max(2048))]);
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
    writer.line("proxy_timeout", &[Value::Time(settings.read_timeout)]);
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
        writer.line("proxy_pass", &[Value::Word(to_socket)]);
    });
    writer.block("server", &[], |writer| {
        writer.line("listen", &[Value::Word(PASSTHROUGH_SOCKET), Value::Word("proxy_protocol")]);
        writer.line("ssl_preread", &[Value::Word("on")]);
        writer.line("proxy_pass", &[Value::Word(by_name)]);
    });
    writer.line("include", &[Value::Word("/etc/nginx/dovetail/streams*.conf")]);
}
