//! Our config objects: by name, by id, and by the generation whose manifest they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{ConfigId, Digest, Manifest, Timestamp, labels};
use swarm::{Config, NewConfig};

use crate::hold::Held;
use crate::settings::Settings;

/// The kind of a part of manifests that generations may share.
const SHARD: &str = "manifest-shard";

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
    /// The objects that hold it, its head first; other generations may share the rest.
    pub parts: Vec<ConfigId>,
    /// When its head was created.
    pub created_at: Timestamp,
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
    /// Sorts a list of objects; those of other clusters are left out. Manifests that were read `before` are not read again:
    /// what an object holds never changes.
    pub fn new(listed: Vec<Config>, settings: &Settings, before: &Self) -> Self {
        let mut objects = Self::default();
        let ours = |config: &Config| {
            config.labels.get(labels::INSTANCE).is_some_and(|name| name == settings.instance.as_str())
                && config.labels.get(labels::CLUSTER).is_some_and(|name| name == settings.cluster.as_str())
        };
        for config in listed.into_iter().filter(ours) {
            objects.ids.insert(config.name.clone(), config.id.clone());
            objects.by_id.insert(config.id.clone(), config);
        }
        let mut heads: BTreeMap<Digest, Vec<&Config>> = BTreeMap::new();
        for config in objects.ids.values().map(|id| &objects.by_id[id]) {
            if let Some(generation) = generation_label(config) {
                heads.entry(generation).or_default().push(config);
            }
        }
        let shards: BTreeMap<Digest, &Config> =
            objects.by_id.values().filter_map(|config| Some((shard(config)?, config))).collect();
        objects.generations = heads
            .into_iter()
            .map(|(generation, heads)| {
                let known = before.generations.get(&generation).filter(|known| known.is_still(&heads, &objects.by_id));
                let stored =
                    known.map_or_else(|| Stored::new(generation, &heads, &shards), |known| known.again(&heads));
                (generation, stored)
            })
            .collect();
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
    /// Usually there is one head; two operators at once can leave two, which differ in their reasons.
    fn new(generation: Digest, heads: &[&Config], shards: &BTreeMap<Digest, &Config>) -> Self {
        let (mut manifest, mut parts) = (None, Vec::new());
        for head in heads {
            let own = Manifest::shards_of(&head.data);
            let own: Vec<&Config> = own.iter().filter_map(|digest| shards.get(digest).copied()).collect();
            let texts = [*head].into_iter().chain(own.iter().copied()).map(|part| part.data.as_ref());
            let read = Manifest::read(texts).ok().filter(|manifest| manifest.generation == generation);
            // Those of the one that is read come first.
            let place = if manifest.is_none() && read.is_some() { 0 } else { parts.len() };
            parts.splice(place..place, [*head].into_iter().chain(own).map(|part| part.id.clone()));
            manifest = manifest.or(read);
        }
        Self {
            manifest: manifest.map(Arc::new),
            parts,
            created_at: heads.iter().map(|head| head.created_at).max().unwrap_or_default(),
            held: held(heads),
        }
    }

    /// Whether this is what would be read again: a whole manifest of the same objects, and there is no other.
    fn is_still(&self, heads: &[&Config], by_id: &BTreeMap<ConfigId, Config>) -> bool {
        let [head] = heads else { return false };
        self.manifest.is_some()
            && self.parts.first() == Some(&head.id)
            && self.parts.iter().all(|id| by_id.contains_key(id))
    }

    /// The same with the labels that its heads have now.
    fn again(&self, heads: &[&Config]) -> Self {
        Self { held: held(heads), ..self.clone() }
    }
}

fn held(heads: &[&Config]) -> Option<Held> {
    heads.iter().find_map(|head| Held::read(head))
}

/// The digest of a part of a manifest that generations may share.
fn shard(config: &Config) -> Option<Digest> {
    let is_shard = config.labels.get(labels::KIND).is_some_and(|kind| kind == SHARD);
    Digest::parse(config.labels.get(labels::DIGEST).filter(|_| is_shard)?)
}

fn generation_label(config: &Config) -> Option<Digest> {
    config.labels.get(labels::GENERATION).and_then(|text| Digest::parse(text))
}

/// A file as a config object.
pub fn new_file(settings: &Settings, content: &Arc<[u8]>, digest: Digest) -> NewConfig {
    new_config(settings, content, digest, "file")
}

/// A part of a generation's manifest, by the name that [`Manifest::write`] gives it, as a config object.
pub fn new_manifest_part(settings: &Settings, part: &str, content: Vec<u8>, generation: Digest) -> NewConfig {
    let digest = Digest::of(&content);
    let is_head = part == Manifest::HEAD;
    let mut config = new_config(settings, &Arc::from(content), digest, if is_head { "manifest" } else { SHARD });
    if is_head {
        config.labels.insert(labels::GENERATION.into(), generation.to_string());
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{settings, target};

    /// What a generation with so many services leaves in the cluster.
    fn listed(settings: &Settings, services: usize) -> Vec<Config> {
        let names: Vec<String> = (0..services).map(|number| format!("service-{number}")).collect();
        let network = "network".into();
        let target = target("many", &names.iter().map(|name| (name.as_str(), &network)).collect::<Vec<_>>());
        let manifest = &target.bundle.manifest;
        let new = manifest.write().into_iter().map(|(part, content)| {
            let NewConfig { name, labels, data } = new_manifest_part(settings, &part, content, manifest.generation);
            let id = ConfigId::new(format!("id-{name}"));
            Config { id, version: 1, created_at: Timestamp(1), name, labels, data }
        });
        new.collect()
    }

    #[test]
    fn a_manifest_is_read_once_as_long_as_all_of_it_is_there() {
        let settings = settings();
        let listed = listed(&settings, 2000);
        assert!(listed.len() > 2, "{} parts", listed.len());
        let stored = |objects: &Objects| objects.generations().values().next().unwrap().clone();
        let first = Objects::new(listed.clone(), &settings, &Objects::default());
        let read = stored(&first).manifest.expect("it is whole");
        let second = Objects::new(listed.clone(), &settings, &first);
        assert_eq!(second, first);
        assert!(Arc::ptr_eq(&stored(&second).manifest.expect("it is whole"), &read));

        let (shards, head): (Vec<Config>, Vec<Config>) =
            listed.iter().cloned().partition(|config| generation_label(config).is_none());
        let cut = Objects::new([head.clone(), shards[1..].to_vec()].concat(), &settings, &second);
        assert_eq!(stored(&cut).manifest, None, "a part of it went");
        let whole_again = Objects::new(listed.clone(), &settings, &cut);
        assert_eq!(stored(&whole_again).manifest.as_deref(), Some(&*read));

        let mut twice = head;
        twice.push(Config { id: ConfigId::new("another"), name: "another".into(), ..twice[0].clone() });
        let two_heads = Objects::new([twice, shards].concat(), &settings, &whole_again);
        assert_eq!(two_heads, Objects::new(two_heads.iter().cloned().collect(), &settings, &Objects::default()));
    }

    #[test]
    fn a_hold_is_read_from_the_labels_of_now() {
        let settings = settings();
        let mut listed = listed(&settings, 1);
        let before = Objects::new(listed.clone(), &settings, &Objects::default());
        assert_eq!(before.held().count(), 0);
        for (label, value) in
            [(labels::HELD, "bundle 0123456789ab it failed"), (labels::HELD_SINCE, "7"), (labels::HELD_ATTEMPTS, "1")]
        {
            listed[0].labels.insert(label.into(), value.into());
        }
        let now = Objects::new(listed, &settings, &before);
        assert_eq!(now.held().count(), 1);
    }
}
