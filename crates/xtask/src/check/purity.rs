//! Which crate may depend on what. Invariant: what is asked is cargo's own resolution of normal
//! dependencies, so a dependency of a dependency counts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use super::Breach;

/// Crates that take bytes, time and randomness as arguments.
const PURE: [&str; 5] = [
    "ringway-admission",
    "ringway-balance",
    "ringway-flow",
    "ringway-health",
    "ringway-wire",
];
/// What gives a crate a kernel, a runtime or a clock of its own.
const IMPURE: [&str; 9] = [
    "io-uring",
    "libc",
    "mio",
    "monoio",
    "nix",
    "rustix",
    "socket2",
    "tokio",
    "windows-sys",
];
/// Dependencies that belong to some crates only: who may name them as a normal dependency.
const RESERVED: [(&str, &[&str]); 10] = [
    // The keeper hands set-up flags to its runtime, in the runtime's version of the types.
    ("io-uring", &["ringway-uring", "ringway-keeper"]),
    ("libc", &["ringway-uring"]),
    ("monoio", &["ringway-keeper", "ringway-bench"]),
    (
        "tokio",
        &[
            "ringway",
            "ringway-control",
            "ringway-discovery",
            "ringway-bench",
        ],
    ),
    ("axum", &["ringway-control"]),
    ("clap", &["ringway", "ringway-bench", "ringway-sim"]),
    ("clap_complete", &["ringway"]),
    ("clap_mangen", &["ringway"]),
    // A worker writes no log: what it has to say is counted, or goes into a queue that may drop.
    ("tracing", &["ringway", "ringway-control"]),
    ("anyhow", &[]),
];

pub(super) fn breaches(root: &Path) -> io::Result<Vec<Breach>> {
    let direct = direct_dependencies(root)?;
    let mut breaches = reserved(&direct);
    for name in PURE {
        if !direct.contains_key(name) {
            breaches.push(Breach(format!("{name} is not in the workspace")));
            continue;
        }
        let impure = tree(root, name)?
            .into_iter()
            .filter(|name| IMPURE.contains(&name.as_str()));
        breaches
            .extend(impure.map(|found| Breach(format!("{name} is pure and depends on {found}"))));
    }
    Ok(breaches)
}

/// Reserved dependencies that someone else has.
fn reserved(direct: &BTreeMap<String, Vec<String>>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (package, dependencies) in direct {
        for (reserved, owners) in RESERVED {
            let has = dependencies.iter().any(|dependency| dependency == reserved);
            if has && !owners.contains(&package.as_str()) {
                breaches.push(Breach(format!(
                    "{package} depends on {reserved}, which it may not"
                )));
            }
        }
    }
    breaches
}

/// The names of all normal dependencies of `package`, direct or not.
fn tree(root: &Path, package: &str) -> io::Result<Vec<String>> {
    let arguments = [
        "tree", "-p", package, "-e", "normal", "--prefix", "none", "-f", "{p}",
    ];
    let output = cargo(root, &arguments)?;
    let names = output.lines().filter_map(|line| line.split(' ').next());
    Ok(names
        .filter(|name| *name != package)
        .map(str::to_owned)
        .collect())
}

/// The normal dependencies that each package of the workspace names.
fn direct_dependencies(root: &Path) -> io::Result<BTreeMap<String, Vec<String>>> {
    let output = cargo(root, &["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Json = serde_json::from_str(&output)?;
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let normal = |package: &Json| {
        let dependencies = list(&package["dependencies"]);
        let normal = dependencies
            .iter()
            .filter(|dependency| dependency["kind"].is_null());
        normal.map(|dependency| text(&dependency["name"])).collect()
    };
    let packages = list(&metadata["packages"]);
    Ok(packages
        .iter()
        .map(|package| (text(&package["name"]), normal(package)))
        .collect())
}

fn cargo(root: &Path, arguments: &[&str]) -> io::Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(io::Error::other(format!(
                "cargo {}: {message}",
                arguments[0]
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_dependency_is_for_its_owners() {
        let direct = |package: &str, dependency: &str| {
            BTreeMap::from([(package.to_owned(), vec![dependency.to_owned()])])
        };
        assert_eq!(reserved(&direct("ringway-keeper", "monoio")), []);
        assert_eq!(
            reserved(&direct("ringway-worker", "monoio")),
            [Breach(
                "ringway-worker depends on monoio, which it may not".to_owned()
            )]
        );
    }
}
