//! One question to one worker. A worker that hangs must not collect questions in its mailbox, so
//! there is never more than one of a kind on the way.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Instant;

use ringway_worker::{Mailbox, Message};

/// The answer that is awaited, if one is.
#[derive(Debug)]
pub(crate) struct Inquiry<T> {
    pending: Option<Receiver<T>>,
}

impl<T> Default for Inquiry<T> {
    fn default() -> Self {
        Inquiry { pending: None }
    }
}

impl<T> Inquiry<T> {
    /// Asks, unless an earlier question was not answered yet. An answer that came too late for
    /// those who asked is dropped.
    pub(crate) fn ask(&mut self, mailbox: &Mailbox, message: impl FnOnce(SyncSender<T>) -> Message) {
        let is_waiting = self
            .pending
            .as_ref()
            .is_some_and(|pending| matches!(pending.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)));
        if !is_waiting {
            let (reply, pending) = sync_channel(1);
            mailbox.send(message(reply));
            self.pending = Some(pending);
        }
    }

    /// The answer, if it comes until then.
    pub(crate) fn wait_until(&mut self, deadline: Instant) -> Option<T> {
        let pending = self.pending.as_ref()?;
        let answer = pending.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        match answer {
            Ok(answer) => {
                self.pending = None;
                Some(answer)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.pending = None;
                None
            }
        }
    }
}
