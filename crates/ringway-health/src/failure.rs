//! How one probe ended, and whose fault a failure is. Nothing here makes a probe or judges a backend.
//!
//! Invariant: the set of labels is closed, and what a backend said is bounded and shown in printable ASCII.

use std::fmt;

/// How one probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeResult {
    /// The backend answered in time, as it should.
    Ok,
    /// It did not, and why.
    Failed(ProbeFailure),
}

impl ProbeResult {
    /// `ok`, or the label of the failure.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(failure) => failure.as_label(),
        }
    }

    /// What the backend answered instead; none where that is not why it failed.
    pub const fn got(&self) -> Option<&Excerpt> {
        match self {
            Self::Ok => None,
            Self::Failed(failure) => failure.got(),
        }
    }
}

/// Why a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeFailure {
    /// The host answered that nobody listens there (ECONNREFUSED).
    Refused,
    /// No answer within the time allowed, by the probe's deadline or the kernel's (ETIMEDOUT).
    Timeout,
    /// The connection was made and torn down (ECONNRESET, EPIPE).
    Reset,
    /// The backend ended the connection in order, before its answer was complete.
    EarlyClose,
    /// It answered something else, which begins like this.
    WrongAnswer(Excerpt),
    /// No way to the host (EHOSTUNREACH, ENETUNREACH, ENETDOWN).
    Unreachable,
    /// This host has no local port or address left for the probe (EADDRNOTAVAIL).
    NoPorts,
    /// This host has no descriptor or memory left for the probe (EMFILE, ENFILE, ENOMEM, ENOBUFS).
    Resources,
    /// Any other error number of the system.
    Other(i32),
}

impl ProbeFailure {
    /// A stable lower-case name. Neither the error number of [`Other`](Self::Other) nor what was answered is
    /// part of it, so the set of labels is closed.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::EarlyClose => "early_close",
            Self::WrongAnswer(_) => "wrong_answer",
            Self::Unreachable => "unreachable",
            Self::NoPorts => "no_ports",
            Self::Resources => "resources",
            Self::Other(_) => "other",
        }
    }

    /// Whether the failure says anything about the backend. A host that has no port, descriptor or memory
    /// left for a probe knows no more than before, and must not take its backends for dead.
    pub const fn is_of_backend(self) -> bool {
        match self {
            Self::Refused
            | Self::Timeout
            | Self::Reset
            | Self::EarlyClose
            | Self::WrongAnswer(_)
            | Self::Unreachable
            | Self::Other(_) => true,
            Self::NoPorts | Self::Resources => false,
        }
    }

    /// What the backend answered instead; none for every other failure.
    pub const fn got(&self) -> Option<&Excerpt> {
        match self {
            Self::WrongAnswer(got) => Some(got),
            Self::Refused
            | Self::Timeout
            | Self::Reset
            | Self::EarlyClose
            | Self::Unreachable
            | Self::NoPorts
            | Self::Resources
            | Self::Other(_) => None,
        }
    }
}

/// The first bytes of an answer. Displayed in printable ASCII whatever they are, so that a backend cannot
/// write lines of its own into a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Excerpt {
    bytes: [u8; Excerpt::BYTES_MAX],
    len: u8,
    is_cut: bool,
}

impl Excerpt {
    /// Bytes that are kept.
    pub const BYTES_MAX: usize = 48;

    /// The beginning of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut excerpt = Self {
            bytes: [0; Self::BYTES_MAX],
            len: 0,
            is_cut: false,
        };
        excerpt.extend(bytes);
        excerpt
    }

    /// The bytes that were kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Adds what follows, as far as there is room.
    pub(crate) fn extend(&mut self, more: &[u8]) {
        let kept = usize::from(self.len);
        let count = more.len().min(Self::BYTES_MAX - kept);
        self.bytes[kept..kept + count].copy_from_slice(&more[..count]);
        self.len += count as u8;
        self.is_cut |= count < more.len();
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = if self.is_cut { "..." } else { "" };
        write!(f, "{}{rest}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_bounded_and_printable() {
        let excerpt = Excerpt::of(b"a\"\r\n\xff\0");
        assert_eq!(excerpt.to_string(), r#"a\"\r\n\xff\x00"#);
        let long = Excerpt::of(&[b'x'; 49]);
        assert_eq!(long.as_bytes(), [b'x'; 48]);
        assert_eq!(long.to_string(), format!("{}...", "x".repeat(48)));
        assert_eq!(Excerpt::of(&[b'x'; 48]).to_string(), "x".repeat(48));
    }
}
