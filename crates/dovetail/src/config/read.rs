//! Reading the file, and saying where it is wrong.

use std::fmt;
use std::path::Path;

use super::entries::UniqueKeys;
use super::registry::credentials;
use super::{Config, Scalar, check};

/// Why a configuration cannot be used: which file, which line where one is to blame, and what is allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The field and what is wrong with it.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// What is said of a file that cannot be read.
    pub fn unread(path: &Path, error: &std::io::Error) -> Self {
        Self { file: path.display().to_string(), line: None, message: format!("cannot be read: {error}") }
    }
}

/// Reads and checks a file, and the credentials that it names, where `wanted` says so of their file: who only looks, perhaps
/// elsewhere, needs none.
///
/// # Errors
/// When it cannot be read, is no YAML, or says something that is not possible; and when a file of credentials cannot be
/// read or has none for the image's registry.
pub fn load(path: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unread(path, &error))?;
    let mut config = parse(&file, &text)?;
    for (name, cluster) in &mut config.clusters.0 {
        let proxy = &mut cluster.proxy;
        let Some(path) = proxy.registry_auth_file.as_ref().filter(|path| wanted(path)) else { continue };
        let auth = credentials(path, &proxy.image.0).map_err(|message| {
            let keys = ["clusters", name.0.as_str(), "proxy", "registry_auth_file"].map(str::to_owned);
            ConfigError {
                file: file.clone(),
                line: line_of(&text, &keys),
                message: format!("{}: {message}", keys.join(".")),
            }
        })?;
        proxy.registry_auth = Some(auth);
    }
    Ok(config)
}

/// Reads and checks a text; `file` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    let nothing = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let config: Config = if nothing {
        Config::default()
    } else {
        let place = |error: serde_yaml::Error| ConfigError {
            file: file.to_owned(),
            line: error.location().map(|location| location.line()),
            message: without_location(&error.to_string()),
        };
        serde_yaml::from_str::<UniqueKeys>(text).map_err(place)?;
        serde_yaml::from_str(text).map_err(place)?
    };
    match check::check(&config) {
        Ok(()) => Ok(config),
        Err(problem) => Err(ConfigError {
            file: file.to_owned(),
            line: line_of(text, &problem.path),
            message: format!("{}: {}", problem.path.join("."), problem.message),
        }),
    }
}

/// Reads one word the way the file would, for arguments that stand in for it.
///
/// # Errors
/// With what is allowed.
pub fn read_word<T: Scalar>(text: &str) -> Result<T, String> {
    T::read(text).map_err(|error| format!("{text:?} {error}, expected {}", T::EXPECTED))
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Config);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema has only string keys");
    text.push('\n');
    text
}

/// The error's text without " at line 3 column 5", which is said in front of it.
fn without_location(text: &str) -> String {
    match text.rfind(" at line ") {
        Some(position) if !text[position + 9..].contains(' ') || text[position..].contains(" column ") => {
            text[..position].to_owned()
        }
        _ => text.to_owned(),
    }
}

/// The line of a key in a file in block style; the deepest of its parents that is written there, when the key
/// itself is left to its default. Flow style is not looked into: then there is no line.
fn line_of(text: &str, path: &[String]) -> Option<usize> {
    let mut found = None;
    let mut indent_above: Option<usize> = None;
    let mut wanted = path.iter();
    let mut key = wanted.next()?;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let indent = line.len() - trimmed.len();
        if indent_above.is_some_and(|above| indent <= above) {
            break;
        }
        let name = trimmed.split(':').next().unwrap_or_default().trim_matches(['"', '\'']);
        if name == key.as_str() && trimmed.contains(':') {
            found = Some(number + 1);
            indent_above = Some(indent);
            match wanted.next() {
                Some(next) => key = next,
                None => break,
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bad line is last and nested, so that a report of the first line, or of the mapping's, fails.
    fn refused(lines: &str) -> String {
        let text = format!("instance: main\nclusters:\n  main:\n    proxy:\n      replicas: 2\n{lines}");
        parse("dovetail.yaml", &text).expect_err(lines).to_string()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse("f", ""), Ok(Config::default()));
        assert_eq!(parse("f", "# nothing\n"), Ok(Config::default()));
    }

    #[test]
    fn a_file_of_credentials_is_read_and_one_that_cannot_be_is_said_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let (config, credentials) = (directory.path().join("dovetail.yaml"), directory.path().join("config.json"));
        let text = format!("clusters:\n  main:\n    proxy:\n      registry_auth_file: {}\n", credentials.display());
        std::fs::write(&config, text).unwrap();
        assert!(load(&config, |_| false).is_ok_and(|config| config.clusters()[0].actuator.registry_auth.is_none()));
        assert!(load(&config, Path::exists).is_ok(), "one that is not there may be elsewhere");
        let error = load(&config, |_| true).unwrap_err();
        assert_eq!(error.line, Some(4));
        let expected = format!("clusters.main.proxy.registry_auth_file: {} cannot be read", credentials.display());
        assert!(error.message.starts_with(&expected), "{error}");
        std::fs::write(&credentials, r#"{"auths": {"docker.io": {"username": "me", "password": "hunter2"}}}"#).unwrap();
        let config = load(&config, Path::exists).unwrap();
        assert!(config.clusters()[0].actuator.registry_auth.is_some());
        assert!(!format!("{config:?}{}", serde_json::to_string(&config).unwrap()).contains("aHVudGVy"));
    }

    #[test]
    fn what_is_wrong_is_said_with_file_line_field_and_what_is_allowed() {
        for (lines, expected) in [
            (
                "      health_check:\n        intervall: 1s\n",
                "dovetail.yaml:7: clusters.main.proxy.health_check: unknown field `intervall`, expected one of `test`, `interval`, `timeout`, `retries`, `start_period`",
            ),
            (
                "      health_check:\n        interval: 1s\n        retries: many\n",
                "dovetail.yaml:8: clusters.main.proxy.health_check.retries: invalid type: string \"many\", expected a whole number from 1 to 100",
            ),
            (
                "      health_check:\n        interval: 1s\n        retries: 0\n",
                "dovetail.yaml:8: clusters.main.proxy.health_check.retries: invalid value: integer `0`, expected a whole number from 1 to 100",
            ),
            (
                "      update:\n        parallelism: 1\n        monitor: 3 days\n",
                "dovetail.yaml:8: clusters.main.proxy.update.monitor: \"3 days\" has the unknown unit \" days\", expected a length of time such as 500ms, 3s, 10m or 2h, at least 1ms and at most 24h",
            ),
            (
                "      publish_mode: ingres\n",
                "dovetail.yaml:6: clusters.main.proxy.publish_mode: \"ingres\" is not possible here, expected one of ingress host",
            ),
            (
                "      labels:\n        a: \"1\"\n        b: \"2\"\n        a: \"3\"\n",
                "dovetail.yaml:9: clusters.main.proxy.labels: duplicate key \"a\": every key may stand once",
            ),
            (
                "    nginx:\n      user: nginx\n      user: www-data\n",
                "dovetail.yaml:8: clusters.main.nginx: duplicate key \"user\": every key may stand once",
            ),
            (
                "  Main:\n    service_cluster: x\n",
                "dovetail.yaml:6: clusters: the key \"Main\" is no name of a cluster, expected 1 to 16 lower-case letters, digits and hyphens",
            ),
        ] {
            assert_eq!(refused(lines), expected);
        }
    }

    #[test]
    fn values_that_do_not_go_together_are_refused_at_the_line_of_one_of_them() {
        for (lines, expected) in [
            (
                "  other:\n    proxy:\n      name: dovetail-other\n",
                "dovetail.yaml:6: clusters.other.service_cluster: \"\" is served by the cluster main already: give each its own",
            ),
            (
                "    nginx:\n      worker_shutdown_timeout: 40s\n",
                "dovetail.yaml:7: clusters.main.nginx.worker_shutdown_timeout: 40s is not below proxy.stop_grace_period (30s): open requests would be cut",
            ),
            (
                "      command: [sh, -c, exec nginx]\n      update:\n        check: always\n",
                "dovetail.yaml:8: clusters.main.proxy.update.check: always needs a command that starts nginx itself, since that is run with -t: use auto or never",
            ),
            (
                "    nginx:\n      upstream_zone_size: 8k\n",
                "dovetail.yaml:7: clusters.main.nginx.upstream_zone_size: \"8k\" is not possible: at least 32k",
            ),
            (
                "      update:\n        monitor: 70s\n",
                "dovetail.yaml:6: clusters.main.proxy.update: delay and monitor together (70s) must be shorter than the deadline of the rollout (60s)",
            ),
            (
                "      constraints: [node.role=manager]\n",
                "dovetail.yaml:6: clusters.main.proxy.constraints: \"node.role=manager\" is no constraint: write it with == or !=, such as node.role==worker",
            ),
            (
                "    refused_labels: [com.docker.lb.hosts]\n",
                "dovetail.yaml:6: clusters.main.refused_labels[0]: \"com.docker.lb.hosts\" is not such a label, expected a routing label other than hosts and port, such as com.docker.lb.basic_auth",
            ),
            (
                "    nginx:\n      trusted_proxies:\n        - 10.0.0.0/99\n",
                "dovetail.yaml:7: clusters.main.nginx.trusted_proxies: \"10.0.0.0/99\" is not possible: an address or a network, such as 10.0.0.0/8 or fd00::/8",
            ),
        ] {
            assert_eq!(refused(lines), expected);
        }
    }

    #[test]
    fn a_line_is_found_by_its_path_not_by_its_word() {
        let text = "a:\n  name: 1\nb:\n  # name: 2\n  name: 3\n";
        let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(line_of(text, &path(&["b", "name"])), Some(5));
        assert_eq!(line_of(text, &path(&["b", "other"])), Some(3));
        assert_eq!(line_of(text, &path(&["c"])), None);
    }
}
