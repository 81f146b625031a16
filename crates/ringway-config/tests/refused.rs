//! What every kind of mistake looks like to who made it. `refused.txt` holds texts and the exact
//! errors they give; with `UPDATE=1` in the environment it is written anew, to be reviewed.

use std::fmt::Write as _;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/refused.txt");

/// Starts a case, followed by its name.
const CASE: &str = "=== ";
/// Ends the text of a case; its errors follow.
const ERRORS: &str = "--- errors\n";

#[test]
fn every_mistake_is_shown_as_expected() {
    let recorded = std::fs::read_to_string(FILE).expect("refused.txt");
    let mut actual = String::new();
    let mut count = 0;
    let (head, cases) = recorded.split_once(CASE).expect("a case");
    actual.push_str(head);
    for case in cases.split(&format!("\n{CASE}")) {
        let (name, rest) = case.split_once('\n').expect("a name");
        let (text, _) = rest.split_once(ERRORS).expect("errors");
        let errors = match ringway_config::parse("edge.yaml", text) {
            Ok(_) => panic!("{name} is accepted"),
            Err(errors) => errors,
        };
        let separator = if count == 0 { "" } else { "\n" };
        write!(actual, "{separator}{CASE}{name}\n{text}{ERRORS}{errors}\n").expect("a string");
        count += 1;
    }
    assert!(count >= 60, "{count} cases");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, &actual).expect("refused.txt");
    }
    assert_eq!(actual, recorded, "see refused.txt; UPDATE=1 writes it");
}
