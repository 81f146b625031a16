//! Backends as a test plays them: one that the test accepts on itself, and one that serves on its own
//! threads and can be killed and started again at the same address.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::eventually::{eventually, is_readable, until};
use crate::instance::Ringway;
use crate::peers::{PATIENCE, connect, patient, reset_at_close};
use crate::places::own_address;

/// How often a thread that accepts looks whether it is to stop.
const STOP_NOTICED_WITHIN: Duration = Duration::from_millis(20);

/// A listener on which the test accepts when it wants to.
#[derive(Debug)]
pub(crate) struct Backend(TcpListener);

impl Backend {
    pub(crate) fn new() -> Backend {
        Backend::at(own_address())
    }

    pub(crate) fn at(address: SocketAddr) -> Backend {
        Backend(listen(address))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Whether somebody has come and waits to be accepted.
    pub(crate) fn is_reached(&self) -> bool {
        is_readable(&self.0, Duration::ZERO)
    }

    /// The next connection, which must come.
    pub(crate) fn accept(&self) -> TcpStream {
        assert!(
            is_readable(&self.0, PATIENCE),
            "nobody connects to the backend"
        );
        let (stream, _) = self.0.accept().unwrap();
        stream.set_nonblocking(false).unwrap();
        patient(stream)
    }

    /// A client's connection through the instance and this backend's end of it.
    pub(crate) fn pair(&self, ringway: &Ringway) -> (TcpStream, TcpStream) {
        let client = connect(ringway.address());
        (client, self.accept())
    }
}

/// With a queue as long as the kernel allows: what does not fit it is lost without a word, after it
/// was told that it is connected.
fn listen(address: SocketAddr) -> TcpListener {
    try_listen(address).unwrap()
}

/// The same where somebody may be in the way: a process that another test is just starting has every
/// descriptor of this one until it becomes what it is to be, a listener that was closed here among them.
fn try_listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // For those that are started again at the same address.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// An address where nobody listens.
pub(crate) fn closed_address() -> SocketAddr {
    Backend::new().address()
}

/// A listener whose queue is full: SYNs to it are dropped. It is so while this lives.
#[derive(Debug)]
pub(crate) struct BlackHole {
    listener: Socket,
    queued: Vec<Socket>,
}

impl BlackHole {
    pub(crate) fn new() -> BlackHole {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&own_address().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        // The queue holds one more than listen(2) was told, give or take one that is being made.
        loop {
            let filler = socket();
            match filler.connect_timeout(&address, Duration::from_millis(200)) {
                Ok(()) => queued.push(filler),
                Err(_) => {
                    return BlackHole { listener, queued };
                }
            }
            assert!(queued.len() < 16, "the queue does not fill");
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }

    /// Makes room: the first connection that does not come from here, which the kernel that asked for
    /// it makes at its next attempt.
    pub(crate) fn open(self) -> TcpStream {
        let own = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap();
        let fillers: Vec<SocketAddr> = self.queued.iter().map(own).collect();
        self.listener.set_nonblocking(true).unwrap();
        let backend = Backend(self.listener.into());
        loop {
            let accepted = backend.accept();
            // One that was reset in the queue has no peer any more.
            if accepted
                .peer_addr()
                .is_ok_and(|peer| !fillers.contains(&peer))
            {
                return accepted;
            }
        }
    }
}

/// A backend that greets whoever comes and keeps them all, on one thread.
#[derive(Debug)]
pub(crate) struct Hoard {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<TcpStream>>>,
}

impl Hoard {
    /// Greets with `name`.
    pub(crate) fn new(name: u8) -> Hoard {
        let listener = listen(own_address());
        let (address, stop) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if is_readable(&listener, STOP_NOTICED_WITHIN)
                    && let Ok((mut stream, _)) = listener.accept()
                    // A health check has gone already.
                    && stream.write_all(&[name]).is_ok()
                {
                    stream.set_nonblocking(false).unwrap();
                    kept.push(patient(stream));
                }
            }
            kept
        });
        Hoard {
            address,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening; the connections stay, and some more that were over when they were greeted.
    pub(crate) fn close(mut self) -> Vec<TcpStream> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("invariant: closed once");
        thread.join().unwrap()
    }
}

impl Drop for Hoard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

type Handler = Arc<dyn Fn(TcpStream) + Send + Sync>;

/// A backend that serves every connection on a thread of its own.
pub(crate) struct Server {
    address: SocketAddr,
    handler: Handler,
    running: Option<Running>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    served: AtomicUsize,
    open: AtomicUsize,
    peak: AtomicUsize,
    failed: AtomicUsize,
}

struct Running {
    stop: Arc<AtomicBool>,
    open: Arc<Open>,
    thread: JoinHandle<()>,
}

/// The connections being served, by the number under which they were accepted.
type Open = Mutex<HashMap<usize, TcpStream>>;

impl Server {
    pub(crate) fn new(handler: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        let listener = listen(own_address());
        let mut server = Server {
            address: listener.local_addr().unwrap(),
            handler: Arc::new(handler),
            running: None,
            state: Arc::default(),
        };
        server.serve_on(listener);
        server
    }

    /// Greets with `name` and sends back what comes until the end.
    pub(crate) fn echo(name: u8) -> Server {
        Server::new(move |stream| echo(name, stream))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub(crate) fn served(&self) -> usize {
        self.state.served.load(Ordering::Relaxed)
    }

    /// Most connections open at once so far.
    pub(crate) fn peak(&self) -> usize {
        self.state.peak.load(Ordering::Relaxed)
    }

    /// Waits until every connection is over; none may have been served what it should not.
    pub(crate) fn until_sound(&self) {
        until("the backend has served all", || {
            self.state.open.load(Ordering::Relaxed) == 0
        });
        let failed = self.state.failed.load(Ordering::Relaxed);
        assert_eq!(failed, 0, "the backend has found fault, see above");
    }

    /// Listens again at the same address.
    pub(crate) fn start(&mut self) {
        let address = self.address;
        let listener = eventually(|| try_listen(address).map_err(|error| error.to_string()));
        self.serve_on(listener);
    }

    fn serve_on(&mut self, listener: TcpListener) {
        let (stop, open) = (Arc::<AtomicBool>::default(), Arc::<Open>::default());
        let thread = {
            let (stop, open) = (Arc::clone(&stop), Arc::clone(&open));
            let (handler, state) = (Arc::clone(&self.handler), Arc::clone(&self.state));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if is_readable(&listener, STOP_NOTICED_WITHIN)
                        && let Ok((stream, _)) = listener.accept()
                    {
                        stream.set_nonblocking(false).unwrap();
                        serve(patient(stream), &handler, &state, &open);
                    }
                }
            })
        };
        self.running = Some(Running { stop, open, thread });
    }

    /// As `kill -9` does: the listener is gone and every connection is reset.
    pub(crate) fn kill(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        running.stop.store(true, Ordering::Relaxed);
        running.thread.join().unwrap();
        for (_, stream) in running.open.lock().unwrap().drain() {
            // Whoever closes last resets. First, so that the handler knows why it hears an end.
            reset_at_close(&stream);
            // Wakes the handler. It fails where the client was faster.
            let _ = stream.shutdown(std::net::Shutdown::Read);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.store(true, Ordering::Relaxed);
        }
    }
}

fn serve(stream: TcpStream, handler: &Handler, state: &Arc<State>, open: &Arc<Open>) {
    let (handler, state, open) = (Arc::clone(handler), Arc::clone(state), Arc::clone(open));
    let number = state.served.fetch_add(1, Ordering::Relaxed);
    let count = state.open.fetch_add(1, Ordering::Relaxed) + 1;
    state.peak.fetch_max(count, Ordering::Relaxed);
    open.lock()
        .unwrap()
        .insert(number, stream.try_clone().unwrap());
    let run = move || {
        let served = catch_unwind(AssertUnwindSafe(|| handler(stream)));
        if served.is_err() {
            state.failed.fetch_add(1, Ordering::Relaxed);
        }
        // Counted before it is closed: whoever sees it closed may connect again at once.
        state.open.fetch_sub(1, Ordering::Relaxed);
        open.lock().unwrap().remove(&number);
    };
    std::thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(run)
        .unwrap();
}

fn echo(name: u8, mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    // A client or a kill that ends it early is none of this backend's business.
    if stream.write_all(&[name]).is_err() {
        return;
    }
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}
