//! Which image the proxies run. A tag moves; what was tested under it does not, so the digest behind the tag is
//! written into the service, and a tag that moves is noticed only by those who asked for it.

use serde_json::Value;

use crate::settings::{ImagePolicy, ProxySettings};

/// What a spec of ours was given as image last, digest included.
pub fn applied(applied: &Value) -> Option<&str> {
    applied.pointer("/TaskTemplate/ContainerSpec/Image")?.as_str()
}

/// The reference without its digest.
fn tag(reference: &str) -> &str {
    reference.split_once('@').map_or(reference, |(tag, _)| tag)
}

/// Whether the registry has to be asked what the configured tag means now.
pub fn must_resolve(proxy: &ProxySettings, applied: Option<&str>) -> bool {
    let pinned = proxy.image.contains('@');
    let another = applied.is_none_or(|applied| tag(applied) != proxy.image);
    !pinned && (another || proxy.image_policy == ImagePolicy::Follow)
}

/// The image to run. What the registry says counts for another tag than before, and for one that is followed; a
/// registry that does not answer leaves the tag to the nodes, as Docker's own client does.
pub fn wanted<'a>(proxy: &'a ProxySettings, applied: Option<&'a str>, resolved: Option<&'a str>) -> &'a str {
    let same = applied.filter(|applied| tag(applied) == proxy.image);
    let resolved = resolved.filter(|resolved| tag(resolved) == proxy.image);
    let image = match proxy.image_policy {
        ImagePolicy::Keep => same.or(resolved),
        ImagePolicy::Follow => resolved.or(same),
    };
    image.unwrap_or(&proxy.image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_resolved_when_it_is_new_or_followed() {
        use ImagePolicy::{Follow, Keep};
        let (old, new) = (Some("nginx:1.28@sha256:old"), Some("nginx:1.28@sha256:new"));
        for (image, policy, applied, resolved, asked, expected) in [
            ("nginx:1.28", Keep, None, new, true, "nginx:1.28@sha256:new"),
            ("nginx:1.28", Keep, None, None, true, "nginx:1.28"),
            ("nginx:1.28", Keep, old, new, false, "nginx:1.28@sha256:old"),
            ("nginx:1.28", Keep, Some("nginx:1.28"), None, false, "nginx:1.28"),
            ("nginx:1.28", Keep, Some("nginx:1.26@sha256:x"), new, true, "nginx:1.28@sha256:new"),
            ("nginx:1.28", Follow, old, new, true, "nginx:1.28@sha256:new"),
            ("nginx:1.28", Follow, old, None, true, "nginx:1.28@sha256:old"),
            ("nginx:1.28", Follow, None, None, true, "nginx:1.28"),
            ("nginx@sha256:told", Keep, old, None, false, "nginx@sha256:told"),
            ("nginx@sha256:told", Follow, old, None, false, "nginx@sha256:told"),
            // An answer to an older question.
            ("nginx:1.30", Keep, old, new, true, "nginx:1.30"),
        ] {
            let proxy = ProxySettings { image_policy: policy, ..ProxySettings::new("p", image) };
            assert_eq!(must_resolve(&proxy, applied), asked, "{image} {policy:?} {applied:?}");
            assert_eq!(wanted(&proxy, applied, resolved), expected, "{image} {policy:?} {applied:?} {resolved:?}");
        }
    }
}
