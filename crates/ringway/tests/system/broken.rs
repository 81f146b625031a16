//! A worker to which the kernel says what it never should: strace takes its place. One CPU that does
//! nothing, while others go on and clients are still sent to it, is worse than no process at all.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use crate::backend::Backend;
use crate::peers::{connect, drain, read_exactly, until};
use crate::process::{is_traced, thread_of};
use crate::setup::{Relay, Setup};

/// Interferes with the calls of one thread until it is dropped.
pub(crate) struct Interference(Child);

impl Interference {
    /// With io_uring_enter(2) of a worker of this process. `None` where tracing is not allowed.
    pub(crate) fn with_worker(process: Pid, worker: usize, how: &str) -> Option<Interference> {
        Interference::with_call(process, worker, "io_uring_enter", how)
    }

    /// With one of its calls.
    fn with_call(process: Pid, worker: usize, call: &str, how: &str) -> Option<Interference> {
        let allowed = Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "true"])
            .status();
        if !allowed.is_ok_and(|status| status.success()) {
            eprintln!("not tested: strace is missing or not allowed");
            return None;
        }
        let thread = thread_of(process, &format!("ringway-wrk-{worker}"));
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:{how}")]);
        strace
            .args(["-p", &thread.to_string()])
            .stdin(Stdio::null());
        let interference = Interference(strace.spawn().unwrap());
        until("it is traced", || is_traced(process, thread));
        Some(interference)
    }
}

impl Drop for Interference {
    fn drop(&mut self) {
        // The kernel lets go of the thread when the tracer dies. It may have ended with its prey.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_worker_that_cannot_go_on_ends_the_process() {
    let backend = Backend::new();
    let mut ringway = Setup::to([backend.address()]).workers(2).start();
    let pairs: Vec<_> = (0..8).map(|_| backend.pair(&ringway)).collect();
    let Some(interference) = Interference::with_worker(ringway.process.pid(), 1, "error=EFAULT")
    else {
        return;
    };
    // It need not notice before it has something to do.
    for (client, _) in &pairs {
        let _ = (&*client).write_all(b"?");
    }
    let ended = ringway.process.end();
    drop(interference);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains("worker 1"), "{}", ended.log);
    for (client, accepted) in &pairs {
        drain(client);
        drain(accepted);
    }
}

/// A pipe that was made and has no descriptors is more than a worker can bear.
#[test]
fn a_worker_that_panics_ends_the_process() {
    let backend = Backend::new();
    let setup = Setup::to([backend.address()]).workers(2);
    let mut ringway = setup.relay(Relay::Splice).start();
    let Some(interference) = Interference::with_call(ringway.process.pid(), 1, "pipe2", "retval=0")
    else {
        return;
    };
    // Some of them are led to that worker.
    let pairs: Vec<_> = (0..32).map(|_| backend.pair(&ringway)).collect();
    for (client, _) in &pairs {
        let _ = (&*client).write_all(&[b'?'; 100_000]);
    }
    let ended = ringway.process.end();
    drop(interference);
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    let said = ended.log.lines().last().unwrap();
    let begin = "ringway: a bug of this program: thread `ringway-wrk-1` panicked at ";
    assert!(said.starts_with(begin), "{}", ended.log);
    for (client, accepted) in &pairs {
        drain(client);
        drain(accepted);
    }
}

#[test]
fn a_worker_that_stands_still_is_not_alive() {
    let backend = Backend::new();
    let ringway = Setup::to([backend.address()]).workers(2).start();
    let alive = || ringway.admin.get("/livez").unwrap().status;
    assert_eq!(alive(), 200);
    let Some(interference) =
        Interference::with_worker(ringway.process.pid(), 0, "delay_enter=600s")
    else {
        return;
    };
    until("it is found out", || alive() == 503);
    drop(interference);
    until("it goes on", || alive() == 200);
    let client = connect(ringway.address());
    let mut accepted = backend.accept();
    accepted.write_all(b"served").unwrap();
    assert_eq!(read_exactly::<6>(&client), *b"served");
}
