//! Sending: short counts are reported, a full socket waits without a thread, order is the caller's.

use std::os::fd::AsFd;

use crate::common::*;
use ringway_uring::{Completion, CompletionKind, Errno, Ring, RingParams, unsent_bytes};

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

#[test]
fn a_full_socket_waits_and_drains_in_order() {
    let mut ring = large();
    let (ours, mut theirs) = pair();
    let bytes = pattern(1 << 20);
    let buffer = buffer_of(&mut ring, &bytes);
    // What the socket takes at once is a short count, not an error and not a wait for the rest.
    let mut counts = Vec::new();
    loop {
        ring.send(ours.as_fd(), token(1), buffer, 0, 1 << 20);
        let Some(completion) = at_once(&mut ring).pop() else {
            break;
        };
        counts.push(sent(&completion) as usize);
        assert!(counts.len() < 1000, "the socket never fills");
    }
    assert!(
        counts.iter().any(|count| *count < 1 << 20),
        "no short count: {counts:?}"
    );
    assert_eq!(ring.in_flight(), 1, "the send waits for room");
    assert!(unsent_bytes(ours.as_fd()).unwrap() > 0);
    for count in counts {
        assert!(read_exact(&mut theirs, count) == bytes[..count]);
    }
    let last = sent(&one(&mut ring)) as usize;
    assert!(last > 0);
    assert!(read_exact(&mut theirs, last) == bytes[..last]);
    assert_eq!(ring.buffers_held(), 1);
    ring.recycle(buffer);
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
