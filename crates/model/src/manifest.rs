//! What a generation publishes, written into the cluster beside its files and read back after a restart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ClusterName, Contribution, Digest, ServiceId, shard};

/// What one generation publishes. It is stored as config objects that the proxy service refers to, so what
/// is published is read from the live spec and needs no memory of ours.
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
    pub services: BTreeMap<ServiceId, Publication>,
}

/// One published service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// The digest of the contribution.
    pub fragment: Digest,
    /// Why it is published the way it is, for people.
    pub reason: String,
    /// What it adds to the proxy.
    pub contribution: Contribution,
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

#[derive(Serialize, Deserialize)]
struct Part {
    format: u64,
    cluster: ClusterName,
    generation: Digest,
    reason: String,
    prefix: String,
    parts: usize,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    setup: Value,
    services: BTreeMap<ServiceId, Publication>,
}

impl Manifest {
    /// The format written; higher ones are refused, not guessed at.
    pub const FORMAT: u64 = 1;

    /// The limit of one part in bytes: well under Swarm's 500 KiB on older engines.
    pub const PART_LIMIT: usize = 400 * 1024;

    /// The manifest as JSON texts, one a config object, at least one; named by what follows `manifest` in
    /// their file names.
    pub fn write(&self) -> BTreeMap<String, Vec<u8>> {
        let pieces = self.services.iter().map(|(id, publication)| (id.to_string(), publication)).collect();
        let mut shards = shard::split(pieces, Self::PART_LIMIT, |publication| {
            serde_json::to_vec(publication).expect("a publication has only string keys").len() + 64
        });
        if shards.is_empty() {
            shards.push(shard::Shard { prefix: String::new(), pieces: Vec::new() });
        }
        let parts = shards.len();
        shards
            .into_iter()
            .map(|shard| {
                let name = if shard.prefix.is_empty() { String::new() } else { format!("-{}", shard.prefix) };
                let part = Part {
                    format: Self::FORMAT,
                    cluster: self.cluster.clone(),
                    generation: self.generation,
                    reason: self.reason.clone(),
                    prefix: shard.prefix,
                    parts,
                    setup: self.setup.clone(),
                    services: shard
                        .pieces
                        .into_iter()
                        .map(|(id, publication)| (ServiceId::new(id), publication.clone()))
                        .collect(),
                };
                (name, serde_json::to_vec(&part).expect("a manifest has only string keys"))
            })
            .collect()
    }

    /// Reads what [`Manifest::write`] wrote, in any order.
    ///
    /// # Errors
    /// When a part is missing, damaged, of another generation, or of a later format.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        let damaged = |error: serde_json::Error| ManifestError::Damaged(error.to_string());
        let mut whole: Option<(Manifest, usize)> = None;
        let mut seen = 0;
        for text in texts {
            let Format { format } = serde_json::from_slice(text).map_err(damaged)?;
            if format > Self::FORMAT {
                return Err(ManifestError::FromTheFuture { found: format });
            }
            let part: Part = serde_json::from_slice(text).map_err(damaged)?;
            seen += 1;
            match &mut whole {
                None => {
                    let manifest = Manifest {
                        cluster: part.cluster,
                        generation: part.generation,
                        reason: part.reason,
                        setup: part.setup,
                        services: part.services,
                    };
                    whole = Some((manifest, part.parts));
                }
                Some((manifest, parts)) => {
                    if part.generation != manifest.generation || part.parts != *parts {
                        return Err(ManifestError::Damaged("its parts are of two generations".into()));
                    }
                    manifest.services.extend(part.services);
                }
            }
        }
        match whole {
            Some((manifest, parts)) if parts == seen => Ok(manifest),
            Some((_, parts)) => Err(ManifestError::Damaged(format!("{seen} of its {parts} parts are there"))),
            None => Err(ManifestError::Damaged("it is not there".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{BackendMode, CreatedAt, Host, NetworkId};

    fn manifest(services: usize) -> Manifest {
        let services = (0..services)
            .map(|n| {
                let contribution = Contribution {
                    name: format!("service-{n}"),
                    created_at: CreatedAt(n as i64),
                    hosts: BTreeSet::from([Host::parse(&format!("{n}.example.org")).unwrap()]),
                    default_backend: false,
                    mode: BackendMode::Vip,
                    network: Some(NetworkId::new("network")),
                    endpoints: BTreeSet::from(["10.0.0.1:80".parse().unwrap()]),
                    options: crate::Options::default(),
                    secrets: crate::Secrets::new(),
                };
                let publication =
                    Publication { fragment: contribution.digest(), reason: "has run".into(), contribution };
                (ServiceId::new(format!("id{n}")), publication)
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
        for (services, parts) in [(0, 1), (1, 1), (5000, 16)] {
            let manifest = manifest(services);
            let written = manifest.write();
            assert_eq!(written.len(), parts);
            assert!(written.values().all(|part| part.len() < 500_000));
            assert_eq!(read(&written), Ok(manifest));
        }
    }

    #[test]
    fn unread_is_not_empty() {
        assert!(matches!(Manifest::read([]), Err(ManifestError::Damaged(_))));
        assert!(matches!(Manifest::read([b"{}".as_slice()]), Err(ManifestError::Damaged(_))));
        let mut written = manifest(5000).write();
        written.pop_first();
        assert_eq!(read(&written), Err(ManifestError::Damaged("15 of its 16 parts are there".into())));
    }

    #[test]
    fn a_manifest_from_the_future_is_refused_whatever_else_is_in_it() {
        let future = br#"{"format": 2, "layout": "unheard of"}"#;
        assert_eq!(Manifest::read([future.as_slice()]), Err(ManifestError::FromTheFuture { found: 2 }));
    }
}
