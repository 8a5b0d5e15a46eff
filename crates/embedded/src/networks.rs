//! Networks, their addresses, and the endpoints of services on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use model::{NetworkId, ServiceId};
use serde_json::Value;
use swarm::{Class, EndpointMode, Error, EventKind, Result};

use crate::schedule::Due;
use crate::spec::Spec;
use crate::store::Store;

/// A network of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub seen: swarm::Network,
    /// Where its addresses come from; the host network has none.
    pub pool: Option<Pool>,
}

/// The addresses of one subnet. They are handed out in their order and start over at the end, so that one
/// that was just given back is not the next to be given out.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    base: u32,
    size: u32,
    used: BTreeSet<u32>,
    next: u32,
}

impl Pool {
    fn new(base: u32, prefix: u8) -> Self {
        Self { base, size: 1 << (32 - u32::from(prefix)), used: BTreeSet::new(), next: 2 }
    }

    /// Addresses that can be given out at all: not the network's own, the gateway's, the broadcast.
    fn capacity(&self) -> usize {
        self.size as usize - 3
    }

    /// As the Engine tells it.
    fn seen(&self) -> swarm::Pool {
        let address = |offset| IpAddr::V4(Ipv4Addr::from(self.base + offset));
        let prefix = u8::try_from(32 - self.size.trailing_zeros()).expect("at most 32");
        let subnet = swarm::Subnet::new(address(0), prefix).expect("at most 32");
        swarm::Pool { subnet, range: None, gateway: Some(address(1)) }
    }

    pub fn free(&self) -> usize {
        self.capacity() - self.used.len()
    }

    fn allocate(&mut self) -> Option<IpAddr> {
        if self.free() == 0 {
            return None;
        }
        let last = self.size - 2;
        while self.used.contains(&self.next) {
            self.next = if self.next >= last { 2 } else { self.next + 1 };
        }
        let offset = self.next;
        self.used.insert(offset);
        self.next = if offset >= last { 2 } else { offset + 1 };
        Some(IpAddr::V4(Ipv4Addr::from(self.base + offset)))
    }

    fn release(&mut self, address: IpAddr) {
        if let IpAddr::V4(address) = address {
            self.used.remove(&u32::from(address).wrapping_sub(self.base));
        }
    }
}

impl Store {
    /// The networks that every swarm has.
    pub(crate) fn create_predefined_networks(&mut self) {
        let ingress = self.create_network("ingress", "overlay", 24).expect("the store is empty");
        if let Some(network) = self.networks.get_mut(&ingress) {
            network.seen.ingress = true;
        }
        self.ingress = Some(ingress);
        self.create_network("host", "host", 24).expect("the store is empty");
    }

    pub(crate) fn create_network(&mut self, name: &str, driver: &str, prefix: u8) -> Result<NetworkId> {
        let operation = || format!("create network {name}");
        if self.networks.values().any(|network| network.seen.name == name) {
            return Err(Error::new(Class::Conflict, operation(), format!("network with name {name} already exists")));
        }
        if !(8..=29).contains(&prefix) {
            return Err(Error::new(Class::Refused, operation(), format!("no subnet of /{prefix}")));
        }
        let overlay = driver == "overlay";
        let pool = if overlay {
            Some(self.subnet(prefix).map_err(|text| Error::new(Class::Refused, operation(), text))?)
        } else {
            None
        };
        let id = NetworkId::new(self.fresh_id());
        self.touch();
        let seen = swarm::Network {
            id: id.clone(),
            name: name.to_owned(),
            driver: driver.to_owned(),
            scope: if overlay { "swarm" } else { "local" }.to_owned(),
            ingress: false,
            labels: BTreeMap::new(),
            pools: pool.iter().map(Pool::seen).collect(),
        };
        self.networks.insert(id.clone(), Network { seen, pool });
        self.emit(EventKind::Network);
        Ok(id)
    }

    /// The next free piece of 10.0.0.0/8, at least a /24 apart from the others.
    fn subnet(&mut self, prefix: u8) -> std::result::Result<Pool, String> {
        let size = 1_u32 << (32 - u32::from(prefix));
        let step = size.max(256);
        let base = self.next_subnet.div_ceil(step) * step;
        if base + step > 1 << 24 {
            return Err("could not find an available, non-overlapping IPv4 address pool".into());
        }
        self.next_subnet = base + step;
        Ok(Pool::new((10 << 24) + base, prefix))
    }

    pub(crate) fn remove_network(&mut self, id_or_name: &str) -> Result<()> {
        let operation = format!("remove network {id_or_name}");
        let Some(network) = self.find_network(id_or_name) else {
            return Err(Error::new(Class::NotFound, operation, format!("network {id_or_name} not found")));
        };
        let (id, predefined) = (network.seen.id.clone(), network.pool.is_none() || network.seen.ingress);
        if predefined {
            return Err(Error::new(Class::Refused, operation, "it is a pre-defined network and cannot be removed"));
        }
        let refers = |spec: &Spec| spec.networks.iter().any(|network| network == id.as_str());
        if let Some(service) = self.services.values().find(|service| refers(&service.spec)) {
            let message = format!("network {id} is in use by service {}", service.id);
            return Err(Error::new(Class::InUse, operation, message));
        }
        if let Some(task) = self.tasks.values().find(|task| task.lives() && refers(&task.made_from)) {
            return Err(Error::new(Class::InUse, operation, format!("network {id} is in use by task {}", task.id)));
        }
        self.networks.remove(&id);
        self.touch();
        self.emit(EventKind::Network);
        Ok(())
    }

    /// By id, else by name.
    pub(crate) fn find_network(&self, id_or_name: &str) -> Option<&Network> {
        self.networks
            .get(&NetworkId::new(id_or_name))
            .or_else(|| self.networks.values().find(|network| network.seen.name == id_or_name))
    }

    /// Writes ids for names into the networks of a spec, as the daemon does before Swarm sees it.
    pub(crate) fn resolve_networks(&self, spec: &mut Value) -> std::result::Result<(), (Class, String)> {
        for list in ["/TaskTemplate/Networks", "/Networks"] {
            for network in spec.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let Some(target) = network.get_mut("Target") else { continue };
                let written = target.as_str().unwrap_or_default();
                match self.find_network(written) {
                    None => return Err((Class::NotFound, format!("network {written} not found"))),
                    Some(found) if found.seen.ingress => {
                        let message = "Service cannot be explicitly attached to the ingress network \"ingress\"";
                        return Err((Class::Refused, message.to_owned()));
                    }
                    Some(found) => *target = Value::String(found.seen.id.as_str().to_owned()),
                }
            }
        }
        Ok(())
    }

    /// The networks with addresses that tasks of this spec join; one that is gone is among them, so that
    /// allocation fails as long as it is.
    pub(crate) fn networks_to_join(&self, spec: &Spec) -> Vec<NetworkId> {
        let named = spec.networks.iter().map(|id| NetworkId::new(id.as_str()));
        let ingress = self.ingress.clone().filter(|_| spec.uses_ingress());
        let mut seen = BTreeSet::new();
        named
            .chain(ingress)
            .filter(|id| self.networks.get(id).is_none_or(|network| network.pool.is_some()))
            .filter(|id| seen.insert(id.clone()))
            .collect()
    }

    /// One address on each of these networks, or none at all.
    pub(crate) fn allocate(&mut self, networks: &[NetworkId]) -> Option<Vec<(NetworkId, IpAddr)>> {
        let mut allocated = Vec::with_capacity(networks.len());
        for id in networks {
            let address = self.networks.get_mut(id).and_then(|network| network.pool.as_mut()).and_then(Pool::allocate);
            match address {
                Some(address) => allocated.push((id.clone(), address)),
                None => {
                    self.give_back(&allocated);
                    return None;
                }
            }
        }
        Some(allocated)
    }

    pub(crate) fn hide_subnets(&mut self, id_or_name: &str) -> Result<()> {
        let id = self.find_network(id_or_name).map(|network| network.seen.id.clone());
        let Some(network) = id.and_then(|id| self.networks.get_mut(&id)) else {
            let operation = format!("hide the subnets of network {id_or_name}");
            return Err(Error::new(Class::NotFound, operation, format!("network {id_or_name} not found")));
        };
        network.seen.pools.clear();
        Ok(())
    }

    /// An address of this network, for somebody whom no list shows.
    pub(crate) fn take_address(&mut self, id_or_name: &str) -> Result<()> {
        let operation = format!("connect a container to network {id_or_name}");
        let Some(id) = self.find_network(id_or_name).map(|network| network.seen.id.clone()) else {
            return Err(Error::new(Class::NotFound, operation, format!("network {id_or_name} not found")));
        };
        let allocated = self.allocate(&[id]);
        allocated.map(|_| ()).ok_or_else(|| Error::new(Class::Refused, operation, "no address is left"))
    }

    /// Frees addresses and lets those who wait for one try again.
    pub(crate) fn release(&mut self, addresses: &[(NetworkId, IpAddr)]) {
        if !addresses.is_empty() {
            self.give_back(addresses);
            self.freed = true;
        }
    }

    fn give_back(&mut self, addresses: &[(NetworkId, IpAddr)]) {
        for (id, address) in addresses {
            if let Some(pool) = self.networks.get_mut(id).and_then(|network| network.pool.as_mut()) {
                pool.release(*address);
            }
        }
    }

    /// Notes that a service's endpoint does not fit its spec; it will, a moment later, by another write.
    pub(crate) fn plan_endpoint(&mut self, id: &ServiceId) {
        let wanted = self.endpoint_wanted(id);
        let Some(service) = self.services.get_mut(id) else { return };
        service.endpoint_pending = service.vips.keys().ne(wanted.iter());
        if service.endpoint_pending {
            self.later(self.timing.endpoint, Due::Endpoint(id.clone()));
        }
    }

    fn endpoint_wanted(&self, id: &ServiceId) -> BTreeSet<NetworkId> {
        match self.services.get(id) {
            Some(service) if service.spec.endpoint_mode == EndpointMode::Vip => {
                self.networks_to_join(&service.spec).into_iter().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Gives a service the virtual addresses of its spec. Without a free address nothing happens, and its
    /// tasks stay new; it is tried again when addresses become free.
    pub(crate) fn set_endpoint(&mut self, id: &ServiceId) {
        let wanted = self.endpoint_wanted(id);
        let Some(service) = self.services.get(id).filter(|service| service.endpoint_pending) else { return };
        let missing: Vec<_> = wanted.iter().filter(|network| !service.vips.contains_key(network)).cloned().collect();
        let superfluous: Vec<_> = service
            .vips
            .iter()
            .filter(|(network, _)| !wanted.contains(network))
            .map(|(network, address)| (network.clone(), *address))
            .collect();
        let Some(allocated) = self.allocate(&missing) else {
            self.waiting_services.insert(id.clone());
            return;
        };
        self.release(&superfluous);
        self.touch_service(id, |service| {
            service.vips.retain(|network, _| wanted.contains(network));
            service.vips.extend(allocated);
            service.endpoint_pending = false;
        });
        self.waiting_services.remove(id);
        // Its tasks waited for this.
        self.freed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_hands_out_each_address_once_and_the_freed_ones_last() {
        let mut pool = Pool::new(10 << 24, 29);
        assert_eq!(pool.capacity(), 5);
        let given: Vec<String> = (0..5).filter_map(|_| pool.allocate()).map(|a| a.to_string()).collect();
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(pool.allocate(), None);
        pool.release("10.0.0.3".parse().unwrap());
        pool.release("10.0.0.2".parse().unwrap());
        assert_eq!(pool.allocate().map(|a| a.to_string()).as_deref(), Some("10.0.0.2"));
        assert_eq!(pool.free(), 1);
    }
}
