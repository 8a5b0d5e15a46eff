//! The steps of a plan: everything that can be written to a cluster, with nothing left to choose.

use std::fmt;

use model::{ConfigId, Digest, NetworkId, ServiceId};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::Value;
use swarm::{Config, NewConfig};

use crate::live::Attempt;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Creates a config object.
    CreateConfig(NewConfig),
    /// Creates the proxy service.
    CreateService(ServiceWrite),
    /// Updates the proxy service: one rollout, or none if only labels differ.
    UpdateService {
        /// Its id.
        id: ServiceId,
        /// The version that was read.
        version: u64,
        /// What to write.
        write: ServiceWrite,
    },
    /// Writes on a generation's manifest that it failed.
    HoldGeneration {
        /// The object with its new labels.
        config: Config,
        /// What failed.
        generation: Digest,
        /// What happened.
        reason: String,
    },
    /// Removes a config object that nothing needs any more.
    RemoveConfig {
        /// Its id.
        id: ConfigId,
        /// Its name.
        name: String,
    },
}

/// A service spec to be written, and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceWrite {
    /// The whole spec. References to configs that an earlier step creates have no id yet.
    pub spec: Value,
    /// What it tries.
    pub attempt: Attempt,
    /// Why, for people.
    pub reason: String,
    /// The networks that it joins.
    pub joins: Vec<NetworkId>,
    /// The networks that it leaves.
    pub leaves: Vec<NetworkId>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateConfig(config) => write!(f, "create config {} ({} bytes)", config.name, config.data.len()),
            Step::CreateService(write) => write!(f, "create service: {write}"),
            Step::UpdateService { id, version, write } => {
                write!(f, "update service {id} at version {version}: {write}")
            }
            Step::HoldGeneration { generation, reason, config } => {
                write!(f, "hold {} on config {}: {reason}", generation.short(), config.name)
            }
            Step::RemoveConfig { name, .. } => write!(f, "remove config {name}"),
        }
    }
}

impl fmt::Display for ServiceWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}, {}", self.attempt.generation.short(), self.reason)?;
        for id in &self.joins {
            write!(f, ", joins network {id}")?;
        }
        for id in &self.leaves {
            write!(f, ", leaves network {id}")?;
        }
        Ok(())
    }
}

/// Contents are told by their size: a plan is to be read.
impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Step", 4)?;
        match self {
            Step::CreateConfig(config) => {
                fields.serialize_field("step", "create_config")?;
                fields.serialize_field("name", &config.name)?;
                fields.serialize_field("labels", &config.labels)?;
                fields.serialize_field("bytes", &config.data.len())?;
            }
            Step::CreateService(write) => {
                fields.serialize_field("step", "create_service")?;
                write.serialize_into::<S>(&mut fields)?;
            }
            Step::UpdateService { id, version, write } => {
                fields.serialize_field("step", "update_service")?;
                fields.serialize_field("id", id)?;
                fields.serialize_field("version", version)?;
                write.serialize_into::<S>(&mut fields)?;
            }
            Step::HoldGeneration { config, generation, reason } => {
                fields.serialize_field("step", "hold_generation")?;
                fields.serialize_field("name", &config.name)?;
                fields.serialize_field("generation", generation)?;
                fields.serialize_field("reason", reason)?;
            }
            Step::RemoveConfig { id, name } => {
                fields.serialize_field("step", "remove_config")?;
                fields.serialize_field("id", id)?;
                fields.serialize_field("name", name)?;
            }
        }
        fields.end()
    }
}

impl ServiceWrite {
    fn serialize_into<S: Serializer>(&self, fields: &mut S::SerializeStruct) -> Result<(), S::Error> {
        fields.serialize_field("generation", &self.attempt.generation)?;
        fields.serialize_field("reason", &self.reason)?;
        fields.serialize_field("joins", &self.joins)?;
        fields.serialize_field("leaves", &self.leaves)?;
        fields.serialize_field("spec", &self.spec)
    }
}
