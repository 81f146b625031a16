//! Set-up on this kernel: what is in use, what is refused and how that is said.

use std::os::fd::AsFd;

use crate::common::*;
use ringway_uring::{
    Errno, Finding, Interest, Outcome, ReceiveStyle, ReceivesBy, Ring, RingParams, SetupError,
    Waker, probe,
};

#[test]
fn the_required_flags_are_in_use() {
    let ring = ring();
    let report = ring.report();
    for flag in [
        "SINGLE_ISSUER",
        "DEFER_TASKRUN",
        "TASKRUN_FLAG",
        "SUBMIT_ALL",
        "CQSIZE",
        "CLAMP",
    ] {
        assert!(report.flags.contains(&flag), "{flag} is missing: {report}");
    }
    assert_eq!((report.sq_entries, report.cq_entries), (64, 256));
    assert!(!report.to_string().contains('\n'));
    eprintln!("{report}");
}

#[test]
fn one_shot_can_be_forced() {
    let forced = RingParams {
        receive_style: ReceiveStyle::OneShot,
        ..params()
    };
    assert_eq!(
        Ring::new(&forced).unwrap().report().receives_by,
        ReceivesBy::OneShot
    );
}

#[test]
fn an_enormous_queue_is_clamped() {
    let large = RingParams {
        sq_entries: 1 << 20,
        cq_entries: 1 << 24,
        ..params()
    };
    let ring = Ring::new(&large).unwrap();
    assert!(ring.report().sq_entries < 1 << 20 && ring.report().sq_entries >= 1024);
}

/// Makes a system call fail with `errno` on this thread for the rest of its life.
fn deny(call: libc::c_long, errno: i32) {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut filter = [
        statement(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        statement(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, call as u32),
        statement(
            BPF_RET | BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | errno as u32,
        ),
        statement(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: takes integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    // SAFETY: the kernel copies the program and its filter, both alive here, during the call.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(result, 0);
}

#[test]
fn a_denied_ring_says_why_and_what_to_do() {
    let attempt = |errno: i32| {
        // The filter binds to the thread and ends with it.
        let thread = std::thread::spawn(move || {
            deny(libc::SYS_io_uring_setup, errno);
            (Ring::new(&params()).unwrap_err(), probe())
        });
        thread.join().unwrap()
    };
    let (error, findings) = attempt(libc::EPERM);
    assert!(matches!(error, SetupError::Denied { .. }), "{error}");
    assert!(error.remedy().contains("seccomp"));
    assert!(
        matches!(
            &findings[..],
            [Finding {
                outcome: Outcome::Missing { .. },
                ..
            }]
        ),
        "{findings:?}"
    );
    let (error, _) = attempt(libc::ENOSYS);
    assert_eq!(error, SetupError::Absent);
    let (error, _) = attempt(libc::ENOMEM);
    assert!(matches!(error, SetupError::NoMemory { .. }), "{error}");
    // Every combination of flags is invalid: an ancient kernel.
    let (error, _) = attempt(libc::EINVAL);
    assert!(matches!(error, SetupError::TooOld { .. }), "{error}");
}

#[test]
fn the_probe_agrees_with_the_ring() {
    let findings = probe();
    let ring = ring();
    for flag in &ring.report().flags {
        let name = format!("IORING_SETUP_{flag}");
        let finding = findings.iter().find(|finding| finding.name == name);
        assert!(
            matches!(
                finding,
                Some(Finding {
                    outcome: Outcome::Works,
                    ..
                })
            ),
            "{name}: {finding:?}"
        );
    }
    let budget = findings
        .iter()
        .find(|finding| finding.name == "receive budget")
        .unwrap();
    let works = ring.report().receives_by == ReceivesBy::Budget;
    assert_eq!(
        matches!(budget.outcome, Outcome::Works),
        works,
        "{budget:?}"
    );
    assert!(
        !findings
            .iter()
            .any(|finding| matches!(finding.outcome, Outcome::Missing { .. })),
        "{findings:?}"
    );
}

#[test]
fn a_ring_that_cannot_enter_says_so_and_loses_no_descriptor() {
    // The filter binds to the thread and ends with it.
    let thread = std::thread::spawn(|| {
        let mut ring = ring();
        let waker = Waker::new().unwrap();
        let (ours, mut theirs) = pair();
        deny(libc::SYS_io_uring_enter, libc::EBADF);
        ring.poll(waker.as_fd(), token(0), Interest::Readable);
        let error = ring.submit_and_wait(NOW).unwrap_err();
        assert_eq!((error.errno, error.staged), (Errno(libc::EBADF), 1));
        // A full queue cannot be emptied: staging neither hangs nor panics.
        for slot in 0..1000 {
            ring.poll(waker.as_fd(), token(slot), Interest::Readable);
        }
        assert_eq!(
            ring.submit_and_wait(NOW).unwrap_err().errno,
            Errno(libc::EBADF)
        );
        assert_eq!(ring.in_flight(), ring.report().sq_entries);
        ring.close(ours);
        assert_eq!(
            std::io::Read::read(&mut theirs, &mut [0]).unwrap(),
            0,
            "closed all the same"
        );
    });
    thread.join().unwrap();
}
