//! Many reloads, and reloads while connections are made as fast as they can be. `scripts/soak-reload`
//! runs these with the counts of the goals.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{Server, closed_address};
use crate::eventually::{least, until_is};
use crate::peers::{PATIENCE, reset};
use crate::setup::Setup;

/// Greets and closes, on the thread that accepts: for those who come in great numbers.
struct Greeter {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Greeter {
    fn new(name: u8) -> Greeter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, is_over) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default());
        let seen = Arc::clone(&is_over);
        thread::spawn(move || {
            for client in listener.incoming() {
                if seen.load(Ordering::Acquire) {
                    return;
                }
                // Whoever has left needs no greeting.
                let _ = client.and_then(|mut client| client.write_all(&[name]));
            }
        });
        Greeter { address, is_over }
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

/// A count that `scripts/soak-reload` raises.
fn count(name: &str, here: usize) -> usize {
    let set = std::env::var(name).ok();
    set.map_or(here, |text| text.parse().expect("a number"))
}

/// A connection from its beginning to its end: whom it reached.
fn visit(address: SocketAddr) -> Result<u8, String> {
    let mut client = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut name = [0; 1];
    let read = client.read(&mut name);
    // No port is held for a minute by each of a million.
    reset(client);
    match read {
        Ok(1) => Ok(name[0]),
        Ok(_) => Err("closed without a byte".to_owned()),
        Err(error) => Err(format!("read: {error}")),
    }
}

/// A connection that is begun after a reload was acknowledged never reaches what it removed.
#[test]
fn no_connection_fails_or_goes_astray_while_reloads_come_and_go() {
    let (reloads, connections) = (count("SOAK_RELOADS", 60), count("SOAK_CONNECTIONS", 6_000));
    // Even reloads have `a` and `c`, odd ones `b` and `c`. A third backend refuses: whoever is sent
    // there is sent on.
    let servers = [b'a', b'b', b'c'].map(Greeter::new);
    let refusing = closed_address();
    let setup = |round: usize| {
        let [first, last] = [&servers[round % 2], &servers[2]].map(|server| server.address);
        let order = match round % 3 {
            0 => [first, last],
            _ => [last, first],
        };
        let algorithms = ["least_connections", "round_robin", "random", "maglev"];
        Setup::to(order)
            .backend(refusing, &format!("weight: {}", 1 + round % 5))
            .workers(2)
            .balance(algorithms[round % 4])
    };
    let ringway = setup(0).start();
    // Odd while one is under way; half of it counts the acknowledged ones.
    let (phase, made, is_over) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    let visitor = || {
        let mut astray = Vec::new();
        while !is_over.load(Ordering::Acquire) {
            let before = phase.load(Ordering::Acquire);
            let reached = visit(ringway.address());
            let after = phase.load(Ordering::Acquire);
            made.fetch_add(1, Ordering::Relaxed);
            let is_right = match &reached {
                Ok(b'c') => true,
                Ok(name) if before == after && before % 2 == 0 => {
                    *name == [b'a', b'b'][before / 2 % 2]
                }
                Ok(b'a' | b'b') => true,
                Ok(_) | Err(_) => false,
            };
            if !is_right {
                astray.push((before, after, reached));
            }
        }
        astray
    };
    let begun = Instant::now();
    let (mut took, mut longest) = (Duration::ZERO, Duration::ZERO);
    let astray: Vec<_> = thread::scope(|scope| {
        let visitors: Vec<_> = (0..4).map(|_| scope.spawn(visitor)).collect();
        for round in 1..=reloads {
            // Connections are made between any two reloads.
            let share = connections * round / reloads;
            until_is("connections enough", true, || {
                made.load(Ordering::Relaxed) >= share
            });
            ringway.rewrite(&setup(round));
            phase.fetch_add(1, Ordering::AcqRel);
            let asked = Instant::now();
            assert!(!ringway.reload().is_empty());
            longest = longest.max(asked.elapsed());
            took += asked.elapsed();
            phase.fetch_add(1, Ordering::AcqRel);
        }
        is_over.store(true, Ordering::Release);
        visitors
            .into_iter()
            .flat_map(|visitor| visitor.join().unwrap())
            .collect()
    });
    let made = made.into_inner();
    println!(
        "{made} connections over {reloads} reloads in {:.1?}: {} failed or astray; a reload took \
         {:.1?} on average, {longest:.1?} at most",
        begun.elapsed(),
        astray.len(),
        took / reloads as u32,
    );
    assert!(
        astray.is_empty(),
        "{} of {made}: {:?}",
        astray.len(),
        &astray[..astray.len().min(9)]
    );
    ringway.until_connections(0);
    ringway.stop_early();
}

/// No connection sees a listener of a newer file and then another one of an older file.
#[test]
fn two_listeners_change_together() {
    let servers: Vec<Greeter> = (0..8).map(|n| Greeter::new(b'a' + n)).collect();
    let ringway = Setup::to([servers[0].address]).start();
    let ports = [closed_address(), closed_address()];
    let file = |round: usize| {
        let dir = ringway.dir().display();
        let listener = |name, address| format!("{name}: {{bind: \"{address}\", pool: p{round}}}");
        let [one, two] = [listener("one", ports[0]), listener("two", ports[1])];
        let backend = servers[round].address;
        format!(
            "workers: 1\nadmin: {{bind: \"unix:{dir}/admin.sock\"}}\nlog: {{format: json}}\n\
             listeners: {{{one}, {two}}}\n\
             pools: {{p{round}: {{backends: [{{address: \"{backend}\"}}], health_check: off}}}}\n"
        )
    };
    ringway.rewrite_as(&file(0));
    ringway.reload();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looker = || {
            while !is_over.load(Ordering::Acquire) {
                let [one, two] = ports.map(|address| visit(address).unwrap());
                assert!(one <= two, "{} and then {}", one as char, two as char);
            }
        };
        scope.spawn(looker);
        for round in 1..servers.len() {
            ringway.rewrite_as(&file(round));
            ringway.reload();
        }
        is_over.store(true, Ordering::Release);
    });
    ringway.stop_early();
}

/// Of every tenth nothing comes, because its file is wrong. No `rate_per_source`: its tables of 4 MiB are
/// freed, but the allocator keeps one or two of them for the next, and that is more than what is judged.
#[test]
fn many_reloads_leave_nothing_behind() {
    let reloads = count("SOAK_IDLE_RELOADS", 200);
    let servers: Vec<Server> = (0..4).map(|n| Server::echo(b'a' + n)).collect();
    let ringway = Setup::to([servers[0].address()]).workers(2).start();
    let port = closed_address();
    let file = |round: usize| {
        let dir = ringway.dir().display();
        let backend = |n: usize| format!("{{address: \"{}\"}}", servers[n % 4].address());
        let extra = match round % 2 {
            0 => format!(", m: {{bind: [\"{port}\", \"unix:{dir}/m.sock\"], pool: p{round}}}"),
            _ => String::new(),
        };
        let wrong = if round % 10 == 9 { "nothing: 1\n" } else { "" };
        let health = ["off", "{interval: 250ms, timeout: 250ms}"][round / 4 % 2];
        format!(
            "{wrong}workers: 2\nadmin: {{bind: \"unix:{dir}/admin.sock\"}}\n\
             log: {{format: json, access: \"{}\"}}\n\
             listeners: {{l: {{bind: \"{}\", pool: p{round}, limits: {{rate: {}/s}}}}{extra}}}\n\
             pools:\n  p{round}:\n    balance: {}\n    health_check: {health}\n    \
             backends: [{}, {}]\n  q: {{backends: [{}], health_check: off}}\n",
            ["off", &format!("{dir}/access.log")][round / 2 % 2],
            ringway.bind(),
            1_000_000 + round,
            ["maglev", "least_connections", "round_robin"][round % 3],
            backend(round),
            backend(round + 1),
            backend(round / 3),
        )
    };
    let run = |round: usize| {
        ringway.rewrite_as(&file(round));
        match round % 10 {
            9 => drop(ringway.reload_refused()),
            _ => drop(ringway.reload()),
        }
        visit(ringway.address()).unwrap();
    };
    // Compared at the same place of the cycle of files.
    let looks = || {
        ringway.until_connections(0);
        let process = &ringway.process;
        (process.descriptors_kept(), process.threads().len())
    };
    // The threads that answer take memory of their own when they first do; the least of what is there
    // when all of them have is what is kept.
    let memory = || {
        (0..40).for_each(|_| drop(ringway.metrics()));
        least(|| ringway.process.resident_bytes() as usize)
    };
    let cycle = 120;
    let warm = 2 * cycle;
    (0..=warm).for_each(run);
    let before = looks();
    let rounds = reloads.div_ceil(cycle) * cycle;
    let mut taken = memory();
    // The allocator's own share moves by half a megabyte from run to run, and by more on a slow machine; what a
    // reload leaves behind grows again and again.
    let grows = (0..4).all(|run_number| {
        let first = warm + 1 + run_number * rounds;
        (first..first + rounds).for_each(run);
        until_is("descriptors and threads", before, looks);
        let now = memory();
        println!("{rounds} reloads: {taken} bytes before, {now} after");
        let has_grown = now > taken + taken / 20;
        taken = now;
        has_grown
    });
    assert!(!grows, "each {rounds} reloads leave more memory behind");
    ringway.stop_early();
}

/// Printed, not judged: the goal is 50 ms.
#[test]
fn a_reload_of_a_thousand_backends_is_timed() {
    let server = Server::echo(b'a');
    let addresses = |round: usize| {
        let far = (0..1000).map(move |n| format!("127.{}.{}.1:9", 1 + (n + round) / 250, n % 250));
        far.chain([server.address().to_string()])
    };
    let setup = |round| {
        Setup::to(addresses(round))
            .workers(2)
            .balance("least_connections")
            .pool("connect: {timeout: 1s, attempts: 10}")
    };
    let ringway = setup(0).start();
    for round in 1..4 {
        ringway.rewrite(&setup(250 * round));
        let asked = Instant::now();
        let changes = ringway.reload().len();
        println!(
            "{changes} changes of 1000 backends: {:.1?} in all",
            asked.elapsed()
        );
        assert!(changes > 0);
    }
    for line in ringway.log_lines() {
        if line["message"] == "configuration reloaded" {
            println!("from the file read to every worker: {} s", line["seconds"]);
        }
    }
}
