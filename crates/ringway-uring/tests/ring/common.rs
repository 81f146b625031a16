//! What the ring's tests share: small rings, connected sockets, and a loop that cannot wait for
//! ever.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringway_uring::{
    BufferId, Completion, CompletionKind, ListenOptions, Ring, RingParams, Token, Wait, listen_tcp,
    local_address,
};

/// Fails a test that would hang; no test expects to wait so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const NOW: Wait = Wait {
    timeout: Some(Duration::ZERO),
    min_wait: None,
};

pub(crate) fn params() -> RingParams {
    RingParams {
        sq_entries: 64,
        cq_entries: 256,
        buffer_size: 256,
        buffers_initial: 16,
        buffers_max: 64,
        ..RingParams::default()
    }
}

pub(crate) fn ring() -> Ring {
    Ring::new(&params()).expect("the kernel has io_uring")
}

pub(crate) fn token(slot: u32) -> Token {
    Token {
        tag: 3,
        generation: 7,
        slot,
    }
}

/// One turn that waits for a completion.
pub(crate) fn turn(ring: &mut Ring) -> Vec<Completion> {
    let started = Instant::now();
    loop {
        ring.submit_and_wait(Wait {
            timeout: Some(PATIENCE),
            min_wait: None,
        })
        .expect("enter");
        let mut out = Vec::new();
        ring.reap(&mut out, 1024);
        if !out.is_empty() {
            return out;
        }
        assert!(started.elapsed() < PATIENCE, "no completion came: {ring:?}");
    }
}

/// The only completion of a turn.
pub(crate) fn one(ring: &mut Ring) -> Completion {
    let mut out = turn(ring);
    assert_eq!(out.len(), 1, "{out:?}");
    out.remove(0)
}

/// What is there without waiting, after running the kernel's deferred work.
pub(crate) fn at_once(ring: &mut Ring) -> Vec<Completion> {
    ring.submit_and_wait(NOW).expect("enter");
    let mut out = Vec::new();
    ring.reap(&mut out, 1024);
    out
}

/// A non-blocking socket for the ring and a blocking one for the test.
pub(crate) fn pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    (ours.into(), theirs)
}

pub(crate) fn listener(options: &ListenOptions) -> (OwnedFd, SocketAddr) {
    let listener = listen_tcp((Ipv4Addr::LOCALHOST, 0).into(), options).unwrap();
    let address = local_address(listener.as_fd()).unwrap().unwrap();
    (listener, address)
}

/// Bytes that are wrong if any is lost, doubled or moved.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .take(len)
        .collect()
}

/// Fills a buffer of ours with the start of `bytes`.
pub(crate) fn buffer_of(ring: &mut Ring, bytes: &[u8]) -> BufferId {
    let buffer = ring.take_buffer().expect("a free buffer");
    ring.bytes_mut(buffer)[..bytes.len()].copy_from_slice(bytes);
    buffer
}

/// The received bytes; the buffer goes back.
pub(crate) fn received(ring: &mut Ring, completion: &Completion) -> Vec<u8> {
    let CompletionKind::Received {
        result: Ok(count),
        buffer,
        ..
    } = completion.kind
    else {
        panic!("not bytes: {completion:?}");
    };
    let Some(buffer) = buffer else {
        return Vec::new();
    };
    let bytes = ring.bytes(buffer, 0, count).to_vec();
    ring.recycle(buffer);
    bytes
}

pub(crate) fn write_all(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).unwrap();
}

pub(crate) fn read_exact(socket: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    socket.read_exact(&mut bytes).unwrap();
    bytes
}

pub(crate) fn is_non_blocking_and_close_on_exec(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: F_GETFL takes nothing.
    let status = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: F_GETFD takes nothing.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
    status & libc::O_NONBLOCK != 0 && flags & libc::FD_CLOEXEC != 0
}

/// Sets the soft limit of this process: only for isolated tests.
pub(crate) fn set_descriptor_limit(soft: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes the limit during the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    assert_eq!(result, 0);
    limit.rlim_cur = soft;
    // SAFETY: the kernel reads the limit during the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(result, 0, "{limit:?}");
}

/// Descriptors open in this process.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// This process's threads that io_uring made: their folders in /proc.
pub(crate) fn kernel_workers() -> Vec<PathBuf> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let made_by_io_uring = |task: &PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("iou-wrk"))
    };
    tasks
        .map(|task| task.unwrap().path())
        .filter(made_by_io_uring)
        .collect()
}

/// Runs `body` alone in a process of its own: for what counts or limits descriptors and threads of
/// the process. `name` is the path of the calling test.
pub(crate) fn isolated(name: &str, body: impl FnOnce()) {
    const VARIABLE: &str = "RINGWAY_ISOLATED_TEST";
    if std::env::var_os(VARIABLE).is_some() {
        return body();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--test-threads=1"])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{output:?}"
    );
}
