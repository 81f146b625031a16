//! The nearest valid word to a misspelt one. Invariant: a word is suggested only when it is closer
//! than a third of its length, so that a suggestion is a correction and not a guess.

use crate::limits::SUGGEST_CHARS_MAX;

/// The candidate nearest to `word`, if one is near.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.chars().nth(SUGGEST_CHARS_MAX).is_some() {
        return None;
    }
    let word = word.to_ascii_lowercase().replace(['-', ' '], "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let lower = candidate.to_ascii_lowercase().replace('-', "_");
            (strsim::damerau_levenshtein(&word, &lower), candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .filter(|(distance, candidate)| *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_near_words_are_suggested() {
        let words = ["idle", "half_close", "lifetime", "tcp", "h"];
        for (word, expected) in [
            ("idel", Some("idle")),
            ("half-close", Some("half_close")),
            ("HalfClose", Some("half_close")),
            ("lifetme", Some("lifetime")),
            ("TCP", Some("tcp")),
            ("udp", None),
            ("x", None),
            ("", None),
            ("handshake", None),
        ] {
            assert_eq!(nearest(word, words), expected, "{word}");
        }
    }
}
