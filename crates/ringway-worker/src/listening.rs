//! Which listening sockets a worker has: those it begins with, those a changed configuration brings, and
//! those it takes away, which have a last call before they close.
//!
//! Control knows sockets by number, one for each address. A worker may have several of one number, left
//! by a process with more workers, so it counts them for itself. Invariant: what a number was given goes
//! to all sockets of it, and a socket's own place has another only after its last completion.

use std::collections::HashMap;
use std::os::fd::AsFd;

use ringway_flow::Moment;
use ringway_uring::set_listen_options;

use crate::accept::{Acceptor, LAST_CALL, Socket, State, call_last};
use crate::spec::SocketSpec;
use crate::worker::Worker;

/// A socket that has had its last call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaver {
    /// Its place among the sockets of this worker.
    place: u32,
    /// When it stops; none once it has begun to.
    at: Option<Moment>,
}

impl Acceptor {
    /// Takes new sockets in.
    pub(crate) fn take_in(&mut self, specs: Vec<SocketSpec>, now: Moment) {
        let places = (0..).zip(&self.sockets);
        let free = places.filter(|(_, socket)| socket.state == State::Closed);
        let mut free = free
            .map(|(place, _)| place)
            .collect::<Vec<u32>>()
            .into_iter();
        for spec in specs {
            for fd in spec.fds {
                let socket = Socket {
                    number: spec.number,
                    fd: Some(fd),
                    listener: spec.listener,
                    state: State::Closed,
                    is_shared: false,
                };
                let place = match free.next() {
                    Some(place) => {
                        self.sockets[place as usize] = socket;
                        place
                    }
                    None => {
                        self.sockets.push(socket);
                        self.sockets.len() as u32 - 1
                    }
                };
                self.set_state(place, State::Paused(now));
            }
        }
    }

    /// Tells the sockets that there are what is new about them; the places of those that are not named.
    fn change(&mut self, specs: &[SocketSpec]) -> Vec<u32> {
        let by_number: HashMap<u32, &SocketSpec> =
            specs.iter().map(|spec| (spec.number, spec)).collect();
        let mut unnamed = Vec::new();
        for (place, socket) in (0..).zip(&mut self.sockets) {
            let Some(fd) = &socket.fd else { continue };
            let Some(spec) = by_number.get(&socket.number) else {
                unnamed.push(place);
                continue;
            };
            socket.listener = spec.listener;
            if let Some(options) = &spec.options {
                // The control thread has tried them on a socket of its own.
                let _ = set_listen_options(fd.as_fd(), options);
            }
        }
        unnamed
    }

    /// When the first socket that is taken away stops.
    pub(crate) fn leaves_at(&self) -> Option<Moment> {
        self.leavers.iter().filter_map(|leaver| leaver.at).min()
    }

    /// Whether a socket that is taken away is not closed yet.
    pub(crate) fn has_leavers(&self) -> bool {
        !self.leavers.is_empty()
    }
}

impl Worker {
    /// Takes over the sockets as they are from now on; those that are not named get a last call, or are
    /// left at once to others who accept on them.
    pub(crate) fn apply_sockets(&mut self, specs: Vec<SocketSpec>) {
        let unnamed = self.acceptor.change(&specs);
        self.acceptor.take_in(specs, self.now);
        for place in unnamed {
            if self.acceptor.leavers.iter().any(|one| one.place == place) {
                continue;
            }
            let socket = &self.acceptor.sockets[place as usize];
            let at = match &socket.fd {
                Some(fd) if !self.acceptor.is_others(socket) => {
                    call_last(fd.as_fd());
                    self.now.after(LAST_CALL)
                }
                Some(_) | None => self.now,
            };
            let at = Some(at);
            self.acceptor.leavers.push(Leaver { place, at });
        }
    }

    /// Stops the sockets that are taken away when their last call is over.
    pub(crate) fn end_last_calls(&mut self) {
        for at in 0..self.acceptor.leavers.len() {
            let Leaver { place, at: due } = self.acceptor.leavers[at];
            if due.is_some_and(|due| due <= self.now) {
                self.acceptor.leavers[at].at = None;
                self.stop_accepting_on(place);
            }
        }
        let sockets = &self.acceptor.sockets;
        let is_open = |leaver: &Leaver| sockets[leaver.place as usize].state != State::Closed;
        self.acceptor.leavers.retain(is_open);
    }
}
