//! Which probes have something to say: the keeper polls those and not every one under way.
//!
//! The list is filled by wakers and emptied by the keeper, on one thread; it is behind a mutex because a
//! [`Waker`] must be `Sync`. Invariant: a key in it is a hint. It may be stale, and polling then does no harm.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use crate::target::BackendKey;

/// The keys of the probes to be polled, and who polls them.
#[derive(Debug)]
pub(crate) struct Ready {
    keys: Mutex<Vec<BackendKey>>,
    keeper: Waker,
}

/// The waker of one probe.
struct Nudge {
    key: BackendKey,
    ready: Arc<Ready>,
}

impl Ready {
    /// `keeper` is the waker of the task that polls the probes. In monoio a task keeps its waker for life.
    pub(crate) fn new(keeper: Waker) -> Arc<Self> {
        Arc::new(Self {
            keys: Mutex::default(),
            keeper,
        })
    }

    /// The waker to poll the probe of `key` with.
    pub(crate) fn waker(self: &Arc<Self>, key: BackendKey) -> Waker {
        Waker::from(Arc::new(Nudge {
            key,
            ready: Arc::clone(self),
        }))
    }

    /// The keys that were woken since the last call.
    pub(crate) fn take(&self) -> Vec<BackendKey> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BackendKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.lock().push(self.key);
        self.ready.keeper.wake_by_ref();
    }
}
