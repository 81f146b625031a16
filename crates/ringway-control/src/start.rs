//! From a configuration to a running balancer. Everything that can fail at start fails here, before
//! a connection is accepted, and leaves nothing behind: descriptors and threads end with the values
//! that hold them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use ringway_config::{Config, LogLevel};
use ringway_keeper::VerdictSink;
use ringway_metrics::{ControlBlock, WorkerBlocks, WorkerHistograms};
use ringway_uring::{Turn, take_turns};
use ringway_worker::{AccessQueue, Opening, WorkerHandle};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing::{debug, info};

use crate::access_log::{AccessLog, Target};
use crate::admin::AdminSocket;
use crate::clock::unix_millis;
use crate::crew::Crew;
use crate::ejections::Ledger;
use crate::error::{RunError, StartError};
use crate::groups::Groups;
use crate::health::{Board, Verdicts, first_round_timeout};
use crate::hire::{Equipment, hire, seed};
use crate::history::History;
use crate::inherited::Inheritance;
use crate::instance::{Instance, Post, View, WorkerView};
use crate::keepers::Keepers;
use crate::limits::{Demand, Limits, of_process};
use crate::notify::Notifier;
use crate::plan::{Plan, place};
use crate::posts::Duty;
use crate::reload::{GIVEN_UP_MAX, Reloads};
use crate::signals::SignalStream;
use crate::sockets::{self, LastStep, Sockets};
use crate::strain::MemoryWatch;
use crate::supervise::{Event, Supervisor};
use crate::upgrade::Relaunch;
use crate::upgrade::successor::Successor;
use crate::{cpus, watch};

/// Threads for what may block: a scrape that waits for workers, a look at whether they turn. Some more may
/// be kept by a file system that does not answer: by reloads, by `--watch` and by the file of the token.
const BLOCKING_THREADS: usize = 4 + GIVEN_UP_MAX + 2;
/// How long one of them waits for the next piece of work before it ends.
const BLOCKING_THREADS_IDLE: Duration = Duration::from_secs(1);
/// How long the workers may take to begin to accept.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Debug)]
pub struct RunParams {
    /// The checked configuration.
    pub config: Config,
    /// The file it came from, if it came from one.
    pub config_path: Option<PathBuf>,
    /// The version of the program.
    pub version: &'static str,
    /// The commit it was built from.
    pub commit: &'static str,
    /// Whether signals are for this balancer.
    pub signals: Signals,
    /// Whether the file is looked at.
    pub watch: Watch,
    /// Changes the level of the log; without it a changed level is of no effect.
    pub log_level: Option<LevelSwitch>,
    /// What this process was started with.
    pub inheritance: Inheritance,
    /// How to start a new process that takes the place of this one; `None`: never.
    pub relaunch: Option<Relaunch>,
}

/// Whether the file is looked at while the balancer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// A change is loaded by itself.
    On,
    /// Reloads are asked for.
    Off,
}

/// How the program changes the level of its log.
pub struct LevelSwitch(pub Box<dyn Fn(LogLevel) + Send>);

impl fmt::Debug for LevelSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LevelSwitch")
    }
}

/// Who handles the signals of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// The balancer: SIGTERM and SIGINT drain, SIGHUP reloads, SIGUSR1 reopens the access log.
    Handle,
    /// The program it is part of.
    Ignore,
}

/// A balancer that accepts connections. [`Running::run`] must be called for its admin endpoint to
/// answer; dropping it ends the workers and cuts their connections.
#[derive(Debug)]
pub struct Running {
    supervisor: Supervisor,
    listeners: Vec<(String, String)>,
    admin: Option<String>,
    watched: Option<PathBuf>,
    runtime: Runtime,
}

/// Starts the drain of a running balancer from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    events: UnboundedSender<Event>,
}

impl Stopper {
    /// Starts the drain as SIGTERM does; doing it again changes nothing.
    pub fn drain(&self) {
        // A balancer that has ended needs no drain.
        let _ = self.events.send(Event::Drain);
    }
}

impl Running {
    /// The name of each listener with each of its addresses, as bound: a port 0 is replaced by the
    /// one the kernel chose.
    pub fn listeners(&self) -> Vec<(String, String)> {
        self.listeners.clone()
    }

    /// Where the admin endpoint answers, as bound; `None` if it is off.
    pub fn admin(&self) -> Option<String> {
        self.admin.clone()
    }

    /// How many workers serve.
    pub fn workers(&self) -> usize {
        self.supervisor.instance.view().serving().count()
    }

    /// A way to start the drain.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            events: self.supervisor.instance.events.clone(),
        }
    }

    /// Serves admin endpoint and signals until a drain is over.
    ///
    /// # Errors
    /// [`RunError`]: everything but the end of a drain within its time.
    pub fn run(self) -> Result<(), RunError> {
        let Running {
            mut supervisor,
            runtime,
            watched,
            ..
        } = self;
        if let Some(path) = watched {
            let events = supervisor.instance.events.clone();
            runtime.spawn(watch::watch(path, events));
        }
        let result = runtime.block_on(supervisor.run());
        // Not waiting for a scrape that waits for a worker that is gone.
        runtime.shutdown_background();
        result
    }
}

/// Binds every address and starts every thread. Call it where no other thread of the process needs
/// the soft limit of descriptors as it was.
///
/// # Errors
/// [`StartError`]; nothing is left bound or running then.
pub fn start(mut params: RunParams) -> Result<Running, StartError> {
    let_workers_through();
    let Some(channel) = params.inheritance.channel.take() else {
        return bring_up(params, Opening::AtOnce).map(|started| started.running);
    };
    let (successor, inheritance) = Successor::begin(channel)?;
    params.inheritance = inheritance;
    let taken = bring_up(params, Opening::WhenTold).and_then(|started| {
        let Started {
            running,
            last_steps,
            declined,
        } = started;
        let instance = &running.supervisor.instance;
        successor.wait_for(|| instance.unready_because().is_none());
        successor.prepared(instance.version, &declined)?;
        sockets::take_last_steps(last_steps)?;
        if !running.supervisor.crew.open(OPEN_WITHIN) {
            return Err(StartError::Upgrade("the workers do not answer".into()));
        }
        Ok(running)
    });
    match taken {
        Ok(running) => {
            successor.accepting();
            Ok(running)
        }
        Err(error) => {
            successor.refuse(&error.to_string());
            Err(error)
        }
    }
}

/// A reload of many backends computes for tens of milliseconds, maybe on the CPU of a worker: what waits for that worker
/// should not wait for long turns of this thread, or of those that it starts.
fn let_workers_through() {
    if let Err(error) = take_turns(Turn::Brief) {
        debug!("what computes beside the workers keeps long turns: sched_setattr: {error}");
    }
}

/// Everything but the first connection, where that has to wait.
struct Started {
    running: Running,
    last_steps: Vec<LastStep>,
    /// Cookies of inherited sockets that nothing asked for; they are closed.
    declined: Vec<u64>,
}

fn bring_up(params: RunParams, opening: Opening) -> Result<Started, StartError> {
    let (overrides, config) = params.inheritance.overrides.over(params.config);
    let mut heirlooms = params.inheritance.heirlooms;
    let cpus = cpus::place(&config.workers, &cpus::allowed()?, cpus::quota())?;
    let limits = of_process(demand(&config, cpus.len()));
    limits.check(&config)?;
    let runtime = runtime()?;
    let signals = match params.signals {
        Signals::Handle => {
            let _inside = runtime.enter();
            let signals = SignalStream::new();
            Some(signals.map_err(system("signals could not be taken over"))?)
        }
        Signals::Ignore => None,
    };
    let bound = sockets::bind_all(&config.listeners, cpus.len(), &mut heirlooms, &[])?;
    let token_file = config.admin_token_file.as_deref();
    let admin = config.admin.as_ref();
    let admin = admin.map(|bind| AdminSocket::bind(bind, token_file, &mut heirlooms));
    let admin = admin.transpose()?;
    let declined = heirlooms.rest().into_iter().map(|one| {
        info!(address = one.entry.bound, "an inherited socket is not used");
        one.cookie
    });
    let declined = declined.collect();
    let plan = Plan::new(&config, &limits)?;
    let (mut access_log, queues) =
        AccessLog::start(Target::open(&config.log.access)?, cpus.len(), &plan)?;
    let Sockets {
        by_worker,
        addresses,
        files,
        mut last_steps,
        managers,
        made_here,
    } = bound;
    let mut groups = Groups::default();
    let numbers = plan.layout.socket_at.iter().flatten();
    for (number, _) in numbers
        .zip(made_here.iter().flatten())
        .filter(|(_, here)| **here)
    {
        groups.made(*number, (0..).take(cpus.len()));
    }
    if opening == Opening::AtOnce {
        sockets::take_last_steps(std::mem::take(&mut last_steps))?;
    }

    let (sender, events) = unbounded_channel();
    let (crew, posts, blocks) = start_workers(&plan, &cpus, opening, by_worker, queues, &sender)?;
    crew.share(managers.iter().copied());
    let board = Arc::new(Board::new(&config, &plan.layout));
    let keepers = start_keepers(&config, &posts, &plan, &board, &sender)?;
    log_start(
        params.version,
        params.config_path.as_deref(),
        &limits,
        &crew,
    );

    let mut memory = MemoryWatch::default();
    memory.follow(limits.workers);
    let listeners = named_addresses(&config, &addresses);
    let admin_address = admin.as_ref().map(|admin| admin.address().to_owned());
    let control = Arc::new(ControlBlock::default());
    control.last_reload_success_unix_millis.set(unix_millis());
    let instance = Instance {
        version: params.version,
        commit: params.commit,
        first_round_until: plan.epoch + first_round_timeout(&config),
        scraping: tokio::sync::Mutex::new(()),
        snapshots: Mutex::default(),
        pings: Mutex::default(),
        pool_copies: Mutex::default(),
        left: Mutex::default(),
        board,
        history: History::default(),
        connections: Arc::clone(&plan.connections),
        control,
        access_log: Mutex::new(access_log.as_mut().map(|log| log.state())),
        epoch: plan.epoch,
        running: RwLock::new(Arc::new(View {
            config,
            overrides,
            plan,
            addresses,
            groups,
            posts,
            blocks,
        })),
        draining: AtomicBool::new(false),
        drained_by: OnceLock::new(),
        events: sender,
    };
    let running = Running {
        supervisor: Supervisor {
            keepers,
            crew,
            instance: Arc::new(instance),
            ejections: Ledger::default(),
            memory,
            events,
            signals,
            admin,
            access_log,
            reloads: Reloads::new(params.config_path.clone()),
            log_level: params.log_level,
            files,
            managers,
            notifier: Arc::new(Notifier::of_process()),
            relaunch: params.relaunch,
            upgrading: None,
            was_signalled: false,
        },
        listeners,
        admin: admin_address,
        watched: match params.watch {
            Watch::On => params.config_path,
            Watch::Off => None,
        },
        runtime,
    };
    Ok(Started {
        running,
        last_steps,
        declined,
    })
}

pub(crate) fn demand(config: &Config, workers: usize) -> Demand {
    let checked = config.pools.iter().filter(|pool| pool.health.is_some());
    Demand {
        workers: workers as u64,
        binds: config
            .listeners
            .iter()
            .map(|listener| listener.binds.len() as u64)
            .sum(),
        probes: checked.map(|pool| pool.backends.len() as u64).sum(),
    }
}

fn runtime() -> Result<Runtime, StartError> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREADS_IDLE)
        .thread_name("ringway-ctl")
        .build()
        .map_err(system("the control thread's poller could not be made"))
}

fn start_workers(
    plan: &Plan,
    cpus: &[usize],
    opening: Opening,
    sockets: Vec<Vec<Vec<std::os::fd::OwnedFd>>>,
    queues: Vec<Option<AccessQueue>>,
    events: &UnboundedSender<Event>,
) -> Result<(Crew, Vec<Post>, Vec<WorkerBlocks>), StartError> {
    let (mut crew, mut posts, mut all_blocks) = (Crew::default(), Vec::new(), Vec::new());
    let places = cpus.iter().zip(sockets).zip(queues).enumerate();
    for (at, ((cpu, sockets), access)) in places {
        let blocks = WorkerBlocks::new(place(at), &plan.topology);
        let equipment = Equipment {
            number: place(at),
            cpu: *cpu,
            sockets,
            blocks: blocks.clone(),
            histograms: WorkerHistograms::new(Arc::clone(&plan.topology)),
            access,
        };
        // On an error the crew is dropped, and with it the workers that run already end.
        let handle = hire(plan, opening, equipment, events)?;
        posts.push(Post {
            cpu: *cpu,
            duty: Duty::Serves,
            worker: Arc::new(WorkerView::new(&handle, &blocks, 0)),
        });
        all_blocks.push(blocks);
        crew.add(handle);
    }
    Ok((crew, posts, all_blocks))
}

fn start_keepers(
    config: &Config,
    posts: &[Post],
    plan: &Plan,
    board: &Arc<Board>,
    events: &UnboundedSender<Event>,
) -> Result<Keepers, StartError> {
    for Post { worker, .. } in posts {
        board.introduce(worker);
    }
    let sink: Arc<dyn VerdictSink> = Arc::new(Verdicts {
        board: Arc::clone(board),
        events: events.clone(),
    });
    let workers = |post: &Post| (post.worker.index, post.cpu);
    let workers: Vec<(u16, usize)> = posts.iter().map(workers).collect();
    let numbers: Vec<u16> = workers.iter().map(|(number, _)| *number).collect();
    let mut keepers = Keepers::new(plan.epoch, sink, seed);
    keepers.start(config, &workers)?;
    keepers.assign(config, &plan.layout, board, &numbers);
    Ok(keepers)
}

fn named_addresses(config: &Config, addresses: &[Vec<String>]) -> Vec<(String, String)> {
    let listeners = config.listeners.iter().zip(addresses);
    let named = listeners.flat_map(|(listener, addresses)| {
        addresses
            .iter()
            .map(|address| (listener.name.clone(), address.clone()))
    });
    named.collect()
}

fn log_start(version: &str, path: Option<&Path>, limits: &Limits, crew: &Crew) {
    let config = path.map_or("none".into(), Path::to_string_lossy);
    let ring = crew.handles().first().map_or("", WorkerHandle::ring_report);
    info!(version, %config, workers = crew.len(), ring, "workers started");
    info!(
        nofile = limits.nofile_soft,
        connections_max = limits.connections_max,
        pipes_per_worker = limits.pipes_per_worker,
        pipe_bytes = limits.pipe_size,
        memory_bytes = limits.memory,
        buffers_per_worker = limits.buffers_per_worker,
        "limits"
    );
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::System { what, source }
}
