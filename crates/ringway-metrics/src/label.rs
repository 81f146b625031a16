//! The closed sets of label values, and arrays indexed by them.
//!
//! Each set is an enum with `ALL`, `COUNT` and `as_label()`; the texts are part of what users query
//! by and never change. Nothing a client chooses can become a label value.
//!
//! **Invariant:** labels within one set differ, and `ALL[i].index() == i`.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// One closed set of label values.
pub trait Label: Copy + 'static {
    /// How many values the set has.
    const COUNT: usize;

    /// The place of this value in the set's `ALL`.
    fn index(self) -> usize;
}

macro_rules! labels {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$variant_meta:meta])* $variant:ident => $label:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// How many values the set has.
            pub const COUNT: usize = [$($label),+].len();
            /// Every value, in the order of exposition.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant),+];

            /// The text users query by.
            pub const fn as_label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }

        impl Label for $name {
            const COUNT: usize = Self::COUNT;

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// Why a listener turned a connection away before it was given to a backend.
    RefusedReason {
        /// `limits.connections` was reached.
        Connections => "connections",
        /// `limits.connections_per_source` was reached.
        PerSource => "per_source",
        /// `limits.rate` was exceeded.
        Rate => "rate",
        /// `limits.rate_per_source` was exceeded.
        RatePerSource => "rate_per_source",
        /// The access list denies the source.
        Access => "access",
        /// A PROXY header was required and absent, malformed or from an untrusted source.
        ProxyProtocol => "proxy_protocol",
        /// PROXY header or ClientHello not complete by `timeouts.handshake`, malformed, or the
        /// client left before it was.
        Handshake => "handshake",
        /// No route matched and the listener has no pool of its own.
        NoRoute => "no_route",
        /// The pool has no backend that may be chosen.
        NoBackend => "no_backend",
        /// The listener or the process is draining.
        Draining => "draining",
        /// Out of descriptors, memory or flow slots.
        Resources => "resources",
    }
}

labels! {
    /// Who ended a connection.
    Side {
        /// The client closed or reset first.
        Client => "client",
        /// The backend closed, reset, or could not be reached.
        Backend => "backend",
        /// Ringway did: a deadline, a drain, a failure of its own.
        Ringway => "ringway",
    }
}

labels! {
    /// One end of a flow, as seen from Ringway.
    Peer {
        /// The socket accepted from the client.
        Client => "client",
        /// The socket connected to the backend.
        Backend => "backend",
    }
}

labels! {
    /// How a connection ended.
    CloseReason {
        /// Both directions ended with FIN; the side is the one that sent it first.
        Fin => "fin",
        /// A reset from the side named.
        Reset => "reset",
        /// No byte in either direction for `timeouts.idle`, or none from the client within
        /// `timeouts.first_byte`: both are a peer that says nothing, and the set of labels is
        /// closed.
        Idle => "idle",
        /// One side had closed and the other was silent for `timeouts.half_close`.
        HalfClose => "half_close",
        /// `timeouts.lifetime` was reached.
        Lifetime => "lifetime",
        /// Every attempt to connect to a backend failed.
        ConnectFailed => "connect_failed",
        /// What the connection runs through is being emptied: the process, its listener, or its
        /// backend (`when_backend_down: close`).
        Drain => "drain",
        /// An error of a socket or of the ring that is none of the above.
        Error => "error",
    }
}

labels! {
    /// A part of a connection's life that is timed.
    Stage {
        /// From accept until a backend was chosen.
        Pick => "pick",
        /// From the choice until the backend's connection was established, all attempts.
        Connect => "connect",
        /// From the established backend connection until the backend's first byte.
        FirstByte => "first_byte",
        /// From accept until both sockets were closed.
        Total => "total",
    }
}

labels! {
    /// What moved bytes between the two sockets of a flow.
    Engine {
        /// Receive into provided buffers and send.
        Copy => "copy",
        /// `splice(2)` on the worker's own thread.
        Splice => "splice",
        /// `IORING_OP_SPLICE`.
        UringSplice => "uring_splice",
    }
}

labels! {
    /// Why one attempt to connect to a backend failed.
    ConnectError {
        /// ECONNREFUSED: nothing listens there, or a Unix socket's backlog is gone.
        Refused => "refused",
        /// `connect.timeout` passed, or the kernel gave up (ETIMEDOUT).
        Timeout => "timeout",
        /// No route to the host or network (EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN).
        Unreachable => "unreachable",
        /// ECONNRESET or ECONNABORTED during the handshake.
        Reset => "reset",
        /// No local port is left towards this backend (EADDRNOTAVAIL): not the backend's fault.
        NoPorts => "no_ports",
        /// A Unix socket's queue of connections is full (EAGAIN).
        QueueFull => "queue_full",
        /// Any other error.
        Other => "other",
    }
}

impl ConnectError {
    /// The class of an `errno` of connect(2), positive, in the numbering of Linux's
    /// `asm-generic/errno.h` (all platforms that have `io_uring` in earnest: x86, arm, riscv).
    pub const fn from_errno(errno: i32) -> Self {
        match errno {
            111 => Self::Refused,
            110 => Self::Timeout,
            100 | 101 | 112 | 113 => Self::Unreachable,
            103 | 104 => Self::Reset,
            99 => Self::NoPorts,
            11 => Self::QueueFull,
            _ => Self::Other,
        }
    }
}

labels! {
    /// Why accepting failed: the errors of accept(2) that happen on a listening socket, by name.
    AcceptError {
        /// The process has no descriptor left.
        Emfile => "EMFILE",
        /// The system has no file left.
        Enfile => "ENFILE",
        /// No buffer memory.
        Enobufs => "ENOBUFS",
        /// No memory.
        Enomem => "ENOMEM",
        /// The client was gone before it was accepted.
        Econnaborted => "ECONNABORTED",
        /// A firewall or security module forbade it.
        Eperm => "EPERM",
        /// A protocol error.
        Eproto => "EPROTO",
        /// The socket does not listen any more.
        Einval => "EINVAL",
        /// Any other error.
        Other => "other",
    }
}

impl AcceptError {
    /// The label of an `errno` of accept(2), positive, in the numbering of Linux's
    /// `asm-generic/errno.h`.
    pub const fn from_errno(errno: i32) -> Self {
        match errno {
            24 => Self::Emfile,
            23 => Self::Enfile,
            105 => Self::Enobufs,
            12 => Self::Enomem,
            103 => Self::Econnaborted,
            1 => Self::Eperm,
            71 => Self::Eproto,
            22 => Self::Einval,
            _ => Self::Other,
        }
    }
}

labels! {
    /// What an operator wants of a backend.
    AdminState {
        /// In use.
        Active => "active",
        /// Gets no new connection; those it has go on.
        Drain => "drain",
        /// Out of use.
        Maintenance => "maintenance",
    }
}

labels! {
    /// What workers say of a backend beside what the operator wants of it.
    EjectionState {
        /// Connects to it have failed, and it is left out.
        Ejected => "ejected",
        /// One connection may try it.
        HalfOpen => "half_open",
    }
}

labels! {
    /// How one health check ended.
    CheckResult {
        /// The backend answered as it should.
        Pass => "pass",
        /// Nobody listens there.
        Refused => "refused",
        /// No answer, or not all of it, within the timeout.
        Timeout => "timeout",
        /// The connection was reset.
        Reset => "reset",
        /// The backend ended the connection before its answer was complete.
        EarlyClose => "early_close",
        /// It answered something else.
        WrongAnswer => "wrong_answer",
        /// No way to the host.
        Unreachable => "unreachable",
        /// No local port left: not the backend's failure.
        NoPorts => "no_ports",
        /// No descriptor or memory left here: not the backend's failure.
        Resources => "resources",
        /// Any other error.
        Other => "other",
    }
}

labels! {
    /// How one request to reload the configuration ended.
    ReloadResult {
        /// Every worker runs the new configuration.
        Success => "success",
        /// It was refused; nothing changed.
        Failure => "failure",
    }
}

/// One `C` for each value of the label `L`, indexed by it: `refused[RefusedReason::Rate]`.
///
/// `N` is `L::COUNT`, which the compiler checks where a table is made.
#[derive(Clone, Debug)]
pub struct ByLabel<L, C, const N: usize> {
    cells: [C; N],
    label: PhantomData<fn(L)>,
}

impl<L: Label, C: Default, const N: usize> Default for ByLabel<L, C, N> {
    fn default() -> Self {
        const { assert!(N == L::COUNT, "one cell per label") };
        Self {
            cells: std::array::from_fn(|_| C::default()),
            label: PhantomData,
        }
    }
}

impl<L, C, const N: usize> ByLabel<L, C, N> {
    /// The cells in the order of the label's `ALL`.
    pub fn cells(&self) -> &[C; N] {
        &self.cells
    }
}

impl<L: Label, C, const N: usize> Index<L> for ByLabel<L, C, N> {
    type Output = C;

    #[inline]
    fn index(&self, label: L) -> &C {
        &self.cells[label.index()]
    }
}

impl<L: Label, C, const N: usize> IndexMut<L> for ByLabel<L, C, N> {
    #[inline]
    fn index_mut(&mut self, label: L) -> &mut C {
        &mut self.cells[label.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counter;
    use std::collections::HashSet;

    fn assert_closed<L: Label + PartialEq + std::fmt::Debug>(
        all: &[L],
        text: fn(L) -> &'static str,
        expected: &str,
    ) {
        let labels: Vec<_> = all.iter().map(|l| text(*l)).collect();
        assert_eq!(labels.join("|"), expected);
        assert_eq!(labels.iter().collect::<HashSet<_>>().len(), L::COUNT);
        for (place, label) in all.iter().enumerate() {
            assert_eq!(label.index(), place);
        }
    }

    #[test]
    fn the_texts_are_those_users_query_by() {
        assert_closed(
            &RefusedReason::ALL,
            RefusedReason::as_label,
            "connections|per_source|rate|rate_per_source|access|proxy_protocol|handshake|no_route\
             |no_backend|draining|resources",
        );
        assert_closed(&Side::ALL, Side::as_label, "client|backend|ringway");
        assert_closed(&Peer::ALL, Peer::as_label, "client|backend");
        assert_closed(
            &CloseReason::ALL,
            CloseReason::as_label,
            "fin|reset|idle|half_close|lifetime|connect_failed|drain|error",
        );
        assert_closed(
            &Stage::ALL,
            Stage::as_label,
            "pick|connect|first_byte|total",
        );
        assert_closed(&Engine::ALL, Engine::as_label, "copy|splice|uring_splice");
        assert_closed(
            &ConnectError::ALL,
            ConnectError::as_label,
            "refused|timeout|unreachable|reset|no_ports|queue_full|other",
        );
        assert_closed(
            &AcceptError::ALL,
            AcceptError::as_label,
            "EMFILE|ENFILE|ENOBUFS|ENOMEM|ECONNABORTED|EPERM|EPROTO|EINVAL|other",
        );
        assert_closed(
            &AdminState::ALL,
            AdminState::as_label,
            "active|drain|maintenance",
        );
        assert_closed(
            &EjectionState::ALL,
            EjectionState::as_label,
            "ejected|half_open",
        );
        assert_closed(
            &CheckResult::ALL,
            CheckResult::as_label,
            "pass|refused|timeout|reset|early_close|wrong_answer|unreachable|no_ports|resources|other",
        );
        assert_closed(
            &ReloadResult::ALL,
            ReloadResult::as_label,
            "success|failure",
        );
    }

    #[test]
    fn a_table_counts_each_label_on_its_own() {
        let table = ByLabel::<Side, Counter, { Side::COUNT }>::default();
        table[Side::Backend].add(3);
        table[Side::Ringway].increment();
        assert_eq!(table.cells().each_ref().map(Counter::value), [0, 3, 1]);
    }

    #[test]
    fn errnos_are_classed_by_the_kernels_own_descriptions() {
        // std knows the platform's numbers by kind, which ties the table to the real ones.
        let kind = |errno| std::io::Error::from_raw_os_error(errno).kind();
        use std::io::ErrorKind;
        for errno in 1..134 {
            let expected = match kind(errno) {
                ErrorKind::ConnectionRefused => ConnectError::Refused,
                ErrorKind::TimedOut if errno == 110 => ConnectError::Timeout,
                ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown => ConnectError::Unreachable,
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => ConnectError::Reset,
                ErrorKind::AddrNotAvailable => ConnectError::NoPorts,
                ErrorKind::WouldBlock => ConnectError::QueueFull,
                _ if errno == 112 => ConnectError::Unreachable, // EHOSTDOWN has no kind.
                _ => ConnectError::Other,
            };
            assert_eq!(ConnectError::from_errno(errno), expected, "errno {errno}");
        }
    }

    #[test]
    fn accept_errnos_have_the_platforms_meaning() {
        let text = |errno| std::io::Error::from_raw_os_error(errno).to_string();
        for (errno, label, meaning) in [
            (24, AcceptError::Emfile, "Too many open files"),
            (23, AcceptError::Enfile, "Too many open files in system"),
            (105, AcceptError::Enobufs, "No buffer space available"),
            (12, AcceptError::Enomem, "memory"),
            (103, AcceptError::Econnaborted, "abort"),
            (1, AcceptError::Eperm, "Operation not permitted"),
            (71, AcceptError::Eproto, "Protocol error"),
            (22, AcceptError::Einval, "Invalid argument"),
        ] {
            assert_eq!(AcceptError::from_errno(errno), label);
            assert!(text(errno).contains(meaning), "{}", text(errno));
        }
        assert_eq!(AcceptError::from_errno(110), AcceptError::Other);
    }
}
