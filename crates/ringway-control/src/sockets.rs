//! Binding addresses of listeners: every one before any worker runs, and those that a reload brings; and
//! using what was there already.
//!
//! Each worker has a socket of its own for each TCP address (SO_REUSEPORT), so the kernel spreads
//! connections and no two workers share an accept queue; a Unix socket is one queue that all share.
//! Invariant: an error leaves nothing bound, and a socket joins those that others accept on only when
//! it is itself accepted on: until then it would swallow connections.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ringway_balance::stable_hash;
use ringway_config::{BindAddress, Listener, TcpOptions};
use ringway_uring::{
    Keepalive, ListenOptions, bind_tcp, listen, listen_tcp, local_address, set_listen_options,
    steer_freely, steer_to,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tracing::warn;

use crate::error::StartError;
use crate::inherited::{Heirloom, Heirlooms};
use crate::unix_path::{self, SocketFile};
use crate::upgrade::message::Role;

/// How long an address that is in use may take to become free.
const FREE_WITHIN: Duration = Duration::from_millis(500);
/// Between two tries.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// All sockets, bound.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// By worker, then address in the order of the listeners; at least one for each.
    pub(crate) by_worker: Vec<Vec<Vec<OwnedFd>>>,
    /// The addresses as bound, by listener.
    pub(crate) addresses: Vec<Vec<String>>,
    /// Files to be removed at the end.
    pub(crate) files: Vec<SocketFile>,
    /// What is done when workers are about to accept.
    pub(crate) last_steps: Vec<LastStep>,
    /// Cookies of sockets that the service manager holds, too.
    pub(crate) managers: HashSet<u64>,
    /// Whether the sockets of an address were made here, one for each worker; by listener.
    pub(crate) made_here: Vec<Vec<bool>>,
}

/// What changes a socket for others and has to wait until they are about to leave.
#[derive(Debug)]
pub(crate) enum LastStep {
    /// A new one joins those of its address.
    Join(OwnedFd, u32),
    /// One that others made gets our options.
    Tune(OwnedFd, ListenOptions),
}

impl LastStep {
    fn take(&self) -> io::Result<()> {
        match self {
            LastStep::Join(socket, backlog_len) => listen(socket.as_fd(), *backlog_len),
            LastStep::Tune(socket, options) => set_listen_options(socket.as_fd(), options),
        }
    }
}

/// The way of newcomers at an address past the sockets that are about to close.
#[derive(Debug)]
pub(crate) struct Detour {
    /// Any socket of the address.
    pub(crate) any: OwnedFd,
    /// Where the others are among all.
    pub(crate) places: Vec<u32>,
}

/// One that newcomers take, until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenDetour(OwnedFd);

impl Detour {
    /// None where the kernel has no such choice: who comes to a socket that is about to close comes again a second
    /// later.
    pub(crate) fn open(self) -> Option<OpenDetour> {
        let steered = steer_to(self.any.as_fd(), &self.places);
        steered.is_ok().then_some(OpenDetour(self.any))
    }
}

impl Drop for OpenDetour {
    fn drop(&mut self) {
        // There is nothing to be taken back where it fails.
        let _ = steer_freely(self.0.as_fd());
    }
}

/// Takes all of them; to be called when nobody is in the way any more.
pub(crate) fn take_last_steps(steps: Vec<LastStep>) -> Result<(), StartError> {
    for step in steps {
        step.take().map_err(|source| StartError::System {
            what: "a listening socket could not be opened",
            source,
        })?;
    }
    Ok(())
}

/// Binds all addresses, for `workers` workers each; those that were inherited are taken as they are.
/// `own_ports` are those that this process listens on already: what is in the way there is itself.
pub(crate) fn bind_all(
    listeners: &[Listener],
    workers: usize,
    heirlooms: &mut Heirlooms,
    own_ports: &[u16],
) -> Result<Sockets, StartError> {
    // All are tried before the first is kept: our own wildcard would stand in the way of our own
    // address on the same port.
    for listener in listeners {
        for address in &listener.binds {
            if let BindAddress::Tcp(tcp) = address
                && !own_ports.contains(&tcp.port())
                // Whoever holds the port has given it to us.
                && !heirlooms.holds_port(tcp.port())
            {
                try_for_a_moment(*tcp).map_err(|source| bind_error(listener, address, source))?;
            }
        }
    }
    let mut sockets = Sockets {
        by_worker: (0..workers).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
        files: Vec::new(),
        last_steps: Vec::new(),
        managers: HashSet::new(),
        made_here: Vec::new(),
    };
    for listener in listeners {
        sockets.bind_listener(listener, heirlooms)?;
    }
    Ok(sockets)
}

/// What two sockets with the same options have in common.
pub(crate) fn fingerprint(tcp: &TcpOptions) -> u64 {
    stable_hash(format!("{:?}", listen_options(tcp)).as_bytes())
}

impl Sockets {
    fn bind_listener(
        &mut self,
        listener: &Listener,
        heirlooms: &mut Heirlooms,
    ) -> Result<(), StartError> {
        let (mut bound, mut made_here) = (Vec::new(), Vec::new());
        for address in &listener.binds {
            for worker in &mut self.by_worker {
                worker.push(Vec::new());
            }
            let inherited = heirlooms.take(Role::Listener, &listener.name, &address.to_string());
            made_here.push(inherited.is_empty() && matches!(address, BindAddress::Tcp(_)));
            let text = match (inherited.is_empty(), address) {
                (true, address) => self.bind_address(listener, address),
                (false, BindAddress::Tcp(tcp)) => self.adopt_tcp(listener, *tcp, inherited),
                (false, BindAddress::Unix(_)) => self.adopt_unix(inherited),
            };
            bound.push(text.map_err(|source| bind_error(listener, address, source))?);
        }
        self.addresses.push(bound);
        self.made_here.push(made_here);
        Ok(())
    }

    /// Of each worker, the sockets of the address that is being bound.
    fn own(&mut self) -> impl Iterator<Item = &mut Vec<OwnedFd>> {
        let workers = self.by_worker.iter_mut();
        workers.filter_map(|worker| worker.last_mut())
    }

    /// Binds for all workers; the address as bound.
    fn bind_address(&mut self, listener: &Listener, address: &BindAddress) -> io::Result<String> {
        match address {
            BindAddress::Tcp(tcp) => {
                let options = listen_options(&listener.tcp);
                // With port 0 the first socket chooses for all.
                let mut real = *tcp;
                for sockets in self.own() {
                    let socket = listen_tcp(real, &options)?;
                    real = local_address(socket.as_fd())
                        .map_err(io::Error::from)?
                        .unwrap_or(real);
                    sockets.push(socket);
                }
                Ok(real.to_string())
            }
            BindAddress::Unix(path) => {
                let (socket, file) = unix_path::listen(path, listener.tcp.backlog)?;
                self.files.push(file);
                for sockets in self.own() {
                    sockets.push(socket.try_clone()?);
                }
                Ok(address.to_string())
            }
        }
    }

    /// Every worker gets its own: those there are, then new ones beside them. More than there are
    /// workers are spread over them, for one that nobody accepts on would swallow connections.
    fn adopt_tcp(
        &mut self,
        listener: &Listener,
        address: SocketAddr,
        inherited: Vec<Heirloom>,
    ) -> io::Result<String> {
        let options = listen_options(&listener.tcp);
        let first = &inherited[0];
        let bound = first.entry.bound.clone();
        let real = local_address(first.fd.as_fd()).map_err(io::Error::from)?;
        let can_join = sockopt::socket_reuseport(&first.fd)?;
        let own_options = fingerprint(&listener.tcp);
        let mut steps = Vec::new();
        for one in &inherited {
            if one.entry.options != Some(own_options) {
                steps.push(LastStep::Tune(one.fd.try_clone()?, options.clone()));
            }
            if one.entry.is_managers {
                self.managers.insert(one.cookie);
            }
        }
        let count = inherited.len();
        let mut spare = first.fd.try_clone()?;
        let mut inherited = inherited.into_iter();
        for (at, sockets) in self.own().enumerate() {
            if let Some(one) = inherited.next() {
                sockets.push(one.fd);
                continue;
            }
            let beside = bind_tcp(real.unwrap_or(address), &options);
            match beside {
                Ok(socket) if can_join => {
                    steps.push(LastStep::Join(socket.try_clone()?, options.backlog));
                    sockets.push(socket);
                }
                // One queue for those that are left, as with a Unix socket.
                Ok(_) | Err(_) => {
                    if at == count {
                        warn!(
                            listener = listener.name,
                            address = bound,
                            "workers share an inherited socket: it was made without SO_REUSEPORT or \
                             by another user"
                        );
                    }
                    let copy = spare.try_clone()?;
                    sockets.push(std::mem::replace(&mut spare, copy));
                }
            }
        }
        let workers = self.by_worker.len();
        for (at, one) in inherited.enumerate() {
            if let Some(sockets) = self.by_worker[at % workers].last_mut() {
                sockets.push(one.fd);
            }
        }
        self.last_steps.extend(steps);
        Ok(bound)
    }

    fn adopt_unix(&mut self, inherited: Vec<Heirloom>) -> io::Result<String> {
        for one in &inherited {
            let entry = &one.entry;
            if let (Some(identity), Some(path)) = (entry.file, entry.bound.strip_prefix("unix:")) {
                let file = SocketFile::adopted(path.as_ref(), identity);
                self.files.push(file);
            }
            if entry.is_managers {
                self.managers.insert(one.cookie);
            }
        }
        for sockets in self.own() {
            for one in &inherited {
                sockets.push(one.fd.try_clone()?);
            }
        }
        Ok(inherited[0].entry.bound.clone())
    }
}

/// Sockets for so many workers more at an address that others accept on with `theirs`, and what makes them
/// accept: sockets of their own, or, where none can stand beside, those of the others.
pub(crate) fn beside(
    listener: &Listener,
    theirs: &[OwnedFd],
    workers: usize,
) -> io::Result<(Vec<Vec<OwnedFd>>, Vec<LastStep>)> {
    let (mut sockets, mut steps) = (Vec::new(), Vec::new());
    let Some(first) = theirs.first().filter(|_| workers > 0) else {
        return Ok((sockets, steps));
    };
    let options = listen_options(&listener.tcp);
    let address = local_address(first.as_fd()).map_err(io::Error::from)?;
    let joinable = match address {
        Some(address) => sockopt::socket_reuseport(first)?.then_some(address),
        None => None,
    };
    for _ in 0..workers {
        let own = joinable.map(|address| bind_tcp(address, &options));
        match own {
            Some(Ok(socket)) => {
                steps.push(LastStep::Join(socket.try_clone()?, options.backlog));
                sockets.push(vec![socket]);
            }
            Some(Err(error)) if !is_refusal(&error) => return Err(error),
            // One queue for those that are left, as with a Unix socket.
            Some(Err(_)) | None => {
                let shared = match address {
                    Some(_) => &theirs[..1],
                    None => theirs,
                };
                let copies = shared.iter().map(OwnedFd::try_clone);
                sockets.push(copies.collect::<io::Result<_>>()?);
            }
        }
    }
    Ok((sockets, steps))
}

/// Whether the kernel lets nobody, or not this process, stand beside the sockets of an address.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::PermissionDenied
    )
}

/// Whether the address is free, or becomes so at once: the kernel closes the sockets of a ring a
/// moment after the end of a process that was killed, and whoever restarts it may be faster.
fn try_for_a_moment(address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + FREE_WITHIN;
    loop {
        match try_alone(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(LOOK_EVERY);
            }
            result => return result,
        }
    }
}

/// Binds without SO_REUSEPORT and lets go again. A second instance of the same user could otherwise
/// share the port, and take a part of the connections without anybody noticing.
fn try_alone(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        // The kernel never picks a port that is in use.
        return Ok(());
    }
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // As the real sockets have it: connections in TIME_WAIT are no obstacle.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(())
}

pub(crate) fn bind_error(
    listener: &Listener,
    address: &BindAddress,
    source: io::Error,
) -> StartError {
    StartError::Bind {
        listener: listener.name.clone(),
        address: address.to_string(),
        source,
    }
}

pub(crate) fn listen_options(tcp: &TcpOptions) -> ListenOptions {
    ListenOptions {
        nodelay: tcp.nodelay,
        keepalive: tcp.keepalive.map(|keepalive| Keepalive {
            idle: keepalive.idle,
            interval: keepalive.interval,
            count: keepalive.count,
        }),
        user_timeout: tcp.user_timeout,
        backlog: tcp.backlog,
        defer_accept: tcp.defer_accept,
        fast_open: tcp.fast_open,
        receive_buffer: tcp.receive_buffer.map(|bytes| bytes as usize),
        send_buffer: tcp.send_buffer.map(|bytes| bytes as usize),
        only_v6: true,
    }
}
