//! How other threads reach a keeper: the newest message of each kind, and an eventfd that wakes the ring.
//!
//! Not a queue: a list of targets replaces an older one that was not fetched yet, so the memory is bounded.
//! Invariant: whoever posts rings after the message is in place, and the keeper silences the bell before it
//! fetches, so no message waits for the next one.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use monoio::net::UnixStream;
use rustix::event::{EventfdFlags, eventfd};

use crate::target::Target;

/// A new list of targets, with the number of targets of all keepers together.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) targets: Vec<Target>,
    pub(crate) fleet_count: usize,
}

/// What was posted since the keeper last looked.
#[derive(Debug, Default)]
pub(crate) struct Post {
    pub(crate) assignment: Option<Assignment>,
    pub(crate) stop: Stop,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stop {
    #[default]
    No,
    Requested,
}

/// The end of the other threads.
#[derive(Debug)]
pub(crate) struct Mailbox {
    post: Mutex<Post>,
    bell: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            post: Mutex::default(),
            bell,
        })
    }

    pub(crate) fn assign(&self, assignment: Assignment) {
        self.lock().assignment = Some(assignment);
        self.ring();
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = Stop::Requested;
        self.ring();
    }

    fn ring(&self) {
        // Fails only when the counter is full (EAGAIN), that is when the bell is ringing already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn fetch(&self) -> Post {
        // Fails only when the counter is 0 (EAGAIN): a wake-up without a cause.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        std::mem::take(&mut *self.lock())
    }

    /// A thread that panicked here left whole values behind: they are moved in, never edited.
    fn lock(&self) -> MutexGuard<'_, Post> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the keeper.
pub(crate) struct Inbox {
    mailbox: Arc<Mailbox>,
    /// monoio waits for readiness only on types of its own; this one wraps any descriptor.
    bell: Rc<UnixStream>,
    ringing: Option<Ringing>,
    /// [`listen`], but for tests.
    listen: fn(Rc<UnixStream>) -> Ringing,
}

/// Ready when the bell rings.
type Ringing = Pin<Box<dyn Future<Output = io::Result<()>>>>;

impl Inbox {
    /// To be called, and the inbox dropped, inside the runtime.
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let bell = std::os::unix::net::UnixStream::from(mailbox.bell.try_clone()?);
        Ok(Self {
            mailbox,
            bell: Rc::new(UnixStream::from_std(bell)?),
            ringing: None,
            listen,
        })
    }

    /// Fetches the post if the bell rang, and listens for the next ring.
    pub(crate) fn poll_post(&mut self, cx: &mut Context<'_>) -> Poll<Post> {
        let listen = self.listen;
        let ringing = self
            .ringing
            .get_or_insert_with(|| listen(Rc::clone(&self.bell)));
        if ringing.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // Spent: it must not be polled again.
        self.ringing = None;
        // A failed wait (ENOMEM) is taken for a ring: the look into the box does no harm, and listening
        // starts again.
        let post = self.mailbox.fetch();
        let mut ringing = listen(Rc::clone(&self.bell));
        if ringing.as_mut().poll(cx).is_pending() {
            self.ringing = Some(ringing);
        } else {
            // It rang meanwhile. Nobody listens now, so the keeper is to look again by itself.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(post)
    }
}

fn listen(bell: Rc<UnixStream>) -> Ringing {
    Box::pin(async move { bell.readable(false).await })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{poll_fn, ready};
    use std::task::Waker;

    use super::*;
    use crate::thread::build_runtime;

    thread_local! {
        /// How often listening is over before it began.
        static AT_ONCE: Cell<u32> = const { Cell::new(0) };
    }

    fn listen_or_be_ready(bell: Rc<UnixStream>) -> Ringing {
        match AT_ONCE.get() {
            0 => listen(bell),
            left => {
                AT_ONCE.set(left - 1);
                Box::pin(ready(Ok(())))
            }
        }
    }

    #[test]
    fn a_bell_that_rings_while_the_post_is_fetched_is_heard() {
        build_runtime().unwrap().block_on(async {
            let mailbox = Arc::new(Mailbox::new().unwrap());
            let mut inbox = Inbox::new(Arc::clone(&mailbox)).unwrap();
            inbox.listen = listen_or_be_ready;
            AT_ONCE.set(4);
            let mut nobody = Context::from_waker(Waker::noop());
            assert!(inbox.poll_post(&mut nobody).is_ready());
            assert!(inbox.poll_post(&mut nobody).is_ready());
            // One look per wake-up, as the keeper does.
            AT_ONCE.set(2);
            let post = poll_fn(|cx| match inbox.poll_post(cx) {
                Poll::Ready(post) if post.stop == Stop::No => {
                    mailbox.stop();
                    Poll::Pending
                }
                looked => looked,
            });
            assert_eq!(post.await.stop, Stop::Requested);
        });
    }
}
