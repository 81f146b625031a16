//! `ringway demo`: three backends, the balancer in front of them and a little traffic in one
//! process, on loopback, and how the connections spread. Not a benchmark. Invariant: what it shows
//! comes over the admin endpoint, as it would from any instance; nothing is read by private means.

mod backends;
mod scene;
mod traffic;
mod view;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::thread;
use std::time::Duration;

use ringway_config::{
    AdminBind, Backend, BackendAddress, BindAddress, Config, HealthCheck, Listener, Log, LogLevel,
    Pool, Shutdown,
};
use ringway_control::{Inheritance, RunParams, Running, Signals, Watch, limits, start};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::DemoArgs;
use crate::client::Endpoint;
use crate::failure::Failure;
use crate::output::say;
use crate::{COMMIT, VERSION, logs};

use backends::DemoBackends;
use scene::Scene;

/// Where the demo listens when nothing else does.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where its admin endpoint answers when nothing else does.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
/// Time for the visitors' own connections to end; the demo's are over by then.
const DRAIN: Duration = Duration::from_secs(2);
/// Most connections at once, where the descriptors allow it.
const CONNECTIONS_MAX: u64 = 10_000;
/// The part of the balancer's own maximum: its two descriptors per connection, and one each for the
/// demo's visitor and its backend, all come from this process.
const CONNECTIONS_PART: u64 = 3;

/// Runs until Ctrl-C, SIGTERM, `--duration` or a drain over the admin endpoint.
pub(crate) fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let log = Log {
        level: LogLevel::Warn,
        ..Log::default()
    };
    logs::init(&log);
    let runtime = runtime()?;
    let (backends, addresses) = {
        let _inside = runtime.enter();
        DemoBackends::bind().map_err(|error| failed("the demo's backends", &error))?
    };
    let running = start(RunParams {
        config: config(args, &addresses, log),
        config_path: None,
        version: VERSION,
        commit: COMMIT,
        signals: Signals::Ignore,
        watch: Watch::Off,
        log_level: None,
        inheritance: Inheritance::default(),
        relaunch: None,
    })?;
    let scene = scene(&running, addresses)?;
    say(&scene.introduction())?;

    let end = end(args.duration, asked_to_end()?);
    let (traffic, stopper) = (!args.no_traffic, running.stopper());
    let shown = thread::spawn(move || {
        let shown = runtime.block_on(async {
            backends.serve();
            scene.play(traffic, end).await
        });
        stopper.drain();
        shown
    });
    running
        .run()
        .map_err(|error| Failure::Runtime(error.to_string()))?;
    shown
        .join()
        .map_err(|_| Failure::Runtime("the demo's display failed".to_owned()))?
}

fn scene(running: &Running, backends: Vec<SocketAddr>) -> Result<Scene, Failure> {
    let listeners = running.listeners();
    let target = listeners
        .first()
        .and_then(|(_, address)| address.parse().ok());
    let admin = running.admin().and_then(|address| address.parse().ok());
    match (target, admin) {
        (Some(target), Some(admin)) => Ok(Scene {
            target: reachable(target),
            admin,
            endpoint: Endpoint::new(BackendAddress::Tcp(admin)),
            backends,
            workers: running.workers(),
        }),
        _ => Err(Failure::Runtime(
            "the demo's own addresses are unknown".to_owned(),
        )),
    }
}

/// Completes when the demo was asked to end, or after `duration` if there is one.
async fn end(duration: Option<Duration>, asked: oneshot::Receiver<()>) {
    let after = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! { _ = asked => {}, () = after => {} }
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("the demo's runtime", &error))
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::Runtime(format!("{what}: {error}"))
}

fn config(args: &DemoArgs, backends: &[SocketAddr], log: Log) -> Config {
    let listen = args.listen.unwrap_or_else(|| free_or_any(LISTEN));
    let admin = args.admin.unwrap_or_else(|| free_or_any(ADMIN));
    let mut listener = Listener::new("demo", vec![BindAddress::Tcp(listen)], 0);
    listener.limits.connections = Some(connections_limit());
    let backends = backends
        .iter()
        .copied()
        .map(BackendAddress::Tcp)
        .map(Backend::new);
    let mut pool = Pool::new("demo", backends.collect());
    let mut health = HealthCheck::default();
    health.params.interval = Duration::from_secs(1);
    pool.health = Some(health);
    let mut config = Config::new(vec![listener], vec![pool]);
    config.workers = args.workers.0.clone();
    config.admin = Some(AdminBind::Tcp(admin));
    config.log = log;
    config.shutdown = Shutdown {
        delay: Duration::ZERO,
        drain: DRAIN,
    };
    config
}

/// `address` if nobody listens there, else any free port of the same IP address. Asked without
/// SO_REUSEPORT: another instance of the same user would otherwise share its connections with us.
fn free_or_any(address: SocketAddr) -> SocketAddr {
    match std::net::TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => SocketAddr::new(address.ip(), 0),
    }
}

/// As many connections as the descriptors of this process allow with everything inside it.
fn connections_limit() -> NonZeroU32 {
    let connections = (limits().connections_max / CONNECTIONS_PART).clamp(1, CONNECTIONS_MAX);
    let connections = u32::try_from(connections).ok().and_then(NonZeroU32::new);
    connections.expect("invariant: from 1 to CONNECTIONS_MAX")
}

/// An address to connect to: a listener on every address is also on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Completes at the first SIGINT or SIGTERM. A second one ends the process at once: this thread
/// outlives everything else, also a drain that takes its time.
fn asked_to_end() -> Result<oneshot::Receiver<()>, Failure> {
    let runtime = runtime()?;
    let (asked, receiver) = oneshot::channel();
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).map_err(|error| failed("signals", &error));
        (
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            let mut next = async || {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            };
            next().await;
            // Whoever waited for it may be gone already.
            let _ = asked.send(());
            next().await;
            std::process::exit(1)
        });
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_left_alone() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        assert_eq!(free_or_any(address).port(), 0);
        drop(taken);
        assert_eq!(free_or_any(address), address);
    }

    #[test]
    fn every_address_is_reached_over_loopback() {
        let reach = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(reach("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(reach("[::]:80"), "[::1]:80");
        assert_eq!(reach("127.0.0.2:80"), "127.0.0.2:80");
    }
}
