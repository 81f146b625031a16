//! What a ring is asked for, what it uses, and the ways in which it is refused.
//!
//! Not here: the asking, which is in `flags`. A refusal says its cause and its remedy in a line
//! each; the binary prints both and exits with 69.

use std::fmt;
use std::io;

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
    /// Buffers lent to the kernel at a time at most. Each is 16 bytes that count as locked memory
    /// (RLIMIT_MEMLOCK); the buffers themselves do not.
    pub buffers_lent_max: u16,
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
            buffers_lent_max: 1024,
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

/// Which form of receive is in use. The results mean the same; only the number of operations
/// differs.
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
        "io_uring is switched off: sysctl kernel.io_uring_disabled={level} io_uring_group={group}"
    )]
    DisabledBySysctl {
        /// 1: only for members of the group and CAP_SYS_ADMIN; 2: for all.
        level: u8,
        /// The group; -1 is none.
        group: i64,
    },
    /// Something other than the sysctl says no.
    #[error("{step} was denied ({errno}): a seccomp filter or security module refuses it")]
    Denied {
        /// What was tried.
        step: &'static str,
        /// EPERM or EACCES.
        errno: Errno,
    },
    /// No such system call.
    #[error("io_uring does not exist (ENOSYS): not in this kernel, or hidden by a seccomp filter")]
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
                "set sysctl kernel.io_uring_disabled=0, or run in the group kernel.io_uring_group"
            }
            SetupError::DisabledBySysctl { .. } => "set sysctl kernel.io_uring_disabled=0",
            SetupError::Denied { .. } => {
                "allow io_uring_setup, io_uring_enter, io_uring_register in the seccomp profile"
            }
            SetupError::Absent => {
                "use a kernel with CONFIG_IO_URING=y, or allow io_uring in the seccomp profile"
            }
            SetupError::NoMemory { .. } => {
                "raise RLIMIT_MEMLOCK (LimitMEMLOCK= of systemd, --ulimit memlock= of docker) or the \
                 memory limit of the cgroup, or run fewer workers (`workers: N`)"
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
            libc::EPERM | libc::EACCES => SetupError::Denied { step, errno },
            _ => SetupError::Other { step, errno },
        }
    }

    pub(crate) fn at(step: &'static str, error: &io::Error) -> SetupError {
        SetupError::from_errno(step, Errno::from_io(error))
    }
}

pub(crate) fn check(params: &RingParams) -> Result<(), SetupError> {
    let checks = [
        (params.sq_entries == 0, "sq_entries is 0"),
        (
            params.cq_entries < params.sq_entries,
            "cq_entries is below sq_entries",
        ),
        (params.buffer_size == 0, "buffer_size is 0"),
        (params.buffers_lent_max == 0, "buffers_lent_max is 0"),
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

#[cfg(test)]
mod tests {
    use super::*;

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
                buffers_lent_max: 0,
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
            flags: vec!["CQSIZE", "DEFER_TASKRUN"],
            registered_ring_fd: true,
            min_wait: false,
            no_iowait: true,
            receives_by: ReceivesBy::Budget,
        };
        assert_eq!(
            report.to_string(),
            "sq 8 cq 16 flags CQSIZE|DEFER_TASKRUN registered_ring_fd no_iowait \
             receive multishot with budget"
        );
    }
}
