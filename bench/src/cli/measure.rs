//! The part of the command line that compares and reports. Not what it does. Invariant: a name of a
//! discipline or of a peer that does not exist is refused here.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::compare::discipline::{self, Discipline};
use crate::peer::Relay;
use crate::values::{duration, duration_not_zero};

#[derive(Debug, Clone, Args)]
pub(crate) struct Compare {
    /// Only these disciplines, by name or by the beginning of one: rr, crr-reset, ...
    #[arg(long, value_delimiter = ',', value_parser = discipline_name, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Only these peers
    #[arg(long, value_delimiter = ',', value_enum, value_name = "PEER")]
    pub(crate) peers: Vec<PeerName>,
    /// Pairs of samples for each discipline and peer; an interval needs 6 [default: 10, or 8 if quick]
    #[arg(long, value_name = "N")]
    pub(crate) pairs: Option<NonZeroUsize>,
    /// How long a sample is measured [default: 3s, or 600ms if quick]
    #[arg(long, value_parser = duration_not_zero, value_name = "TIME")]
    pub(crate) seconds: Option<Duration>,
    /// How long a sample runs before it is measured [default: a fourth of that]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub(crate) warmup: Option<Duration>,
    /// Held connections of the discipline `idle`
    #[arg(long, default_value = "5000", value_name = "N")]
    pub(crate) idle_connections: NonZeroUsize,
    /// A few disciplines and short samples, under ten minutes in all
    #[arg(long)]
    pub(crate) quick: bool,
    /// Install the packages haproxy and nginx first if they are missing (apt-get, as root)
    #[arg(long)]
    pub(crate) install: bool,
    /// The binary to measure [default: the `ringway` beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) ringway: Option<PathBuf>,
    /// Another build of Ringway, as one more peer
    #[arg(long, value_name = "FILE")]
    pub(crate) other: Option<PathBuf>,
    /// The CPU of the balancer [default: the first usable one]
    #[arg(long, value_name = "CPU")]
    pub(crate) balancer_cpu: Option<usize>,
    /// The CPU of clients and servers [default: the last usable one]
    #[arg(long, value_name = "CPU")]
    pub(crate) load_cpu: Option<usize>,
    /// Record the run in this directory, as it goes
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// Stay on the loopback of the host even as root
    #[arg(long)]
    pub(crate) no_namespace: bool,
    #[arg(long, hide = true)]
    pub(crate) inside_namespace: bool,
}

/// Who Ringway is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeerName {
    Haproxy,
    HaproxySplice,
    Nginx,
    Tokio,
    Monoio,
}

impl PeerName {
    pub(crate) const ALL: [PeerName; 5] = [
        PeerName::Haproxy,
        PeerName::HaproxySplice,
        PeerName::Nginx,
        PeerName::Tokio,
        PeerName::Monoio,
    ];
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Directories of recorded runs
    #[arg(required = true, value_name = "DIR")]
    pub(crate) runs: Vec<PathBuf>,
    /// Write the page here
    #[arg(long, value_name = "FILE", required_unless_present = "markdown")]
    pub(crate) out: Option<PathBuf>,
    /// Print the table in Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
}

/// What a baseline runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// tokio, copying
    Tokio,
    /// monoio, with its zero_copy
    Monoio,
}

#[derive(Debug, Args)]
pub(crate) struct Peer {
    /// The runtime
    pub(crate) runtime: Runtime,
    /// From where to where; may be repeated
    #[arg(
        long = "relay",
        required = true,
        value_name = "LISTEN=BACKEND[+BACKEND...]"
    )]
    pub(crate) relays: Vec<Relay>,
}

#[derive(Debug, Args)]
pub(crate) struct Leash {
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<String>,
}

fn discipline_name(text: &str) -> Result<String, String> {
    let known = |discipline: &Discipline| discipline.is_named(text);
    match discipline::ALL.iter().any(known) {
        true => Ok(text.to_owned()),
        false => {
            let names: Vec<&str> = discipline::ALL.iter().map(|known| known.name).collect();
            Err(format!("there are {}", names.join(", ")))
        }
    }
}
