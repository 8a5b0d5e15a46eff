//! What is handed to the actuator: files and mounts, nothing that needs to be understood.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{ClusterName, Digest, Manifest, NetworkId, SecretId};

/// One file in the proxy's container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its bytes, shared between generations that did not change it.
    pub content: Arc<[u8]>,
    /// Their digest.
    pub digest: Digest,
}

impl File {
    /// A file with these bytes.
    pub fn new(content: impl Into<Arc<[u8]>>) -> Self {
        let content = content.into();
        Self { digest: Digest::of(&content), content }
    }
}

/// A secret mounted into the proxy's container; none are used yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretMount {
    /// Swarm's id of the secret.
    pub id: SecretId,
    /// Its name, which Swarm wants beside the id.
    pub name: String,
    /// The file name under `/run/secrets`.
    pub target: String,
}

/// One generation of one cluster's proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Whose proxies.
    pub cluster: ClusterName,
    /// The files by their absolute path in the container.
    pub files: BTreeMap<String, File>,
    /// The networks that the proxies are on.
    pub networks: BTreeSet<NetworkId>,
    /// The secrets that they mount.
    pub secrets: BTreeSet<SecretMount>,
    /// What is published by these files; its `generation` is [`Bundle::generation`].
    pub manifest: Arc<Manifest>,
}

impl Bundle {
    /// The content address of what a proxy sees: files, networks, secrets. No version, time or reason is in
    /// it, so an operator that computes the same proxy asks for the same generation.
    pub fn digest(
        files: &BTreeMap<String, File>,
        networks: &BTreeSet<NetworkId>,
        secrets: &BTreeSet<SecretMount>,
    ) -> Digest {
        let mut parts: Vec<Vec<u8>> = vec![b"files".to_vec()];
        for (path, file) in files {
            parts.push(path.clone().into_bytes());
            parts.push(file.digest.to_string().into_bytes());
        }
        parts.push(b"networks".to_vec());
        parts.extend(networks.iter().map(|id| id.as_str().as_bytes().to_vec()));
        parts.push(b"secrets".to_vec());
        for secret in secrets {
            parts.push(secret.id.as_str().as_bytes().to_vec());
            parts.push(secret.target.clone().into_bytes());
        }
        Digest::of_parts(parts.iter().map(Vec::as_slice))
    }

    /// The generation that this bundle is.
    pub fn generation(&self) -> Digest {
        self.manifest.generation
    }
}

/// What one cluster's actuator should bring about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The wanted generation.
    pub bundle: Arc<Bundle>,
}
