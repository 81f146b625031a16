//! Files that are no configuration, by accident or on purpose: each is refused with one clear
//! message, with bounded work and without a panic.

use std::fs::File;
use std::io::Write as _;

use ringway_config::limits::{
    ACCESS_NETWORKS_MAX, DEPTH_MAX, ERRORS_MAX, FILE_BYTES_MAX, NODES_MAX,
};
use ringway_config::{LoadError, load, parse};

const VALID: &str = "listeners: {l: {bind: '127.0.0.1:0', pool: p}}\n\
                     pools: {p: {backends: [{address: '127.0.0.1:1'}]}}\n";

/// The errors of a text that must have some.
fn errors(text: &str) -> String {
    match parse("f", text) {
        Ok(_) => panic!("accepted: {:.200}", text),
        Err(errors) => errors.to_string(),
    }
}

/// The messages of a text that must have some, with their places.
fn messages(text: &str) -> Vec<(u32, u32, String)> {
    match parse("f", text) {
        Ok(_) => panic!("accepted: {:.200}", text),
        Err(errors) => errors
            .problems()
            .iter()
            .map(|problem| {
                (
                    problem.line(),
                    problem.column(),
                    problem.message().to_owned(),
                )
            })
            .collect(),
    }
}

#[test]
fn aliases_cannot_grow_a_small_file() {
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (name, previous) in ('b'..='z').zip('a'..) {
        let list = vec![format!("*{previous}"); 9].join(", ");
        bomb.push_str(&format!("{name}: &{name} [{list}]\n"));
    }
    let errors = errors(&bomb);
    assert!(
        errors.contains("anchors (`&name`) are not supported"),
        "{errors}"
    );
    assert!(
        errors.contains("aliases (`*name`) are not supported"),
        "{errors}"
    );
}

#[test]
fn deep_nesting_is_refused_where_it_gets_too_deep() {
    let flow = format!("a: {}", "[".repeat(100_000));
    let block: String = (0..1000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    let dashes = "- ".repeat(100_000);
    for text in [&flow, &block, &dashes] {
        let errors = errors(text);
        assert!(
            errors.contains(&format!("nested deeper than {DEPTH_MAX} levels")),
            "{errors:.300}"
        );
    }
}

#[test]
fn a_text_at_the_limit_is_read_and_one_byte_more_is_not() {
    let padding = "#".repeat(FILE_BYTES_MAX - VALID.len());
    let text = format!("{VALID}{padding}");
    assert_eq!(text.len(), FILE_BYTES_MAX);
    assert!(parse("f", &text).is_ok());
    let errors = errors(&format!("{text}#"));
    assert!(errors.contains("at most 8388608"), "{errors}");
}

#[test]
fn too_many_nodes_are_refused() {
    let text = format!("a: [{}]", "1,".repeat(NODES_MAX + 1));
    assert!(text.len() <= FILE_BYTES_MAX);
    let errors = errors(&text);
    assert!(
        errors.contains(&format!("more than {NODES_MAX} keys and values")),
        "{errors:.300}"
    );
}

/// Lists of a listener at their longest, written as generators write them: one network per line.
#[test]
fn the_longest_access_lists_are_read_and_one_more_network_is_not() {
    let networks = |count: usize| {
        let network = |number: usize| {
            let [_, a, b, c] = (number as u32).to_be_bytes();
            format!("        - 10.{a}.{b}.{c}/32\n        - \"2001:db8:{a}:{b}::{c}/128\"\n")
        };
        let pairs: String = (0..count / 2).map(network).collect();
        pairs
    };
    let file = |allow: usize| {
        let lists = format!(
            "      allow:\n{}      deny:\n{}",
            networks(allow),
            networks(ACCESS_NETWORKS_MAX)
        );
        format!(
            "listeners:\n  l:\n    bind: 127.0.0.1:0\n    pool: p\n    access:\n{lists}\
             pools: {{p: {{backends: [{{address: '127.0.0.1:1'}}]}}}}\n"
        )
    };
    let config = parse("f", &file(ACCESS_NETWORKS_MAX)).expect("valid");
    let access = &config.listeners[0].access;
    assert_eq!(access.allow.len(), ACCESS_NETWORKS_MAX);
    assert_eq!(access.allow, access.deny);
    let errors = errors(&file(ACCESS_NETWORKS_MAX + 2));
    assert!(
        errors.contains("at most 131072 are possible"),
        "{errors:.300}"
    );
}

#[test]
fn a_thousand_errors_are_shown_and_the_rest_counted() {
    let text: String = (0..ERRORS_MAX + 500)
        .map(|index| format!("k{index}: 1\n"))
        .collect();
    let errors = parse("f", &text).expect_err("unknown keys");
    assert_eq!(errors.problems().len(), ERRORS_MAX);
    assert!(errors.omitted() >= 500);
}

#[test]
fn control_characters_are_refused_and_never_printed() {
    for (character, code) in [
        ('\0', "U+0000"),
        ('\u{1b}', "U+001B"),
        ('\u{7f}', "U+007F"),
        ('\u{9b}', "U+009B"),
    ] {
        let text = VALID.replace("p}}\npools", &format!("p}}}} # \u{e9}{character}\npools"));
        let errors = errors(&text);
        assert!(errors.starts_with("f:1:51: "), "{errors}");
        assert!(errors.contains(code), "{errors}");
        assert!(
            errors.chars().all(|c| c == '\n' || !c.is_control()),
            "{errors:?}"
        );
    }
    let binary: String = (0..5000).map(|index| char::from(index as u8)).collect();
    assert_eq!(messages(&binary).len(), 1);
}

#[test]
fn a_suggestion_is_made_safe_to_print_too() {
    let text = VALID
        .replace("pool: p", "pool: databas")
        .replace("{p:", "{\"data\\tbase\":");
    let errors = errors(&text);
    assert!(errors.contains("did you mean `data\\tbase`?"), "{errors}");
}

#[test]
fn line_ends_and_a_byte_order_mark_change_nothing() {
    let expected = parse("f", VALID);
    assert!(expected.is_ok());
    for text in [
        VALID.replace('\n', "\r\n"),
        VALID.replace('\n', "\r"),
        format!("\u{feff}{VALID}"),
        format!("\u{feff}---\r\n{}\r\n...\r\n", VALID.replace('\n', "\r\n")),
        VALID.trim_end().to_owned(),
    ] {
        assert_eq!(parse("f", &text), expected, "{text:?}");
    }
    let wrong = format!("\u{feff}{VALID}wrokers: 1\n");
    for text in [
        wrong.clone(),
        wrong.replace('\n', "\r\n"),
        wrong.replace('\n', "\r"),
    ] {
        let shown = errors(&text);
        let expected = "f:3:1: wrokers: unknown key `wrokers`; did you mean `workers`?\n    3 | wrokers: 1\n      | ^^^^^^^";
        assert_eq!(shown, expected, "{text:?}");
    }
    assert!(errors(&format!("{VALID}\u{feff}")).contains("U+FEFF"));
}

#[test]
fn tabs_are_refused_as_indentation() {
    let text = "listeners:\n\tl: {bind: '127.0.0.1:0', pool: p}\n";
    let shown = errors(text);
    assert!(shown.contains("indent with spaces"), "{shown}");
    assert!(shown.contains("    2 |  l: {bind"), "{shown}");
    // Between words they are white space like any other.
    assert!(parse("f", &VALID.replace(": {l", ":\t{l")).is_ok());
}

#[test]
fn nothing_is_called_nothing() {
    for text in ["", "\n\n", "\u{feff}", "# only\n# comments\n"] {
        assert_eq!(
            messages(text),
            [(
                1,
                1,
                "the file is empty: it needs at least `listeners` and `pools`".to_owned()
            )],
            "{text:?}"
        );
    }
    for text in ["---\n", "null\n", "~", "---\n...\n"] {
        let [(_, _, message)] = &messages(text)[..] else {
            panic!("{text:?}")
        };
        assert_eq!(message, "expected a mapping, found nothing", "{text:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.yaml");
    let error = load(&missing).expect_err("missing");
    assert!(matches!(error, LoadError::Unreadable { .. }));
    assert!(
        error.to_string().contains("missing.yaml: cannot be read"),
        "{error}"
    );
    assert!(
        error.to_string().ends_with("check the path given with -c"),
        "{error}"
    );

    let error = load(folder.path()).expect_err("a folder");
    assert!(matches!(error, LoadError::Directory { .. }), "{error}");

    let large = folder.path().join("large.yaml");
    File::create(&large)
        .and_then(|file| file.set_len(100 << 20))
        .expect("a sparse file");
    let error = load(&large).expect_err("too large");
    assert!(
        matches!(
            error,
            LoadError::TooLarge {
                bytes: 104_857_600,
                ..
            }
        ),
        "{error}"
    );

    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, b"a: 1\nb: \xff\xfe\n").expect("a file");
    let error = load(&binary).expect_err("not text");
    assert!(
        matches!(
            error,
            LoadError::NotText {
                line: 2,
                column: 4,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_device_without_an_end_is_read_no_further_than_the_limit() {
    let error = load(std::path::Path::new("/dev/zero")).expect_err("endless");
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
}

#[test]
fn a_file_is_called_by_its_path() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(VALID.as_bytes()).expect("written");
    assert_eq!(load(file.path()).ok(), parse("f", VALID).ok());
    file.write_all(b"x: 1\n").expect("written");
    let error = load(file.path()).expect_err("wrong");
    assert!(
        error
            .to_string()
            .starts_with(&format!("{}:3:1: x: ", file.path().display()))
    );
}
