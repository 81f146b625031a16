//! What `/proc` says about processes and the machine: CPU time, context switches, memory, kernel
//! threads. Parsers take text; readers find it. Invariant: time of a thread that has ended is not
//! lost, it is then taken from the process's own sum.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Nanoseconds of a tick of `/proc/PID/stat`: user space sees 100 per second on every architecture.
const TICK_NS: u64 = 10_000_000;

/// How the kernel names the threads that do io_uring's blocking work.
const IO_WORKER: &str = "iou-wrk";

/// What a set of processes had used at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    processes: BTreeMap<u32, Process>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Process {
    /// Time on a CPU of each thread, by its number.
    threads_ns: BTreeMap<u32, u64>,
    /// The process's own sum, ended threads included, in whole ticks.
    total_ns: u64,
    switches: u64,
    io_workers: u64,
}

impl Usage {
    /// Of `pid` and everything that descends from it.
    pub(crate) fn of_tree(pid: u32) -> io::Result<Usage> {
        let mut usage = Usage::default();
        for pid in tree(pid)? {
            // One that ends meanwhile has nothing to say.
            if let Ok(process) = process(pid) {
                usage.processes.insert(pid, process);
            }
        }
        Ok(usage)
    }

    /// CPU time since `before`.
    pub(crate) fn cpu_ns_since(&self, before: &Usage) -> u64 {
        let none = Process::default();
        let each = self.processes.iter().map(|(pid, now)| {
            let before = before.processes.get(pid).unwrap_or(&none);
            let lost = before
                .threads_ns
                .keys()
                .any(|thread| !now.threads_ns.contains_key(thread));
            if lost {
                return now.total_ns.saturating_sub(before.total_ns);
            }
            let sum = |process: &Process| process.threads_ns.values().sum::<u64>();
            sum(now).saturating_sub(sum(before))
        });
        each.sum()
    }

    /// Context switches since `before`.
    pub(crate) fn switches_since(&self, before: &Usage) -> u64 {
        let sum = |usage: &Usage| usage.processes.values().map(|p| p.switches).sum::<u64>();
        sum(self).saturating_sub(sum(before))
    }

    /// Kernel threads that do io_uring's blocking work.
    pub(crate) fn io_workers(&self) -> u64 {
        self.processes.values().map(|p| p.io_workers).sum()
    }
}

fn process(pid: u32) -> io::Result<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut found = Process {
        total_ns: stat_cpu_ns(&stat).unwrap_or_default(),
        ..Process::default()
    };
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        let Some(thread) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read = |name| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let run_ns = schedstat_run_ns(&read("schedstat")).unwrap_or_default();
        found.threads_ns.insert(thread, run_ns);
        found.switches += status_switches(&read("status"));
        found.io_workers += u64::from(read("comm").starts_with(IO_WORKER));
    }
    Ok(found)
}

/// `pid` and everything that descends from it.
fn tree(pid: u32) -> io::Result<Vec<u32>> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = stat_parent(&stat) {
            parents.push((pid, parent));
        }
    }
    Ok(descendants(pid, &parents))
}

/// `root` and what descends from it, given (process, parent) of everything.
fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut place = 0;
    while place < found.len() {
        let parent = found[place];
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(pid, _)| *pid));
        place += 1;
    }
    found
}

/// Memory of a set of processes, in bytes. Pages of files are left out: programs and libraries are
/// mapped by whoever else runs them at the time, and belong to no connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Each page of no file divided by the number of processes that map it.
    pub(crate) proportional: u64,
    /// Pages that nobody else maps, those of files included.
    pub(crate) private: u64,
}

impl Memory {
    /// Of `pid` and everything that descends from it.
    pub(crate) fn of_tree(pid: u32) -> io::Result<Memory> {
        let mut sum = Memory::default();
        for pid in tree(pid)? {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let memory = rollup(&text);
            sum.proportional += memory.proportional;
            sum.private += memory.private;
        }
        Ok(sum)
    }
}

fn rollup(text: &str) -> Memory {
    let bytes = |name: &str| field(text, name).unwrap_or_default() * 1024;
    Memory {
        proportional: bytes("Pss_Anon:") + bytes("Pss_Shmem:"),
        private: bytes("Private_Clean:") + bytes("Private_Dirty:"),
    }
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}

/// CPU time of the whole machine, in nanoseconds since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) busy_ns: u64,
    /// What the host took away.
    pub(crate) steal_ns: u64,
}

impl Machine {
    pub(crate) fn now() -> io::Result<Machine> {
        machine(&fs::read_to_string("/proc/stat")?)
            .ok_or_else(|| io::Error::other("/proc/stat has no line of all CPUs"))
    }

    pub(crate) fn since(&self, before: &Machine) -> Machine {
        Machine {
            busy_ns: self.busy_ns.saturating_sub(before.busy_ns),
            steal_ns: self.steal_ns.saturating_sub(before.steal_ns),
        }
    }
}

/// Order in `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn machine(text: &str) -> Option<Machine> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let tick = |place: usize| ticks.get(place).copied();
    let busy = tick(0)? + tick(1)? + tick(2)? + tick(5)? + tick(6)?;
    Some(Machine {
        busy_ns: busy * TICK_NS,
        steal_ns: tick(7)? * TICK_NS,
    })
}

/// Time on a CPU.
fn schedstat_run_ns(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn status_switches(text: &str) -> u64 {
    ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]
        .iter()
        .filter_map(|name| field(text, name))
        .sum()
}

/// The fields of `/proc/PID/stat` after the name, which may hold spaces and parentheses itself.
fn stat_fields(text: &str) -> Option<Vec<&str>> {
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().collect())
}

fn stat_parent(text: &str) -> Option<u32> {
    stat_fields(text)?.get(1)?.parse().ok()
}

/// User and system time, which the kernel scales to the exact sum.
fn stat_cpu_ns(text: &str) -> Option<u64> {
    let fields = stat_fields(text)?;
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (a) b (c)) S 12 4711 4711 0 -1 4194560 97 0 0 0 150 50 0 0 20 0 3 0 \
                        9 0 0";

    #[test]
    fn a_name_may_look_like_fields() {
        assert_eq!(stat_parent(STAT), Some(12));
        assert_eq!(stat_cpu_ns(STAT), Some(2_000_000_000));
        assert_eq!(stat_parent(""), None);
        assert_eq!(stat_cpu_ns("1 (x) S 1"), None);
    }

    #[test]
    fn schedstat_and_status() {
        assert_eq!(schedstat_run_ns("123456 789 5\n"), Some(123_456));
        assert_eq!(schedstat_run_ns(""), None);
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t20\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(status_switches(status), 23);
        assert_eq!(status_switches(""), 0);
    }

    #[test]
    fn the_machine_is_busy_with_all_but_idling_and_steal() {
        let text = "cpu  10 1 20 1000 50 2 3 7 0 0\ncpu0 5 0 0 0 0 0 0 0 0 0\n";
        let expected = Machine {
            busy_ns: 36 * TICK_NS,
            steal_ns: 7 * TICK_NS,
        };
        assert_eq!(machine(text), Some(expected));
        assert_eq!(machine("cpu0 1 2 3\n"), None);
        assert_eq!(machine("cpu 1 2 3\n"), None);
    }

    #[test]
    fn memory_is_summed_in_bytes() {
        let text = "55-7f ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss:      120 kB\n\
                    Pss_Anon: 30 kB\nPss_File: 80 kB\nPss_Shmem: 10 kB\nPrivate_Clean:  4 kB\nPrivate_Dirty: 96 kB\n";
        let expected = Memory {
            proportional: 40 * 1024,
            private: 100 * 1024,
        };
        assert_eq!(rollup(text), expected);
        assert_eq!(rollup(""), Memory::default());
    }

    #[test]
    fn a_tree_has_grandchildren_and_no_strangers() {
        let parents = [(2, 1), (10, 2), (11, 10), (12, 11), (20, 1), (13, 10)];
        assert_eq!(descendants(10, &parents), [10, 11, 13, 12]);
    }

    fn usage(threads: &[(u32, u64)], total_ns: u64) -> Usage {
        let process = Process {
            threads_ns: threads.iter().copied().collect(),
            total_ns,
            switches: total_ns,
            io_workers: 1,
        };
        Usage {
            processes: BTreeMap::from([(7, process)]),
        }
    }

    #[test]
    fn a_thread_that_ended_leaves_its_time_to_the_process() {
        let before = usage(&[(7, 100), (8, 50)], 1000);
        assert_eq!(usage(&[(7, 150), (8, 90)], 1090).cpu_ns_since(&before), 90);
        assert_eq!(
            usage(&[(7, 150), (9, 5)], 1120).cpu_ns_since(&before),
            120,
            "thread 8 is gone"
        );
        assert_eq!(
            usage(&[(7, 150), (8, 50), (9, 5)], 1120).cpu_ns_since(&before),
            55,
            "thread 9 is new"
        );
        assert_eq!(usage(&[], 1300).switches_since(&before), 300);
    }

    #[test]
    fn this_process_is_found_with_time_and_memory() {
        let usage = Usage::of_tree(std::process::id()).unwrap();
        assert!(usage.cpu_ns_since(&Usage::default()) > 0);
        assert!(Memory::of_tree(std::process::id()).unwrap().private > 0);
        assert!(Machine::now().unwrap().busy_ns > 0);
    }
}
