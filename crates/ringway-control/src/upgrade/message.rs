//! What two processes say to each other in an upgrade, as JSON. Invariant: the first message of each
//! side names the protocol, under the same key in every version to come, so that two that do not
//! understand each other find out before anything has changed.

use serde::{Deserialize, Serialize};

/// Changes whenever a message gets another meaning. A key that may be absent is no change.
pub(crate) const PROTOCOL: u32 = 1;

/// What the running process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum FromOld {
    /// The first message.
    Manifest(Manifest),
    /// Some of what operators have asked for.
    Asked { entries: Vec<Asked> },
    /// Some of the sockets; their descriptors come with the message, in the same order.
    Sockets { entries: Vec<Entry> },
    /// Accept from now on.
    Go,
    /// I accept no more, and have told the service manager of you.
    Yours,
}

/// What is about to come.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) protocol: u32,
    /// Of the program; told, not compared.
    pub(crate) version: String,
    /// How many sockets.
    pub(crate) sockets: usize,
    /// Of how many backends something was asked; that comes first.
    #[serde(default)]
    pub(crate) asked: usize,
    /// How long it has to be prepared.
    pub(crate) prepared_within_ms: u64,
}

/// What operators have asked for of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) pool: String,
    pub(crate) address: String,
    /// As requests name it.
    pub(crate) state: String,
    /// What was asked for, and what the file said then.
    pub(crate) weight: Option<(u32, u32)>,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) role: Role,
    /// The listener's name.
    pub(crate) name: String,
    /// The address as configured: its port may be 0.
    pub(crate) configured: String,
    /// The address as bound.
    pub(crate) bound: String,
    /// Whose it was.
    pub(crate) worker: u16,
    /// Device and inode of a Unix socket's file that goes with it.
    pub(crate) file: Option<(u64, u64)>,
    /// Whether the service manager holds it too.
    pub(crate) is_managers: bool,
    /// A fingerprint of its options; absent where they are not known.
    pub(crate) options: Option<u64>,
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Listener,
    Admin,
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum FromNew {
    /// Places of sockets that it has no use for; any number of such messages.
    Declined { places: Vec<usize> },
    /// Everything that can fail has not.
    Prepared { protocol: u32, version: String },
    /// It accepts.
    Accepting,
    /// It cannot go on.
    Refused { protocol: u32, reasons: Vec<String> },
}

/// What every version reads first.
#[derive(Debug, Deserialize)]
pub(crate) struct Spoken {
    pub(crate) protocol: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_found_in_a_message_of_any_version() {
        let text = r#"{"say":"something new","protocol":7,"more":[1,2,3]}"#;
        let spoken: Spoken = serde_json::from_str(text).unwrap();
        assert_eq!(spoken.protocol, 7);
        assert!(serde_json::from_str::<FromOld>(text).is_err());
    }
}
