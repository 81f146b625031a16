//! Why a command failed, and the exit code that says so: the one table of exit codes. Not the
//! errors themselves; they become text here. Invariant: a failure's text is complete, so that
//! `main` prints it and adds nothing.

use std::fmt;

use ringway_config::LoadError;
use ringway_control::{StartError, StartErrorKind};

/// A command that did not succeed. Success and a graceful end are exit code 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong while running: a port in use, nobody answers. Exit code 1.
    Runtime(String),
    /// The command line makes no sense; clap finds most of these itself. Exit code 2.
    Usage(String),
    /// The kernel or its limits cannot run Ringway. Exit code 69, `EX_UNAVAILABLE` of sysexits(3).
    Kernel(String),
    /// The configuration is invalid or cannot be read. Exit code 78, `EX_CONFIG` of sysexits(3).
    Config(LoadError),
    /// A running instance found the configuration invalid. Exit code 78, too.
    Refused(String),
}

impl Failure {
    /// The exit code; see the variants.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Runtime(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Kernel(_) => 69,
            Failure::Config(_) | Failure::Refused(_) => 78,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Runtime(text) | Failure::Kernel(text) | Failure::Refused(text) => {
                write!(f, "ringway: {text}")
            }
            // As clap shows what it finds itself.
            Failure::Usage(text) => {
                write!(f, "error: {text}\n\nFor more information, try '--help'.")
            }
            // Located errors start with the file, so that editors and terminals can jump there.
            Failure::Config(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure::Config(error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error.kind() {
            StartErrorKind::Kernel => Failure::Kernel(error.to_string()),
            StartErrorKind::Runtime => Failure::Runtime(error.to_string()),
        }
    }
}
