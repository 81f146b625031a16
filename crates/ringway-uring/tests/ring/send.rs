//! Sending: short counts are reported, a full socket says so, order is the caller's.

use std::os::fd::{AsFd, BorrowedFd};

use crate::common::*;
use ringway_uring::{
    BufferId, Completion, CompletionKind, Errno, Interest, Ring, RingParams, unsent_bytes,
};

fn sent(completion: &Completion) -> u32 {
    match completion.kind {
        CompletionKind::Sent {
            result: Ok(count), ..
        } => count,
        _ => panic!("not sent: {completion:?}"),
    }
}

fn large() -> Ring {
    let size = RingParams {
        buffer_size: 1 << 20,
        buffers_initial: 1,
        buffers_max: 16,
        ..params()
    };
    Ring::new(&size).unwrap()
}

/// Sends until there is no room: what each send took.
fn fill(ring: &mut Ring, ours: BorrowedFd<'_>, buffer: BufferId) -> Vec<usize> {
    let mut counts = Vec::new();
    loop {
        ring.send(ours, token(1), buffer, 0, 1 << 20);
        match one(ring).kind {
            CompletionKind::Sent {
                result: Ok(count), ..
            } => counts.push(count as usize),
            CompletionKind::Sent {
                result: Err(errno), ..
            } if errno.is_would_block() => return counts,
            other => panic!("{other:?}"),
        }
        assert!(counts.len() < 1000, "the socket never fills");
    }
}

#[test]
fn a_full_socket_says_so_and_takes_more_once_it_was_read() {
    let mut ring = large();
    let (ours, mut theirs) = pair();
    let bytes = pattern(1 << 20);
    let buffer = buffer_of(&mut ring, &bytes);
    // What the socket takes at once is a short count, not an error and not a wait for the rest.
    let counts = fill(&mut ring, ours.as_fd(), buffer);
    assert!(
        counts.iter().any(|count| *count < 1 << 20),
        "no short count: {counts:?}"
    );
    assert!(unsent_bytes(ours.as_fd()).unwrap() > 0);
    ring.poll(ours.as_fd(), token(2), Interest::Writable);
    assert!(at_once(&mut ring).is_empty());
    for count in counts {
        assert!(read_exact(&mut theirs, count) == bytes[..count]);
    }
    let CompletionKind::Polled(Ok(readiness)) = one(&mut ring).kind else {
        panic!("not polled");
    };
    assert!(readiness.is_writable());
    ring.send(ours.as_fd(), token(1), buffer, 0, 1 << 20);
    let last = sent(&one(&mut ring)) as usize;
    assert!(last > 0);
    assert!(read_exact(&mut theirs, last) == bytes[..last]);
    ring.recycle(buffer);
}

/// The kernel calls a socket ready whose peer has shut down, and would try over and over and then
/// block a thread of its own.
#[test]
fn a_full_socket_whose_peer_has_ended_is_waited_for_by_its_changes() {
    isolated(
        "send::a_full_socket_whose_peer_has_ended_is_waited_for_by_its_changes",
        || {
            let mut ring = large();
            let (ours, mut theirs) = pair();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let buffer = buffer_of(&mut ring, &pattern(1 << 20));
            let counts = fill(&mut ring, ours.as_fd(), buffer);
            assert!(kernel_workers().is_empty());
            ring.poll_multishot(ours.as_fd(), token(2), Interest::Writable);
            let readiness = |completion: Completion| match completion.kind {
                CompletionKind::Polled(Ok(readiness)) if completion.more => readiness,
                other => panic!("{other:?}"),
            };
            let first = readiness(one(&mut ring));
            assert!(first.is_read_closed() && !first.is_writable());
            assert!(
                at_once(&mut ring).is_empty(),
                "told once, not over and over"
            );
            for count in counts {
                read_exact(&mut theirs, count);
            }
            assert!(readiness(one(&mut ring)).is_writable());
            ring.recycle(buffer);
        },
    );
}

#[test]
fn sends_staged_in_one_turn_arrive_in_order() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    let bytes = pattern(10 * 200);
    for (slot, part) in bytes.chunks(200).enumerate() {
        let buffer = buffer_of(&mut ring, part);
        ring.send(ours.as_fd(), token(slot as u32), buffer, 0, 200);
    }
    let mut done = 0;
    while done < 10 {
        for completion in turn(&mut ring) {
            assert_eq!(sent(&completion), 200);
            let CompletionKind::Sent { buffer, .. } = completion.kind else {
                unreachable!()
            };
            ring.recycle(buffer);
            done += 1;
        }
    }
    assert_eq!(read_exact(&mut theirs, bytes.len()), bytes);
}

#[test]
fn part_of_a_received_buffer_can_be_sent_on() {
    let mut ring = ring();
    let (front, mut client) = pair();
    let (back, mut server) = pair();
    write_all(&mut client, b"head body");
    ring.receive(front.as_fd(), token(1), 100);
    let completion = one(&mut ring);
    let CompletionKind::Received {
        result: Ok(9),
        buffer: Some(buffer),
        ..
    } = completion.kind
    else {
        panic!("{completion:?}");
    };
    ring.send(back.as_fd(), token(2), buffer, 5, 4);
    // The bytes stay readable while they are sent.
    assert_eq!(ring.bytes(buffer, 0, 9), b"head body");
    assert_eq!(sent(&one(&mut ring)), 4);
    assert_eq!(read_exact(&mut server, 4), b"body");
    ring.recycle(buffer);
}

#[test]
fn a_gone_peer_is_an_error_and_no_signal() {
    let mut ring = ring();
    let (ours, theirs) = pair();
    drop(theirs);
    let buffer = buffer_of(&mut ring, b"x");
    let mut error = None;
    // The first send provokes the reset, a later one learns of it.
    while error.is_none() {
        ring.send(ours.as_fd(), token(1), buffer, 0, 1);
        let completion = one(&mut ring);
        let CompletionKind::Sent { result, .. } = completion.kind else {
            panic!("{completion:?}")
        };
        error = result.err();
    }
    assert!(error.unwrap().is_reset(), "{error:?}");
    ring.recycle(buffer);
}

#[test]
fn what_is_not_a_socket_is_an_error() {
    let mut ring = ring();
    let file = std::fs::File::open("/dev/null").unwrap();
    let buffer = buffer_of(&mut ring, b"x");
    ring.send(file.as_fd(), token(1), buffer, 0, 1);
    let completion = one(&mut ring);
    let expected = Err(Errno(libc::ENOTSOCK));
    assert!(matches!(completion.kind, CompletionKind::Sent { result, .. } if result == expected));
    ring.recycle(buffer);
}
