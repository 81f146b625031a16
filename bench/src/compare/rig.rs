//! The processes of a comparison: balancers on their CPU, servers and loads on the other. Invariant:
//! everything started is on a leash, so that nothing outlives this process however it ends.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value as Json;

use super::contender::Contender;
use super::discipline::{Backends, Discipline};
use crate::peer::Relay;

/// How long a balancer may take until it accepts connections.
const READY_MAX: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Where and with what samples are taken.
#[derive(Debug)]
pub(super) struct Rig {
    bench: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) balancer_cpu: usize,
    pub(super) load_cpu: usize,
    /// CPUs that may be used.
    usable: Vec<usize>,
}

/// Who runs where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Places {
    balancer: Vec<usize>,
    load: Vec<usize>,
}

fn list(cpus: &[usize]) -> String {
    let numbers: Vec<String> = cpus.iter().map(usize::to_string).collect();
    numbers.join(",")
}

impl Rig {
    pub(super) fn new(balancer_cpu: Option<usize>, load_cpu: Option<usize>) -> io::Result<Rig> {
        let usable = sched_getaffinity(None)?;
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|cpu| usable.is_set(*cpu))
            .collect();
        let none = || io::Error::other("no CPU is usable");
        let first = *cpus.first().ok_or_else(none)?;
        let last = *cpus.last().ok_or_else(none)?;
        let directory =
            std::env::temp_dir().join(format!("ringway-compare-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        Ok(Rig {
            bench: std::env::current_exe()?,
            directory,
            balancer_cpu: balancer_cpu.unwrap_or(first),
            load_cpu: load_cpu.unwrap_or(last),
            usable: cpus,
        })
    }

    /// CPUs that may be used.
    pub(super) fn cpus(&self) -> usize {
        self.usable.len()
    }

    /// The CPUs of the balancer's workers.
    pub(super) fn balancer_cpus(&self, workers: usize) -> Vec<usize> {
        self.places(workers).balancer
    }

    /// Each worker has a CPU. Where there are too few, the load runs beside the workers on all of theirs.
    fn places(&self, workers: usize) -> Places {
        let (own, load) = (self.balancer_cpu, self.load_cpu);
        let others = self.usable.iter().copied();
        let others = others.filter(|cpu| ![own, load].contains(cpu));
        let mut balancer: Vec<usize> = [own].into_iter().chain(others).take(workers).collect();
        if balancer.len() == workers {
            let load = vec![load];
            return Places { balancer, load };
        }
        if load != own {
            balancer.push(load);
        }
        let load = balancer.clone();
        Places { balancer, load }
    }

    /// Starts the servers of `discipline`.
    pub(super) fn serve(&self, discipline: &Discipline) -> io::Result<Servers> {
        let wanted = discipline.backends();
        let mut command = Command::new(&self.bench);
        let cpus = list(&self.places(discipline.workers).load);
        command.args(["--json", "--cpus", &cpus]);
        command
            .args(["serve", "--until-stdin-ends"])
            .args(discipline.exchange());
        for Backends { kind, count } in &wanted {
            for _ in 0..*count {
                command.args([&format!("--{kind}"), "127.0.0.1:0"]);
            }
        }
        let mut leash = Leash::start(&mut command)?;
        let mut addresses = Vec::new();
        for Backends { count, .. } in &wanted {
            let mut of_kind = Vec::with_capacity(*count);
            for _ in 0..*count {
                of_kind.push(address(&leash.line()?)?);
            }
            addresses.push(of_kind);
        }
        Ok(Servers {
            _leash: leash,
            addresses,
        })
    }

    /// Starts `contender` in front of `servers` and waits until it accepts.
    pub(super) fn start(
        &self,
        contender: &Contender,
        servers: &Servers,
        workers: usize,
    ) -> io::Result<Balancer> {
        let relays = servers
            .addresses
            .iter()
            .map(|backends| {
                Ok(Relay {
                    listen: free_address()?,
                    backends: backends.clone(),
                })
            })
            .collect::<io::Result<Vec<Relay>>>()?;
        let cpus = self.balancer_cpus(workers);
        let launch = contender.prepare(&self.directory, &relays, &cpus)?;
        let named = |error| io::Error::other(format!("{}: {error}", contender.name));
        let mut command = Command::new(&self.bench);
        command
            .args(["--cpus", &list(&cpus), "leash", "--"])
            .args(&launch.command);
        let mut leash = Leash::start(&mut command).map_err(named)?;
        let line = leash.line().map_err(named)?;
        let pid = line.trim().strip_prefix("running ");
        let pid = pid
            .and_then(|pid| pid.parse().ok())
            .ok_or_else(|| io::Error::other(format!("{}: did not start", contender.name)))?;
        for relay in &relays {
            wait_until_accepting(relay.listen, pid).map_err(named)?;
        }
        Ok(Balancer { leash, pid, relays })
    }

    /// Runs a load to its end. One with failures has a result, too.
    pub(super) fn load(&self, line: &[String], workers: usize) -> io::Result<Json> {
        let output = Command::new(&self.bench)
            .args(["--json", "--cpus", &list(&self.places(workers).load)])
            .args(line)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last)
            .map_err(|_| io::Error::other(format!("{}: no result", line.join(" "))))
    }

    /// Runs a load that holds connections, until it holds them.
    pub(super) fn hold(&self, line: &[String]) -> io::Result<Held> {
        let mut command = Command::new(&self.bench);
        command
            .args(["--json", "--cpus", &self.load_cpu.to_string()])
            .args(line);
        let mut leash = Leash::start(&mut command)?;
        let said = leash.line()?;
        let connections = said.trim().strip_prefix("holding ");
        let connections: u64 = connections
            .and_then(|count| count.parse().ok())
            .filter(|count| *count > 0)
            .ok_or_else(|| io::Error::other("no connection could be held"))?;
        Ok(Held { leash, connections })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // What is left of it is in the way of nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A process that ends when its standard input does.
#[derive(Debug)]
struct Leash {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Leash {
    fn start(command: &mut Command) -> io::Result<Leash> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().expect("invariant: it is piped");
        Ok(Leash {
            stdin: child.stdin.take(),
            stdout: BufReader::new(stdout),
            child,
        })
    }

    /// The next line that it prints.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line)? {
            0 => Err(io::Error::other("ended too early")),
            _ => Ok(line),
        }
    }

    /// Lets it end, and returns the rest of what it prints.
    fn end(mut self) -> io::Result<String> {
        self.stdin = None;
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest)?;
        self.child.wait()?;
        Ok(rest)
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.stdin = None;
        // Has been waited for already if it was ended in order.
        let _ = self.child.wait();
    }
}

/// The servers behind the balancers.
#[derive(Debug)]
pub(super) struct Servers {
    _leash: Leash,
    /// The addresses of each kind.
    addresses: Vec<Vec<SocketAddr>>,
}

/// A balancer that runs.
#[derive(Debug)]
pub(super) struct Balancer {
    leash: Leash,
    pid: u32,
    relays: Vec<Relay>,
}

impl Balancer {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The flags that lead a load to it: round trips to the first listener, streams to the second.
    pub(super) fn targets(&self) -> Vec<String> {
        let flags = ["--to", "--bulk-to"];
        self.relays
            .iter()
            .zip(flags)
            .flat_map(|(relay, flag)| [flag.to_owned(), relay.listen.to_string()])
            .collect()
    }

    pub(super) fn end(self) -> io::Result<()> {
        self.leash.end().map(|_| ())
    }
}

/// Connections that are held.
#[derive(Debug)]
pub(super) struct Held {
    leash: Leash,
    pub(super) connections: u64,
}

impl Held {
    /// Lets them go, and says how many failed.
    pub(super) fn end(self) -> io::Result<u64> {
        let rest = self.leash.end()?;
        let last = rest.lines().last().unwrap_or_default();
        let result: Json = serde_json::from_str(last)?;
        Ok(result["failed"].as_u64().unwrap_or_default())
    }
}

/// The address in a line `listening KIND ADDRESS`.
fn address(line: &str) -> io::Result<SocketAddr> {
    let last = line.split_whitespace().last();
    last.and_then(|address| address.parse().ok())
        .ok_or_else(|| io::Error::other(format!("the servers said: {line}")))
}

/// An address that nobody listened on a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn wait_until_accepting(address: SocketAddr, pid: u32) -> io::Result<()> {
    let start = Instant::now();
    let process = PathBuf::from(format!("/proc/{pid}"));
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(_) if !process.exists() => return Err(io::Error::other("ended at its start")),
            Err(error) if start.elapsed() > READY_MAX => return Err(error),
            Err(_) => thread::sleep(LOOK_INTERVAL),
        }
    }
}

/// Keeps this thread, and what it starts from now on, on `cpu`.
pub(super) fn stay_on(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_has_a_cpu_of_its_own_where_there_is_one() {
        let rig = |usable: &[usize], load_cpu| Rig {
            bench: PathBuf::new(),
            directory: PathBuf::from("/nonexistent"),
            balancer_cpu: usable[0],
            load_cpu,
            usable: usable.to_vec(),
        };
        let places = |balancer: &[usize], load: &[usize]| Places {
            balancer: balancer.to_vec(),
            load: load.to_vec(),
        };
        assert_eq!(rig(&[0, 1], 1).places(1), places(&[0], &[1]));
        assert_eq!(rig(&[0, 1], 1).places(2), places(&[0, 1], &[0, 1]));
        assert_eq!(rig(&[0, 1, 2, 3], 3).places(2), places(&[0, 1], &[3]));
        assert_eq!(rig(&[5], 5).places(2), places(&[5], &[5]));
    }

    #[test]
    fn the_address_of_a_server_is_the_last_word() {
        let found = address("listening echo 127.0.0.1:77\n").unwrap();
        assert_eq!(found.port(), 77);
        assert!(address("listening echo\n").is_err());
    }

    #[test]
    fn a_leash_that_ends_too_early_says_so() {
        let mut leash = Leash::start(&mut Command::new("true")).unwrap();
        assert_eq!(leash.line().unwrap_err().to_string(), "ended too early");
    }

    #[test]
    fn a_leash_ends_with_its_input() {
        let leash = Leash::start(&mut Command::new("cat")).unwrap();
        assert_eq!(leash.end().unwrap(), "");
    }
}
