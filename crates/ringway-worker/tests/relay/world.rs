//! A worker in front of backends that the test plays itself.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use ringway_balance::{AdminState, Algorithm, BackendParams, WhenAllDown};
use ringway_flow::{CloseHow, FlowParams, RelayMode, Timeouts};
use ringway_metrics::{
    BackendNames, ListenerNames, PoolNames, RouteNames, Topology, WorkerBlocks, WorkerHistograms,
};
use ringway_uring::{ConnectAddress, ListenOptions, listen_tcp, local_address};
use ringway_worker::{
    Admission, BUFFERS_MAX, BackendSpec, EjectionNotice, Limit, ListenerSpec, Message, NoticeSink,
    Opening, OriginSpec, PoolSpec, RouteSpec, Share, SocketSpec, WhenBackendDown, WorkerHandle,
    WorkerSpec, buffer_size, start,
};

/// No test here has outliers.
#[derive(Debug)]
struct Unheard;

impl NoticeSink for Unheard {
    fn on_ejection(&self, _: EjectionNotice) {}
}

/// How long anything that must happen may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const MODES: [RelayMode; 4] = [
    RelayMode::Auto,
    RelayMode::Copy,
    RelayMode::Splice,
    RelayMode::UringSplice,
];

/// What a test may choose.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) relay: RelayMode,
    pub(crate) timeouts: Timeouts,
    pub(crate) pipes_max: usize,
    pub(crate) connections: u64,
    pub(crate) attempts: u8,
    pub(crate) backends: Vec<SocketAddr>,
}

impl Default for Setting {
    fn default() -> Setting {
        Setting {
            relay: RelayMode::Auto,
            timeouts: Timeouts {
                connect: Some(Duration::from_secs(3)),
                first_byte: None,
                idle: None,
                half_close: None,
                lifetime: None,
            },
            pipes_max: 64,
            connections: 10_000,
            attempts: 3,
            backends: Vec::new(),
        }
    }
}

impl Setting {
    pub(crate) fn of(relay: RelayMode) -> Setting {
        Setting {
            relay,
            ..Setting::default()
        }
    }
}

/// A running worker and the listener of its backend.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) blocks: WorkerBlocks,
    pub(crate) backend: TcpListener,
    worker: Option<WorkerHandle>,
    ended: Receiver<()>,
}

impl World {
    pub(crate) fn new(setting: Setting) -> World {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut addresses = setting.backends.clone();
        addresses.push(backend.local_addr().unwrap());
        let listener = listen_tcp("127.0.0.1:0".parse().unwrap(), &ListenOptions::default());
        let listener: OwnedFd = listener.unwrap();
        let address = local_address(std::os::fd::AsFd::as_fd(&listener))
            .unwrap()
            .unwrap();
        let topology = Arc::new(Topology {
            listeners: vec![ListenerNames::default()],
            routes: vec![RouteNames::default()],
            pools: vec![PoolNames {
                backends: addresses.iter().map(|_| BackendNames::default()).collect(),
                ..PoolNames::default()
            }],
        });
        let blocks = WorkerBlocks::new(0, &topology);
        let flow = FlowParams::new(
            &setting.timeouts,
            setting.relay,
            setting.attempts,
            buffer_size(),
            CloseHow::Reset,
        );
        let spec = WorkerSpec {
            index: 0,
            cpu: None,
            epoch: Instant::now(),
            seed: 1,
            opening: Opening::AtOnce,
            listeners: vec![ListenerSpec {
                route: 0,
                admission: Admission::default(),
                inspect: None,
                over: CloseHow::Reset,
            }],
            sockets: vec![SocketSpec {
                number: 0,
                listener: 0,
                fds: vec![listener],
                options: None,
            }],
            routes: vec![RouteSpec {
                listener: 0,
                pool: 0,
                flow,
            }],
            pools: vec![PoolSpec {
                algorithm: Algorithm::RoundRobin,
                when_all_down: WhenAllDown::Try,
                table: None,
                when_backend_down: WhenBackendDown::Keep,
                outlier: None,
                send_proxy: None,
                origin: OriginSpec::Any,
                slow_start: None,
                is_checked: false,
                backends: addresses
                    .iter()
                    .map(|&address| BackendSpec {
                        state: AdminState::Active,
                        address: ConnectAddress::from(address),
                        params: BackendParams {
                            weight: 1,
                            backup: false,
                            identity: 1,
                        },
                        limit: None,
                        is_offered: true,
                    })
                    .collect(),
            }],
            blocks: blocks.clone(),
            histograms: WorkerHistograms::new(topology),
            connections: Arc::new(Limit::new(setting.connections)),
            busy_poll: None,
            share: Share {
                socket_bytes: None,
                pipes_max: setting.pipes_max,
                pipe_size: 256 * 1024,
                buffers_max: BUFFERS_MAX,
            },
            access: None,
            notices: Box::new(Unheard),
        };
        let (end, ended) = mpsc::channel();
        let worker = start(spec, move |over| {
            over.result.unwrap();
            end.send(()).unwrap();
        })
        .unwrap();
        World {
            address,
            blocks,
            backend,
            worker: Some(worker),
            ended,
        }
    }

    /// A client's connection and the backend's end of it.
    pub(crate) fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.client();
        (client, self.accept())
    }

    pub(crate) fn client(&self) -> TcpStream {
        patient(TcpStream::connect(self.address).unwrap())
    }

    pub(crate) fn accept(&self) -> TcpStream {
        patient(self.backend.accept().unwrap().0)
    }

    /// Waits until no flow is left.
    pub(crate) fn until_idle(&self) {
        until("all flows ended", || {
            self.blocks.worker.connections.value() == 0
        });
    }

    pub(crate) fn drain(&mut self, window: Duration) {
        if let Some(worker) = self.worker.take() {
            worker.send(Message::Drain { window });
            self.ended.recv_timeout(PATIENCE).unwrap();
            worker.join();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.until_idle();
            assert_eq!(self.blocks.worker.stale_completions.value(), 0);
            assert_eq!(self.blocks.worker.pipes.in_use.value(), 0);
            self.drain(Duration::ZERO);
        }
    }
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Polls for what must become true soon.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

pub(crate) fn close_by_reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

pub(crate) fn fin(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}
