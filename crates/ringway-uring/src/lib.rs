//! io_uring, buffers, pipes and sockets under a safe interface: the only crate of Ringway with
//! `unsafe`.
//!
//! It is not a runtime: it has no tasks, no timers and no policy. A worker stages typed operations
//! on a [`Ring`], enters the kernel once per turn, and reaps typed [`Completion`]s.
//!
//! Invariants:
//! * memory the kernel may touch stays mapped until the last completion that names it was reaped;
//! * every buffer has exactly one owner at a time (free, kernel, held by the caller, being sent);
//! * no operation allocates.
//!
//! The modules in reading order: [`token`](Token) and [`errno`](Errno) name things; `setup` and
//! `flags` build the ring; `stage` stages its operations, `ring` enters and reaps; `buffers` owns
//! the memory; `raw` and `sqe` are the system calls and the one patched entry; `selftest` tries
//! what the kernel can do; `pipes`, `socket` and `waker` are the descriptors around the ring;
//! `turns` and `freed` are about threads and memory beside it; `probe` is what `ringway doctor`
//! prints.
//!
//! # Order of completions
//!
//! Completions are reaped in the order in which the kernel posted them. For one multishot receive
//! that order is the order of the bytes. Between different operations, also on one socket, there is
//! no order to rely on, with one exception: a completion without [`more`](Completion::more) is the
//! last one of its operation.

mod arena;
mod buffers;
mod completion;
mod errno;
mod flags;
mod freed;
mod group;
mod held;
mod inherit;
mod local;
mod pipes;
mod probe;
mod raw;
mod ring;
mod selftest;
mod setup;
mod socket;
mod sqe;
mod stage;
mod token;
mod turns;
mod waker;

pub use buffers::BufferId;
pub use completion::{Completion, CompletionKind, Interest, Readiness};
pub use errno::Errno;
pub use freed::give_back_freed;
pub use group::{steer_freely, steer_to};
pub use held::{Confinement, Held, confine, held};
pub use inherit::take_inherited;
pub use local::{bind_foreign, bind_local, outgoing_ports, try_foreign, try_local};
pub use pipes::{Pipe, PipePool, Residue, splice_in, splice_out};
pub use probe::{Finding, Outcome, probe};
pub use ring::{EnterError, Ring, RingStats, Sight, Wait};
pub use setup::{ReceiveStyle, ReceivesBy, RingParams, SetupError, SetupReport};
pub use socket::{
    ConnectAddress, Keepalive, ListenOptions, TcpInfo, arm_reset, bind_tcp, connect_now,
    connect_socket, listen, listen_tcp, listen_unix, local_address, peer_address, pending_error,
    refuse_arrivals, set_listen_options, shutdown_write, tcp_info, try_listen_options,
    unsent_bytes,
};
pub use token::{Operation, Token};
pub use turns::{Turn, take_turns};
pub use waker::Waker;
