//! What the first bytes of a client mean in a world: how many of them tell where to, how many are
//! for Ringway only, and whether the client is wanted.
//!
//! Invariant: a look sees exactly the bytes that the client has written so far and that arrived,
//! from the first one on and in order.

use ringway_flow::{Chunks, Finding, Input, QUEUED_BYTES_MAX, Side};

use crate::bytes::Bytes;
use crate::dice::Dice;
use crate::kernel::Kernel;
use crate::options::{Canary, Faults};
use crate::session::Session;
use crate::world::{World, require};

/// What is looked for at the start of a client's stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks {
    /// So many bytes tell.
    pub(crate) tell: u32,
    /// So many of them are skipped.
    pub(crate) skip: u32,
    pub(crate) refuses: bool,
    pub(crate) deadline: Option<u64>,
    /// The flow knows where to.
    pub(crate) is_over: bool,
}

impl Looks {
    pub(crate) fn random(dice: &mut Dice, faults: &Faults) -> Looks {
        let faulty = faults.peer_misbehaves > 0;
        let most = match dice.below(10) {
            0..4 => 60,
            4..8 => 3_000,
            8 => u64::from(QUEUED_BYTES_MAX),
            // More than can be held.
            _ if faulty => u64::from(QUEUED_BYTES_MAX) + 5_000,
            _ => 30_000,
        };
        let tell = dice.between(1, most) as u32;
        let skips = dice.chance(600);
        Looks {
            tell,
            skip: if skips {
                dice.below(u64::from(tell) + 1) as u32
            } else {
                0
            },
            refuses: faulty && dice.chance(150),
            deadline: (faulty && dice.chance(800)).then(|| dice.between(1_000, 3_000_000)),
            is_over: false,
        }
    }
}

/// Bytes that the flow holds of its client.
fn held(session: &Session) -> u32 {
    let buffers = session.halves.front.buffers.iter();
    buffers.map(|(_, len)| len).sum()
}

impl Session {
    /// The flow does not know yet where to.
    pub(crate) fn is_looking(&self) -> bool {
        self.looks.is_some_and(|looks| !looks.is_over)
    }

    /// Bytes that only Ringway got.
    pub(crate) fn skipped(&self, from: Side) -> u64 {
        match (from, self.looks) {
            (Side::Front, Some(looks)) if looks.is_over => u64::from(looks.skip),
            (Side::Front | Side::Back, _) => 0,
        }
    }

    /// It holds all that it may while it looks.
    pub(crate) fn is_full_of_looks(&self) -> bool {
        self.is_looking() && held(self) >= QUEUED_BYTES_MAX
    }

    /// It holds so much that it need not ask for more, as long as buffers may be scarce.
    pub(crate) fn may_rest(&self, buffer_size: u32) -> bool {
        held(self) >= buffer_size
    }

    pub(crate) fn note_looked(&mut self, finding: Finding) {
        match finding {
            Finding::More | Finding::Refuse => {}
            Finding::Route { skip } => {
                let front = &mut self.halves.front;
                front.head_sent = skip;
                front.delivered -= u64::from(skip);
                if let Some(looks) = &mut self.looks {
                    looks.is_over = true;
                }
            }
        }
    }
}

impl World {
    pub(crate) fn look(&mut self, slot: usize) -> Result<Input, String> {
        let session = self.session(slot)?;
        let looks = session.looks.filter(|looks| !looks.is_over);
        let looks = looks.ok_or("a look at what nobody looks for")?;
        sees_all(session, &self.chunks, &self.kernel)?;
        let finding = match held(session) {
            held if held < looks.tell => Finding::More,
            _ if looks.refuses => Finding::Refuse,
            _ if self.options.canary == Some(Canary::SkipLess) => Finding::Route {
                skip: looks.skip.saturating_sub(1),
            },
            _ => Finding::Route { skip: looks.skip },
        };
        Ok(Input::Looked(finding))
    }
}

fn sees_all(session: &Session, chunks: &Chunks, kernel: &Kernel) -> Result<(), String> {
    let waiting = session.flow.waiting(Side::Front, chunks);
    let waiting: Vec<_> = waiting.map(|chunk| (chunk.buffer, chunk.len)).collect();
    let held: Vec<_> = session.halves.front.buffers.iter().copied().collect();
    require(waiting == held && !held.is_empty(), || {
        format!("{waiting:?} is looked at, {held:?} is held")
    })?;
    let spare = kernel.buffer_size * (held.len() as u32 - 1);
    let bytes: u32 = held.iter().map(|(_, len)| len).sum();
    require(bytes > spare, || format!("{held:?} lies in pieces"))?;
    let mut seen = Bytes::default();
    for (buffer, len) in held {
        kernel.buffers.content(buffer).copy_to(&mut seen, 0, len);
    }
    let first = seen.pop_run(u32::MAX);
    let is_right = first.is_some_and(|run| {
        (run.stream, run.at, run.len) == (session.stream, 0, bytes) && seen.is_empty()
    });
    require(is_right, || {
        format!("{first:?} is what a look sees of {bytes} bytes")
    })
}
