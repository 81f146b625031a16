//! An instance in a control group (v2) of 128 MiB, with hundreds of clients who all ask at once for more than it has and
//! read nothing, and others who come and do the same. 200 of them it carries; of 800 it resets some. Either way it goes
//! on serving one who reads, and is itself again when they have left. Not which of them are reset: that is decided, and
//! tested, in `ringway-worker`. Invariant: they are all there, and idle, before the first asks.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::groups::{Bounded, Groups};
use super::instance::{Config, Instance, UNCHECKED};
use super::load::Servers;
use super::rig::Rig;
use super::row::Row;

/// As many as it carries, and more.
const CARRIED: usize = 200;
const TOO_MANY: usize = 800;
/// Asks a source for bytes without end.
const ENDLESS: [u8; 8] = [0xff; 8];
/// How long they stay, and how long nobody but the reader is to need anything.
const STAY: Duration = Duration::from_secs(4);
/// From one attempt to come in to the next.
const KNOCK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// After those who held the memory have left.
const RECOVERY_MAX_MS: f64 = 1000.0;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Where clients come from.
#[derive(Clone, Copy, Debug)]
enum Front {
    Tcp,
    Unix,
}

impl Front {
    fn describe(self) -> &'static str {
        match self {
            Front::Tcp => "TCP",
            Front::Unix => "Unix",
        }
    }

    fn connect(self, to: &str) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Front::Tcp => {
                let stream = TcpStream::connect(to)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Front::Unix => {
                let path = Path::new(to.strip_prefix("unix:").unwrap_or(to));
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        })
    }

    /// A client that comes now and gets its first byte.
    fn served(self, to: &str) -> Option<Box<dyn Stream>> {
        let served = self.connect(to).and_then(|mut client| {
            client.write_all(&ENDLESS)?;
            client.read_exact(&mut [0])?;
            Ok(client)
        });
        served.ok()
    }
}

/// Somebody who reads all the time, though not as fast as it comes.
#[derive(Debug)]
struct Reader {
    bytes: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Reader {
    fn start(mut client: Box<dyn Stream>) -> io::Result<Reader> {
        client.write_all(&ENDLESS)?;
        let (bytes, is_over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (counted, ends) = (Arc::clone(&bytes), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while !ends.load(Ordering::Relaxed) {
                match client.read(&mut buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    len => counted.fetch_add(len as u64, Ordering::Relaxed),
                };
                thread::sleep(KNOCK);
            }
            Ok(())
        });
        Ok(Reader {
            bytes,
            is_over,
            thread,
        })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it was let read to the end.
    fn end(self) -> bool {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().is_ok_and(|read| read.is_ok())
    }
}

/// For clients of either kind.
pub(super) fn strained(rig: &Rig) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for front in [Front::Tcp, Front::Unix] {
        for blockers in [CARRIED, TOO_MANY] {
            rows.extend(strain(rig, front, blockers)?);
        }
    }
    Ok(rows)
}

fn strain(rig: &Rig, front: Front, count: usize) -> io::Result<Vec<Row>> {
    let name = format!("goes on with {count} blocked, {}", front.describe());
    let Some(groups) = Groups::new(Bounded::Own) else {
        return Ok(vec![Row::skipped(
            &name,
            "no group of cgroup v2 with a memory controller can be made here",
        )]);
    };
    let servers = Servers::start(rig, &["source"], &[])?;
    let backends = servers.of("source");
    let config = Config::pinned(rig);
    let config = match front {
        Front::Tcp => config.listener("l", "auto", &backends, UNCHECKED),
        Front::Unix => config.unix_listener("l", &rig.path("l.sock"), &backends, UNCHECKED),
    };
    let instance = Instance::start_in(rig, &config, &groups.processes())?;
    let to = instance.address("l")?;
    let reader = Reader::start(front.connect(&to)?)?;
    let mut blockers = Vec::new();
    for _ in 0..count {
        blockers.push(front.connect(&to)?);
    }
    let all_in = instance.settles(PATIENCE, |metrics| {
        Ok(metrics.sum("ringway_worker_connections", &[])? == count as u64 + 1)
    })?;
    for blocker in &mut blockers {
        // One may have been reset for what those before it hold.
        let _ = blocker.write_all(&ENDLESS);
    }
    let begun = Instant::now();
    let (read_before, mut refused) = (reader.bytes(), 0);
    let mut most = String::new();
    while begun.elapsed() < STAY && groups.events("oom_kill ")? == 0 {
        // Who is let in reads no more either.
        match front.served(&to) {
            Some(client) => blockers.push(client),
            None => refused += 1,
        }
        most = most.max(format!("{:>9}", groups.charged()?));
        thread::sleep(KNOCK);
    }
    let killed = groups.events("oom_kill ")?;
    if killed > 0 || !all_in {
        let shown = format!("all in: {all_in}, killed: {killed}; {}", groups.charged()?);
        return Ok(vec![Row::violated(&name, &shown, "goes on")]);
    }
    let read = reader.bytes() - read_before;
    let metrics = instance.metrics()?;
    let reset = metrics.sum(
        "ringway_connections_closed_total",
        &[("side", "ringway"), ("reason", "error")],
    )?;
    drop(blockers);
    let left = Instant::now();
    while front.served(&to).is_none() && left.elapsed() < PATIENCE {
        thread::sleep(KNOCK);
    }
    let again = left.elapsed().as_secs_f64() * 1000.0;
    let counted = instance
        .metrics()?
        .sum("ringway_listener_refused_total", &[("reason", "resources")])?;
    let said = instance.said("memory is short")?;
    let is_intact = reader.end();
    let killed = groups.events("oom_kill ")?;
    drop(instance);
    let mut rows = vec![
        Row::exactly(&format!("{name}: killed"), killed, 0),
        Row::at_least(
            "  KiB that one who reads got meanwhile",
            read as f64 / 1024.0,
            1024.0,
            &format!("{}; {}", read / 1024, most.trim()),
        ),
        Row::exactly("  and it was not reset", is_intact.into(), 1),
        Row::at_most(
            "  ms until who comes is served again",
            again,
            RECOVERY_MAX_MS,
            &format!("{again:.0}"),
        ),
    ];
    if count > CARRIED {
        let shown = format!("{reset}; {refused} refused meanwhile, {counted} in all");
        rows.extend([
            Row::at_least(
                "  reset of those who do not read",
                reset as f64,
                1.0,
                &shown,
            ),
            Row::exactly("  times it said so", said as u64, 1),
        ]);
    }
    Ok(rows)
}
