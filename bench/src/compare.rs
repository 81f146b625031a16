//! `compare`: Ringway beside other balancers, pair by pair. Not the judge: `summary` is. Invariant:
//! both samples of a pair are taken one right after the other, in turns with Ringway first and last,
//! and the pairs of all peers are spread evenly over the time of a discipline.

mod contender;
pub(crate) mod discipline;
mod environment;
pub(crate) mod record;
mod rig;
pub(crate) mod sample;
pub(crate) mod summary;
pub(crate) mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cli::{Compare, PeerName};
use crate::peer::Relay;
use crate::stats::median;
use contender::{Contender, peer_name};
use discipline::{Discipline, Extent};
use record::{Environment, First, Pair, Participant, Peak, Run, Skipped};
use rig::{Rig, Servers};
use sample::{BULK_KEY, Metric, Rate, Sample};
use summary::OURSELVES;

const PAIRS: usize = 10;
/// Two more than an interval needs: the host may spoil some.
const PAIRS_QUICK: usize = 8;
const SAMPLE: Duration = Duration::from_secs(3);
const SAMPLE_QUICK: Duration = Duration::from_millis(600);
/// The peers of a quick run.
const QUICK_PEERS: [PeerName; 3] = [PeerName::Haproxy, PeerName::HaproxySplice, PeerName::Nginx];
/// Samples that a peer's peak is the median of.
const PEAK_SAMPLES: usize = 3;
/// The share of its peak at which a peer's tail is looked at.
const PEAK_SHARE: f64 = 0.7;

pub(crate) fn run(args: &Compare, json: bool) -> io::Result<()> {
    if args.install && !args.inside_namespace {
        install()?;
    }
    let is_root = rustix::process::getuid().is_root();
    let mut notes = Vec::new();
    let mut namespace = false;
    if args.inside_namespace {
        notes.extend(environment::furnish_namespace()?);
        namespace = true;
    } else if !is_root {
        notes.push("not root: on the host's loopback, with its settings and neighbours".to_owned());
    } else if !args.no_namespace {
        let error = environment::enter_namespace();
        notes.push(format!(
            "no network namespace ({error}): on the host's loopback"
        ));
    }
    let run = Comparison::new(args, namespace, notes)?.run(args.record.as_deref())?;
    let mut stdout = io::stdout().lock();
    if json {
        return writeln!(stdout, "{}", serde_json::to_string(&run)?);
    }
    let rows = summary::rows(&run);
    writeln!(stdout, "{}\n", table::about(&run))?;
    write!(stdout, "{}\n{}\n", table::text(&rows), table::totals(&rows))?;
    for Skipped { peer, reason } in &run.skipped {
        writeln!(stdout, "skipped: {peer}: {reason}")?;
    }
    for note in summary::unusable(&run).iter().chain(&run.notes) {
        writeln!(stdout, "note: {note}")?;
    }
    Ok(())
}

/// A comparison while it runs.
struct Comparison {
    rig: Rig,
    ringway: Contender,
    peers: Vec<Contender>,
    disciplines: Vec<&'static Discipline>,
    extent: Extent,
    pairs: usize,
    run: Run,
}

impl Comparison {
    fn new(args: &Compare, namespace: bool, mut notes: Vec<String>) -> io::Result<Comparison> {
        let rig = Rig::new(args.balancer_cpu, args.load_cpu)?;
        // Whatever this process does, it does beside the load and not beside the balancer.
        rig::stay_on(rig.load_cpu)?;
        if rig.balancer_cpu == rig.load_cpu {
            notes.push("balancer and load share a CPU: only the ratios mean something".to_owned());
        }
        let program = match &args.ringway {
            Some(program) => program.clone(),
            None => beside_this_program("ringway")?,
        };
        let ringway = Contender::ringway(OURSELVES, program)?;
        let (peers, skipped) = peers(args)?;
        let duration = args.seconds.unwrap_or(match args.quick {
            true => SAMPLE_QUICK,
            false => SAMPLE,
        });
        let extent = Extent {
            duration,
            warmup: args.warmup.unwrap_or(duration / 4),
            idle_connections: args.idle_connections.get(),
        };
        let pairs = args.pairs.map_or(PAIRS, std::num::NonZeroUsize::get);
        let pairs = if args.quick && args.pairs.is_none() {
            PAIRS_QUICK
        } else {
            pairs
        };
        let participants = std::iter::once(&ringway)
            .chain(&peers)
            .map(|contender| participant(contender, &rig))
            .collect::<io::Result<Vec<Participant>>>()?;
        let environment = Environment {
            date: environment::today(),
            command: command_line(),
            kernel: environment::kernel(),
            cpu: environment::cpu_model(),
            cpus: rig.cpus(),
            balancer_cpu: rig.balancer_cpu,
            load_cpu: rig.load_cpu,
            namespace,
            pairs,
            sample_ms: u64::try_from(extent.duration.as_millis()).unwrap_or(u64::MAX),
            warmup_ms: u64::try_from(extent.warmup.as_millis()).unwrap_or(u64::MAX),
            load_before: environment::load_average(),
            load_after: 0.0,
            knobs: environment::knobs(),
        };
        notes.push(format!(
            "congestion control: {}",
            environment::congestion_control()
        ));
        Ok(Comparison {
            disciplines: disciplines(args),
            rig,
            ringway,
            peers,
            extent,
            pairs,
            run: Run {
                environment,
                contenders: participants,
                skipped,
                peaks: Vec::new(),
                pairs: Vec::new(),
                notes,
            },
        })
    }

    /// Runs all disciplines, and records after each, so that one that is broken off is not lost.
    fn run(mut self, directory: Option<&Path>) -> io::Result<Run> {
        let count = self.disciplines.len();
        for (place, discipline) in self.disciplines.clone().into_iter().enumerate() {
            eprintln!(
                "{}/{count} {}: {}",
                place + 1,
                discipline.name,
                discipline.title
            );
            let most = contender::connections_max();
            if discipline.connections(&self.extent) > most {
                self.note(format!(
                    "{}: left out: the limit of descriptors suffices for {most} connections",
                    discipline.name
                ));
                continue;
            }
            if discipline.workers > self.rig.cpus() {
                self.note(format!("{}: left out: too few CPUs", discipline.name));
                continue;
            }
            self.compare(discipline)?;
            self.run.environment.load_after = environment::load_average();
            if let Some(directory) = directory {
                self.run.save(directory)?;
                let rows = summary::rows(&self.run);
                std::fs::write(directory.join("table.md"), table::markdown(&rows))?;
            }
        }
        Ok(self.run)
    }

    /// All pairs of one discipline.
    fn compare(&mut self, discipline: &'static Discipline) -> io::Result<()> {
        let servers = self.rig.serve(discipline)?;
        let mut entrants: Vec<(Contender, Option<Rate>)> = Vec::new();
        let itself = self.ringway.clone();
        for peer in std::iter::once(itself).chain(self.peers.clone()) {
            if discipline.load == discipline::Load::Idle && !peer.holds_many() {
                self.note(format!(
                    "{}: without {}, which needs two kernel threads for each idle connection",
                    discipline.name, peer.name
                ));
                continue;
            }
            if !peer.can_have(discipline.workers) {
                self.note(format!(
                    "{}: without {}, which has one worker",
                    discipline.name, peer.name
                ));
                continue;
            }
            if !discipline.is_paced() {
                entrants.push((peer, None));
            } else if let Some(rate) = self.pace(discipline, &servers, &peer) {
                entrants.push((peer, Some(rate)));
            }
        }
        for place in 0..self.pairs {
            for (number, (peer, rate)) in entrants.iter().enumerate() {
                let first = match (place + number) % 2 {
                    0 => First::Ours,
                    _ => First::Theirs,
                };
                match self.pair(discipline, &servers, peer, *rate, first) {
                    Ok(pair) => self.run.pairs.push(pair),
                    Err(error) => self.note(format!("{}: a pair failed: {error}", discipline.name)),
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        if !self.run.notes.contains(&note) {
            eprintln!("  {note}");
            self.run.notes.push(note);
        }
    }

    fn pair(
        &self,
        discipline: &Discipline,
        servers: &Servers,
        peer: &Contender,
        rate: Option<Rate>,
        first: First,
    ) -> io::Result<Pair> {
        let take = |contender| self.take(discipline, servers, contender, rate);
        let (ours, theirs) = match first {
            First::Ours => {
                let ours = take(&self.ringway)?;
                (ours, take(peer)?)
            }
            First::Theirs => {
                let theirs = take(peer)?;
                (take(&self.ringway)?, theirs)
            }
        };
        Ok(Pair {
            discipline: discipline.name.to_owned(),
            peer: peer.name.clone(),
            first,
            ours,
            theirs,
        })
    }

    fn take(
        &self,
        discipline: &Discipline,
        servers: &Servers,
        contender: &Contender,
        rate: Option<Rate>,
    ) -> io::Result<Sample> {
        sample::take(
            &self.rig,
            contender,
            discipline,
            servers,
            &self.extent,
            rate,
        )
    }

    /// The pace of a discipline at a share of `peer`'s peak, which is measured in the same setting.
    fn pace(
        &mut self,
        discipline: &Discipline,
        servers: &Servers,
        peer: &Contender,
    ) -> Option<Rate> {
        let (mut peaks, mut streams) = (Vec::new(), Vec::new());
        for _ in 0..PEAK_SAMPLES {
            match self.take(discipline, servers, peer, None) {
                Ok(sample) => {
                    peaks.extend(sample.get(Metric::OperationsPerSecond.key()));
                    streams.extend(sample.get(BULK_KEY));
                }
                Err(error) => self.note(format!("{}: {error}", discipline.name)),
            }
        }
        let peak = median(&peaks).unwrap_or_default();
        let bulk = median(&streams).map(|gigabit| gigabit * 1e9 / 8.0);
        // Rates are whole numbers, and far below what would not fit.
        let rate = Rate {
            round_trips: (peak * PEAK_SHARE) as u32,
            bulk_bytes: bulk.map(|bulk| ((bulk * PEAK_SHARE) as u64).max(1)),
        };
        if rate.round_trips == 0 {
            self.note(format!(
                "{}: without {}, whose peak could not be measured",
                discipline.name, peer.name
            ));
            return None;
        }
        self.run.peaks.push(Peak {
            discipline: discipline.name.to_owned(),
            peer: peer.name.clone(),
            peak,
            rate: rate.round_trips,
            bulk_rate: rate.bulk_bytes,
        });
        Some(rate)
    }
}

/// The disciplines that `args` ask for.
fn disciplines(args: &Compare) -> Vec<&'static Discipline> {
    let is_wanted = |discipline: &&Discipline| match args.only.is_empty() {
        true => !args.quick || discipline.is_quick(),
        false => args.only.iter().any(|name| discipline.is_named(name)),
    };
    discipline::ALL.iter().filter(is_wanted).collect()
}

/// The peers that `args` ask for, and those that cannot take part.
fn peers(args: &Compare) -> io::Result<(Vec<Contender>, Vec<Skipped>)> {
    let wanted: &[PeerName] = match (args.peers.is_empty(), args.quick) {
        (false, _) => &args.peers,
        (true, true) => &QUICK_PEERS,
        (true, false) => &PeerName::ALL,
    };
    let (mut peers, mut skipped) = (Vec::new(), Vec::new());
    if let Some(other) = &args.other {
        peers.push(Contender::ringway("other", other.clone())?);
    }
    for name in wanted {
        match Contender::peer(*name) {
            Ok(peer) => peers.push(peer),
            Err(reason) => {
                let peer = peer_name(*name).to_owned();
                eprintln!("skipped: {peer}: {reason}");
                skipped.push(Skipped { peer, reason });
            }
        }
    }
    Ok((peers, skipped))
}

/// What is recorded of a contender: how it is run in front of two servers, without where its files
/// are.
fn participant(contender: &Contender, rig: &Rig) -> io::Result<Participant> {
    let relay: Relay = "127.0.0.1:8080=127.0.0.1:9001+127.0.0.1:9002"
        .parse()
        .map_err(io::Error::other)?;
    let launch = contender.prepare(&rig.directory, &[relay], &rig.balancer_cpus(1))?;
    let directory = format!("{}/", rig.directory.display());
    Ok(Participant {
        name: contender.name.clone(),
        version: contender.version.clone(),
        command: without_places(launch.command.iter().map(String::as_str)),
        configuration: launch.configuration.replace(&directory, ""),
    })
}

/// The command line of this process.
fn command_line() -> String {
    let words: Vec<String> = std::env::args()
        .filter(|word| word != "--inside-namespace")
        .collect();
    without_places(words.iter().map(String::as_str))
}

/// The words of a command, paths shortened to their last part.
fn without_places<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words
        .map(
            |word| match word.starts_with('/') || word.starts_with('.') {
                true => word.rsplit('/').next().unwrap_or(word),
                false => word,
            },
        )
        .collect();
    words.join(" ")
}

fn beside_this_program(name: &str) -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let beside = this.parent().unwrap_or(Path::new(".")).join(name);
    match beside.is_file() {
        true => Ok(beside),
        false => Err(io::Error::other(format!(
            "{}: not there; build it (cargo build --release -p {name}) or name it with --{name}",
            beside.display()
        ))),
    }
}

/// Installs Debian's haproxy and nginx. Their services are not started.
fn install() -> io::Result<()> {
    let packages = [
        ("haproxy", PeerName::Haproxy, &["haproxy"][..]),
        (
            "nginx",
            PeerName::Nginx,
            &["nginx-light", "libnginx-mod-stream"][..],
        ),
    ];
    for (name, peer, packages) in packages {
        if Contender::peer(peer).is_ok() {
            continue;
        }
        eprintln!("installing {name}");
        for arguments in [
            &["update"][..],
            &["install", "-y", "--no-install-recommends"][..],
        ] {
            let is_install = arguments[0] == "install";
            let status = Command::new("apt-get")
                .args(arguments)
                .args(packages.iter().filter(|_| is_install))
                // Without a runlevel for it, Debian starts no service.
                .env("RUNLEVEL", "1")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdout(io::stderr())
                .status()
                .map_err(|error| io::Error::other(format!("apt-get: {error}")))?;
            if !status.success() {
                return Err(io::Error::other(format!(
                    "apt-get {}: {status}",
                    arguments[0]
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_recorded_without_places() {
        let words = [
            "/usr/sbin/haproxy",
            "-f",
            "/tmp/x/haproxy.conf",
            "./a",
            "a=b/c",
        ];
        assert_eq!(
            without_places(words.into_iter()),
            "haproxy -f haproxy.conf a a=b/c"
        );
    }
}
