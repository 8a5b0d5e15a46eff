//! What the Engine says of itself, of an image, and of what went wrong.

use serde::Deserialize;

use super::{Decoded, json};

/// What `GET /version` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub engine: String,
    pub api: (u32, u32),
    /// The oldest API it still speaks; (0, 0) when it does not say.
    pub oldest_api: (u32, u32),
}

pub(crate) fn version(bytes: &[u8]) -> Decoded<Version> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        version: String,
        api_version: String,
        #[serde(rename = "MinAPIVersion")]
        min_api_version: Option<String>,
    }
    let wire: Wire = json(bytes)?;
    Ok(Version {
        engine: wire.version,
        api: api_version(&wire.api_version)?,
        oldest_api: match wire.min_api_version.as_deref() {
            None | Some("") => (0, 0),
            Some(text) => api_version(text)?,
        },
    })
}

fn api_version(text: &str) -> Decoded<(u32, u32)> {
    let parse = || {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    parse().ok_or_else(|| format!("{text:?} is no API version"))
}

/// Whether `GET /info` is the answer of a manager of an active swarm.
pub(crate) fn is_manager(bytes: &[u8]) -> Decoded<bool> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        swarm: Option<Swarm>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    #[derive(Default)]
    struct Swarm {
        control_available: bool,
        local_node_state: String,
    }
    let swarm = json::<Wire>(bytes)?.swarm.unwrap_or_default();
    Ok(swarm.control_available && swarm.local_node_state == "active")
}

/// The digest in the answer of `GET /distribution/{image}/json`.
pub(crate) fn image_digest(bytes: &[u8]) -> Decoded<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        descriptor: Descriptor,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        digest: String,
    }
    let digest = json::<Wire>(bytes)?.descriptor.digest;
    let hexadecimal = |digits: &str| digits.len() >= 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    match digest.split_once(':') {
        Some((_, digits)) if hexadecimal(digits) => Ok(digest),
        _ => Err(format!("{digest:?} is no digest")),
    }
}

/// The text of an error answer: `{"message":"..."}`, or whatever it says.
pub(crate) fn error_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Wire {
        message: String,
    }
    match serde_json::from_slice::<Wire>(body) {
        Ok(wire) => wire.message.trim().to_owned(),
        // A balancer's HTML page, say. The beginning is enough for a log line.
        Err(_) => String::from_utf8_lossy(body).trim().chars().take(300).collect(),
    }
}
