//! Whole scrapes, read back by a parser for Prometheus's text.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_parse::{Sample, Value as Parsed};

use super::*;
use crate::declare::{FAMILIES, Kind, WorkerLabel};
use crate::label::{
    CheckResult, CloseReason, Engine, Peer, RefusedReason, ReloadResult, Side, Stage,
};
use crate::topology::{ListenerNames, PoolNames, RouteNames};
use crate::worker_histograms::WorkerHistograms;
use crate::{AcceptError, ConnectError, Histogram};

fn topology() -> Arc<Topology> {
    let pool = |name: &str, backends: &[&str]| PoolNames {
        name: name.into(),
        backends: backends.iter().map(|b| b.to_string()).collect(),
    };
    Arc::new(Topology {
        listeners: ["web", "odd \"name\"\\"]
            .map(|name| ListenerNames { name: name.into() })
            .into(),
        routes: [(0, 0), (0, 1), (1, 1)]
            .map(|(listener, pool)| RouteNames { listener, pool })
            .into(),
        pools: vec![
            pool("api", &["127.0.0.1:1", "[::1]:2"]),
            pool("web", &["unix:/run/x.sock"]),
        ],
    })
}

/// Different numbers in every cell, so that no two can be mistaken for each other.
fn counted(worker: u16, topology: &Arc<Topology>) -> WorkerScrape {
    let mut next = u64::from(worker) * 1_000;
    let mut number = move || {
        next += 1;
        next
    };
    let blocks = WorkerBlocks::new(worker, topology);
    let w = &blocks.worker;
    let ring = &w.ring;
    for counter in [
        &ring.enters,
        &ring.submissions,
        &ring.completions,
        &ring.cq_overflow,
    ] {
        counter.add(number());
    }
    for counter in [&ring.buffers_exhausted, &w.pipes.exhausted, &w.busy_nanos] {
        counter.add(number());
    }
    for gauge in [
        &ring.iowq_workers,
        &w.pipes.in_use,
        &w.pipes.idle,
        &w.connections,
    ] {
        gauge.set(number().cast_signed());
    }
    w.stale_completions.add(number());
    w.access_log_dropped.add(number());
    for engine in Engine::ALL {
        w.relayed_bytes[engine].add(number());
    }
    for listener in &blocks.listeners {
        listener.connections_total.add(number());
        listener.connections.set(number().cast_signed());
        for reason in RefusedReason::ALL {
            listener.refused[reason].add(number());
        }
        for error in AcceptError::ALL {
            listener.accept_errors[error].add(number());
        }
    }
    for route in &blocks.routes {
        for side in Side::ALL {
            for reason in CloseReason::ALL {
                route.closed[side][reason].add(number());
            }
        }
        for peer in Peer::ALL {
            route.received_bytes[peer].add(number());
            route.sent_bytes[peer].add(number());
        }
    }
    for pool in &blocks.pools {
        pool.retries.add(number());
        pool.fail_open.add(number());
        for peer in Peer::ALL {
            pool.retransmitted_segments[peer].add(number());
        }
    }
    for backend in blocks.backends.iter().flatten() {
        backend.connections.set(number().cast_signed());
        backend.connections_total.add(number());
        for error in ConnectError::ALL {
            backend.connect_failures[error].add(number());
        }
    }
    let mut histograms = WorkerHistograms::new(Arc::clone(topology));
    histograms.loop_time.record(number());
    for route in &mut histograms.stages {
        for stage in Stage::ALL {
            route[stage].record(number() * 1_000);
        }
    }
    for pool in &mut histograms.round_trips {
        for peer in Peer::ALL {
            pool[peer].record(number());
        }
    }
    WorkerScrape {
        blocks,
        histograms: Some(histograms.snapshot()),
    }
}

fn populated(workers: u16) -> Scrape {
    let topology = topology();
    let health = Arc::new(HealthBlock::default());
    health.record(CheckResult::Pass, 1_700_000_000_000);
    let mut checks = Histogram::new();
    checks.record(800);
    let backend = |state| BackendScrape {
        up: true,
        state,
        health: Some(Arc::clone(&health)),
    };
    let pool = |states: &[AdminState]| PoolScrape {
        backends: states.iter().map(|state| backend(*state)).collect(),
        health_check_time: Some(checks.snapshot()),
    };
    let control = ControlBlock::default();
    control.reloads[ReloadResult::Failure].increment();
    control
        .last_reload_success_unix_millis
        .set(1_700_000_000_001);
    let stat = "1 (r) S 1 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 5 0 9 1 1";
    Scrape {
        build: BuildInfo {
            version: "0.1.0".into(),
            commit: "abc".into(),
        },
        workers: (0..workers)
            .map(|worker| counted(worker, &topology))
            .collect(),
        pools: vec![
            pool(&[AdminState::Active, AdminState::Drain]),
            pool(&[AdminState::Maintenance]),
        ],
        topology,
        control: Arc::new(control),
        draining_connections: 3,
        process: ProcessStats::parse(crate::process::ProcFiles {
            stat,
            status: "VmRSS: 1 kB\nVmSize: 2 kB\nThreads: 5\n",
            limits: "Max open files  1024  4096  files\n",
            system_stat: "btime 1700000000\n",
            open_fds: Some(9),
            ticks_per_second: 100,
        }),
    }
}

/// Every sample of a scrape as `name{labels}` and value; histograms as their buckets.
fn parsed(text: &str) -> Vec<Sample> {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    prometheus_parse::Scrape::parse(lines).unwrap().samples
}

/// Sums the values over the label `worker`.
fn without_worker(samples: Vec<Sample>) -> BTreeMap<String, Vec<f64>> {
    let mut sums = BTreeMap::new();
    for sample in samples {
        let mut labels: BTreeMap<_, _> = sample.labels.iter().collect();
        labels.remove(&"worker".to_owned());
        let values = match sample.value {
            Parsed::Counter(value) | Parsed::Gauge(value) | Parsed::Untyped(value) => vec![value],
            Parsed::Histogram(buckets) => buckets.iter().map(|bucket| bucket.count).collect(),
            Parsed::Summary(_) => panic!("no summaries are declared"),
        };
        let sum = sums
            .entry(format!("{} {labels:?}", sample.metric))
            .or_insert(vec![0.0; values.len()]);
        sum.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += value);
    }
    sums
}

fn text(scrape: &Scrape, per_worker: PerWorker) -> String {
    render(scrape, Format::Prometheus, per_worker)
}

#[test]
fn every_declared_family_is_rendered_and_nothing_else_in_the_declared_order() {
    for per_worker in [PerWorker::Merged, PerWorker::Labelled] {
        let text = text(&populated(2), per_worker);
        let headings: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let declared: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(headings, declared);
    }
}

#[test]
fn a_parser_reads_the_declared_names_labels_and_kinds() {
    for per_worker in [PerWorker::Merged, PerWorker::Labelled] {
        let mut seen = BTreeSet::new();
        for sample in parsed(&text(&populated(2), per_worker)) {
            let stem = sample
                .metric
                .strip_suffix("_sum")
                .or(sample.metric.strip_suffix("_count"));
            let family = (FAMILIES.iter())
                .find(|f| f.name == sample.metric || Some(f.name) == stem)
                .unwrap_or_else(|| panic!("{} is not declared", sample.metric));
            let worker = match (family.worker, per_worker) {
                (WorkerLabel::Always, _) | (WorkerLabel::OnRequest, PerWorker::Labelled) => {
                    Some("worker")
                }
                (WorkerLabel::OnRequest, PerWorker::Merged) | (WorkerLabel::Never, _) => None,
            };
            let expected: BTreeSet<_> = family.labels.iter().copied().chain(worker).collect();
            let found: BTreeSet<_> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(found, expected, "{}", sample.metric);
            match (family.kind, &sample.value) {
                (Kind::Counter, Parsed::Counter(_))
                | (Kind::Gauge | Kind::Info, Parsed::Gauge(_))
                | (Kind::Histogram(_), Parsed::Histogram(_) | Parsed::Untyped(_)) => {}
                (kind, value) => panic!("{}: {value:?} is not {kind:?}", sample.metric),
            }
            seen.insert(family.name);
        }
        assert_eq!(seen.len(), FAMILIES.len());
    }
}

#[test]
fn merged_is_the_sum_of_the_workers() {
    for workers in [1, 3] {
        let scrape = populated(workers);
        let merged = without_worker(parsed(&text(&scrape, PerWorker::Merged)));
        let summed = without_worker(parsed(&text(&scrape, PerWorker::Labelled)));
        assert_eq!(
            merged.keys().collect::<Vec<_>>(),
            summed.keys().collect::<Vec<_>>()
        );
        for (series, values) in &merged {
            for (value, sum) in values.iter().zip(&summed[series]) {
                // Sums of seconds are decimals: equal but for the parser's rounding.
                assert!(
                    (value - sum).abs() < 1e-9 * value.abs().max(1.0),
                    "{series}: {value} {sum}"
                );
            }
        }
    }
}

#[test]
fn each_cell_is_rendered_exactly_once() {
    let text = text(&populated(1), PerWorker::Labelled);
    let cells: Vec<u64> = text
        .lines()
        .filter(|line| line.contains("worker=\"0\"") && !line.contains("_seconds"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    let different: BTreeSet<_> = cells.iter().collect();
    assert_eq!(
        cells.len(),
        different.len(),
        "the same cell under two names"
    );
    // 7 worker and ring counters without the busy time, 4 gauges, 2 dropped, 3 engines; 2
    // listeners of 2+11+9; 3 routes of 24+4; 2 pools of 4; 3 backends of 2+6.
    assert_eq!(cells.len(), 6 + 4 + 2 + 3 + 2 * 22 + 3 * 28 + 2 * 4 + 3 * 8);
}

#[test]
fn values_stand_where_they_belong() {
    let scrape = populated(2);
    let [first, second] = [0, 1].map(|worker: usize| &scrape.workers[worker].blocks);
    let resets = |w: &WorkerBlocks| w.routes[1].closed[Side::Backend][CloseReason::Reset].value();
    let no_ports =
        |w: &WorkerBlocks| w.backends[0][1].connect_failures[ConnectError::NoPorts].value();
    let text = text(&scrape, PerWorker::Merged);
    for (series, value) in [
        (r#"ringway_build_info{version="0.1.0",commit="abc"}"#, "1"),
        ("ringway_workers", "2"),
        (
            r#"ringway_connections_closed_total{listener="web",pool="web",side="backend",reason="reset"}"#,
            &(resets(first) + resets(second)).to_string(),
        ),
        (
            r#"ringway_backend_connect_failures_total{pool="api",backend="[::1]:2",error="no_ports"}"#,
            &(no_ports(first) + no_ports(second)).to_string(),
        ),
        (
            r#"ringway_backend_up{pool="api",backend="127.0.0.1:1"}"#,
            "1",
        ),
        (
            r#"ringway_backend_state{pool="api",backend="[::1]:2",state="active"}"#,
            "0",
        ),
        (
            r#"ringway_backend_state{pool="api",backend="[::1]:2",state="drain"}"#,
            "1",
        ),
        (
            r#"ringway_health_checks_total{pool="web",backend="unix:/run/x.sock",result="pass"}"#,
            "1",
        ),
        (r#"ringway_health_check_seconds_sum{pool="web"}"#, "0.0008"),
        (r#"ringway_config_reloads_total{result="failure"}"#, "1"),
        (
            "ringway_config_last_reload_success_timestamp_seconds",
            "1700000000.001",
        ),
        ("ringway_draining_connections", "3"),
        ("process_cpu_seconds_total", "0.03"),
        ("process_start_time_seconds", "1700000000.09"),
    ] {
        let line = text.lines().find(|line| line.starts_with(series));
        assert_eq!(line, Some(format!("{series} {value}").as_str()));
    }
    assert!(text.contains(r#"{listener="odd \"name\"\\"} "#));
}

#[test]
fn what_is_not_known_is_left_out() {
    let mut scrape = populated(1);
    scrape.process = ProcessStats::default();
    scrape.control = Arc::default();
    scrape.workers[0].histograms = None;
    for pool in &mut scrape.pools {
        pool.health_check_time = None;
        pool.backends
            .iter_mut()
            .for_each(|backend| backend.health = None);
    }
    let text = text(&scrape, PerWorker::Labelled);
    for absent in ["process_", "ringway_health_", "last_reload", "_bucket"] {
        assert!(!text.contains(absent), "{absent}");
    }
    assert!(text.contains("ringway_backend_up{"));
}

#[test]
fn entries_of_another_topology_are_never_taken_for_this_ones() {
    let mut scrape = populated(2);
    scrape.topology = Arc::new(Topology {
        listeners: vec![ListenerNames { name: "new".into() }; 1],
        routes: vec![],
        pools: vec![
            PoolNames {
                name: "new".into(),
                backends: vec!["x".into(); 1]
            };
            1
        ],
    });
    scrape.workers[0].blocks.listeners.clear();
    scrape.workers[0].blocks.pools.clear();
    scrape.workers[0].blocks.backends.clear();
    let text = text(&scrape, PerWorker::Labelled);
    assert!(
        !text.contains("ringway_tcp_rtt_seconds"),
        "histograms of other pools"
    );
    assert!(text.contains("ringway_worker_loop_seconds_count{worker=\"0\"} 1\n"));
    assert!(!text.contains("listener=\"new\",worker=\"0\""));
    assert!(text.contains("ringway_backend_connections{pool=\"new\",backend=\"x\",worker=\"1\"}"));
}

#[test]
fn open_metrics_has_the_same_samples_and_an_end() {
    let scrape = populated(2);
    let samples = |format| {
        let text = render(&scrape, format, PerWorker::Merged);
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(samples(Format::Prometheus), samples(Format::OpenMetrics));
    assert!(render(&scrape, Format::OpenMetrics, PerWorker::Merged).ends_with("\n# EOF\n"));
}
