//! Credentials of the proxy image's registry, from a file such as Docker's own `config.json`. Nothing of its content
//! is ever in an error, a log or a `Debug`.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use serde_json::json;
use swarm::RegistryAuth;

/// What Docker Hub is called in images, by leaving it out.
const HUB: &str = "docker.io";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// The credentials for this image.
///
/// # Errors
/// When the file cannot be read, or has none for the image's registry.
pub fn credentials(path: &Path, image: &str) -> Result<RegistryAuth, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    from_text(&text, image).map_err(|message| format!("{} {message}", path.display()))
}

fn from_text(text: &str, image: &str) -> Result<RegistryAuth, String> {
    // serde_json quotes what it does not understand, and that may be a password.
    let file: File = serde_json::from_str(text).map_err(|error| {
        format!("does not read as Docker's config.json (line {}, column {})", error.line(), error.column())
    })?;
    let registry = registry_of(image);
    let Some((address, entry)) = file.auths.iter().find(|(address, _)| host_of(address) == registry) else {
        return Err(format!("has no credentials for {registry}"));
    };
    let header = if !entry.identitytoken.is_empty() {
        json!({ "identitytoken": entry.identitytoken, "serveraddress": address })
    } else if !entry.auth.is_empty() {
        let unreadable = || format!("has credentials for {registry} that do not read");
        let decoded = STANDARD.decode(entry.auth.trim()).map_err(|_| unreadable())?;
        let decoded = String::from_utf8(decoded).map_err(|_| unreadable())?;
        let (username, password) = decoded.split_once(':').ok_or_else(unreadable)?;
        json!({ "username": username, "password": password.trim_end_matches('\0'), "serveraddress": address })
    } else if !entry.username.is_empty() {
        json!({ "username": entry.username, "password": entry.password, "serveraddress": address })
    } else {
        return Err(format!(
            "leaves the credentials for {registry} to a helper program, and none is run here: write them into a file of \
             their own (docker --config DIRECTORY login {registry}, without a credsStore in DIRECTORY/config.json)"
        ));
    };
    Ok(RegistryAuth::new(URL_SAFE.encode(header.to_string())))
}

/// The registry of an image.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => canonical(host),
        Some(_) | None => HUB,
    }
}

/// The registry that a key of the file names: a host, or a URL of it.
fn host_of(address: &str) -> &str {
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    canonical(address.split('/').next().unwrap_or(address))
}

fn canonical(host: &str) -> &str {
    if matches!(host, "index.docker.io" | "registry-1.docker.io") { HUB } else { host }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn header(file: &Value, image: &str) -> Result<Value, String> {
        let auth = from_text(&file.to_string(), image)?;
        let decoded = URL_SAFE.decode(auth.header()).expect("it is base64");
        Ok(serde_json::from_slice(&decoded).expect("it is JSON"))
    }

    #[test]
    fn the_registrys_entry_is_found_and_put_into_the_engines_form() {
        let file = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": STANDARD.encode("hub:pass:word") },
            "registry.example.org:5000": { "username": "team", "password": "secret" },
            "https://other.example.org/v2/": { "auth": "ignored", "identitytoken": "token" },
        }, "credsStore": "ignored", "HttpHeaders": {} });
        for (image, expected) in [
            (
                "nginx:1.28",
                json!({"username": "hub", "password": "pass:word", "serveraddress": "https://index.docker.io/v1/"}),
            ),
            (
                "team/nginx",
                json!({"username": "hub", "password": "pass:word", "serveraddress": "https://index.docker.io/v1/"}),
            ),
            (
                "docker.io/team/nginx",
                json!({"username": "hub", "password": "pass:word", "serveraddress": "https://index.docker.io/v1/"}),
            ),
            (
                "registry.example.org:5000/a/b:1",
                json!({"username": "team", "password": "secret", "serveraddress": "registry.example.org:5000"}),
            ),
            (
                "other.example.org/x@sha256:0",
                json!({"identitytoken": "token", "serveraddress": "https://other.example.org/v2/"}),
            ),
        ] {
            assert_eq!(header(&file, image), Ok(expected), "{image}");
        }
        assert_eq!(header(&file, "elsewhere.org/x").unwrap_err(), "has no credentials for elsewhere.org");
    }

    #[test]
    fn what_does_not_read_is_said_without_saying_what_it_is() {
        let helper = json!({ "auths": { "a.org": {} }, "credsStore": "desktop" });
        assert!(header(&helper, "a.org/x").unwrap_err().starts_with("leaves the credentials for a.org to a helper"));
        for file in
            [json!({ "auths": { "a.org": { "auth": "hunter2!" } } }), json!({ "auths": { "a.org": "hunter2!" } })]
        {
            let error = header(&file, "a.org/x").unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = from_text("{\"auths\": hunter2", "a.org/x").unwrap_err();
        assert_eq!(error, "does not read as Docker's config.json (line 1, column 11)");
    }
}
