//! What happened in worlds, counted: the proof that they reach what they are meant to test.

use std::collections::BTreeMap;
use std::fmt;

use ringway_flow::{Ended, Fault, Flow, Input, Output, Party, Side, Why};

/// Counts by name, and a digest of everything counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    pub(crate) fn count_ended(&mut self, ended: Ended) {
        self.count(match ended.why {
            Why::Fin if ended.by == Party::Client => "ended: fin by client",
            Why::Fin => "ended: fin by backend",
            Why::Reset if ended.by == Party::Client => "ended: reset by client",
            Why::Reset => "ended: reset by backend",
            Why::Idle => "ended: idle",
            Why::FirstByte => "ended: first byte",
            Why::HalfClose => "ended: half close",
            Why::Lifetime => "ended: lifetime",
            Why::Handshake => "ended: handshake",
            Why::Refused => "ended: refused",
            Why::ConnectFailed => "ended: connect failed",
            Why::NoBackend => "ended: no backend",
            Why::Resources => "ended: resources",
            Why::Drain => "ended: drain",
            Why::BackendDown => "ended: backend down",
            Why::HeldMemory => "ended: held memory",
            Why::Error => "ended: error",
        });
    }

    pub(crate) fn add_relayed(&mut self, flow: &Flow) {
        for from in Side::BOTH {
            *self.counts.entry("bytes received").or_default() += flow.received_bytes(from);
            *self.counts.entry("bytes spliced").or_default() += flow.spliced_bytes(from);
        }
    }

    /// Adds what another world counted.
    pub fn add(&mut self, other: &Tally) {
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// How often something happened.
    pub fn of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.counts {
            writeln!(f, "{count:>12} {name}")?;
        }
        Ok(())
    }
}

/// The name under which a request is counted.
pub(crate) fn output_name(output: &Output) -> &'static str {
    match output {
        Output::Look => "Look",
        Output::Connect => "Connect",
        Output::CancelConnect => "CancelConnect",
        Output::DiscardBack => "DiscardBack",
        Output::MarkConnected => "MarkConnected",
        Output::MarkFirstByte => "MarkFirstByte",
        Output::Receive { .. } => "Receive",
        Output::CancelReceive { .. } => "CancelReceive",
        Output::Send { .. } => "Send",
        Output::Gather { .. } => "Gather",
        Output::Recycle { .. } => "Recycle",
        Output::PollReadable { .. } => "PollReadable",
        Output::PollWritable { .. } => "PollWritable",
        Output::Watch { .. } => "Watch",
        Output::TakePipe { .. } => "TakePipe",
        Output::GivePipe { .. } => "GivePipe",
        Output::SpliceIn { .. } => "SpliceIn",
        Output::SpliceOut { .. } => "SpliceOut",
        Output::RingSpliceIn { .. } => "RingSpliceIn",
        Output::RingSpliceOut { .. } => "RingSpliceOut",
        Output::ShutdownWrite { .. } => "ShutdownWrite",
        Output::CheckUnsent { .. } => "CheckUnsent",
        Output::CancelAll { .. } => "CancelAll",
        Output::CloseSocket { .. } => "CloseSocket",
        Output::Finished(_) => "Finished",
    }
}

/// The name under which an answer is counted.
pub(crate) fn input_name(input: &Input) -> &'static str {
    match input {
        Input::Accepted => "accepted",
        Input::Connected(Ok(())) => "connected",
        Input::Connected(Err(_)) => "connect failed",
        Input::NoBackend => "no backend",
        Input::Received { .. } => "received",
        Input::EndOfStream { .. } => "end of stream",
        Input::ReceiveFailed { .. } => "receive failed",
        Input::Starved { .. } => "starved",
        Input::BuffersFree { .. } => "buffers free",
        Input::Sent { result: Ok(_), .. } => "sent",
        Input::Sent { result: Err(_), .. } => "send failed",
        Input::Readable { .. } => "readable",
        Input::Writable { .. } => "writable",
        Input::Watched {
            fault: Fault::Cancelled,
            ..
        } => "watch cancelled",
        Input::Watched { .. } => "watch broken",
        Input::Pipe { .. } => "pipe",
        Input::SplicedIn { .. } => "spliced in",
        Input::SplicedOut { .. } => "spliced out",
        Input::Unsent { .. } => "unsent",
        Input::Looked(_) => "looked",
        Input::Deadline => "deadline",
        Input::Close(_) => "close",
    }
}
