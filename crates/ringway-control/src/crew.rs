//! The running workers. Whoever drops a crew has ended it.

use std::time::Duration;

use ringway_worker::{Mailbox, Message, WorkerHandle};

/// The running workers, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    handles: Vec<WorkerHandle>,
}

impl Crew {
    pub(crate) fn add(&mut self, handle: WorkerHandle) {
        self.handles.push(handle);
    }

    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }

    pub(crate) fn handles(&self) -> &[WorkerHandle] {
        &self.handles
    }

    pub(crate) fn mailboxes(&self) -> Vec<Mailbox> {
        self.handles.iter().map(WorkerHandle::mailbox).collect()
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
