//! Sockets as made: options inherited by accepted connections, ways to close, what the kernel tells
//! about them.

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::common::*;
use ringway_uring::{
    CompletionKind, ConnectAddress, Errno, Keepalive, ListenOptions, arm_reset, connect_socket,
    listen_tcp, local_address, peer_address, pending_error, shutdown_write, tcp_info, unsent_bytes,
};
use socket2::SockRef;

fn accept(listener: &OwnedFd, client: impl FnOnce() -> TcpStream) -> (OwnedFd, TcpStream) {
    let mut ring = ring();
    ring.accept_multishot(listener.as_fd(), token(1));
    let client = client();
    match one(&mut ring).kind {
        CompletionKind::Accepted(Ok(fd)) => (fd, client),
        other => panic!("{other:?}"),
    }
}

#[test]
fn accepted_connections_inherit_the_listeners_options() {
    let options = ListenOptions {
        nodelay: true,
        keepalive: Some(Keepalive {
            idle: Duration::from_secs(41),
            interval: Duration::from_secs(7),
            count: 5,
        }),
        user_timeout: Some(Duration::from_millis(12_345)),
        receive_buffer: Some(70_000),
        send_buffer: Some(80_000),
        ..ListenOptions::default()
    };
    let (listener, address) = listener(&options);
    let (accepted, _client) = accept(&listener, || TcpStream::connect(address).unwrap());
    let socket = SockRef::from(&accepted);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(
        socket.tcp_keepalive_time().unwrap(),
        Duration::from_secs(41)
    );
    assert_eq!(
        socket.tcp_keepalive_interval().unwrap(),
        Duration::from_secs(7)
    );
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 5);
    assert_eq!(socket.tcp_user_timeout().unwrap(), options.user_timeout);
    assert_eq!(socket.recv_buffer_size().unwrap(), 140_000);
    assert_eq!(socket.send_buffer_size().unwrap(), 160_000);
}

#[test]
fn options_that_are_off_are_not_inherited() {
    let options = ListenOptions {
        nodelay: false,
        ..ListenOptions::default()
    };
    let (listener, address) = listener(&options);
    let (accepted, _client) = accept(&listener, || TcpStream::connect(address).unwrap());
    let socket = SockRef::from(&accepted);
    assert!(!socket.tcp_nodelay().unwrap());
    assert!(!socket.keepalive().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap(), None);
}

#[test]
fn several_listeners_share_a_port() {
    let (first, address) = listener(&ListenOptions::default());
    let second = listen_tcp(address, &ListenOptions::default()).unwrap();
    assert_eq!(local_address(first.as_fd()), local_address(second.as_fd()));
    let stranger = std::net::TcpListener::bind(address).unwrap_err();
    assert_eq!(stranger.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_deferred_accept_waits_for_bytes() {
    let options = ListenOptions {
        defer_accept: Some(Duration::from_secs(30)),
        fast_open: Some(16),
        ..ListenOptions::default()
    };
    let (listener, address) = listener(&options);
    let mut ring = ring();
    ring.accept_multishot(listener.as_fd(), token(1));
    let mut client = TcpStream::connect(address).unwrap();
    assert!(at_once(&mut ring).is_empty(), "accepted before its bytes");
    write_all(&mut client, b"first");
    let CompletionKind::Accepted(Ok(fd)) = one(&mut ring).kind else {
        panic!("not accepted")
    };
    let mut accepted = TcpStream::from(fd);
    let mut bytes = [0; 5];
    accepted.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"first");
}

#[test]
fn ipv6_alone_or_with_ipv4() {
    for only_v6 in [true, false] {
        let options = ListenOptions {
            only_v6,
            ..ListenOptions::default()
        };
        let Ok(listener) = listen_tcp("[::]:0".parse().unwrap(), &options) else {
            eprintln!("skipped: no IPv6 here");
            return;
        };
        let port = local_address(listener.as_fd()).unwrap().unwrap().port();
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_ok(), !only_v6);
    }
}

#[test]
fn a_shut_down_half_leaves_the_other_open() {
    let (ours, mut theirs) = pair();
    shutdown_write(ours.as_fd()).unwrap();
    assert_eq!(theirs.read(&mut [0; 8]).unwrap(), 0);
    write_all(&mut theirs, b"still");
    let mut ring = ring();
    ring.receive(ours.as_fd(), token(1), 5);
    let completion = one(&mut ring);
    assert_eq!(received(&mut ring, &completion), b"still");
}

#[test]
fn an_armed_reset_is_sent_by_the_close() {
    let (ours, mut theirs) = pair();
    let mut ring = ring();
    arm_reset(ours.as_fd()).unwrap();
    ring.close(ours);
    assert!(at_once(&mut ring).is_empty());
    let error = theirs.read(&mut [0; 8]).unwrap_err();
    assert_eq!(Errno::from_io(&error), Errno(libc::ECONNRESET));
}

#[test]
fn unsent_bytes_count_what_the_peer_has_not_taken() {
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    use std::io::Write;
    (&ours).write_all(&[0; 1000]).unwrap();
    let queued = unsent_bytes(ours.as_fd()).unwrap();
    assert!(queued >= 1000, "{queued}");
    theirs.read_exact(&mut [0; 1000]).unwrap();
    assert_eq!(unsent_bytes(ours.as_fd()), Ok(0));
}

#[test]
fn the_kernel_knows_the_round_trip() {
    let (ours, mut theirs) = pair();
    write_all(&mut theirs, b"x");
    let info = tcp_info(ours.as_fd()).unwrap();
    assert!(
        info.rtt > Duration::ZERO && info.rtt < Duration::from_secs(1),
        "{info:?}"
    );
    assert_eq!(info.retransmitted_segments, 0);
    let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(tcp_info(unix.as_fd()), Err(Errno(libc::EOPNOTSUPP)));
}

#[test]
fn addresses_and_the_pending_error() {
    let (ours, theirs) = pair();
    assert_eq!(peer_address(ours.as_fd()), Ok(theirs.local_addr().ok()));
    assert_eq!(local_address(ours.as_fd()), Ok(theirs.peer_addr().ok()));
    assert_eq!(pending_error(ours.as_fd()), Ok(None));
    arm_reset(theirs.as_fd()).unwrap();
    drop(theirs);
    let mut ring = ring();
    ring.poll(ours.as_fd(), token(1), ringway_uring::Interest::Hangup);
    let completion = one(&mut ring);
    let CompletionKind::Polled(Ok(readiness)) = completion.kind else {
        panic!("{completion:?}")
    };
    assert!(readiness.is_error() && readiness.is_hung_up());
    assert_eq!(
        pending_error(ours.as_fd()),
        Ok(Some(Errno(libc::ECONNRESET)))
    );
    assert_eq!(pending_error(ours.as_fd()), Ok(None), "taken");
    assert_eq!(peer_address(ours.as_fd()), Err(Errno(libc::ENOTCONN)));
}

#[test]
fn a_connect_socket_does_not_delay_small_writes() {
    let socket = connect_socket(&ConnectAddress::from(
        "127.0.0.1:9".parse::<std::net::SocketAddr>().unwrap(),
    ));
    let socket = socket.unwrap();
    assert!(SockRef::from(&socket).tcp_nodelay().unwrap());
    assert!(is_non_blocking_and_close_on_exec(socket.as_fd()));
    let (listener, _) = listener(&ListenOptions::default());
    assert!(is_non_blocking_and_close_on_exec(listener.as_fd()));
}
