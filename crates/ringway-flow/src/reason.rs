//! Why a flow ended: one closed set, the same in metrics, access log and tests.

use crate::Side;

/// Who ended a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// The client closed or reset first.
    Client,
    /// The backend closed or reset first, or could not be reached.
    Backend,
    /// Ringway itself: a deadline, a drain, a lack of resources.
    Ringway,
}

impl From<Side> for Party {
    fn from(side: Side) -> Party {
        match side {
            Side::Front => Party::Client,
            Side::Back => Party::Backend,
        }
    }
}

/// What ended a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Both directions ended by FIN; the party is the one that closed first.
    Fin,
    /// The party reset its connection.
    Reset,
    /// No byte moved for `timeouts.idle`.
    Idle,
    /// The client sent nothing for `timeouts.first_byte`.
    FirstByte,
    /// One side had closed and no byte moved for `timeouts.half_close`.
    HalfClose,
    /// The flow reached `timeouts.lifetime`.
    Lifetime,
    /// What the first bytes must tell was not there by `timeouts.handshake`, or is too long.
    Handshake,
    /// The first bytes say that this connection is not to be relayed.
    Refused,
    /// No backend could be connected.
    ConnectFailed,
    /// No backend could be chosen; the connection was refused.
    NoBackend,
    /// This host had no descriptor, port or memory for a connection to a backend; refused.
    Resources,
    /// The drain of the process reached its deadline.
    Drain,
    /// The backend went down and its pool says to close.
    BackendDown,
    /// Memory was short, and the kernel held bytes of it that its peer did not take.
    HeldMemory,
    /// The kernel refused an operation for a reason that is neither side's.
    Error,
}

/// Who and what ended a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// Who.
    pub by: Party,
    /// What.
    pub why: Why,
}

impl Ended {
    /// Ended by Ringway's own decision.
    pub const fn by_ringway(why: Why) -> Ended {
        Ended {
            by: Party::Ringway,
            why,
        }
    }
}
