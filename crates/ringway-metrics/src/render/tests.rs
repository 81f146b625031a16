//! Whole scrapes, read back by a parser for Prometheus's text.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_parse::{Sample, Value as Parsed};

use super::*;
use crate::declare::{FAMILIES, Kind, WorkerLabel};
use crate::label::{
    AcceptError, CloseReason, ConnectError, Engine, Peer, RefusedReason, Side, Stage,
};
use crate::topology::{ListenerNames, PoolNames, Seat};
use crate::worker_histograms::WorkerHistograms;

mod fixture;

use fixture::populated;

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
    // listeners of 2+11+9; 3 routes of 24+4; 2 pools of 4; 3 backends of 3+7.
    assert_eq!(
        cells.len(),
        6 + 4 + 2 + 3 + 2 * 22 + 3 * 28 + 2 * 4 + 3 * 10
    );
}

/// One cell of each kind that worker 1 counts, with the series it must appear as.
fn cells_of(w: &WorkerBlocks) -> Vec<(&'static str, u64)> {
    let (block, ring, pipes) = (&w.worker, &w.worker.ring, &w.worker.pipes);
    let (listener, route, pool, backend) = (
        &w.listeners[0],
        &w.routes[1],
        &w.pools[1],
        &w.backends[0][1],
    );
    let level = |gauge: &crate::Gauge| gauge.value().cast_unsigned();
    vec![
        ("ringway_worker_connections{", level(&block.connections)),
        (
            "ringway_worker_stale_completions_total{",
            block.stale_completions.value(),
        ),
        (
            r#"ringway_worker_pipes{state="in_use","#,
            level(&pipes.in_use),
        ),
        (r#"ringway_worker_pipes{state="idle","#, level(&pipes.idle)),
        (
            "ringway_worker_pipes_exhausted_total{",
            pipes.exhausted.value(),
        ),
        ("ringway_uring_enters_total{", ring.enters.value()),
        ("ringway_uring_submissions_total{", ring.submissions.value()),
        ("ringway_uring_completions_total{", ring.completions.value()),
        ("ringway_uring_cq_overflow_total{", ring.cq_overflow.value()),
        ("ringway_uring_iowq_workers{", level(&ring.iowq_workers)),
        (
            "ringway_uring_buffers_exhausted_total{",
            ring.buffers_exhausted.value(),
        ),
        (
            r#"ringway_listener_connections_total{listener="web","#,
            listener.connections_total.value(),
        ),
        (
            r#"ringway_listener_connections{listener="web","#,
            level(&listener.connections),
        ),
        (
            r#"ringway_listener_accept_errors_total{listener="web",errno="ENFILE","#,
            listener.accept_errors[AcceptError::Enfile].value(),
        ),
        (
            r#"ringway_listener_refused_total{listener="web",reason="no_route","#,
            listener.refused[RefusedReason::NoRoute].value(),
        ),
        (
            r#"ringway_connections_closed_total{listener="web",pool="web",side="backend",reason="reset","#,
            route.closed[Side::Backend][CloseReason::Reset].value(),
        ),
        (
            r#"ringway_received_bytes_total{listener="web",pool="web",side="backend","#,
            route.received_bytes[Peer::Backend].value(),
        ),
        (
            r#"ringway_sent_bytes_total{listener="web",pool="web",side="backend","#,
            route.sent_bytes[Peer::Backend].value(),
        ),
        (
            r#"ringway_relayed_bytes_total{engine="splice","#,
            block.relayed_bytes[Engine::Splice].value(),
        ),
        (
            r#"ringway_backend_connections{pool="api",backend="[::1]:2","#,
            level(&backend.connections),
        ),
        (
            r#"ringway_backend_connections_total{pool="api",backend="[::1]:2","#,
            backend.connections_total.value(),
        ),
        (
            r#"ringway_backend_connect_failures_total{pool="api",backend="[::1]:2",error="no_ports","#,
            backend.connect_failures[ConnectError::NoPorts].value(),
        ),
        (
            r#"ringway_backend_ejections_total{pool="api",backend="[::1]:2","#,
            backend.ejections.value(),
        ),
        (
            r#"ringway_backend_retries_total{pool="web","#,
            pool.retries.value(),
        ),
        (
            r#"ringway_pool_fail_open_total{pool="web","#,
            pool.fail_open.value(),
        ),
        (
            r#"ringway_tcp_retransmitted_segments_total{side="backend",pool="web","#,
            pool.retransmitted_segments[Peer::Backend].value(),
        ),
        (
            "ringway_access_log_dropped_total{",
            block.access_log_dropped.value(),
        ),
    ]
}

#[test]
fn what_workers_count_stands_where_it_belongs() {
    let scrape = populated(2);
    let text = text(&scrape, PerWorker::Labelled);
    for (series, value) in cells_of(&scrape.workers[1].blocks) {
        let line = format!("{series}worker=\"1\"}} {value}");
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn histograms_stand_where_they_belong() {
    let mut scrape = populated(1);
    let mut histograms = WorkerHistograms::new(Arc::clone(&scrape.topology));
    histograms.stages[1][Stage::FirstByte].record(1_000_000);
    histograms.round_trips[1][Peer::Backend].record(2_000_000);
    histograms.loop_time.record(3_000_000);
    scrape.workers[0].histograms = Some(histograms.snapshot());
    let text = text(&scrape, PerWorker::Merged);
    let sums: Vec<_> = text
        .lines()
        .filter(|line| line.contains("_seconds_sum") && !line.ends_with(" 0"))
        .collect();
    assert_eq!(
        sums,
        [
            r#"ringway_worker_loop_seconds_sum{worker="0"} 3"#,
            r#"ringway_connection_stage_seconds_sum{listener="web",pool="web",stage="first_byte"} 1"#,
            r#"ringway_health_check_seconds_sum{pool="api"} 0.0008"#,
            r#"ringway_health_check_seconds_sum{pool="web"} 0.0008"#,
            r#"ringway_tcp_rtt_seconds_sum{side="backend",pool="web"} 2"#,
        ]
    );
}

#[test]
fn what_control_knows_stands_where_it_belongs() {
    let text = text(&populated(2), PerWorker::Merged);
    for line in [
        r#"ringway_build_info{version="0.1.0",commit="abc"} 1"#,
        "ringway_workers 2",
        r#"ringway_backend_up{pool="api",backend="127.0.0.1:1"} 1"#,
        r#"ringway_backend_state{pool="api",backend="[::1]:2",state="active"} 0"#,
        r#"ringway_backend_state{pool="api",backend="[::1]:2",state="drain"} 1"#,
        r#"ringway_backend_state{pool="api",backend="[::1]:2",state="ejected"} 1"#,
        r#"ringway_backend_state{pool="api",backend="[::1]:2",state="half_open"} 2"#,
        r#"ringway_health_checks_total{pool="web",backend="unix:/run/x.sock",result="pass"} 1"#,
        r#"ringway_health_last_check_timestamp_seconds{pool="web",backend="unix:/run/x.sock"} 1700000000"#,
        r#"ringway_config_reloads_total{result="failure"} 1"#,
        "ringway_config_last_reload_success_timestamp_seconds 1700000000.001",
        "ringway_draining_connections 3",
        "process_cpu_seconds_total 0.03",
        "process_open_fds 9",
        "process_max_fds 1024",
        "process_resident_memory_bytes 1024",
        "process_virtual_memory_bytes 2048",
        "process_threads 5",
        "process_start_time_seconds 1700000000.09",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
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
        listeners: vec![ListenerNames {
            name: "new".into(),
            seat: Seat::Taken(1),
        }],
        routes: vec![],
        pools: vec![PoolNames {
            name: "new".into(),
            backends: vec!["x".into()],
            seat: Seat::Taken(1),
        }],
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
