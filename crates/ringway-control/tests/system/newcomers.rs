//! Who comes while workers leave: nobody's first segment is dropped.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ringway_uring::tcp_info;

use crate::common::*;

/// Connects and leaves, again and again; how many were made, and how many of them had to ask twice.
struct Newcomers {
    address: String,
    shall_end: AtomicBool,
    made: AtomicUsize,
    asked_twice: AtomicUsize,
}

impl Newcomers {
    fn come(&self) {
        while !self.shall_end.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect(&self.address).unwrap();
            // Before any data, which may be sent again for reasons of its own.
            let info = tcp_info(stream.as_fd()).unwrap();
            let twice = usize::from(info.retransmitted_segments > 0);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            round_trip(&mut stream);
            self.asked_twice.fetch_add(twice, Ordering::Relaxed);
            self.made.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn until_made(&self, more: usize) {
        let before = self.made.load(Ordering::Relaxed);
        eventually("so many connections", || {
            self.made.load(Ordering::Relaxed) >= before + more
        });
    }
}

/// Also where the test fails: its threads are waited for.
struct End<'a>(&'a Newcomers);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.shall_end.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_who_comes_while_workers_leave_has_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ringway.yaml");
    let four = one_pool(&[echo()], "", ADMIN).replace("workers: 2", "workers: 4");
    let text = |workers: usize| four.replace("workers: 4", &format!("workers: {workers}"));
    std::fs::write(&path, text(4)).unwrap();
    let balancer = Balancer::start_of(&path);
    let newcomers = Newcomers {
        address: balancer.address("web").to_owned(),
        shall_end: AtomicBool::new(false),
        made: AtomicUsize::new(0),
        asked_twice: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| {
        let _end = End(&newcomers);
        for _ in 0..4 {
            scope.spawn(|| newcomers.come());
        }
        for workers in [2, 1, 3, 2, 4, 1] {
            newcomers.until_made(100);
            std::fs::write(&path, text(workers)).unwrap();
            let request =
                "POST /v1/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
            let answer = balancer.request(request);
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        newcomers.until_made(100);
    });
    let made = newcomers.made.load(Ordering::Relaxed);
    let asked_twice = newcomers.asked_twice.load(Ordering::Relaxed);
    assert_eq!(asked_twice, 0, "of {made}");
    balancer.drained();
}
