//! One question to one worker. A worker that hangs must not collect questions in its mailbox, so
//! there is never more than one of a kind on the way.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Instant;

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
    /// Asks by handing on where to answer, unless an earlier question is still open. An answer that
    /// came too late for those who asked is dropped.
    pub(crate) fn ask(&mut self, send: impl FnOnce(SyncSender<T>)) {
        let is_open =
            |pending: &Receiver<T>| matches!(pending.try_recv(), Err(TryRecvError::Empty));
        if !self.pending.as_ref().is_some_and(is_open) {
            let (reply, pending) = sync_channel(1);
            send(reply);
            self.pending = Some(pending);
        }
    }

    /// The answer, if it comes until then.
    pub(crate) fn wait_until(&mut self, deadline: Instant) -> Option<T> {
        let pending = self.pending.as_ref()?;
        let answer = pending.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        if !matches!(answer, Err(RecvTimeoutError::Timeout)) {
            self.pending = None;
        }
        answer.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_answer_is_asked_once() {
        let mut inquiry = Inquiry::default();
        let mut asked = Vec::new();
        for _ in 0..3 {
            inquiry.ask(|reply| asked.push(reply));
            assert_eq!(inquiry.wait_until(Instant::now()), None);
        }
        assert_eq!(asked.len(), 1);

        // The late answer is of no use to the next who asks.
        asked.remove(0).send(1).unwrap();
        inquiry.ask(|reply| asked.push(reply));
        asked.remove(0).send(2).unwrap();
        assert_eq!(inquiry.wait_until(Instant::now()), Some(2));
    }

    #[test]
    fn one_that_is_gone_is_asked_again_and_never_waited_for() {
        let mut inquiry = Inquiry::<()>::default();
        let far = Instant::now() + std::time::Duration::from_secs(3600);
        let mut asked = 0;
        for _ in 0..2 {
            inquiry.ask(|_gone| asked += 1);
            assert_eq!(inquiry.wait_until(far), None);
        }
        assert_eq!(asked, 2);
    }
}
