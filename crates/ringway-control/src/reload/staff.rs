//! Workers in a reload: the last that can fail of a change of who serves, and telling each what it is from then on.
//!
//! Invariant: until the last step that can fail is taken, those who run are as they were; a move that was made is
//! undone when a later step fails.

use std::io;
use std::sync::Arc;

use ringway_metrics::WorkerBlocks;
use ringway_worker::{AccessQueue, AccessUpdate, Acknowledge, Duty, Message, SocketSpec};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use tracing::info;

use super::Prepared;
use crate::crew::Crew;
use crate::error::StartError;
use crate::instance::{View, WorkerStage};
use crate::plan::Renewal;
use crate::posts::{Posting, Role};
use crate::sockets::take_last_steps;
use crate::supervise::{Event, Supervisor};

/// What those are told that run.
pub(super) struct Orders {
    pub(super) postings: Vec<Posting>,
    pub(super) sockets: Vec<Vec<SocketSpec>>,
    pub(super) hired: Crew,
    pub(super) shared: Vec<u64>,
    /// By posting, where they change.
    pub(super) queues: Option<Vec<Option<AccessQueue>>>,
}

/// A thread and the CPUs from and to which it moves.
struct Move {
    thread_id: i32,
    from: usize,
    to: usize,
}

impl Supervisor {
    /// The last steps that can fail.
    pub(super) fn engage(&mut self, prepared: &mut Prepared) -> Result<(), StartError> {
        // One that ended meanwhile would never tell that it runs anything. Who ends after this is missed as one of ours.
        prepared.hired.check()?;
        let view = &prepared.view;
        let serving = view.serving().map(|post| (post.worker.index, post.cpu));
        let serving: Vec<(u16, usize)> = serving.collect();
        self.keepers.start(&view.config, &serving)?;
        let moves = self.moves(view, &prepared.before);
        let engaged = pin_all(&moves).and_then(|()| {
            let steps = std::mem::take(&mut prepared.last_steps);
            take_last_steps(steps).inspect_err(|_| unpin(&moves))
        });
        if engaged.is_err() {
            self.keepers.end_idle();
        }
        engaged
    }

    /// Threads whose CPU changes: workers, and their keepers.
    fn moves(&self, view: &View, before: &View) -> Vec<Move> {
        let mut moves = Vec::new();
        for post in &view.posts {
            let number = post.worker.index;
            let Some(from) = before
                .post_of(post)
                .map(|old| old.cpu)
                .filter(|cpu| *cpu != post.cpu)
            else {
                continue;
            };
            let threads = [Some(post.worker.thread_id), self.keepers.thread_of(number)];
            moves.extend(threads.into_iter().flatten().map(|thread_id| Move {
                thread_id,
                from,
                to: post.cpu,
            }));
        }
        moves
    }

    /// Tells each worker what it is from now on; how many are to acknowledge that.
    pub(super) fn give_orders(&mut self, orders: Orders, view: &View, before: &View) -> usize {
        let Orders {
            postings,
            sockets,
            hired,
            shared,
            mut queues,
        } = orders;
        self.crew.absorb(hired);
        let managers: Arc<[u64]> = self.managers.iter().copied().collect();
        let shared: Arc<[u64]> = shared.into();
        let mut left = 0;
        for (at, (posting, sockets)) in postings.iter().zip(sockets).enumerate() {
            let post = &view.posts[at];
            let Some(handle) = self.crew.get(posting.number) else {
                continue;
            };
            let send = |message| handle.send(message);
            match posting.role {
                Role::New => {
                    self.instance.board.introduce(&post.worker);
                    send(Message::NotAlone(Arc::clone(&managers)));
                    send(Message::Open(self.told(Event::Applied)));
                    left += 1;
                    continue;
                }
                Role::Stays | Role::Returns => post.worker.set_stage(WorkerStage::Working),
                // It ends by itself, and is told nothing more.
                Role::Leaves if post.worker.stage() == WorkerStage::Dismissed => continue,
                Role::Leaves => send(Message::NotAlone(Arc::clone(&shared))),
            }
            let duty = match posting.role {
                Role::Stays | Role::Returns | Role::New => Duty::Serve,
                Role::Leaves => Duty::Leave(self.told(Event::Vacated(posting.number))),
            };
            let access = match queues.as_mut().map(|queues| queues[at].take()) {
                None => AccessUpdate::Keep,
                Some(queue) => AccessUpdate::Set(queue),
            };
            let blocks: &WorkerBlocks = view.own(post);
            let renewal = Renewal {
                duty,
                cpu: posting.cpu,
                sockets,
                blocks: blocks.clone(),
                access,
            };
            let update = Box::new(view.plan.update(&before.plan, renewal));
            send(Message::Apply(update, self.told(Event::Applied)));
            // Its new sockets may be the manager's.
            if posting.role != Role::Leaves {
                send(Message::NotAlone(Arc::clone(&managers)));
            }
            left += 1;
        }
        tell_changes(&postings, view, before);
        left
    }

    /// What sends this event when a worker calls it.
    fn told(&self, event: Event) -> Acknowledge {
        let events = self.instance.events.clone();
        Acknowledge(Box::new(move || {
            // Nobody listens any more once the balancer has ended.
            let _ = events.send(event);
        }))
    }
}

fn tell_changes(postings: &[Posting], view: &View, before: &View) {
    for (posting, post) in postings.iter().zip(&view.posts) {
        let (worker, cpu) = (posting.number, posting.cpu);
        let old = before.post_of(post);
        let connections = post.worker.block.connections.value();
        match (posting.role, old) {
            (Role::New, _) => info!(worker, cpu, "a worker begins"),
            (Role::Returns, _) => info!(worker, cpu, connections, "a worker serves again"),
            (Role::Leaves, Some(old)) if old.duty != post.duty => {
                info!(worker, cpu, connections, "a worker leaves");
            }
            (Role::Stays, Some(old)) if old.cpu != cpu => {
                info!(worker, cpu, from = old.cpu, "a worker moves");
            }
            (Role::Stays | Role::Leaves, _) => {}
        }
    }
}

/// Moves all, or none.
fn pin_all(moves: &[Move]) -> Result<(), StartError> {
    for (at, one) in moves.iter().enumerate() {
        if let Err(source) = pin(one.thread_id, one.to) {
            unpin(&moves[..at]);
            return Err(StartError::System {
                what: "a worker cannot be moved to another CPU",
                source,
            });
        }
    }
    Ok(())
}

fn unpin(moves: &[Move]) {
    for one in moves {
        // It ran there until now.
        let _ = pin(one.thread_id, one.from);
    }
}

fn pin(thread_id: i32, cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(Pid::from_raw(thread_id), &cpus)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;

    use ringway_health::{ProbeResult, Transition};
    use ringway_keeper::{BackendKey, VerdictSink};
    use tokio::runtime::Builder;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::ejections::Ledger;
    use crate::hire::seed;
    use crate::instance::tests::of_one_worker;
    use crate::keepers::Keepers;
    use crate::notify::Notifier;
    use crate::reload::prepare::{Means, prepare};
    use crate::reload::{Asker, Outcome, Reloads, Wish};
    use crate::strain::MemoryWatch;

    struct Nobody;

    impl VerdictSink for Nobody {
        fn on_probe(&self, _: BackendKey, _: Duration, _: Duration, _: &ProbeResult) {}
        fn on_transition(&self, _: BackendKey, _: Transition) {}
    }

    /// Of one worker.
    fn supervisor() -> Supervisor {
        let (mut instance, worker) = of_one_worker();
        let mut crew = Crew::default();
        crew.add(worker);
        let (sender, events) = mpsc::unbounded_channel();
        instance.events = sender;
        Supervisor {
            keepers: Keepers::new(instance.epoch, Arc::new(Nobody), seed),
            crew,
            instance: Arc::new(instance),
            ejections: Ledger::default(),
            events,
            signals: None,
            admin: None,
            access_log: None,
            reloads: Reloads::new(None),
            log_level: None,
            files: Vec::new(),
            managers: HashSet::new(),
            memory: MemoryWatch::default(),
            notifier: Arc::new(Notifier::default()),
            relaunch: None,
            upgrading: None,
            was_signalled: false,
        }
    }

    const MORE: &str = "workers: 3
listeners: {l: {bind: ['127.0.0.1:0'], pool: p}}
pools: {p: {backends: [{address: '127.0.0.1:1'}]}}
";

    /// A reload of this file as far as it is prepared, whose new workers `then` has to itself; what comes of it.
    fn reload(
        supervisor: &mut Supervisor,
        file: &str,
        then: impl FnOnce(&Crew),
    ) -> Option<Outcome> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ringway.yaml");
        std::fs::write(&path, file).unwrap();
        let (reply, mut outcome) = oneshot::channel();
        let asker = Asker {
            who: "a test",
            wish: Wish::File,
            reply: Some(reply),
        };
        // The thread of a supervisor always has one.
        let runtime = Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let (number, turn) = supervisor.reloads.prepare(&Wish::File, vec![asker]);
        let means = Means {
            before: supervisor.instance.view(),
            instance: Arc::clone(&supervisor.instance),
            managers: HashSet::new(),
            turn,
        };
        let prepared = prepare(Path::new(&path), &means).unwrap();
        then(&prepared.hired);
        supervisor.on_prepared(number, Ok(prepared));
        outcome.try_recv().ok()
    }

    #[test]
    fn a_reload_whose_new_worker_has_ended_is_refused_and_changes_nothing() {
        let mut supervisor = supervisor();
        let before = supervisor.instance.view();
        let ended = Mutex::new(None);
        let outcome = reload(&mut supervisor, MORE, |hired| {
            let handle = &hired.handles()[1];
            handle.send(Message::Drain {
                window: Duration::ZERO,
            });
            let thread = format!("/proc/self/task/{}", handle.thread_id());
            let until = std::time::Instant::now() + Duration::from_secs(60);
            while Path::new(&thread).exists() {
                assert!(std::time::Instant::now() < until, "it does not end");
                std::thread::yield_now();
            }
            *ended.lock().unwrap() = Some(handle.index());
        });
        let number = ended.into_inner().unwrap().unwrap();
        let refusal = outcome.expect("it is answered").unwrap_err();
        let words = format!("worker {number} ended");
        assert!(refusal.error.contains(&words), "{refusal:?}");
        assert!(Arc::ptr_eq(&supervisor.instance.view(), &before));
        assert_eq!(
            (supervisor.crew.len(), supervisor.reloads.is_idle()),
            (1, true)
        );
    }

    #[test]
    fn a_reload_whose_new_workers_live_is_applied() {
        let mut supervisor = supervisor();
        let before = supervisor.instance.view();
        let outcome = reload(&mut supervisor, MORE, |hired| assert_eq!(hired.len(), 2));
        assert_eq!(outcome, None, "its workers are waited for");
        assert!(!Arc::ptr_eq(&supervisor.instance.view(), &before));
        assert_eq!(supervisor.crew.len(), 3);
    }
}
