//! What a pool's owner may choose. Plain values; nothing here decides anything.

/// How a pool spreads new connections over its eligible backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Smooth weighted round robin: exact over one cycle of the weights.
    RoundRobin,
    /// Two draws, the less loaded one wins (power of two choices over this worker's own counts).
    LeastConnections,
    /// Weighted random.
    Random,
    /// Rendezvous hash of the client's address.
    SourceHash,
    /// Maglev table over the client's address.
    Maglev,
}

/// What happens to a new connection while every backend of its pool is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenAllDown {
    /// Fail open: choose as if all were up, and count it.
    Try,
    /// Refuse the connection.
    Refuse,
}
