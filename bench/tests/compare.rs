//! `compare` and `report` from end to end, on settings too small to measure anything: that every
//! part of it works, with any privileges. Not a measurement. Invariant: what is judged is what was
//! recorded and printed, never how fast anything was.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

const BENCH: &str = env!("CARGO_BIN_EXE_ringway-bench");

/// The `ringway` of this workspace and profile, built if nobody has yet.
/// Another one can be named by the environment, as for scripts/peers.
fn ringway() -> PathBuf {
    if let Some(path) = std::env::var_os("RINGWAY") {
        return path.into();
    }
    let path = Path::new(BENCH).with_file_name("ringway");
    if !path.is_file() {
        let release = path
            .parent()
            .is_some_and(|parent| parent.ends_with("release"));
        let built = Command::new(env!("CARGO"))
            .args([
                "build", "-q", "--locked", "-p", "ringway", "--bin", "ringway",
            ])
            .args(release.then_some("--release"))
            .status()
            .expect("cargo runs");
        assert!(built.success());
    }
    path
}

/// Compares on short settings, which a machine that has other things to do gets something done in,
/// and returns what was recorded.
fn compare(directory: &Path, arguments: &[&str]) -> (Output, Json) {
    let output = Command::new(BENCH)
        .args(["compare", "--seconds", "250ms", "--idle-connections", "20"])
        .arg("--ringway")
        .arg(ringway())
        .arg("--record")
        .arg(directory)
        .args(arguments)
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let text = std::fs::read_to_string(directory.join("run.json")).expect("it records");
    (
        output,
        serde_json::from_str(&text).expect("the record is JSON"),
    )
}

#[test]
fn every_kind_of_load_is_compared_with_a_baseline() {
    let directory = tempfile::tempdir().unwrap();
    let only = "rr-64b,crr-reset,bulk-down-4,idle,tail-paced-4";
    let arguments = ["--only", only, "--peers", "tokio", "--pairs", "1"];
    let (output, run) = compare(directory.path(), &arguments);
    let pairs = run["pairs"].as_array().unwrap();
    for (discipline, key) in [
        ("rr-64b", "cpu_us_per_operation"),
        ("crr-reset", "cpu_us_per_operation"),
        ("bulk-down-4", "cpu_ms_per_gb"),
        ("idle", "connections"),
        ("tail-paced-4", "p99_us"),
    ] {
        for peer in ["ringway", "tokio"] {
            let is_it = |pair: &&Json| pair["discipline"] == discipline && pair["peer"] == peer;
            let found: Vec<&Json> = pairs.iter().filter(is_it).collect();
            assert_eq!(found.len(), 1, "{discipline} {peer}: {:?}", run["notes"]);
            for side in ["ours", "theirs"] {
                let value = found[0][side][key].as_f64().unwrap();
                assert!(value > 0.0, "{discipline} {peer} {side}: {}", found[0]);
                assert_eq!(found[0][side]["failed"], 0.0, "{}", found[0]);
            }
        }
    }
    assert_eq!(run["peaks"].as_array().unwrap().len(), 2);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("too few pairs"), "{table}");
    for name in ["rr-64b", "crr-reset", "bulk-down-4", "tail-paced-4"] {
        assert!(table.contains(name), "{table}");
    }
}

#[test]
fn monoio_takes_part_but_holds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--only", "rr-16k,idle", "--peers", "monoio", "--pairs", "2"];
    let (_, run) = compare(directory.path(), &arguments);
    let pairs = run["pairs"].as_array().unwrap();
    let is_it = |pair: &&Json| pair["peer"] == "monoio";
    let found: Vec<&Json> = pairs.iter().filter(is_it).collect();
    assert_eq!(found.len(), 2);
    assert_ne!(found[0]["first"], found[1]["first"]);
    assert!(found.iter().all(|pair| pair["discipline"] == "rr-16k"));
    let workers = found[0]["theirs"]["io_workers"].as_f64().unwrap();
    assert!(workers > 0.0, "its splices are done by kernel threads");
    let notes = run["notes"].to_string();
    assert!(notes.contains("idle: without monoio"), "{notes}");
}

#[test]
fn six_pairs_have_an_interval_and_a_report() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--only", "rr-64b", "--peers", "tokio", "--pairs", "6"];
    let (output, run) = compare(directory.path(), &arguments);
    assert_eq!(run["environment"]["pairs"], 6);
    let table = String::from_utf8(output.stdout).unwrap();
    // The host may have taken time away from some of them.
    let all_count = !table.contains("left out");
    assert_eq!(all_count, !table.contains("no interval"), "{table}");
    let out = directory.path().join("page.html");
    let report = Command::new(BENCH)
        .arg("report")
        .arg(directory.path())
        .arg("--markdown")
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(report.status.success());
    let markdown = String::from_utf8(report.stdout).unwrap();
    let row = "| 64 B round trips, 64 connections (CPU us) | tokio |";
    assert!(markdown.contains(row), "{markdown}");
    let recorded = std::fs::read_to_string(directory.path().join("table.md")).unwrap();
    assert!(recorded.contains(row), "{recorded}");
    let page = std::fs::read_to_string(&out).unwrap();
    assert!(page.contains("64 B round trips, 64 connections"), "{page}");
}

#[test]
fn a_record_that_is_not_there_is_named() {
    let output = Command::new(BENCH)
        .args(["report", "/nonexistent/run", "--markdown"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("/nonexistent/run/run.json"), "{errors}");
}

#[test]
fn a_balancer_that_cannot_run_is_named() {
    let output = Command::new(BENCH)
        .args([
            "compare",
            "--no-namespace",
            "--ringway",
            "/nonexistent/ringway",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("/nonexistent/ringway"), "{errors}");
}
