//! Upstreams: the addresses that answer a route, and how requests are shared among them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use model::values::CookieName;
use model::{BackendMode, Contribution, ProxySpec, Route, ServiceId, Sticky};

use super::super::settings::Settings;
use super::super::writer::{Upstream, Value, Writer};

/// The upstream of a route, with what decides who gets a request.
pub(super) fn of_route(writer: &mut Writer, name: Upstream<'_>, route: &Route, spec: &ProxySpec, settings: &Settings) {
    let kept_by = sticky(route, spec, settings).map(|sticky| match sticky {
        Sticky::Cookie(cookie) => Value::Sticky(cookie),
        // nginx's `ip_hash` looks at three bytes of the address, and moves everyone when a server comes or goes.
        Sticky::ClientAddress => Value::Word("$remote_addr"),
    });
    writer.block("upstream", &[Value::Upstream(name)], |writer| {
        zone(writer, name, &route.services, spec, settings);
        servers(writer, &route.services, spec, kept_by);
        if settings.upstream_keepalive == 0 {
            // Not by silence, with which nginx keeps connections from 1.29.7 on; before, it takes no `keepalive 0`.
            writer.line("keepalive", &[Value::Number(1)]);
            writer.line("keepalive_requests", &[Value::Number(1)]);
        } else {
            writer.line("keepalive", &[Value::Number(settings.upstream_keepalive.into())]);
            writer.line("keepalive_timeout", &[Value::Time(settings.upstream_keepalive_timeout)]);
            writer.line("keepalive_requests", &[Value::Number(settings.upstream_keepalive_requests.into())]);
            writer.line("keepalive_time", &[Value::Time(settings.upstream_keepalive_time)]);
        }
    });
    writer.blank();
}

/// What keeps a client at one server: what the route says, else what the cluster's administrator says.
fn sticky<'a>(route: &'a Route, spec: &ProxySpec, settings: &Settings) -> Option<&'a Sticky> {
    let by_address = by_address(&route.services, spec, settings);
    route.options.sticky.as_ref().or(by_address.then_some(&Sticky::ClientAddress))
}

/// What a client is known by where this cookie keeps it at one server. It does not stand with the routes, since many
/// services have theirs under one name, and nginx takes milliseconds to read a `map`.
pub(super) fn cookie_text(cookie: &CookieName) -> String {
    let mut writer = Writer::default();
    writer.block("map", &[Value::Word("$http_cookie"), Value::Sticky(cookie)], |writer| {
        // A request without the cookie goes anywhere: an empty key would send all of them to one task.
        writer.line("default", &[Value::Word("$request_id")]);
        writer.line("", &[Value::CookiePattern(cookie), Value::Word("$dovetail_cookie")]);
    });
    writer.finish()
}

/// Whether the cluster's administrator keeps clients at one of these services' servers. Behind a VIP clients go where
/// Swarm sends them, and two VIPs are no two tasks.
fn by_address(services: &[ServiceId], spec: &ProxySpec, settings: &Settings) -> bool {
    let tasks = |id| spec.contributions.get(id).is_some_and(|from| from.mode == BackendMode::Task);
    settings.ip_hash && services.iter().all(tasks)
}

/// The upstream of those who get the bytes of TLS connections.
pub(super) fn of_stream(
    writer: &mut Writer,
    name: Upstream<'_>,
    services: &[ServiceId],
    spec: &ProxySpec,
    settings: &Settings,
) {
    // Nobody can ask for anything else here: a cookie is not seen.
    let asks = |id| spec.contributions.get(id).is_some_and(|from| from.options.route.sticky.is_some());
    let by_address = services.iter().any(asks) || by_address(services, spec, settings);
    // Connections come over a socket of ours, so `$remote_addr` is the same for all of them.
    let kept_by = by_address.then_some(Value::Word("$proxy_protocol_addr"));
    writer.block("upstream", &[Value::Upstream(name)], |writer| {
        zone(writer, name, services, spec, settings);
        servers(writer, services, spec, kept_by);
    });
}

fn endpoints<'a>(id: &ServiceId, spec: &'a ProxySpec) -> &'a BTreeSet<SocketAddr> {
    static NONE: BTreeSet<SocketAddr> = BTreeSet::new();
    spec.endpoints.get(id).map_or(&NONE, |endpoints| &**endpoints)
}

/// What workers share about the servers: which are set aside. Of a single one nginx never sets any aside, and it looks through
/// all zones for each that it makes: ten thousand take it ten seconds.
///
/// A server takes less than 1 KiB of the zone; a zone that is too small keeps nginx from starting. Rounded, so that the line
/// does not change with every task.
fn zone(writer: &mut Writer, name: Upstream<'_>, services: &[ServiceId], spec: &ProxySpec, settings: &Settings) {
    let servers: usize = services.iter().map(|id| endpoints(id, spec).len()).sum();
    if servers == 1 {
        return;
    }
    let needed = (servers as u64 * 1024 + 32 * 1024).next_power_of_two();
    let size = needed.max(settings.upstream_zone_size.next_multiple_of(4096));
    writer.line("zone", &[Value::Upstream(name), Value::Size(size)]);
}

/// The servers, and by what a client is kept at one of them.
fn servers(writer: &mut Writer, services: &[ServiceId], spec: &ProxySpec, kept_by: Option<Value<'_>>) {
    let most = if kept_by.is_some() { MOST_OF_A_HASH } else { MOST };
    if let Some(key) = kept_by {
        writer.line("hash", &[key, Value::Word("consistent")]);
    }
    let parts: Vec<Part> = services
        .iter()
        .map(|id| Part {
            weight: spec.contributions.get(id).and_then(|from| from.options.server.weight),
            servers: endpoints(id, spec).len(),
        })
        .collect();
    for (id, weight) in services.iter().zip(weights(&parts, most)) {
        let Some(from) = spec.contributions.get(id) else { continue };
        let Contribution { name, mode, network, .. } = &**from;
        let way = match network {
            Some(network) => format!("over network {network}"),
            None => "at its nodes".to_owned(),
        };
        writer.comment(&format!("{name}, service {id}, {} {way}", mode.as_str()));
        let mut parameters = Vec::new();
        if weight != 1 {
            parameters.push(Value::Parameter("weight", weight));
        }
        match mode {
            // Behind it is a whole service: one task's failure must not set it aside.
            BackendMode::Vip => parameters.push(Value::Parameter("max_fails", 0)),
            BackendMode::Task => {
                let options = &from.options.server;
                parameters.extend(options.max_fails.map(|fails| Value::Parameter("max_fails", fails.into())));
                parameters.extend(options.fail_timeout.map(|time| Value::ParameterTime("fail_timeout", time)));
            }
        }
        for endpoint in endpoints(id, spec) {
            writer.line("server", &[&[Value::Endpoint(*endpoint)], &*parameters].concat());
        }
    }
}

// === Shares ===

/// One service of an upstream.
struct Part {
    /// What its label says.
    weight: Option<u16>,
    servers: usize,
}

/// The largest weight of one server.
const MOST: u64 = 1_000_000;

/// The same where nginx makes 160 points of a ring for each unit of weight.
const MOST_OF_A_HASH: u64 = 20;

/// The weight of each server of each part: the parts share requests by their weights, a part without one by its
/// number of servers, and the servers of a part share alike. Exact unless a weight would exceed `most`.
fn weights(parts: &[Part], most: u64) -> Vec<u64> {
    if parts.iter().all(|part| part.weight.is_none()) {
        return vec![1; parts.len()];
    }
    let servers = |part: &Part| part.servers.max(1) as u128;
    // More than this is rounded.
    const EXACT: u128 = 1_000_000_000;
    let common = parts.iter().map(servers).fold(1, |common, count| least_common_multiple(common, count).min(EXACT));
    let mut weights: Vec<u128> = parts
        .iter()
        .map(|part| part.weight.map_or(servers(part), u128::from) * common / servers(part))
        .map(|weight| weight.max(1))
        .collect();
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    weights.iter_mut().for_each(|weight| *weight /= divisor);
    let largest = weights.iter().copied().max().unwrap_or(1);
    let most = u128::from(most);
    if largest > most {
        weights.iter_mut().for_each(|weight| *weight = ((*weight * most + largest / 2) / largest).max(1));
    }
    weights.into_iter().map(|weight| u64::try_from(weight).unwrap_or(MOST)).collect()
}

fn greatest_common_divisor(one: u128, other: u128) -> u128 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

fn least_common_multiple(one: u128, other: u128) -> u128 {
    one / greatest_common_divisor(one, other) * other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[(Option<u16>, usize)], most: u64) -> Vec<u64> {
        let parts: Vec<Part> =
            parts.iter().map(|(weight, servers)| Part { weight: *weight, servers: *servers }).collect();
        weights(&parts, most)
    }

    #[test]
    fn services_share_by_weight_and_their_servers_share_alike() {
        for (parts, expect) in [
            // Nobody says anything: every server counts one.
            (&[(None, 4), (None, 1)][..], &[1, 1][..]),
            // Two VIPs, 80 and 20.
            (&[(Some(80), 1), (Some(20), 1)], &[4, 1]),
            // 80 % over four tasks, 20 % on one.
            (&[(Some(80), 4), (Some(20), 1)], &[1, 1]),
            (&[(Some(80), 3), (Some(20), 1)], &[4, 3]),
            // A weight beside none, which counts its servers: 2 of 5.
            (&[(None, 3), (Some(2), 1)], &[1, 2]),
            (&[(Some(7), 5)], &[1]),
        ] {
            assert_eq!(of(parts, MOST), expect, "{parts:?}");
        }
    }

    #[test]
    fn weights_that_are_too_large_are_rounded() {
        assert_eq!(of(&[(Some(1000), 1), (Some(1), 1)], MOST_OF_A_HASH), [20, 1]);
        let awkward = of(&[(Some(999), 997), (Some(1), 991), (Some(1000), 983), (Some(500), 977)], MOST);
        assert!(awkward.iter().all(|weight| (1..=MOST).contains(weight)), "{awkward:?}");
        // 999 to 1000, as far as rounding goes.
        let shares = [awkward[0] as f64 * 997.0, awkward[2] as f64 * 983.0];
        assert!((shares[0] / shares[1] - 0.999).abs() < 0.001, "{awkward:?}");
    }
}
