//! Rules about every source file: its header, its length, unsafe code. Invariant: what is judged is
//! code, not what comments and strings say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Breach;

/// The only package with unsafe code.
const UNSAFE_PACKAGE: &str = "crates/ringway-uring/";
/// Most lines of a file, and of a file of tests.
const LINES_MAX: usize = 600;
const TEST_LINES_MAX: usize = 900;

pub(super) fn breaches(root: &Path) -> io::Result<Vec<Breach>> {
    let mut breaches = Vec::new();
    for path in files(root, root)? {
        let name = path.to_string_lossy().into_owned();
        // A file that is no text has no rules here.
        let Ok(text) = fs::read_to_string(root.join(&path)) else {
            continue;
        };
        if name.ends_with(".rs") {
            breaches.extend(source(&name, &text));
        }
        breaches.extend(places(&name, &text));
    }
    Ok(breaches)
}

/// The breaches of one source file.
fn source(name: &str, text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    if !text.starts_with("//!") {
        breaches.push(Breach(format!("{name}:1: does not begin with `//!`")));
    }
    let is_test = name.ends_with("/tests.rs") || name.contains("/tests/");
    let (lines, most) = (
        text.lines().count(),
        if is_test { TEST_LINES_MAX } else { LINES_MAX },
    );
    if lines > most {
        breaches.push(Breach(format!("{name}: {lines} lines, more than {most}")));
    }
    let is_root = ["/lib.rs", "/main.rs"]
        .iter()
        .any(|root| name.ends_with(&format!("src{root}")));
    if name.starts_with(UNSAFE_PACKAGE) {
        return breaches;
    }
    if is_root && !text.lines().any(|line| line == "#![forbid(unsafe_code)]") {
        breaches.push(Breach(format!("{name}: no `#![forbid(unsafe_code)]`")));
    }
    for (number, line) in text.lines().enumerate() {
        if opens_unsafe(line) {
            breaches.push(Breach(format!("{name}:{}: unsafe code", number + 1)));
        }
    }
    breaches
}

/// Whether `line` has the keyword outside of comments and strings.
fn opens_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    // Whatever is between quotes is not code; a quote in a character literal hides too much at worst.
    let code: String = code.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let spaced = code.replace('{', " { ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let opens = |next: Option<&&str>| match next {
        // What it opens may stand on the next line.
        None => true,
        Some(next) => ["{", "fn", "impl", "trait", "extern"].contains(next),
    };
    let keywords = words
        .iter()
        .enumerate()
        .filter(|(_, word)| **word == "unsafe");
    keywords
        .into_iter()
        .any(|(index, _)| opens(words.get(index + 1)))
}

/// Paths that mean something on one machine only.
fn places(name: &str, text: &str) -> Vec<Breach> {
    // In pieces, so that this file is not a breach itself.
    let homes = [
        ["/", "work/"].concat(),
        ["/", "home/"].concat(),
        ["/", "Users/"].concat(),
    ];
    let foreign = [["..", "/shared"].concat()];
    let mut breaches = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let is_home = |home: &String| {
            line.match_indices(home.as_str()).any(|(at, _)| {
                // Inside a longer path it is a folder like any other.
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/*}".contains(c))
            })
        };
        if homes.iter().any(is_home) || foreign.iter().any(|path| line.contains(path.as_str())) {
            breaches.push(Breach(format!(
                "{name}:{}: a path of someone's machine",
                number + 1
            )));
        }
    }
    breaches
}

/// Every file under `directory`, relative to `root`, that is part of the project.
pub(super) fn files(root: &Path, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let built = ["target", ".git", "corpus", "artifacts", "runs"];
            if !built.iter().any(|built| name == *built) {
                found.extend(files(root, &entry.path())?);
            }
        } else if kind.is_file()
            && let Ok(path) = entry.path().strip_prefix(root)
        {
            found.push(path.to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, text: &str) -> Vec<String> {
        source(name, text)
            .into_iter()
            .map(|Breach(text)| text)
            .collect()
    }

    #[test]
    fn a_file_needs_a_header_and_has_a_length() {
        let long = "//! x\n".repeat(601);
        assert_eq!(
            found("a/src/b.rs", "use x;\n"),
            ["a/src/b.rs:1: does not begin with `//!`"]
        );
        assert_eq!(
            found("a/src/b.rs", &long),
            ["a/src/b.rs: 601 lines, more than 600"]
        );
        assert!(found("a/src/tests.rs", &long).is_empty());
        assert_eq!(found("a/tests/b.rs", &"//! x\n".repeat(901)).len(), 1);
    }

    #[test]
    fn a_root_forbids_unsafe_code() {
        assert_eq!(
            found("a/src/lib.rs", "//! x\n"),
            ["a/src/lib.rs: no `#![forbid(unsafe_code)]`"]
        );
        assert!(found("a/src/lib.rs", "//! x\n#![forbid(unsafe_code)]\n").is_empty());
        assert!(found("crates/ringway-uring/src/lib.rs", "//! x\n").is_empty());
    }

    #[test]
    fn unsafe_code_is_found_and_talk_about_it_is_not() {
        let code = [
            "unsafe { x }",
            "pub unsafe fn f() {}",
            "unsafe impl Send for X {}",
        ];
        let talk = [
            "// unsafe",
            "\"unsafe\"",
            "#![forbid(unsafe_code)]",
            "let not_unsafe = 1;",
        ];
        for line in code {
            assert_eq!(
                found("a/src/b.rs", &format!("//! x\n{line}\n")),
                ["a/src/b.rs:2: unsafe code"]
            );
        }
        for line in talk {
            assert!(
                found("a/src/b.rs", &format!("//! x\n{line}\n")).is_empty(),
                "{line}"
            );
        }
    }

    #[test]
    fn paths_of_a_machine_are_found_and_others_are_not() {
        let mine = [["see /", "home/me/x"].concat(), ["cd /", "work/x"].concat()];
        for line in mine {
            assert_eq!(places("README.md", &line).len(), 1, "{line}");
        }
        for line in [
            "/var/lib",
            "a/work/b",
            "the work/life balance",
            "/proc/PID/task",
        ] {
            assert!(places("README.md", line).is_empty(), "{line}");
        }
    }
}
