//! Reloads that change `workers`: more, fewer, on other CPUs, and back before those that leave have left. Who
//! connects does not notice, and who is connected stays.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use crate::backend::Server;
use crate::eventually::{PATIENCE, until_is};
use crate::instance::Ringway;
use crate::peers::{connect, drain, echoes, patient, read_exactly, until};
use crate::places::own_address;
use crate::process::{Launch, thread_of};
use crate::setup::Setup;
use crate::succession::{Door, Load, Start, Succession};

fn held(ringway: &Ringway) -> TcpStream {
    let client = connect(ringway.address());
    assert_eq!(read_exactly::<1>(&client), [b'a']);
    client
}

fn workers(ringway: &Ringway) -> Vec<Value> {
    ringway.status()["workers"].as_array().unwrap().clone()
}

/// Number and state of each worker.
fn states(ringway: &Ringway) -> Vec<(u64, String)> {
    let workers = workers(ringway);
    let state = |worker: &Value| {
        let state = worker["state"].as_str().unwrap().to_owned();
        (worker["index"].as_u64().unwrap(), state)
    };
    workers.iter().map(state).collect()
}

fn serving(numbers: &[u64]) -> Vec<(u64, String)> {
    let state = |number: &u64| (*number, "serving".to_owned());
    numbers.iter().map(state).collect()
}

fn of_worker(ringway: &Ringway, number: usize, key: &str) -> i64 {
    workers(ringway)[number][key].as_i64().unwrap()
}

/// Connections until each of so many workers has some.
fn held_by_each(ringway: &Ringway, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    until("every worker has connections", || {
        clients.push(held(ringway));
        (0..count).all(|number| of_worker(ringway, number, "connections") >= 2)
    });
    clients
}

/// Every counter, of each worker where there is one for each.
fn counters(ringway: &Ringway) -> HashMap<String, f64> {
    let text = ringway.admin.get("/metrics?per_worker=1").unwrap().body;
    let is_counter = |name: &str| {
        let family = name.split('{').next().unwrap_or_default();
        ["_total", "_count", "_sum", "_bucket"]
            .iter()
            .any(|end| family.ends_with(end))
    };
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| line.rsplit_once(' '));
    samples
        .filter(|(name, _)| is_counter(name))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Compares with the last look: nothing that was counted may be gone.
fn only_grown(ringway: &Ringway, last: &mut HashMap<String, f64>) {
    let now = counters(ringway);
    for (name, before) in &*last {
        let value = now.get(name).unwrap_or_else(|| panic!("{name} is gone"));
        assert!(value >= before, "{name}: {before}, and then {value}");
    }
    *last = now;
}

/// The numbers of workers one after the other, the first at start.
fn under_load(numbers: &[u16]) {
    let server = Server::echo(b'a');
    let address = own_address().to_string();
    let setup = |workers| {
        Setup::to([server.address()])
            .workers(workers)
            .binds(&[&address, "unix:DIR/l.sock"])
            .access_log("DIR/access.log")
    };
    let ringway = setup(numbers[0]).start();
    let long: Vec<TcpStream> = (0..12).map(|_| held(&ringway)).collect();
    let doors: Vec<Door> = ringway.addresses().iter().map(|at| Door::of(at)).collect();
    let load = Load::on(&[doors.clone(), doors].concat());
    let mut last = counters(&ringway);
    for pair in numbers.windows(2) {
        load.until_served(100);
        let changes = ringway.reload_as(&setup(pair[1]));
        assert_eq!(changes, [format!("workers: {} -> {}", pair[0], pair[1])]);
        only_grown(&ringway, &mut last);
        let metrics = ringway.metrics();
        assert_eq!(metrics.sum("workers", &[]), i64::from(pair[1]));
        load.until_served(100);
        long.iter().for_each(echoes);
        assert_eq!(ringway.admin.get("/livez").unwrap().status, 200);
        only_grown(&ringway, &mut last);
    }
    let served = load.end();
    let made = served + long.len();
    drop(long);
    ringway.until_connections(0);
    let serves = *numbers.last().unwrap();
    let expected = serving(&(0..serves.into()).collect::<Vec<_>>());
    until_is("those that serve", expected, || states(&ringway));
    only_grown(&ringway, &mut last);
    let accepted = ringway.metrics().sum("listener_connections_total", &[]);
    assert_eq!(accepted, made as i64);
    ringway.json_lines("access.log", made);
    ringway.until_balanced(0);
    ringway.stop_early();
}

#[test]
fn one_two_one_under_load() {
    under_load(&[1, 2, 1, 2, 1]);
}

#[test]
fn two_one_two_under_load() {
    under_load(&[2, 1, 2, 4, 1, 3]);
}

#[test]
fn a_worker_that_leaves_keeps_its_connections_and_ends_with_the_last() {
    let server = Server::echo(b'a');
    let setup = |workers| Setup::to([server.address()]).workers(workers);
    let ringway = setup(2).start();
    let clients = held_by_each(&ringway, 2);
    let had = of_worker(&ringway, 1, "connections");
    ringway.reload_as(&setup(1));
    let leaving = [(0, "serving".to_owned()), (1, "leaving".to_owned())];
    assert_eq!(states(&ringway), leaving);
    assert_eq!(ringway.metrics().sum("workers", &[]), 1);
    let accepted = of_worker(&ringway, 1, "connections_total");
    for _ in 0..40 {
        drop(held(&ringway));
    }
    assert_eq!(of_worker(&ringway, 1, "connections_total"), accepted);
    assert_eq!(of_worker(&ringway, 1, "connections"), had);
    clients.iter().for_each(echoes);
    let explained = ringway
        .admin
        .get("/v1/explain?listener=l&source=192.0.2.1:5000")
        .unwrap()
        .body;
    assert!(explained.contains("there is one worker"), "{explained}");
    assert_eq!(ringway.admin.get("/livez").unwrap().status, 200);
    // A reload of something else does not disturb it.
    ringway.reload_as(&setup(1).listener("limits: {connections: 1000}"));
    assert_eq!(states(&ringway), leaving);
    clients.iter().for_each(echoes);
    let mut last = counters(&ringway);
    drop(clients);
    until_is("those that serve", serving(&[0]), || states(&ringway));
    let is_there = |name: &str| ringway.process.threads().iter().any(|one| one == name);
    assert!(is_there("ringway-wrk-0") && !is_there("ringway-wrk-1"));
    only_grown(&ringway, &mut last);
    ringway.until_balanced(0);
    // Whoever has its number next goes on counting.
    ringway.reload_as(&setup(2));
    only_grown(&ringway, &mut last);
    held_by_each(&ringway, 2);
    only_grown(&ringway, &mut last);
    assert!(of_worker(&ringway, 1, "connections_total") > accepted);
    ringway.stop_early();
}

/// Nobody scrapes here: what is shown is what the kernel says, and then what was kept of it.
#[test]
fn the_time_a_worker_was_busy_does_not_fall_when_another_has_its_number() {
    let server = Server::echo(b'a');
    let setup = |workers| Setup::to([server.address()]).workers(workers);
    let ringway = setup(2).start();
    let busy = || workers(&ringway)[1]["busy_seconds_total"].as_f64();
    for least in [0.2, 0.4] {
        let clients = held_by_each(&ringway, 2);
        until("it was busy", || {
            (0..50).for_each(|_| clients.iter().for_each(echoes));
            busy().is_some_and(|busy| busy > least)
        });
        ringway.reload_as(&setup(1));
        let before = busy();
        drop(clients);
        until_is("those that serve", serving(&[0]), || states(&ringway));
        ringway.reload_as(&setup(2));
        assert!(busy() >= before, "{before:?}, and then {:?}", busy());
    }
    ringway.stop_early();
}

#[test]
fn a_worker_that_is_leaving_serves_again_when_it_is_wanted_back() {
    let server = Server::echo(b'a');
    let setup = |workers| Setup::to([server.address()]).workers(workers);
    let ringway = setup(2).start();
    let clients = held_by_each(&ringway, 2);
    let thread = || thread_of(ringway.process.pid(), "ringway-wrk-1");
    let before = thread();
    for _ in 0..3 {
        ringway.reload_as(&setup(1));
        let accepted = of_worker(&ringway, 1, "connections_total");
        ringway.reload_as(&setup(2));
        assert_eq!((states(&ringway), thread()), (serving(&[0, 1]), before));
        until("it accepts", || {
            drop(held(&ringway));
            of_worker(&ringway, 1, "connections_total") > accepted
        });
        clients.iter().for_each(echoes);
    }
    drop(clients);
    ringway.until_connections(0);
    assert_eq!(states(&ringway), serving(&[0, 1]));
}

/// Each backend is checked by one keeper at any time, and is what it was taken for.
#[test]
fn checks_go_on_once_for_each_backend_and_nothing_is_told_anew() {
    let well: Vec<Server> = (0..8).map(|_| Server::echo(b'a')).collect();
    let mut sick = Server::echo(b's');
    let addresses = || well.iter().chain([&sick]).map(Server::address);
    let addresses: Vec<_> = addresses().collect();
    let setup = |workers| Setup::to(&addresses).workers(workers).health_checks();
    let ringway = setup(1).start();
    sick.kill();
    until("it is down", || ringway.backend_state(8) == "down");
    let retries = || ringway.metrics().sum("backend_retries_total", &[]);
    let told = || {
        let lines = ringway.log_lines();
        lines
            .iter()
            .filter(|line| line["message"] == "health")
            .count()
    };
    let (retried, said) = (retries(), told());
    for workers in [3, 1, 2, 4, 1] {
        ringway.reload_as(&setup(workers));
        // Nobody is sent to what a worker that is new cannot have seen.
        for _ in 0..30 {
            drop(held(&ringway));
        }
        ringway.until_connections(0);
        let checked = || {
            let passed = [("result", "pass")];
            let counted = ringway.metrics().each("health_checks_total", &passed);
            let seen = well.iter().map(Server::served).sum::<usize>();
            (counted[..8].to_vec(), seen as i64)
        };
        let (counted, seen) = checked();
        let mut now = checked();
        until("each is checked again and again", || {
            now = checked();
            now.0
                .iter()
                .zip(&counted)
                .all(|(now, then)| now - then >= 4)
        });
        let grown = now.0.iter().sum::<i64>() - counted.iter().sum::<i64>();
        let off = now.1 - seen - grown;
        // What is seen and not yet counted, or counted between the two looks, is one of each at most.
        assert!(off.abs() <= 8, "{workers} workers: {off} of {grown}");
    }
    assert_eq!((retries(), told()), (retried, said));
    assert_eq!(ringway.backend_state(8), "down");
    sick.start();
    until("it is up again", || ringway.backend_state(8) == "up");
    ringway.stop_early();
}

#[test]
fn coming_and_going_leaves_nothing_behind() {
    let server = Server::echo(b'a');
    let setup = |workers| {
        let setup = Setup::to([server.address()]).workers(workers);
        setup.health_checks().access_log("DIR/access.log")
    };
    let ringway = setup(1).start();
    let cycle = || {
        for workers in [3, 1] {
            ringway.reload_as(&setup(workers));
            let clients: Vec<TcpStream> = (0..10).map(|_| held(&ringway)).collect();
            clients.iter().for_each(echoes);
        }
        ringway.until_connections(0);
        until_is("those that serve", serving(&[0]), || states(&ringway));
    };
    let looks = || {
        let threads = ringway.process.threads();
        (ringway.process.descriptors_kept(), threads)
    };
    (0..3).for_each(|_| cycle());
    let before = looks();
    (0..10).for_each(|_| cycle());
    until_is("descriptors and threads", before, looks);
    // It has what it had at the beginning: its end is compared with that.
}

/// With a descriptor more at each try, another step of the way is the one that fails.
#[test]
fn without_descriptors_for_another_worker_nothing_changes() {
    let server = Server::echo(b'a');
    let addresses = [0; 4].map(|_| own_address().to_string());
    let binds = addresses.each_ref().map(String::as_str);
    let setup = |workers| {
        let setup = Setup::to([server.address()]).workers(workers);
        setup.binds(&binds)
    };
    let crowded = Launch::Crowded(400, 200);
    let ringway = setup(1).launch_as(crowded).start();
    let mut inside = Vec::new();
    while let Ok(client) = TcpStream::connect(ringway.address()) {
        patient(client.try_clone().unwrap());
        let mut greeting = [0];
        client
            .set_read_timeout(Some(std::time::Duration::from_millis(500)))
            .unwrap();
        match std::io::Read::read(&mut (&client), &mut greeting) {
            Ok(1) => inside.push(patient(client)),
            Ok(_) | Err(_) => break,
        }
    }
    let threads = || ringway.process.threads();
    drop(inside.pop());
    drop(inside.pop());
    until("there are some again", || {
        ringway.admin.get("/livez").is_ok()
    });
    let before = threads();
    ringway.rewrite(&setup(2));
    let mut refused = 0;
    while ringway.admin.post("/v1/reload").unwrap().status != 200 {
        refused += 1;
        until_is("threads", before.clone(), threads);
        assert_eq!(states(&ringway), serving(&[0]));
        inside.iter().for_each(echoes);
        drop(inside.pop().expect("it never succeeds"));
    }
    eprintln!("refused {refused} times");
    assert!(refused > 1);
    assert_eq!(states(&ringway), serving(&[0, 1]));
    inside.iter().for_each(echoes);
    drop(inside);
    ringway.until_connections(0);
    held_by_each(&ringway, 2);
    ringway.stop_early();
}

#[test]
fn a_drain_ends_a_worker_that_is_leaving_with_the_others() {
    let server = Server::echo(b'a');
    let setup = |workers| {
        let setup = Setup::to([server.address()]).workers(workers);
        setup.shutdown("{delay: 0s, drain: 1s}")
    };
    for signals in [1, 2] {
        let mut ringway = setup(2).start();
        let clients = held_by_each(&ringway, 2);
        ringway.reload_as(&setup(1));
        clients.iter().for_each(echoes);
        ringway.signal(Signal::TERM);
        if signals == 2 {
            until("it drains", || ringway.status()["draining"] == true);
            ringway.signal(Signal::TERM);
        }
        let ended = ringway.process.end_within(PATIENCE);
        // A second signal does not wait.
        assert_eq!(ended.code, Some(signals - 1), "{}", ended.log);
        for client in &clients {
            drop(drain(client));
        }
    }
}

#[test]
fn an_upgrade_leaves_a_worker_that_is_leaving_its_connections() {
    let server = Server::echo(b'a');
    let file = |workers: u16| crate::upgrade::file(&server, workers, "'127.0.0.1:0'", "");
    let mut succession = Succession::start(&file(3), &Start::default());
    let address: SocketAddr = succession.address(0, 0).parse().unwrap();
    let mut clients: Vec<TcpStream> = (0..30).map(|_| connect(address)).collect();
    for client in &clients {
        assert_eq!(read_exactly::<1>(client), [b'a']);
    }
    succession.write(&file(1));
    let answer = succession.admin.post("/v1/reload").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let old = succession.serving();
    succession.upgrade();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        assert_eq!(read_exactly::<1>(&*client), [b'x']);
    }
    // The new one has what the old one had, and may have more workers again.
    succession.write(&file(2));
    let answer = succession.admin.post("/v1/reload").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    for _ in 0..20 {
        assert_eq!(read_exactly::<1>(connect(address)), [b'a']);
    }
    drop(clients);
    assert_eq!(succession.ended(old), Some(0));
    succession.stop();
}

/// The CPUs a thread may run on.
fn cpus_of(ringway: &Ringway, thread: &str) -> String {
    let process = ringway.process.pid();
    let thread = thread_of(process, thread);
    let path = format!("/proc/{}/task/{thread}/status", process.as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

#[test]
fn a_worker_whose_cpu_is_not_wanted_any_more_is_moved_with_all_it_has() {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    let allowed: Vec<usize> = (0..1024).filter(|cpu| set.is_set(*cpu)).collect();
    let [first, second] = match allowed[..] {
        [first, second, ..] => [first, second],
        _ => return eprintln!("not tested: there is one CPU"),
    };
    let server = Server::echo(b'a');
    let setup = Setup::to([server.address()]).workers(1).health_checks();
    let ringway = setup.clone().start();
    let on = |cpus: &str| {
        let file = ringway.file(&setup);
        ringway.rewrite_as(&file.replace("workers: 1", &format!("workers: {cpus}")));
    };
    let client = held(&ringway);
    for (cpus, expected) in [
        (format!("[{second}]"), second),
        (format!("[{first}]"), first),
    ] {
        on(&cpus);
        ringway.reload();
        for thread in ["ringway-wrk-0", "ringway-keep-0"] {
            assert_eq!(cpus_of(&ringway, thread), expected.to_string(), "{thread}");
        }
        assert_eq!(of_worker(&ringway, 0, "cpu"), expected as i64);
        echoes(&client);
    }
    // Each keeps its CPU, in whatever order they are written.
    on(&format!("[{second}, {first}]"));
    ringway.reload();
    for (number, cpu) in [(0, first), (1, second)] {
        assert_eq!(
            cpus_of(&ringway, &format!("ringway-wrk-{number}")),
            cpu.to_string()
        );
    }
    on("[1023]");
    let refused = ringway.reload_refused()["error"].to_string();
    assert!(refused.contains("CPU 1023"), "{refused}");
    echoes(&client);
    drop(client);
    ringway.until_connections(0);
    ringway.stop_early();
}
