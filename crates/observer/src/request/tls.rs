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
    let inconsistent = Code::InconsistentOptions;
    let Some(certificate) = certificate else {
        for (label, given) in [(labels::SSL_KEY, key.is_some()), (labels::CLIENT_CA_CERT, client_ca.is_some())] {
            if given {
                written.refuse(inconsistent, label, "has no meaning without ssl_cert", "with ssl_cert, or not at all");
            }
        }
        return match (key, client_ca) {
            (None, None) => Ok(passthrough.then_some(Tls::Passthrough)),
            _ => Err(Refused),
        };
    };
    if passthrough {
        let complaint = "TLS cannot be passed on to the application and end at the proxy too";
        written.refuse(inconsistent, labels::SSL_CERT, complaint, "either ssl_cert or ssl_passthrough");
        return Err(Refused);
    }
    // Without a key of its own the certificate's secret holds both, as in Interlock.
    let key = key.unwrap_or_else(|| certificate.clone());
    Ok(Some(Tls::Terminate { certificate, key, client_ca }))
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
    let asked = written.boolean(labels::SSL_BACKEND, Code::BadOption);
    let verification = ssl_backend_tls_verify(written);
    if asked == Some(true) {
        return Some(verification.unwrap_or(BackendTls::Verified));
    }
    if verification.is_some() {
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
