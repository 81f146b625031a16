//! Writing to standard output and standard error. Not logging. Invariant: a reader that went away,
//! as in `ringway schema | head`, is no error and no panic; a full disk is an error.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes `text` and a line end to standard output.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Runtime(format!("standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes `text` and a line end to standard error. If that fails there is nobody left to tell.
pub(crate) fn complain(text: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{text}").and_then(|()| err.flush());
}

/// `value` as indented JSON.
pub(crate) fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}
