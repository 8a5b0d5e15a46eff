//! What changes nothing beside the other labels: it is left out, and a warning says so.

use model::values::{CookieName, Path};
use model::{BackendMode, Code, Options, ServerOptions, Sticky, Tls, labels};

use super::written::Written;

/// What keeps a client at one server, if anything can.
pub(super) fn sticky(
    written: &mut Written<'_>,
    mode: BackendMode,
    tls: Option<&Tls>,
    cookie: Option<CookieName>,
    ip_hash: bool,
) -> Option<Sticky> {
    if mode == BackendMode::Vip {
        // Swarm chooses the task, and the proxy cannot.
        let why = "has no effect in VIP mode: Swarm chooses the task";
        let given = [(labels::STICKY_SESSION_COOKIE, cookie.is_some()), (labels::IP_HASH, ip_hash)];
        leave_out(written, given, Code::StickyInVip, why, "sticky sessions with backend_mode task");
        return None;
    }
    let cookie = match cookie {
        Some(_) if tls == Some(&Tls::Passthrough) => {
            written.left_out(Code::NoEffect, labels::STICKY_SESSION_COOKIE, UNREADABLE, "with ssl_cert");
            None
        }
        cookie => cookie,
    };
    match cookie {
        Some(cookie) => {
            if ip_hash {
                let why = "has no effect beside sticky_session_cookie, which decides";
                written.left_out(Code::NoEffect, labels::IP_HASH, why, "one of the two");
            }
            Some(Sticky::Cookie(cookie))
        }
        None => ip_hash.then_some(Sticky::ClientAddress),
    }
}

/// Behind `ssl_passthrough` the proxy sees bytes, and neither requests nor paths; nginx reads the name of all hosts
/// at one place, where nothing can be set for one of them. Without `allow`, `deny` or `basic_auth` a service would be
/// open to those whom it means to keep out: that is no warning.
pub(super) fn without_http(written: &mut Written<'_>, options: &mut Options) {
    let Options { context_root, host, route, server: _ } = options;
    let left_out = [
        (labels::CONTEXT_ROOT, !std::mem::take(context_root).is_root()),
        (labels::CONTEXT_ROOT_REWRITE, route.context_root_rewrite.take() == Some(true)),
        (labels::HSTS, host.hsts.take().is_some()),
        (labels::SSL_BACKEND, route.backend_tls.take().is_some()),
        (labels::TIMEOUT, route.timeout.take().is_some()),
        (labels::MAX_BODY_SIZE, route.max_body_size.take().is_some()),
        (labels::RATE_LIMIT, route.rate_limit.take().is_some()),
    ];
    leave_out(written, left_out, Code::NoEffect, UNREADABLE, "with ssl_cert");
    let keeps_out = [
        (labels::ALLOW, route.allow.is_some()),
        (labels::DENY, route.deny.is_some()),
        (labels::BASIC_AUTH, route.basic_auth.is_some()),
    ];
    for (label, _) in keeps_out.into_iter().filter(|(_, given)| *given) {
        let complaint = "clients cannot be kept out with ssl_passthrough";
        written.refuse(Code::InconsistentOptions, label, complaint, "with ssl_cert, or without TLS");
    }
}

/// Options that need a host with TLS. Interlock never honoured `ssl_only`, so stacks carry it unnoticed: it must
/// not become a reason to refuse them.
pub(super) fn without_tls(written: &mut Written<'_>, options: &mut Options) {
    let left_out = [
        (labels::SSL_ONLY, options.host.ssl_only.take() == Some(true)),
        (labels::HSTS, options.host.hsts.take().is_some()),
    ];
    let why = "has no effect: the service has no TLS";
    leave_out(written, left_out, Code::NoEffect, why, "with ssl_cert or ssl_passthrough");
}

pub(super) fn without_context_root(written: &mut Written<'_>, options: &mut Options) {
    if Path::is_root(&options.context_root) && options.route.context_root_rewrite.take() == Some(true) {
        let why = "has no effect: there is no context root to be replaced";
        written.left_out(Code::NoEffect, labels::CONTEXT_ROOT_REWRITE, why, "with context_root");
    }
}

/// A VIP stands for all tasks: one that fails must not set the others aside.
pub(super) fn without_servers(written: &mut Written<'_>, server: &mut ServerOptions) {
    let left_out = [
        (labels::MAX_FAILS, server.max_fails.take().is_some()),
        (labels::FAIL_TIMEOUT, server.fail_timeout.take().is_some()),
    ];
    let why = "has no effect in VIP mode: the virtual address stands for all tasks";
    leave_out(written, left_out, Code::NoEffect, why, "with backend_mode task");
}

const UNREADABLE: &str = "has no effect with ssl_passthrough: the proxy cannot read what it passes on";

/// Warns of each of these labels that is given.
fn leave_out<const N: usize>(
    written: &mut Written<'_>,
    labels: [(&str, bool); N],
    code: Code,
    why: &str,
    allowed: &str,
) {
    for (label, _) in labels.into_iter().filter(|(_, given)| *given) {
        written.left_out(code, label, why, allowed);
    }
}
