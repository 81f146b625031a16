//! Why a reload did not happen, and in which words.

use super::Outcome;

/// Why a reload did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    pub(crate) error: String,
    /// One text for each thing that is wrong.
    pub(crate) detail: Vec<String>,
}

/// What kind of reason it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// The file, or what it asks of this host.
    Unacceptable,
    /// A pool or a backend that is not there.
    NotThere,
    /// The instance is ending.
    Draining,
    /// Another process is about to take the place of this one.
    Upgrading,
    /// A file that does not answer.
    Unread,
    /// Workers that do not answer.
    Stuck,
}

/// The file is well, and this host cannot run it.
pub(super) fn unacceptable(error: String) -> Refusal {
    Refusal {
        kind: RefusalKind::Unacceptable,
        detail: vec![error.clone()],
        error,
    }
}

pub(super) fn draining() -> Refusal {
    Refusal {
        kind: RefusalKind::Draining,
        error: "the instance is draining".to_owned(),
        detail: Vec::new(),
    }
}

pub(super) fn upgrading() -> Refusal {
    Refusal {
        kind: RefusalKind::Upgrading,
        error: "an upgrade is under way".to_owned(),
        detail: Vec::new(),
    }
}

pub(super) fn without_file() -> Refusal {
    unacceptable("this instance runs without a file: there is nothing to reload".to_owned())
}

/// The file system keeps whoever reads the file.
pub(super) fn unread(what: &str) -> Refusal {
    let error = format!("the configuration file {what}: nothing is changed");
    Refusal {
        kind: RefusalKind::Unread,
        error,
        detail: Vec::new(),
    }
}

pub(super) fn stuck(what: &str) -> Outcome {
    Err(Refusal {
        kind: RefusalKind::Stuck,
        error: format!("a worker does not answer; {what}, see /livez"),
        detail: Vec::new(),
    })
}
