//! Everything of a reload that can fail: reading and checking the file, comparing it with what runs,
//! binding what is new, starting workers that are. On a thread of its own, so it may wait for a disk.
//!
//! Invariant: what was prepared and is dropped has changed nothing; new sockets close, new files of
//! sockets go with them, and new workers, which have accepted nothing, end.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway_config::{AccessLog as Destination, Change, Config, Listener, LoadError, difference};
use ringway_metrics::{WorkerBlocks, WorkerHistograms};
use ringway_worker::{AccessQueue, Opening, SocketSpec};

use super::listening::{Listening, gone_files, listening};
use super::queue::Turn;
use super::refusal::{Refusal, RefusalKind, unacceptable};
use crate::access_log::{AccessLog, LogState, Target};
use crate::cpus;
use crate::crew::Crew;
use crate::error::StartError;
use crate::hire::{Equipment, hire};
use crate::instance::{Instance, Post, View, WorkerStage, WorkerView, lock};
use crate::limits::{Limits, of_process};
use crate::overrides::{BackendChange, Overrides};
use crate::plan::Plan;
use crate::posts::{self, Posting, Present, Role};
use crate::sockets::{Detour, LastStep};
use crate::start::demand;
use crate::unix_path::SocketFile;

/// Keys that are read when the process starts.
const FIXED: [&str; 3] = ["admin.bind", "admin.token_file", "log.format"];

/// A reload that can happen.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) view: View,
    /// What it was compared with.
    pub(crate) before: Arc<View>,
    pub(crate) changes: Vec<Change>,
    /// What becomes of each worker, in the order of the view's posts.
    pub(crate) postings: Vec<Posting>,
    /// By posting, as they are told of.
    pub(crate) sockets: Vec<Vec<SocketSpec>>,
    /// Those that are new; they wait.
    pub(crate) hired: Crew,
    /// What lets their sockets in.
    pub(crate) last_steps: Vec<LastStep>,
    /// Past those who leave, until they have.
    pub(crate) detours: Vec<Detour>,
    /// Cookies of sockets that workers who leave leave to others.
    pub(crate) shared: Vec<u64>,
    pub(crate) files: Vec<SocketFile>,
    /// Unix sockets that close.
    pub(crate) gone_files: Vec<PathBuf>,
    pub(crate) log: LogChange,
    pub(crate) limits: Limits,
}

/// What happens to the access log.
#[derive(Debug)]
pub(crate) enum LogChange {
    Keep,
    /// It goes on in another file.
    Move(Target),
    Begin(AccessLog, Vec<Option<AccessQueue>>),
    End,
}

impl Prepared {
    /// Whether it would change nothing, not even by what nothing refers to any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.changes.is_empty() && self.view.layout() == self.before.layout()
    }
}

/// What a reload is prepared with.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) before: Arc<View>,
    pub(crate) instance: Arc<Instance>,
    /// Cookies of sockets that the service manager holds, too.
    pub(crate) managers: HashSet<u64>,
    pub(crate) turn: Turn,
}

pub(crate) fn prepare(path: &Path, means: &Means) -> Result<Prepared, Refusal> {
    let before = &means.before;
    let file = ringway_config::load_settled(path).map_err(invalid)?;
    let (overrides, config) = before.overrides.over(file);
    let changes = difference(&before.config, &config);
    refuse_fixed(before, &config, &changes)?;
    prepare_config((config, overrides), changes, means)
        .map_err(|error| unacceptable(error.to_string()))
}

/// The same for one backend; the file is not looked at.
pub(crate) fn prepare_backend(change: &BackendChange, means: &Means) -> Result<Prepared, Refusal> {
    let before = &means.before;
    let next = before.overrides.with(&before.config, change);
    let (overrides, config) = next.map_err(|missing| Refusal {
        kind: RefusalKind::NotThere,
        error: missing.to_string(),
        detail: Vec::new(),
    })?;
    let changes = difference(&before.config, &config);
    prepare_config((config, overrides), changes, means)
        .map_err(|error| unacceptable(error.to_string()))
}

fn prepare_config(
    (config, overrides): (Config, Overrides),
    changes: Vec<Change>,
    means: &Means,
) -> Result<Prepared, StartError> {
    let before = &means.before;
    let postings = postings(&config, &changes, before)?;
    // Who was told to end has nothing any more.
    let ending = |post: &&Post| post.worker.stage() == WorkerStage::Dismissed;
    let ending = before.posts.iter().filter(ending).count();
    let limits = of_process(demand(&config, postings.len().saturating_sub(ending)));
    limits.check(&config)?;
    let plan = before
        .plan
        .next(&before.config, &config, &limits, &**before)?;
    let blocks = next_blocks(before, &plan, &postings);
    let Listening {
        mut sockets,
        addresses,
        files,
        last_steps,
        groups,
        detours,
        shared,
    } = listening(&config, &plan, before, &postings, &means.managers)?;
    let mut log = log_change(&config, before, postings.len(), &plan)?;
    // From here on its end would be more than that of files and sockets.
    if !means.turn.take() {
        return Err(StartError::GivenUp);
    }
    let staffing = Staffing {
        means,
        plan: &plan,
        blocks: &blocks,
        postings: &postings,
    };
    let (hired, posts) = staffing.hire(&mut sockets, &mut log)?;
    Ok(Prepared {
        gone_files: gone_files(&config, &before.config),
        view: View {
            config,
            overrides,
            plan,
            addresses,
            groups,
            posts,
            blocks,
        },
        before: Arc::clone(before),
        changes,
        postings,
        sockets,
        hired,
        last_steps,
        detours,
        shared,
        files,
        log,
        limits,
    })
}

/// What is counted under each number there ever was.
fn next_blocks(before: &View, plan: &Plan, postings: &[Posting]) -> Vec<WorkerBlocks> {
    let followed = before.blocks.iter();
    let followed = followed.map(|blocks| blocks.follow(before.topology(), &plan.topology));
    let mut blocks: Vec<WorkerBlocks> = followed.collect();
    // Numbers are given from below: none is left out.
    for posting in postings {
        if usize::from(posting.number) >= blocks.len() {
            blocks.push(WorkerBlocks::new(posting.number, &plan.topology));
        }
    }
    blocks
}

/// From postings to workers.
struct Staffing<'a> {
    means: &'a Means,
    plan: &'a Plan,
    blocks: &'a [WorkerBlocks],
    postings: &'a [Posting],
}

impl Staffing<'_> {
    /// Starts those that are new, which take their sockets and queues; all posts, by posting.
    fn hire(
        &self,
        sockets: &mut [Vec<SocketSpec>],
        log: &mut LogChange,
    ) -> Result<(Crew, Vec<Post>), StartError> {
        let running_log = lock(&self.means.instance.access_log).clone();
        let (mut hired, mut posts) = (Crew::default(), Vec::new());
        for (at, posting) in self.postings.iter().enumerate() {
            let mut old = self.means.before.posts.iter();
            let is_same = |post: &&Post| post.worker.index == posting.number;
            let worker = match old.find(is_same).filter(|_| posting.role != Role::New) {
                Some(post) => Arc::clone(&post.worker),
                None => {
                    let fds = std::mem::take(&mut sockets[at]).into_iter();
                    let own = &self.blocks[usize::from(posting.number)];
                    let (histograms, cpu_nanos) = self.means.left_by(posting.number, self.plan);
                    let equipment = Equipment {
                        number: posting.number,
                        cpu: posting.cpu,
                        sockets: fds.map(|spec| spec.fds).collect(),
                        blocks: own.clone(),
                        histograms,
                        access: log.queue_of(at, running_log.as_deref(), self.plan),
                    };
                    let events = &self.means.instance.events;
                    let handle = hire(self.plan, Opening::WhenTold, equipment, events)?;
                    let worker = Arc::new(WorkerView::new(&handle, own, cpu_nanos));
                    hired.add(handle);
                    worker
                }
            };
            posts.push(Post {
                cpu: posting.cpu,
                duty: posting.role.duty(),
                worker,
            });
        }
        Ok((hired, posts))
    }
}

/// Who serves, and where, from now on. `auto` is looked at again when `workers` changes.
fn postings(
    config: &Config,
    changes: &[Change],
    before: &View,
) -> Result<Vec<Posting>, StartError> {
    let cpus = match changes.iter().any(|change| change.key == "workers") {
        true => Some(cpus::place(
            &config.workers,
            &cpus::allowed()?,
            cpus::quota(),
        )?),
        false => None,
    };
    let present = before.running().map(|post| Present {
        number: post.worker.index,
        cpu: post.cpu,
        duty: post.duty,
        is_dismissed: post.worker.stage() == WorkerStage::Dismissed,
    });
    let present: Vec<Present> = present.collect();
    Ok(posts::next(&present, cpus.as_deref()))
}

impl Means {
    /// What a worker of this number goes on with: what is recorded, and for how long its CPU was used.
    fn left_by(&self, number: u16, plan: &Plan) -> (WorkerHistograms, u64) {
        let topology = Arc::clone(&plan.topology);
        match lock(&self.instance.left).get(&number) {
            Some(left) => {
                let mut histograms = left.histograms.clone();
                histograms.follow(topology);
                (histograms, left.cpu_nanos)
            }
            None => (WorkerHistograms::new(topology), 0),
        }
    }
}

impl LogChange {
    /// The queue of a worker that is started for this reload.
    fn queue_of(
        &mut self,
        at: usize,
        running: Option<&LogState>,
        plan: &Plan,
    ) -> Option<AccessQueue> {
        match self {
            LogChange::Keep | LogChange::Move(_) => running?.join(&plan.topology),
            LogChange::Begin(_, queues) => queues[at].take(),
            LogChange::End => None,
        }
    }
}

fn refuse_fixed(before: &View, config: &Config, changes: &[Change]) -> Result<(), Refusal> {
    let fixed = |change: &&Change| FIXED.contains(&change.key.as_str());
    let mut detail: Vec<String> = changes
        .iter()
        .filter(fixed)
        .map(ToString::to_string)
        .collect();
    detail.extend(freed_buffers(&before.config, config));
    if detail.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        kind: RefusalKind::Unacceptable,
        error: "this cannot change while the process runs: restart it".to_owned(),
        detail,
    })
}

/// The kernel does not tune a buffer again that was given a size.
fn freed_buffers(before: &Config, config: &Config) -> Vec<String> {
    let old: HashMap<&str, &Listener> = before
        .listeners
        .iter()
        .map(|l| (l.name.as_str(), l))
        .collect();
    let mut freed = Vec::new();
    for new in &config.listeners {
        let Some(old) = old.get(new.name.as_str()) else {
            continue;
        };
        let pairs = [
            (
                "receive_buffer",
                old.tcp.receive_buffer,
                new.tcp.receive_buffer,
            ),
            ("send_buffer", old.tcp.send_buffer, new.tcp.send_buffer),
        ];
        for (key, size, now) in pairs {
            if let (Some(size), None) = (size, now) {
                let name = &new.name;
                freed.push(format!("listeners.{name}.tcp.{key}: {size} -> auto"));
            }
        }
    }
    freed
}

fn log_change(
    config: &Config,
    before: &View,
    workers: usize,
    plan: &Plan,
) -> Result<LogChange, StartError> {
    let (old, new) = (&before.config.log.access, &config.log.access);
    if old == new {
        return Ok(LogChange::Keep);
    }
    let target = Target::open(new)?;
    Ok(match (old, target) {
        (_, None) => LogChange::End,
        (Destination::Off, target @ Some(_)) => {
            let (log, queues) = AccessLog::start(target, workers, plan)?;
            log.map_or(LogChange::Keep, |log| LogChange::Begin(log, queues))
        }
        (Destination::Stdout | Destination::File(_), Some(target)) => LogChange::Move(target),
    })
}

/// The file is not one that could be run.
fn invalid(error: LoadError) -> Refusal {
    let detail = match &error {
        LoadError::Invalid(errors) => {
            let mut detail: Vec<String> =
                errors.problems().iter().map(ToString::to_string).collect();
            if errors.omitted() > 0 {
                detail.push(format!("and {} more", errors.omitted()));
            }
            detail
        }
        LoadError::Unreadable { .. }
        | LoadError::Directory { .. }
        | LoadError::NoFile { .. }
        | LoadError::TooLarge { .. }
        | LoadError::NotText { .. }
        | LoadError::Unsettled { .. } => vec![error.to_string()],
    };
    Refusal {
        kind: RefusalKind::Unacceptable,
        error: "the configuration is invalid".to_owned(),
        detail,
    }
}
