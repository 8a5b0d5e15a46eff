//! What a spec of the proxy service says, in our words: whose it is, what it mounts, what it publishes.

use std::sync::Arc;

use model::{ConfigId, Digest, Manifest, labels};
use serde::Serialize;
use serde_json::Value;

use crate::objects::Objects;
use crate::settings::Settings;
use crate::spec::{Mounts, Owned, is_manifest_path};

/// A spec of ours, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// What it mounts.
    pub mounts: Mounts,
    /// What it publishes.
    pub manifest: Arc<Manifest>,
    /// The settings that were applied with it.
    pub applied: Owned,
    /// What a rollout of it tries.
    pub attempt: Attempt,
}

/// What one rollout tries: these routes under these settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The generation.
    pub generation: Digest,
    /// The digest of the settings.
    pub settings: Digest,
}

impl Attempt {
    /// The settings, as a hold names them.
    pub fn settings_name(&self) -> String {
        self.settings.short()
    }
}

/// Why a service of our name is not ours; `None` if it is.
pub fn foreign(spec: &Value, settings: &Settings) -> Option<String> {
    let label = |name: &str| spec["Labels"][name].as_str();
    let name = &settings.proxy.service_name;
    match (label(labels::INSTANCE), label(labels::CLUSTER)) {
        (Some(instance), Some(cluster))
            if instance == settings.instance.as_str() && cluster == settings.cluster.as_str() =>
        {
            None
        }
        (None, _) | (_, None) => Some(format!("the service {name} exists and was not made by Dovetail")),
        (Some(instance), Some(cluster)) => {
            Some(format!("the service {name} belongs to the cluster {cluster} of the Dovetail instance {instance}"))
        }
    }
}

impl Live {
    /// Reads a spec of ours.
    ///
    /// # Errors
    /// When its manifest cannot be read: what it publishes is then unknown, which is not nothing.
    pub fn read(spec: &Value, objects: &Objects) -> Result<Self, String> {
        let mounts = Mounts::read(spec);
        let manifest = manifest(&mounts, spec, objects)?;
        let applied = Owned::of_service(spec);
        let attempt = Attempt { generation: manifest.generation, settings: applied.digest };
        Ok(Self { mounts, manifest, applied, attempt })
    }
}

fn manifest(mounts: &Mounts, spec: &Value, objects: &Objects) -> Result<Arc<Manifest>, String> {
    let mut parts: Vec<&ConfigId> = Vec::new();
    for (path, reference) in mounts.files.iter().filter(|(path, _)| is_manifest_path(path)) {
        match &reference.id {
            Some(id) => parts.push(id),
            None => return Err(format!("the spec names no config for {path}")),
        }
    }
    if parts.is_empty() {
        return label_only(spec, objects);
    }
    parts.sort();
    for stored in objects.generations().values() {
        let mut of_stored: Vec<&ConfigId> = stored.parts.iter().collect();
        of_stored.sort();
        if let Some(manifest) = &stored.manifest
            && of_stored == parts
        {
            return Ok(Arc::clone(manifest));
        }
    }
    let mut texts = Vec::new();
    for id in parts {
        match objects.get(id) {
            Some(config) => texts.push(config.data.as_ref()),
            None => return Err(format!("the config {id} of the manifest is not among our objects")),
        }
    }
    Manifest::read(texts).map(Arc::new).map_err(|error| error.to_string())
}

/// Somebody took the manifest out of the spec. The service's label still says which generation it was, and the
/// manifest may still lie in the cluster.
fn label_only(spec: &Value, objects: &Objects) -> Result<Arc<Manifest>, String> {
    spec["Labels"][labels::GENERATION]
        .as_str()
        .and_then(Digest::parse)
        .and_then(|generation| objects.generations().get(&generation)?.manifest.clone())
        .ok_or_else(|| "no manifest is mounted".into())
}
