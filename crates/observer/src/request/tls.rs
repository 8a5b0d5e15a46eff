//! TLS, with clients and with the application.

use model::values::{Hsts, SecretName};
use model::{BackendTls, Code, Tls, labels};

use super::written::Written;

const NO_SECRET: &str = "is no name of a secret";

/// A label for TLS does not read, or contradicts another one; the problem is told.
pub(super) struct Refused;

/// How TLS is spoken with clients; `None` if nothing is said of it.
pub(super) fn tls(written: &mut Written<'_>) -> Result<Option<Tls>, Refused> {
    let passthrough = ssl_passthrough(written);
    let certificate = secret(written, labels::SSL_CERT);
    let key = secret(written, labels::SSL_KEY);
    let client_ca = secret(written, labels::CLIENT_CA_CERT);
    let (passthrough, certificate, key, client_ca) = (passthrough?, certificate?, key?, client_ca?);
    if passthrough {
        // Interlock passed over these where a service had moved on to passthrough.
        for (label, given) in [(labels::SSL_CERT, certificate.is_some()), (labels::SSL_KEY, key.is_some())] {
            if given {
                let why = "has no effect with ssl_passthrough: TLS ends at the application";
                written.left_out(Code::NoEffect, label, why, "either ssl_cert or ssl_passthrough");
            }
        }
        demand_no_authority(written, client_ca, "clients cannot be kept out with ssl_passthrough")?;
        return Ok(Some(Tls::Passthrough));
    }
    let Some(certificate) = certificate else {
        if key.is_some() {
            let why = "has no effect: it is the key of no certificate";
            written.left_out(Code::NoEffect, labels::SSL_KEY, why, "with ssl_cert");
        }
        demand_no_authority(written, client_ca, "has no meaning without ssl_cert")?;
        return Ok(None);
    };
    // Without a key of its own the certificate's secret holds both, as in Interlock.
    let key = key.unwrap_or_else(|| certificate.clone());
    Ok(Some(Tls::Terminate { certificate, key, client_ca }))
}

/// Where clients show no certificates the label cannot be left out: it keeps somebody out.
fn demand_no_authority(
    written: &mut Written<'_>,
    client_ca: Option<SecretName>,
    complaint: &str,
) -> Result<(), Refused> {
    if client_ca.is_none() {
        return Ok(());
    }
    written.refuse(Code::InconsistentOptions, labels::CLIENT_CA_CERT, complaint, "with ssl_cert, or not at all");
    Err(Refused)
}

/// Whether plain HTTP is redirected to HTTPS.
pub(super) fn ssl_only(written: &mut Written<'_>) -> Option<bool> {
    written.boolean(labels::SSL_ONLY, Code::BadOption)
}

pub(super) fn hsts(written: &mut Written<'_>) -> Option<Hsts> {
    written.value(labels::HSTS, "is no policy for Strict-Transport-Security")
}

/// TLS to the application; `None` if it is not asked for.
pub(super) fn backend_tls(written: &mut Written<'_>) -> Option<BackendTls> {
    if written.boolean(labels::SSL_BACKEND, Code::BadOption) == Some(true) {
        return Some(ssl_backend_tls_verify(written).unwrap_or(BackendTls::Verified));
    }
    // Whatever it says: Interlock never honoured it, so stacks carry words that nobody has ever noticed.
    if written.get(labels::SSL_BACKEND_TLS_VERIFY).is_some() {
        let why = "has no effect: without ssl_backend the proxy speaks plain HTTP with the application";
        written.left_out(Code::NoEffect, labels::SSL_BACKEND_TLS_VERIFY, why, "with ssl_backend=true");
    }
    None
}

/// Any other word could mean that somebody relies on a check that is not made.
fn ssl_backend_tls_verify(written: &mut Written<'_>) -> Option<BackendTls> {
    let word = written.get(labels::SSL_BACKEND_TLS_VERIFY)?;
    let read = match word.to_ascii_lowercase().as_str() {
        "required" => Some(BackendTls::Verified),
        "none" => Some(BackendTls::Unverified),
        _ => None,
    };
    if read.is_none() {
        let label = labels::SSL_BACKEND_TLS_VERIFY;
        written.refuse(Code::BadOption, label, "is neither required nor none", "required or none");
    }
    read
}

fn ssl_passthrough(written: &mut Written<'_>) -> Result<bool, Refused> {
    let given = written.get(labels::SSL_PASSTHROUGH).is_some();
    match written.boolean(labels::SSL_PASSTHROUGH, Code::BadOption) {
        None if given => Err(Refused),
        read => Ok(read.unwrap_or(false)),
    }
}

fn secret(written: &mut Written<'_>, label: &str) -> Result<Option<SecretName>, Refused> {
    let given = written.get(label).is_some();
    match written.value(label, NO_SECRET) {
        None if given => Err(Refused),
        read => Ok(read),
    }
}
