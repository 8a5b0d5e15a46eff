//! From PEM files to a TLS configuration that trusts one CA and nothing else.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::endpoint::Tls;

/// Why the TLS files cannot be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file does not open or read.
    #[error("failed to read the {role} {}", .path.display())]
    Read {
        /// What the file should hold.
        role: Role,
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is damaged PEM.
    #[error("the {role} {} is no readable PEM ({detail})", .path.display())]
    Damaged {
        /// What the file should hold.
        role: Role,
        /// Its path.
        path: PathBuf,
        /// Where it breaks off.
        detail: String,
    },
    /// The file reads, and holds nothing of its role.
    #[error("{} holds no {role} in PEM{}", .path.display(), .role.hint())]
    Missing {
        /// What the file should hold.
        role: Role,
        /// Its path.
        path: PathBuf,
    },
    /// The PEM is fine and what is in it is not.
    #[error("the {role} {} cannot be used", .path.display())]
    Unusable {
        /// What the file should hold.
        role: Role,
        /// Its path.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// Certificate and key read, and do not fit together.
    #[error("the key {} cannot be used with the certificate {}", .key.display(), .cert.display())]
    KeyPair {
        /// The key's path.
        key: PathBuf,
        /// The certificate's path.
        cert: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The TLS library itself is at fault.
    #[error("failed to set up TLS")]
    SetUp(#[source] rustls::Error),
}

/// What a TLS file should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Certificates to trust.
    Ca,
    /// Our certificate.
    Certificate,
    /// Our key.
    Key,
}

impl Role {
    fn hint(self) -> &'static str {
        match self {
            Role::Ca | Role::Certificate => "",
            Role::Key => " (an encrypted key does not count: there is nobody to ask for its password)",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Ca => "CA certificate",
            Role::Certificate => "client certificate",
            Role::Key => "client key",
        })
    }
}

/// The provider is named here, so that nothing depends on a process-wide default that somebody must install.
pub(crate) fn client_config(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(Role::Ca, &tls.ca)? {
        roots.add(certificate).map_err(|source| TlsError::Unusable { role: Role::Ca, path: tls.ca.clone(), source })?;
    }
    let chain = certificates(Role::Certificate, &tls.cert)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::SetUp)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key(&tls.key)?)
        .map_err(|source| TlsError::KeyPair { key: tls.key.clone(), cert: tls.cert.clone(), source })?;
    // UCP's endpoint would rather talk HTTP/2, which this client does not.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(role: Role, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(role, path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(role, path, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::Missing { role, path: path.into() });
    }
    Ok(certificates)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(Role::Key, path)?).map_err(|error| unreadable(Role::Key, path, &error))
}

fn read(role: Role, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { role, path: path.into(), source })
}

/// The library's error may quote the file, and the file may be a key: only its kind is told.
fn unreadable(role: Role, path: &Path, error: &pem::Error) -> TlsError {
    let detail = match error {
        pem::Error::NoItemsFound => return TlsError::Missing { role, path: path.into() },
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section starts wrongly",
        pem::Error::Base64Decode(_) => "what is between the marks is not base64",
        _ => "it does not parse",
    };
    TlsError::Damaged { role, path: path.into(), detail: detail.to_owned() }
}
