//! A running balancer as the admin endpoint and the supervisor see it: names, views of counters,
//! ways to ask. It owns no thread and no socket, so it may outlive what it describes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ringway_config::Config;
use ringway_metrics::{
    ControlBlock, Topology, WorkerBlock, WorkerBlocks, WorkerHistograms, WorkerHistogramsSnapshot,
};
use ringway_worker::{Limit, Mailbox, Message, PoolCopy, WorkerHandle};
use tokio::sync::mpsc::UnboundedSender;

use crate::access_log::LogState;
use crate::groups::Groups;
use crate::health::Board;
use crate::history::History;
use crate::inquiry::Inquiry;
use crate::layout::{Layout, Usage};
use crate::overrides::Overrides;
use crate::plan::Plan;
use crate::posts::Duty;
use crate::procfs;
use crate::supervise::Event;

/// A worker whose last turn is older than this is asked whether it still turns.
const QUIET_MAX: Duration = Duration::from_secs(1);
/// One that was asked and whose last turn is older than this is taken for hung.
const HUNG_AFTER: Duration = Duration::from_secs(5);
/// How long all workers together have to answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Everything there is to know of a running balancer.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) version: &'static str,
    pub(crate) commit: &'static str,
    /// What runs now; replaced whole by a reload.
    pub(crate) running: RwLock<Arc<View>>,
    pub(crate) board: Arc<Board>,
    /// What happened to backends lately.
    pub(crate) history: History,
    /// All connections of the process.
    pub(crate) connections: Arc<Limit>,
    pub(crate) control: Arc<ControlBlock>,
    pub(crate) access_log: Mutex<Option<Arc<LogState>>>,
    /// Zero of the workers' clock: the start, for all that is counted in seconds.
    pub(crate) epoch: Instant,
    /// Readiness does not wait for health checks after this.
    pub(crate) first_round_until: Instant,
    pub(crate) draining: AtomicBool,
    /// When a drain that has begun is over at the latest.
    pub(crate) drained_by: OnceLock<Instant>,
    pub(crate) events: UnboundedSender<Event>,
    /// Held by the one scrape that is under way: others wait without holding a thread.
    pub(crate) scraping: tokio::sync::Mutex<()>,
    /// By number, as the following.
    pub(crate) snapshots: Mutex<BTreeMap<u16, LastSnapshot>>,
    pub(crate) pings: Mutex<BTreeMap<u16, Inquiry<()>>>,
    pub(crate) pool_copies: Mutex<BTreeMap<u16, Inquiry<Option<Box<PoolCopy>>>>>,
    /// What workers that have ended have left. Who has the number next goes on with it.
    pub(crate) left: Mutex<BTreeMap<u16, Left>>,
}

/// What was recorded under the number of a worker that has ended, those who had it before included.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) histograms: WorkerHistograms,
    /// CPU time, what was spent looking for completions included.
    pub(crate) cpu_nanos: u64,
}

/// One configuration with what belongs to it.
#[derive(Debug)]
pub(crate) struct View {
    /// With what operators have asked for.
    pub(crate) config: Config,
    pub(crate) overrides: Overrides,
    pub(crate) plan: Plan,
    /// The addresses as bound, by listener.
    pub(crate) addresses: Vec<Vec<String>>,
    pub(crate) groups: Groups,
    /// The workers that had not ended when it began to run, by number.
    pub(crate) posts: Vec<Post>,
    /// What was counted under the number of each worker there ever was, by the plan's places.
    pub(crate) blocks: Vec<WorkerBlocks>,
}

/// A worker as a configuration has it.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) cpu: usize,
    pub(crate) duty: Duty,
    pub(crate) worker: Arc<WorkerView>,
}

impl View {
    pub(crate) fn topology(&self) -> &Arc<Topology> {
        &self.plan.topology
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.plan.layout
    }

    /// The workers that have not ended.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Post> {
        let posts = self.posts.iter();
        posts.filter(|post| post.worker.stage() != WorkerStage::Ended)
    }

    /// The workers that accept.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &Post> {
        let posts = self.posts.iter();
        posts.filter(|post| post.duty == Duty::Serves)
    }

    /// What was known here of the worker that another configuration has.
    pub(crate) fn post_of(&self, other: &Post) -> Option<&Post> {
        let mut posts = self.posts.iter();
        posts.find(|post| Arc::ptr_eq(&post.worker, &other.worker))
    }

    /// What a worker counts.
    pub(crate) fn own(&self, post: &Post) -> &WorkerBlocks {
        &self.blocks[usize::from(post.worker.index)]
    }
}

/// Workers tell by their gauges what flows hold on to. A place that was taken out of the
/// configuration, of which every worker has told that it knows, gets no new flows: once its gauge is
/// zero it stays zero.
impl Usage for View {
    fn listener(&self, at: usize) -> bool {
        let mut blocks = self.blocks.iter();
        blocks.any(|blocks| blocks.listeners[at].connections.value() != 0)
    }

    fn route(&self, at: usize) -> bool {
        let mut blocks = self.blocks.iter();
        blocks.any(|blocks| blocks.routes[at].flows.value() != 0)
    }

    fn backend(&self, pool: usize, at: usize) -> bool {
        let mut blocks = self.blocks.iter();
        blocks.any(|blocks| blocks.backends[pool][at].connections.value() != 0)
    }
}

/// One worker.
#[derive(Debug)]
pub(crate) struct WorkerView {
    pub(crate) index: u16,
    pub(crate) thread_id: i32,
    /// Gone with it: it holds a descriptor.
    mailbox: Mutex<Option<Mailbox>>,
    pub(crate) block: Arc<WorkerBlock>,
    /// CPU time of those that had its number before.
    pub(crate) cpu_nanos_before: u64,
    /// The most it was ever said to have been busy.
    busy_nanos_told: AtomicU64,
    /// Scrapes it did not answer in time.
    pub(crate) scrapes_missed: AtomicU64,
    stage: AtomicU8,
}

/// How far the end of a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerStage {
    Working,
    /// It has nothing to do any more, and was asked to leave.
    Vacant,
    /// It was told to end.
    Dismissed,
    Ended,
}

impl WorkerView {
    pub(crate) fn new(
        handle: &WorkerHandle,
        blocks: &WorkerBlocks,
        cpu_nanos_before: u64,
    ) -> WorkerView {
        WorkerView {
            index: handle.index(),
            thread_id: handle.thread_id(),
            mailbox: Mutex::new(Some(handle.mailbox())),
            block: Arc::clone(&blocks.worker),
            cpu_nanos_before,
            busy_nanos_told: AtomicU64::new(0),
            scrapes_missed: AtomicU64::new(0),
            stage: AtomicU8::new(WorkerStage::Working as u8),
        }
    }

    pub(crate) fn stage(&self) -> WorkerStage {
        let stages = [
            WorkerStage::Working,
            WorkerStage::Vacant,
            WorkerStage::Dismissed,
        ];
        let stage = self.stage.load(Ordering::Acquire);
        let known = stages.into_iter().find(|known| *known as u8 == stage);
        known.unwrap_or(WorkerStage::Ended)
    }

    /// The control thread alone says so.
    pub(crate) fn set_stage(&self, stage: WorkerStage) {
        self.stage.store(stage as u8, Ordering::Release);
        if stage == WorkerStage::Ended {
            *lock(&self.mailbox) = None;
        }
    }

    /// None when it has ended.
    pub(crate) fn mailbox(&self) -> Option<Mailbox> {
        lock(&self.mailbox).clone()
    }

    /// One that has ended does not mind.
    pub(crate) fn send(&self, message: Message) {
        if let Some(mailbox) = self.mailbox() {
            mailbox.send(message);
        }
    }

    /// CPU time under its number, but for what was spent looking for completions; none where the kernel does not
    /// tell. It never falls, although the kernel tells of CPU time later than the worker of its looking.
    pub(crate) fn busy_nanos(&self) -> Option<u64> {
        let cpu = self.cpu_nanos_before + procfs::thread_cpu_nanos(self.thread_id)?;
        let busy = cpu.saturating_sub(self.block.busy_poll_nanos.value());
        let told = self.busy_nanos_told.fetch_max(busy, Ordering::Relaxed);
        Some(busy.max(told))
    }
}

/// A worker's histograms as last seen, and the question for newer ones.
#[derive(Debug, Default)]
pub(crate) struct LastSnapshot {
    pub(crate) inquiry: Inquiry<WorkerHistograms>,
    pub(crate) seen: Option<WorkerHistogramsSnapshot>,
}

impl Instance {
    /// What runs now.
    pub(crate) fn view(&self) -> Arc<View> {
        let running = self.running.read();
        Arc::clone(&running.unwrap_or_else(PoisonError::into_inner))
    }

    /// Another configuration runs from now on.
    pub(crate) fn show(&self, view: Arc<View>) {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Why this instance should get no new traffic, if so.
    pub(crate) fn unready_because(&self) -> Option<&'static str> {
        if self.is_draining() {
            Some("draining")
        } else if !self.board.is_first_round_done() && Instant::now() < self.first_round_until {
            Some("the first health checks are not done")
        } else {
            None
        }
    }

    /// What it is, in a line.
    pub(crate) fn summary(&self) -> String {
        let view = self.view();
        let listeners = view.config.listeners.len();
        let workers = view.serving().count();
        format!("serving: {listeners} listeners, {workers} workers")
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The workers that do not turn. Blocks for [`ANSWER_WITHIN`] at most.
    pub(crate) fn hung_workers(&self) -> Vec<u16> {
        let view = self.view();
        let mut pings = lock(&self.pings);
        let quiet = |post: &&Post| self.since_turn(&post.worker) > QUIET_MAX;
        let asked: Vec<&Post> = view.running().filter(quiet).collect();
        for Post { worker, .. } in &asked {
            let inquiry = pings.entry(worker.index).or_default();
            inquiry.ask(|reply| worker.send(Message::Ping(reply)));
        }
        let deadline = Instant::now() + ANSWER_WITHIN;
        let mut is_silent = |worker: &WorkerView| {
            let inquiry = pings.entry(worker.index).or_default();
            inquiry.wait_until(deadline).is_none()
        };
        let silent = asked.iter().filter(|post| is_silent(&post.worker));
        let silent: Vec<&WorkerView> = silent.map(|post| &*post.worker).collect();
        // One that leaves may have ended meanwhile.
        let is_there = |worker: &&WorkerView| match worker.stage() {
            WorkerStage::Working | WorkerStage::Vacant => true,
            WorkerStage::Dismissed | WorkerStage::Ended => false,
        };
        let hung = silent.into_iter().filter(is_there);
        hung.filter(|worker| self.since_turn(worker) > HUNG_AFTER)
            .map(|worker| worker.index)
            .collect()
    }

    fn since_turn(&self, worker: &WorkerView) -> Duration {
        let turned_at = u64::try_from(worker.block.heartbeat_millis.value()).unwrap_or(0);
        self.epoch
            .elapsed()
            .saturating_sub(Duration::from_millis(turned_at))
    }
}

/// What these locks guard is replaced whole, so that a panic while one is held leaves it usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use ringway_config::{Backend, Listener, Pool};
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::ejections::Notices;
    use crate::limits::{Demand, of_process};
    use crate::plan::Own;

    /// One worker that has ended, and what is left of it: a mailbox that nobody reads.
    fn after_the_end() -> Instance {
        let (instance, handle) = of_one_worker();
        handle.send(Message::Drain {
            window: Duration::ZERO,
        });
        handle.join();
        let worker = &instance.view().posts[0].worker;
        worker.block.heartbeat_millis.set(0);
        instance
    }

    /// One worker without sockets.
    pub(crate) fn of_one_worker() -> (Instance, WorkerHandle) {
        let backend = Backend::new("127.0.0.1:1".parse().unwrap());
        let config = Config::new(
            vec![Listener::new("web", Vec::new(), 0)],
            vec![Pool::new("web", vec![backend])],
        );
        let demand = Demand {
            workers: 1,
            binds: 0,
            probes: 1,
        };
        let plan = Plan::new(&config, &of_process(demand)).unwrap();
        let blocks = WorkerBlocks::new(0, &plan.topology);
        let cpu = crate::cpus::allowed().unwrap()[0];
        let own = Own {
            index: 0,
            cpu,
            seed: 0,
            opening: ringway_worker::Opening::AtOnce,
            sockets: Vec::new(),
            blocks: blocks.clone(),
            histograms: WorkerHistograms::new(Arc::clone(&plan.topology)),
            access: None,
            notices: Box::new(Notices {
                events: unbounded_channel().0,
            }),
        };
        let handle = ringway_worker::start(plan.worker_spec(own), |_| ()).unwrap();
        let worker = WorkerView::new(&handle, &blocks, 0);
        let instance = Instance {
            version: "",
            commit: "",
            board: Arc::new(Board::new(&config, &plan.layout)),
            history: History::default(),
            connections: Arc::clone(&plan.connections),
            running: RwLock::new(Arc::new(View {
                config,
                overrides: Overrides::default(),
                plan,
                addresses: vec![Vec::new()],
                groups: Groups::default(),
                posts: vec![Post {
                    cpu,
                    duty: Duty::Serves,
                    worker: Arc::new(worker),
                }],
                blocks: vec![blocks],
            })),
            control: Arc::default(),
            access_log: Mutex::new(None),
            epoch: Instant::now() - 2 * HUNG_AFTER,
            first_round_until: Instant::now(),
            draining: AtomicBool::new(false),
            drained_by: OnceLock::new(),
            events: unbounded_channel().0,
            scraping: tokio::sync::Mutex::new(()),
            snapshots: Mutex::default(),
            pings: Mutex::default(),
            pool_copies: Mutex::default(),
            left: Mutex::default(),
        };
        (instance, handle)
    }

    #[test]
    fn a_worker_that_does_not_turn_is_noticed() {
        let mut instance = after_the_end();
        assert_eq!(instance.hung_workers(), [0]);
        // The same silence shortly after a turn is none yet.
        instance.epoch = Instant::now() - HUNG_AFTER / 2;
        assert_eq!(instance.hung_workers(), [0; 0]);
    }

    #[test]
    fn a_worker_that_does_not_answer_a_scrape_is_left_out_and_counted() {
        let instance = after_the_end();
        let scrape = instance.scrape();
        assert!(scrape.workers[0].histograms.is_none());
        assert_eq!(
            instance.view().posts[0]
                .worker
                .scrapes_missed
                .load(Ordering::Relaxed),
            1
        );
    }

    #[test]
    fn readiness_does_not_wait_for_checks_for_ever() {
        let mut instance = after_the_end();
        assert_eq!(instance.unready_because(), None);
        instance.first_round_until = Instant::now() + HUNG_AFTER;
        let waiting = instance.unready_because();
        assert_eq!(waiting, Some("the first health checks are not done"));
        instance.draining.store(true, Ordering::Relaxed);
        assert_eq!(instance.unready_because(), Some("draining"));
    }
}
