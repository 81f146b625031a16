//! Who goes on for how long where workers and the threads beside them have to share a CPU.

use std::fs;

use crate::backend::Server;
use crate::setup::Setup;

/// Nanoseconds, 100 us: the shortest that a thread can ask for.
const BRIEF: u64 = 100_000;

/// Whether threads can ask for it at all.
fn can_be_brief() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(12))
}

/// A number that the kernel shows of a thread in its `sched`, where it has one.
fn number(sched: &str, name: &str) -> Option<u64> {
    let line = sched
        .lines()
        .find(|line| line.split(' ').next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Whether the threads that this process starts have turns that can be chosen, and that show.
fn is_told() -> bool {
    let sched = fs::read_to_string("/proc/self/sched").unwrap_or_default();
    let is_fair = matches!(number(&sched, "policy"), Some(0 | 3));
    is_fair && number(&sched, "se.slice").is_some()
}

#[test]
fn what_computes_beside_the_workers_takes_short_turns() {
    if !can_be_brief() || !is_told() {
        return eprintln!("not tested: Linux before 6.12, or it does not tell");
    }
    let server = Server::echo(b'a');
    let ringway = Setup::to([server.address()]).workers(2).start();
    let process = ringway.process.pid().as_raw_nonzero();
    let mut turns = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let of_thread = |file: &str| fs::read_to_string(thread.as_ref().unwrap().path().join(file));
        // A thread of the pool may end meanwhile.
        let (Ok(name), Ok(sched)) = (of_thread("comm"), of_thread("sched")) else {
            continue;
        };
        let is_brief = number(&sched, "se.slice") == Some(BRIEF);
        turns.push((name.trim().to_owned(), is_brief));
    }
    let (workers, others): (Vec<_>, Vec<_>) = turns
        .into_iter()
        .partition(|(name, _)| name.starts_with("ringway-wrk"));
    assert_eq!(workers.len(), 2, "{workers:?}");
    assert!(workers.iter().all(|(_, is_brief)| !is_brief), "{workers:?}");
    assert!(others.len() > 1, "{others:?}");
    assert!(others.iter().all(|(_, is_brief)| *is_brief), "{others:?}");
}
