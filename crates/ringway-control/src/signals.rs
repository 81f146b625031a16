//! The signals of the contract, as a stream. They are taken over when this is made, which is before
//! the first connection is accepted; as PID 1 nothing but this makes them do anything.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGUSR2.
    Upgrade,
}

/// The signals taken over.
#[derive(Debug)]
pub(crate) struct SignalStream {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl SignalStream {
    /// To be called inside the runtime.
    pub(crate) fn new() -> io::Result<SignalStream> {
        Ok(SignalStream {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.term.recv() => Request::End,
            _ = self.interrupt.recv() => Request::End,
            _ = self.hangup.recv() => Request::Reload,
            _ = self.user1.recv() => Request::ReopenLogs,
            _ = self.user2.recv() => Request::Upgrade,
        }
    }
}

/// The next signal; for ever pending where none are taken over.
pub(crate) async fn next(signals: &mut Option<SignalStream>) -> Request {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}
