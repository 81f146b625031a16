//! The command line: every command, flag and help text. Not what a command does. Invariant: every
//! command's help ends with an example, and a value that is wrong is refused here, with exit code 2.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod measure;

pub(crate) use measure::{Compare, Leash, Peer, PeerName, Report, Runtime};

use crate::values::{duration, size, size_not_zero};

/// Most source addresses: 127.0.0.2 to 127.0.0.251.
const SOURCES_MAX: i64 = 250;
/// Longest request of `crr`, in bytes: servers keep it whole.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;

/// Load for a TCP balancer, the servers behind it, and comparisons with other balancers.
#[derive(Debug, Parser)]
#[command(name = "ringway-bench", version, arg_required_else_help = true)]
#[command(after_help = "Example: ringway-bench serve --echo 127.0.0.1:9001\n\n\
    Exit codes: 0 everything succeeded, 1 something failed, 2 wrong usage.")]
pub(crate) struct Cli {
    /// Print the result as one line of JSON instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Run on these CPUs only, such as 1 or 1,3
    #[arg(long, global = true, value_delimiter = ',', value_name = "CPU")]
    pub(crate) cpus: Vec<usize>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve: echo, source, sink, reply
    #[command(
        long_about = "Serve until killed, or until standard input ends.\n\n\
            Prints `listening KIND ADDRESS` for each listener once all of them are bound; port 0 picks \
            a free one. Each kind may be repeated.",
        after_help = "Example: ringway-bench serve --echo 127.0.0.1:9001 --source 127.0.0.1:9002"
    )]
    Serve(Serve),
    /// Round trips on kept connections, against an echo server
    #[command(
        long_about = "Round trips on kept connections, against an echo server.\n\n\
            Closed loop by default: each connection sends again as soon as it has its answer. With \
            --rate, round trips start at fixed times whether or not earlier ones were answered, and \
            their latency counts from when they should have started.",
        after_help = "Example: ringway-bench rr --to 127.0.0.1:8080 --connections 64 --duration 5s"
    )]
    Rr(Rr),
    /// Connect, request, reply, close, against a reply server
    #[command(
        long_about = "Connect, request, reply, close, against a reply server.\n\n\
            The latency is that of the whole life, from connect to the end that is due.",
        after_help = "Example: ringway-bench crr --to 127.0.0.1:8080 --parallel 32 --count 50000"
    )]
    Crr(Crr),
    /// Streams, against a source (down, both), a sink (up) or an echo server (echo)
    #[command(
        after_help = "Example: ringway-bench bulk --to 127.0.0.1:8080 --direction down --bytes 1GiB"
    )]
    Bulk(Bulk),
    /// Open connections, exchange once on each, hold them; against an echo server
    #[command(
        long_about = "Open connections, exchange once on each, hold them; against an echo server.\n\n\
            Prints `holding N` when all have exchanged.",
        after_help = "Example: ringway-bench idle --to 127.0.0.1:8080 --connections 5000 --hold 30s"
    )]
    Idle(Idle),
    /// Round trips beside streams: mice and elephants; against an echo server and a source
    #[command(
        long_about = "Round trips beside streams: mice and elephants; against an echo server and a \
            source.\n\n\
            The figures are those of the round trips; those of the streams are named bulk_...",
        after_help = "Example: ringway-bench mixed --to 127.0.0.1:8080 --bulk-to 127.0.0.1:8081 --streams 4"
    )]
    Mixed(Mixed),
    /// Connections that come and go, each with a life of its own length; against an echo server
    #[command(
        long_about = "Connections that come and go, each with a life of its own length; against an \
            echo server.\n\n\
            Each does from one to twice --trips round trips and ends, some by reset; another takes its \
            place at once.",
        after_help = "Example: ringway-bench churn --to 127.0.0.1:8080 --connections 256 --trips 20"
    )]
    Churn(Churn),
    /// Measure Ringway against other balancers, side by side
    #[command(
        long_about = "Measure Ringway against other balancers, side by side.\n\n\
            One worker each, pinned to one CPU, with the load on another (two of them where a \
            discipline says so, beside the load if there is no third CPU); in A B B A pairs, each sample \
            with a fresh start. As root in a network namespace of its own with cubic. Ratios are \
            Hodges-Lehmann estimates over the pairs with the exact 95 % interval of the signed-rank \
            test; what Ringway against itself shows is the noise floor.",
        after_help = "Example: ringway-bench compare --quick --peers haproxy,nginx"
    )]
    Compare(Compare),
    /// Turn recorded runs into a page with plots, or into a table in Markdown
    #[command(
        after_help = "Example: ringway-bench report bench/runs/2026-11-22-vm-2cpu --out report.html"
    )]
    Report(Report),
    /// A proxy of a few lines on another runtime, as a baseline
    #[command(
        after_help = "Example: ringway-bench peer tokio --relay 127.0.0.1:8080=127.0.0.1:9001"
    )]
    Peer(Peer),
    /// Run a program that ends when standard input does
    #[command(hide = true, after_help = "Example: ringway-bench leash -- sleep 60")]
    Leash(Leash),
}

#[derive(Debug, Args)]
#[group(id = "kinds", required = true, multiple = true,
    args = ["echo", "source", "sink", "reply", "stall"])]
pub(crate) struct Serve {
    /// Send back what comes
    #[arg(long, value_name = "ADDR")]
    pub(crate) echo: Vec<SocketAddr>,
    /// Read a length (8 bytes, big endian; all ones: no end) and send that much
    #[arg(long, value_name = "ADDR")]
    pub(crate) source: Vec<SocketAddr>,
    /// Read and discard
    #[arg(long, value_name = "ADDR")]
    pub(crate) sink: Vec<SocketAddr>,
    /// Read one request, send one reply made of its bytes
    #[arg(long, value_name = "ADDR")]
    pub(crate) reply: Vec<SocketAddr>,
    /// Accept and read nothing
    #[arg(long, value_name = "ADDR")]
    pub(crate) stall: Vec<SocketAddr>,
    #[command(flatten)]
    pub(crate) exchange: Exchange,
    /// Threads, each with its own sockets for every listener
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) threads: NonZeroUsize,
    /// End when standard input ends, and print what was counted
    #[arg(long)]
    pub(crate) until_stdin_ends: bool,
}

/// What both ends of `crr` must agree on.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Exchange {
    /// Length of a request
    #[arg(long, default_value = "64", value_parser = request_size, value_name = "SIZE")]
    pub(crate) request_size: u64,
    /// Length of a reply
    #[arg(long, default_value = "64", value_parser = size_not_zero, value_name = "SIZE")]
    pub(crate) reply_size: u64,
    /// Who closes first once the reply is there
    #[arg(long, default_value = "client", value_name = "SIDE")]
    pub(crate) close: Side,
    /// How it closes
    #[arg(long, default_value = "fin", value_name = "HOW")]
    pub(crate) how: Ending,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    Client,
    Server,
}

/// How a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ending {
    Fin,
    Reset,
}

/// What every load has.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Where to connect; connections take turns over several
    #[arg(long, required = true, value_name = "ADDR")]
    pub(crate) to: Vec<SocketAddr>,
    /// Connect from 127.0.0.2 and the N-1 addresses after it in turn, to have more ports
    #[arg(long, default_value = "0", value_name = "N",
        value_parser = clap::value_parser!(u8).range(..=SOURCES_MAX))]
    pub(crate) sources: u8,
    /// Threads, each with its share of the connections
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) threads: NonZeroUsize,
    /// How long what is unfinished may stay so before it counts as stuck
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub(crate) patience: Duration,
    /// Say how it goes once per second on standard error, as is done on a terminal anyway
    #[arg(long)]
    pub(crate) progress: bool,
}

impl Target {
    /// Without anything special.
    #[cfg(test)]
    pub(crate) fn to(to: Vec<SocketAddr>, threads: NonZeroUsize) -> Target {
        Target {
            to,
            sources: 0,
            threads,
            patience: Duration::from_secs(10),
            progress: false,
        }
    }
}

/// When a load ends.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Extent {
    /// Measure for this long
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub(crate) duration: Duration,
    /// Do this for as long before measuring
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "TIME")]
    pub(crate) warmup: Duration,
    /// Do exactly this many instead
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "warmup"])]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Rr {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) extent: Extent,
    /// Connections
    #[arg(long, default_value = "64", value_name = "N")]
    pub(crate) connections: NonZeroUsize,
    /// Length of a message
    #[arg(long, default_value = "64", value_parser = size_not_zero, value_name = "SIZE")]
    pub(crate) size: u64,
    /// Round trips per second in all, at fixed times (open loop)
    #[arg(long, value_name = "N", conflicts_with = "count",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Mixed {
    #[command(flatten)]
    pub(crate) rr: Rr,
    /// Where the streams connect, to a source; they take turns over several
    #[arg(long, required = true, value_name = "ADDR")]
    pub(crate) bulk_to: Vec<SocketAddr>,
    /// Streams at a time
    #[arg(long, default_value = "4", value_name = "N")]
    pub(crate) streams: NonZeroUsize,
    /// Take at most this many bytes per second of the streams
    #[arg(long, value_parser = size_not_zero, value_name = "SIZE")]
    pub(crate) bulk_rate: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Churn {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) extent: Extent,
    /// Connections at a time
    #[arg(long, default_value = "64", value_name = "N")]
    pub(crate) connections: NonZeroUsize,
    /// Round trips of a connection, on average
    #[arg(long, default_value = "10", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) trips: u32,
    /// How many of a hundred connections end by reset instead of FIN
    #[arg(long, default_value = "10", value_name = "PERCENT",
        value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) resets: u8,
    /// Length of a message
    #[arg(long, default_value = "64", value_parser = size_not_zero, value_name = "SIZE")]
    pub(crate) size: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Crr {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) extent: Extent,
    /// Connections at a time
    #[arg(long, default_value = "32", value_name = "N")]
    pub(crate) parallel: NonZeroUsize,
    #[command(flatten)]
    pub(crate) exchange: Exchange,
}

/// Which way the bytes of `bulk` go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    /// From the generator to a sink
    Up,
    /// From a source to the generator
    Down,
    /// Both at once, against a source
    Both,
    /// To an echo server and back
    Echo,
}

#[derive(Debug, Args)]
pub(crate) struct Bulk {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Which way
    #[arg(long, default_value = "down", value_name = "DIRECTION")]
    pub(crate) direction: Direction,
    /// Streams at a time
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) streams: NonZeroUsize,
    /// Stop sending after this long
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub(crate) duration: Duration,
    /// Send exactly this much on each stream, each way, instead
    #[arg(long, value_parser = size, value_name = "SIZE", conflicts_with = "duration")]
    pub(crate) bytes: Option<u64>,
    /// Take at most this many bytes per second, all streams together, and leave the rest where it is
    #[arg(long, value_parser = size_not_zero, value_name = "SIZE")]
    pub(crate) rate: Option<u64>,
    /// Compare every byte that comes with what was due (always so for echo)
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Connections
    #[arg(long, default_value = "1000", value_name = "N")]
    pub(crate) connections: NonZeroUsize,
    /// Length of the message exchanged once
    #[arg(long, default_value = "64", value_parser = size_not_zero, value_name = "SIZE")]
    pub(crate) size: u64,
    /// Hold them for this long
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub(crate) hold: Duration,
    /// Hold them until standard input ends instead
    #[arg(long, conflicts_with = "hold")]
    pub(crate) until_stdin_ends: bool,
}

fn request_size(text: &str) -> Result<u64, String> {
    match size_not_zero(text)? {
        bytes if bytes > REQUEST_BYTES_MAX => Err("must be at most 64KiB".to_owned()),
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_ends_with_an_example() {
        for command in Cli::command().get_subcommands() {
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let wanted = format!("Example: ringway-bench {} ", command.get_name());
            assert!(
                after.starts_with(&wanted),
                "{}: {after}",
                command.get_name()
            );
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "serve",
            "rr",
            "rr --to 127.0.0.1:1 --rate 0",
            "rr --to 127.0.0.1:1 --rate 5 --count 5",
            "rr --to 127.0.0.1:1 --connections 0",
            "rr --to 127.0.0.1:1 --size 0",
            "crr --to 127.0.0.1:1 --request-size 65KiB",
            "crr --to 127.0.0.1:1 --sources 251",
            "bulk --to 127.0.0.1:1 --bytes 1GiB --duration 1s",
            "idle --to localhost --connections 5",
            "mixed --to 127.0.0.1:1",
            "churn --to 127.0.0.1:1 --trips 0",
            "churn --to 127.0.0.1:1 --resets 101",
            "compare --pairs 0",
            "compare --only nothing-of-this-name",
            "compare --peers apache",
            "compare --seconds 0s",
            "report",
            "peer tokio",
            "leash",
        ] {
            let words = ["ringway-bench"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
