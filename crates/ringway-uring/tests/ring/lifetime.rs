//! What a ring leaves behind: nothing, whatever was in flight when it was dropped.

use std::net::TcpStream;
use std::os::fd::AsFd;

use crate::common::*;
use crate::connect::unanswered;
use ringway_uring::{
    CompletionKind, Interest, ListenOptions, Pipe, Ring, RingParams, connect_socket,
};

#[test]
fn dropping_a_ring_with_operations_in_flight_leaks_nothing() {
    isolated(
        "lifetime::dropping_a_ring_with_operations_in_flight_leaks_nothing",
        || {
            drop_a_busy_ring();
            let before = (descriptors(), address_space());
            for _ in 0..20 {
                drop_a_busy_ring();
            }
            assert_eq!(descriptors(), before.0);
            // Twenty buffer arenas kept mapped would be twenty times this.
            let grown = address_space().saturating_sub(before.1);
            assert!(grown < ARENA, "{grown} bytes of address space more");
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            assert!(
                !maps.contains("io_uring"),
                "a ring is still mapped:\n{maps}"
            );
        },
    );
}

/// Bytes of address space in use.
fn address_space() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<usize>().unwrap() * 4096
}

const ARENA: usize = 8 << 20;

fn drop_a_busy_ring() {
    let params = RingParams {
        buffer_size: 1 << 20,
        buffers_initial: 2,
        buffers_max: (ARENA >> 20) as u16,
        ..params()
    };
    let mut ring = Ring::new(&params).unwrap();
    let (listener, address) = listener(&ListenOptions::default());
    let (ours, _theirs) = pair();
    let (_full, _queued, to) = unanswered();
    let pipe = Pipe::new(1 << 16).unwrap();
    let socket = connect_socket(&to).unwrap();
    ring.accept_multishot(listener.as_fd(), token(1));
    ring.receive(ours.as_fd(), token(2), 100);
    ring.poll_multishot(ours.as_fd(), token(3), Interest::Hangup);
    ring.connect(socket.as_fd(), token(4), to.as_sock_addr());
    ring.poll_then_splice(
        ours.as_fd(),
        Interest::Readable,
        ours.as_fd(),
        pipe.write_end(),
        9,
        token(5),
    );
    let buffer = ring.take_buffer().unwrap();
    ring.send(ours.as_fd(), token(6), buffer, 0, 1 << 20);
    // Accepted by the kernel, never reaped; and a close that is staged, never submitted.
    let _clients: Vec<_> = (0..5)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    ring.submit_and_wait(NOW).unwrap();
    ring.close(pair().0);
    assert!(ring.in_flight() >= 5);
    // Before the descriptors, so that nothing but the ring itself ends its operations.
    drop(ring);
}

#[test]
fn work_returns_to_the_baseline_without_kernel_threads() {
    isolated(
        "lifetime::work_returns_to_the_baseline_without_kernel_threads",
        || {
            let mut ring = ring();
            let before = descriptors();
            for _ in 0..50 {
                relay_once(&mut ring);
            }
            // The closes are staged behind everything else, and run in this turn.
            assert!(at_once(&mut ring).is_empty());
            assert_eq!((ring.in_flight(), ring.buffers_held()), (0, 0));
            assert_eq!(descriptors(), before);
            assert!(kernel_workers().is_empty());
            assert_eq!(ring.stats().close_failures, 0);

            // The one operation that needs a thread of the kernel: shows that the count above can
            // see them.
            let (ours, mut theirs) = pair();
            let pipe = Pipe::new(1 << 16).unwrap();
            write_all(&mut theirs, b"x");
            ring.poll_then_splice(
                ours.as_fd(),
                Interest::Readable,
                ours.as_fd(),
                pipe.write_end(),
                9,
                token(1),
            );
            one(&mut ring);
            assert_eq!(kernel_workers().len(), 1);
        },
    );
}

/// A connection accepted, connected on, relayed in one direction, and closed by the ring.
fn relay_once(ring: &mut Ring) {
    let (front_listener, front_address) = listener(&ListenOptions::default());
    let (back_listener, back_address) = listener(&ListenOptions::default());
    ring.accept_multishot(front_listener.as_fd(), token(0));
    let mut client = TcpStream::connect(front_address).unwrap();
    let CompletionKind::Accepted(Ok(front)) = one(ring).kind else {
        panic!("not accepted")
    };
    let to = ringway_uring::ConnectAddress::from(back_address);
    let back = connect_socket(&to).unwrap();
    ring.connect(back.as_fd(), token(1), to.as_sock_addr());
    assert!(matches!(one(ring).kind, CompletionKind::Connected(Ok(()))));
    ring.receive(front.as_fd(), token(2), 5);
    ring.poll_multishot(back.as_fd(), token(3), Interest::Hangup);
    write_all(&mut client, b"hello");
    let completion = one(ring);
    let CompletionKind::Received {
        result: Ok(5),
        buffer: Some(buffer),
        ..
    } = completion.kind
    else {
        panic!("{completion:?}");
    };
    ring.send(back.as_fd(), token(4), buffer, 0, 5);
    one(ring);
    ring.recycle(buffer);
    ring.cancel(token(3), ringway_uring::Operation::Poll);
    ring.cancel(token(0), ringway_uring::Operation::Accept);
    while ring.in_flight() > 0 {
        turn(ring);
    }
    for fd in [front, back, front_listener, back_listener] {
        ring.close(fd);
    }
}

#[test]
fn many_rings_in_one_thread_do_not_disturb_each_other() {
    // Each takes a slot of the thread's 16 registered rings while it lives; beyond that, plain
    // descriptors work.
    let mut rings: Vec<_> = (0..20).map(|_| ring()).collect();
    assert!(rings[0].report().registered_ring_fd);
    assert!(!rings[19].report().registered_ring_fd);
    let (ours, mut theirs) = pair();
    for (slot, ring) in rings.iter_mut().enumerate() {
        ring.receive(ours.as_fd(), token(slot as u32), 1);
        write_all(&mut theirs, &[slot as u8]);
        let completion = one(ring);
        assert_eq!(received(ring, &completion), [slot as u8]);
    }
    drop(rings);
    // Their slots were given back.
    assert!(ring().report().registered_ring_fd);
}

#[test]
fn the_kernels_threads_can_be_limited_and_pinned() {
    isolated(
        "lifetime::the_kernels_threads_can_be_limited_and_pinned",
        || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let allowed = allowed_cpus(&status);
            let last: usize = allowed.rsplit([',', '-']).next().unwrap().parse().unwrap();
            let mut ring = ring();
            ring.set_iowq_max_workers(1, 1).unwrap();
            ring.set_iowq_affinity(last).unwrap();
            let error = ring.set_iowq_affinity(1 << 20).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            let sockets: Vec<_> = (0..20)
                .map(|_| (pair(), Pipe::new(1 << 16).unwrap()))
                .collect();
            for (slot, ((ours, theirs), pipe)) in sockets.iter().enumerate() {
                use std::io::Write;
                (&*theirs).write_all(b"x").unwrap();
                let (from, to) = (ours.as_fd(), pipe.write_end());
                ring.poll_then_splice(from, Interest::Readable, from, to, 9, token(slot as u32));
            }
            while ring.in_flight() > 0 {
                for completion in turn(&mut ring) {
                    assert!(matches!(completion.kind, CompletionKind::Spliced(Ok(1))));
                }
            }
            let workers = kernel_workers();
            assert_eq!(workers.len(), 1);
            let status = std::fs::read_to_string(workers[0].join("status")).unwrap();
            assert_eq!(allowed_cpus(&status), last.to_string());
        },
    );
}

fn allowed_cpus(status: &str) -> String {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}
