//! More completions than the queue holds, and more operations than the other queue holds: nothing
//! is lost.

use std::collections::HashSet;
use std::os::fd::AsFd;

use crate::common::*;
use ringway_uring::{CompletionKind, Interest, Ring, RingParams};

#[test]
fn ten_thousand_completions_at_once_all_arrive_once() {
    const COUNT: u32 = 10_000;
    let small = RingParams {
        sq_entries: 32,
        cq_entries: 64,
        ..params()
    };
    let mut ring = Ring::new(&small).unwrap();
    let (ours, mut theirs) = pair();
    // Each completes while it is submitted, and nobody reaps.
    write_all(&mut theirs, b"x");
    for slot in 0..COUNT {
        ring.poll(ours.as_fd(), token(slot), Interest::Readable);
    }
    assert_eq!(ring.in_flight(), COUNT);
    let mut seen = HashSet::new();
    while seen.len() < COUNT as usize {
        for completion in turn(&mut ring) {
            assert!(seen.insert(completion.token.slot), "twice: {completion:?}");
            assert!(matches!(completion.kind, CompletionKind::Polled(Ok(_))));
        }
    }
    assert_eq!((ring.in_flight(), ring.stats().unknown), (0, 0));
    assert!(
        ring.stats().cq_overflows > 0,
        "the test was to overflow: {:?}",
        ring.stats()
    );
    assert!(at_once(&mut ring).is_empty());
}

#[test]
fn bytes_stay_in_order_when_receives_overflow_the_queue() {
    let small = RingParams {
        sq_entries: 4,
        cq_entries: 4,
        buffer_size: 16,
        buffers_initial: 1024,
        buffers_max: 2048,
        ..params()
    };
    let mut ring = Ring::new(&small).unwrap();
    let sent = pattern(10_000);
    let mut sockets: Vec<_> = (0..8).map(|_| pair()).collect();
    for (slot, (ours, theirs)) in sockets.iter_mut().enumerate() {
        write_all(theirs, &sent);
        ring.receive(ours.as_fd(), token(slot as u32), sent.len() as u32);
    }
    let mut seen = vec![Vec::new(); sockets.len()];
    while ring.in_flight() > 0 {
        for completion in turn(&mut ring) {
            let slot = completion.token.slot as usize;
            seen[slot].extend(received(&mut ring, &completion));
            let left = sent.len() - seen[slot].len();
            if !completion.more && left > 0 {
                ring.receive(sockets[slot].0.as_fd(), completion.token, left as u32);
            }
        }
    }
    assert!(seen.iter().all(|bytes| *bytes == sent));
    assert_eq!(ring.buffers_held(), 0);
}

#[test]
fn a_batch_is_bounded_and_does_not_allocate() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    write_all(&mut theirs, b"x");
    for slot in 0..20 {
        ring.poll(ours.as_fd(), token(slot), Interest::Readable);
    }
    ring.submit_and_wait(NOW).unwrap();
    let mut out = Vec::with_capacity(8);
    let capacity = out.capacity();
    let mut batches = Vec::new();
    loop {
        ring.reap(&mut out, 8);
        if out.is_empty() {
            break;
        }
        assert_eq!(out.capacity(), capacity);
        batches.push(out.len());
        out.clear();
    }
    assert_eq!(batches, [8, 8, 4]);
}
