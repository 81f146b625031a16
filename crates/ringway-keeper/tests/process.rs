//! What a keeper does to its process: threads, descriptors, wake-ups, limits, panics, pauses.
//!
//! Not under the test harness, whose own threads would be counted. Each case runs in a child of its own, which
//! is this program with the name of the case as its argument.
#![allow(
    clippy::unwrap_used,
    reason = "not under the harness, so the lint's exception for tests is not in force"
)]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Event, Recorder, keeper, key, params, peak, results, target};
use ringway_health::{Health, ProbeFailure, ProbeResult, Transition};
use ringway_keeper::{BackendKey, KeeperParams, SpawnError, VerdictSink, spawn};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

type Case = (&'static str, fn(), fn(ExitStatus) -> bool);

const CASES: [Case; 8] = [
    (
        "stop_leaves_no_thread_and_no_descriptor",
        stop_leaves_nothing,
        |s| s.success(),
    ),
    (
        "wakes_rarely_and_without_targets_never",
        wakes_rarely,
        |s| s.success(),
    ),
    ("is_pinned_and_named", is_pinned_and_named, |s| s.success()),
    ("without_a_ring_there_is_a_typed_error", no_ring, |s| {
        s.success()
    }),
    ("a_panic_of_the_sink_ends_the_process", panics, |s| {
        s.signal() == Some(6)
    }),
    ("a_dropped_handle_stops_its_keeper", dropped_handle, |s| {
        s.success()
    }),
    (
        "a_pause_makes_no_failure_and_no_burst",
        lives_through_a_pause,
        |s| s.success(),
    ),
    (
        "without_descriptors_no_backend_is_down",
        lives_without_descriptors,
        |s| s.success(),
    ),
];

fn main() {
    let name = std::env::args().nth(1);
    match CASES.iter().find(|case| Some(case.0) == name.as_deref()) {
        Some((_, run, _)) => run(),
        None => run_all(),
    }
}

fn run_all() {
    let failed = CASES.iter().filter(|(name, _, expected)| {
        let child = Command::new(std::env::current_exe().unwrap())
            .arg(name)
            .spawn()
            .unwrap();
        let status = { child }.wait().unwrap();
        let ok = expected(status);
        println!(
            "test {name} ... {}",
            if ok {
                "ok".into()
            } else {
                format!("FAILED: {status}")
            }
        );
        !ok
    });
    let failed = failed.count();
    println!("{} passed, {failed} failed", CASES.len() - failed);
    std::process::exit(i32::from(failed > 0));
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Whoever accepts may get no CPU for a while, and a probe whose SYN is dropped times out.
    SockRef::from(&listener).listen(4096).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The open descriptors, less the one this reads them through.
fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let mut links: Vec<_> = links.map(|link| link.display().to_string()).collect();
    links.retain(|link| !link.contains("/fd"));
    links.sort();
    links
}

/// The names of all threads with their ids, kernel workers of the rings included.
fn threads() -> Vec<(String, u32)> {
    let entries = std::fs::read_dir("/proc/self/task").unwrap();
    let thread = |path: std::path::PathBuf| {
        let name = std::fs::read_to_string(path.join("comm"))
            .ok()?
            .trim()
            .to_owned();
        Some((name, path.file_name()?.to_str()?.parse().ok()?))
    };
    entries
        .filter_map(|entry| thread(entry.unwrap().path()))
        .collect()
}

fn keeper_thread(name: &str) -> u32 {
    threads()
        .into_iter()
        .find(|thread| thread.0 == name)
        .unwrap_or_else(|| panic!("no {name}"))
        .1
}

fn status_field(thread: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

fn sleeps(thread: u32) -> u64 {
    status_field(thread, "voluntary_ctxt_switches")
        .parse()
        .unwrap()
}

/// With probes under way: to a listener, to a black hole, and with targets that were dropped meanwhile.
fn stop_leaves_nothing() {
    let (_listener, address) = listen();
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    full.listen(0).unwrap();
    let hole = full.local_addr().unwrap().as_socket().unwrap();
    let _filler = TcpStream::connect(hole).unwrap();

    let run = || {
        let recorder = Recorder::new();
        let holes = (0..300).map(|backend| target(backend, hole, params(50, 60_000)));
        let mut targets: Vec<_> = holes.collect();
        targets.push(target(900, address, params(20, 500)));
        let handle = spawn(keeper(targets.clone()), recorder.clone()).unwrap();
        recorder.wait(|events| results(key(900), events).len() >= 10);
        targets.drain(..100);
        targets.push(target(901, address, params(20, 500)));
        handle.update(targets, 202);
        recorder.wait(|events| results(key(901), events).len() >= 3);
        let names: Vec<_> = threads().into_iter().map(|thread| thread.0).collect();
        assert!(
            names.iter().all(|name| !name.starts_with("iou-")),
            "{names:?}"
        );
        assert!(
            descriptors().len() > 200,
            "probes were to be under way: {}",
            descriptors().len()
        );
        handle.stop();
    };
    run(); // What the process opens once, on first use, is there from now on.
    let (threads_before, descriptors_before) = (threads().len(), descriptors());
    for _ in 0..3 {
        run();
    }
    assert_eq!(descriptors(), descriptors_before);
    assert_eq!(threads().len(), threads_before);
    assert_eq!(threads_before, 1);
}

fn wakes_rarely() {
    let idle = KeeperParams {
        index: 1,
        ..keeper(Vec::new())
    };
    let idle = spawn(idle, Recorder::new()).unwrap();
    let (_listener, address) = listen();
    let recorder = Recorder::new();
    let handle = spawn(
        keeper(vec![target(1, address, params(100, 90))]),
        recorder.clone(),
    )
    .unwrap();
    recorder.wait(|events| results(key(1), events).len() >= 2);

    let (busy_thread, idle_thread) = (
        keeper_thread("ringway-keep-0"),
        keeper_thread("ringway-keep-1"),
    );
    let (busy_before, idle_before) = (sleeps(busy_thread), sleeps(idle_thread));
    let seen = results(key(1), &recorder.events()).len();
    recorder.wait(|events| results(key(1), events).len() >= seen + 20);
    let slept = sleeps(busy_thread) - busy_before;
    println!("{slept} sleeps for 20 probes");
    assert!(slept <= 20 * 6, "{slept} for 20 probes");
    assert_eq!(sleeps(idle_thread), idle_before);
    idle.stop();
    handle.stop();
}

fn is_pinned_and_named() {
    let cpu = core_affinity::get_core_ids().unwrap().last().unwrap().id;
    let pinned = KeeperParams {
        index: 65_535,
        cpu: Some(cpu),
        ..keeper(Vec::new())
    };
    let handle = spawn(pinned, Recorder::new()).unwrap();
    let thread = keeper_thread("ringway-k-65535");
    assert_eq!(status_field(thread, "Cpus_allowed_list"), cpu.to_string());
    handle.stop();

    for cpu in [1_023, 5_000] {
        let pinned = KeeperParams {
            cpu: Some(cpu),
            ..keeper(Vec::new())
        };
        let error = spawn(pinned, Recorder::new()).unwrap_err();
        assert!(
            matches!(error, SpawnError::Pin { cpu: c } if c == cpu),
            "{error}"
        );
    }
    assert_eq!(threads().len(), 1);
}

fn no_ring() {
    let before = descriptors();
    let limit = getrlimit(Resource::Nofile);
    // Room for the eventfd, which takes the lowest free number, and none for the ring.
    let lowest_free = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    let current = Some(u64::try_from(lowest_free).unwrap() + 1);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current,
            maximum: limit.maximum,
        },
    )
    .unwrap();
    let error = spawn(keeper(Vec::new()), Recorder::new()).unwrap_err();
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(matches!(error, SpawnError::Ring(_)), "{error:?}");
    assert_eq!(descriptors(), before);
    assert_eq!(threads().len(), 1);
}

struct Faulty;

impl VerdictSink for Faulty {
    fn on_probe(&self, _: BackendKey, _: Duration, _: Duration, _: &ProbeResult) {
        panic!("as the test wants it");
    }

    fn on_transition(&self, _: BackendKey, _: Transition) {}
}

/// Ends by SIGABRT long before the patience of the others does, or the keeper died silently.
fn panics() {
    let (_listener, address) = listen();
    let handle = spawn(
        keeper(vec![target(1, address, params(20, 500))]),
        Arc::new(Faulty),
    );
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(common::PATIENCE);
    drop((handle, sender));
}

fn dropped_handle() {
    let (_listener, address) = listen();
    let recorder = Recorder::new();
    let handle = spawn(
        keeper(vec![target(1, address, params(20, 500))]),
        recorder.clone(),
    )
    .unwrap();
    recorder.wait(|events| !events.is_empty());
    drop(handle);
    let deadline = Instant::now() + common::PATIENCE;
    while threads().len() > 1 {
        assert!(Instant::now() < deadline, "{:?}", threads());
        std::thread::yield_now();
    }
}

/// A helper process stops this one for four intervals and lets it go on.
fn lives_through_a_pause() {
    if let Some(victim) = std::env::args().nth(2) {
        let victim = Pid::from_raw(victim.parse().unwrap()).unwrap();
        kill_process(victim, Signal::STOP).unwrap();
        std::thread::sleep(Duration::from_secs(2)); // The length of the pause, not a wait for something.
        kill_process(victim, Signal::CONT).unwrap();
        return;
    }
    let (listener, address) = listen();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let recorder = Recorder::new();
    let targets = (0..400)
        .map(|backend| target(backend, address, params(500, 400)))
        .collect();
    let handle = spawn(keeper(targets), recorder.clone()).unwrap();
    recorder.wait(|events| events.len() > 1_200);

    let this = std::process::id().to_string();
    let case = "a_pause_makes_no_failure_and_no_burst";
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args([case, &this])
        .spawn()
        .unwrap();
    assert!(helper.wait().unwrap().success());
    let seen = recorder.events().len();
    let events = recorder.wait(|events| events.len() > seen + 1_200);
    handle.stop();
    let bad = |event: &&Event| match event {
        Event::Probe { result, .. } => *result != ProbeResult::Ok,
        Event::Change { change, .. } => change.to != Health::Up,
    };
    assert_eq!(events.iter().filter(bad).count(), 0);
    // 80 on average; all that fell due in the pause would be 400 at once.
    println!("{} probes within 100 ms", peak(&events));
    assert!(
        peak(&events) < 240,
        "{} probes within 100 ms",
        peak(&events)
    );
}

/// What this process lacks says nothing about a backend.
fn lives_without_descriptors() {
    let (listener, address) = listen();
    let recorder = Recorder::new();
    let handle = spawn(
        keeper(vec![target(1, address, params(20, 500))]),
        recorder.clone(),
    )
    .unwrap();
    recorder.wait(|events| results(key(1), events).contains(&ProbeResult::Ok));

    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let starved = ProbeResult::Failed(ProbeFailure::Resources);
    let count = |events: &[Event], wanted| {
        let seen = results(key(1), events);
        seen.iter().filter(|result| **result == wanted).count()
    };
    recorder.wait(|events| count(events, starved) >= 10);
    setrlimit(Resource::Nofile, before).unwrap();
    let ok = count(&recorder.events(), ProbeResult::Ok);
    recorder.wait(|events| count(events, ProbeResult::Ok) > ok);

    let is_down =
        |event: &Event| matches!(event, Event::Change { change, .. } if change.to == Health::Down);
    assert!(!recorder.events().iter().any(is_down));
    drop(listener);
    recorder.wait(|events| events.iter().any(is_down));
    handle.stop();
}
