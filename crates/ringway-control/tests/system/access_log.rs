//! The access log of a whole balancer.

use std::fs;

use crate::common::*;

fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "half a line: {text:?}"
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_connection_is_a_line_refused_ones_included() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let text = one_pool(
        &[echo()],
        "",
        &format!("{ADMIN}log: {{access: '{}'}}", path.display()),
    )
    .replace("pool: web}}", "pool: web, limits: {connections: 1}}}");
    let balancer = Balancer::start(&text);
    let mut stream = balancer.connect();
    let client = stream.local_addr().unwrap().to_string();
    round_trip(&mut stream);
    let refused = balancer.connect();
    eventually("one refused", || lines(&path).len() == 1);
    drop(refused);
    drop(stream);
    eventually("one closed", || lines(&path).len() == 2);
    let lines = lines(&path);
    assert_eq!(lines[0]["refused"], "connections");
    assert_eq!(lines[1]["client"], client);
    assert_eq!(
        (&lines[1]["side"], &lines[1]["reason"]),
        (&"client".into(), &"fin".into())
    );
    assert_eq!(lines[1]["received_bytes"]["client"], 4);
    assert_eq!(lines[1]["sent_bytes"]["client"], 4);
    assert_eq!(lines[1]["attempts"][0]["outcome"], "connected");
    assert!(lines[1]["tcp"]["client"]["rtt_seconds"].as_f64().unwrap() > 0.0);
    assert!(lines[1]["time"].as_str().unwrap().starts_with("20"));
    let log = balancer.status()["access_log"].clone();
    assert_eq!(
        log,
        serde_json::json!({"lines_total": 2, "lost_total": 0, "dropped_total": 0})
    );
    balancer.drained();
}

#[test]
fn the_end_writes_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let more = format!(
        "{ADMIN}log: {{access: '{}'}}\nshutdown: {{drain: 50ms}}",
        path.display()
    );
    let balancer = Balancer::start(&one_pool(&[echo()], "", &more));
    let mut streams: Vec<_> = (0..50).map(|_| balancer.connect()).collect();
    streams.iter_mut().for_each(round_trip);
    balancer.drained();
    let lines = lines(&path);
    assert_eq!(lines.len(), 50);
    assert!(
        lines.iter().all(|line| line["reason"] == "drain"),
        "{}",
        lines[0]
    );
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let more = format!("{ADMIN}log: {{access: /dev/full}}");
    let balancer = Balancer::start(&one_pool(&[echo()], "", &more));
    for _ in 0..5 {
        round_trip(&mut balancer.connect());
    }
    eventually("five lost", || {
        balancer.status()["access_log"]["lost_total"] == 5
    });
    round_trip(&mut balancer.connect());
    balancer.drained();
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_at_start() {
    let more = format!("{ADMIN}log: {{access: /no/such/directory/access.log}}");
    let error = try_start(&one_pool(&[echo()], "", &more))
        .map(|_| ())
        .unwrap_err();
    assert!(
        error.to_string().contains("/no/such/directory/access.log"),
        "{error}"
    );
}
