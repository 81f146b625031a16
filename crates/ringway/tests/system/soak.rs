//! Everything at once for as long as it is asked: clients that end in every way, readers that are slow,
//! storms of resets, backends that are killed and come back, an instance that is stopped for a moment;
//! configured as at the edge of a network. Every byte is checked, and at the end nothing is left.
//!
//! For some seconds among the other tests; `scripts/soak` runs it for minutes and prints the slope of the
//! resident memory, which a few seconds say nothing about.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::backend::Server;
use crate::instance::Ringway;
use crate::keyed::{Dice, Keyed};
use crate::peers::{End, end_by, patient, reset, try_narrow};
use crate::scale;
use crate::setup::Setup;
use crate::storms::{self, NEVER};

/// What a client does, and how many do so at the same time.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Exchanges some bytes and ends by FIN.
    Whole,
    /// Says that it was the last, and hears more afterwards.
    HalfClosed,
    /// Takes a little, waits, and takes a little more; goes in the middle.
    Slow,
    /// Resets while bytes are under way.
    Aborted,
    /// The backend resets.
    ByBackend,
    /// Resets as soon as it is connected, and so do those after it.
    Storm,
}

const CLIENTS: [(Manner, usize); 6] = [
    (Manner::Whole, 4),
    (Manner::HalfClosed, 2),
    (Manner::Slow, 24),
    (Manner::Aborted, 3),
    (Manner::ByBackend, 2),
    (Manner::Storm, 1),
];

#[derive(Debug, Default)]
struct Tally {
    connections: AtomicU64,
    whole: AtomicU64,
    failed: AtomicU64,
}

/// Backends killed so far.
static KILLS: AtomicU64 = AtomicU64::new(0);

/// Reads to the end. A FIN before the last byte would be a stream that was cut without a word.
fn expect(mut client: &TcpStream, key: u64, bytes: u64) -> io::Result<()> {
    let (mut stream, mut left, mut buffer) = (Keyed::new(!key), bytes, [0; 50_000]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => {
                assert_eq!(left, 0, "key {key}: a stream that was cut ends by a FIN");
                return Ok(());
            }
            Ok(len) => {
                stream.expect(&buffer[..len]);
                left -= len as u64;
            }
            Err(error) => {
                let reset = io::Error::from(io::ErrorKind::ConnectionReset);
                assert_eq!(end_by(error), End::Reset, "key {key}");
                return Err(reset);
            }
        }
    }
}

fn visit(manner: Manner, address: SocketAddr, key: u64) -> io::Result<()> {
    let mut dice = Dice(key);
    let (mut own, bytes) = (Keyed::new(key), 1 + dice.roll(200_000));
    let chunk = own.chunk(50_000);
    let hail = |resets, fin_after| storms::head(key, bytes, resets, fin_after);
    match manner {
        Manner::Whole | Manner::HalfClosed => {
            let mut client = patient(TcpStream::connect(address)?);
            client.write_all(&hail(false, chunk.len() as u64))?;
            client.write_all(chunk)?;
            if matches!(manner, Manner::HalfClosed) {
                client.shutdown(Shutdown::Write)?;
                return expect(&client, key, bytes);
            }
            let mut received = vec![0; bytes as usize];
            client.read_exact(&mut received)?;
            Keyed::new(!key).expect(&received);
            client.shutdown(Shutdown::Write)?;
            expect_end(&client)
        }
        Manner::Slow => {
            let mut client = try_narrow(address)?;
            client.write_all(&hail(false, NEVER))?;
            let mut stream = Keyed::new(!key);
            for _ in 0..1 + dice.roll(20) {
                let mut some = vec![0; 1 + dice.roll(4000) as usize];
                let len = client.read(&mut some)?;
                stream.expect(&some[..len]);
                // Its pace.
                thread::sleep(Duration::from_millis(20));
            }
            reset(client);
            Ok(())
        }
        Manner::Aborted => {
            let mut client = patient(TcpStream::connect(address)?);
            client.write_all(&hail(false, NEVER))?;
            client.write_all(chunk)?;
            let mut some = vec![0; 1 + dice.roll(bytes) as usize];
            let len = client.read(&mut some)?;
            Keyed::new(!key).expect(&some[..len]);
            reset(client);
            Ok(())
        }
        Manner::ByBackend => {
            let mut client = patient(TcpStream::connect(address)?);
            client.write_all(&hail(true, NEVER))?;
            match expect(&client, key, bytes) {
                Err(_) => Ok(()),
                Ok(()) => panic!("key {key}: a reset was passed on as a FIN"),
            }
        }
        Manner::Storm => {
            (0..200).for_each(|_| drop(TcpStream::connect(address).map(reset)));
            thread::sleep(Duration::from_millis(100));
            Ok(())
        }
    }
}

fn expect_end(mut client: &TcpStream) -> io::Result<()> {
    assert_eq!(client.read(&mut [0; 1])?, 0, "more than was asked for");
    Ok(())
}

/// Kills the backends in turn and starts them again, and stops the instance for a moment now and then.
fn disturb(ringway: &Ringway, servers: &mut [Server], is_over: &AtomicBool) {
    let pace = || thread::sleep(Duration::from_millis(400));
    for round in 0_usize.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let server = &mut servers[round % 3];
        pace();
        server.kill();
        KILLS.fetch_add(1, Ordering::Relaxed);
        pace();
        server.start();
        if round % 8 == 7 {
            ringway.freeze();
            pace();
            ringway.signal(Signal::CONT);
        }
    }
}

/// Bytes per second by which the samples grow, by least squares.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let over = |of: &dyn Fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>();
    let spread = over(&|sample| (sample.0 - x).powi(2));
    over(&|sample| (sample.0 - x) * (sample.1 - y)) / spread.max(f64::MIN_POSITIVE)
}

/// The samples at every tenth of the time, in MiB.
fn tenths(samples: &[(f64, f64)]) -> String {
    let at = |tenth: usize| samples[(samples.len() - 1) * tenth / 10].1 / (1024.0 * 1024.0);
    let told: Vec<String> = (0..=10).map(|tenth| format!("{:.1}", at(tenth))).collect();
    told.join(" ")
}

/// Resident memory by time, in seconds and bytes.
#[derive(Default)]
struct Memory {
    buffers: Vec<(f64, f64)>,
    rest: Vec<(f64, f64)>,
}

/// Looks at it once a second until it is over.
fn watch(ringway: &Ringway, span: Duration) -> Memory {
    let (begun, mut memory) = (Instant::now(), Memory::default());
    while begun.elapsed() < span {
        thread::sleep(Duration::from_secs(1));
        let buffers = ringway.process.buffer_bytes();
        let rest = ringway.process.resident_bytes().saturating_sub(buffers);
        let at = begun.elapsed().as_secs_f64();
        memory.buffers.push((at, buffers as f64));
        memory.rest.push((at, rest as f64));
    }
    memory
}

/// How memory grew after the first quarter, in MiB per hour, and what it was at every tenth.
fn course(samples: &[(f64, f64)]) -> String {
    let per_hour = slope(&samples[samples.len() / 4..]) * 3600.0 / (1024.0 * 1024.0);
    format!("{per_hour:+.2} MiB/h: {} MiB", tenths(samples))
}

fn edge(servers: &[Server]) -> Ringway {
    let none: [SocketAddr; 0] = [];
    let mut setup = Setup::to(none).workers(2).balance("least_connections");
    let keys = [
        "weight: 2",
        "weight: 1",
        "max_connections: 500",
        "backup: true",
    ];
    for (server, keys) in servers.iter().zip(keys) {
        setup = setup.backend(server.address(), keys);
    }
    setup
        .listener("access: {deny: [198.51.100.0/24]}")
        .listener(
            "limits: {connections: 900, connections_per_source: 800, rate_per_source: 20000/s}",
        )
        .listener("timeouts: {first_byte: 15s, idle: 10m, half_close: 30s, lifetime: 24h}")
        .health_checks()
        .pool("outlier: {consecutive_failures: 5, ejection: 300ms}")
        .pool("connect: {timeout: 2s, attempts: 3}")
        .pool("when_backend_down: close")
        .pool("when_all_down: refuse")
        .access_log("/dev/null")
        .start()
}

#[test]
fn a_mixture_of_faults_cuts_no_stream_silently_and_leaves_nothing_behind() {
    let (span, pause) = (scale::span(Duration::from_secs(5)), scale::pause());
    let mut servers: Vec<Server> = (0..4).map(|_| Server::new(storms::backend)).collect();
    let ringway = edge(&servers);
    let held = || {
        (
            ringway.process.descriptors_kept(),
            ringway.process.threads(),
        )
    };
    let before = held();
    let (tally, is_over) = (Tally::default(), AtomicBool::new(false));
    let client = |manner: Manner, lane: u64| {
        for number in 0_u64.. {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            let outcome = visit(manner, ringway.address(), lane << 40 | number);
            tally.connections.fetch_add(1, Ordering::Relaxed);
            match outcome {
                Ok(()) => tally.whole.fetch_add(1, Ordering::Relaxed),
                Err(_) => tally.failed.fetch_add(1, Ordering::Relaxed),
            };
            // Its pace, where one is asked for.
            thread::sleep(pause);
        }
    };
    let memory = thread::scope(|scope| {
        let lanes = CLIENTS
            .iter()
            .flat_map(|(manner, count)| vec![*manner; *count]);
        for (lane, manner) in (1..).zip(lanes) {
            let client = &client;
            scope.spawn(move || client(manner, lane));
        }
        scope.spawn(|| disturb(&ringway, &mut servers, &is_over));
        let memory = watch(&ringway, span);
        is_over.store(true, Ordering::Relaxed);
        memory
    });
    ringway.settle();
    servers.iter().for_each(Server::until_sound);
    let after = held();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let accepted = ringway.metrics().sum("listener_connections_total", &[]);
    eprintln!(
        "soak: {span:?}, {accepted} connections accepted, {} visits, {} of them as meant, {} cut, {} kills\n\
         soak: descriptors {} and {}, threads {} and {}\n\
         soak: receive buffers, which have a bound: {}\n\
         soak: what is resident besides: {}",
        count(&tally.connections),
        count(&tally.whole),
        count(&tally.failed),
        count(&KILLS),
        before.0,
        after.0,
        before.1.len(),
        after.1.len(),
        course(&memory.buffers),
        course(&memory.rest),
    );
    assert!(count(&tally.whole) > count(&tally.failed), "{tally:?}");
    assert_eq!(before.1, after.1);
}
