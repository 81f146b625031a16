//! Polling: levels for one-shot, changes for multishot, and the wake-up of a waiting ring.

use std::os::fd::AsFd;
use std::time::Instant;

use crate::common::*;
use ringway_uring::{
    Completion, CompletionKind, Interest, Operation, Readiness, Ring, Sight, Wait, Waker,
    shutdown_write,
};

fn polled(completion: &Completion) -> Readiness {
    match completion.kind {
        CompletionKind::Polled(Ok(readiness)) => readiness,
        _ => panic!("not a poll: {completion:?}"),
    }
}

#[test]
fn a_one_shot_poll_is_level_triggered() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    write_all(&mut theirs, b"x");
    // The byte is never read, and each poll reports it.
    for _ in 0..3 {
        ring.poll(ours.as_fd(), token(1), Interest::Readable);
        let completion = one(&mut ring);
        assert!(polled(&completion).is_readable() && !completion.more);
    }
    ring.poll(ours.as_fd(), token(2), Interest::Writable);
    let readiness = polled(&one(&mut ring));
    assert!(readiness.is_writable() && !readiness.is_read_closed() && !readiness.is_error());
}

#[test]
fn a_look_finds_all_that_is_ready_and_waits_for_nothing() {
    const READY: u32 = 60;
    let mut ring = ring();
    let pairs: Vec<_> = (0..READY).map(|_| pair()).collect();
    for (slot, (ours, _)) in (0..).zip(&pairs) {
        ring.poll(ours.as_fd(), token(slot), Interest::Readable);
    }
    let mut look = |most| {
        ring.submit_and_look(most).expect("enter");
        let mut out = Vec::new();
        ring.reap(&mut out, 1024);
        out.len() as u32
    };
    assert_eq!(look(200), 0);
    for (_, mut theirs) in pairs {
        write_all(&mut theirs, b"x");
    }
    assert_eq!(look(200), READY);
    assert_eq!(look(200), 0);
}

/// Looks until something is seen.
fn seen(ring: &mut Ring) -> Sight {
    let begun = Instant::now();
    loop {
        match ring.watch(1000) {
            Sight::Nothing => assert!(begun.elapsed() < PATIENCE, "nothing is seen: {ring:?}"),
            sight => return sight,
        }
    }
}

#[test]
fn what_another_thread_does_is_seen_without_a_system_call() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    let waker = Waker::new().unwrap();
    ring.poll_multishot(waker.as_fd(), token(1), Interest::Readable);
    ring.poll(ours.as_fd(), token(2), Interest::Readable);
    assert!(at_once(&mut ring).is_empty());
    let calls = ring.stats().enters;
    assert_eq!(ring.watch(100), Sight::Nothing);
    let mut others: Vec<Box<dyn FnMut() + Send>> = vec![
        Box::new(|| waker.wake()),
        Box::new(|| write_all(&mut theirs, b"x")),
    ];
    for (done, other) in (1..).zip(&mut others) {
        let sight = std::thread::scope(|scope| {
            scope.spawn(other);
            seen(&mut ring)
        });
        assert_eq!(sight, Sight::Work);
        assert_eq!(ring.stats().enters, calls + done - 1);
        assert_eq!(at_once(&mut ring).len(), 1);
        assert_eq!(ring.watch(1), Sight::Nothing);
    }
}

#[test]
fn looking_tells_of_completions_and_submits_nothing() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    write_all(&mut theirs, b"x");
    ring.poll(ours.as_fd(), token(1), Interest::Readable);
    assert_eq!((ring.watch(100), ring.staged()), (Sight::Nothing, 1));
    ring.submit_and_wait(NOW).expect("enter");
    assert_eq!((ring.watch(1), ring.staged()), (Sight::Completions, 0));
    assert_eq!(ring.watch(1), Sight::Completions);
    assert_eq!(at_once(&mut ring).len(), 1);
    assert_eq!(ring.watch(1), Sight::Nothing);
}

#[test]
fn a_poll_waits_for_what_it_is_asked_for() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    ring.poll(ours.as_fd(), token(1), Interest::Readable);
    ring.poll(ours.as_fd(), token(2), Interest::Hangup);
    assert!(at_once(&mut ring).is_empty());
    write_all(&mut theirs, b"x");
    let completion = one(&mut ring);
    assert_eq!(completion.token, token(1));
    assert!(polled(&completion).is_readable());
    // Bytes do not wake the other one; the end of the stream does.
    assert!(at_once(&mut ring).is_empty());
    shutdown_write(theirs.as_fd()).unwrap();
    let completion = one(&mut ring);
    assert_eq!(completion.token, token(2));
    assert!(polled(&completion).is_read_closed() && !polled(&completion).is_hung_up());
}

#[test]
fn a_multishot_poll_reports_each_arrival() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    ring.poll_multishot(ours.as_fd(), token(1), Interest::Readable);
    assert!(at_once(&mut ring).is_empty());
    for _ in 0..5 {
        write_all(&mut theirs, b"x");
        let completion = one(&mut ring);
        assert!(polled(&completion).is_readable() && completion.more);
    }
    ring.cancel(token(1), Operation::Poll);
    let end = one(&mut ring);
    assert!(!end.more);
    assert!(matches!(end.kind, CompletionKind::Polled(Err(errno)) if errno.is_cancelled()));
}

/// Bytes unread, a FIN or both: a poll that waits for neither still reports the reset behind them.
#[test]
fn a_multishot_poll_reports_a_reset_behind_unread_bytes_and_behind_a_fin() {
    for fin in [false, true] {
        for armed_before in [false, true] {
            let mut ring = ring();
            let (ours, mut theirs) = pair();
            write_all(&mut theirs, b"unread");
            if armed_before {
                ring.poll_multishot(ours.as_fd(), token(1), Interest::Hangup);
                assert!(at_once(&mut ring).is_empty());
            }
            if fin {
                shutdown_write(theirs.as_fd()).unwrap();
                if armed_before {
                    let completion = one(&mut ring);
                    assert!(!polled(&completion).is_error() && completion.more);
                    assert!(at_once(&mut ring).is_empty(), "once, not for ever");
                }
            }
            ringway_uring::arm_reset(theirs.as_fd()).unwrap();
            drop(theirs);
            if !armed_before {
                ring.poll_multishot(ours.as_fd(), token(1), Interest::Hangup);
            }
            let completion = one(&mut ring);
            assert!(polled(&completion).is_error() && completion.more);
            ring.cancel(token(1), Operation::Poll);
            assert!(!one(&mut ring).more);
            assert_eq!(ring.in_flight(), 0);
        }
    }
}

#[test]
fn a_waker_ends_a_wait_from_another_thread() {
    let mut ring = ring();
    let waker = Waker::new().unwrap();
    ring.poll_multishot(waker.as_fd(), token(1), Interest::Readable);
    for _ in 0..3 {
        let other = waker.clone();
        let thread = std::thread::spawn(move || other.wake());
        assert!(polled(&one(&mut ring)).is_readable());
        assert!(waker.drain());
        thread.join().unwrap();
    }
}

#[test]
fn a_wait_ends_with_its_time() {
    let mut ring = ring();
    let (ours, _theirs) = pair();
    ring.poll(ours.as_fd(), token(1), Interest::Readable);
    let short = Some(std::time::Duration::from_millis(1));
    let mut out = Vec::new();
    for wait in [
        NOW,
        Wait {
            timeout: short,
            min_wait: None,
        },
        Wait {
            timeout: short,
            min_wait: short,
        },
        Wait {
            timeout: Some(std::time::Duration::ZERO),
            min_wait: short,
        },
    ] {
        ring.submit_and_wait(wait).unwrap();
        ring.reap(&mut out, 8);
        assert!(out.is_empty());
    }
}

#[test]
fn a_minimum_wait_still_delivers_a_single_completion() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    write_all(&mut theirs, b"x");
    ring.poll(ours.as_fd(), token(1), Interest::Readable);
    let min_wait = Some(std::time::Duration::from_micros(50));
    ring.submit_and_wait(Wait {
        timeout: Some(PATIENCE),
        min_wait,
    })
    .unwrap();
    let mut out = Vec::new();
    ring.reap(&mut out, 8);
    assert_eq!(out.len(), 1);
}

#[test]
fn a_wait_of_zero_runs_the_kernels_deferred_work() {
    let mut ring = ring();
    let waker = Waker::new().unwrap();
    ring.poll(waker.as_fd(), token(1), Interest::Readable);
    assert!(at_once(&mut ring).is_empty());
    waker.wake();
    assert_eq!(at_once(&mut ring).len(), 1);
}
