//! Our config objects: by name, by id, and by the generation whose manifest they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{ConfigId, CreatedAt, Digest, Manifest, labels};
use swarm::{Config, NewConfig};

use crate::hold::Held;
use crate::settings::Settings;

/// The config objects of one cluster, as listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    by_id: BTreeMap<ConfigId, Config>,
    ids: BTreeMap<String, ConfigId>,
    generations: BTreeMap<Digest, Stored>,
}

/// A generation whose manifest lies in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The manifest; none if it does not read or is incomplete.
    pub manifest: Option<Arc<Manifest>>,
    /// The objects that hold it, in the order of their names.
    pub parts: Vec<ConfigId>,
    /// When the last of them was created.
    pub created_at: CreatedAt,
    /// The hold written on it.
    pub held: Option<Held>,
}

/// Why an object of a name that we need cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a config object named {name} exists that is not what we would have made of it: {what}")]
pub struct Taken {
    name: String,
    what: &'static str,
}

impl Objects {
    /// Sorts a list of objects; those of other clusters are left out.
    pub fn new(listed: Vec<Config>, settings: &Settings) -> Self {
        let mut objects = Self::default();
        let ours = |config: &Config| {
            config.labels.get(labels::INSTANCE).is_some_and(|name| name == settings.instance.as_str())
                && config.labels.get(labels::CLUSTER).is_some_and(|name| name == settings.cluster.as_str())
        };
        for config in listed.into_iter().filter(ours) {
            objects.ids.insert(config.name.clone(), config.id.clone());
            objects.by_id.insert(config.id.clone(), config);
        }
        let mut parts: BTreeMap<Digest, Vec<&Config>> = BTreeMap::new();
        for config in objects.ids.values().map(|id| &objects.by_id[id]) {
            if let Some(generation) = generation_label(config) {
                parts.entry(generation).or_default().push(config);
            }
        }
        objects.generations =
            parts.into_iter().map(|(generation, parts)| (generation, Stored::new(generation, &parts))).collect();
        objects
    }

    /// The object of this id.
    pub fn get(&self, id: &ConfigId) -> Option<&Config> {
        self.by_id.get(id)
    }

    /// The object of this name.
    pub fn named(&self, name: &str) -> Option<&Config> {
        self.ids.get(name).map(|id| &self.by_id[id])
    }

    /// Every object, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = &Config> {
        self.ids.values().map(|id| &self.by_id[id])
    }

    /// The generations that have a manifest here.
    pub fn generations(&self) -> &BTreeMap<Digest, Stored> {
        &self.generations
    }

    /// Every hold.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.generations.values().filter_map(|stored| stored.held.as_ref())
    }

    /// The generation whose manifest these objects are, as their labels say.
    pub fn generation_of<'a>(&self, ids: impl IntoIterator<Item = &'a ConfigId>) -> Option<Digest> {
        let found: BTreeSet<Digest> =
            ids.into_iter().filter_map(|id| self.by_id.get(id).and_then(generation_label)).collect();
        if found.len() == 1 { found.first().copied() } else { None }
    }

    /// The object that holds what `wanted` would hold, if it exists.
    ///
    /// # Errors
    /// When the name is taken by something else.
    pub fn same_as(&self, wanted: &NewConfig) -> Result<Option<&Config>, Taken> {
        let Some(config) = self.named(&wanted.name) else { return Ok(None) };
        let taken = |what| Err(Taken { name: wanted.name.clone(), what });
        if config.labels.get(labels::DIGEST) != wanted.labels.get(labels::DIGEST) {
            return taken("its label names another content");
        }
        if config.data != wanted.data {
            return taken("its content is another");
        }
        Ok(Some(config))
    }
}

impl Stored {
    fn new(generation: Digest, parts: &[&Config]) -> Self {
        let manifest = Manifest::read(parts.iter().map(|part| part.data.as_ref())).ok();
        Self {
            manifest: manifest.filter(|manifest| manifest.generation == generation).map(Arc::new),
            parts: parts.iter().map(|part| part.id.clone()).collect(),
            created_at: parts.iter().map(|part| part.created_at).max().unwrap_or_default(),
            held: parts.iter().find_map(|part| Held::read(part)),
        }
    }
}

fn generation_label(config: &Config) -> Option<Digest> {
    config.labels.get(labels::GENERATION).and_then(|text| Digest::parse(text))
}

/// A file as a config object.
pub fn new_file(settings: &Settings, content: &Arc<[u8]>, digest: Digest) -> NewConfig {
    new_config(settings, content, digest, "file")
}

/// A part of a generation's manifest as a config object.
pub fn new_manifest_part(settings: &Settings, content: Vec<u8>, generation: Digest) -> NewConfig {
    let digest = Digest::of(&content);
    let mut config = new_config(settings, &Arc::from(content), digest, "manifest");
    config.labels.insert(labels::GENERATION.into(), generation.to_string());
    config
}

fn new_config(settings: &Settings, content: &Arc<[u8]>, digest: Digest, kind: &str) -> NewConfig {
    let mut labels = settings.object_labels.clone();
    labels.insert(labels::INSTANCE.into(), settings.instance.to_string());
    labels.insert(labels::CLUSTER.into(), settings.cluster.to_string());
    labels.insert(labels::DIGEST.into(), digest.to_string());
    labels.insert(labels::KIND.into(), kind.into());
    NewConfig {
        name: format!("dovetail.{}.{}.{}", settings.instance, settings.cluster, digest.name()),
        labels,
        data: Arc::clone(content),
    }
}
