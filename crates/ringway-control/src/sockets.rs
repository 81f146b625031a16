//! Binding addresses of listeners: every one before any worker runs, and those that a reload brings.
//!
//! Each worker has a socket of its own for each TCP address (SO_REUSEPORT), so the kernel spreads
//! connections and no two workers share an accept queue; a Unix socket is one queue that all share.
//! Invariant: an error leaves nothing bound.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use ringway_config::{BindAddress, Listener, TcpOptions};
use ringway_uring::{Keepalive, ListenOptions, listen_tcp, local_address};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::StartError;
use crate::unix_path::{self, SocketFile};

/// All sockets, bound.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// By worker, then listener, then address.
    pub(crate) by_worker: Vec<Vec<Vec<OwnedFd>>>,
    /// The addresses as bound, by listener.
    pub(crate) addresses: Vec<Vec<String>>,
    /// Files to be removed at the end.
    pub(crate) files: Vec<SocketFile>,
}

/// Binds all addresses, for `workers` workers each. `own_ports` are those that this process listens on
/// already: what is in the way there is itself.
pub(crate) fn bind_all(
    listeners: &[Listener],
    workers: usize,
    own_ports: &[u16],
) -> Result<Sockets, StartError> {
    // All are tried before the first is kept: our own wildcard would stand in the way of our own
    // address on the same port.
    for listener in listeners {
        for address in &listener.binds {
            if let BindAddress::Tcp(tcp) = address
                && !own_ports.contains(&tcp.port())
            {
                try_alone(*tcp).map_err(|source| bind_error(listener, address, source))?;
            }
        }
    }
    let mut sockets = Sockets {
        by_worker: (0..workers).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
        files: Vec::new(),
    };
    for listener in listeners {
        sockets.bind_listener(listener)?;
    }
    Ok(sockets)
}

impl Sockets {
    fn bind_listener(&mut self, listener: &Listener) -> Result<(), StartError> {
        for worker in &mut self.by_worker {
            worker.push(Vec::new());
        }
        let mut bound = Vec::new();
        for address in &listener.binds {
            let text = self.bind_address(listener, address);
            bound.push(text.map_err(|source| bind_error(listener, address, source))?);
        }
        self.addresses.push(bound);
        Ok(())
    }

    /// Binds for all workers; the address as bound.
    fn bind_address(&mut self, listener: &Listener, address: &BindAddress) -> io::Result<String> {
        let own = self
            .by_worker
            .iter_mut()
            .filter_map(|worker| worker.last_mut());
        match address {
            BindAddress::Tcp(tcp) => {
                let options = listen_options(&listener.tcp);
                // With port 0 the first socket chooses for all.
                let mut real = *tcp;
                for sockets in own {
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
                for sockets in own {
                    sockets.push(socket.try_clone()?);
                }
                Ok(address.to_string())
            }
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

fn bind_error(listener: &Listener, address: &BindAddress, source: io::Error) -> StartError {
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
