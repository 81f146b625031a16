//! The running workers. Whoever drops a crew has ended it.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use ringway_worker::{Acknowledge, Message, WorkerHandle};

use crate::error::StartError;

/// The running workers, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    handles: Vec<WorkerHandle>,
}

impl Crew {
    pub(crate) fn add(&mut self, handle: WorkerHandle) {
        self.handles.push(handle);
    }

    /// Takes in all of another one.
    pub(crate) fn absorb(&mut self, mut other: Crew) {
        self.handles.append(&mut other.handles);
    }

    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }

    pub(crate) fn handles(&self) -> &[WorkerHandle] {
        &self.handles
    }

    /// Whether all of them work still.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let mut handles = self.handles.iter();
        match handles.find(|handle| handle.has_ended()) {
            Some(ended) => Err(StartError::Worker {
                index: ended.index(),
                source: ringway_worker::StartError::Died(ended.index()),
            }),
            None => Ok(()),
        }
    }

    pub(crate) fn get(&self, number: u16) -> Option<&WorkerHandle> {
        self.handles.iter().find(|handle| handle.index() == number)
    }

    /// Gives up one that has ended.
    pub(crate) fn remove(&mut self, number: u16) -> Option<WorkerHandle> {
        let at = |handle: &WorkerHandle| handle.index() == number;
        let at = self.handles.iter().position(at)?;
        Some(self.handles.remove(at))
    }

    /// Workers that were started to wait accept from now on, when all have said so.
    pub(crate) fn open(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let ask = |handle: &WorkerHandle| {
            let (reply, answer) = sync_channel(1);
            // Whoever asked may have stopped waiting.
            let done = move || {
                let _ = reply.try_send(());
            };
            handle.send(Message::Open(Acknowledge(Box::new(done))));
            answer
        };
        let answers: Vec<_> = self.handles.iter().map(ask).collect();
        answers.into_iter().all(|answer| {
            let left = deadline.saturating_duration_since(Instant::now());
            answer.recv_timeout(left).is_ok()
        })
    }

    /// Tells every worker the cookies of sockets on which others accept when it does not.
    pub(crate) fn share(&self, cookies: impl IntoIterator<Item = u64>) {
        let cookies: Arc<[u64]> = cookies.into_iter().collect();
        if cookies.is_empty() {
            return;
        }
        for handle in &self.handles {
            handle.send(Message::NotAlone(Arc::clone(&cookies)));
        }
    }

    /// Every worker begins to end, and has ended when the window is over.
    pub(crate) fn drain(&self, window: Duration) {
        for handle in &self.handles {
            handle.send(Message::Drain { window });
        }
    }

    /// Leaves the threads to themselves: for workers that do not answer.
    pub(crate) fn abandon(&mut self) {
        self.handles.clear();
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
        for handle in self.handles.drain(..) {
            handle.join();
        }
    }
}
