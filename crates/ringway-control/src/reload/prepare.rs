//! Everything of a reload that can fail: reading and checking the file, comparing it with what runs,
//! binding what is new. On a thread of its own, so it may wait for a disk.
//!
//! Invariant: what was prepared and is dropped has changed nothing; new sockets close, new files of
//! sockets go with them.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway_config::{
    AccessLog as Destination, BindAddress, Change, Config, Listener, LoadError, TcpOptions,
    difference,
};
use ringway_uring::try_listen_options;
use ringway_worker::{AccessQueue, SocketSpec};

use super::{Refusal, RefusalKind};
use crate::access_log::{AccessLog, Target};
use crate::error::StartError;
use crate::inherited::Heirlooms;
use crate::instance::View;
use crate::limits::{Limits, of_process};
use crate::overrides::{BackendChange, Overrides};
use crate::plan::Plan;
use crate::sockets::{self, listen_options};
use crate::start::demand;
use crate::unix_path::SocketFile;

/// Keys that are read when the process starts.
const FIXED: [&str; 4] = ["workers", "admin.bind", "admin.token_file", "log.format"];

/// A reload that can happen.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) view: View,
    /// What it was compared with.
    pub(crate) before: Arc<View>,
    pub(crate) changes: Vec<Change>,
    /// By worker.
    pub(crate) sockets: Vec<Vec<SocketSpec>>,
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

pub(crate) fn prepare(
    path: &Path,
    before: &Arc<View>,
    workers: usize,
) -> Result<Prepared, Refusal> {
    let file = ringway_config::load_settled(path).map_err(invalid)?;
    let (overrides, config) = before.overrides.over(file);
    let changes = difference(&before.config, &config);
    refuse_fixed(before, &config, &changes)?;
    prepare_config((config, overrides), changes, before, workers)
        .map_err(|error| unacceptable(error.to_string()))
}

/// The same for one backend; the file is not looked at.
pub(crate) fn prepare_backend(
    change: &BackendChange,
    before: &Arc<View>,
    workers: usize,
) -> Result<Prepared, Refusal> {
    let next = before.overrides.with(&before.config, change);
    let (overrides, config) = next.map_err(|missing| Refusal {
        kind: RefusalKind::NotThere,
        error: missing.to_string(),
        detail: Vec::new(),
    })?;
    let changes = difference(&before.config, &config);
    prepare_config((config, overrides), changes, before, workers)
        .map_err(|error| unacceptable(error.to_string()))
}

fn prepare_config(
    (config, overrides): (Config, Overrides),
    changes: Vec<Change>,
    before: &Arc<View>,
    workers: usize,
) -> Result<Prepared, StartError> {
    let limits = of_process(demand(&config, workers));
    limits.check(&config)?;
    let plan = before
        .plan
        .next(&before.config, &config, &limits, &**before)?;
    let blocks = before.blocks.iter();
    let blocks = blocks
        .map(|blocks| blocks.follow(before.topology(), &plan.topology))
        .collect();
    let bound = bind_new(&config, &plan, before, workers)?;
    let log = log_change(&config, before, workers, &plan)?;
    Ok(Prepared {
        gone_files: gone_files(&config, &before.config),
        view: View {
            config,
            overrides,
            plan,
            addresses: bound.addresses,
            blocks,
        },
        before: Arc::clone(before),
        changes,
        sockets: bound.sockets,
        files: bound.files,
        log,
        limits,
    })
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

/// The sockets of the new plan, those that are new with their descriptors.
struct Bound {
    sockets: Vec<Vec<SocketSpec>>,
    addresses: Vec<Vec<String>>,
    files: Vec<SocketFile>,
}

fn bind_new(
    config: &Config,
    plan: &Plan,
    before: &View,
    workers: usize,
) -> Result<Bound, StartError> {
    let known = known_sockets(before);
    let is_new = |listener: usize, bind: usize| {
        !known.contains_key(&plan.layout.socket_at[listener][bind])
            || before
                .layout()
                .sockets
                .seat(plan.layout.socket_at[listener][bind].into())
                != plan
                    .layout
                    .sockets
                    .seat(plan.layout.socket_at[listener][bind].into())
    };
    let listeners = config.listeners.iter().enumerate();
    let fresh: Vec<Listener> = listeners
        .map(|(at, listener)| {
            let binds = listener.binds.iter().enumerate();
            let binds = binds.filter(|(bind, _)| is_new(at, *bind));
            Listener {
                binds: binds.map(|(_, bind)| bind.clone()).collect(),
                ..listener.clone()
            }
        })
        .collect();
    let mut nothing = Heirlooms::default();
    let bound = sockets::bind_all(&fresh, workers, &mut nothing, &own_ports(before))?;
    let by_worker = bound.by_worker.into_iter();
    let mut fds: Vec<std::vec::IntoIter<Vec<OwnedFd>>> = by_worker.map(Vec::into_iter).collect();
    let mut new_addresses = bound.addresses.into_iter();
    let mut out = Bound {
        sockets: (0..workers).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
        files: bound.files,
    };
    for (at, listener) in config.listeners.iter().enumerate() {
        let mut fresh = new_addresses.next().unwrap_or_default().into_iter();
        let mut addresses = Vec::new();
        for (bind, number) in plan.layout.socket_at[at].iter().enumerate() {
            let is_fresh = is_new(at, bind);
            let known = known.get(number).filter(|_| !is_fresh);
            let options = match known {
                Some((tcp, _)) if **tcp != listener.tcp => {
                    let options = listen_options(&listener.tcp);
                    try_listen_options(&options).map_err(|source| StartError::Bind {
                        listener: listener.name.clone(),
                        address: listener.binds[bind].to_string(),
                        source,
                    })?;
                    Some(options)
                }
                Some(_) | None => None,
            };
            for (worker, sockets) in out.sockets.iter_mut().enumerate() {
                sockets.push(SocketSpec {
                    number: (*number).into(),
                    listener: plan.layout.listener_at[at],
                    fds: is_fresh
                        .then(|| fds[worker].next())
                        .flatten()
                        .unwrap_or_default(),
                    options: options.clone(),
                });
            }
            addresses.push(match known {
                Some((_, address)) => (*address).clone(),
                None => fresh.next().unwrap_or_default(),
            });
        }
        out.addresses.push(addresses);
    }
    Ok(out)
}

/// The options and the address of every socket that is open, by its place.
fn known_sockets(view: &View) -> HashMap<u16, (&TcpOptions, &String)> {
    let mut known = HashMap::new();
    for (at, listener) in view.config.listeners.iter().enumerate() {
        let places = view.layout().socket_at[at].iter();
        for (number, address) in places.zip(&view.addresses[at]) {
            known.insert(*number, (&listener.tcp, address));
        }
    }
    known
}

fn own_ports(view: &View) -> Vec<u16> {
    let addresses = view.addresses.iter().flatten();
    addresses
        .filter_map(|address| address.parse::<std::net::SocketAddr>().ok())
        .map(|address| address.port())
        .collect()
}

fn gone_files(config: &Config, before: &Config) -> Vec<PathBuf> {
    let paths = |config: &Config| -> Vec<PathBuf> {
        let binds = config.listeners.iter().flat_map(|listener| &listener.binds);
        binds
            .filter_map(|bind| match bind {
                BindAddress::Unix(path) => Some(path.clone()),
                BindAddress::Tcp(_) => None,
            })
            .collect()
    };
    let kept = paths(config);
    let mut gone = paths(before);
    gone.retain(|path| !kept.contains(path));
    gone
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

/// The file is well, and this host cannot run it.
pub(super) fn unacceptable(error: String) -> Refusal {
    Refusal {
        kind: RefusalKind::Unacceptable,
        detail: vec![error.clone()],
        error,
    }
}
