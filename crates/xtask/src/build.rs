//! Release builds of what is measured.
//!
//! Not an install: it leaves everything where cargo puts it. Invariant: what is measured is built from the
//! sources as they are, with the locked dependencies.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds what `arguments` name to cargo, and returns the folder of the release build.
pub(crate) fn release(arguments: &[&str]) -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !status.success() {
        let what = arguments.join(" ");
        return Err(io::Error::other(format!(
            "the release build of {what} failed"
        )));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    Ok(target.join("release"))
}
