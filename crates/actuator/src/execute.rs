//! Obeys a plan: writes its steps in their order and stops at the first that fails. It decides nothing; what
//! to do after a failure is the next plan's question, and a step that was not answered may have happened.

use std::collections::{BTreeMap, BTreeSet};

use model::{ConfigId, Digest, ServiceId};
use serde_json::Value;
use swarm::{Class, Config, Error, RegistryAuth};

use crate::counters::Counters;
use crate::spec::fill_in_ids;
use crate::step::{ServiceWrite, Step};

/// What was done.
#[derive(Debug, Default)]
pub struct Executed {
    /// How many steps.
    pub steps: usize,
    /// Whether config objects were created, labelled or removed, or may have been.
    pub objects_touched: bool,
    /// The spec that was written to the service, if it was.
    pub written: Option<ServiceWrite>,
    /// The objects that could not be removed because somebody else uses them.
    pub in_use: BTreeSet<ConfigId>,
    /// Objects that were labelled.
    pub labelled: Vec<ConfigId>,
    /// Objects whose new labels the Engine refuses to write.
    pub unwritten: Vec<Config>,
    /// What was to be checked by a service that the Engine refuses to create, and its words.
    pub unchecked: Option<(Digest, String)>,
    /// The check that the Engine refuses to remove.
    pub stuck_check: Option<ServiceId>,
    /// The failure that ended it.
    pub error: Option<Error>,
}

/// Writes the steps.
pub async fn execute(
    swarm: &impl swarm::Write,
    steps: &[Step],
    auth: Option<&RegistryAuth>,
    counters: &Counters,
) -> Executed {
    let mut executed = Executed::default();
    let mut created = BTreeMap::new();
    for step in steps {
        if let Err(error) = one(swarm, step, auth, counters, &mut created, &mut executed).await {
            executed.error = Some(error);
            break;
        }
        executed.steps += 1;
        if executed.stuck_check.is_some() {
            // Its name stays taken, and its files in use.
            break;
        }
    }
    executed
}

async fn one(
    swarm: &impl swarm::Write,
    step: &Step,
    auth: Option<&RegistryAuth>,
    counters: &Counters,
    created: &mut BTreeMap<String, ConfigId>,
    executed: &mut Executed,
) -> swarm::Result<()> {
    match step {
        Step::CreateConfig(config) => {
            executed.objects_touched = true;
            Counters::add(&counters.config_writes);
            created.insert(config.name.clone(), swarm.create_config(config).await?);
        }
        Step::CreateService(write) => {
            let spec = with_ids(&write.spec, created)?;
            Counters::add(&counters.service_writes);
            swarm.create_service(&spec, auth).await?;
            executed.written = Some(ServiceWrite { spec, ..write.clone() });
        }
        Step::CreateCheck { draft, .. } => {
            let spec = with_ids(&draft.spec, created)?;
            match swarm.create_service(&spec, auth).await {
                Ok(_) => {}
                // Without rights for it, or on an Engine that finds fault with it, there is no check.
                Err(error) if error.class == Class::Refused => {
                    executed.unchecked =
                        Some((draft.digest, format!("the Engine refuses the check: {}", error.message)));
                }
                Err(error) => return Err(error),
            }
        }
        Step::RemoveCheck { id, .. } => match swarm.remove_service(id).await {
            Ok(()) => {}
            Err(error) if error.class == Class::NotFound => {}
            Err(error) if error.class == Class::Refused => {
                tracing::warn!(service_id = %id, %error, "a check stays behind");
                executed.stuck_check = Some(id.clone());
            }
            Err(error) => return Err(error),
        },
        Step::UpdateService { id, version, write } => {
            let spec = with_ids(&write.spec, created)?;
            Counters::add(&counters.service_writes);
            swarm.update_service(id, *version, &spec, auth).await?;
            executed.written = Some(ServiceWrite { spec, ..write.clone() });
        }
        // Credentials are a part of the spec too: the ones in it stay, or tasks would notice.
        Step::LabelService { id, version, spec, .. } => {
            Counters::add(&counters.service_writes);
            swarm.update_service(id, *version, spec, None).await?;
        }
        Step::ReleaseGeneration { config, .. } => {
            executed.objects_touched = true;
            Counters::add(&counters.config_writes);
            swarm.label_config(config).await?;
        }
        Step::HoldGeneration { config, .. } => {
            executed.objects_touched = true;
            Counters::add(&counters.config_writes);
            match swarm.label_config(config).await {
                Ok(()) => executed.labelled.push(config.id.clone()),
                // A note that cannot be made must not keep the proxies from being taken back.
                Err(error) if error.class == Class::Refused => {
                    tracing::warn!(config = %config.name, %error, "this is remembered by this process alone");
                    executed.unwritten.push(config.clone());
                }
                Err(error) => return Err(error),
            }
        }
        Step::RemoveConfig { id, name } => {
            executed.objects_touched = true;
            match swarm.remove_config(id).await {
                Ok(()) => Counters::add(&counters.removals),
                Err(error) if error.class == Class::NotFound => {}
                Err(error) if error.class == Class::InUse => {
                    tracing::debug!(config = %name, "kept: somebody else uses it");
                    executed.in_use.insert(id.clone());
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn with_ids(spec: &Value, created: &BTreeMap<String, ConfigId>) -> swarm::Result<Value> {
    fill_in_ids(spec, created).map_err(|name| {
        Error::new(
            Class::NotFound,
            "write a service",
            format!("the plan names the config {name} and does not create it"),
        )
    })
}
