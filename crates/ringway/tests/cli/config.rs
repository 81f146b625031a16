//! `ringway check` and `ringway schema`, and what `ringway run` says of the same files.

use std::fs::File;

use crate::process::{ConfigFolder, ringway};

const GOOD: &str = "\
listeners:
  web: {bind: '127.0.0.1:0', pool: app}
pools:
  app: {backends: [{address: '127.0.0.1:9001'}]}
";

const BAD: &str = "\
listeners:
  web: {bind: '127.0.0.1:0', pool: ap}
  old: {bind: 127.0.0.1, pool: app, timeouts: {idel: 5s}}
pools:
  app: {backends: [{address: '127.0.0.1:9001', weight: many}]}
";

#[test]
fn a_good_file_is_ok_in_two_lines() {
    let folder = ConfigFolder::new(GOOD);
    let ended = ringway(&["check", "-c", folder.file()]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[0], format!("{}: ok", folder.file()));
    assert!(
        lines[1].contains("1 listener") && lines[1].contains("1 backend"),
        "{}",
        ended.out
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_bad_file_is_shown_with_every_error_and_its_place() {
    let folder = ConfigFolder::new(BAD);
    for command in ["check", "run"] {
        let ended = ringway(&[command, "-c", folder.file()]);
        assert_eq!(ended.code, Some(78), "{command}: {}", ended.err);
        assert!(ended.out.is_empty(), "{command}: {}", ended.out);
        for (line, words) in [(2, "`app`"), (3, "has no port"), (3, "idle"), (5, "weight")] {
            let place = format!("{}:{line}:", folder.file());
            let found = ended
                .err
                .lines()
                .any(|text| text.starts_with(&place) && text.contains(words));
            assert!(found, "{command}: {place} {words}: {}", ended.err);
        }
    }
}

#[test]
fn what_is_no_configuration_is_refused_with_exit_code_78() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    // Sparse: a hundred megabytes that cost no disk, and must cost no time either.
    let huge = File::create(path("huge.yaml")).expect("created");
    huge.set_len(100 * 1024 * 1024).expect("sparse");
    std::fs::write(path("latin1.yaml"), b"log: {level: \xe9}\n").expect("written");
    std::fs::write(path("empty.yaml"), b"").expect("written");
    for (name, words) in [
        ("missing.yaml", "cannot be read"),
        ("", "is a directory"),
        ("huge.yaml", "is this the right file?"),
        ("latin1.yaml", ":1:14: not UTF-8"),
        ("empty.yaml", "listeners"),
    ] {
        for command in ["check", "run"] {
            let ended = ringway(&[command, "-c", &path(name)]);
            assert_eq!(ended.code, Some(78), "{command} {name}: {}", ended.err);
            assert!(ended.err.contains(words), "{command} {name}: {}", ended.err);
            assert!(
                ended.err.starts_with(&path(name)),
                "{command} {name}: {}",
                ended.err
            );
        }
    }
}

#[test]
fn the_schema_is_json_and_knows_the_keys() {
    let ended = ringway(&["schema"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let schema: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    for key in ["workers", "listeners", "pools", "admin", "log", "shutdown"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}
