//! Which keeper probes which backend, and starting the keepers that have something to do.
//!
//! A keeper shares its worker's CPU. Invariant: every backend with checks has exactly one keeper.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ringway_config::{
    Backend, BackendAddress, CheckKind, Config, ConnectSource, HealthCheck, Pool,
};
use ringway_health::{Check, Health, http_request, key_of, owner};
use ringway_keeper::{
    BackendKey, KeeperHandle, KeeperParams, ProbeAddress, Target, VerdictSink, spawn,
};
use ringway_wire::{Addresses, Command, Extensions, ProxyVersion, V1_LINE_MAX, write_v1, write_v2};

use crate::error::StartError;
use crate::health::Board;
use crate::layout::Layout;

/// The targets of the keeper of each of these workers. Those that another keeper had, by the keys that it
/// had them by, are handed over.
pub(crate) fn targets(
    config: &Config,
    layout: &Layout,
    board: &Board,
    workers: &[u16],
    before: &HashMap<BackendKey, u16>,
) -> BTreeMap<u16, Vec<Target>> {
    let mut by_keeper = BTreeMap::<u16, Vec<Target>>::new();
    let places = layout.pool_at.iter().zip(&layout.backend_at);
    for (pool, (at, own)) in config.pools.iter().zip(places) {
        let Some(check) = &pool.health else { continue };
        for (backend, own) in pool.backends.iter().zip(own) {
            // One out of use has no key.
            let Some(key) = board.key(*at, *own) else {
                continue;
            };
            let Some(keeper) = owner(backend_key(pool, backend), workers.iter().copied()) else {
                continue;
            };
            let moves = before.get(&key).is_some_and(|had| *had != keeper);
            let handed = moves.then(|| board.hand_over(*at, *own)).flatten();
            let known = handed.map(|(_, standing)| standing);
            let key = handed.map_or(key, |(key, _)| key);
            let address = probe_address(&backend.address, check);
            by_keeper.entry(keeper).or_default().push(Target {
                key,
                sources: sources(pool),
                preface: preface(pool.send_proxy, check),
                check: Arc::new(probe_check(check, &address)),
                address,
                params: check.params,
                known: known.map_or(Health::Unknown, |known| known.health),
                last_probe: known.and_then(|known| known.check_began_at),
            });
        }
    }
    by_keeper
}

fn backend_key(pool: &Pool, backend: &Backend) -> u64 {
    key_of(&format!("{}/{}", pool.name, backend.address))
}

/// A check has no client to come from: the kernel chooses its address then.
fn sources(pool: &Pool) -> Arc<[IpAddr]> {
    match &pool.connect_source {
        ConnectSource::Addresses(addresses) => addresses.as_slice().into(),
        ConnectSource::Any | ConnectSource::Client => Arc::default(),
    }
}

fn probe_address(address: &BackendAddress, check: &HealthCheck) -> ProbeAddress {
    match address {
        BackendAddress::Tcp(address) => {
            let mut address = *address;
            address.set_port(check.port.unwrap_or(address.port()));
            ProbeAddress::Tcp(address)
        }
        BackendAddress::Unix(path) => ProbeAddress::Unix(Path::to_owned(path)),
    }
}

/// What a backend that expects a PROXY header gets for a connection of Ringway's own. What is on
/// another port need not expect one.
fn preface(version: Option<ProxyVersion>, check: &HealthCheck) -> Arc<[u8]> {
    let mut header = [0; V1_LINE_MAX];
    let len = match version.filter(|_| check.port.is_none()) {
        None => Some(0),
        Some(ProxyVersion::V1) => write_v1(&Addresses::Unspecified, &mut header),
        Some(ProxyVersion::V2) => {
            let (whom, nothing) = (Addresses::Unspecified, Extensions::default());
            write_v2(Command::Local, &whom, &nothing, &mut header)
        }
    };
    header[..len.expect("invariant: a header without addresses is short")].into()
}

fn probe_check(check: &HealthCheck, address: &ProbeAddress) -> Check {
    match &check.kind {
        CheckKind::Tcp => Check::Connect,
        CheckKind::Http {
            path,
            host,
            statuses,
        } => {
            let host = host.clone().unwrap_or_else(|| match address {
                ProbeAddress::Tcp(address) => address.to_string(),
                ProbeAddress::Unix(_) => "localhost".to_owned(),
            });
            Check::Http {
                request: http_request(path, &host),
                statuses: statuses.clone(),
            }
        }
        CheckKind::Exchange { send, expect } => Check::Exchange {
            send: send.clone(),
            expect: expect.clone(),
        },
    }
}

/// The keepers, by the number of their worker; a worker whose keeper would have nothing to do has none.
pub(crate) struct Keepers {
    handles: BTreeMap<u16, KeeperHandle>,
    /// Who checks what.
    owners: HashMap<BackendKey, u16>,
    epoch: Instant,
    sink: Arc<dyn VerdictSink>,
    seed: fn() -> u64,
}

impl fmt::Debug for Keepers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.handles).finish()
    }
}

impl Keepers {
    /// None runs yet.
    pub(crate) fn new(epoch: Instant, sink: Arc<dyn VerdictSink>, seed: fn() -> u64) -> Keepers {
        Keepers {
            handles: BTreeMap::new(),
            owners: HashMap::new(),
            epoch,
            sink,
            seed,
        }
    }

    /// Starts those that will have something to do and do not run, with nothing to do yet, for workers given
    /// by number and CPU. What was started before an error is ended again.
    pub(crate) fn start(
        &mut self,
        config: &Config,
        workers: &[(u16, usize)],
    ) -> Result<(), StartError> {
        let mut is_needed = HashSet::new();
        for pool in config.pools.iter().filter(|pool| pool.health.is_some()) {
            for backend in &pool.backends {
                let numbers = workers.iter().map(|(number, _)| *number);
                is_needed.extend(owner(backend_key(pool, backend), numbers));
            }
        }
        let mut started = BTreeMap::new();
        for (number, cpu) in workers {
            if self.handles.contains_key(number) || !is_needed.contains(number) {
                continue;
            }
            let params = KeeperParams {
                index: *number,
                cpu: Some(*cpu),
                targets: Vec::new(),
                fleet_count: 0,
                seed: (self.seed)(),
                start: self.epoch,
            };
            let keeper = spawn(params, Arc::clone(&self.sink));
            let keeper = keeper.map_err(|source| StartError::Keeper {
                index: *number,
                source,
            })?;
            started.insert(*number, keeper);
        }
        self.handles.append(&mut started);
        Ok(())
    }

    /// Gives each its backends; one that has none ends.
    pub(crate) fn assign(
        &mut self,
        config: &Config,
        layout: &Layout,
        board: &Board,
        workers: &[u16],
    ) {
        let mut targets = targets(config, layout, board, workers, &self.owners);
        let fleet_count = targets.values().map(Vec::len).sum();
        self.owners = targets
            .iter()
            .flat_map(|(keeper, targets)| targets.iter().map(|target| (target.key, *keeper)))
            .collect();
        // Dropping a keeper tells it to stop and does not wait for that.
        self.handles.retain(|keeper, handle| {
            let own = targets.remove(keeper);
            own.map(|own| handle.update(own, fleet_count)).is_some()
        });
    }

    /// Ends those that were started for nothing.
    pub(crate) fn end_idle(&mut self) {
        let busy: HashSet<u16> = self.owners.values().copied().collect();
        self.handles.retain(|keeper, _| busy.contains(keeper));
    }

    /// The thread of a worker's keeper.
    pub(crate) fn thread_of(&self, worker: u16) -> Option<i32> {
        self.handles.get(&worker).map(KeeperHandle::thread_id)
    }

    /// Tells all to stop, and does not wait for that.
    pub(crate) fn stop(&mut self) {
        self.handles.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringway_health::ProbeResult;

    use super::*;
    use crate::health::Verdicts;

    #[test]
    fn every_checked_backend_has_one_keeper_and_the_others_none() {
        let pool = |name: &str, health| {
            let backends =
                (1..=20).map(|n| Backend::new(format!("10.0.0.{n}:80").parse().unwrap()));
            let mut pool = Pool::new(name, backends.collect());
            pool.health = health;
            pool
        };
        let check = HealthCheck {
            port: Some(8081),
            ..HealthCheck::default()
        };
        let config = Config::new(Vec::new(), vec![pool("a", None), pool("b", Some(check))]);
        for workers in [1, 2, 3, 8] {
            let layout = Layout::of(&config).unwrap();
            let board = Board::new(&config, &layout);
            let numbers: Vec<u16> = (0..workers).collect();
            let by_keeper = targets(&config, &layout, &board, &numbers, &HashMap::new());
            assert!(by_keeper.keys().all(|keeper| *keeper < workers));
            let all: Vec<&Target> = by_keeper.values().flatten().collect();
            assert_eq!(all.len(), 20);
            assert!(all.iter().all(|target| target.key.pool == 1));
            assert_eq!(
                all.iter()
                    .map(|t| t.key.backend)
                    .collect::<HashSet<_>>()
                    .len(),
                20
            );
            let ProbeAddress::Tcp(address) = &all[0].address else {
                panic!("not TCP: {:?}", all[0]);
            };
            assert_eq!(address.port(), 8081);
        }
    }

    #[test]
    fn a_worker_that_leaves_hands_its_backends_over_with_what_is_known_and_the_others_keep_theirs()
    {
        let backends = (1..=20).map(|n| Backend::new(format!("10.0.0.{n}:80").parse().unwrap()));
        let mut pool = Pool::new("p", backends.collect());
        pool.health = Some(HealthCheck::default());
        let config = Config::new(Vec::new(), vec![pool]);
        let layout = Layout::of(&config).unwrap();
        let board = Arc::new(Board::new(&config, &layout));
        let owners = |by_keeper: &BTreeMap<u16, Vec<Target>>| -> HashMap<BackendKey, u16> {
            let each = by_keeper.iter();
            each.flat_map(|(keeper, own)| own.iter().map(|target| (target.key, *keeper)))
                .collect()
        };
        let before = targets(&config, &layout, &board, &[0, 1, 2], &HashMap::new());
        let had = owners(&before);
        let verdicts = Verdicts {
            board: Arc::clone(&board),
            events: tokio::sync::mpsc::unbounded_channel().0,
        };
        let second = Duration::from_secs(1);
        let began = |backend: u16| second * 9 + Duration::from_millis(backend.into());
        for key in had.keys() {
            verdicts.on_probe(*key, began(key.backend) + second, second, &ProbeResult::Ok);
        }
        let after = targets(&config, &layout, &board, &[0, 2], &had);
        let has = owners(&after);
        assert_eq!((had.len(), has.len()), (20, 20));
        let kept = has
            .iter()
            .filter(|(key, keeper)| had.get(key) == Some(keeper));
        assert_eq!(kept.count(), 20 - before[&1].len());
        let moved = before[&1]
            .iter()
            .filter(|target| has.contains_key(&target.key));
        assert_eq!(moved.count(), 0, "the keys of those that moved are new");
        for target in after.values().flatten() {
            let moved = !had.contains_key(&target.key);
            let expected = moved.then(|| began(target.key.backend));
            assert_eq!(target.last_probe, expected, "its place in the schedule");
        }
    }

    #[test]
    fn an_http_check_names_the_host_it_was_told_or_where_it_connects_to() {
        let request = |host: Option<&str>, address: &str| {
            let check = HealthCheck {
                port: (!address.starts_with("unix:")).then_some(8081),
                kind: CheckKind::Http {
                    path: "/healthz".to_owned(),
                    host: host.map(str::to_owned),
                    statuses: Vec::new(),
                },
                ..HealthCheck::default()
            };
            let address = probe_address(&address.parse().unwrap(), &check);
            let request = probe_check(&check, &address).request().to_vec();
            String::from_utf8(request).unwrap()
        };
        for (host, address, expected) in [
            (None, "10.0.0.1:80", "10.0.0.1:8081"),
            (None, "[2001:db8::1]:80", "[2001:db8::1]:8081"),
            (None, "unix:/run/b.sock", "localhost"),
            (Some("app.example"), "10.0.0.1:80", "app.example"),
        ] {
            let request = request(host, address);
            let begin = format!("GET /healthz HTTP/1.1\r\nHost: {expected}\r\n");
            assert!(request.starts_with(&begin), "{request}");
        }
    }

    #[test]
    fn a_unix_backend_is_probed_where_it_is() {
        let address = "unix:/run/b.sock".parse().unwrap();
        let probed = probe_address(&address, &HealthCheck::default());
        assert_eq!(probed, ProbeAddress::Unix("/run/b.sock".into()));
    }
}
