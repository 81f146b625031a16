//! `check`: the rules that no compiler and no lint enforces here. Not style: rustfmt and clippy have
//! that. Invariant: every rule is looked at in one run, and each breach is printed with its place.

mod data_path;
mod layout;
mod purity;
mod sources;

use std::io;
use std::path::{Path, PathBuf};

/// A breach of a rule: where and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breach(pub(crate) String);

/// Looks at everything and says whether all is well.
pub(crate) fn run() -> io::Result<bool> {
    let root = root()?;
    let mut breaches = Vec::new();
    for (name, found) in [
        ("purity of the crates", purity::breaches(&root)?),
        ("data path", data_path::breaches(&root)?),
        ("sources", sources::breaches(&root)?),
        ("layout", layout::breaches(&root)?),
    ] {
        let state = if found.is_empty() {
            "ok".to_owned()
        } else {
            format!("{} found", found.len())
        };
        println!("{name}: {state}");
        breaches.extend(found);
    }
    for Breach(text) in &breaches {
        println!("  {text}");
    }
    Ok(breaches.is_empty())
}

/// The root of the workspace.
fn root() -> io::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
}
