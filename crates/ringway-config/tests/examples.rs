//! The examples in `config/`: all are valid, and the reference says what the defaults are.

use std::path::PathBuf;

use ringway_config::{Backend, Config, Listener, Pool};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

fn load(name: &str) -> Config {
    ringway_config::load(&folder().join(name)).unwrap_or_else(|error| panic!("{error}"))
}

/// One listener and one pool of the given backends, with the model's own defaults.
fn plain(listener: &str, pool: &str, backends: &[&str]) -> Config {
    let backends = backends
        .iter()
        .map(|text| Backend::new(text.parse().expect("an address")));
    let bind = "0.0.0.0:8080".parse().expect("an address");
    Config::new(
        vec![Listener::new(listener, vec![bind], 0)],
        vec![Pool::new(pool, backends.collect())],
    )
}

#[test]
fn every_example_is_valid() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the examples")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    for name in [
        "edge.yaml",
        "minimal.yaml",
        "reference.yaml",
        "several-listeners.yaml",
    ] {
        assert!(
            names.iter().any(|found| found == name),
            "{name} in {names:?}"
        );
    }
    for name in &names {
        load(name);
    }
}

#[test]
fn the_reference_says_the_defaults() {
    assert_eq!(
        load("reference.yaml"),
        plain("web", "web", &["127.0.0.1:9001"])
    );
}

#[test]
fn what_is_left_out_is_the_default() {
    let expected = plain("web", "app", &["127.0.0.1:9001", "127.0.0.1:9002"]);
    assert_eq!(load("minimal.yaml"), expected);
}

#[test]
fn the_minimal_example_is_ten_lines() {
    let text = std::fs::read_to_string(folder().join("minimal.yaml")).expect("text");
    assert!(text.lines().count() <= 10);
}
