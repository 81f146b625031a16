//! What a scrape reads in /proc: the process, and the CPU time and kernel threads of each worker.
//! A file that is missing costs its value and nothing else.

use std::fs;

use ringway_metrics::ProcessStats;
use ringway_metrics::process::ProcFiles;

/// The numbers about the process.
pub(crate) fn process_stats() -> ProcessStats {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    ProcessStats::parse(ProcFiles {
        stat: &read("/proc/self/stat"),
        status: &read("/proc/self/status"),
        limits: &read("/proc/self/limits"),
        system_stat: &read("/proc/stat"),
        open_fds: fs::read_dir("/proc/self/fd")
            .ok()
            .map(|entries| entries.count() as u64),
        ticks_per_second: rustix::param::clock_ticks_per_second(),
    })
}

/// CPU time of a thread of this process: the first number of its schedstat
/// (Documentation/scheduler/sched-stats.rst).
pub(crate) fn thread_cpu_nanos(thread_id: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread_id}/schedstat")).ok()?;
    first_number(&text)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The names of all threads of this process, kernel threads that work for it included.
pub(crate) fn thread_names() -> Vec<String> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks
        .flatten()
        .filter_map(name)
        .map(|name| name.trim_end().to_owned())
        .collect()
}

/// How many of these names are kernel threads of that thread's ring.
pub(crate) fn iowq_workers(names: &[String], thread_id: i32) -> usize {
    let name = format!("iou-wrk-{thread_id}");
    names.iter().filter(|other| **other == name).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let stats = process_stats();
        assert!(
            stats.resident_bytes.is_some_and(|bytes| bytes > 0),
            "{stats:?}"
        );
        assert!(stats.open_fds.is_some_and(|count| count > 2), "{stats:?}");
        assert!(!thread_names().is_empty());
    }

    #[test]
    fn schedstat_begins_with_the_time_on_a_cpu() {
        assert_eq!(first_number("123456 789 10\n"), Some(123_456));
        assert_eq!(first_number(""), None);
        assert_eq!(thread_cpu_nanos(-1), None);
    }

    #[test]
    fn only_the_ring_s_own_threads_count() {
        let names = ["ringway", "iou-wrk-12", "iou-wrk-123", "iou-wrk-12"].map(str::to_owned);
        assert_eq!(iowq_workers(&names, 12), 2);
        assert_eq!(iowq_workers(&names, 1), 0);
    }
}
