//! Receiving: budgets are exact, bytes are in order, running out of buffers loses nothing.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use crate::common::*;
use ringway_uring::{CompletionKind, Errno, ReceiveStyle, ReceivesBy, Ring, RingParams};

const STYLES: [ReceiveStyle; 2] = [ReceiveStyle::Auto, ReceiveStyle::OneShot];

fn ring_of(style: ReceiveStyle) -> Ring {
    Ring::new(&RingParams {
        receive_style: style,
        ..params()
    })
    .unwrap()
}

/// Receives until `budget` bytes came, staging again what an operation left of it.
fn receive_exactly(ring: &mut Ring, fd: &impl AsFd, budget: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < budget as usize {
        ring.receive(fd.as_fd(), token(1), budget - bytes.len() as u32);
        let mut more = true;
        while more {
            for completion in turn(ring) {
                assert_eq!(completion.token, token(1));
                more = completion.more;
                match completion.kind {
                    // More arrives in a turn than the window holds: it grows.
                    CompletionKind::Received {
                        result: Err(errno), ..
                    } if errno.is_no_buffers() => {}
                    _ => bytes.extend(received(ring, &completion)),
                }
            }
        }
    }
    bytes
}

#[test]
fn a_budget_is_exact_and_the_rest_stays_in_the_socket() {
    for style in STYLES {
        let mut ring = ring_of(style);
        let (ours, mut theirs) = pair();
        let sent = pattern(50_000);
        write_all(&mut theirs, &sent);
        let mut seen = Vec::new();
        for budget in [1, 255, 256, 257, 1, 4096, 10_000, 31_000] {
            let before = seen.len();
            seen.extend(receive_exactly(&mut ring, &ours, budget));
            assert_eq!(seen.len() - before, budget as usize, "{style:?}");
            assert!(
                at_once(&mut ring).is_empty(),
                "nothing beyond the budget of {budget}"
            );
        }
        assert_eq!(seen, sent[..seen.len()]);
        let mut ours = std::net::TcpStream::from(ours);
        let mut rest = vec![0; sent.len() - seen.len()];
        ours.read_exact(&mut rest).unwrap();
        assert_eq!(rest, sent[seen.len()..]);
        assert_eq!(ring.buffers_held(), 0);
        assert_eq!(ring.in_flight(), 0);
    }
}

#[test]
fn a_budget_ends_a_multishot_without_a_cancel() {
    let mut ring = ring_of(ReceiveStyle::Auto);
    if ring.report().receives_by == ReceivesBy::OneShot {
        eprintln!("skipped: this kernel has no receive budget");
        return;
    }
    let (ours, mut theirs) = pair();
    ring.receive(ours.as_fd(), token(9), 600);
    assert!(at_once(&mut ring).is_empty(), "armed, nothing there");
    let submissions = ring.stats().submissions;
    let (mut lengths, mut mores) = (Vec::new(), Vec::new());
    for part in [100, 100, 1000] {
        write_all(&mut theirs, &pattern(part));
        for completion in turn(&mut ring) {
            mores.push(completion.more);
            lengths.push(received(&mut ring, &completion).len());
        }
    }
    // It ends as soon as another full buffer could exceed the budget.
    assert!(
        (345..=600).contains(&lengths.iter().sum::<usize>()),
        "{lengths:?}"
    );
    assert!(
        mores.pop() == Some(false) && mores.iter().all(|more| *more),
        "{lengths:?}"
    );
    assert_eq!(
        ring.stats().submissions,
        submissions,
        "one operation served it all"
    );
}

#[test]
fn order_holds_over_many_buffers_and_writes() {
    for style in STYLES {
        let mut ring = ring_of(style);
        let (ours, mut theirs) = pair();
        let sent = pattern(2_000_000);
        let writer = std::thread::spawn({
            let sent = sent.clone();
            move || {
                sent.chunks(7919)
                    .for_each(|part| theirs.write_all(part).unwrap())
            }
        });
        let mut seen = Vec::new();
        while seen.len() < sent.len() {
            // The caller recycles before it stages, so a budget below the window never runs dry.
            let budget = (sent.len() - seen.len()).min(2048) as u32;
            seen.extend(receive_exactly(&mut ring, &ours, budget));
        }
        writer.join().unwrap();
        assert!(seen == sent, "{style:?}");
    }
}

#[test]
fn the_end_of_the_stream_comes_after_the_bytes_and_holds_no_buffer() {
    for style in STYLES {
        let mut ring = ring_of(style);
        let (ours, mut theirs) = pair();
        write_all(&mut theirs, b"last words");
        drop(theirs);
        assert_eq!(receive_exactly(&mut ring, &ours, 10), b"last words");
        for _ in 0..100 {
            ring.receive(ours.as_fd(), token(1), 1000);
            let end = one(&mut ring);
            assert!(!end.more);
            assert!(
                matches!(
                    end.kind,
                    CompletionKind::Received {
                        result: Ok(0),
                        buffer: None,
                        ..
                    }
                ),
                "{end:?}"
            );
        }
        assert_eq!(
            (ring.buffers_held(), ring.buffers_published()),
            (0, 16),
            "{style:?}"
        );
    }
}

#[test]
fn a_reset_is_an_error_and_holds_no_buffer() {
    for style in STYLES {
        let mut ring = ring_of(style);
        let (ours, theirs) = pair();
        ring.receive(ours.as_fd(), token(1), 1000);
        assert!(at_once(&mut ring).is_empty());
        ringway_uring::arm_reset(theirs.as_fd()).unwrap();
        drop(theirs);
        let end = one(&mut ring);
        let CompletionKind::Received {
            result,
            buffer: None,
            ..
        } = end.kind
        else {
            panic!("{end:?}");
        };
        assert_eq!(result, Err(Errno(libc::ECONNRESET)));
        assert!(!end.more);
        assert_eq!(ring.buffers_held(), 0);
    }
}

#[test]
fn two_buffers_serve_64_connections() {
    const CONNECTIONS: usize = 64;
    const EACH: usize = 5_000;
    for style in STYLES {
        let tiny = RingParams {
            buffers_initial: 2,
            buffers_max: 2,
            receive_style: style,
            ..params()
        };
        let mut ring = Ring::new(&tiny).unwrap();
        let mut sockets: Vec<_> = (0..CONNECTIONS).map(|_| pair()).collect();
        let sent: Vec<_> = (0..CONNECTIONS).map(|n| pattern(EACH + n)).collect();
        let mut seen = vec![Vec::new(); CONNECTIONS];
        let mut no_buffers = 0;
        for (slot, (ours, theirs)) in sockets.iter_mut().enumerate() {
            write_all(theirs, &sent[slot]);
            ring.receive(ours.as_fd(), token(slot as u32), sent[slot].len() as u32);
        }
        // Held for a whole turn, so that the kernel runs dry again and again.
        while ring.in_flight() > 0 {
            let batch = turn(&mut ring);
            let mut again = Vec::new();
            for completion in batch {
                let slot = completion.token.slot as usize;
                match completion.kind {
                    CompletionKind::Received {
                        result: Err(errno),
                        buffer: None,
                        ..
                    } => {
                        assert!(errno.is_no_buffers(), "{errno}");
                        no_buffers += 1;
                    }
                    _ => seen[slot].extend(received(&mut ring, &completion)),
                }
                if !completion.more && seen[slot].len() < sent[slot].len() {
                    again.push(slot);
                }
            }
            for slot in again {
                let left = sent[slot].len() - seen[slot].len();
                ring.receive(sockets[slot].0.as_fd(), token(slot as u32), left as u32);
            }
        }
        assert!(seen == sent, "{style:?}");
        assert!(no_buffers > 0, "the test was to run dry: {style:?}");
        assert_eq!((ring.buffers_published(), ring.buffers_held()), (2, 0));
    }
}

#[test]
fn running_dry_enlarges_the_window() {
    let growing = RingParams {
        buffers_initial: 1,
        buffers_max: 64,
        ..params()
    };
    let mut ring = Ring::new(&growing).unwrap();
    let (ours, mut theirs) = pair();
    write_all(&mut theirs, &pattern(8 * 256));
    assert_eq!(ring.buffers_published(), 1);
    let mut held = Vec::new();
    let mut windows = Vec::new();
    while held.len() < 8 {
        ring.receive(ours.as_fd(), token(0), 256);
        for completion in turn(&mut ring) {
            match completion.kind {
                CompletionKind::Received {
                    buffer: Some(buffer),
                    ..
                } => held.push(buffer),
                CompletionKind::Received {
                    result: Err(errno), ..
                } if errno.is_no_buffers() => {
                    windows.push(ring.buffers_published());
                }
                _ => panic!("{completion:?}"),
            }
        }
    }
    // Every buffer is held, so what is published after ENOBUFS is the doubled window. From two on it
    // is filled up before it runs dry.
    assert_eq!(windows, [2]);
    held.into_iter().for_each(|buffer| ring.recycle(buffer));
    assert_eq!(ring.buffers_held(), 0);
}
