//! Whatever the text is, it is read or refused: no panic, no error without a place in the text.

use proptest::prelude::*;
use ringway_config::{Config, Errors, parse};

const EXAMPLES: [&str; 5] = [
    include_str!("../../../config/minimal.yaml"),
    include_str!("../../../config/edge.yaml"),
    include_str!("../../../config/several-listeners.yaml"),
    include_str!("../../../config/reference.yaml"),
    include_str!("whole.yaml"),
];

/// Words that mean something to YAML or to Ringway.
const WORDS: [&str; 40] = [
    "listeners",
    "pools",
    "web",
    "bind",
    "pool",
    "backends",
    "address",
    "timeouts",
    "idle",
    "off",
    "null",
    "true",
    ": ",
    ":",
    "- ",
    "-",
    "? ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "\n",
    "\n  ",
    "\n    ",
    "'",
    "\"",
    "&a ",
    "*a",
    "!!str ",
    "<<",
    "|\n",
    ">\n",
    "#",
    "---\n",
    "%YAML 1.2\n",
    "\t",
    "\r",
    "127.0.0.1:80",
    "é",
];

/// What must hold of any answer about `text`.
fn check(text: &str, answer: &Result<Config, Errors>) -> Result<(), TestCaseError> {
    match answer {
        Ok(config) => {
            prop_assert!(!config.listeners.is_empty());
            for listener in &config.listeners {
                let routed = listener.routes.iter().map(|route| route.pool);
                let mut pools = routed.chain(listener.pool).peekable();
                prop_assert!(pools.peek().is_some() && !listener.binds.is_empty());
                prop_assert!(pools.all(|pool| pool < config.pools.len()));
            }
            for pool in &config.pools {
                prop_assert!(!pool.backends.is_empty());
            }
        }
        Err(errors) => {
            prop_assert!(!errors.problems().is_empty());
            let lines = text.split(['\n', '\r']).count();
            for problem in errors.problems() {
                prop_assert!(problem.line() >= 1 && problem.line() as usize <= lines);
                prop_assert!(problem.column() >= 1 && !problem.message().is_empty());
            }
            let shown = errors.to_string();
            prop_assert!(
                shown.chars().all(|c| c == '\n' || !c.is_control()),
                "{:?}",
                shown
            );
        }
    }
    Ok(())
}

/// One change of a text.
#[derive(Debug, Clone)]
enum Change {
    Delete { at: usize, length: usize },
    Insert { at: usize, word: &'static str },
    CopyLine { from: usize, to: usize },
    Indent { line: usize, spaces: usize },
    Cut { at: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0usize..10_000;
    prop_oneof![
        (at.clone(), 1usize..20).prop_map(|(at, length)| Change::Delete { at, length }),
        (at.clone(), prop::sample::select(&WORDS[..]))
            .prop_map(|(at, word)| Change::Insert { at, word }),
        (at.clone(), at.clone()).prop_map(|(from, to)| Change::CopyLine { from, to }),
        (at.clone(), 0usize..9).prop_map(|(line, spaces)| Change::Indent { line, spaces }),
        at.prop_map(|at| Change::Cut { at }),
    ]
}

fn apply(text: &str, change: &Change) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let place = |at: usize| at % (characters.len() + 1);
    let row = |at: usize| at % lines.len().max(1);
    match *change {
        Change::Delete { at, length } => {
            let from = place(at);
            characters
                .iter()
                .take(from)
                .chain(characters.iter().skip(from + length))
                .collect()
        }
        Change::Insert { at, word } => {
            let (before, after) = characters.split_at(place(at));
            before
                .iter()
                .copied()
                .chain(word.chars())
                .chain(after.iter().copied())
                .collect()
        }
        Change::CopyLine { from, to } if !lines.is_empty() => {
            let line = lines[row(from)].clone();
            lines.insert(row(to), line);
            lines.join("\n")
        }
        Change::Indent { line, spaces } if !lines.is_empty() => {
            let line = row(line);
            lines[line] = format!("{}{}", " ".repeat(spaces), lines[line].trim_start());
            lines.join("\n")
        }
        Change::CopyLine { .. } | Change::Indent { .. } => String::new(),
        Change::Cut { at } => characters.iter().take(place(at)).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        check(&text, &parse("f", &text))?;
    }

    #[test]
    fn any_words_of_yaml_are_answered(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..60)) {
        let text = words.concat();
        check(&text, &parse("f", &text))?;
    }

    #[test]
    fn any_change_of_a_valid_text_is_answered(
        example in prop::sample::select(&EXAMPLES[..]),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let text = changes.iter().fold(example.to_owned(), |text, change| apply(&text, change));
        check(&text, &parse("f", &text))?;
    }

    #[test]
    fn any_value_of_any_key_is_answered(
        key in prop::sample::select(&[
            "workers", "relay", "bind", "pool", "timeouts", "tcp", "health_check", "balance",
            "backends", "connect", "admin", "log", "shutdown", "limits", "idle", "weight",
        ][..]),
        value in "[-+.0-9a-z:/\\[\\]{} ,%']{0,24}",
    ) {
        let text = format!("{key}: {value}\nlisteners: {{l: {{{key}: {value}}}}}\npools: {{p: {{{key}: {value}}}}}\n");
        check(&text, &parse("f", &text))?;
    }
}
