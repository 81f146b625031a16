//! The servers behind an instance and the loads in front of it: processes of `ringway-bench`.
//! Invariant: a load that failed in any operation is an error here, whatever it measured.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value as Json;

use super::rig::Rig;

/// A process of servers.
#[derive(Debug)]
pub(super) struct Servers {
    child: Child,
    /// Ends the process when it is closed.
    _stdin: Option<ChildStdin>,
    addresses: Vec<(String, SocketAddr)>,
}

impl Servers {
    /// Starts one server of each of `kinds` (`echo`, `source`, ...; more than once for more
    /// addresses) on free ports, with `options`.
    pub(super) fn start(rig: &Rig, kinds: &[&str], options: &[&str]) -> io::Result<Servers> {
        let mut command = bench(rig);
        command.args(["serve", "--until-stdin-ends"]).args(options);
        for kind in kinds {
            command.arg(format!("--{kind}")).arg("127.0.0.1:0");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(piped(&mut child)?);
        let mut addresses = Vec::new();
        for _ in kinds {
            let mut line = String::new();
            stdout.read_line(&mut line)?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["listening", kind, address] => {
                    let address = address.parse().map_err(io::Error::other)?;
                    addresses.push(((*kind).to_owned(), address));
                }
                _ => {
                    return Err(io::Error::other(format!(
                        "the servers did not start: {line}"
                    )));
                }
            }
        }
        Ok(Servers {
            _stdin: child.stdin.take(),
            child,
            addresses,
        })
    }

    /// The addresses that serve `kind`.
    pub(super) fn of(&self, kind: &str) -> Vec<SocketAddr> {
        self.addresses
            .iter()
            .filter(|(name, _)| name == kind)
            .map(|(_, address)| *address)
            .collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // It holds nothing that has to be put in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connections that are held open.
#[derive(Debug)]
pub(super) struct Held {
    child: Child,
    _stdin: Option<ChildStdin>,
    _stdout: BufReader<ChildStdout>,
}

impl Held {
    /// Opens `count` connections to `to`, exchanges once on each and holds them until dropped.
    pub(super) fn open(rig: &Rig, to: &str, count: u64) -> io::Result<Held> {
        let mut child = bench(rig)
            .args([
                "idle",
                "--until-stdin-ends",
                "--to",
                to,
                "--connections",
                &count.to_string(),
                // Emulated machines are slow.
                "--patience",
                "10m",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(piped(&mut child)?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        if line != format!("holding {count}\n") {
            let _ = child.wait();
            return Err(io::Error::other(format!(
                "{count} connections could not be held: {line}"
            )));
        }
        Ok(Held {
            _stdin: child.stdin.take(),
            child,
            _stdout: stdout,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `ringway-bench` on the CPU of the load.
pub(super) fn bench(rig: &Rig) -> Command {
    let mut command = Command::new(&rig.bench);
    command
        .args(["--json", "--cpus", &rig.load_cpu.to_string()])
        .stdin(Stdio::null());
    command
}

/// A load with `arguments`.
pub(super) fn load(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = bench(rig);
    command.args(arguments);
    command
}

/// Runs a load to its end.
pub(super) fn run(command: &mut Command) -> io::Result<Json> {
    let output = command.stderr(Stdio::piped()).output()?;
    result(&output.stdout, &output.stderr)
}

/// Starts a load; [`finish`] waits for it.
pub(super) fn begin(command: &mut Command) -> io::Result<Child> {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Waits for a load that was begun.
pub(super) fn finish(child: Child) -> io::Result<Json> {
    let output = child.wait_with_output()?;
    result(&output.stdout, &output.stderr)
}

/// The result that a load printed, if nothing in it failed.
pub(super) fn result(stdout: &[u8], stderr: &[u8]) -> io::Result<Json> {
    let stdout = String::from_utf8_lossy(stdout);
    let last = stdout.lines().last().unwrap_or_default();
    let json: Json = serde_json::from_str(last).map_err(|_| {
        let stderr = String::from_utf8_lossy(stderr);
        io::Error::other(format!("the load gave no result: {}", stderr.trim()))
    })?;
    match json["failed"].as_u64() {
        Some(0) => Ok(json),
        Some(_) | None => Err(io::Error::other(format!("the load failed: {last}"))),
    }
}

/// A count of a result.
pub(super) fn figure(json: &Json, name: &str) -> io::Result<u64> {
    json[name]
        .as_u64()
        .ok_or_else(|| io::Error::other(format!("no {name} in {json}")))
}

fn piped(child: &mut Child) -> io::Result<ChildStdout> {
    child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("stdout is not piped"))
}
