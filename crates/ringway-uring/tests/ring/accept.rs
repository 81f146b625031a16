//! Accepting: one operation serves any number of connections and survives a lack of descriptors.

use std::collections::HashSet;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::common::*;
use ringway_uring::{Completion, CompletionKind, ListenOptions, Operation, peer_address};

fn accepted(completion: Completion) -> OwnedFd {
    match completion.kind {
        CompletionKind::Accepted(Ok(fd)) => fd,
        other => panic!("not a connection: {other:?}"),
    }
}

#[test]
fn one_operation_accepts_a_thousand_connections() {
    isolated(
        "accept::one_operation_accepts_a_thousand_connections",
        accept_a_thousand,
    );
}

fn accept_a_thousand() {
    set_descriptor_limit(2500);
    let mut ring = ring();
    let (listener, address) = listener(&ListenOptions::default());
    ring.accept_multishot(listener.as_fd(), token(5));
    let clients = std::thread::spawn(move || {
        (0..1000)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect::<Vec<_>>()
    });
    let (mut connections, mut ends) = (Vec::new(), 0);
    while connections.len() < 1000 {
        for completion in turn(&mut ring) {
            assert_eq!(completion.token, token(5));
            // A full completion queue may end the accept early; the caller stages it again.
            if !completion.more {
                ends += 1;
                ring.accept_multishot(listener.as_fd(), token(5));
            }
            connections.push(accepted(completion));
        }
    }
    let clients = clients.join().unwrap();
    let expected: HashSet<_> = clients
        .iter()
        .map(|client| client.local_addr().unwrap())
        .collect();
    let seen: HashSet<_> = connections
        .iter()
        .map(|fd| peer_address(fd.as_fd()).unwrap().unwrap())
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(ring.stats().submissions, 1 + ends);
    assert!(ends < 100, "{ends} ends: not a multishot");
}

#[test]
fn accepted_sockets_are_non_blocking_and_close_on_exec() {
    let mut ring = ring();
    let (listener, address) = listener(&ListenOptions::default());
    ring.accept_multishot(listener.as_fd(), token(5));
    let _client = TcpStream::connect(address).unwrap();
    let fd = accepted(one(&mut ring));
    assert!(is_non_blocking_and_close_on_exec(fd.as_fd()));
}

#[test]
fn accepting_goes_on_after_running_out_of_descriptors() {
    isolated(
        "accept::accepting_goes_on_after_running_out_of_descriptors",
        || {
            let mut ring = ring();
            let (listener, address) = listener(&ListenOptions::default());
            let clients: Vec<_> = (0..8)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            // The lowest free number, so there is room for exactly two.
            let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
            set_descriptor_limit(next as u64 + 2);
            // The kernel takes the limit down when the operation is submitted.
            ring.accept_multishot(listener.as_fd(), token(5));
            let mut connections = Vec::new();
            let mut end = None;
            while end.is_none() {
                for completion in turn(&mut ring) {
                    match (&completion.kind, completion.more) {
                        (CompletionKind::Accepted(Err(errno)), false) => end = Some(*errno),
                        (CompletionKind::Accepted(Ok(_)), true) => {
                            connections.push(accepted(completion))
                        }
                        _ => panic!("{completion:?}"),
                    }
                }
            }
            assert!(end.unwrap().is_descriptor_limit());
            assert_eq!(connections.len(), 2);
            assert_eq!(ring.in_flight(), 0);
            set_descriptor_limit(256);
            ring.accept_multishot(listener.as_fd(), token(5));
            while connections.len() < clients.len() {
                connections.extend(turn(&mut ring).into_iter().map(accepted));
            }
            ring.cancel(token(5), Operation::Accept);
            assert!(!one(&mut ring).more);
        },
    );
}
