//! Nodes.

use std::net::{IpAddr, SocketAddr};

use model::NodeId;
use serde::Deserialize;
use swarm::Node;

use super::Decoded;
use super::list::item;

/// One of a list of nodes.
pub(crate) fn node(bytes: &[u8]) -> Decoded<Option<Node>> {
    let WireNode { id, status, manager_status } = item(bytes, "node")?;
    let said = |status: Option<WireNodeStatus>| status.and_then(|status| status.addr);
    // A manager can be known to itself by an address that says nothing, and has the other one with a port.
    let (own, manager) = (said(status), said(manager_status));
    let own = own.and_then(|text| text.parse().ok());
    let manager = manager.and_then(|text| Some(text.parse::<SocketAddr>().ok()?.ip()));
    let useful = |address: &IpAddr| !address.is_unspecified() && !address.is_loopback();
    Ok(Some(Node { id: NodeId::new(id), address: own.filter(useful).or(manager.filter(useful)) }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireNode {
    #[serde(rename = "ID")]
    id: String,
    status: Option<WireNodeStatus>,
    manager_status: Option<WireNodeStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireNodeStatus {
    addr: Option<String>,
}
