//! Which keeper probes which backend, and starting the keepers that have something to do.
//!
//! A keeper shares its worker's CPU. Invariant: every backend with checks has exactly one keeper.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ringway_config::{BackendAddress, CheckKind, Config, ConnectSource, HealthCheck, Pool};
use ringway_health::{Check, http_request, key_of, owner};
use ringway_keeper::{KeeperHandle, KeeperParams, ProbeAddress, Target, VerdictSink, spawn};
use ringway_wire::{Addresses, Command, Extensions, ProxyVersion, V1_LINE_MAX, write_v1, write_v2};

use crate::error::StartError;
use crate::health::Board;
use crate::layout::Layout;
use crate::plan::place;

/// The targets of each of `workers` keepers.
pub(crate) fn targets(
    config: &Config,
    layout: &Layout,
    board: &Board,
    workers: usize,
) -> Vec<Vec<Target>> {
    let mut by_keeper: Vec<Vec<Target>> = (0..workers).map(|_| Vec::new()).collect();
    let places = layout.pool_at.iter().zip(&layout.backend_at);
    for (pool, (at, own)) in config.pools.iter().zip(places) {
        let Some(check) = &pool.health else { continue };
        for (backend, own) in pool.backends.iter().zip(own) {
            // One out of use has no key.
            let Some(key) = board.key(*at, *own) else {
                continue;
            };
            let name = format!("{}/{}", pool.name, backend.address);
            let keeper = owner(key_of(&name), place(workers));
            let address = probe_address(&backend.address, check);
            by_keeper[usize::from(keeper)].push(Target {
                key,
                sources: sources(pool),
                preface: preface(pool.send_proxy, check),
                check: Arc::new(probe_check(check, &address)),
                address,
                params: check.params,
            });
        }
    }
    by_keeper
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

/// The keepers, by worker; a worker whose keeper would have nothing to do has none.
pub(crate) struct Keepers {
    handles: Vec<Option<KeeperHandle>>,
    cpus: Vec<usize>,
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
    pub(crate) fn new(
        cpus: &[usize],
        epoch: Instant,
        sink: Arc<dyn VerdictSink>,
        seed: fn() -> u64,
    ) -> Keepers {
        Keepers {
            handles: cpus.iter().map(|_| None).collect(),
            cpus: cpus.to_vec(),
            epoch,
            sink,
            seed,
        }
    }

    /// Starts those that will have something to do and do not run, with nothing to do yet. One that
    /// ran before an error stays: it costs a thread, and the next reload may want it.
    pub(crate) fn start(&mut self, config: &Config) -> Result<(), StartError> {
        let mut is_needed = vec![false; self.cpus.len()];
        for pool in config.pools.iter().filter(|pool| pool.health.is_some()) {
            for backend in &pool.backends {
                let name = format!("{}/{}", pool.name, backend.address);
                is_needed[usize::from(owner(key_of(&name), place(self.cpus.len())))] = true;
            }
        }
        for (at, (handle, cpu)) in self.handles.iter_mut().zip(&self.cpus).enumerate() {
            if handle.is_some() || !is_needed[at] {
                continue;
            }
            let params = KeeperParams {
                index: place(at),
                cpu: Some(*cpu),
                targets: Vec::new(),
                fleet_count: 0,
                seed: (self.seed)(),
                start: self.epoch,
            };
            let keeper = spawn(params, Arc::clone(&self.sink));
            *handle = Some(keeper.map_err(|source| StartError::Keeper {
                index: place(at),
                source,
            })?);
        }
        Ok(())
    }

    /// Gives each its backends; one that has none left ends.
    pub(crate) fn assign(&mut self, config: &Config, layout: &Layout, board: &Board) {
        let targets = targets(config, layout, board, self.cpus.len());
        let fleet_count = targets.iter().map(Vec::len).sum();
        for (handle, targets) in self.handles.iter_mut().zip(targets) {
            if targets.is_empty() {
                // Dropping a keeper tells it to stop and does not wait for that.
                *handle = None;
            } else if let Some(keeper) = handle {
                keeper.update(targets, fleet_count);
            }
        }
    }

    /// Tells all to stop, and does not wait for that.
    pub(crate) fn stop(&mut self) {
        self.handles.iter_mut().for_each(|handle| *handle = None);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ringway_config::{Backend, Pool};

    use super::*;

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
            let by_keeper = targets(&config, &layout, &board, workers);
            assert_eq!(by_keeper.len(), workers);
            let all: Vec<&Target> = by_keeper.iter().flatten().collect();
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
