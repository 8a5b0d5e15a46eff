//! The servers of `http`: who answers which host, path by path.

use std::net::SocketAddr;

use model::values::{Path, RedirectTo, Scheme};
use model::{BackendTls, Group, Host, ProxySpec, Route, Tls};

use super::super::settings::Settings;
use super::super::values::Version;
use super::super::writer::{Upstream, Value, Writer};
use super::{HEALTH_PORT, Layout, main, streams, upstreams};

/// The upstreams and servers of a group; empty if all it wants is that its bytes are passed through.
pub(super) fn group_text(group: &Group, spec: &ProxySpec, layout: &Layout<'_>) -> String {
    let mut writer = Writer::default();
    group_upstreams(&mut writer, group, spec, layout);
    let names = |writer: &mut Writer| {
        for host in &group.hosts {
            writer.line("server_name", &[Value::Host(host)]);
        }
    };
    let (plain, over_tls) = (plain(group), over_tls(group));
    if alike(group, plain, over_tls, layout) {
        writer.block("server", &[], |writer| {
            listen(writer, layout.settings, &[]);
            listen_tls(writer, layout, &[]);
            names(writer);
            certificate(writer, group);
            answers(writer, group, Answers::Routes, layout);
        });
        return writer.finish();
    }
    if let Some(answered) = plain {
        writer.block("server", &[], |writer| {
            listen(writer, layout.settings, &[]);
            names(writer);
            answers(writer, group, answered, layout);
        });
    }
    if let Some(answered) = over_tls {
        writer.block("server", &[], |writer| {
            listen_tls(writer, layout, &[]);
            names(writer);
            certificate(writer, group);
            strict_transport_security(writer, group, layout.settings);
            answers(writer, group, answered, layout);
        });
    }
    writer.finish()
}

/// Who answers when nobody is named: the default backends, or nginx itself. Over TLS nobody answers, unless a default
/// backend has a certificate.
pub(super) fn default_text(spec: &ProxySpec, layout: &Layout<'_>) -> String {
    let mut writer = Writer::default();
    let group = spec.default_backend.as_deref();
    if let Some(group) = group {
        group_upstreams(&mut writer, group, spec, layout);
    }
    // Probes are asked for once for all servers of a port. On the routing mesh clients come through IPVS too, which
    // forgets a connection that is idle for 900 s; the container's net.ipv4.tcp_keepalive_time says when they come.
    let default_server = [Value::Word("default_server"), Value::Word("so_keepalive=on")];
    writer.block("server", &[], |writer| {
        listen(writer, layout.settings, &default_server);
        match group.and_then(|group| plain(group).map(|answered| (group, answered))) {
            Some((group, answered)) => answers(writer, group, answered, layout),
            None => {
                health(writer, layout.settings);
                let status = Value::Number(layout.settings.default_status.into());
                writer.block("location", &[Value::Word("/")], |writer| writer.line("return", &[status]));
            }
        }
    });
    writer.block("server", &[], |writer| {
        listen_tls(writer, layout, &default_server);
        match group.and_then(|group| over_tls(group).map(|answered| (group, answered))) {
            Some((group, answered)) => {
                certificate(writer, group);
                if certified(group) {
                    // In releases before 1.27.4 a session that this server began could be resumed for another host, past
                    // the check of the certificate that is wanted there.
                    writer.line("ssl_session_cache", &[Value::Word("off")]);
                }
                strict_transport_security(writer, group, layout.settings);
                answers(writer, group, answered, layout);
            }
            None => {
                writer.line("ssl_reject_handshake", &[Value::Word("on")]);
                // A connection that was made for another host: browsers share one where a certificate is for both.
                // Told so, they make one of its own, which may be passed through.
                writer.block("location", &[Value::Word("/")], |writer| {
                    writer.line("return", &[Value::Number(421)]);
                });
            }
        }
    });
    writer.finish()
}

// === Which answers on which listener ===

/// What a server answers with.
#[derive(Clone, Copy)]
enum Answers<'a> {
    Routes,
    /// 302 to another host.
    Redirect(&'a RedirectTo),
    /// The same over TLS.
    ToTls,
}

/// What is answered over plain HTTP; none: nothing.
fn plain(group: &Group) -> Option<Answers<'_>> {
    if let Some(redirect) = redirect(group, Scheme::Http) {
        return Some(Answers::Redirect(redirect));
    }
    if tls_only(group) {
        return Some(Answers::ToTls);
    }
    (!group.routes.is_empty()).then_some(Answers::Routes)
}

/// What is answered over TLS that ends here.
fn over_tls(group: &Group) -> Option<Answers<'_>> {
    if !matches!(group.tls, Some(Tls::Terminate { .. })) {
        return None;
    }
    Some(redirect(group, Scheme::Https).map_or(Answers::Routes, Answers::Redirect))
}

/// Whether any request is answered with the group's redirect.
pub(crate) fn is_redirected(group: &Group) -> bool {
    [plain(group), over_tls(group)].into_iter().flatten().any(|answered| matches!(answered, Answers::Redirect(_)))
}

/// Whether clients must show a certificate.
fn certified(group: &Group) -> bool {
    matches!(&group.tls, Some(Tls::Terminate { client_ca: Some(_), .. }))
}

/// Whether plain HTTP leads to TLS. A client that has to show a certificate cannot do so over plain HTTP.
fn tls_only(group: &Group) -> bool {
    group.ssl_only || certified(group)
}

/// The group's redirect, as far as it does not lead to where the request is already, nor to where it is sent back from.
fn redirect(group: &Group, scheme: Scheme) -> Option<&RedirectTo> {
    let leads_back = |to: &RedirectTo| {
        group.hosts.contains(&to.host) && (to.scheme == scheme || to.scheme == Scheme::Http && tls_only(group))
    };
    group.redirect.as_ref().filter(|to| !leads_back(to))
}

/// Whether one server does for both listeners.
fn alike(group: &Group, plain: Option<Answers<'_>>, over_tls: Option<Answers<'_>>, layout: &Layout<'_>) -> bool {
    let routes = |answers| matches!(answers, Some(Answers::Routes));
    routes(plain) && routes(over_tls) && group.hsts.is_none() && !layout.passthrough
}

// === A server's parts ===

fn listen(writer: &mut Writer, settings: &Settings, how: &[Value<'_>]) {
    let mut values = vec![Value::Number(settings.http_port.get().into())];
    values.extend(how);
    if settings.proxy_protocol {
        values.push(Value::Word("proxy_protocol"));
    }
    writer.line("listen", &values);
}

fn listen_tls(writer: &mut Writer, layout: &Layout<'_>, how: &[Value<'_>]) {
    let settings = layout.settings;
    let mut values = match layout.passthrough {
        true => vec![Value::Word(streams::TLS_SOCKET)],
        false => vec![Value::Number(settings.https_port.get().into())],
    };
    values.push(Value::Word("ssl"));
    // From here on `listen ... http2` is a warning, and there is a directive instead.
    let directive = settings.version >= Version { major: 1, minor: 25, patch: 1 };
    if !directive {
        values.push(Value::Word("http2"));
    }
    values.extend(how);
    if layout.passthrough || settings.proxy_protocol {
        values.push(Value::Word("proxy_protocol"));
    }
    writer.line("listen", &values);
    if directive {
        writer.line("http2", &[Value::Word("on")]);
    }
    if layout.passthrough {
        writer.line("set_real_ip_from", &[Value::Word("unix:")]);
        writer.line("real_ip_header", &[Value::Word("proxy_protocol")]);
    }
}

fn certificate(writer: &mut Writer, group: &Group) {
    let Some(Tls::Terminate { certificate, key, client_ca }) = &group.tls else { return };
    writer.line("ssl_certificate", &[Value::Secret(certificate)]);
    writer.line("ssl_certificate_key", &[Value::Secret(key)]);
    if let Some(authorities) = client_ca {
        writer.line("ssl_client_certificate", &[Value::Secret(authorities)]);
        writer.line("ssl_verify_client", &[Value::Word("on")]);
        writer.line("ssl_verify_depth", &[Value::Number(4)]);
        if !group.hosts.is_empty() {
            // nginx itself compares only with a name that is a server's. A certificate that the default backend's
            // authorities signed, on a connection for nobody in particular, would do for every host.
            writer.block("if", &[Value::Word("($dovetail_misdirected)")], |writer| {
                writer.line("return", &[Value::Number(421)]);
            });
        }
    }
}

/// An `add_header` here ends the inheritance of those in `nginx.conf`, so they are repeated.
fn strict_transport_security(writer: &mut Writer, group: &Group, settings: &Settings) {
    if let Some(hsts) = group.hsts {
        writer
            .line("add_header", &[Value::Word("Strict-Transport-Security"), Value::Hsts(hsts), Value::Word("always")]);
        main::info_headers(writer, settings);
    }
}

fn answers(writer: &mut Writer, group: &Group, answered: Answers<'_>, layout: &Layout<'_>) {
    let settings = layout.settings;
    health(writer, settings);
    match answered {
        Answers::Redirect(to) => writer.block("location", &[Value::Word("/")], |writer| {
            writer.line("return", &[Value::Number(302), Value::RedirectTo(to)]);
        }),
        Answers::ToTls => writer.block("location", &[Value::Word("/")], |writer| {
            // It may end tomorrow, so it is not permanent; and the method is kept.
            writer.line("return", &[Value::Number(307), Value::ToTls(settings.published_https)]);
        }),
        Answers::Routes => {
            for route in &group.routes {
                locations(writer, group.hosts.first(), route, settings);
            }
            if !group.routes.iter().any(|route| route.path.is_root()) {
                writer.block("location", &[Value::Word("/")], |writer| {
                    writer.line("return", &[Value::Number(404)]);
                });
            }
        }
    }
}

/// The container's own health check cannot speak the PROXY protocol, so it gets a listener of its own.
pub(super) fn health_server(writer: &mut Writer, settings: &Settings) {
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

// === Routes ===

fn group_upstreams(writer: &mut Writer, group: &Group, spec: &ProxySpec, layout: &Layout<'_>) {
    for route in &group.routes {
        let name = name(group.hosts.first(), &route.path);
        upstreams::of_route(writer, name, route, spec, layout.settings);
        if let Some(limit) = route.options.rate_limit {
            let zone = [Value::Word("$binary_remote_addr"), Value::RateZone(name), Value::Rate(limit)];
            writer.line("limit_req_zone", &zone);
        }
    }
}

fn name<'a>(host: Option<&'a Host>, path: &'a Path) -> Upstream<'a> {
    Upstream::Route { host, path }
}

/// The path itself and what is below it; `/app` is not the beginning of `/application`.
fn locations(writer: &mut Writer, host: Option<&Host>, route: &Route, settings: &Settings) {
    let path = &route.path;
    if path.is_root() {
        return writer.block("location", &[Value::Word("/")], |writer| pass(writer, host, route, false));
    }
    let rewritten = route.options.context_root_rewrite == Some(true);
    // Two locations for one path would keep nginx from starting, and the health path is every host's.
    if path.as_str() != settings.health_path.as_str() {
        writer.block("location", &[Value::Word("="), Value::Path(path)], |writer| {
            if rewritten {
                // The application sees `/`: without the slash its relative links would lead out of the context root.
                writer.line("return", &[Value::Number(301), Value::Below(path, "$is_args$args")]);
            } else {
                pass(writer, host, route, false);
            }
        });
    }
    writer.block("location", &[Value::Below(path, "")], |writer| {
        if rewritten && settings.trailing_slash_redirect {
            writer.line("rewrite", &[Value::Format("^([^.]*[^/])$"), Value::Word("$1/"), Value::Word("permanent")]);
        }
        pass(writer, host, route, rewritten);
    });
}

/// What is demanded of a request, and where it goes.
fn pass(writer: &mut Writer, host: Option<&Host>, route: &Route, rewritten: bool) {
    let options = &route.options;
    let name = name(host, &route.path);
    for network in options.deny.iter().flat_map(|networks| networks.iter()) {
        writer.line("deny", &[Value::Network(*network)]);
    }
    for network in options.allow.iter().flat_map(|networks| networks.iter()) {
        writer.line("allow", &[Value::Network(*network)]);
    }
    if options.allow.is_some() {
        writer.line("deny", &[Value::Word("all")]);
    }
    if let Some(users) = &options.basic_auth {
        writer.line("auth_basic", &[Value::Format("restricted")]);
        writer.line("auth_basic_user_file", &[Value::Secret(users)]);
    }
    if let Some(limit) = options.rate_limit {
        let mut how = vec![Value::RateZoneName(name)];
        if limit.burst > 0 {
            how.extend([Value::Parameter("burst", limit.burst.into()), Value::Word("nodelay")]);
        }
        writer.line("limit_req", &how);
    }
    if let Some(bytes) = options.max_body_size {
        writer.line("client_max_body_size", &[Value::Size(bytes)]);
    }
    if let Some(time) = options.timeout {
        writer.line("proxy_read_timeout", &[Value::Time(time)]);
    }
    if let Some(tls) = &options.backend_tls {
        writer.line("proxy_ssl_server_name", &[Value::Word("on")]);
        writer.line("proxy_ssl_name", &[Value::Word("$host")]);
        // What is said once for all is that certificates are verified.
        if *tls == BackendTls::Unverified {
            writer.line("proxy_ssl_verify", &[Value::Word("off")]);
        }
    }
    let scheme = if options.backend_tls.is_some() { Scheme::Https } else { Scheme::Http };
    writer.line("proxy_pass", &[Value::To(scheme, name, rewritten)]);
}
