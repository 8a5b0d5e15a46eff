//! Networks, configs and secrets, in bollard's models.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use model::{ConfigId, NetworkId, SecretId};
use swarm::{Config, Network, Pool, Secret, Subnet};

use super::{Decoded, address, timestamp};

pub(crate) fn network(wire: bollard::models::NetworkInspect) -> Decoded<Network> {
    Ok(Network {
        id: NetworkId::new(wire.id.filter(|id| !id.is_empty()).ok_or("a network has no id")?),
        name: wire.name.ok_or("a network has no name")?,
        driver: wire.driver.unwrap_or_default(),
        scope: wire.scope.unwrap_or_default(),
        ingress: wire.ingress.unwrap_or(false),
        labels: wire.labels.unwrap_or_default().into_iter().collect(),
        pools: pools(wire.ipam.and_then(|ipam| ipam.config).unwrap_or_default()),
    })
}

/// All or none of them: half of a network's addresses would look like a network that is full.
fn pools(wire: Vec<bollard::models::IpamConfig>) -> Vec<Pool> {
    let pool = |wire: bollard::models::IpamConfig| {
        let told = |text: Option<String>| text.filter(|text| !text.is_empty());
        Some(Pool {
            subnet: Subnet::parse(&told(wire.subnet)?)?,
            range: match told(wire.ip_range) {
                Some(range) => Some(Subnet::parse(&range)?),
                None => None,
            },
            gateway: match told(wire.gateway) {
                Some(gateway) => Some(address(&gateway).ok()?),
                None => None,
            },
        })
    };
    wire.into_iter().map(pool).collect::<Option<Vec<_>>>().unwrap_or_default()
}

pub(crate) fn config(wire: bollard::models::Config) -> Decoded<Config> {
    let id = wire.id.filter(|id| !id.is_empty()).ok_or("a config has no id")?;
    let of = |problem: String| format!("config {id}: {problem}");
    let lacks = |what: &str| format!("config {id}: it has no {what}");
    let spec = wire.spec.ok_or_else(|| lacks("spec"))?;
    // Swarm takes no empty config, so an answer without data is half an answer.
    let data = spec.data.filter(|data| !data.is_empty()).ok_or_else(|| lacks("data"))?;
    Ok(Config {
        version: wire.version.and_then(|version| version.index).ok_or_else(|| lacks("version"))?,
        created_at: timestamp(&wire.created_at.ok_or_else(|| lacks("time of creation"))?).map_err(of)?,
        name: spec.name.ok_or_else(|| lacks("name"))?,
        labels: spec.labels.unwrap_or_default().into_iter().collect(),
        data: BASE64.decode(data).map_err(|error| of(format!("its data is no base64: {error}")))?.into(),
        id: ConfigId::new(id),
    })
}

pub(crate) fn config_spec(
    name: &str,
    labels: &BTreeMap<String, String>,
    data: Option<&[u8]>,
) -> bollard::models::ConfigSpec {
    bollard::models::ConfigSpec {
        name: Some(name.to_owned()),
        labels: Some(labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()),
        data: data.map(|data| BASE64.encode(data)),
        templating: None,
    }
}

pub(crate) fn secret(wire: bollard::models::Secret) -> Decoded<Secret> {
    let id = wire.id.filter(|id| !id.is_empty()).ok_or("a secret has no id")?;
    let name = wire.spec.and_then(|spec| spec.name).filter(|name| !name.is_empty());
    Ok(Secret { name: name.ok_or_else(|| format!("secret {id}: it has no name"))?, id: SecretId::new(id) })
}
