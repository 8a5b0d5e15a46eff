//! What is handed to the actuator: files and mounts, nothing that needs to be understood.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::digest::Parts;
use crate::values::SecretName;
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

/// Where Swarm puts the secrets of a container.
pub const SECRETS_DIRECTORY: &str = "/run/secrets/";

/// A secret mounted into the proxy's container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretMount {
    /// Swarm's id of the secret.
    pub id: SecretId,
    /// Its name, which Swarm wants beside the id.
    pub name: String,
    /// The file name under `/run/secrets`.
    pub target: String,
}

impl SecretMount {
    /// A secret as it is mounted: under its name.
    pub fn new(name: &SecretName, id: &SecretId) -> Self {
        Self { id: id.clone(), name: name.to_string(), target: name.to_string() }
    }

    /// Its path in the container.
    pub fn path(&self) -> String {
        if self.target.starts_with('/') { self.target.clone() } else { format!("{SECRETS_DIRECTORY}{}", self.target) }
    }

    /// Whether a text, such as what nginx says of files that it refuses, names this secret's file: this very path, and
    /// not one that only begins with it.
    pub fn is_named_in(&self, text: &str) -> bool {
        let path = self.path();
        let of_a_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        // A full stop can end a sentence.
        let ends = |rest: &str| !rest.trim_start_matches('.').starts_with(of_a_path);
        let starts = |before: &str| !before.ends_with(of_a_path);
        text.match_indices(&path).any(|(at, _)| starts(&text[..at]) && ends(&text[at + path.len()..]))
    }
}

/// Files by their path.
pub type Files = imbl::OrdMap<Arc<str>, File>;

/// One generation of one cluster's proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Whose proxies.
    pub cluster: ClusterName,
    /// The files by their absolute path in the container.
    pub files: Files,
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
    pub fn digest(files: &Files, networks: &BTreeSet<NetworkId>, secrets: &BTreeSet<SecretMount>) -> Digest {
        let mut parts = Parts::default();
        parts.add(b"files");
        for (path, file) in files {
            parts.add(path.as_bytes());
            parts.add(&file.digest.hex());
        }
        parts.add(b"networks");
        for network in networks {
            parts.add(network.as_str().as_bytes());
        }
        parts.add(b"secrets");
        for secret in secrets {
            parts.add(secret.id.as_str().as_bytes());
            parts.add(secret.target.as_bytes());
        }
        parts.digest()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_by_its_whole_path() {
        let secret = |target: &str| SecretMount { id: "s".into(), name: "n".into(), target: target.into() };
        let key = secret("shop.key");
        assert_eq!(key.path(), "/run/secrets/shop.key");
        assert_eq!(secret("/etc/keys/shop").path(), "/etc/keys/shop");
        for (text, named) in [
            ("cannot load certificate key \"/run/secrets/shop.key\": PEM_read_bio", true),
            ("/run/secrets/shop.key", true),
            ("it is in /run/secrets/shop.key.", true),
            ("/run/secrets/shop.key2", false),
            ("/run/secrets/shop.key.old", false),
            ("/run/secrets/shop.key/x", false),
            ("/chroot/run/secrets/shop.key", false),
            ("/run/secrets/shop.key-1 and /run/secrets/shop.key", true),
            ("shop.key", false),
            ("", false),
        ] {
            assert_eq!(key.is_named_in(text), named, "{text:?}");
        }
    }
}
