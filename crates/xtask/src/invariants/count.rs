//! Counting what a running process does while a load runs: system calls, other kernel events, calls
//! of a library function. Not tracing: where the kernel's counters may be used, the process is not
//! slowed down. Invariant: a count covers exactly the life of the load.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use super::load;
use super::rig::Rig;

/// What system calls can be counted with here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counter {
    /// The kernel's own counters, through `perf stat`.
    Perf,
    /// `strace -c`.
    Strace,
    Nothing,
}

/// A count and the result of the load it was taken during.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) count: u64,
    pub(super) result: Json,
}

impl Counter {
    /// The best that works here.
    pub(super) fn detect() -> Counter {
        if works(
            "perf",
            &["stat", "-e", "raw_syscalls:sys_enter", "--", "true"],
        ) {
            Counter::Perf
        } else if strace_works() {
            Counter::Strace
        } else {
            Counter::Nothing
        }
    }

    pub(super) fn describe(self) -> &'static str {
        match self {
            Counter::Perf => "perf stat (nothing is slowed down)",
            Counter::Strace => "strace (slows the balancer down, which favours batching)",
            Counter::Nothing => "nothing: neither perf events nor strace may be used",
        }
    }

    /// System calls of all threads of process `pid` while `command` runs; `None` if they cannot be
    /// counted here.
    pub(super) fn system_calls(
        self,
        rig: &Rig,
        pid: u32,
        command: &mut Command,
    ) -> io::Result<Option<Counted>> {
        match self {
            Counter::Perf => {
                let (counts, result) = perf(
                    rig,
                    Scope::Process(pid),
                    &["raw_syscalls:sys_enter"],
                    command,
                )?;
                Ok(Some(Counted {
                    count: counts.iter().sum(),
                    result,
                }))
            }
            Counter::Strace => {
                let (summary, result) = strace(rig, pid, &["-c"], command)?;
                let count = total_of(&summary)
                    .ok_or_else(|| io::Error::other(format!("no total in `{summary}`")))?;
                Ok(Some(Counted { count, result }))
            }
            Counter::Nothing => Ok(None),
        }
    }
}

/// Whether processes can be traced here.
pub(super) fn strace_works() -> bool {
    works("strace", &["-c", "true"])
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whose events are counted.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    Process(u32),
    Threads(Vec<u32>),
}

/// Counts each of `events` in `scope` while the load `command` runs. An event may be followed by
/// ` if ` and a tracepoint filter.
pub(super) fn perf(
    rig: &Rig,
    scope: Scope,
    events: &[&str],
    command: &mut Command,
) -> io::Result<(Vec<u64>, Json)> {
    let report = rig.path("perf.csv");
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x", ",", "-o"]).arg(&report);
    for event in events {
        let (event, filter) = event.split_once(" if ").unwrap_or((event, ""));
        perf.args(["-e", event]);
        if !filter.is_empty() {
            perf.args(["--filter", filter]);
        }
    }
    match scope {
        Scope::Process(pid) => perf.args(["-p", &pid.to_string()]),
        Scope::Threads(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            perf.args(["-t", &ids.join(",")])
        }
    };
    let arguments: Vec<&OsStr> = command.get_args().collect();
    perf.arg("--")
        .arg(command.get_program())
        .args(arguments)
        .stdin(Stdio::null());
    let result = load::run(&mut perf)?;
    let counts = counts_of(&fs::read_to_string(&report)?);
    match counts.len() == events.len() {
        true => Ok((counts, result)),
        false => Err(io::Error::other(format!("perf did not count {events:?}"))),
    }
}

/// What `strace` with `options` writes about process `pid` while the load `command` runs.
pub(super) fn strace(
    rig: &Rig,
    pid: u32,
    options: &[&str],
    command: &mut Command,
) -> io::Result<(String, Json)> {
    let report = rig.path("strace.txt");
    let mut strace = Command::new("strace")
        .args(options)
        .args(["-f", "-p", &pid.to_string(), "-o"])
        .arg(&report)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let attached = wait_until_attached(&mut strace);
    let result = attached.and_then(|()| load::run(command));
    if let Some(pid) = i32::try_from(strace.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::INT)?;
    }
    strace.wait()?;
    Ok((fs::read_to_string(&report)?, result?))
}

/// Waits for strace's line about the process it attached to; the rest of its messages goes on being
/// read, so that it never waits for a reader.
fn wait_until_attached(strace: &mut Child) -> io::Result<()> {
    let stderr = strace
        .stderr
        .take()
        .ok_or_else(|| io::Error::other("stderr is not piped"))?;
    let mut stderr = BufReader::new(stderr);
    let mut line = String::new();
    stderr.read_line(&mut line)?;
    if !line.contains("attached") {
        return Err(io::Error::other(format!("strace: {}", line.trim())));
    }
    std::thread::spawn(move || io::copy(&mut stderr, &mut io::sink()));
    Ok(())
}

/// The counts of a `perf stat -x ,` report, in order. An event of a thread that never ran is not
/// counted by perf, and is none.
pub(super) fn counts_of(report: &str) -> Vec<u64> {
    report
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains(','))
        .filter_map(|line| match line.split(',').next()? {
            "<not counted>" => Some(0),
            count => count.parse().ok(),
        })
        .collect()
}

/// The number of calls in the last line of `strace -c`.
fn total_of(summary: &str) -> Option<u64> {
    let total = summary
        .lines()
        .find(|line| line.trim_end().ends_with(" total"))?;
    total.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_perf_is_read() {
        let report = "# started on Mon\n\n144,,raw_syscalls:sys_enter,1000,100.00,,\n\
             <not counted>,,probe_libc:malloc,0,100.00,,\n<not supported>,,cycles,0,100.00,,\n";
        assert_eq!(counts_of(report), [144, 0]);
    }

    #[test]
    fn a_summary_of_strace_is_read() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
             ------ ----------- ----------- --------- --------- ----------------\n\
             99.00    0.5           1            17         2 io_uring_enter\n\
             ------ ----------- ----------- --------- --------- ----------------\n\
             100.00    0.5           1            19         2 total\n";
        assert_eq!(total_of(summary), Some(19));
        assert_eq!(total_of("nothing\n"), None);
    }
}
