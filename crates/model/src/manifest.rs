//! What a generation publishes, written into the cluster beside its files and read back after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ClusterName, Contribution, Digest, ServiceId, Shards};

/// What one generation publishes. It is stored as config objects that the proxy service refers to, so what
/// is published is read from the live spec and needs no memory of ours. A large one is sharded, by the digests of the
/// services' ids, so that a changed service replaces one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose proxies.
    pub cluster: ClusterName,
    /// The generation that this describes.
    pub generation: Digest,
    /// Why this generation was made, for people.
    pub reason: String,
    /// How the proxies were set up, in the words of whoever renders their files; null if whoever wrote it did not say.
    pub setup: Value,
    /// What is published.
    pub services: Publications,
}

/// What is published, by service id; generations share what they did not change.
pub type Publications = imbl::OrdMap<ServiceId, Arc<Publication>>;

/// One published service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// The digest of the contribution.
    pub fragment: Digest,
    /// Why it is published the way it is, for people.
    pub reason: String,
    /// What it adds to the proxy.
    pub contribution: Arc<Contribution>,
}

/// Why stored manifests cannot be used. None of them means "nothing is published".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It was written by a later version of Dovetail.
    #[error("the manifest has format {found}, this version of Dovetail knows up to {known}", known = Manifest::FORMAT)]
    FromTheFuture {
        /// The format found.
        found: u64,
    },
    /// It does not read, or its parts do not belong together.
    #[error("the manifest is damaged: {0}")]
    Damaged(String),
}

/// The object that tells of the whole generation.
#[derive(Serialize, Deserialize)]
struct Head {
    format: u64,
    cluster: ClusterName,
    generation: Digest,
    reason: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    setup: Value,
    /// All services, unless they need shards.
    services: Publications,
    /// The digests of the shards, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shards: Vec<Digest>,
    /// Format 1 said here how many objects there were, all of them alike. Not more than one is read any more.
    #[serde(default = "one", skip_serializing)]
    parts: usize,
}

fn one() -> usize {
    1
}

/// Some of the services. Nothing of a generation is in it, so that generations share what they did not change.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shard {
    cluster: ClusterName,
    shard: Publications,
}

impl Manifest {
    /// The format written; higher ones are refused, not guessed at.
    pub const FORMAT: u64 = 2;

    /// The limit of one object in bytes: well under Swarm's 500 KiB on older engines.
    pub const PART_LIMIT: usize = 400 * 1024;

    /// The name of the part that tells of the whole generation.
    pub const HEAD: &str = "";

    /// The manifest as JSON texts, one a config object, named by what follows `manifest` in their file names:
    /// [`Manifest::HEAD`], and, if that would be too large, shards of services.
    pub fn write(&self) -> BTreeMap<String, Vec<u8>> {
        let mut shards = Shards::new(Self::PART_LIMIT);
        for (id, publication) in &self.services {
            shards.insert(id.as_str(), json(publication).len() + 64, (id, publication));
        }
        let mut head = Head {
            format: Self::FORMAT,
            cluster: self.cluster.clone(),
            generation: self.generation,
            reason: self.reason.clone(),
            setup: self.setup.clone(),
            services: Publications::new(),
            shards: Vec::new(),
            parts: one(),
        };
        let mut written = BTreeMap::new();
        for (prefix, pieces) in shards.changes() {
            let Some(pieces) = pieces else { continue };
            let services =
                pieces.into_iter().map(|(id, publication)| ((*id).clone(), Arc::clone(publication))).collect();
            if prefix.is_empty() {
                head.services = services;
            } else {
                let text = json(&Shard { cluster: self.cluster.clone(), shard: services });
                head.shards.push(Digest::of(&text));
                written.insert(format!("-{prefix}"), text);
            }
        }
        written.insert(Self::HEAD.to_owned(), json(&head));
        written
    }

    /// The digests of the shards that belong to a head; none if the text is no head.
    pub fn shards_of(head: &[u8]) -> Vec<Digest> {
        /// Without the services, which are most of it and are read later.
        #[derive(Deserialize)]
        struct Shards {
            #[serde(default)]
            shards: Vec<Digest>,
        }
        serde_json::from_slice::<Shards>(head).map(|head| head.shards).unwrap_or_default()
    }

    /// Reads what [`Manifest::write`] wrote: the head, and its shards in any order.
    ///
    /// # Errors
    /// When a shard is missing, or anything is damaged or of a later format.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Format {
            format: Option<u64>,
        }
        let damaged = |error: serde_json::Error| ManifestError::Damaged(error.to_string());
        let mut head: Option<Head> = None;
        let mut shards: BTreeMap<Digest, Shard> = BTreeMap::new();
        for text in texts {
            match serde_json::from_slice(text).map_err(damaged)? {
                Format { format: Some(format) } if format > Self::FORMAT => {
                    return Err(ManifestError::FromTheFuture { found: format });
                }
                Format { format: Some(_) } if head.is_some() => {
                    return Err(ManifestError::Damaged("it has two heads".into()));
                }
                Format { format: Some(_) } => head = Some(serde_json::from_slice(text).map_err(damaged)?),
                Format { format: None } => {
                    shards.insert(Digest::of(text), serde_json::from_slice(text).map_err(damaged)?);
                }
            }
        }
        let head = head.ok_or_else(|| ManifestError::Damaged("it is not there".into()))?;
        if head.parts != 1 {
            return Err(ManifestError::Damaged(format!(
                "it is in {} parts of a form that is not read any more",
                head.parts
            )));
        }
        let mut services = head.services;
        let total = head.shards.len();
        let found = head.shards.iter().filter_map(|digest| shards.remove(digest));
        let found: Vec<Shard> = found.filter(|shard| shard.cluster == head.cluster).collect();
        if found.len() < total || !shards.is_empty() {
            let strange = shards.len();
            return Err(ManifestError::Damaged(format!(
                "{} of its {total} shards are there, and {strange} that are not its own",
                found.len()
            )));
        }
        services.extend(found.into_iter().flat_map(|shard| shard.shard));
        let Head { cluster, generation, reason, setup, .. } = head;
        Ok(Self { cluster, generation, reason, setup, services })
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a manifest has only string keys")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{BackendMode, Host, NetworkId, Timestamp};

    fn manifest(services: usize) -> Manifest {
        let services = (0..services)
            .map(|n| {
                let contribution = Contribution {
                    name: format!("service-{n}"),
                    created_at: Timestamp(n as i64),
                    hosts: BTreeSet::from([Host::parse(&format!("{n}.example.org")).unwrap()]),
                    default_backend: false,
                    mode: BackendMode::Vip,
                    network: Some(NetworkId::new("network")),
                    endpoints: BTreeSet::from(["10.0.0.1:80".parse().unwrap()]),
                    options: crate::Options::default(),
                    secrets: crate::Secrets::new(),
                };
                let (fragment, contribution) = (contribution.digest(), Arc::new(contribution));
                let publication = Publication { fragment, reason: "has run".into(), contribution };
                (ServiceId::new(format!("id{n}")), Arc::new(publication))
            })
            .collect();
        Manifest {
            cluster: ClusterName::parse("main").unwrap(),
            generation: Digest::of(b"files"),
            reason: "first".into(),
            setup: serde_json::json!({ "user": "nginx" }),
            services,
        }
    }

    fn read(parts: &BTreeMap<String, Vec<u8>>) -> Result<Manifest, ManifestError> {
        Manifest::read(parts.values().rev().map(Vec::as_slice))
    }

    #[test]
    fn a_manifest_reads_back_what_it_wrote() {
        for (services, parts) in [(0, 1), (1, 1), (5000, 17)] {
            let manifest = manifest(services);
            let written = manifest.write();
            assert_eq!(written.len(), parts);
            assert!(written.values().all(|part| part.len() < 500_000));
            assert_eq!(Manifest::shards_of(&written[Manifest::HEAD]).len(), parts - 1);
            assert_eq!(read(&written), Ok(manifest));
        }
    }

    #[test]
    fn one_changed_service_changes_the_head_and_one_shard() {
        let before = manifest(5000);
        let mut after = Manifest { generation: Digest::of(b"other files"), reason: "changed".into(), ..before.clone() };
        let service = after.services.get_mut(&ServiceId::new("id77")).unwrap();
        Arc::make_mut(service).reason = "2 tasks run".into();
        let (before, after) = (before.write(), after.write());
        let changed: Vec<&String> =
            after.iter().filter(|(name, text)| before[*name] != **text).map(|(name, _)| name).collect();
        assert_eq!((changed.len(), changed[0].as_str()), (2, Manifest::HEAD), "{changed:?}");
    }

    #[test]
    fn unread_is_not_empty() {
        assert!(matches!(Manifest::read([]), Err(ManifestError::Damaged(_))));
        assert!(matches!(Manifest::read([b"{}".as_slice()]), Err(ManifestError::Damaged(_))));
        let written = manifest(5000).write();
        let mut without_a_shard = written.clone();
        without_a_shard.pop_last();
        let problem = "15 of its 16 shards are there, and 0 that are not its own";
        assert_eq!(read(&without_a_shard), Err(ManifestError::Damaged(problem.into())));
        let mut without_its_head = written.clone();
        without_its_head.pop_first();
        assert_eq!(read(&without_its_head), Err(ManifestError::Damaged("it is not there".into())));
        let mut with_another = written.clone();
        with_another.insert("-x".into(), br#"{"cluster":"main","shard":{}}"#.to_vec());
        let problem = "16 of its 16 shards are there, and 1 that are not its own";
        assert_eq!(read(&with_another), Err(ManifestError::Damaged(problem.into())));
        let mut with_two_heads = written;
        with_two_heads.insert("-x".into(), manifest(1).write().remove(Manifest::HEAD).unwrap());
        assert_eq!(read(&with_two_heads), Err(ManifestError::Damaged("it has two heads".into())));
    }

    #[test]
    fn the_first_format_is_read_if_it_is_in_one_piece() {
        let old = |parts: usize| {
            let mut old: Value = serde_json::from_slice(&manifest(1).write()[Manifest::HEAD]).unwrap();
            (old["format"], old["prefix"], old["parts"]) = (1.into(), "".into(), parts.into());
            old.to_string().into_bytes()
        };
        assert_eq!(Manifest::read([old(1).as_slice()]), Ok(manifest(1)));
        assert!(matches!(Manifest::read([old(2).as_slice()]), Err(ManifestError::Damaged(_))));
    }

    #[test]
    fn a_manifest_from_the_future_is_refused_whatever_else_is_in_it() {
        let future = br#"{"format": 3, "layout": "unheard of"}"#;
        assert_eq!(Manifest::read([future.as_slice()]), Err(ManifestError::FromTheFuture { found: 3 }));
    }
}
