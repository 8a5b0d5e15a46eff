//! How the proxies of a cluster are set up: as configured, or, while a generation with that is held, as they were when
//! they last worked. The main file is every route's, so a raw line that nginx refuses would otherwise keep all new
//! routes out for as long as it stands.
//!
//! If a generation changed the setup and routes at once, the setup is blamed first: if the routes were it, the next
//! generation fails too, under a setup that is known to work, and then they are. Only where nginx names a secret is
//! it clear that it was not the setup.

use model::{Hold, Published};
use serde_json::Value;

use crate::nginx;

/// The setup to render with, and, if it is not the one that is configured, what happened.
pub(crate) fn in_effect(
    configured: &nginx::Settings,
    published: Option<&Published>,
) -> (nginx::Settings, Option<String>) {
    let kept = || {
        let Some(Published::Live { last_good, holds, .. }) = published else { return None };
        let of_configured = |hold: &&Hold| read(&hold.setup, configured).as_ref() == Some(configured);
        let hold = holds.iter().filter(of_configured).find(|hold| is_to_blame(hold, &last_good.setup, configured))?;
        Some((read(&last_good.setup, configured)?, Some(hold.reason.clone())))
    };
    kept().unwrap_or_else(|| (configured.clone(), None))
}

/// Whether a held generation's setup is to blame for its failure.
pub(crate) fn is_to_blame(hold: &Hold, good: &Value, configured: &nginx::Settings) -> bool {
    let secrets_are_named = hold.fragments.values().any(|fragment| fragment.named.is_some());
    match (read(&hold.setup, configured), read(good, configured)) {
        (Some(held), Some(good)) => held != good && !secrets_are_named,
        // Of one that does not read nothing can be said.
        _ => false,
    }
}

/// The setup in a manifest, as it would be now: the ports are the proxy service's, which is not set up here. None if
/// it was not said, or another version of Dovetail said it in words that this one does not know.
fn read(setup: &Value, configured: &nginx::Settings) -> Option<nginx::Settings> {
    if setup.is_null() {
        return None;
    }
    let read: nginx::Settings = serde_json::from_value(setup.clone()).ok()?;
    let nginx::Settings { http_port, https_port, published_https, proxy_protocol, .. } = *configured;
    Some(nginx::Settings { http_port, https_port, published_https, proxy_protocol, ..read })
}

/// The setup, for a manifest.
pub(crate) fn write(settings: &nginx::Settings) -> Value {
    serde_json::to_value(settings).expect("settings have only string keys")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Digest, Fragment, Manifest};

    use super::*;
    use crate::nginx::{AdminLine, ExtraLines};
    use crate::sample::manifest;

    fn setup(line: &str) -> nginx::Settings {
        let main = vec![AdminLine::parse(line).unwrap()];
        nginx::Settings { extra: ExtraLines { main, ..ExtraLines::default() }, ..nginx::Settings::default() }
    }

    fn hold(setup: Value, named: bool, by_hand: bool) -> Hold {
        let named = named.then(|| Digest::of(b"use"));
        let fragment = Fragment { digest: Digest::of(b"a"), network: None, named };
        Hold {
            generation: Digest::of(b"held"),
            fragments: [("a".into(), fragment)].into(),
            setup,
            reason: "refused".into(),
            by_hand,
        }
    }

    fn live(good: Value, holds: Vec<Hold>) -> Published {
        let last_good = Arc::new(Manifest { setup: good, ..manifest(&[]) });
        Published::Live { manifest: Arc::clone(&last_good), last_good, holds }
    }

    #[test]
    fn what_failed_is_kept_out_until_it_is_tried_again_or_something_else_is_configured() {
        let (good, bad, third) = (setup("good;"), setup("bad;"), setup("third;"));
        let held = |named, by_hand| vec![hold(write(&bad), named, by_hand)];
        let other_port = nginx::Settings { http_port: 8081.try_into().unwrap(), ..bad.clone() };
        let good_there = nginx::Settings { http_port: 8081.try_into().unwrap(), ..good.clone() };
        let unread = serde_json::json!({ "invented": true });
        for (what, configured, published, expected) in [
            ("nothing is live", &bad, None, &bad),
            ("nothing is held", &bad, Some(live(write(&good), vec![])), &bad),
            ("it failed", &bad, Some(live(write(&good), held(false, false))), &good),
            ("somebody rolled it back", &bad, Some(live(write(&good), held(false, true))), &good),
            ("nginx names a secret", &bad, Some(live(write(&good), held(true, false))), &bad),
            ("it is mended", &third, Some(live(write(&good), held(false, false))), &third),
            ("it is what works", &bad, Some(live(write(&bad), held(false, false))), &bad),
            ("ports are not its business", &other_port, Some(live(write(&good), held(false, false))), &good_there),
            ("what works was not said", &bad, Some(live(Value::Null, held(false, false))), &bad),
            ("what works does not read", &bad, Some(live(unread.clone(), held(false, false))), &bad),
            ("what failed does not read", &bad, Some(live(write(&good), vec![hold(unread, false, false)])), &bad),
        ] {
            let (effective, why) = in_effect(configured, published.as_ref());
            assert_eq!(effective, *expected, "{what}");
            assert_eq!(why.is_some(), expected != configured, "{what}");
        }
    }

    #[test]
    fn a_setup_reads_back_as_it_was_written() {
        let rich = nginx::Settings {
            worker_processes: nginx::Workers::Count(3.try_into().unwrap()),
            trusted_proxies: ["10.0.0.0/8".parse().unwrap()].into(),
            ip_hash: true,
            access_log: nginx::AccessLog::Json,
            forwarded: nginx::Forwarded::Overwrite,
            ..setup("load_module x.so;")
        };
        for settings in [nginx::Settings::default(), rich] {
            assert_eq!(read(&write(&settings), &settings), Some(settings));
        }
        // What a manifest says is checked as the configuration is.
        let forged = serde_json::json!({ "user": "x;\nevil on" });
        assert_eq!(read(&forged, &nginx::Settings::default()), None);
    }
}
