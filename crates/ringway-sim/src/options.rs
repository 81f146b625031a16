//! What may go wrong in a world, and what is deliberately broken to see whether the checks notice.

use crate::dice::Dice;

/// How often each thing goes wrong, in 1/1000 of its occasions.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The kernel takes fewer bytes of a send than it could.
    pub short_send: u32,
    /// A receive brings fewer bytes than there are.
    pub short_receive: u32,
    /// A multishot receive ends though nothing asks it to.
    pub multishot_ends: u32,
    /// The kernel knows no multishot receive in this world.
    pub one_shot: u32,
    /// This world has hardly any buffers.
    pub few_buffers: u32,
    /// No pipe is granted though one is free.
    pub no_pipe: u32,
    /// A splice moves fewer bytes than it could.
    pub short_splice: u32,
    /// A socket says that it is ready, and then the splice would block.
    pub false_readiness: u32,
    /// A connect is refused.
    pub refused: u32,
    /// A connect is never answered.
    pub unanswered: u32,
    /// A pick finds every backend full.
    pub pool_full: u32,
    /// A peer ends by reset at some point of its script.
    pub peer_resets: u32,
    /// A peer stops reading, or never ends, or closes early.
    pub peer_misbehaves: u32,
    /// A connection breaks without either peer having reset it (per step).
    pub link_breaks: u32,
    /// Ringway wants a flow gone (per step).
    pub close: u32,
    /// Time passes although something could happen at once.
    pub time_races: u32,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        short_send: 0,
        short_receive: 0,
        multishot_ends: 0,
        one_shot: 0,
        few_buffers: 0,
        no_pipe: 0,
        short_splice: 0,
        false_readiness: 0,
        refused: 0,
        unanswered: 0,
        pool_full: 0,
        peer_resets: 0,
        peer_misbehaves: 0,
        link_breaks: 0,
        close: 0,
        time_races: 0,
    };

    /// The same, but in some worlds the peers behave, in some the network does, in some everything
    /// lasts.
    pub(crate) fn varied(self, dice: &mut Dice) -> Faults {
        let mut faults = self;
        if dice.chance(400) {
            (faults.peer_resets, faults.peer_misbehaves) = (0, 0);
        }
        if dice.chance(500) {
            (faults.refused, faults.unanswered, faults.pool_full) = (0, 0, 0);
        }
        if dice.chance(700) {
            (faults.close, faults.link_breaks) = (0, 0);
        }
        if dice.chance(300) {
            (faults.no_pipe, faults.false_readiness) = (0, 0);
        }
        faults
    }

    /// Everything goes wrong now and then.
    pub const MANY: Faults = Faults {
        short_send: 200,
        short_receive: 150,
        multishot_ends: 20,
        one_shot: 250,
        few_buffers: 300,
        no_pipe: 200,
        short_splice: 300,
        false_readiness: 10,
        refused: 200,
        unanswered: 100,
        pool_full: 20,
        peer_resets: 250,
        peer_misbehaves: 250,
        link_breaks: 1,
        close: 1,
        time_races: 20,
    };
}

/// A defect put into the executor on purpose: the checks must find each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A send skips the first byte it was given.
    DropByte,
    /// A buffer is lent to the next receive while it is still being sent.
    ReuseBuffer,
    /// A pipe with bytes in it is handed to another flow.
    SharePipe,
    /// Nobody is told that buffers are free again.
    ForgetStarved,
    /// A socket that is to be reset is closed by FIN.
    FinForReset,
    /// No deadline ever comes.
    ForgetDeadlines,
    /// A reset goes out at once, whatever the peer has not acknowledged.
    ResetEarly,
    /// A FIN is not passed on.
    ForgetFin,
    /// A watch never tells of a reset.
    BlindWatch,
    /// A byte less is skipped than was for Ringway only.
    SkipLess,
}

impl Canary {
    /// All of them.
    pub const ALL: [Canary; 10] = [
        Canary::DropByte,
        Canary::ReuseBuffer,
        Canary::SharePipe,
        Canary::ForgetStarved,
        Canary::FinForReset,
        Canary::ForgetDeadlines,
        Canary::ResetEarly,
        Canary::ForgetFin,
        Canary::BlindWatch,
        Canary::SkipLess,
    ];
}

/// Whether the events of a world are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trace {
    /// Nothing is printed.
    #[default]
    Off,
    /// Every event is printed to standard error.
    On,
}

/// How a world is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What goes wrong in it.
    pub faults: Faults,
    /// Bytes a peer writes at most.
    pub stream_bytes_max: u64,
    /// What is broken in the executor.
    pub canary: Option<Canary>,
    /// Whether it is printed.
    pub trace: Trace,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            faults: Faults::MANY,
            stream_bytes_max: 4_000_000,
            canary: None,
            trace: Trace::Off,
        }
    }
}
