//! What is demanded of clients and their requests, and who of the servers gets them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::values::{Cidr, CookieName, RateLimit, SecretName};
use model::{Code, labels};

use super::units;
use super::written::{List, Written, trimmed};

/// So many networks a list may name: each is a line in the proxy's file, looked at for each request.
const MOST_NETWORKS: usize = 1000;

pub(super) fn sticky_session_cookie(written: &mut Written<'_>) -> Option<CookieName> {
    written.value(labels::STICKY_SESSION_COOKIE, "is no name of a cookie")
}

pub(super) fn ip_hash(written: &mut Written<'_>) -> bool {
    written.boolean(labels::IP_HASH, Code::BadOption).unwrap_or(false)
}

pub(super) fn timeout(written: &mut Written<'_>) -> Option<Duration> {
    let read = units::time(written.get(labels::TIMEOUT)?).filter(|time| units::TIMES.contains(time));
    if read.is_none() {
        let allowed = "a time such as 30s, 1m30s, 1500ms or 30, from 1s to 1d";
        written.refuse(Code::BadOption, labels::TIMEOUT, "is no time", allowed);
    }
    read
}

pub(super) fn max_body_size(written: &mut Written<'_>) -> Option<u64> {
    let read = units::size(written.get(labels::MAX_BODY_SIZE)?);
    if read.is_none() {
        let allowed = "a size such as 32m, 1g, 8k or a number of bytes; 0 for any";
        written.refuse(Code::BadOption, labels::MAX_BODY_SIZE, "is no size", allowed);
    }
    read
}

/// The networks that `allow` or `deny` names.
pub(super) fn networks(written: &mut Written<'_>, label: &str) -> Option<Arc<BTreeSet<Cidr>>> {
    written.get(label)?;
    let list = List {
        label,
        separator: ',',
        code: Code::BadOption,
        bad_items: "items are no networks",
        allowed: "addresses and networks, separated by commas, such as 10.0.0.0/8, fd00::/8; at most 1000",
    };
    let networks = written.items(list, |item| trimmed(item).parse().map_err(|_| "is no network".to_owned()));
    let networks: BTreeSet<Cidr> = networks.into_iter().collect();
    if networks.len() > MOST_NETWORKS {
        let complaint = format!("names {} networks", networks.len());
        written.refuse(Code::BadOption, label, complaint, list.allowed);
    }
    Some(networks.into())
}

pub(super) fn basic_auth(written: &mut Written<'_>) -> Option<SecretName> {
    written.value(labels::BASIC_AUTH, "is no name of a secret")
}

pub(super) fn rate_limit(written: &mut Written<'_>) -> Option<RateLimit> {
    written.value(labels::RATE_LIMIT, "is no limit of requests")
}
