//! Who wants what, how far it has come, and a preparation that was given up. Not what is done about it.
//!
//! A file system that does not answer keeps the thread that asks it, and there is no way to get it back. So
//! reading has a deadline. The path may lead elsewhere by then, so who asks anew has the file read anew, until
//! [`GIVEN_UP_MAX`] threads are kept: the next would only wait beside them. Invariant: at most one preparation is under
//! way, and no more are given up than that; one that was given up starts no worker.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringway_config::Change;
use tokio::sync::oneshot;

use super::refusal::Refusal;
use crate::access_log::AccessLog;
use crate::overrides::BackendChange;
use crate::sockets::OpenDetour;

/// How long the file may take until whoever asked is told that it does not answer. With what workers may
/// take it is less than a client of the admin endpoint waits.
pub(super) const PREPARE_WITHIN: Duration = Duration::from_secs(5);
/// How many threads that ask for the file may be left with a file system that does not answer.
pub(crate) const GIVEN_UP_MAX: usize = 3;

/// Somebody who wants something changed.
#[derive(Debug)]
pub(crate) struct Asker {
    /// For the log.
    pub(crate) who: &'static str,
    pub(crate) wish: Wish,
    pub(crate) reply: Option<oneshot::Sender<Outcome>>,
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// That the file is read again.
    File,
    /// That one backend is changed over what the file says.
    Backend(BackendChange),
}

/// What changed, or why nothing did.
pub(crate) type Outcome = Result<Vec<String>, Refusal>;

/// What a preparation does that takes hold of more than files, or that nobody waits for it any more: whoever of the two is
/// first, it or who gives it up, has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn(Arc<AtomicBool>);

impl Turn {
    /// Whether the other has not taken it.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// How far the reload under way has come.
#[derive(Debug)]
pub(crate) enum Stage {
    Idle,
    Preparing {
        askers: Vec<Asker>,
        /// Which one, to tell it from one that was given up.
        number: u64,
        turn: Turn,
        /// When it is given up; never what asks no file system.
        answer_at: Option<Instant>,
    },
    Applying {
        askers: Vec<Asker>,
        /// Whether they waited for the file; known also when they are answered.
        is_of_file: bool,
        begun: Instant,
        /// Workers that have not told yet.
        left: usize,
        changes: Vec<Change>,
        /// They end when those who leave have closed their sockets.
        detours: Vec<OpenDetour>,
        /// Ends when no worker writes to it any more.
        ended_log: Option<AccessLog>,
        /// When the askers are told that it takes too long; none once they were.
        answer_at: Option<Instant>,
    },
}

/// Requests and the reload under way.
#[derive(Debug)]
pub(crate) struct Reloads {
    /// None for an instance without a file.
    pub(crate) path: Option<PathBuf>,
    pub(crate) stage: Stage,
    pub(crate) waiting: Vec<Asker>,
    /// Who waits for no answer and for a file that did not: one for all, until another asks or something answers.
    held: Option<Asker>,
    /// The last preparation.
    number: u64,
    /// Those that were given up and are still there.
    given_up: Vec<u64>,
}

impl Reloads {
    pub(crate) fn new(path: Option<PathBuf>) -> Reloads {
        Reloads {
            path,
            stage: Stage::Idle,
            waiting: Vec::new(),
            held: None,
            number: 0,
            given_up: Vec::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Gives up what was asked for, to a process that is asked for it; whether there is anything.
    pub(crate) fn leave_to_another(&mut self) -> bool {
        // Whoever waits for an answer has it: only signals, which nobody answers, have waited.
        let held = self.held.take();
        !std::mem::take(&mut self.waiting).is_empty() || held.is_some()
    }

    /// The next that is to happen, and who waits for it. One look at the file serves all who want one.
    pub(super) fn next(&mut self) -> Option<(Wish, Vec<Asker>)> {
        let first = self.waiting.first()?;
        let wish = first.wish.clone();
        let askers = match wish {
            Wish::File => self.take_of_file(),
            Wish::Backend(_) => vec![self.waiting.remove(0)],
        };
        Some((wish, askers))
    }

    fn take_of_file(&mut self) -> Vec<Asker> {
        let of_file = |asker: &mut Asker| asker.wish == Wish::File;
        let waiting = self.waiting.extract_if(.., of_file);
        waiting.chain(self.held.take()).collect()
    }

    /// A preparation begins: its number, and what it needs to go beyond files.
    pub(super) fn prepare(&mut self, wish: &Wish, askers: Vec<Asker>) -> (u64, Turn) {
        self.number += 1;
        let answer_at = match wish {
            Wish::File => Some(Instant::now() + PREPARE_WITHIN),
            Wish::Backend(_) => None,
        };
        let turn = Turn::default();
        self.stage = Stage::Preparing {
            askers,
            number: self.number,
            turn: turn.clone(),
            answer_at,
        };
        (self.number, turn)
    }

    /// One has ended: those who wait for it, unless it was given up before.
    pub(super) fn prepared(&mut self, ended: u64) -> Option<Vec<Asker>> {
        if let Some(at) = self.given_up.iter().position(|number| *number == ended) {
            self.given_up.remove(at);
            self.waiting.extend(self.held.take());
            return None;
        }
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Preparing { askers, number, .. } if number == ended => Some(askers),
            stage @ (Stage::Idle | Stage::Preparing { .. } | Stage::Applying { .. }) => {
                self.stage = stage;
                None
            }
        }
    }

    /// The one under way is waited for no longer: those who are answered for it. Who waits for no answer goes
    /// on waiting.
    pub(super) fn give_up(&mut self) -> Vec<Asker> {
        if let Stage::Preparing { askers, number, .. } =
            std::mem::replace(&mut self.stage, Stage::Idle)
        {
            self.given_up.push(number);
            self.waiting.splice(..0, askers);
        }
        self.hold_up()
    }

    /// Those who want the file where no more threads may be left to it, and an answer.
    pub(super) fn held_up(&mut self) -> Vec<Asker> {
        match self.given_up.len() {
            GIVEN_UP_MAX.. => self.hold_up(),
            0..GIVEN_UP_MAX => Vec::new(),
        }
    }

    /// Those who want the file and an answer; the others have to wait.
    fn hold_up(&mut self) -> Vec<Asker> {
        let of_file = self.take_of_file().into_iter();
        let (answered, rest): (Vec<_>, Vec<_>) = of_file.partition(|asker| asker.reply.is_some());
        self.held = rest.into_iter().next();
        answered
    }

    /// When the one under way is too slow.
    pub(crate) fn answer_at(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Preparing { answer_at, .. } | Stage::Applying { answer_at, .. } => *answer_at,
            Stage::Idle => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preparation_that_was_given_up_goes_no_further() {
        let mut reloads = Reloads::new(None);
        let (number, own) = reloads.prepare(&Wish::File, Vec::new());
        let Stage::Preparing { turn, .. } = &reloads.stage else {
            panic!("{:?}", reloads.stage);
        };
        assert!(turn.take());
        reloads.give_up();
        assert!(!own.take());
        assert!(reloads.prepared(number).is_none());
    }

    fn asker(reply: Option<oneshot::Sender<Outcome>>) -> Asker {
        Asker {
            who: "a test",
            wish: Wish::File,
            reply,
        }
    }

    #[test]
    fn a_signal_waits_for_the_next_who_asks_or_for_an_answer_and_takes_no_thread_by_itself() {
        let mut reloads = Reloads::new(None);
        reloads.waiting.push(asker(None));
        let (wish, askers) = reloads.next().unwrap();
        let (first, _) = reloads.prepare(&wish, askers);
        assert!(reloads.give_up().is_empty());
        assert!(reloads.next().is_none());
        // Another one asks, and it is for both.
        reloads.waiting.push(asker(Some(oneshot::channel().0)));
        assert!(reloads.held_up().is_empty());
        let (wish, askers) = reloads.next().unwrap();
        assert_eq!(askers.len(), 2);
        reloads.prepare(&wish, askers);
        assert_eq!(reloads.give_up().len(), 1);
        assert!(reloads.next().is_none());
        // The first answers after all.
        assert!(reloads.prepared(first).is_none());
        assert_eq!(reloads.next().unwrap().1.len(), 1);
    }

    #[test]
    fn so_many_threads_are_left_and_no_more() {
        let mut reloads = Reloads::new(None);
        for _ in 0..GIVEN_UP_MAX {
            reloads.waiting.push(asker(Some(oneshot::channel().0)));
            assert!(reloads.held_up().is_empty());
            let (wish, askers) = reloads.next().unwrap();
            reloads.prepare(&wish, askers);
            assert_eq!(reloads.give_up().len(), 1);
        }
        reloads.waiting.push(asker(Some(oneshot::channel().0)));
        assert_eq!(reloads.held_up().len(), 1);
        assert!(reloads.next().is_none());
    }

    #[test]
    fn a_preparation_that_has_gone_on_is_not_given_up() {
        let mut reloads = Reloads::new(None);
        let (number, own) = reloads.prepare(&Wish::File, Vec::new());
        assert!(own.take());
        let Stage::Preparing { turn, .. } = &reloads.stage else {
            panic!("{:?}", reloads.stage);
        };
        assert!(!turn.take());
        assert!(reloads.prepared(number).is_some());
    }
}
