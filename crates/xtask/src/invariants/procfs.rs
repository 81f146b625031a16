//! What /proc says about a running process. Not a monitor: each call reads once, or until
//! what it reads has settled. Invariant: a thread
//! that ends while it is read counts as nothing, and no other error is passed over.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// The names of all threads, kernel workers of io_uring included.
pub(super) fn thread_names(pid: u32) -> io::Result<Vec<String>> {
    let names = tasks(pid, "comm")?;
    Ok(names
        .into_iter()
        .map(|(_, name)| name.trim().to_owned())
        .collect())
}

/// The ids of the threads whose name begins with `prefix`.
pub(super) fn threads_named(pid: u32, prefix: &str) -> io::Result<Vec<u32>> {
    let names = tasks(pid, "comm")?;
    Ok(names
        .into_iter()
        .filter(|(_, name)| name.starts_with(prefix))
        .map(|(id, _)| id)
        .collect())
}

/// CPU time of all threads so far, in nanoseconds.
pub(super) fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for (_, text) in tasks(pid, "schedstat")? {
        sum += text
            .split(' ')
            .next()
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(sum)
}

/// How often any thread was switched to after it had slept, so far.
pub(super) fn wake_ups(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for (_, text) in tasks(pid, "status")? {
        sum += field(&text, "voluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(sum)
}

/// Memory that belongs to the process alone and was written to, in bytes.
fn private_dirty(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    field(&text, "Private_Dirty:")
        .map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("smaps_rollup has no Private_Dirty"))
}

/// Private memory once it stopped changing; after 5 s as it is then.
pub(super) fn settled_memory(pid: u32) -> io::Result<u64> {
    let begin = Instant::now();
    let mut last = private_dirty(pid)?;
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = private_dirty(pid)?;
        if now == last || begin.elapsed() > Duration::from_secs(5) {
            return Ok(now);
        }
        last = now;
    }
}

/// A worker gives back what its buffers hold when it was calm for two seconds.
const CALM: Duration = Duration::from_secs(3);

/// Private memory of a process that nobody has wanted anything of for a while.
pub(super) fn calm_memory(pid: u32) -> io::Result<u64> {
    thread::sleep(CALM);
    settled_memory(pid)
}

/// Open descriptors.
pub(super) fn descriptors(pid: u32) -> io::Result<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// The file that `name` is mapped from, if any mapped file's name begins with it.
pub(super) fn mapped_file(pid: u32, name: &str) -> io::Result<Option<PathBuf>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])));
    let is_named = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|file| file.to_string_lossy().starts_with(name))
    };
    Ok(paths.into_iter().find(is_named))
}

/// The file `name` of every thread, with the thread's id.
fn tasks(pid: u32, name: &str) -> io::Result<Vec<(u32, String)>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|id| id.parse().ok()) else {
            continue;
        };
        match fs::read_to_string(entry.path().join(name)) {
            Ok(text) => texts.push((id, text)),
            // ESRCH has no kind of its own.
            Err(error)
                if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(3) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(texts)
}

/// The first number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_at_the_beginning_of_a_line_only() {
        let status = "State:\tS\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t12\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(
            field("Private_Dirty:      260 kB\n", "Private_Dirty:"),
            Some(260)
        );
        assert_eq!(field(status, "Threads:"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        assert!(!thread_names(pid).unwrap().is_empty());
        assert!(cpu_ns(pid).unwrap() > 0);
        assert!(private_dirty(pid).unwrap() > 0);
        assert!(descriptors(pid).unwrap() > 2);
        assert!(mapped_file(pid, "xtask").unwrap().is_some());
        assert_eq!(mapped_file(pid, "no-such-file").unwrap(), None);
    }
}
