//! What code between an accept and a close may not name: locks, logs, clocks. Not a proof that a
//! dependency has none; those are few, and `invariants` counts their system calls and allocations.
//! Invariant: the one clock of a worker is read in `clock.rs`, and its only locks are in `sources.rs`.

use std::fs;
use std::io;
use std::path::Path;

use super::{Breach, sources};

/// The crates that run while a message is relayed.
const CRATES: [&str; 8] = [
    "admission",
    "balance",
    "flow",
    "health",
    "metrics",
    "uring",
    "wire",
    "worker",
];
/// What waits for another thread, or writes where the kernel may make it wait.
const NEVER: [&str; 6] = [
    "Condvar", "Mutex", "RwLock", "eprintln", "println", "tracing",
];
/// What reads a clock.
const CLOCK: [&str; 3] = ["Instant::now", "SystemTime", "elapsed("];
/// Where that is done.
const CLOCK_FILE: &str = "crates/ringway-worker/src/clock.rs";
/// What may be waited for when a connection opens or closes, never for a message: a part of a table
/// of sources, where a listener has limits per source.
const LOCK: &str = "Mutex";
/// Where that is done.
const LOCK_FILE: &str = "crates/ringway-worker/src/sources.rs";

pub(super) fn breaches(root: &Path) -> io::Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    for name in CRATES {
        let directory = root.join(format!("crates/ringway-{name}/src"));
        for path in sources::files(root, &directory)? {
            let name = path.to_string_lossy();
            if name.ends_with(".rs") {
                breaches.extend(named(&name, &fs::read_to_string(root.join(&path))?));
            }
        }
    }
    Ok(breaches)
}

/// The words of one file that it may not name. Its tests are judged, too: they have no use for them.
fn named(name: &str, text: &str) -> Vec<Breach> {
    let clock = CLOCK.iter().filter(|_| name != CLOCK_FILE);
    let waits = NEVER
        .iter()
        .filter(|word| name != LOCK_FILE || **word != LOCK);
    let words: Vec<&str> = waits.chain(clock).copied().collect();
    let mut breaches = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let found = words.iter().filter(|word| has_word(code, word));
        breaches.extend(
            found.map(|word| Breach(format!("{name}:{}: `{word}` on the data path", number + 1))),
        );
    }
    breaches
}

/// Whether `word` begins a word of `code`.
fn has_word(code: &str, word: &str) -> bool {
    let continues = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(word)
        .any(|(at, _)| !continues(&code[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_logs_and_clocks_are_found_and_talk_about_them_is_not() {
        let text = "use std::sync::Mutex;\n// no Mutex here\nlet x = Instant::now();\nlet unprintln = 1;\n";
        let found = |name: &str| -> Vec<String> {
            let breaches = named(name, text);
            breaches.into_iter().map(|Breach(text)| text).collect()
        };
        assert_eq!(
            found("a.rs"),
            [
                "a.rs:1: `Mutex` on the data path",
                "a.rs:3: `Instant::now` on the data path"
            ]
        );
        assert_eq!(
            found(CLOCK_FILE),
            [format!("{CLOCK_FILE}:1: `Mutex` on the data path")]
        );
        assert_eq!(
            found(LOCK_FILE),
            [format!("{LOCK_FILE}:3: `Instant::now` on the data path")]
        );
    }
}
