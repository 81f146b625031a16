//! Building a ring: what to ask for, what the kernel gave, and why it refused.
//!
//! Nothing is guessed from a version number: optional flags are tried and dropped, required ones are named when they
//! are missing, receives are tried on a real connection. A refusal says its cause and its remedy in a line each.

use std::fmt;
use std::io;

use io_uring::{IoUring, Parameters};

use crate::buffers::BUFFERS_MOST;
use crate::errno::Errno;

/// How large a ring is. All fields are limits of this ring alone; each worker has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingParams {
    /// Operations that can be staged between two submits; the kernel rounds up to a power of two.
    pub sq_entries: u32,
    /// Completions the kernel can post before it starts to queue them aside; at least `sq_entries`.
    pub cq_entries: u32,
    /// Bytes of each buffer.
    pub buffer_size: u32,
    /// Buffers lent to the kernel at first; doubles when it runs dry.
    pub buffers_initial: u16,
    /// All buffers: 1..=32768. An eighth of them is never lent, so that the caller can take one.
    pub buffers_max: u16,
    /// How to receive; `Auto` but for tests.
    pub receive_style: ReceiveStyle,
}

impl Default for RingParams {
    fn default() -> RingParams {
        RingParams {
            sq_entries: 1024,
            cq_entries: 8192,
            buffer_size: 16 * 1024,
            buffers_initial: 64,
            buffers_max: 4096,
            receive_style: ReceiveStyle::Auto,
        }
    }
}

/// Which form of receive to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReceiveStyle {
    /// The budgeted multishot if it works here, else one-shot.
    #[default]
    Auto,
    /// One-shot, on every kernel.
    OneShot,
}

/// Which form of receive is in use. The results mean the same; only the number of operations differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceivesBy {
    /// One operation delivers up to its budget in as many completions as it takes (a limit on
    /// multishot receives: recent kernels; tried, not looked up).
    Budget,
    /// One operation, one completion of at most one buffer.
    OneShot,
}

/// What this ring uses. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupReport {
    /// As the kernel rounded them.
    pub sq_entries: u32,
    /// As the kernel rounded them.
    pub cq_entries: u32,
    /// Set-up flags in use, without their prefix.
    pub flags: Vec<&'static str>,
    /// Whether enters use the registered ring descriptor.
    pub registered_ring_fd: bool,
    /// Whether [`Wait::min_wait`](crate::Wait) has an effect (Linux 6.12).
    pub min_wait: bool,
    /// Whether idle waits stay out of the iowait account (Linux 6.15).
    pub no_iowait: bool,
    /// The form of receive.
    pub receives_by: ReceivesBy,
}

impl fmt::Display for SetupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sq {} cq {} flags {}",
            self.sq_entries,
            self.cq_entries,
            self.flags.join("|")
        )?;
        let features = [
            (self.registered_ring_fd, "registered_ring_fd"),
            (self.min_wait, "min_wait"),
            (self.no_iowait, "no_iowait"),
        ];
        for (_, name) in features.iter().filter(|(in_use, _)| *in_use) {
            write!(f, " {name}")?;
        }
        match self.receives_by {
            ReceivesBy::Budget => write!(f, " receive multishot with budget"),
            ReceivesBy::OneShot => write!(f, " receive one-shot"),
        }
    }
}

/// Why there is no ring.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SetupError {
    /// The sysctl says no to this user.
    #[error(
        "io_uring is switched off: the sysctl kernel.io_uring_disabled is {level} (io_uring_group {group})"
    )]
    DisabledBySysctl {
        /// 1: only for members of the group and CAP_SYS_ADMIN; 2: for all.
        level: u8,
        /// The group; -1 is none.
        group: i64,
    },
    /// Something other than the sysctl says no.
    #[error("io_uring_setup was denied ({errno}): a seccomp filter or security module refuses it")]
    Denied {
        /// EPERM or EACCES.
        errno: Errno,
    },
    /// No such system call.
    #[error(
        "io_uring_setup does not exist (ENOSYS): built without CONFIG_IO_URING, or hidden by a seccomp filter"
    )]
    Absent,
    /// Memory, or the right to lock it, is missing.
    #[error("no memory for {what} (ENOMEM)")]
    NoMemory {
        /// What was to be allocated.
        what: &'static str,
    },
    /// The kernel lacks something Ringway cannot do without.
    #[error("the kernel is too old: {missing} is missing (Linux {since})")]
    TooOld {
        /// Name of the flag or feature.
        missing: &'static str,
        /// First version that has it.
        since: &'static str,
    },
    /// The request itself makes no sense.
    #[error("ring parameters: {0}")]
    Params(&'static str),
    /// Anything else.
    #[error("{step} failed: {errno}")]
    Other {
        /// What was tried.
        step: &'static str,
        /// How it failed.
        errno: Errno,
    },
}

impl SetupError {
    /// What to do about it, in one line.
    pub const fn remedy(&self) -> &'static str {
        match self {
            SetupError::DisabledBySysctl { level: 1, .. } => {
                "add the user to the group of sysctl kernel.io_uring_group, or set kernel.io_uring_disabled=0"
            }
            SetupError::DisabledBySysctl { .. } => "set sysctl kernel.io_uring_disabled=0",
            SetupError::Denied { .. } => {
                "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile"
            }
            SetupError::Absent => {
                "use a kernel with CONFIG_IO_URING=y, or allow the io_uring system calls in the seccomp profile"
            }
            SetupError::NoMemory { .. } => {
                "raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity) or the memory limit of the cgroup"
            }
            SetupError::TooOld { .. } => "use Linux 6.1 or newer",
            SetupError::Params(_) => "correct the sizes",
            SetupError::Other { errno, .. } if errno.is_descriptor_limit() => {
                "raise RLIMIT_NOFILE (LimitNOFILE=)"
            }
            SetupError::Other { .. } => "run `ringway doctor` to see what this kernel allows",
        }
    }

    fn from_errno(step: &'static str, errno: Errno) -> SetupError {
        match errno.0 {
            libc::ENOMEM => SetupError::NoMemory { what: step },
            _ => SetupError::Other { step, errno },
        }
    }

    pub(crate) fn at(step: &'static str, error: &io::Error) -> SetupError {
        SetupError::from_errno(step, Errno::from_io(error))
    }
}

/// The set-up flags, in the order of their bits.
const FLAG_NAMES: [(u32, &str); 7] = [
    (1 << 3, "CQSIZE"),
    (1 << 4, "CLAMP"),
    (1 << 7, "SUBMIT_ALL"),
    (1 << 8, "COOP_TASKRUN"),
    (1 << 12, "SINGLE_ISSUER"),
    (1 << 13, "DEFER_TASKRUN"),
    (1 << 16, "NO_SQARRAY"),
];

/// Flags a ring may ask for beyond CQSIZE and CLAMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) submit_all: bool,
    pub(crate) coop_taskrun: bool,
    pub(crate) single_issuer: bool,
    pub(crate) defer_taskrun: bool,
    pub(crate) no_sqarray: bool,
}

impl Flags {
    /// Everything wanted; COOP_TASKRUN and NO_SQARRAY can be done without.
    pub(crate) const FULL: Flags = Flags {
        submit_all: true,
        coop_taskrun: true,
        single_issuer: true,
        defer_taskrun: true,
        no_sqarray: true,
    };
    pub(crate) const NONE: Flags = Flags {
        submit_all: false,
        coop_taskrun: false,
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

fn check(params: &RingParams) -> Result<(), SetupError> {
    let checks = [
        (params.sq_entries == 0, "sq_entries is 0"),
        (
            params.cq_entries < params.sq_entries,
            "cq_entries is below sq_entries",
        ),
        (params.buffer_size == 0, "buffer_size is 0"),
        (params.buffers_max == 0, "buffers_max is 0"),
        (
            params.buffers_max > BUFFERS_MOST,
            "buffers_max is above 32768",
        ),
        (
            params.buffers_initial > params.buffers_max,
            "buffers_initial is above buffers_max",
        ),
    ];
    match checks.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, why)) => Err(SetupError::Params(why)),
        None => Ok(()),
    }
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

/// (`kernel.io_uring_disabled`, `kernel.io_uring_group`); `None` where the kernel has no such switch (before 6.6).
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
        (libc::EPERM | libc::EACCES, _) => SetupError::Denied { errno },
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
                    errno: Errno(libc::EPERM),
                },
            ),
            (
                libc::EPERM,
                None,
                SetupError::Denied {
                    errno: Errno(libc::EPERM),
                },
            ),
            (
                libc::EACCES,
                Some((0, -1)),
                SetupError::Denied {
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

    #[test]
    fn senseless_sizes_are_refused_before_the_kernel_is_asked() {
        let good = RingParams::default();
        let cases = [
            RingParams {
                sq_entries: 0,
                ..good.clone()
            },
            RingParams {
                cq_entries: 1,
                ..good.clone()
            },
            RingParams {
                buffer_size: 0,
                ..good.clone()
            },
            RingParams {
                buffers_max: 0,
                buffers_initial: 0,
                ..good.clone()
            },
            RingParams {
                buffers_max: 40_000,
                ..good.clone()
            },
            RingParams {
                buffers_max: 8,
                buffers_initial: 9,
                ..good.clone()
            },
        ];
        for params in cases {
            assert!(
                matches!(check(&params), Err(SetupError::Params(_))),
                "{params:?}"
            );
        }
        assert_eq!(check(&good), Ok(()));
    }

    #[test]
    fn the_report_is_one_line() {
        let report = SetupReport {
            sq_entries: 8,
            cq_entries: 16,
            flags: Flags {
                coop_taskrun: false,
                ..Flags::FULL
            }
            .names(),
            registered_ring_fd: true,
            min_wait: false,
            no_iowait: true,
            receives_by: ReceivesBy::Budget,
        };
        assert_eq!(
            report.to_string(),
            "sq 8 cq 16 flags CQSIZE|CLAMP|SUBMIT_ALL|SINGLE_ISSUER|DEFER_TASKRUN|NO_SQARRAY \
             registered_ring_fd no_iowait receive multishot with budget"
        );
    }
}
