//! What stands at the root, and that the README begins with what a newcomer types. Invariant: only
//! what git tracks or would track is judged, so that nobody's local files are.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::Breach;

/// Everything that may stand at the root.
const ROOT: [&str; 22] = [
    ".ci",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "bench",
    "clippy.toml",
    "config",
    "crates",
    "deny.toml",
    "deploy",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scripts",
];
/// What has to stand there.
const REQUIRED: [&str; 7] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
];
/// The two commands that the README has to name.
const COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo test --workspace"];

pub(super) fn breaches(root: &Path) -> io::Result<Vec<Breach>> {
    let present = present(root)?;
    let mut breaches: Vec<Breach> = present
        .iter()
        .filter(|name| !ROOT.contains(&name.as_str()))
        .map(|name| Breach(format!("{name}: does not belong at the root")))
        .collect();
    for required in REQUIRED {
        if !present.iter().any(|name| name == required) {
            breaches.push(Breach(format!("{required} is missing")));
        }
    }
    let readme = fs::read_to_string(root.join("README.md")).unwrap_or_default();
    for command in COMMANDS {
        if !readme.contains(command) {
            breaches.push(Breach(format!("README.md does not name `{command}`")));
        }
    }
    Ok(breaches)
}

/// The names at the root of what git tracks or would track; without git, of everything but `target`.
fn present(root: &Path) -> io::Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    let mut names: Vec<String> = match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|path| path.split('/').next().map(str::to_owned))
            .filter(|name| root.join(name).exists())
            .collect(),
        Ok(_) | Err(_) => fs::read_dir(root)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .filter(|name| name != "target" && name != ".git")
            .collect(),
    };
    names.sort();
    names.dedup();
    Ok(names)
}
