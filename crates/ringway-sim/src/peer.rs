//! The clients and backends of a world: each follows a script of what it writes, how it reads and
//! how it ends.
//!
//! Invariant: a peer notices at once when what it reads is not exactly what the other peer wrote,
//! in order.

use ringway_flow::{CloseHow, Moment, Span};

use crate::bytes::{Run, Stream};
use crate::dice::Dice;
use crate::link::{End, Link, Readiness};
use crate::options::Options;

/// What a peer does when it has written everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Shuts its writing side down, reads until the end, closes.
    ShutThenRead,
    /// Waits for the end of what it reads, then closes.
    WaitForEnd,
    /// Closes, whatever is still to be read.
    CloseAtOnce,
    /// Resets.
    Reset,
    /// Does nothing, for ever.
    Silence,
}

/// What one peer does in the course of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// Bytes it writes in all.
    writes: u64,
    write_max: u32,
    /// It starts to write when it has read so much, or the end.
    writes_after: u64,
    read_max: u32,
    /// It stops reading when it has read so much.
    reads_until: u64,
    /// Pause between two actions.
    pause: u64,
    ending: Ending,
    /// It resets when it has written and read so much together.
    resets_after: u64,
}

impl Script {
    pub(crate) fn random(dice: &mut Dice, options: &Options) -> Script {
        let faults = &options.faults;
        let writes = match dice.below(100) {
            0..20 => dice.below(3),
            20..75 => dice.below(20_000),
            75..97 => dice.below(400_000),
            _ => dice.below(4_000_000),
        };
        let writes = writes.min(options.stream_bytes_max);
        let mut script = Script {
            writes,
            write_max: dice
                .pick(&[10, 700, 5_000, 64_000, 1_000_000])
                .max(writes as u32 / 300),
            writes_after: dice.pick(&[0, 0, 0, 1, 500, u64::MAX]),
            read_max: dice.pick(&[100, 3_000, 100_000]),
            reads_until: u64::MAX,
            pause: dice.pick(&[0, 0, 0, 20, 3_000, 400_000]),
            ending: dice.pick(&[
                Ending::ShutThenRead,
                Ending::ShutThenRead,
                Ending::WaitForEnd,
            ]),
            resets_after: u64::MAX,
        };
        if dice.chance(faults.peer_misbehaves) {
            script.ending = dice.pick(&[Ending::CloseAtOnce, Ending::Silence]);
        }
        if dice.chance(faults.peer_misbehaves) {
            script.reads_until = dice.below(100_000);
        }
        if dice.chance(faults.peer_resets) {
            script.resets_after = dice.below(writes.min(200_000) + 50);
        }
        if dice.chance(faults.peer_resets) {
            script.ending = Ending::Reset;
        }
        script
    }
}

/// How the stream that a peer reads ended, in the eyes of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    Fin,
    Reset,
}

/// A client or a backend.
#[derive(Debug)]
pub(crate) struct Peer {
    script: Script,
    pub(crate) link: usize,
    writes_to: Stream,
    reads_from: Stream,
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) seen: Seen,
    /// It has ended what it writes by FIN.
    pub(crate) has_shut: bool,
    has_closed: bool,
    wakes: Moment,
}

impl Peer {
    pub(crate) fn new(script: Script, link: usize, writes_to: Stream, reads_from: Stream) -> Peer {
        Peer {
            script,
            link,
            writes_to,
            reads_from,
            written: 0,
            read: 0,
            seen: Seen::Nothing,
            has_shut: false,
            has_closed: false,
            wakes: Moment::default(),
        }
    }

    /// The same for one that never gets the bytes before that place.
    pub(crate) fn reading_from(self, read: u64) -> Peer {
        Peer { read, ..self }
    }

    /// When it acts next, if nothing but time keeps it from acting.
    pub(crate) fn wakes(&self, link: &Link) -> Option<Moment> {
        let acts = !self.has_closed
            && (self.resets_now() || self.can_write(link) || self.can_read(link) || self.can_end());
        acts.then_some(self.wakes)
    }

    fn resets_now(&self) -> bool {
        self.written + self.read >= self.script.resets_after
    }

    fn can_write(&self, link: &Link) -> bool {
        let may_start = self.read >= self.script.writes_after || self.seen == Seen::Fin;
        may_start
            && self.written < self.script.writes
            && self.seen != Seen::Reset
            && link.is_writable(End::Peer)
    }

    fn can_read(&self, link: &Link) -> bool {
        self.read < self.script.reads_until
            && self.seen == Seen::Nothing
            && link.readiness(End::Peer) != Readiness::Nothing
    }

    fn can_end(&self) -> bool {
        if self.seen == Seen::Reset {
            return true;
        }
        let has_written = self.written == self.script.writes;
        let has_read = self.seen == Seen::Fin || self.read >= self.script.reads_until;
        match self.script.ending {
            Ending::ShutThenRead => has_written && (!self.has_shut || has_read),
            Ending::WaitForEnd => has_written && self.seen == Seen::Fin,
            Ending::CloseAtOnce | Ending::Reset => has_written,
            Ending::Silence => false,
        }
    }

    /// Whether it still waits for something to read, and would read it.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.has_closed && self.seen == Seen::Nothing && self.read < self.script.reads_until
    }

    /// Does one thing. An error says what was wrong with what it read.
    pub(crate) fn act(
        &mut self,
        now: Moment,
        link: &mut Link,
        dice: &mut Dice,
    ) -> Result<(), String> {
        self.wakes = now.after(Span::from_micros(dice.below(self.script.pause + 1)));
        let (writes, reads) = (self.can_write(link), self.can_read(link));
        if self.resets_now() {
            self.close(link, CloseHow::Reset);
            Ok(())
        } else if writes && (!reads || dice.chance(500)) {
            self.write(link, dice);
            Ok(())
        } else if reads {
            self.read(link, dice)
        } else {
            self.end(link);
            Ok(())
        }
    }

    fn write(&mut self, link: &mut Link, dice: &mut Dice) {
        if link.write_fault(End::Peer).is_some() {
            self.seen = Seen::Reset;
            return;
        }
        let left = self.script.writes - self.written;
        let len = left
            .min(u64::from(link.room(End::Peer)))
            .min(dice.between(1, u64::from(self.script.write_max)));
        link.write_run(
            End::Peer,
            Run {
                stream: self.writes_to,
                at: self.written,
                len: len as u32,
            },
        );
        self.written += len;
    }

    fn read(&mut self, link: &mut Link, dice: &mut Dice) -> Result<(), String> {
        match link.readiness(End::Peer) {
            Readiness::Nothing => {}
            Readiness::EndOfStream => self.seen = Seen::Fin,
            Readiness::Failed(_) => {
                link.take_error(End::Peer);
                self.seen = Seen::Reset;
            }
            Readiness::Bytes(_) => {
                // Long streams are read in larger pieces, so that worlds come to an end.
                let most = u64::from(self.script.read_max).max(self.read / 100);
                let len = dice.between(1, most) as u32;
                let mut bytes = link.read(End::Peer, len);
                while let Some(run) = bytes.pop_run(u32::MAX) {
                    self.check(run)?;
                    self.read += u64::from(run.len);
                }
            }
        }
        Ok(())
    }

    fn check(&self, run: Run) -> Result<(), String> {
        if run.stream != self.reads_from {
            return Err(format!(
                "the reader of stream {} got bytes of stream {}",
                self.reads_from, run.stream
            ));
        }
        if run.at != self.read {
            return Err(format!(
                "the reader of stream {} got byte {} instead of byte {}",
                self.reads_from, run.at, self.read
            ));
        }
        Ok(())
    }

    fn end(&mut self, link: &mut Link) {
        let closes = self.seen == Seen::Reset
            || self.has_shut
            || !matches!(self.script.ending, Ending::ShutThenRead);
        if !closes {
            link.shut(End::Peer);
            self.has_shut = true;
        } else if self.script.ending == Ending::Reset {
            self.close(link, CloseHow::Reset);
        } else {
            self.close(link, CloseHow::Fin);
        }
    }

    fn close(&mut self, link: &mut Link, how: CloseHow) {
        self.has_closed = true;
        link.close(End::Peer, how);
        self.has_shut |= !link.is_dead(End::Peer);
    }
}
