//! Pipes and splices: bytes exact both ways, the pool bounded, no bytes of one connection in
//! another's pipe.

use std::os::fd::AsFd;

use crate::common::*;
use ringway_uring::{
    CompletionKind, Errno, Interest, Operation, Pipe, PipePool, Residue, Waker, shutdown_write,
    splice_in, splice_out,
};

const AGAIN: Errno = Errno(libc::EAGAIN);

#[test]
fn bytes_pass_a_pipe_unchanged() {
    let (front, mut client) = pair();
    let (back, mut server) = pair();
    let pipe = Pipe::new(1 << 16).unwrap();
    let sent = pattern(3_000_000);
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || {
            write_all(&mut client, &sent);
            shutdown_write(client.as_fd()).unwrap();
            client
        }
    });
    let reader = std::thread::spawn({
        let len = sent.len();
        move || read_exact(&mut server, len)
    });
    let mut ring = ring();
    let mut wait = |fd: &dyn AsFd, interest| {
        ring.poll(fd.as_fd(), token(1), interest);
        one(&mut ring);
    };
    let (mut inside, mut total, mut end) = (0, 0, false);
    while !end || inside > 0 {
        if inside == 0 {
            match splice_in(front.as_fd(), &pipe, pipe.capacity()) {
                Ok(0) => end = true,
                Ok(moved) => inside = moved,
                Err(errno) => {
                    assert_eq!(errno, AGAIN);
                    wait(&front, Interest::Readable);
                }
            }
            continue;
        }
        match splice_out(&pipe, back.as_fd(), inside) {
            Ok(moved) => {
                inside -= moved;
                total += moved;
            }
            Err(errno) => {
                assert_eq!(errno, AGAIN);
                wait(&back, Interest::Writable);
            }
        }
    }
    assert_eq!(total, sent.len());
    assert!(reader.join().unwrap() == sent);
    writer.join().unwrap();
}

#[test]
fn both_ends_are_non_blocking_and_close_on_exec() {
    let pipe = Pipe::new(4096).unwrap();
    assert!(is_non_blocking_and_close_on_exec(pipe.read_end()));
    assert!(is_non_blocking_and_close_on_exec(pipe.write_end()));
}

#[test]
fn empty_and_full_are_would_block() {
    let (ours, mut theirs) = pair();
    let pipe = Pipe::new(4096).unwrap();
    assert_eq!(splice_in(ours.as_fd(), &pipe, 100), Err(AGAIN));
    assert_eq!(splice_out(&pipe, ours.as_fd(), 100), Err(AGAIN));
    write_all(&mut theirs, &pattern(200_000));
    let mut inside = 0;
    let full = loop {
        match splice_in(ours.as_fd(), &pipe, 1 << 20) {
            Ok(moved) => inside += moved,
            Err(errno) => break errno,
        }
    };
    assert_eq!(full, AGAIN);
    assert!((1..200_000).contains(&inside), "{inside}");
}

#[test]
fn a_pool_that_is_to_be_smaller_closes_what_is_idle_and_then_what_comes_back() {
    let mut pool = PipePool::new(4, 1 << 16);
    let mut taken: Vec<Pipe> = (0..4).map(|_| pool.take().unwrap()).collect();
    pool.give_back(taken.pop().unwrap(), Residue::Empty);
    pool.limit(2, 1 << 16);
    assert_eq!((pool.alive(), pool.idle()), (3, 0));
    assert!(pool.take().is_none());
    pool.give_back(taken.pop().unwrap(), Residue::Empty);
    assert_eq!((pool.alive(), pool.idle()), (2, 0));
    pool.give_back(taken.pop().unwrap(), Residue::Empty);
    assert_eq!((pool.alive(), pool.idle()), (2, 1));
    // As many smaller ones are half the bytes.
    pool.limit(2, 1 << 15);
    assert_eq!((pool.alive(), pool.idle()), (1, 0));
    pool.limit(3, 1 << 17);
    assert!(pool.take().is_some() && pool.take().is_some() && pool.take().is_none());
}

#[test]
fn the_pool_is_bounded_and_never_pools_bytes() {
    let (ours, mut theirs) = pair();
    let mut pool = PipePool::new(2, 1 << 16);
    assert_eq!((pool.alive(), pool.idle()), (0, 0));
    let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
    assert_eq!((pool.alive(), pool.idle(), pool.failures()), (2, 0, 0));
    assert!(pool.take().is_none());
    write_all(&mut theirs, b"a secret of one connection");
    let mut ring = ring();
    ring.poll(ours.as_fd(), token(1), Interest::Readable);
    one(&mut ring);
    splice_in(ours.as_fd(), &first, 10).unwrap();
    pool.give_back(first, Residue::Bytes);
    assert_eq!((pool.alive(), pool.idle()), (1, 0));
    pool.give_back(second, Residue::Empty);
    assert_eq!((pool.alive(), pool.idle()), (1, 1));
    for _ in 0..2 {
        let pipe = pool.take().unwrap();
        assert_eq!(
            splice_out(&pipe, ours.as_fd(), 100),
            Err(AGAIN),
            "a pooled pipe is empty"
        );
    }
    assert!(pool.take().is_none());
}

#[test]
fn the_kernels_limit_shows_as_shrunk_pipes() {
    let mut pool = PipePool::new(4, 1 << 16);
    let pipe = pool.take().unwrap();
    // Beyond fs.pipe-max-size nothing can grow without CAP_SYS_RESOURCE; with it up to 2 GiB, so
    // ask for more.
    assert_eq!(pool.shrunk(), usize::from(pipe.capacity() < 1 << 16));
    pool.give_back(pipe, Residue::Bytes);
    let mut huge = PipePool::new(4, 1 << 40);
    let pipe = huge.take().unwrap();
    assert!(pipe.capacity() > 0 && pipe.capacity() < 1 << 40);
    assert_eq!(huge.shrunk(), 1);
    huge.give_back(pipe, Residue::Empty);
    assert_eq!((huge.shrunk(), huge.alive()), (1, 1));
    let pipe = huge.take().unwrap();
    huge.give_back(pipe, Residue::Bytes);
    assert_eq!((huge.shrunk(), huge.alive()), (0, 0));
}

#[test]
fn a_linked_poll_and_splice_completes_once() {
    let (ours, mut theirs) = pair();
    let pipe = Pipe::new(1 << 16).unwrap();
    let mut ring = ring();
    let splice = |ring: &mut ringway_uring::Ring| {
        ring.poll_then_splice(
            ours.as_fd(),
            Interest::Readable,
            ours.as_fd(),
            pipe.write_end(),
            1000,
            token(4),
        );
    };
    splice(&mut ring);
    assert!(at_once(&mut ring).is_empty());
    write_all(&mut theirs, b"seven b");
    let completion = one(&mut ring);
    assert!(
        matches!(completion.kind, CompletionKind::Spliced(Ok(7))),
        "{completion:?}"
    );
    assert_eq!(
        (completion.token, completion.more, ring.in_flight()),
        (token(4), false, 0)
    );
    drop(theirs);
    splice(&mut ring);
    assert!(
        matches!(one(&mut ring).kind, CompletionKind::Spliced(Ok(0))),
        "the end of the stream"
    );
    assert!(at_once(&mut ring).is_empty());
}

#[test]
fn a_failed_poll_is_the_one_completion_of_its_splice() {
    let (ours, _theirs) = pair();
    let pipe = Pipe::new(1 << 16).unwrap();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let mut ring = ring();
    // An epoll instance's poll works on anything; a regular file cannot be polled by the ring: the
    // kernel says EPERM, or reports it ready and the splice from it works. In both cases one
    // completion.
    ring.poll_then_splice(
        file.as_fd(),
        Interest::Hangup,
        ours.as_fd(),
        pipe.write_end(),
        10,
        token(4),
    );
    let completion = one(&mut ring);
    assert!(
        matches!(completion.kind, CompletionKind::Spliced(Err(_))),
        "{completion:?}"
    );
    assert_eq!(ring.in_flight(), 0);
    assert!(at_once(&mut ring).is_empty());
}

#[test]
fn links_survive_a_nearly_full_queue() {
    let (ours, _theirs) = pair();
    let waker = Waker::new().unwrap();
    let pipe = Pipe::new(1 << 16).unwrap();
    let mut ring = ring();
    let entries = ring.report().sq_entries;
    for slot in 0..entries - 1 {
        ring.poll(waker.as_fd(), token(slot), Interest::Readable);
    }
    let (from, to) = (ours.as_fd(), pipe.write_end());
    ring.poll_then_splice(from, Interest::Readable, from, to, 10, token(9999));
    assert!(at_once(&mut ring).is_empty());
    // Torn apart, the splice would answer EAGAIN and the poll would be cancelled on its own.
    ring.cancel(token(9999), Operation::Splice);
    let completion = one(&mut ring);
    let CompletionKind::Spliced(result) = completion.kind else {
        panic!("{completion:?}");
    };
    assert_eq!(result, Err(Errno(libc::ECANCELED)));
    assert!(at_once(&mut ring).is_empty());
    assert_eq!(ring.in_flight(), entries - 1);
}
