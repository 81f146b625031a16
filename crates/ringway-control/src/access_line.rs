//! One line of the access log: a connection that is over, as a JSON object.
//!
//! The names of sides, reasons and refusals are those of the metrics, so that a count and the lines
//! behind it can be matched. Everything but numbers is escaped by serde_json.

use ringway_flow::{Ended, PerSide, Why};
use ringway_metrics::{RefusedReason, Topology};
use ringway_uring::TcpInfo;
use ringway_worker::{AccessRecord, AttemptOutcome, Conclusion, labels_of};
use serde::Serialize;

use crate::clock::rfc3339;

#[derive(Serialize)]
struct Line<'a> {
    /// When it was over.
    time: String,
    worker: u16,
    listener: &'a str,
    pool: Option<&'a str>,
    client: Option<String>,
    /// The one it was relayed to.
    backend: Option<&'a str>,
    attempts: Vec<Attempt<'a>>,
    /// From accept until both sockets were closed.
    duration_seconds: f64,
    /// From accept until the backend was connected.
    connected_seconds: Option<f64>,
    /// From accept until the backend's first byte.
    first_byte_seconds: Option<f64>,
    received_bytes: Sides<u64>,
    sent_bytes: Sides<u64>,
    tcp: Sides<Option<Tcp>>,
    side: Option<&'static str>,
    reason: Option<&'static str>,
    refused: Option<&'static str>,
}

#[derive(Serialize)]
struct Attempt<'a> {
    backend: &'a str,
    outcome: &'static str,
}

#[derive(Serialize)]
struct Sides<T> {
    client: T,
    backend: T,
}

#[derive(Serialize)]
struct Tcp {
    rtt_seconds: f64,
    retransmitted_segments: u32,
}

/// Appends the line of `record`, which was over at `unix_millis`.
pub(crate) fn write_line(
    out: &mut Vec<u8>,
    record: &AccessRecord,
    topology: &Topology,
    unix_millis: i64,
) {
    let len_before = out.len();
    match serde_json::to_writer(&mut *out, &line(record, topology, unix_millis)) {
        Ok(()) => out.push(b'\n'),
        // Values of these types always have a text; half a line would spoil the next one.
        Err(_) => out.truncate(len_before),
    }
}

fn line<'a>(record: &'a AccessRecord, topology: &'a Topology, unix_millis: i64) -> Line<'a> {
    let pool = record.pool.map(|pool| &topology.pools[usize::from(pool)]);
    let name = |attempt: &'a ringway_worker::Attempt| match &attempt.name {
        Some(name) => Some(name.as_str()),
        None => {
            let backend = pool?.backends.get(attempt.backend.as_usize());
            Some(backend.map_or("", |backend| backend.address.as_str()))
        }
    };
    let attempts = record.attempts.iter().filter_map(|attempt| {
        Some(Attempt {
            backend: name(attempt)?,
            outcome: outcome_label(attempt.outcome),
        })
    });
    let connected = (record.attempts.iter())
        .find(|attempt| attempt.outcome == AttemptOutcome::Connected)
        .and_then(name);
    let (side, reason, refused) = match record.conclusion {
        Conclusion::Closed(ended) => {
            let (side, reason) = labels_of(ended);
            (Some(side.as_label()), Some(reason.as_label()), None)
        }
        // Not turned away by a rule: this host had nothing left for it.
        Conclusion::Refused(refused @ RefusedReason::Resources) => {
            let (side, reason) = labels_of(Ended::by_ringway(Why::Resources));
            let (side, reason) = (side.as_label(), reason.as_label());
            (Some(side), Some(reason), Some(refused.as_label()))
        }
        Conclusion::Refused(refused) => (None, None, Some(refused.as_label())),
    };
    Line {
        time: rfc3339(unix_millis),
        worker: record.worker,
        listener: &topology.listeners[usize::from(record.listener)].name,
        pool: pool.map(|pool| pool.name.as_str()),
        client: record.client.map(|client| client.to_string()),
        backend: connected,
        attempts: attempts.collect(),
        duration_seconds: record.ended.since(record.accepted).as_secs_f64(),
        connected_seconds: record.connected_us.map(seconds),
        first_byte_seconds: record.first_byte_us.map(seconds),
        received_bytes: sides(record.received_bytes),
        sent_bytes: sides(record.sent_bytes),
        tcp: Sides {
            client: record.tcp_info.front.map(tcp),
            backend: record.tcp_info.back.map(tcp),
        },
        side,
        reason,
        refused,
    }
}

fn sides(values: PerSide<u64>) -> Sides<u64> {
    Sides {
        client: values.front,
        backend: values.back,
    }
}

fn tcp(info: TcpInfo) -> Tcp {
    Tcp {
        rtt_seconds: info.rtt.as_secs_f64(),
        retransmitted_segments: info.retransmitted_segments,
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn outcome_label(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Pending => "pending",
        AttemptOutcome::Connected => "connected",
        AttemptOutcome::Failed(error) => error.as_label(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringway_balance::BackendIndex;
    use ringway_flow::{Moment, Party};
    use ringway_metrics::{ConnectError, ListenerNames, PoolNames, RouteNames};

    use super::*;

    fn topology() -> Topology {
        Topology {
            listeners: vec![ListenerNames {
                name: "w\"e\nb".into(),
                ..ListenerNames::default()
            }],
            routes: vec![RouteNames::default()],
            pools: vec![PoolNames {
                name: "p".into(),
                backends: vec!["10.0.0.1:80".into(), "10.0.0.2:80".into()],
                ..PoolNames::default()
            }],
        }
    }

    fn record() -> AccessRecord {
        AccessRecord {
            worker: 3,
            listener: 0,
            pool: Some(0),
            client: Some("192.0.2.7:4711".parse().unwrap()),
            accepted: Moment::from_micros(1_000_000),
            ended: Moment::from_micros(3_500_000),
            attempts: vec![
                ringway_worker::Attempt {
                    backend: BackendIndex::new(1),
                    outcome: AttemptOutcome::Failed(ConnectError::Refused),
                    name: Some("10.0.0.9:80".into()),
                },
                ringway_worker::Attempt {
                    backend: BackendIndex::new(0),
                    outcome: AttemptOutcome::Connected,
                    name: None,
                },
            ],
            connected_us: Some(1500),
            first_byte_us: Some(2500),
            received_bytes: PerSide { front: 1, back: 2 },
            sent_bytes: PerSide { front: 2, back: 1 },
            tcp_info: PerSide {
                front: Some(TcpInfo {
                    rtt: Duration::from_micros(250),
                    retransmitted_segments: 4,
                }),
                back: None,
            },
            conclusion: Conclusion::Closed(Ended {
                by: Party::Client,
                why: Why::Fin,
            }),
        }
    }

    fn text(record: &AccessRecord) -> String {
        let mut out = Vec::new();
        write_line(&mut out, record, &topology(), 1_700_000_000_007);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_connection_is_one_line() {
        let expected = concat!(
            r#"{"time":"2023-11-14T22:13:20.007Z","worker":3,"listener":"w\"e\nb","pool":"p","#,
            r#""client":"192.0.2.7:4711","backend":"10.0.0.1:80","attempts":["#,
            r#"{"backend":"10.0.0.9:80","outcome":"refused"},"#,
            r#"{"backend":"10.0.0.1:80","outcome":"connected"}],"#,
            r#""duration_seconds":2.5,"connected_seconds":0.0015,"first_byte_seconds":0.0025,"#,
            r#""received_bytes":{"client":1,"backend":2},"sent_bytes":{"client":2,"backend":1},"#,
            r#""tcp":{"client":{"rtt_seconds":0.00025,"retransmitted_segments":4},"#,
            r#""backend":null},"side":"client","reason":"fin","refused":null}"#,
            "\n"
        );
        assert_eq!(text(&record()), expected);
    }

    #[test]
    fn a_refused_connection_says_why_and_has_no_pool() {
        let refused = AccessRecord {
            pool: None,
            client: None,
            attempts: Vec::new(),
            conclusion: Conclusion::Refused(RefusedReason::Connections),
            ..record()
        };
        let line: serde_json::Value = serde_json::from_str(&text(&refused)).unwrap();
        assert_eq!(line["refused"], "connections");
        for absent in ["pool", "client", "backend", "side", "reason"] {
            assert!(line[absent].is_null(), "{absent}: {line}");
        }
    }

    #[test]
    fn a_shortage_of_this_host_is_its_own_error() {
        let refused = AccessRecord {
            conclusion: Conclusion::Refused(RefusedReason::Resources),
            ..record()
        };
        let line: serde_json::Value = serde_json::from_str(&text(&refused)).unwrap();
        for (key, value) in [
            ("refused", "resources"),
            ("side", "ringway"),
            ("reason", "error"),
        ] {
            assert_eq!(line[key], value, "{line}");
        }
    }
}
