//! What a running operator says of itself: a look at the cluster cannot know what its last pass failed at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Config;
use crate::http;
use crate::view::Readiness;

/// What the operator says on its admin address; else why nobody could be asked there, for people.
///
/// # Errors
/// When nothing answers, as everywhere outside its container, or something that is not this installation's operator.
pub async fn ask(config: &Config) -> Result<Readiness, String> {
    let address = reachable(config.admin.listen.0);
    let told = http::get(address, "operator", "/readyz").await.map_err(|error| format!("at {address}: {error}"))?;
    let readiness: Readiness =
        serde_json::from_str(&told.body).map_err(|_| format!("at {address}: no operator of this version"))?;
    if readiness.instance == config.instance.0 {
        Ok(readiness)
    } else {
        Err(format!("at {address}: the operator of the instance {}", readiness.instance))
    }
}

/// Who listens on every address listens on the loopback, too.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
