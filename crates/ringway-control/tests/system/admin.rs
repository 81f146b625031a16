//! What the admin endpoint answers, over real HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::*;
use rustix::net::{AddressFamily, SocketType};

#[test]
fn the_status_tells_what_runs() {
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let mut stream = balancer.connect();
    round_trip(&mut stream);
    eventually("checked", || {
        balancer.status()["pools"][0]["backends"][0]["last_check_seconds"].is_number()
    });
    let status = balancer.status();
    assert_eq!(status["version"], "1.2.3");
    assert_eq!(status["commit"], "abcdef");
    assert_eq!(status["pid"], std::process::id());
    assert!(status["uptime_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(status["connections"], 1);
    assert!(status["connections_max"].as_u64().unwrap() > 1);
    assert_eq!(status["draining"], false);
    assert!(status["unready"].is_null() && status["access_log"].is_null());
    let workers = status["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    assert_eq!(
        (&workers[1]["index"], workers[1]["cpu"].is_u64()),
        (&1.into(), true)
    );
    let held: i64 = workers
        .iter()
        .map(|worker| worker["connections"].as_i64().unwrap())
        .sum();
    assert_eq!(held, 1);
    let listener = &status["listeners"][0];
    assert_eq!(listener["name"], "web");
    assert_eq!(listener["addresses"][0], balancer.address("web"));
    assert_eq!(
        (&listener["pool"], &listener["connections"]),
        (&"web".into(), &1.into())
    );
    assert_eq!(
        (&listener["refused_total"], &listener["connections_total"]),
        (&0.into(), &1.into())
    );
    let backend = &status["pools"][0]["backends"][0];
    assert_eq!(
        (&backend["state"], &backend["admin_state"]),
        (&"up".into(), &"active".into())
    );
    assert_eq!(
        (&backend["weight"], &backend["backup"]),
        (&1.into(), &false.into())
    );
    assert_eq!(backend["connections"], 1);
    assert!(backend["last_failure"].is_null());
    assert_eq!(balancer.get("/v1/pools/web").json()["name"], "web");
    drop(stream);
    balancer.drained();
}

#[test]
fn errors_are_json_with_the_right_code() {
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let line = |method: &str, path: &str, head: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{head}\r\n")
    };
    for (request, expected) in [
        (line("GET", "/nothing", ""), 404),
        (line("GET", "/v1/pools/other", ""), 404),
        (line("GET", "/v1/pools/%ff", ""), 400),
        (line("GET", "/metrics?per_worker=1&per_worker=2", ""), 400),
        (line("POST", "/v1/status", ""), 405),
        (line("GET", "/v1/drain", ""), 405),
        (
            line("POST", "/v1/drain", "Origin: http://evil.example\r\n"),
            403,
        ),
        (
            line("POST", "/v1/drain", "").replace("127.0.0.1", "evil.example"),
            403,
        ),
        (line("POST", "/v1/reload", ""), 422),
        (line("POST", "/v1/upgrade", ""), 501),
        (line("PATCH", "/v1/pools/web/backends/127.0.0.1:1", ""), 400),
        (line("GET", "/v1/explain?listener=web", ""), 400),
        (line("GET", "/v1/explain?listener=wbe", ""), 404),
        (line("POST", "/v1/explain?listener=web", ""), 405),
        (
            line("POST", "/v1/reload", "Content-Length: 1000000\r\n"),
            413,
        ),
    ] {
        let answer = balancer.request(&request);
        assert_eq!(answer.status, expected, "{request}");
        let error = answer.json();
        assert!(
            error["error"].is_string() && error["detail"].is_array(),
            "{request}: {error}"
        );
    }
    assert_eq!(balancer.status()["draining"], false);
    balancer.drained();
}

#[test]
fn a_drain_can_be_asked_for() {
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let post = "POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(balancer.request(post).status, 202);
    balancer.ended().unwrap();
}

#[test]
fn where_there_is_a_token_changes_need_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "first-of-two-tokens\n").unwrap();
    // Reachable from everywhere: refused without a token, served with one.
    let admin = format!(
        "admin: {{bind: '0.0.0.0:0', token_file: '{}'}}",
        path.display()
    );
    let balancer = Balancer::start(&one_pool(&[echo()], "", &admin));
    let drain = |head: &str| {
        let text = format!(
            "POST /v1/drain HTTP/1.1\r\nHost: lb.example\r\nConnection: close\r\n{head}\r\n"
        );
        balancer.request(&text)
    };
    let none = drain("");
    assert_eq!(none.status, 401);
    assert!(
        none.head
            .to_lowercase()
            .contains("www-authenticate: bearer"),
        "{}",
        none.head
    );
    assert!(
        none.json()["error"]
            .as_str()
            .unwrap()
            .contains("--token-file")
    );
    assert_eq!(
        drain("Authorization: Bearer second-of-two-tokens\r\n").status,
        401
    );
    assert_eq!(balancer.get("/v1/status").status, 200);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        drain("Authorization: Bearer first-of-two-tokens\r\n").status,
        503
    );
    std::fs::write(&path, "second-of-two-tokens").unwrap();
    assert_eq!(
        drain("Authorization: Bearer first-of-two-tokens\r\n").status,
        401
    );
    assert_eq!(balancer.status()["draining"], false);
    assert_eq!(
        drain("Authorization: Bearer second-of-two-tokens\r\n").status,
        202
    );
    balancer.ended().unwrap();
}

#[test]
fn a_token_that_cannot_be_read_stops_the_start() {
    let admin = "admin: {bind: '127.0.0.1:0', token_file: /nowhere/token}";
    let error = try_start(&one_pool(&[echo()], "", admin)).unwrap_err();
    assert!(error.to_string().contains("/nowhere/token"), "{error}");
}

#[test]
fn the_status_counts_traffic_by_kind_and_time_where_asked_for() {
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let mut stream = balancer.connect();
    round_trip(&mut stream);
    drop(stream);
    eventually("closed", || {
        balancer.status()["routes"][0]["closed"]["client"]["fin"] == 1
    });
    let status = balancer.get("/v1/status?latency=1").json();
    let route = &status["routes"][0];
    assert_eq!(
        (&route["listener"], &route["pool"]),
        (&"web".into(), &"web".into())
    );
    let received = route["received_bytes"]["client"].as_u64().unwrap();
    assert!(received > 0);
    assert_eq!(route["sent_bytes"]["backend"], received);
    let workers = status["workers"].as_array().unwrap();
    let by_worker = workers
        .iter()
        .map(|worker| worker["received_bytes_total"].as_u64().unwrap());
    assert_eq!(
        by_worker.sum::<u64>(),
        2 * received,
        "both directions of an echo"
    );
    assert!(workers[0]["busy_seconds_total"].as_f64().unwrap() > 0.0);
    let stages = status["latency"]["stages"].as_array().unwrap();
    for stage in ["pick", "connect", "first_byte", "total"] {
        let found = stages
            .iter()
            .find(|series| series["stage"] == stage)
            .unwrap();
        let counts = found["counts"].as_array().unwrap().iter();
        assert_eq!(
            counts.map(|count| count.as_u64().unwrap()).sum::<u64>(),
            1,
            "{stage}"
        );
    }
    assert_eq!(
        status["latency"]["turns"].as_array().unwrap().len(),
        workers.len()
    );
    assert!(balancer.status()["latency"].is_null());
    assert_eq!(balancer.get("/v1/status?latency=1&latency=1").status, 400);
    balancer.drained();
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let page = balancer.get("/");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("text/html"), "{}", page.head);
    assert!(page.body.starts_with("<!doctype html>"));
    let head = page.head.to_lowercase();
    assert!(
        head.contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    // An icon that says there is none: browsers ask for one otherwise.
    let body = page.body.replace("<link rel=\"icon\" href=\"data:,\">", "");
    for elsewhere in ["http:", "https:", "src=", "<link", "@import", "url("] {
        assert!(!body.contains(elsewhere), "{elsewhere}");
    }
    balancer.drained();
}

/// The value of a series, from a text in which every line must be well formed.
fn value(text: &str, series: &str) -> f64 {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        assert!(
            name.starts_with("ringway_") || name.starts_with("process_"),
            "{line:?}"
        );
        number.parse::<f64>().unwrap_or_else(|_| panic!("{line:?}"));
    }
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|l| l.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {series} in:\n{text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn metrics_count_what_happened() {
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    for _ in 0..10 {
        round_trip(&mut balancer.connect());
    }
    let closed =
        r#"ringway_connection_stage_seconds_count{listener="web",pool="web",stage="total"}"#;
    eventually("ten closed", || {
        value(&balancer.get("/metrics").body, closed) == 10.0
    });
    let answer = balancer.get("/metrics");
    assert!(
        answer.head.contains("text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    let text = &answer.body;
    assert_eq!(
        value(
            text,
            r#"ringway_build_info{version="1.2.3",commit="abcdef"}"#
        ),
        1.0
    );
    assert_eq!(value(text, "ringway_workers"), 2.0);
    assert_eq!(
        value(
            text,
            r#"ringway_listener_connections_total{listener="web"}"#
        ),
        10.0
    );
    assert_eq!(
        value(text, r#"ringway_uring_iowq_workers{worker="0"}"#),
        0.0
    );
    assert!(value(text, r#"ringway_worker_busy_seconds_total{worker="0"}"#) > 0.0);
    assert!(value(text, "process_open_fds") > 4.0);
    assert!(value(text, "ringway_config_last_reload_success_timestamp_seconds") > 1e9);

    let by_worker = balancer.get("/metrics?per_worker=1").body;
    let of = |worker| {
        let series = r#"ringway_listener_connections_total{listener="web",worker="#;
        value(&by_worker, &format!("{series}\"{worker}\"}}"))
    };
    assert_eq!(of(0) + of(1), 10.0);

    let open = balancer.request(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Accept: application/openmetrics-text;version=1.0.0\r\n\r\n",
    );
    assert!(
        open.head.contains("application/openmetrics-text"),
        "{}",
        open.head
    );
    assert!(open.body.ends_with("# EOF\n"));
    balancer.drained();
}

#[test]
fn many_scrapes_at_once_are_all_answered() {
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let admin = balancer.admin.clone().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for path in ["/metrics", "/livez"] {
                    assert_eq!(http(&admin, &get(path)).status, 200);
                }
            });
        }
    });
    let status = balancer.status();
    assert_eq!(status["workers"][0]["scrapes_missed"], 0);
    balancer.drained();
}

#[test]
fn idle_workers_are_alive() {
    let balancer = Balancer::start(&one_pool(&[echo()], ", health_check: off", ADMIN));
    eventually("quiet for longer than a worker may be unasked", || {
        balancer.status()["uptime_seconds"].as_f64().unwrap() > 1.2
    });
    let answer = balancer.get("/livez");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    balancer.drained();
}

#[test]
fn ready_is_after_the_first_round_of_checks() {
    // A queue that is full does not answer a probe; one that is emptied answers the next SYN.
    let backend = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(
        &backend,
        &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap(),
    )
    .unwrap();
    rustix::net::listen(&backend, 0).unwrap();
    let backend = std::net::TcpListener::from(backend);
    let address = backend.local_addr().unwrap();
    let first = TcpStream::connect(address).unwrap();

    let check = ", health_check: {interval: 60s, timeout: 60s}";
    let balancer = Balancer::start(&one_pool(&[address.to_string()], check, ADMIN));
    let answer = balancer.get("/readyz");
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json()["error"],
        "the first health checks are not done"
    );
    assert_eq!(
        balancer.status()["pools"][0]["backends"][0]["state"],
        "unknown"
    );
    assert_eq!(balancer.get("/livez").status, 200);
    drop(backend.accept().unwrap());
    drop(first);
    eventually("ready", || balancer.get("/readyz").status == 200);
    assert_eq!(balancer.status()["pools"][0]["backends"][0]["state"], "up");
    balancer.drained();
}

#[test]
fn silent_and_endless_clients_do_not_disturb_the_traffic() {
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let admin = balancer.admin.clone().unwrap();
    let silent: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(&admin).unwrap())
        .collect();
    let mut endless = TcpStream::connect(&admin).unwrap();
    endless.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let header = vec![b'x'; 64 * 1024];
    // At some size the server says no and closes; how the client notices is up to the kernel.
    while endless.write_all(&header).is_ok() {}
    let _ = endless.read(&mut [0; 1024]);
    round_trip(&mut balancer.connect());
    eventually("ready", || balancer.get("/readyz").status == 200);
    drop(silent);
    balancer.drained();
}

/// Clients that say nothing, that say a little, and that do not listen, more than there are places.
#[test]
fn no_number_of_slow_clients_keeps_it_from_answering() {
    const SILENT: usize = 1_000;
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let connect = || TcpStream::connect(balancer.admin.as_deref().unwrap()).unwrap();
    let begun = Instant::now();
    let silent: Vec<TcpStream> = (0..SILENT).map(|_| connect()).collect();
    assert_eq!(balancer.get("/livez").status, 200);
    let says = |text: &[u8], count: usize| -> Vec<TcpStream> {
        let clients = (0..count).map(|_| connect());
        let said = clients.map(|mut client| client.write_all(text).map(|()| client).unwrap());
        said.collect()
    };
    let slow = says(b"GET /livez HT", 200);
    assert_eq!(balancer.get("/livez").status, 200);
    let deaf = says(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2_000), 100);
    assert_eq!(balancer.get("/livez").status, 200);
    // Before anybody was cut off for taking ten seconds: the places were made free for others.
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    drop((silent, slow, deaf));
    balancer.drained();
}
