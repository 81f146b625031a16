//! Cancelling: each operation ends with exactly one completion, whatever is cancelled and however.

use std::os::fd::AsFd;

use crate::common::*;
use crate::connect::unanswered;
use ringway_uring::{
    Completion, CompletionKind, Errno, Interest, ListenOptions, Operation, Pipe, Ring,
    connect_socket,
};

const CANCELLED: Errno = Errno(libc::ECANCELED);

fn errno(completion: &Completion) -> Option<Errno> {
    match &completion.kind {
        CompletionKind::Accepted(result) => result.as_ref().err().copied(),
        CompletionKind::Received { result, .. } => result.err(),
        CompletionKind::Sent { result, .. } => result.err(),
        CompletionKind::Connected(result) => result.err(),
        CompletionKind::Polled(result) => result.err(),
        CompletionKind::Spliced(result) => result.err(),
    }
}

/// Arms one operation of each kind that can be cancelled by token, on descriptors that stay silent.
fn each(test: impl Fn(&mut Ring, Operation)) {
    let (listener, _) = listener(&ListenOptions::default());
    let (ours, _theirs) = pair();
    let (_full, _queued, to) = unanswered();
    let pipe = Pipe::new(1 << 16).unwrap();
    let mut ring = ring();

    ring.accept_multishot(listener.as_fd(), token(1));
    test(&mut ring, Operation::Accept);
    ring.receive(ours.as_fd(), token(1), 100);
    test(&mut ring, Operation::Receive);
    ring.poll(ours.as_fd(), token(1), Interest::Readable);
    test(&mut ring, Operation::Poll);
    ring.poll_multishot(ours.as_fd(), token(1), Interest::Hangup);
    test(&mut ring, Operation::Poll);
    ring.poll_then_splice(
        ours.as_fd(),
        Interest::Readable,
        ours.as_fd(),
        pipe.write_end(),
        100,
        token(1),
    );
    test(&mut ring, Operation::Splice);
    let socket = connect_socket(&to).unwrap();
    ring.connect(socket.as_fd(), token(1), to.as_sock_addr());
    test(&mut ring, Operation::Connect);
    assert_eq!(ring.buffers_held(), 0);
}

/// Exactly one completion, ECANCELED, and then silence.
fn ended(ring: &mut Ring, operation: Operation) {
    let completion = one(ring);
    assert_eq!(
        errno(&completion),
        Some(CANCELLED),
        "{operation:?}: {completion:?}"
    );
    assert_eq!((completion.token, completion.more), (token(1), false));
    assert_eq!(ring.in_flight(), 0);
    assert!(at_once(ring).is_empty(), "{operation:?}");
}

#[test]
fn each_operation_is_cancelled_by_its_token() {
    each(|ring, operation| {
        assert!(at_once(ring).is_empty(), "{operation:?}");
        ring.cancel(token(1), operation);
        ended(ring, operation);
    });
}

#[test]
fn each_operation_is_cancelled_in_the_turn_that_stages_it() {
    each(|ring, operation| {
        ring.cancel(token(1), operation);
        ended(ring, operation);
    });
}

#[test]
fn another_token_is_not_cancelled() {
    let (ours, _theirs) = pair();
    let mut ring = ring();
    ring.poll(ours.as_fd(), token(1), Interest::Readable);
    let other_generation = ringway_uring::Token {
        generation: 8,
        ..token(1)
    };
    for target in [token(2), other_generation] {
        ring.cancel(target, Operation::Poll);
        ring.cancel(target, Operation::Receive);
    }
    ring.cancel(token(1), Operation::Receive);
    assert!(at_once(&mut ring).is_empty());
    assert_eq!(ring.in_flight(), 1);
}

#[test]
fn cancelling_with_a_close_behind_it_ends_the_operation_and_the_connection() {
    let mut ring = ring();
    for _ in 0..200 {
        let (ours, mut theirs) = pair();
        ring.receive(ours.as_fd(), token(1), 100);
        // The race: a byte may arrive before, between or after.
        let writer = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let _ = theirs.write_all(b"x");
            // Ends only when our side is closed: by FIN, or by RST for the unread byte.
            let _ = theirs.read(&mut [0; 8]);
        });
        ring.cancel(token(1), Operation::Receive);
        ring.close(ours);
        let mut ends = 0;
        while ring.in_flight() > 0 {
            for completion in turn(&mut ring) {
                if let CompletionKind::Received {
                    buffer: Some(buffer),
                    ..
                } = completion.kind
                {
                    ring.recycle(buffer);
                }
                ends += u32::from(!completion.more);
            }
        }
        assert_eq!(ends, 1);
        writer.join().unwrap();
    }
    assert_eq!((ring.stats().close_failures, ring.buffers_held()), (0, 0));
}
