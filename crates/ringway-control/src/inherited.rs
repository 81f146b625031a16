//! Listening sockets that were there before this process: of the process it takes the place of, or of
//! the service manager (socket activation). Found by address, so that names may change.
//!
//! Not here: who accepts on them in the meantime. Invariant: only what is a listening stream socket at
//! the address it is said to be at is kept; what nothing asks for is closed by dropping it, which does
//! not disturb those who hold it too.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::SocketType;
use rustix::net::sockopt;

use crate::error::StartError;
use crate::overrides::Overrides;
use crate::upgrade::channel::Channel;
use crate::upgrade::message::{Entry, Role};

/// Names the descriptor of an upgrade's channel.
pub(crate) const CHANNEL_VARIABLE: &str = "RINGWAY_UPGRADE_FD";
/// Where the descriptors of socket activation begin (sd_listen_fds(3)).
const LISTEN_FDS_START: i32 = 3;

/// What this process was started with. To be made first of all, before anything is opened.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// To the process whose place it is to take.
    pub(crate) channel: Option<Channel>,
    pub(crate) heirlooms: Heirlooms,
    /// What operators asked of the process whose place it takes.
    pub(crate) overrides: Overrides,
}

/// Listening sockets nobody has asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Heirlooms {
    sockets: Vec<Heirloom>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Heirloom {
    pub(crate) fd: OwnedFd,
    pub(crate) cookie: u64,
    pub(crate) entry: Entry,
}

impl Inheritance {
    /// Takes what the environment speaks of.
    ///
    /// # Errors
    /// [`StartError::Inherited`]: a descriptor is not what it is said to be.
    pub fn of_process() -> Result<Inheritance, StartError> {
        let number = |name| {
            let value = std::env::var(name).ok()?;
            value.parse::<i32>().ok()
        };
        if let Some(fd) = number(CHANNEL_VARIABLE) {
            let channel = ringway_uring::take_inherited(fd).and_then(Channel::of);
            let channel = channel.map_err(|source| inherited(CHANNEL_VARIABLE.into(), source))?;
            return Ok(Inheritance {
                channel: Some(channel),
                ..Inheritance::default()
            });
        }
        let is_for_us = number("LISTEN_PID") == i32::try_from(std::process::id()).ok();
        let count = number("LISTEN_FDS").filter(|_| is_for_us).unwrap_or(0);
        let mut heirlooms = Heirlooms::default();
        for fd in (LISTEN_FDS_START..).take(count.try_into().unwrap_or(0)) {
            let socket = ringway_uring::take_inherited(fd).and_then(of_manager);
            let socket = socket.map_err(|source| inherited(format!("LISTEN_FDS, {fd}"), source))?;
            heirlooms.sockets.push(socket);
        }
        Ok(Inheritance {
            heirlooms,
            ..Inheritance::default()
        })
    }

    /// Tells the process whose place it was to take why it will not. Nobody to tell is no failure.
    pub fn refuse(&self, reason: &str) {
        if let Some(channel) = &self.channel {
            crate::upgrade::successor::refuse(channel, reason);
        }
    }
}

impl Heirlooms {
    pub(crate) fn of(sockets: Vec<Heirloom>) -> Heirlooms {
        Heirlooms { sockets }
    }

    /// Those at an address of the configuration, in the order of their workers. Where its port is 0
    /// they are those of one port: of the listener of that name, or else of the first that had none
    /// either.
    pub(crate) fn take(&mut self, role: Role, name: &str, address: &str) -> Vec<Heirloom> {
        let fits = |entry: &Entry| {
            entry.role == role && (entry.configured == address || entry.bound == address)
        };
        let fitting = || {
            self.sockets
                .iter()
                .map(|one| &one.entry)
                .filter(|e| fits(e))
        };
        let named = fitting().find(|entry| entry.name == name);
        let Some(bound) = named.or(fitting().next()).map(|entry| entry.bound.clone()) else {
            return Vec::new();
        };
        let is_taken = |one: &mut Heirloom| fits(&one.entry) && one.entry.bound == bound;
        let mut taken: Vec<Heirloom> = self.sockets.extract_if(.., is_taken).collect();
        taken.sort_by_key(|one| one.entry.worker);
        taken
    }

    /// Whether one of them is at this port, whatever its address.
    pub(crate) fn holds_port(&self, port: u16) -> bool {
        let suffix = format!(":{port}");
        let mut bound = self.sockets.iter().map(|one| &one.entry.bound);
        bound.any(|bound| bound.ends_with(&suffix))
    }

    /// What nothing has asked for.
    pub(crate) fn rest(self) -> Vec<Heirloom> {
        self.sockets
    }
}

impl Heirloom {
    /// A socket and what is said of it, compared.
    pub(crate) fn checked(fd: OwnedFd, entry: Entry) -> io::Result<Heirloom> {
        let bound = listening_at(fd.as_fd())?;
        if bound != entry.bound {
            let text = format!("said to be {}, but is {bound}", entry.bound);
            return Err(io::Error::other(text));
        }
        let cookie = sockopt::socket_cookie(&fd)?;
        Ok(Heirloom { fd, cookie, entry })
    }
}

fn of_manager(fd: OwnedFd) -> io::Result<Heirloom> {
    let bound = listening_at(fd.as_fd())?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    let entry = |role| Entry {
        role,
        name: String::new(),
        configured: bound.clone(),
        bound: bound.clone(),
        worker: 0,
        file: None,
        is_managers: true,
        options: None,
    };
    Heirloom::checked(fd, entry(Role::Listener))
}

/// Where a listening stream socket is bound, as the configuration writes it.
pub(crate) fn listening_at(fd: BorrowedFd<'_>) -> io::Result<String> {
    if sockopt::socket_type(fd)? != SocketType::STREAM || !sockopt::socket_acceptconn(fd)? {
        return Err(io::Error::other("no listening stream socket"));
    }
    if let Some(address) = ringway_uring::local_address(fd).map_err(io::Error::from)? {
        return Ok(address.to_string());
    }
    let address = rustix::net::getsockname(fd)?;
    let unix = rustix::net::SocketAddrUnix::try_from(address)?;
    match unix.path() {
        Some(path) => Ok(format!("unix:{}", path.to_string_lossy())),
        None => Err(io::Error::other("a socket without an address")),
    }
}

fn inherited(what: String, source: io::Error) -> StartError {
    StartError::Inherited { what, source }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn heirloom(name: &str, configured: &str, worker: u16, socket: &TcpListener) -> Heirloom {
        let entry = Entry {
            role: Role::Listener,
            name: name.into(),
            configured: configured.into(),
            bound: socket.local_addr().unwrap().to_string(),
            worker,
            file: None,
            is_managers: false,
            options: None,
        };
        Heirloom::checked(socket.try_clone().unwrap().into(), entry).unwrap()
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn an_address_finds_its_sockets_whatever_the_name() {
        let (a, b) = (listener(), listener());
        let at = |socket: &TcpListener| socket.local_addr().unwrap().to_string();
        let mut all = Heirlooms::of(vec![
            heirloom("web", &at(&a), 1, &a),
            heirloom("web", &at(&a), 0, &a),
            heirloom("web", &at(&b), 0, &b),
        ]);
        assert!(all.holds_port(a.local_addr().unwrap().port()));
        assert!(all.take(Role::Admin, "web", &at(&a)).is_empty());
        let taken = all.take(Role::Listener, "other", &at(&a));
        let workers: Vec<u16> = taken.iter().map(|one| one.entry.worker).collect();
        assert_eq!(workers, [0, 1]);
        assert_eq!(all.rest().len(), 1);
    }

    #[test]
    fn a_port_that_the_kernel_chose_goes_to_the_listener_of_that_name() {
        let any = "127.0.0.1:0";
        let (a, b) = (listener(), listener());
        let both = || Heirlooms::of(vec![heirloom("a", any, 0, &a), heirloom("b", any, 0, &b)]);
        for (name, expected) in [("a", &a), ("b", &b), ("c", &a)] {
            let taken = both().take(Role::Listener, name, any);
            let bound = expected.local_addr().unwrap().to_string();
            assert_eq!(taken.len(), 1);
            assert_eq!(taken[0].entry.bound, bound, "{name}");
        }
    }

    #[test]
    fn what_is_no_listener_or_elsewhere_is_refused() {
        let socket = listener();
        let stream = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        assert!(listening_at(stream.as_fd()).is_err());
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(listening_at(datagrams.as_fd()).is_err());
        let mut entry = heirloom("web", "127.0.0.1:0", 0, &socket).entry;
        entry.bound = "127.0.0.1:1".into();
        let error = Heirloom::checked(socket.into(), entry).unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}
