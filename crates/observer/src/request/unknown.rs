//! Labels with the routing prefix that nobody knows: most are misspelt.

use model::{Code, Problem, labels};

use super::written::Written;

/// How like a known name an unknown one must be for that to be named, from 0 (nothing in common) to 1.
const ALIKE: f64 = 0.5;

/// Longer than any known name can be like.
const LONGEST: usize = 64;

pub(super) fn warn(written: &mut Written<'_>) {
    let unknown: Vec<(&str, &str)> = written
        .names()
        .filter(|name| !labels::ROUTING.contains(name))
        .map(|name| (name, written.raw(name).unwrap_or_default()))
        .collect();
    written.warn_of(
        &unknown,
        |(name, value)| {
            let mut message = "nobody knows this label, so it changes nothing".to_owned();
            if let Some(known) = nearest(name) {
                message.push_str("; is it meant to be ");
                message.push_str(known);
                message.push('?');
            }
            Problem::new(Code::UnknownLabel, message).at(name, value)
        },
        |more| {
            let message = format!("{more} more labels with the prefix {} are known to nobody", labels::PREFIX);
            Problem::new(Code::UnknownLabel, message)
        },
    );
}

/// The known name that is most like this one, the first in their order of several.
fn nearest(name: &str) -> Option<&'static str> {
    let short = name.strip_prefix(labels::PREFIX).filter(|short| short.len() <= LONGEST)?.to_ascii_lowercase();
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(&short, &known[labels::PREFIX.len()..]);
    let mut best = (ALIKE, None);
    for known in labels::ROUTING {
        let found = likeness(known);
        if found > best.0 || (found == best.0 && best.1.is_none()) {
            best = (found, Some(known));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_name_is_found() {
        for (written, known) in [
            ("host", Some(labels::HOSTS)),
            ("Hosts", Some(labels::HOSTS)),
            ("ports", Some(labels::PORT)),
            ("prot", Some(labels::PORT)),
            ("ssl_certificate", Some(labels::SSL_CERT)),
            ("sticky_session", Some(labels::STICKY_SESSION_COOKIE)),
            ("context-root", Some(labels::CONTEXT_ROOT)),
            ("client_ca", Some(labels::CLIENT_CA_CERT)),
            ("ssl_backend_verify", Some(labels::SSL_BACKEND_TLS_VERIFY)),
            ("redirect", Some(labels::REDIRECTS)),
            ("", None),
            ("zzz", None),
            ("überhaupt", None),
        ] {
            assert_eq!(nearest(&format!("{}{written}", labels::PREFIX)), known, "{written:?}");
        }
        assert_eq!(nearest(&format!("{}{}", labels::PREFIX, "hosts".repeat(100_000))), None);
    }
}
