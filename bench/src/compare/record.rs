//! A run as it is recorded: everything that was measured, and with what. The tables and pages are
//! made from it again at any time. Invariant: nothing in it names a person, a place or a host.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sample::Sample;

/// The file of a run in its directory.
pub(crate) const FILE: &str = "run.json";

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) environment: Environment,
    pub(crate) contenders: Vec<Participant>,
    /// Peers that did not take part, and why.
    pub(crate) skipped: Vec<Skipped>,
    /// What paced loads ran at.
    pub(crate) peaks: Vec<Peak>,
    pub(crate) pairs: Vec<Pair>,
    /// What a reader has to know.
    pub(crate) notes: Vec<String>,
}

/// The machine, and how it was set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// `YYYY-MM-DD`, in UTC.
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) balancer_cpu: usize,
    pub(crate) load_cpu: usize,
    /// Whether it ran in a network namespace of its own.
    pub(crate) namespace: bool,
    pub(crate) pairs: usize,
    pub(crate) sample_ms: u64,
    pub(crate) warmup_ms: u64,
    /// The load average of one minute, before and after.
    pub(crate) load_before: f64,
    pub(crate) load_after: f64,
    /// Kernel settings that matter.
    pub(crate) knobs: Vec<Knob>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Knob {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Who took part, and how it was run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Participant {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) command: String,
    pub(crate) configuration: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Skipped {
    pub(crate) peer: String,
    pub(crate) reason: String,
}

/// The peak of a peer in a discipline whose load is paced, and the pace, per second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Peak {
    pub(crate) discipline: String,
    pub(crate) peer: String,
    pub(crate) peak: f64,
    pub(crate) rate: u32,
    /// Bytes per second of the streams beside, where there are any and they are paced, too.
    #[serde(default)]
    pub(crate) bulk_rate: Option<u64>,
}

/// Two samples, one right after the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) discipline: String,
    /// `ringway` where Ringway ran against itself.
    pub(crate) peer: String,
    pub(crate) first: First,
    pub(crate) ours: Sample,
    pub(crate) theirs: Sample,
}

/// Who ran first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum First {
    Ours,
    Theirs,
}

impl Run {
    pub(crate) fn load(directory: &Path) -> io::Result<Run> {
        let path = directory.join(FILE);
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        let text = fs::read_to_string(&path).map_err(named)?;
        serde_json::from_str(&text).map_err(|error| named(error.into()))
    }

    pub(crate) fn save(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let text = serde_json::to_string_pretty(self)?;
        fs::write(directory.join(FILE), text + "\n")
    }
}
