//! Start, traffic, drain and end of a whole balancer, over real sockets.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::common::*;
use ringway_control::StartErrorKind;

#[test]
fn it_relays_and_drains_when_asked() {
    let balancer = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let address = balancer.address("web").to_owned();
    assert!(!address.ends_with(":0"), "{address}");
    for _ in 0..20 {
        round_trip(&mut balancer.connect());
    }
    let admin = balancer.admin.clone().unwrap();
    balancer.drained();
    for address in [address, admin] {
        let error = TcpStream::connect(address).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn during_the_delay_it_is_not_ready_but_accepts() {
    let text = one_pool(
        &[echo()],
        "",
        &format!("{ADMIN}shutdown: {{delay: 1500ms, drain: 10ms}}"),
    );
    let balancer = Balancer::start(&text);
    eventually("ready", || balancer.get("/readyz").status == 200);
    balancer.stopper.drain();
    eventually("not ready", || balancer.get("/readyz").status == 503);
    let answer = balancer.get("/readyz");
    assert_eq!(answer.json()["error"], "draining");
    round_trip(&mut balancer.connect());
    assert_eq!(balancer.status()["draining"], true);
    balancer.ended().unwrap();
}

#[test]
fn a_connection_outlives_the_drain_by_its_window_at_most() {
    let text = one_pool(&[echo()], "", &format!("{ADMIN}shutdown: {{drain: 200ms}}"));
    let balancer = Balancer::start(&text);
    let mut stream = balancer.connect();
    round_trip(&mut stream);
    balancer.drained();
    // The end of the stream or a reset: over, either way.
    let over = stream.read(&mut [0; 16]);
    assert!(matches!(over, Ok(0) | Err(_)), "{over:?}");
}

#[test]
fn a_balancer_that_is_dropped_leaves_nothing_behind() {
    let running = try_start(&one_pool(&[echo()], "", ADMIN)).unwrap();
    let addresses = [running.listeners()[0].1.clone(), running.admin().unwrap()];
    assert_eq!(running.workers(), 2);
    drop(running);
    for address in addresses {
        TcpListener::bind(address).unwrap();
    }
}

fn refused(text: &str) -> String {
    let error = try_start(text).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), StartErrorKind::Runtime, "{error}");
    error.to_string()
}

#[test]
fn a_port_in_use_is_refused_and_leaves_the_others_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = refused(&format!(
        "admin: {{bind: off}}\n\
         listeners: {{first: {{bind: '{free}', pool: p}}, second: {{bind: '{taken_at}', pool: p}}}}\n\
         pools: {{p: {{backends: [{{address: '127.0.0.1:1'}}]}}}}\n"
    ));
    assert!(
        error.contains("`second`") && error.contains("in use"),
        "{error}"
    );
    TcpListener::bind(free).unwrap();
}

#[test]
fn a_second_balancer_on_the_same_port_is_refused() {
    let first = Balancer::start(&one_pool(&[echo()], "", ADMIN));
    let port = first.address("web").to_owned();
    let text = |admin: &str| {
        format!(
            "admin: {{bind: '{admin}'}}\nlisteners: {{web: {{bind: '{port}', pool: p}}}}\n\
             pools: {{p: {{backends: [{{address: '127.0.0.1:1'}}]}}}}\n"
        )
    };
    let error = refused(&text("127.0.0.1:0"));
    assert!(
        error.contains("`web`") && error.contains("in use"),
        "{error}"
    );
    // And so is its admin endpoint.
    let admin = first.admin.clone().unwrap();
    let error = refused(&text(&admin).replace(&port, "127.0.0.1:0"));
    assert!(
        error.contains("admin endpoint") && error.contains("in use"),
        "{error}"
    );
    first.drained();
}

#[test]
fn an_address_of_another_host_is_refused() {
    let text = "admin: {bind: off}\nlisteners: {web: {bind: '192.0.2.1:8080', pool: p}}\n\
                pools: {p: {backends: [{address: '127.0.0.1:1'}]}}\n";
    let error = refused(text);
    assert!(
        error.contains("192.0.2.1:8080 is not an address of this host"),
        "{error}"
    );
}

#[test]
fn a_cpu_of_another_host_is_refused() {
    let error = refused(&one_pool(&[echo()], "", ADMIN).replace("workers: 2", "workers: [60000]"));
    assert!(error.contains("CPU 60000"), "{error}");
}

#[test]
fn a_maximum_the_descriptors_cannot_carry_is_refused() {
    let listener = one_pool(&[echo()], "", ADMIN).replace(
        "pool: web}}",
        "pool: web, limits: {connections: 4000000000}}}",
    );
    let backend = one_pool(&[echo()], "", ADMIN).replace("'}]", "', max_connections: 4000000000}]");
    for (text, place) in [
        (listener, "listener `web`"),
        (backend, "pool `web`, backend 127.0.0.1"),
    ] {
        let error = try_start(&text).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), StartErrorKind::Kernel);
        let error = error.to_string();
        for part in [place, "4000000000", "LimitNOFILE"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn wildcard_and_own_address_may_share_a_port() {
    let port = TcpListener::bind("0.0.0.0:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let text = one_pool(&[echo()], "", ADMIN).replace(
        "web: {bind: '127.0.0.1:0'",
        &format!("web: {{bind: ['0.0.0.0:{port}', '127.0.0.1:{port}', '[::1]:{port}']"),
    );
    // A host without IPv6 has no ::1.
    let text = match TcpListener::bind("[::1]:0") {
        Ok(_) => text,
        Err(_) => text.replace(&format!(", '[::1]:{port}'"), ""),
    };
    let balancer = Balancer::start(&text);
    round_trip(&mut balancer.connect());
    balancer.drained();
}

#[test]
fn unix_sockets_replace_dead_ones_and_go_with_the_balancer() {
    let dir = tempfile::tempdir().unwrap();
    let (web, admin) = (dir.path().join("web.sock"), dir.path().join("admin.sock"));
    for path in [&web, &admin] {
        drop(UnixListener::bind(path).unwrap());
    }
    let text = one_pool(
        &[echo()],
        "",
        &format!("admin: {{bind: 'unix:{}'}}", admin.display()),
    )
    .replace("127.0.0.1:0", &format!("unix:{}", web.display()));
    let balancer = Balancer::start(&text);
    assert_eq!(balancer.address("web"), format!("unix:{}", web.display()));
    for _ in 0..8 {
        let mut stream = UnixStream::connect(&web).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        round_trip(&mut stream);
    }
    let mode = std::fs::metadata(&admin).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    eventually("ready", || balancer.get("/readyz").status == 200);
    let error = refused(&text);
    assert!(error.contains("web.sock is in use"), "{error}");
    // The refused one has not taken the files of the other with it.
    assert!(web.exists() && admin.exists());
    balancer.drained();
    assert!(!web.exists() && !admin.exists());
}

#[test]
fn a_backend_that_dies_gets_no_more_connections() {
    let (alive, dying) = (echo(), TcpListener::bind("127.0.0.1:0").unwrap());
    let dying_at = dying.local_addr().unwrap().to_string();
    let check = ", health_check: {interval: 50ms, timeout: 50ms, rise: 1, fall: 1}";
    let balancer = Balancer::start(&one_pool(&[alive, dying_at], check, ADMIN));
    let state = |at: usize| balancer.get("/v1/pools/web").json()["backends"][at]["state"].clone();
    eventually("both up", || state(0) == "up" && state(1) == "up");
    drop(dying);
    eventually("one down", || state(1) == "down");
    for _ in 0..20 {
        round_trip(&mut balancer.connect());
    }
    let pool = balancer.get("/v1/pools/web").json();
    assert_eq!(pool["up"], 1);
    assert_eq!(pool["backends"][1]["last_failure"], "refused");
    assert_eq!(pool["backends"][1]["connect_failures_total"], 0);
    assert_eq!(pool["backends"][0]["connections_total"], 20);
    balancer.drained();
}
