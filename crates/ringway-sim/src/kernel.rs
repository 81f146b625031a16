//! A model of the kernel that Ringway's worker talks to: operations in flight, their completions,
//! the sockets behind them. It executes what can be executed whenever the world says so, in any
//! order.
//!
//! Invariants: an operation answers exactly once, a multishot receive until its last completion; a
//! buffer is read and written when the operation executes, not when it is asked for.

use ringway_flow::{
    Backlog, BufferNumber, Chunk, Fault, Input, Moment, Operation as Target, Rearm, Side,
};

use crate::buffers::{Buffers, Holder, Pipes};
use crate::bytes::Bytes;
use crate::dice::Dice;
use crate::link::{End, Link, Readiness};
use crate::options::{Canary, Options};

/// A session: its slot, and which of the sessions that had this slot it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) slot: usize,
    pub(crate) generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answers when the time has come.
    Connect {
        accepted: bool,
        at: Moment,
    },
    Receive {
        budget: u32,
    },
    Send {
        buffer: BufferNumber,
        start: u32,
        len: u32,
    },
    PollIn {
        spuriously: bool,
    },
    PollOut,
    SpliceIn {
        len: u32,
    },
    SpliceOut {
        len: u32,
    },
    /// Answers when the socket has an error that nobody has taken yet.
    Watch,
}

/// Something asked of the kernel and not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) token: Token,
    /// The half it belongs to.
    pub(crate) from: Side,
    pub(crate) link: usize,
    pub(crate) kind: Kind,
}

/// An answer that the worker has not reaped yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    /// The socket it comes from, if it comes in the order of that socket's operations.
    link: Option<usize>,
    posted: Moment,
    pub(crate) token: Token,
    pub(crate) input: Input,
}

/// A cancellation on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cancel {
    pub(crate) token: Token,
    pub(crate) target: Target,
}

/// Everything below the worker.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) links: Vec<Link>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) completions: Vec<Completion>,
    pub(crate) cancels: Vec<Cancel>,
    pub(crate) buffers: Buffers,
    pub(crate) pipes: Pipes,
    pub(crate) buffer_size: u32,
    /// The world's time.
    pub(crate) now: Moment,
    /// Whether receives are multishot in this world.
    pub(crate) multishot: bool,
}

impl Kernel {
    pub(crate) fn submit(&mut self, token: Token, from: Side, link: usize, kind: Kind) {
        self.operations.push(Operation {
            token,
            from,
            link,
            kind,
        });
    }

    /// An answer that is no operation's.
    pub(crate) fn answer_later(&mut self, token: Token, input: Input) {
        self.completions.push(Completion {
            link: None,
            posted: self.now,
            token,
            input,
        });
    }

    /// Whether the operation can do something now.
    pub(crate) fn is_ready(&self, operation: &Operation) -> bool {
        let link = &self.links[operation.link];
        match operation.kind {
            Kind::Connect { at, .. } => at <= self.now,
            Kind::PollIn { spuriously: true } => true,
            Kind::Receive { .. } | Kind::PollIn { .. } | Kind::SpliceIn { .. } => {
                link.readiness(End::Proxy) != Readiness::Nothing
            }
            Kind::PollOut | Kind::SpliceOut { .. } => link.is_writable(End::Proxy),
            // It does not wait: without room it answers that.
            Kind::Send { .. } => true,
            Kind::Watch => link.has_error(End::Proxy),
        }
    }

    /// Executes an operation that is ready.
    pub(crate) fn execute(&mut self, index: usize, dice: &mut Dice, options: &Options) {
        let operation = self.operations[index];
        let holder = (operation.token, operation.from);
        let from = operation.from;
        let input = match operation.kind {
            Kind::Receive { budget } => return self.receive(index, budget, dice, options),
            Kind::Connect { accepted, .. } => {
                let refused = Err(Fault::Other);
                Input::Connected(if accepted { Ok(()) } else { refused })
            }
            Kind::Send { buffer, start, len } => {
                let result = self.send(operation.link, buffer, start, len, dice, options);
                Input::Sent { from, result }
            }
            Kind::PollIn { .. } => Input::Readable { from },
            Kind::PollOut => Input::Writable { from },
            Kind::Watch => Input::Watched {
                from,
                fault: Fault::Reset,
            },
            Kind::SpliceIn { len } => Input::SplicedIn {
                from,
                result: self.splice_in(holder, operation.link, len, dice, options),
            },
            Kind::SpliceOut { len } => Input::SplicedOut {
                from,
                result: self.splice_out(holder, operation.link, len, dice, options),
            },
        };
        self.complete(index, input);
    }

    /// The last completion of an operation.
    fn complete(&mut self, index: usize, input: Input) {
        let operation = self.operations.swap_remove(index);
        self.post(&operation, input);
    }

    fn post(&mut self, operation: &Operation, input: Input) {
        let is_splice = matches!(
            operation.kind,
            Kind::SpliceIn { .. } | Kind::SpliceOut { .. }
        );
        self.completions.push(Completion {
            link: (!is_splice).then_some(operation.link),
            posted: self.now,
            token: operation.token,
            input,
        });
    }

    fn receive(&mut self, index: usize, budget: u32, dice: &mut Dice, options: &Options) {
        let operation = self.operations[index];
        let from = operation.from;
        let holder = (operation.token, from);
        // The kernel selects a buffer first, also for what then turns out to be an end or an error.
        let Some(buffer) = self.buffers.take(holder, dice) else {
            return self.complete(index, Input::Starved { from });
        };
        let link = &mut self.links[operation.link];
        let available = match link.readiness(End::Proxy) {
            Readiness::Bytes(available) => available,
            Readiness::Nothing | Readiness::EndOfStream => {
                self.buffers.give_back(buffer);
                return self.complete(index, Input::EndOfStream { from });
            }
            Readiness::Failed(fault) => {
                link.take_error(End::Proxy);
                self.buffers.give_back(buffer);
                return self.complete(index, Input::ReceiveFailed { from, fault });
            }
        };
        let most = available.min(budget).min(self.buffer_size);
        let len = shortened(most, options.faults.short_receive, dice);
        self.buffers.fill(buffer, link.read(End::Proxy, len));
        let backlog = match link.unread(End::Proxy) {
            0 => Backlog::Empty,
            _ => Backlog::Waiting,
        };
        let ends = budget == len || !self.multishot || dice.chance(options.faults.multishot_ends);
        let rearm = if ends { Rearm::Needed } else { Rearm::Armed };
        let chunk = Chunk { buffer, len };
        let input = Input::Received {
            from,
            chunk,
            backlog,
            rearm,
        };
        if ends {
            self.complete(index, input);
        } else {
            self.operations[index].kind = Kind::Receive {
                budget: budget - len,
            };
            self.post(&operation, input);
        }
    }

    fn send(
        &mut self,
        link: usize,
        buffer: BufferNumber,
        start: u32,
        len: u32,
        dice: &mut Dice,
        options: &Options,
    ) -> Result<u32, Fault> {
        let link = &mut self.links[link];
        if let Some(fault) = link.write_fault(End::Proxy) {
            return Err(fault);
        }
        let most = len.min(link.room(End::Proxy));
        if most == 0 {
            return Err(Fault::WouldBlock);
        }
        let sent = shortened(most, options.faults.short_send, dice);
        let mut bytes = Bytes::default();
        let content = self.buffers.content(buffer);
        content.copy_to(&mut bytes, start, sent);
        if options.canary == Some(Canary::DropByte) {
            bytes.pop_run(1);
        }
        link.write(End::Proxy, bytes);
        Ok(sent)
    }

    /// `splice(2)` from a socket into the holder's pipe; 0 is the end.
    pub(crate) fn splice_in(
        &mut self,
        holder: Holder,
        link: usize,
        len: u32,
        dice: &mut Dice,
        options: &Options,
    ) -> Result<u32, Fault> {
        let link = &mut self.links[link];
        if dice.chance(options.faults.false_readiness) {
            return Err(Fault::WouldBlock);
        }
        match link.readiness(End::Proxy) {
            Readiness::Nothing => Err(Fault::WouldBlock),
            Readiness::EndOfStream => Ok(0),
            Readiness::Failed(fault) => {
                link.take_error(End::Proxy);
                Err(fault)
            }
            Readiness::Bytes(available) => {
                let capacity = self.pipes.capacity();
                let Some(pipe) = self.pipes.content_mut(holder) else {
                    return Err(Fault::Other);
                };
                let most = available.min(len).min(capacity.saturating_sub(pipe.len()));
                if most == 0 {
                    return Err(Fault::WouldBlock);
                }
                let moved = shortened(most, options.faults.short_splice, dice);
                link.read(End::Proxy, moved).move_to(pipe, moved);
                Ok(moved)
            }
        }
    }

    /// `splice(2)` from the holder's pipe into a socket.
    pub(crate) fn splice_out(
        &mut self,
        holder: Holder,
        link: usize,
        len: u32,
        dice: &mut Dice,
        options: &Options,
    ) -> Result<u32, Fault> {
        let link = &mut self.links[link];
        if dice.chance(options.faults.false_readiness) {
            return Err(Fault::WouldBlock);
        }
        if let Some(fault) = link.write_fault(End::Proxy) {
            return Err(fault);
        }
        let room = link.room(End::Proxy);
        let Some(pipe) = self.pipes.content_mut(holder) else {
            return Err(Fault::Other);
        };
        let most = room.min(len).min(pipe.len());
        if most == 0 {
            return Err(Fault::WouldBlock);
        }
        let moved = shortened(most, options.faults.short_splice, dice);
        let mut bytes = Bytes::default();
        pipe.move_to(&mut bytes, moved);
        link.write(End::Proxy, bytes);
        Ok(moved)
    }

    /// A cancellation arrives: what it finds in flight answers that it was cancelled.
    pub(crate) fn cancel_arrives(&mut self, index: usize) {
        let cancel = self.cancels.swap_remove(index);
        while let Some(found) = self.operations.iter().position(|it| cancel.hits(it)) {
            let operation = self.operations[found];
            let from = operation.from;
            let cancelled = Err(Fault::Cancelled);
            let input = match operation.kind {
                Kind::Connect { .. } => Input::Connected(Err(Fault::Cancelled)),
                Kind::Receive { .. } => Input::ReceiveFailed {
                    from,
                    fault: Fault::Cancelled,
                },
                Kind::Send { .. } => unreachable!("invariant: a send is no target"),
                Kind::Watch => Input::Watched {
                    from,
                    fault: Fault::Cancelled,
                },
                Kind::PollIn { .. } => Input::Readable { from },
                Kind::PollOut => Input::Writable { from },
                Kind::SpliceIn { .. } => Input::SplicedIn {
                    from,
                    result: cancelled,
                },
                Kind::SpliceOut { .. } => Input::SplicedOut {
                    from,
                    result: cancelled,
                },
            };
            self.complete(found, input);
        }
    }

    /// When the oldest answer that was not reaped yet was given.
    pub(crate) fn oldest_completion(&self) -> Option<Moment> {
        self.completions.iter().map(|it| it.posted).min()
    }

    /// Takes a completion: the one at `index`, or an earlier one of the same socket. Those are not
    /// independent: whichever operation comes first takes the socket's error, and the next one sees
    /// a mere end. A real completion queue keeps the order of everything but splices, which execute
    /// on threads of their own.
    pub(crate) fn reap(&mut self, index: usize) -> Completion {
        let link = self.completions[index].link;
        let mut all = self.completions.iter();
        let first = link.and_then(|_| all.position(|it| it.link == link));
        self.completions.remove(first.unwrap_or(index))
    }

    /// Whether the kernel may still read from a buffer.
    pub(crate) fn is_sending(&self, number: BufferNumber) -> bool {
        self.operations
            .iter()
            .any(|it| matches!(it.kind, Kind::Send { buffer, .. } if buffer == number))
    }

    pub(crate) fn has_anything_of(&self, token: Token) -> bool {
        self.operations.iter().any(|it| it.token == token)
            || self.completions.iter().any(|it| it.token == token)
    }
}

impl Cancel {
    fn hits(&self, operation: &Operation) -> bool {
        self.token == operation.token
            && match (self.target, operation.kind) {
                (Target::Connect, Kind::Connect { .. }) => true,
                (Target::Receive { from }, Kind::Receive { .. })
                | (Target::PollReadable { from }, Kind::PollIn { .. })
                | (Target::PollWritable { from }, Kind::PollOut)
                | (Target::SpliceIn { from }, Kind::SpliceIn { .. })
                | (Target::SpliceOut { from }, Kind::SpliceOut { .. })
                | (Target::Watch { from }, Kind::Watch) => operation.from == from,
                (
                    Target::Connect
                    | Target::Receive { .. }
                    | Target::PollReadable { .. }
                    | Target::PollWritable { .. }
                    | Target::SpliceIn { .. }
                    | Target::SpliceOut { .. }
                    | Target::Watch { .. },
                    _,
                ) => false,
            }
    }
}

fn shortened(most: u32, permille: u32, dice: &mut Dice) -> u32 {
    if most > 1 && dice.chance(permille) {
        dice.between(1, u64::from(most)) as u32
    } else {
        most
    }
}
