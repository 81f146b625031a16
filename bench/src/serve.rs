//! `serve`: the servers behind a balancer under test, any number of kinds and addresses in one
//! process. Not robust against strangers: descriptors that run out end it. Invariant: a connection's
//! end is answered in kind, and only after everything that was due before it was sent.

mod conversation;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use slab::Slab;

use crate::cli::{Exchange, Serve};
use crate::failures::Failures;
use crate::outcome::Outcome;
use crate::pattern::{Pattern, SLICE_BYTES_MAX};
use crate::poller::Poller;
use crate::socket::{listener, reset_on_close};
use crate::stdin::StopSignal;

use conversation::{Conversation, Next, Tools};

/// The length that tells a source to go on until the peer ends.
pub(crate) const ENDLESS: u64 = u64::MAX;

/// Connections taken per event of a listener.
const ACCEPTS_MAX: usize = 64;
/// How long nothing has to happen for the servers to have finished, and how long they wait for it.
const QUIET: Duration = Duration::from_millis(200);
const FINISH_MAX: Duration = Duration::from_secs(2);
/// The poller's key of the stop signal.
const STOP_KEY: usize = usize::MAX;
/// Keys from here on are listeners, those below connections.
const LISTENER_KEYS: usize = 1 << 40;

/// What a server does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Echo,
    Source,
    Sink,
    Reply,
    Stall,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Echo => "echo",
            Kind::Source => "source",
            Kind::Sink => "sink",
            Kind::Reply => "reply",
            Kind::Stall => "stall",
        }
    }
}

/// What one thread counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Served {
    pub(crate) connections: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

pub(crate) fn serve(args: &Serve) -> io::Result<Outcome> {
    let mut wanted: Vec<(Kind, SocketAddr)> = Vec::new();
    for (kind, addresses) in [
        (Kind::Echo, &args.echo),
        (Kind::Source, &args.source),
        (Kind::Sink, &args.sink),
        (Kind::Reply, &args.reply),
        (Kind::Stall, &args.stall),
    ] {
        wanted.extend(addresses.iter().map(|address| (kind, *address)));
    }
    let mut sockets: Vec<Vec<(Kind, OwnedFd)>> =
        (0..args.threads.get()).map(|_| Vec::new()).collect();
    for (kind, mut address) in wanted {
        for sockets in &mut sockets {
            // With port 0 the first thread's socket decides, and the others share it.
            let (fd, bound) = listener(address)?;
            address = bound;
            sockets.push((kind, fd));
        }
        println!("listening {} {address}", kind.name());
    }
    io::stdout().flush()?;
    let stop = match args.until_stdin_ends {
        true => StopSignal::at_end_of_stdin()?,
        false => StopSignal::never()?,
    };
    let served = thread::scope(|scope| {
        let handles: Vec<_> = sockets
            .into_iter()
            .map(|sockets| {
                let stop = stop.clone();
                scope.spawn(move || Server::new(sockets, &stop, args.exchange)?.run())
            })
            .collect();
        let mut sum = Served::default();
        for handle in handles {
            let failed = |_| Err(io::Error::other("a thread failed"));
            let served: Served = handle.join().unwrap_or_else(failed)?;
            sum.connections += served.connections;
            sum.bytes_received += served.bytes_received;
            sum.bytes_sent += served.bytes_sent;
        }
        Ok::<Served, io::Error>(sum)
    })?;
    Ok(Outcome::new("serve", Failures::default())
        .with("connections", served.connections, "")
        .with("bytes_received", served.bytes_received, "B")
        .with("bytes_sent", served.bytes_sent, "B"))
}

/// A connection, and what it is watched for.
struct Peer {
    fd: OwnedFd,
    conversation: Conversation,
    interest: EventFlags,
}

/// The servers of one thread.
struct Server {
    poller: Poller,
    stop: StopSignal,
    listeners: Vec<(Kind, OwnedFd)>,
    peers: Slab<Peer>,
    tools: Tools,
}

impl Server {
    fn new(
        listeners: Vec<(Kind, OwnedFd)>,
        stop: &StopSignal,
        exchange: Exchange,
    ) -> io::Result<Server> {
        let poller = Poller::new()?;
        poller.add(stop.fd(), STOP_KEY, EventFlags::IN)?;
        for (index, (_, fd)) in listeners.iter().enumerate() {
            poller.add(fd, LISTENER_KEYS + index, EventFlags::IN)?;
        }
        let tools = Tools {
            pattern: Pattern::new(),
            buffer: vec![0; SLICE_BYTES_MAX],
            spare: Vec::new(),
            exchange,
            served: Served::default(),
        };
        Ok(Server {
            poller,
            stop: stop.clone(),
            listeners,
            peers: Slab::new(),
            tools,
        })
    }

    fn run(mut self) -> io::Result<Served> {
        loop {
            let events = self.poller.wait(None)?;
            for index in 0..events {
                let (key, ready) = self.poller.event(index);
                match key {
                    STOP_KEY => return self.finish(),
                    LISTENER_KEYS.. => self.accept(key - LISTENER_KEYS)?,
                    _ => self.advance(key, ready)?,
                }
            }
        }
    }

    /// Takes what clients that have ended left behind; accepts nothing more.
    fn finish(mut self) -> io::Result<Served> {
        let start = Instant::now();
        self.listeners.clear();
        // The signal stays raised: it has to go, or nothing would ever be quiet.
        self.poller.remove(self.stop.fd())?;
        while !self.peers.is_empty() && start.elapsed() < FINISH_MAX {
            let events = self.poller.wait(Some(QUIET))?;
            if events == 0 {
                break;
            }
            for index in 0..events {
                let (key, ready) = self.poller.event(index);
                self.advance(key, ready)?;
            }
        }
        Ok(self.tools.served)
    }

    fn accept(&mut self, index: usize) -> io::Result<()> {
        for _ in 0..ACCEPTS_MAX {
            let (kind, listener) = &self.listeners[index];
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let fd = match accept_with(listener, flags) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(errno) => return Err(io::Error::other(format!("accept: {errno}"))),
            };
            self.tools.served.connections += 1;
            let conversation = Conversation::new(*kind, &mut self.tools);
            let interest = conversation.interest();
            let entry = self.peers.vacant_entry();
            self.poller.add(&fd, entry.key(), interest)?;
            entry.insert(Peer {
                fd,
                conversation,
                interest,
            });
        }
        Ok(())
    }

    fn advance(&mut self, key: usize, ready: EventFlags) -> io::Result<()> {
        // An event of this batch may be for a connection that ended earlier in it.
        let Some(peer) = self.peers.get_mut(key) else {
            return Ok(());
        };
        match peer.conversation.advance(&peer.fd, ready, &mut self.tools) {
            Next::Wait => {
                let interest = peer.conversation.interest();
                if interest != peer.interest {
                    peer.interest = interest;
                    self.poller.modify(&peer.fd, key, interest)?;
                }
            }
            Next::Close => self.close(key),
            Next::Reset => {
                reset_on_close(&peer.fd);
                self.close(key);
            }
        }
        Ok(())
    }

    fn close(&mut self, key: usize) {
        let peer = self.peers.remove(key);
        peer.conversation.retire(&mut self.tools);
    }
}
