//! The declared families against the list that users rely on.

use super::*;
use std::collections::HashSet;

/// What users were promised, as `name{labels} kind`. `(worker)` marks what a request for each
/// worker's own series adds.
const PROMISED: &str = "\
ringway_build_info{version,commit} info
ringway_workers gauge
ringway_worker_busy_seconds_total{worker} counter
ringway_worker_busy_poll_seconds_total{worker} counter
ringway_worker_connections{worker} gauge
ringway_worker_loop_seconds{worker} histogram
ringway_uring_enters_total{worker} counter
ringway_uring_submissions_total{worker} counter
ringway_uring_completions_total{worker} counter
ringway_uring_cq_overflow_total{worker} counter
ringway_uring_iowq_workers{worker} gauge
ringway_listener_connections_total{listener} counter
ringway_listener_connections{listener} gauge
ringway_listener_accept_errors_total{listener,errno} counter
ringway_listener_refused_total{listener,reason} counter
ringway_connection_stage_seconds{listener,pool,stage} histogram
ringway_connections_closed_total{listener,pool,side,reason} counter
ringway_received_bytes_total{listener,pool,side} counter
ringway_sent_bytes_total{listener,pool,side} counter
ringway_relayed_bytes_total{engine} counter
ringway_backend_up{pool,backend} gauge
ringway_backend_state{pool,backend,state} gauge
ringway_backend_connections{pool,backend} gauge
ringway_backend_connections_total{pool,backend} counter
ringway_backend_connect_failures_total{pool,backend,error} counter
ringway_backend_ejections_total{pool,backend} counter
ringway_backend_retries_total{pool} counter
ringway_pool_fail_open_total{pool} counter
ringway_health_checks_total{pool,backend,result} counter
ringway_health_check_seconds{pool} histogram
ringway_tcp_rtt_seconds{side,pool} histogram
ringway_tcp_retransmitted_segments_total{side,pool} counter
ringway_config_reloads_total{result} counter
ringway_config_last_reload_success_timestamp_seconds gauge
ringway_draining_connections gauge
process_cpu_seconds_total counter
process_open_fds gauge
process_max_fds gauge
process_resident_memory_bytes gauge
process_start_time_seconds gauge";

/// What is exposed beyond that.
const EXTRA: &str = "\
ringway_worker_stale_completions_total{worker} counter
ringway_worker_pipes{state,worker} gauge
ringway_worker_pipes_exhausted_total{worker} counter
ringway_uring_buffers_exhausted_total{worker} counter
ringway_health_last_check_timestamp_seconds{pool,backend} gauge
ringway_access_log_dropped_total counter
process_virtual_memory_bytes gauge
process_threads gauge";

fn described(family: &Family) -> String {
    let mut labels = family.labels.to_vec();
    match family.worker {
        WorkerLabel::Always => labels.push("worker"),
        WorkerLabel::OnRequest | WorkerLabel::Never => {}
    }
    let labels = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    };
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Info => "info",
        Kind::Histogram(_) => "histogram",
    };
    format!("{}{labels} {kind}", family.name)
}

#[test]
fn the_families_are_those_promised_and_no_others() {
    let mut declared: Vec<_> = FAMILIES.iter().map(|f| described(f)).collect();
    let mut expected: Vec<_> = PROMISED.lines().chain(EXTRA.lines()).collect();
    declared.sort_unstable();
    expected.sort_unstable();
    assert_eq!(declared, expected);
}

#[test]
fn each_name_is_declared_once() {
    let names: HashSet<_> = FAMILIES.iter().map(|f| f.name).collect();
    assert_eq!(names.len(), FAMILIES.len());
}

#[test]
fn names_follow_the_conventions() {
    let word =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    for family in FAMILIES {
        let name = family.name;
        assert!(word(name), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            family.kind == Kind::Counter,
            "{name}"
        );
        assert_eq!(name.ends_with("_info"), family.kind == Kind::Info, "{name}");
        let stem = name.strip_suffix("_total").unwrap_or(name);
        for unit in [Unit::Seconds, Unit::Bytes] {
            let suffix = unit.as_suffix().unwrap();
            assert_eq!(
                stem.ends_with(&format!("_{suffix}")),
                family.unit == unit,
                "{name}"
            );
        }
        for label in family.labels {
            assert!(
                word(label) && !["le", "worker"].contains(label),
                "{name}: {label}"
            );
        }
    }
}

#[test]
fn help_is_one_sentence_that_needs_no_escaping() {
    for family in FAMILIES {
        let help = family.help;
        assert!(help.ends_with('.') && help.len() > 10, "{}", family.name);
        assert!(!help.contains(['"', '\\', '\n']), "{}", family.name);
    }
}
