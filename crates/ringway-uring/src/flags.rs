//! Building a ring: which set-up flags to ask for, and what a refusal means.
//!
//! Nothing is guessed from a version number: optional flags are tried and dropped, required ones
//! are named when they are missing.

use io_uring::{IoUring, Parameters};

use crate::errno::Errno;
use crate::setup::{RingParams, SetupError, check};

/// The set-up flags, in the order of their bits.
const FLAG_NAMES: [(u32, &str); 8] = [
    (1 << 3, "CQSIZE"),
    (1 << 4, "CLAMP"),
    (1 << 7, "SUBMIT_ALL"),
    (1 << 8, "COOP_TASKRUN"),
    (1 << 9, "TASKRUN_FLAG"),
    (1 << 12, "SINGLE_ISSUER"),
    (1 << 13, "DEFER_TASKRUN"),
    (1 << 16, "NO_SQARRAY"),
];

/// Flags a ring may ask for beyond CQSIZE and CLAMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) submit_all: bool,
    pub(crate) coop_taskrun: bool,
    /// Tells in the queue's flags that work waits: older than DEFER_TASKRUN, which it needs.
    pub(crate) taskrun_flag: bool,
    pub(crate) single_issuer: bool,
    pub(crate) defer_taskrun: bool,
    pub(crate) no_sqarray: bool,
}

impl Flags {
    /// Everything wanted; COOP_TASKRUN and NO_SQARRAY can be done without.
    pub(crate) const FULL: Flags = Flags {
        submit_all: true,
        coop_taskrun: true,
        taskrun_flag: true,
        single_issuer: true,
        defer_taskrun: true,
        no_sqarray: true,
    };
    pub(crate) const NONE: Flags = Flags {
        submit_all: false,
        coop_taskrun: false,
        taskrun_flag: false,
        single_issuer: false,
        defer_taskrun: false,
        no_sqarray: false,
    };

    fn names(self) -> Vec<&'static str> {
        let bits = [
            true,
            true,
            self.submit_all,
            self.coop_taskrun,
            self.taskrun_flag,
            self.single_issuer,
            self.defer_taskrun,
            self.no_sqarray,
        ];
        FLAG_NAMES
            .iter()
            .zip(bits)
            .filter(|(_, set)| *set)
            .map(|((_, name), _)| *name)
            .collect()
    }

    /// One set-up system call with exactly these flags.
    pub(crate) fn try_ring(self, sq_entries: u32, cq_entries: u32) -> Result<IoUring, Errno> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(cq_entries).setup_clamp();
        if self.submit_all {
            builder.setup_submit_all();
        }
        if self.coop_taskrun {
            builder.setup_coop_taskrun();
        }
        if self.taskrun_flag {
            builder.setup_taskrun_flag();
        }
        if self.single_issuer {
            builder.setup_single_issuer();
        }
        if self.defer_taskrun {
            builder.setup_defer_taskrun();
        }
        if self.no_sqarray {
            builder.setup_no_sqarray();
        }
        builder
            .build(sq_entries)
            .map_err(|error| Errno::from_io(&error))
    }
}

/// Tries the full set, then without what is optional.
pub(crate) fn build(params: &RingParams) -> Result<(IoUring, Vec<&'static str>), SetupError> {
    check(params)?;
    let optional = [
        Flags::FULL,
        Flags {
            no_sqarray: false,
            ..Flags::FULL
        },
        Flags {
            no_sqarray: false,
            coop_taskrun: false,
            ..Flags::FULL
        },
    ];
    for flags in optional {
        match flags.try_ring(params.sq_entries, params.cq_entries) {
            Ok(ring) => {
                check_features(ring.params())?;
                return Ok((ring, flags.names()));
            }
            Err(Errno(libc::EINVAL)) => {}
            Err(errno) => return Err(refusal(errno)),
        }
    }
    Err(missing_flag())
}

fn check_features(params: &Parameters) -> Result<(), SetupError> {
    let features = [
        (params.is_feature_nodrop(), "IORING_FEAT_NODROP", "5.5"),
        (
            params.is_feature_submit_stable(),
            "IORING_FEAT_SUBMIT_STABLE",
            "5.5",
        ),
        (
            params.is_feature_fast_poll(),
            "IORING_FEAT_FAST_POLL",
            "5.7",
        ),
        (params.is_feature_ext_arg(), "IORING_FEAT_EXT_ARG", "5.11"),
        (
            params.is_feature_skip_cqe_on_success(),
            "IORING_FEAT_CQE_SKIP",
            "5.17",
        ),
    ];
    match features.into_iter().find(|(present, ..)| !present) {
        Some((_, missing, since)) => Err(SetupError::TooOld { missing, since }),
        None => Ok(()),
    }
}

/// Names the required flag this kernel answers EINVAL to.
fn missing_flag() -> SetupError {
    let steps = [
        (Flags::NONE, "IORING_SETUP_CLAMP", "5.6"),
        (
            Flags {
                submit_all: true,
                ..Flags::NONE
            },
            "IORING_SETUP_SUBMIT_ALL",
            "5.18",
        ),
        (
            Flags {
                single_issuer: true,
                ..Flags::NONE
            },
            "IORING_SETUP_SINGLE_ISSUER",
            "6.0",
        ),
    ];
    for (flags, missing, since) in steps {
        if flags.try_ring(8, 16).is_err() {
            return SetupError::TooOld { missing, since };
        }
    }
    SetupError::TooOld {
        missing: "IORING_SETUP_DEFER_TASKRUN",
        since: "6.1",
    }
}

/// (`kernel.io_uring_disabled`, `kernel.io_uring_group`); `None` where the kernel has no such
/// switch (before 6.6).
fn sysctl_disabled() -> Option<(u8, i64)> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let level = read("io_uring_disabled")?.trim().parse().ok()?;
    let group = read("io_uring_group")
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(-1);
    Some((level, group))
}

/// Turns the error of io_uring_setup(2) into its cause.
pub(crate) fn refusal(errno: Errno) -> SetupError {
    classify(errno, sysctl_disabled())
}

fn classify(errno: Errno, sysctl: Option<(u8, i64)>) -> SetupError {
    match (errno.0, sysctl) {
        (libc::EPERM, Some((level @ 1.., group))) => SetupError::DisabledBySysctl { level, group },
        (libc::EPERM | libc::EACCES, _) => SetupError::Denied {
            step: "io_uring_setup",
            errno,
        },
        (libc::ENOSYS, _) => SetupError::Absent,
        (libc::ENOMEM, _) => SetupError::NoMemory { what: "the ring" },
        _ => SetupError::Other {
            step: "io_uring_setup",
            errno,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_cause_and_remedy() {
        let cases = [
            (
                libc::EPERM,
                Some((2, -1)),
                SetupError::DisabledBySysctl {
                    level: 2,
                    group: -1,
                },
            ),
            (
                libc::EPERM,
                Some((1, 990)),
                SetupError::DisabledBySysctl {
                    level: 1,
                    group: 990,
                },
            ),
            (
                libc::EPERM,
                Some((0, -1)),
                SetupError::Denied {
                    step: "io_uring_setup",
                    errno: Errno(libc::EPERM),
                },
            ),
            (
                libc::EPERM,
                None,
                SetupError::Denied {
                    step: "io_uring_setup",
                    errno: Errno(libc::EPERM),
                },
            ),
            (
                libc::EACCES,
                Some((0, -1)),
                SetupError::Denied {
                    step: "io_uring_setup",
                    errno: Errno(libc::EACCES),
                },
            ),
            (libc::ENOSYS, None, SetupError::Absent),
            (
                libc::ENOMEM,
                None,
                SetupError::NoMemory { what: "the ring" },
            ),
            (
                libc::EMFILE,
                None,
                SetupError::Other {
                    step: "io_uring_setup",
                    errno: Errno(libc::EMFILE),
                },
            ),
        ];
        for (errno, sysctl, expected) in cases {
            let error = classify(Errno(errno), sysctl);
            assert_eq!(error, expected);
            assert!(!error.to_string().contains('\n') && !error.remedy().is_empty());
        }
        assert!(
            SetupError::DisabledBySysctl {
                level: 1,
                group: 990
            }
            .remedy()
            .contains("group")
        );
        let descriptors = SetupError::Other {
            step: "x",
            errno: Errno(libc::EMFILE),
        };
        assert!(descriptors.remedy().contains("NOFILE"));
    }
}
