//! Health probes: one companion thread per worker, pinned to the worker's CPU, running monoio.
//!
//! [`spawn`] starts a keeper with the backends it owns; from then on it tells a [`VerdictSink`] of every
//! probe and of every change of health. Which keeper owns a backend, and what a verdict means for the
//! traffic, is decided elsewhere; when to probe and how to judge is `ringway-health`'s.
//!
//! A keeper shares nothing with its worker but the CPU. It sleeps until a probe is due: with few backends it
//! wakes a few times per second, with none never.
//!
//! A panic on the keeper's thread aborts the process: a balancer whose checks have silently stopped would
//! send traffic to dead backends for ever, while a supervisor restarts one that is gone.
//!
//! Rules this crate keeps because of monoio 0.2.4, which is a fine runtime for it within them: no accept
//! (a cancelled one leaks the connection), no task that wakes itself (it starves completions), nothing finer
//! than its timers of 1 ms, no operation outlives the runtime, no handle of a task crosses threads.
#![forbid(unsafe_code)]

mod keeper;
mod mailbox;
mod probe;
mod ready;
mod roster;
mod target;
mod thread;

pub use probe::DESCRIPTORS_PER_PROBE;
pub use target::{BackendKey, ProbeAddress, Target, VerdictSink};
pub use thread::{KeeperHandle, KeeperParams, SpawnError, spawn};
