//! The table of behaviours, `tests/CATALOGUE.md`, against the sources: what it names exists, and no
//! behaviour is left out. Not a check that a test shows what the table says.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The ranges that apply to what is built.
const BEHAVIOURS: [std::ops::RangeInclusive<u16>; 2] = [1..=121, 133..=148];

/// The rows: the number of the behaviour, and what shows it.
fn rows(table: &str) -> Vec<(u16, &str)> {
    let row = |line| {
        let (number, cell) = str::strip_prefix(line, "| R")?.split_once(" | ")?;
        Some((number.parse().ok()?, cell.strip_suffix(" |")?))
    };
    table.lines().filter_map(row).collect()
}

/// What a cell names, between backticks, as path and function.
fn named(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|name| name.split_once("::"))
}

/// Whether the text has that function, as a test or as a line of the invariants.
fn has(text: &str, function: &str, is_test: bool) -> bool {
    let mut before: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        let declared = ["fn ", "pub(super) fn "]
            .iter()
            .any(|start| line.starts_with(&format!("{start}{function}(")));
        if declared {
            return !is_test || before.contains(&"#[test]");
        }
        match line.starts_with("#[") {
            true => before.push(line),
            false => before.clear(),
        }
    }
    false
}

#[test]
fn every_behaviour_has_a_row_and_every_test_it_names_exists() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(here.join("tests/CATALOGUE.md")).unwrap();
    let rows = rows(&table);
    let numbers: Vec<u16> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(
        numbers,
        BEHAVIOURS.into_iter().flatten().collect::<Vec<_>>()
    );
    let mut sources = HashMap::new();
    for (number, cell) in rows {
        let says_why =
            cell.to_lowercase().contains("not built yet: ") || cell.contains("Does not apply: ");
        assert!(
            says_why || named(cell).next().is_some(),
            "R{number}: {cell}"
        );
        for (path, function) in named(cell) {
            let text = sources.entry(path).or_insert_with(|| {
                let read = fs::read_to_string(here.parent().unwrap().join(path));
                read.unwrap_or_else(|error| panic!("R{number}: {path}: {error}"))
            });
            let is_test = !path.starts_with("xtask/");
            assert!(
                has(text, function, is_test),
                "R{number}: no test {function} in {path}"
            );
        }
    }
}

#[test]
fn a_function_that_is_no_test_is_none() {
    let text = "#[test]\n#[ignore]\nfn one() {}\n\nfn two() {}\n// fn three() {}\n";
    let is_there = |name| has(text, name, true);
    assert!(is_there("one") && !is_there("two") && !is_there("three") && !is_there("on"));
    assert!(has(text, "two", false));
    assert_eq!(rows("| R7 | `a.rs::b` |\n| x | y |\n"), [(7, "`a.rs::b`")]);
    assert_eq!(
        named("`a.rs::b`, `c`, `d/e.rs::f`. Why.").collect::<Vec<_>>(),
        [("a.rs", "b"), ("d/e.rs", "f")]
    );
}
