//! The steps of a plan: everything that can be written to a cluster, with nothing left to choose.

use std::fmt;

use model::{ConfigId, Digest, NetworkId, ServiceId};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::Value;
use swarm::{Config, NewConfig};

use crate::check::Draft;
use crate::live::Attempt;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Creates a config object.
    CreateConfig(NewConfig),
    /// Creates the proxy service.
    CreateService(ServiceWrite),
    /// Creates the service that checks the files before they are rolled out.
    CreateCheck {
        /// The service.
        draft: Draft,
        /// What is written to the proxy service if it passes.
        write: ServiceWrite,
    },
    /// Removes that service.
    RemoveCheck {
        /// Its id.
        id: ServiceId,
        /// Its name.
        name: String,
    },
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
    /// Takes a hold off a generation's manifest.
    ReleaseGeneration {
        /// The object with its new labels.
        config: Config,
        /// What was held.
        generation: Digest,
        /// Why it was.
        reason: String,
    },
    /// Writes or removes one label of the proxy service, and nothing else: no task notices.
    LabelService {
        /// Its id.
        id: ServiceId,
        /// The version that was read.
        version: u64,
        /// The whole spec.
        spec: Value,
        /// The label.
        label: &'static str,
        /// Its value; none where it is removed.
        value: Option<String>,
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
    /// Why, for counting.
    pub kind: Kind,
    /// The networks that it joins.
    pub joins: Vec<NetworkId>,
    /// The networks that it leaves.
    pub leaves: Vec<NetworkId>,
}

/// Why a rollout is started, in one word; the first that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The proxy service is created.
    First,
    /// The last good is put back in place of something that failed.
    TakeBack,
    /// Somebody's edit of what is ours is undone, or Swarm is told again what it gave up on.
    Repair,
    /// The settings changed.
    Settings,
    /// A network is joined or left.
    Network,
    /// A service came, went, or asks for something else.
    Service,
    /// Tasks came or went, and nothing else changed.
    Tasks,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] =
        [Kind::First, Kind::TakeBack, Kind::Repair, Kind::Settings, Kind::Network, Kind::Service, Kind::Tasks];

    /// The kind in metrics; the same as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::First => "first",
            Kind::TakeBack => "take_back",
            Kind::Repair => "repair",
            Kind::Settings => "settings",
            Kind::Network => "network",
            Kind::Service => "service",
            Kind::Tasks => "tasks",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateConfig(config) => write!(f, "create config {} ({} bytes)", config.name, config.data.len()),
            Step::CreateService(write) => write!(f, "create service: {write}"),
            Step::CreateCheck { draft, write } => {
                write!(f, "check the files with {} before the rollout: {write}", draft.command())
            }
            Step::RemoveCheck { name, .. } => write!(f, "remove the check {name}"),
            Step::UpdateService { id, version, write } => {
                write!(f, "update service {id} at version {version}: {write}")
            }
            Step::HoldGeneration { generation, reason, config } => {
                write!(f, "hold {} on config {}: {reason}", generation.short(), config.name)
            }
            Step::ReleaseGeneration { generation, config, .. } => {
                write!(f, "release {} on config {}", generation.short(), config.name)
            }
            Step::LabelService { id, version, label, value: Some(value), .. } => {
                write!(f, "label service {id} at version {version} with {label}={value}")
            }
            Step::LabelService { id, version, label, value: None, .. } => {
                write!(f, "take the label {label} off service {id} at version {version}")
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
            Step::CreateCheck { draft, write } => {
                fields.serialize_field("step", "create_check")?;
                fields.serialize_field("generation", &write.attempt.generation)?;
                fields.serialize_field("reason", &write.reason)?;
                fields.serialize_field("spec", &draft.spec)?;
            }
            Step::RemoveCheck { id, name } => {
                fields.serialize_field("step", "remove_check")?;
                fields.serialize_field("id", id)?;
                fields.serialize_field("name", name)?;
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
            Step::ReleaseGeneration { config, generation, reason } => {
                fields.serialize_field("step", "release_generation")?;
                fields.serialize_field("name", &config.name)?;
                fields.serialize_field("generation", generation)?;
                fields.serialize_field("reason", reason)?;
            }
            Step::LabelService { id, version, label, value, .. } => {
                fields.serialize_field("step", "label_service")?;
                fields.serialize_field("id", id)?;
                fields.serialize_field("version", version)?;
                fields.serialize_field("label", label)?;
                fields.serialize_field("value", value)?;
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
        fields.serialize_field("kind", &self.kind)?;
        fields.serialize_field("joins", &self.joins)?;
        fields.serialize_field("leaves", &self.leaves)?;
        fields.serialize_field("spec", &self.spec)
    }
}
