//! What somebody may have meant.

/// The known name that is nearest to a word, in whatever case, if one is near enough to have been meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase()), name))
        // Two letters of six are a slip, two of three are another word.
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).clamp(1, 4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let known = ["ProxyReplicas", "PublishedPort", "PublishedSSLPort", "User"];
        for (word, meant) in [
            ("ProxyReplica", Some("ProxyReplicas")),
            ("proxy_replicas", Some("ProxyReplicas")),
            ("PublishdPort", Some("PublishedPort")),
            ("usr", Some("User")),
            ("Port", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word:?}");
        }
    }
}
