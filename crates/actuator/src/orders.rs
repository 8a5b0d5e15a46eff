//! What a person on call orders: to write nothing for a while, to go on, to try again. Plain functions from what
//! is there to steps, as plans are.

use std::time::Duration;

use model::labels;
use serde_json::Value;

use crate::inventory::Inventory;
use crate::live::foreign;
use crate::moment::Moment;
use crate::settings::Settings;
use crate::step::Step;

/// Who paused this cluster, when and why; `None` if nobody did.
pub fn paused(spec: &Value) -> Option<&str> {
    spec["Labels"][labels::PAUSED].as_str()
}

/// Pauses: from now on the actuator writes nothing. No step if it is paused with these words already.
///
/// It takes two writes, so ask until there is no step: Swarm's own rollback and `docker service rollback` go back to
/// the spec before the last write, and that one must be paused too, or a failing rollout ends the pause. The same
/// holds for [`resume`].
///
/// # Errors
/// When there is no proxy service of ours to write it on.
pub fn pause(inventory: &Inventory, settings: &Settings, words: &str) -> Result<Option<Step>, String> {
    label(inventory, settings, Some(words))
}

/// Resumes. No step if it is not paused.
///
/// # Errors
/// When the service is somebody else's.
pub fn resume(inventory: &Inventory, settings: &Settings) -> Result<Option<Step>, String> {
    if inventory.service.is_none() {
        return Ok(None);
    }
    label(inventory, settings, None)
}

fn label(inventory: &Inventory, settings: &Settings, value: Option<&str>) -> Result<Option<Step>, String> {
    let Some(service) = &inventory.service else {
        return Err(format!(
            "the cluster {} has no proxy service {} yet, and the pause is a label on it: run this again once it exists, \
             or stop the operator",
            settings.cluster, settings.proxy.service_name
        ));
    };
    if let Some(reason) = foreign(&service.spec, settings) {
        return Err(reason);
    }
    let said = |spec: &Value| paused(spec) == value;
    if said(&service.spec) && service.previous_spec.as_ref().is_none_or(said) {
        return Ok(None);
    }
    let mut spec = service.spec.clone();
    match (value, spec["Labels"].as_object_mut()) {
        (Some(value), Some(map)) => drop(map.insert(labels::PAUSED.into(), value.into())),
        (None, Some(map)) => drop(map.remove(labels::PAUSED)),
        // A service of ours has labels.
        (_, None) => return Err("the labels of the proxy service do not read".into()),
    }
    let value = value.map(str::to_owned);
    let (id, version) = (service.id.clone(), service.version);
    Ok(Some(Step::LabelService { id, version, spec, label: labels::PAUSED, value }))
}

/// The operator's clock may be so far behind that of who orders.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// Ends every hold of the cluster that is not due yet, perhaps by the operator's clock only.
pub fn release(inventory: &Inventory, settings: &Settings, now: Moment) -> Vec<Step> {
    let objects = &inventory.objects;
    let operators = Moment(now.0.saturating_sub(CLOCKS_APART));
    let held = objects.held().filter(|held| held.wait(settings.hold_retry, operators) != Some(Duration::ZERO));
    let released = held.filter_map(|held| {
        let config = objects.get(&held.config)?;
        Some(Step::ReleaseGeneration {
            config: swarm::Config { labels: held.released(now).write(config), ..config.clone() },
            generation: held.generation,
            reason: held.reason.clone(),
        })
    });
    released.collect()
}
