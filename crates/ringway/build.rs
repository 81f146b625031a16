//! Tells the binary which commit it was built from. Not a version: that is the manifest's. It must
//! work without git and without a repository, as in a source archive: the commit is then `unknown`,
//! or what the packager puts into the variable `RINGWAY_COMMIT`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RINGWAY_COMMIT");
    let commit = std::env::var("RINGWAY_COMMIT")
        .ok()
        .filter(|given| !given.is_empty())
        .or_else(from_git)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=RINGWAY_COMMIT={commit}");
}

fn from_git() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .ok()?;
    // A source archive unpacked inside another repository is not a commit of that repository.
    let top = git(&root, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != root {
        return None;
    }
    // HEAD changes with the branch, its log with each commit. A path that does not exist would make
    // every build start over.
    let git_dir = root.join(git(&root, &["rev-parse", "--git-dir"])?);
    let watched: [PathBuf; 2] = [git_dir.join("HEAD"), git_dir.join("logs/HEAD")];
    for path in watched.iter().filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    git(&root, &["rev-parse", "--short", "HEAD"])
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(root)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
