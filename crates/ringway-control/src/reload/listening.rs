//! Sockets of a changed configuration: those at addresses that are new, and those that workers who begin to
//! accept need at addresses where others accept already.
//!
//! Invariant: nothing that is open changes here. A socket beside others joins them by its last step, which is
//! for whoever applies the reload: until its worker accepts it would swallow connections.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use ringway_config::{BindAddress, Config, Listener, TcpOptions};
use ringway_uring::{ListenOptions, try_listen_options};
use ringway_worker::{Lent, Message, SocketSpec};
use rustix::net::sockopt;

use crate::error::StartError;
use crate::groups::{Coming, Groups};
use crate::inherited::Heirlooms;
use crate::instance::View;
use crate::layout::Layout;
use crate::plan::Plan;
use crate::posts::{Duty, Posting, Role};
use crate::sockets::{self, Detour, LastStep, listen_options};
use crate::unix_path::SocketFile;

/// How long a worker may take to copy a few descriptors.
const LEND_WITHIN: Duration = Duration::from_secs(4);

/// The sockets of the new plan.
#[derive(Debug)]
pub(super) struct Listening {
    /// By posting, those that are new with their descriptors; none where it leaves.
    pub(super) sockets: Vec<Vec<SocketSpec>>,
    /// The addresses as bound, by listener.
    pub(super) addresses: Vec<Vec<String>>,
    pub(super) files: Vec<SocketFile>,
    pub(super) last_steps: Vec<LastStep>,
    pub(super) groups: Groups,
    /// Where newcomers are led past those who leave.
    pub(super) detours: Vec<Detour>,
    /// Cookies of sockets that workers who leave leave to others.
    pub(super) shared: Vec<u64>,
}

/// Copies of the sockets of workers.
#[derive(Debug, Default)]
struct Borrowed {
    /// Those of one worker that stays, by number.
    one: HashMap<u32, Vec<OwnedFd>>,
    /// Those of the service manager that nobody who stays has, by number: it keeps them open, so without a
    /// worker that accepts they would swallow connections.
    orphans: HashMap<u32, Vec<OwnedFd>>,
    shared: Vec<u64>,
}

pub(super) fn listening(
    config: &Config,
    plan: &Plan,
    before: &View,
    postings: &[Posting],
    managers: &HashSet<u64>,
) -> Result<Listening, StartError> {
    let known = known_sockets(before, plan);
    let mut borrowed = borrow(before, postings, managers)?;
    let those = |is_one: fn(Role) -> bool| -> Vec<usize> {
        let places = 0..postings.len();
        places.filter(|at| is_one(postings[*at].role)).collect()
    };
    let serving = those(|role| role.duty() == Duty::Serves);
    let newcomers = those(Role::is_newcomer);
    let mut fresh = bind_new(config, plan, before, serving.len(), &known)?;
    let mut out = Listening {
        sockets: postings.iter().map(|_| Vec::new()).collect(),
        addresses: std::mem::take(&mut fresh.addresses),
        files: fresh.files,
        last_steps: Vec::new(),
        groups: Groups::default(),
        detours: Vec::new(),
        shared: borrowed.shared,
    };
    let mut fresh: Vec<_> = fresh.by_worker.into_iter().map(Vec::into_iter).collect();
    for (at, listener) in config.listeners.iter().enumerate() {
        for (bind, number) in plan.layout.socket_at[at].iter().enumerate() {
            let failed = |source| sockets::bind_error(listener, &listener.binds[bind], source);
            let mut fds: HashMap<usize, Vec<OwnedFd>> = HashMap::new();
            let mut options = None;
            let mut coming = match listener.binds[bind] {
                BindAddress::Tcp(_) => Coming::All,
                BindAddress::Unix(_) => Coming::Nobody,
            };
            if let Some((tcp, address)) = known.get(number) {
                let theirs = borrowed.one.get(&u32::from(*number));
                let theirs = theirs.map_or(&[][..], Vec::as_slice);
                let beside = sockets::beside(listener, theirs, newcomers.len());
                let (beside, steps) = beside.map_err(failed)?;
                coming = match steps.len() == newcomers.len() {
                    true => Coming::Newcomers,
                    false => Coming::Nobody,
                };
                fds.extend(newcomers.iter().copied().zip(beside));
                out.last_steps.extend(steps);
                options = changed_options(tcp, &listener.tcp).map_err(failed)?;
                let orphans = borrowed.orphans.remove(&u32::from(*number));
                for (fd, worker) in orphans.into_iter().flatten().zip(serving.iter().cycle()) {
                    if let Some(options) = &options {
                        let copy = fd.try_clone().map_err(failed)?;
                        out.last_steps.push(LastStep::Tune(copy, options.clone()));
                    }
                    fds.entry(*worker).or_default().push(fd);
                }
                // What was bound for this listener is what is new of it, in order.
                out.addresses[at].insert(bind, (*address).clone());
            } else {
                let own = fresh.iter_mut().map(Iterator::next);
                let own = own.map(Option::unwrap_or_default);
                fds.extend(serving.iter().copied().zip(own));
            }
            let (order, places) = before.groups.next(*number, coming, postings);
            let one = borrowed.one.get(&u32::from(*number));
            if let (Some(places), Some(one)) = (places, one.and_then(|one| one.first())) {
                let any = one.try_clone().map_err(failed)?;
                out.detours.push(Detour { any, places });
            }
            if let Some(order) = order {
                out.groups.made(*number, order);
            }
            for worker in &serving {
                out.sockets[*worker].push(SocketSpec {
                    number: (*number).into(),
                    listener: plan.layout.listener_at[at],
                    fds: fds.remove(worker).unwrap_or_default(),
                    options: options.clone(),
                });
            }
        }
    }
    Ok(out)
}

/// What sockets are to hand down from now on, where that changes; tried on one of our own.
fn changed_options(old: &TcpOptions, new: &TcpOptions) -> io::Result<Option<ListenOptions>> {
    if old == new {
        return Ok(None);
    }
    let options = listen_options(new);
    try_listen_options(&options)?;
    Ok(Some(options))
}

/// Binds what is new, for so many workers.
fn bind_new(
    config: &Config,
    plan: &Plan,
    before: &View,
    workers: usize,
    known: &KnownSockets<'_>,
) -> Result<sockets::Sockets, StartError> {
    let listeners = config.listeners.iter().zip(&plan.layout.socket_at);
    let fresh: Vec<Listener> = listeners
        .map(|(listener, numbers)| {
            let binds = listener.binds.iter().zip(numbers);
            let binds = binds.filter(|(_, number)| !known.contains_key(*number));
            Listener {
                binds: binds.map(|(bind, _)| bind.clone()).collect(),
                ..listener.clone()
            }
        })
        .collect();
    let mut nothing = Heirlooms::default();
    sockets::bind_all(&fresh, workers, &mut nothing, &own_ports(before))
}

/// Has workers copy their sockets, where somebody begins to accept or leaves.
fn borrow(
    before: &View,
    postings: &[Posting],
    managers: &HashSet<u64>,
) -> Result<Borrowed, StartError> {
    let role_of = |number: u16| {
        let mut postings = postings.iter();
        postings
            .find(|one| one.number == number)
            .map(|one| one.role)
    };
    let begins = postings.iter().any(|one| one.role.is_newcomer());
    let leaves = before
        .serving()
        .any(|post| role_of(post.worker.index) == Some(Role::Leaves));
    if !begins && !leaves {
        return Ok(Borrowed::default());
    }
    let asked = before.serving().map(|post| {
        let (reply, answer) = sync_channel(1);
        post.worker.send(Message::Lend(reply));
        (post.worker.index, answer)
    });
    let asked: Vec<_> = asked.collect();
    let deadline = Instant::now() + LEND_WITHIN;
    let cannot = |source| StartError::System {
        what: "the listening sockets of the workers cannot be copied",
        source,
    };
    let mut borrowed = Borrowed::default();
    let (mut staying, mut leaving) = (HashSet::new(), HashSet::new());
    let mut left_behind = HashMap::new();
    for (worker, answer) in asked {
        let left = deadline.saturating_duration_since(Instant::now());
        let lent = answer.recv_timeout(left);
        let lent = lent.map_err(|_| StartError::Silent { worker })?;
        let stays = role_of(worker) != Some(Role::Leaves);
        let is_first = stays && borrowed.one.is_empty();
        for lent in lent.map_err(cannot)? {
            let cookie = sockopt::socket_cookie(&lent.fd).map_err(|e| cannot(e.into()))?;
            match stays {
                true => staying.insert(cookie),
                false => leaving.insert(cookie),
            };
            if is_first {
                borrowed.one.entry(lent.number).or_default().push(lent.fd);
            } else if !stays && managers.contains(&cookie) {
                left_behind.insert(cookie, lent);
            }
        }
    }
    left_behind.retain(|cookie, _| !staying.contains(cookie));
    for Lent { number, fd } in left_behind.into_values() {
        borrowed.orphans.entry(number).or_default().push(fd);
    }
    let is_others = |cookie: &u64| staying.contains(cookie) || managers.contains(cookie);
    borrowed.shared = leaving.into_iter().filter(is_others).collect();
    Ok(borrowed)
}

/// The options and the address of every socket that is open and stays, by its place.
type KnownSockets<'a> = HashMap<u16, (&'a TcpOptions, &'a String)>;

fn known_sockets<'a>(before: &'a View, plan: &Plan) -> KnownSockets<'a> {
    let mut known = HashMap::new();
    for (at, listener) in before.config.listeners.iter().enumerate() {
        let places = before.layout().socket_at[at].iter();
        for (number, address) in places.zip(&before.addresses[at]) {
            let seat = |layout: &Layout| layout.sockets.seat((*number).into());
            if seat(before.layout()) == seat(&plan.layout) {
                known.insert(*number, (&listener.tcp, address));
            }
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

pub(super) fn gone_files(config: &Config, before: &Config) -> Vec<PathBuf> {
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
