//! Options of every kind, short and as long as they can be.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::values::{Cidr, Hsts, Path, RateLimit, RedirectTo, SecretName};
use model::{BackendTls, Host, HostOptions, Options, RouteOptions, ServerOptions, Sticky, Tls};
use proptest::collection::btree_map;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// The hosts of [`any_options`]' redirects.
pub(crate) const HOSTS: [&str; 4] = ["x.local", "y.local", "*.y.local", "z.local"];

/// The secrets that [`any_options`] names.
pub(crate) fn secret_names() -> [SecretName; 2] {
    ["secret".to_owned(), "s".repeat(64)].map(|name| name.parse().unwrap())
}

pub(crate) fn any_options() -> impl Strategy<Value = Options> {
    (any_path(), any_host_options(), any_route_options(), any_server_options())
        .prop_map(|(context_root, host, route, server)| Options { context_root, host, route, server })
}

fn any_path() -> impl Strategy<Value = Path> {
    let paths = ["/", "/", "/app", "/app/deep", "/.dovetail/health", "/-._~+@:=,"].map(str::to_owned);
    select([&paths[..], &[format!("/{}", "p".repeat(254))]].concat()).prop_map(|path| path.parse().unwrap())
}

fn any_secret() -> impl Strategy<Value = SecretName> {
    select(secret_names().to_vec())
}

fn any_host_options() -> impl Strategy<Value = HostOptions> {
    let terminate = (any_secret(), any_secret(), of(any_secret()))
        .prop_map(|(certificate, key, client_ca)| Tls::Terminate { certificate, key, client_ca });
    let tls = prop_oneof![2 => terminate, 1 => Just(Tls::Passthrough)];
    let hsts = (any::<u32>(), any::<bool>(), any::<bool>()).prop_map(|(max_age, include_subdomains, preload)| Hsts {
        max_age,
        include_subdomains,
        preload,
    });
    let long = format!("https://{0}.{0}.{0}.{1}:65535/{2}", "h".repeat(63), "h".repeat(61), "p".repeat(254));
    let targets = ["http://x.local", "https://x.local", "http://z.local:8080/base", &long]
        .map(|to| to.parse::<RedirectTo>().unwrap());
    let sources = HOSTS.map(|host| Host::parse(host).unwrap());
    let redirects = btree_map(select(sources.to_vec()), select(targets.to_vec()), 0..3);
    (of(tls), of(any::<bool>()), of(hsts), redirects).prop_map(|(tls, ssl_only, hsts, redirects)| HostOptions {
        tls,
        ssl_only,
        hsts,
        redirects,
    })
}

fn any_networks() -> impl Strategy<Value = Arc<BTreeSet<Cidr>>> {
    let network = (any::<IpAddr>(), 0..=128_u8).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length.min(32) } else { length };
        format!("{address}/{length}").parse().unwrap()
    });
    prop::collection::btree_set(network, 0..40).prop_map(Arc::new)
}

fn any_route_options() -> impl Strategy<Value = RouteOptions> {
    let cookies = ["session".to_owned(), "connect.sid".to_owned(), ".".repeat(128)].map(|name| name.parse().unwrap());
    let sticky = prop_oneof![select(cookies.to_vec()).prop_map(Sticky::Cookie), Just(Sticky::ClientAddress)];
    let backend_tls = select(vec![BackendTls::Verified, BackendTls::Unverified]);
    let limits = ["1000000r/s,burst=1000000", "1r/m,burst=0"].map(|limit| limit.parse::<RateLimit>().unwrap());
    let timeout = (1..86_400_000_u64).prop_map(Duration::from_millis);
    (
        of(any::<bool>()),
        of(sticky),
        of(backend_tls),
        of(timeout),
        of(any::<u64>()),
        of(any_networks()),
        of(any_networks()),
        of(any_secret()),
        of(select(limits.to_vec())),
    )
        .prop_map(
            |(
                context_root_rewrite,
                sticky,
                backend_tls,
                timeout,
                max_body_size,
                allow,
                deny,
                basic_auth,
                rate_limit,
            )| {
                RouteOptions {
                    context_root_rewrite,
                    sticky,
                    backend_tls,
                    timeout,
                    max_body_size,
                    allow,
                    deny,
                    basic_auth,
                    rate_limit,
                }
            },
        )
}

fn any_server_options() -> impl Strategy<Value = ServerOptions> {
    let time = (1..=86_400_u64).prop_map(Duration::from_secs);
    (of(1..=ServerOptions::MAX_WEIGHT), of(0..=1_000_000_u32), of(time))
        .prop_map(|(weight, max_fails, fail_timeout)| ServerOptions { weight, max_fails, fail_timeout })
}
