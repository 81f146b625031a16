//! An instance in a control group of its own that has little memory, under more load than that carries: it
//! refuses who comes too late, those who are in go on, and the kernel need not end it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::SockRef;

use crate::backend::{Backend, Hoard};
use crate::crowds::{exchange, stuff};
use crate::eventually::{PATIENCE, until};
use crate::peers::{read_exactly, try_narrow};
use crate::process::Launch;
use crate::scale::fitting;
use crate::setup::{Relay, Setup};

const MIB: u64 = 1 << 20;

/// A control group with a bound of memory, removed when it is dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Inside the group of this test, or beside it. None where none can be made, which it says.
    fn new(bytes: u64) -> Option<MemoryGroup> {
        let memberships = fs::read_to_string("/proc/self/cgroup").unwrap();
        let places = memberships.lines().flat_map(places).collect::<Vec<_>>();
        for place in places {
            let group = MemoryGroup(place.join(format!("ringway-test-{}", std::process::id())));
            let bounds = ["memory.limit_in_bytes", "memory.max"];
            let bound = |name| fs::write(group.0.join(name), bytes.to_string()).is_ok();
            if fs::create_dir(&group.0).is_ok() && bounds.into_iter().any(bound) {
                return Some(group);
            }
        }
        eprintln!("not tested: no control group for memory can be made here");
        None
    }

    /// For [`Launch::Confined`].
    fn processes(&self) -> &'static str {
        let path = self.0.join("cgroup.procs");
        path.to_str().unwrap().to_owned().leak()
    }

    /// Processes that the kernel ended in it.
    fn killed(&self) -> u64 {
        let read = |name| fs::read_to_string(self.0.join(name)).ok();
        let text = read("memory.oom_control").or_else(|| read("memory.events"));
        let text = text.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.unwrap().parse().unwrap()
    }
}

/// Where a line of /proc/self/cgroup allows a group for memory; see cgroups(7).
fn places(membership: &str) -> Vec<PathBuf> {
    let mut fields = membership.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next().unwrap(), fields.next().unwrap());
    let root = match controllers {
        "" => Path::new("/sys/fs/cgroup"),
        some if some.split(',').any(|name| name == "memory") => Path::new("/sys/fs/cgroup/memory"),
        _ => return Vec::new(),
    };
    let own = root.join(path.trim_start_matches('/'));
    let above = own.parent().filter(|above| above.starts_with(root));
    let above = above.map(Path::to_owned);
    [Some(own), above].into_iter().flatten().collect()
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Who is let in is greeted.
fn greeted(client: &TcpStream) -> bool {
    match (&*client).read(&mut [0]) {
        Ok(len) => len == 1,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            false
        }
    }
}

#[test]
fn what_128_mebibytes_do_not_carry_is_refused_and_nobody_is_killed() {
    // Shares are divided anew where workers come, and where they leave with what they have.
    for (relay, workers) in [(Relay::Copy, 1), (Relay::Auto, 1), (Relay::Copy, 3)] {
        let Some(group) = MemoryGroup::new(128 * MIB) else {
            return;
        };
        let hoard = Hoard::new(b'!');
        let setup = Setup::to([hoard.address()]).relay(relay);
        let setup = setup.listener("tcp: {send_buffer: 16KiB}");
        let setup = setup.launch_as(Launch::Confined(group.processes()));
        let ringway = setup.clone().start();
        ringway.reload_as(&setup.clone().workers(workers));
        let (mut clients, mut refused) = (Vec::new(), 0);
        for _ in 0..fitting(5000, 5000) {
            match try_narrow(ringway.address()) {
                Ok(client) if greeted(&client) => clients.push(client),
                Ok(_) | Err(_) => refused += 1,
            }
            if refused == 100 {
                break;
            }
        }
        assert_eq!(ringway.refused("resources"), refused, "{relay:?}");
        ringway.reload_as(&setup);
        // In the order in which they came, each after the one before it was greeted.
        let address = hoard.address();
        let accepted = hoard.close();
        let (first, crowd) = accepted.split_first().unwrap();
        for stream in crowd {
            SockRef::from(stream)
                .set_send_buffer_size(32 * 1024)
                .unwrap();
        }
        let stuff_all = || -> usize { crowd.iter().map(|stream| stuff(stream, 300_000)).sum() };
        while stuff_all() > 0 {
            ringway.until_blocked("backend");
        }
        for _ in 0..3 {
            exchange(&clients[0], first);
            exchange(first, &clients[0]);
        }
        let held = ringway.process.resident_bytes() / MIB;
        eprintln!(
            "{relay:?}: {} in, {refused} refused, {held} MiB",
            clients.len()
        );
        assert_eq!(group.killed(), 0, "{relay:?}");
        assert!(refused > 0, "{relay:?}: nothing was too much for it");
        drop((clients, accepted));
        ringway.until_connections(0);
        let backend = Backend::at(address);
        let (client, accepted) = backend.pair(&ringway);
        exchange(&client, &accepted);
    }
}

/// What a Unix socket holds is charged in cgroup v1, too.
#[test]
fn clients_who_read_nothing_do_not_use_memory_up_and_the_others_go_on() {
    let Some(group) = MemoryGroup::new(40 * MIB) else {
        return;
    };
    let hoard = Hoard::new(b'!');
    let setup = Setup::to([hoard.address()]).binds(&["unix:DIR/front.sock"]);
    let setup = setup.launch_as(Launch::Confined(group.processes()));
    let ringway = setup.start();
    let path = ringway.dir().join("front.sock");
    // In the order in which they came: each is greeted before the next one comes.
    let come = || {
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut [0]).ok().map(|()| client)
    };
    let reader = come().unwrap();
    let crowd: Vec<UnixStream> = (0..250).map_while(|_| come()).collect();
    assert_eq!(crowd.len(), 250, "refused before anything was short");
    let address = hoard.address();
    let mut accepted = hoard.close().into_iter();
    let own = accepted.next().unwrap();
    let others: Vec<TcpStream> = accepted.collect();
    for stream in &others {
        stream.set_nonblocking(true).unwrap();
    }
    // Whether some have to be reset for it depends on how fast they are confined.
    until("it is short", || {
        for mut stream in &others {
            // It has no room, or was reset.
            let _ = stream.write(&[7; 50_000]);
        }
        ringway.process.log().contains("memory is short")
    });
    (&own).write_all(b"still").unwrap();
    assert_eq!(&read_exactly::<5>(&reader), b"still");
    (&reader).write_all(b"there").unwrap();
    assert_eq!(&read_exactly::<5>(&own), b"there");
    drop((crowd, others));
    let backend = Backend::at(address);
    let mut clients = Vec::new();
    // As long as memory is short, who comes is refused.
    until("who comes is served", || {
        clients.extend(UnixStream::connect(&path));
        backend.is_reached()
    });
    assert_eq!(group.killed(), 0);
    let log = ringway.process.log();
    let said = log.matches("memory is short").count();
    assert_eq!(said, 1, "{log}");
}
