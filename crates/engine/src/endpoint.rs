//! Where the Engine is: what people write in the configuration, or in the docker client's variables.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where the Engine is, and how to be sure that it is the Engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) address: Address,
    pub(crate) tls: Option<Tls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp {
        /// A name, or an IP address without brackets.
        host: String,
        port: u16,
    },
}

/// The files of TLS with a client certificate, in PEM.
///
/// Nothing but `ca` is trusted, no certificate of the system either, and there is no way to switch the
/// verification off. The files are read once, when connecting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificates that the Engine's certificate must descend from.
    pub ca: PathBuf,
    /// Our certificate, followed by those between it and its root, if any.
    pub cert: PathBuf,
    /// The key to `cert`, unencrypted.
    pub key: PathBuf,
}

impl Tls {
    /// The files as a client bundle names them: `ca.pem`, `cert.pem`, `key.pem`.
    pub fn in_directory(directory: &Path) -> Self {
        Self { ca: directory.join("ca.pem"), cert: directory.join("cert.pem"), key: directory.join("key.pem") }
    }
}

/// Why something is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not one of the forms we know.
    #[error(
        "{0:?} is not an endpoint: write unix:///var/run/docker.sock, tcp://HOST:PORT, http://HOST:PORT or https://HOST:PORT"
    )]
    Form(String),
    /// `https://` without files.
    #[error("{0} needs TLS files: ca, cert and key")]
    TlsMissing(String),
    /// Files with `http://` or `unix://`.
    #[error("{0} does not use TLS, yet TLS files are given")]
    TlsUnused(String),
    /// The docker client's variables ask for TLS and say nowhere where its files are.
    #[error(
        "DOCKER_TLS_VERIFY is set, but neither DOCKER_CERT_PATH nor HOME says where ca.pem, cert.pem and key.pem are"
    )]
    NoCertPath,
}

impl Endpoint {
    /// Reads `unix://PATH`, `tcp://HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`. With `tcp://` it is
    /// TLS if there are files. The port may be left out: 2375, or 2376 with TLS.
    ///
    /// A path behind the port is refused: no Engine listens there, and it would be lost silently.
    pub fn parse(text: &str, tls: Option<Tls>) -> Result<Self, EndpointError> {
        let text = text.trim();
        let form = || EndpointError::Form(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        match (scheme, &tls) {
            ("unix" | "http", Some(_)) => return Err(EndpointError::TlsUnused(text.to_owned())),
            ("https", None) => return Err(EndpointError::TlsMissing(text.to_owned())),
            _ => {}
        }
        let address = match scheme {
            "unix" if rest.starts_with('/') => Address::Unix(rest.into()),
            "tcp" | "http" | "https" => {
                let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(form)?;
                Address::Tcp { host, port: port.unwrap_or(if tls.is_some() { 2376 } else { 2375 }) }
            }
            _ => return Err(form()),
        };
        Ok(Self { address, tls })
    }

    /// The endpoint as the docker client reads it from `-H` or `DOCKER_HOST`: with TLS if `DOCKER_TLS_VERIFY` is set, by
    /// the files in `DOCKER_CERT_PATH` (else `DOCKER_CONFIG`, else `~/.docker`).
    ///
    /// Differences: contexts (`docker context use`) are not read, and `DOCKER_TLS` alone, with which the
    /// client encrypts without verifying, verifies.
    pub fn as_the_client_reads(host: &str) -> Result<Self, EndpointError> {
        Self::with_variables(host, |name| std::env::var(name).ok())
    }

    fn with_variables(host: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, EndpointError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let asked = variable("DOCKER_TLS_VERIFY").or_else(|| variable("DOCKER_TLS")).is_some();
        // A shell with a client bundle's variables may still talk to the local socket, as with the client.
        let tls = if host.starts_with("unix://") || !asked {
            None
        } else {
            let directory = variable("DOCKER_CERT_PATH")
                .or_else(|| variable("DOCKER_CONFIG"))
                .map(PathBuf::from)
                .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".docker")))
                .ok_or(EndpointError::NoCertPath)?;
            Some(Tls::in_directory(&directory))
        };
        Self::parse(host, tls)
    }

    /// What goes into a request's URI: its host header, and the key of the connection pool.
    pub(crate) fn authority(&self) -> String {
        match &self.address {
            // Go's server wants a host header; its value means nothing here.
            Address::Unix(_) => "engine".to_owned(),
            Address::Tcp { host, port } => with_port(host, *port),
        }
    }
}

/// `None`: not of the form. A name is not looked at closely, the resolver does that.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return None,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(plain) {
        return None;
    }
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
    };
    Some((host.to_owned(), port))
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// As it can be parsed again, without the TLS files.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp { host, port } => {
                write!(f, "{}://{}", if self.tls.is_some() { "https" } else { "tcp" }, with_port(host, *port))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Tls {
        Tls::in_directory(Path::new("/bundle"))
    }

    #[test]
    fn an_endpoint_is_read_as_people_write_it() {
        for (written, tls, shown) in [
            ("unix:///var/run/docker.sock", None, "unix:///var/run/docker.sock"),
            (" unix:///a b\n", None, "unix:///a b"),
            ("tcp://10.0.0.1:2375", None, "tcp://10.0.0.1:2375"),
            ("tcp://10.0.0.1", None, "tcp://10.0.0.1:2375"),
            ("http://manager:80/", None, "tcp://manager:80"),
            ("tcp://manager", Some(bundle()), "https://manager:2376"),
            ("https://ucp.example.org:443", Some(bundle()), "https://ucp.example.org:443"),
            ("tcp://[fd00::1]:2376", Some(bundle()), "https://[fd00::1]:2376"),
            ("tcp://[::1]", None, "tcp://[::1]:2375"),
        ] {
            let endpoint = Endpoint::parse(written, tls.clone()).unwrap_or_else(|error| panic!("{written:?}: {error}"));
            assert_eq!(endpoint.to_string(), shown, "{written:?}");
            assert_eq!(Endpoint::parse(shown, tls), Ok(endpoint), "{shown:?} again");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for written in [
            "",
            "/var/run/docker.sock",
            "unix://",
            "unix://relative",
            "tcp://",
            "tcp://:2375",
            "tcp://a:b",
            "tcp://a:0",
            "tcp://a:70000",
            "tcp://a:1:2",
            "tcp://::1",
            "tcp://[::1",
            "tcp://[::1]2375",
            "tcp://[name]:1",
            "tcp://a/path",
            "tcp://user@a",
            "ssh://a",
            "npipe:////./pipe/docker_engine",
        ] {
            assert_eq!(Endpoint::parse(written, None), Err(EndpointError::Form(written.into())), "{written:?}");
        }
    }

    #[test]
    fn tls_files_and_scheme_must_agree() {
        assert!(matches!(Endpoint::parse("https://a", None), Err(EndpointError::TlsMissing(_))));
        assert!(matches!(Endpoint::parse("http://a", Some(bundle())), Err(EndpointError::TlsUnused(_))));
        assert!(matches!(Endpoint::parse("unix:///a", Some(bundle())), Err(EndpointError::TlsUnused(_))));
    }

    #[test]
    fn the_docker_clients_variables_are_understood() {
        for (host, variables, shown, tls) in [
            ("tcp://a:1", &[][..], "tcp://a:1", None),
            ("tcp://a:1", &[("DOCKER_TLS_VERIFY", "")], "tcp://a:1", None),
            (
                "tcp://a",
                &[("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/bundle")],
                "https://a:2376",
                Some("/bundle"),
            ),
            ("tcp://a:1", &[("DOCKER_TLS", "1"), ("HOME", "/home/me")], "https://a:1", Some("/home/me/.docker")),
            ("unix:///s", &[("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/bundle")], "unix:///s", None),
        ] {
            let look_up =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            let endpoint =
                Endpoint::with_variables(host, look_up).unwrap_or_else(|error| panic!("{host} {variables:?}: {error}"));
            assert_eq!(endpoint.to_string(), shown, "{host} {variables:?}");
            assert_eq!(endpoint.tls, tls.map(|directory| Tls::in_directory(Path::new(directory))), "{variables:?}");
        }
        let nowhere = |name: &str| (name == "DOCKER_TLS_VERIFY").then(|| "1".to_owned());
        assert_eq!(Endpoint::with_variables("tcp://a", nowhere), Err(EndpointError::NoCertPath));
    }
}
