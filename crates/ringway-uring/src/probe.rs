//! What this kernel allows, one finding per feature: the io_uring part of `ringway doctor`.
//!
//! It tries things instead of comparing versions: distributions back-port, and containers forbid.
//! Every finding stands alone, so that a single run shows everything that is wrong. Nothing here
//! is on the data path.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode};

use crate::completion::{Completion, CompletionKind, Interest};
use crate::errno::Errno;
use crate::flags::{Flags, refusal};
use crate::pipes::Pipe;
use crate::ring::{Ring, Wait};
use crate::selftest;
use crate::setup::{ReceiveStyle, ReceivesBy, RingParams, SetupError};
use crate::token::Token;

const TOKEN: Token = Token {
    tag: 0,
    generation: 0,
    slot: 0,
};
/// A completion that takes longer than this on loopback does not come.
const PATIENCE: Duration = Duration::from_secs(1);
const NEWER_KERNEL: &str = "use Linux 6.1 or newer";

/// One thing Ringway uses, and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub name: &'static str,
    /// How it went.
    pub outcome: Outcome,
}

/// Whether a thing works. Reasons and remedies are one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As wanted.
    Works,
    /// Ringway runs, at a price.
    Degraded {
        /// What is missing and what it costs.
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// Ringway cannot run.
    Missing {
        /// What is missing.
        why: String,
        /// What to do about it.
        remedy: String,
    },
}

impl Outcome {
    fn missing(why: impl ToString, remedy: &str) -> Outcome {
        Outcome::Missing {
            why: why.to_string(),
            remedy: remedy.to_owned(),
        }
    }

    fn degraded(why: impl ToString, remedy: &str) -> Outcome {
        Outcome::Degraded {
            why: why.to_string(),
            remedy: remedy.to_owned(),
        }
    }
}

impl From<SetupError> for Outcome {
    fn from(error: SetupError) -> Outcome {
        Outcome::missing(&error, error.remedy())
    }
}

/// Tries everything the ring uses. If there is no io_uring at all, that is the only finding.
pub fn probe() -> Vec<Finding> {
    let plain = match Flags::NONE.try_ring(8, 16) {
        Ok(ring) => ring,
        Err(errno) => {
            let outcome = refusal(errno).into();
            return vec![Finding {
                name: "io_uring",
                outcome,
            }];
        }
    };
    let mut findings = vec![Finding {
        name: "io_uring",
        outcome: Outcome::Works,
    }];
    findings.extend(flags());
    findings.extend(features(&plain));
    findings.extend(opcodes(&plain));
    findings.extend(trials());
    findings
}

fn flags() -> Vec<Finding> {
    let none = Flags::NONE;
    let deferred = Flags {
        single_issuer: true,
        defer_taskrun: true,
        ..none
    };
    let required = [
        ("IORING_SETUP_CQSIZE", none),
        ("IORING_SETUP_CLAMP", none),
        (
            "IORING_SETUP_SUBMIT_ALL",
            Flags {
                submit_all: true,
                ..none
            },
        ),
        (
            "IORING_SETUP_SINGLE_ISSUER",
            Flags {
                single_issuer: true,
                ..none
            },
        ),
        ("IORING_SETUP_DEFER_TASKRUN", deferred),
        (
            "IORING_SETUP_TASKRUN_FLAG",
            Flags {
                taskrun_flag: true,
                ..deferred
            },
        ),
    ];
    let optional = [
        (
            "IORING_SETUP_COOP_TASKRUN",
            Flags {
                coop_taskrun: true,
                ..none
            },
        ),
        (
            "IORING_SETUP_NO_SQARRAY",
            Flags {
                no_sqarray: true,
                ..none
            },
        ),
    ];
    let required = required.map(|(name, flags)| match flags.try_ring(8, 16) {
        Ok(_) => Finding {
            name,
            outcome: Outcome::Works,
        },
        Err(errno) => Finding {
            name,
            outcome: Outcome::missing(errno, NEWER_KERNEL),
        },
    });
    let optional = optional.map(|(name, flags)| match flags.try_ring(8, 16) {
        Ok(_) => Finding {
            name,
            outcome: Outcome::Works,
        },
        Err(errno) => {
            let why = format!("{errno}; a little more work per turn");
            Finding {
                name,
                outcome: Outcome::degraded(why, "use Linux 6.6 or newer"),
            }
        }
    });
    required.into_iter().chain(optional).collect()
}

fn features(ring: &IoUring) -> Vec<Finding> {
    let params = ring.params();
    let required = [
        ("IORING_FEAT_NODROP", params.is_feature_nodrop()),
        (
            "IORING_FEAT_SUBMIT_STABLE",
            params.is_feature_submit_stable(),
        ),
        ("IORING_FEAT_FAST_POLL", params.is_feature_fast_poll()),
        ("IORING_FEAT_EXT_ARG", params.is_feature_ext_arg()),
        (
            "IORING_FEAT_CQE_SKIP",
            params.is_feature_skip_cqe_on_success(),
        ),
    ];
    let optional = [
        (
            "IORING_FEAT_MIN_TIMEOUT",
            params.is_feature_min_timeout(),
            "completions cannot be collected under load",
            "use Linux 6.12 or newer",
        ),
        (
            "IORING_FEAT_NO_IOWAIT",
            params.is_feature_no_iowait(),
            "idle workers show as iowait in top and in the load average",
            "use Linux 6.15 or newer",
        ),
    ];
    let required = required.map(|(name, present)| match present {
        true => Finding {
            name,
            outcome: Outcome::Works,
        },
        false => Finding {
            name,
            outcome: Outcome::missing("not offered", NEWER_KERNEL),
        },
    });
    let optional = optional.map(|(name, present, why, remedy)| match present {
        true => Finding {
            name,
            outcome: Outcome::Works,
        },
        false => Finding {
            name,
            outcome: Outcome::degraded(why, remedy),
        },
    });
    required.into_iter().chain(optional).collect()
}

fn opcodes(ring: &IoUring) -> Vec<Finding> {
    let mut probe = Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        let outcome = Outcome::missing(Errno::from_io(&error), NEWER_KERNEL);
        return vec![Finding {
            name: "IORING_REGISTER_PROBE",
            outcome,
        }];
    }
    let used = [
        ("IORING_OP_ACCEPT", opcode::AcceptMulti::CODE),
        ("IORING_OP_RECV", opcode::Recv::CODE),
        ("IORING_OP_SEND", opcode::Send::CODE),
        ("IORING_OP_CONNECT", opcode::Connect::CODE),
        ("IORING_OP_POLL_ADD", opcode::PollAdd::CODE),
        ("IORING_OP_CLOSE", opcode::Close::CODE),
        ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
    ];
    let splice = match probe.is_supported(opcode::Splice::CODE) {
        true => Outcome::Works,
        false => Outcome::degraded("relay: uring_splice cannot be used", NEWER_KERNEL),
    };
    let used = used.map(|(name, code)| match probe.is_supported(code) {
        true => Finding {
            name,
            outcome: Outcome::Works,
        },
        false => Finding {
            name,
            outcome: Outcome::missing("not supported", NEWER_KERNEL),
        },
    });
    let splice = Finding {
        name: "IORING_OP_SPLICE",
        outcome: splice,
    };
    used.into_iter().chain([splice]).collect()
}

/// An attempt; why it failed.
type Trial = fn() -> Result<(), String>;

/// What a bit in a table cannot promise, done once on loopback.
fn trials() -> Vec<Finding> {
    let required: [(&str, Trial); 4] = [
        ("buffer ring", try_buffer_ring),
        ("multishot accept", try_accept),
        ("one-shot poll", try_poll),
        ("multishot poll", try_poll_multishot),
    ];
    let required = required.map(|(name, trial)| match trial() {
        Ok(()) => Finding {
            name,
            outcome: Outcome::Works,
        },
        Err(why) => Finding {
            name,
            outcome: Outcome::missing(why, NEWER_KERNEL),
        },
    });
    let budget = match selftest::receives_by() {
        Ok(ReceivesBy::Budget) => Outcome::Works,
        Ok(ReceivesBy::OneShot) => Outcome::degraded(
            "a multishot receive cannot be limited here; one more operation per receive",
            "use Linux 6.17 or newer",
        ),
        Err(error) => error.into(),
    };
    let registered = match ring() {
        Ok(ring) if ring.report().registered_ring_fd => Outcome::Works,
        Ok(_) => Outcome::degraded("a descriptor is looked up in each enter", NEWER_KERNEL),
        Err(why) => Outcome::missing(why, NEWER_KERNEL),
    };
    let splice = match try_splice() {
        Ok(()) => Outcome::Works,
        Err(why) => Outcome::degraded(
            format!("{why}; relay: uring_splice cannot be used"),
            "use the default relay: auto",
        ),
    };
    let optional = [
        Finding {
            name: "receive budget",
            outcome: budget,
        },
        Finding {
            name: "registered ring descriptor",
            outcome: registered,
        },
        Finding {
            name: "polled splice",
            outcome: splice,
        },
    ];
    required.into_iter().chain(optional).collect()
}

fn ring() -> Result<Ring, String> {
    let params = RingParams {
        sq_entries: 8,
        cq_entries: 32,
        buffer_size: 64,
        buffers_initial: 4,
        buffers_lent_max: 8,
        buffers_max: 8,
        receive_style: ReceiveStyle::OneShot,
    };
    Ring::new(&params).map_err(|error| error.to_string())
}

/// A connection on loopback: ours non-blocking, and the peer.
fn pair() -> Result<(OwnedFd, TcpStream), String> {
    let connect = || -> std::io::Result<_> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let theirs = TcpStream::connect(listener.local_addr()?)?;
        let (ours, _) = listener.accept()?;
        ours.set_nonblocking(true)?;
        Ok((ours.into(), theirs))
    };
    connect().map_err(|error| format!("no connection on 127.0.0.1: {error}"))
}

/// The next completion.
fn next(ring: &mut Ring) -> Result<Completion, String> {
    let wait = Wait {
        timeout: Some(PATIENCE),
        min_wait: None,
    };
    ring.submit_and_wait(wait)
        .map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    ring.reap(&mut out, 1);
    out.pop().ok_or_else(|| "no completion came".to_owned())
}

fn unexpected<T>(completion: &Completion) -> Result<T, String> {
    Err(format!("unexpected {completion:?}"))
}

fn write(theirs: &mut TcpStream) -> Result<(), String> {
    theirs.write_all(b"x").map_err(|error| error.to_string())
}

fn try_buffer_ring() -> Result<(), String> {
    let (mut ring, (ours, mut theirs)) = (ring()?, pair()?);
    write(&mut theirs)?;
    ring.receive(ours.as_fd(), TOKEN, 1);
    let completion = next(&mut ring)?;
    match completion.kind {
        CompletionKind::Received {
            result: Ok(1),
            buffer: Some(buffer),
            ..
        } if ring.bytes(buffer, 0, 1) == b"x" => {
            ring.recycle(buffer);
            Ok(())
        }
        _ => unexpected(&completion),
    }
}

fn try_accept() -> Result<(), String> {
    let mut ring = ring()?;
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    ring.accept_multishot(listener.as_fd(), TOKEN);
    for _ in 0..2 {
        let _client = TcpStream::connect(address).map_err(|error| error.to_string())?;
        let completion = next(&mut ring)?;
        if !matches!(completion.kind, CompletionKind::Accepted(Ok(_))) || !completion.more {
            return unexpected(&completion);
        }
    }
    Ok(())
}

fn try_poll() -> Result<(), String> {
    let (mut ring, (ours, mut theirs)) = (ring()?, pair()?);
    write(&mut theirs)?;
    // Twice, without reading: it reports a level.
    for _ in 0..2 {
        ring.poll(ours.as_fd(), TOKEN, Interest::Readable);
        let completion = next(&mut ring)?;
        match completion.kind {
            CompletionKind::Polled(Ok(readiness)) if readiness.is_readable() => {}
            _ => return unexpected(&completion),
        }
    }
    Ok(())
}

fn try_poll_multishot() -> Result<(), String> {
    let (mut ring, (ours, mut theirs)) = (ring()?, pair()?);
    ring.poll_multishot(ours.as_fd(), TOKEN, Interest::Readable);
    for _ in 0..2 {
        write(&mut theirs)?;
        let completion = next(&mut ring)?;
        match completion.kind {
            CompletionKind::Polled(Ok(readiness)) if readiness.is_readable() && completion.more => {
            }
            _ => return unexpected(&completion),
        }
    }
    Ok(())
}

fn try_splice() -> Result<(), String> {
    let (mut ring, (ours, mut theirs)) = (ring()?, pair()?);
    let pipe = Pipe::new(4096).map_err(|errno| errno.to_string())?;
    let (from, to) = (ours.as_fd(), pipe.write_end());
    ring.poll_then_splice(from, Interest::Readable, from, to, 10, TOKEN);
    write(&mut theirs)?;
    let completion = next(&mut ring)?;
    match completion.kind {
        CompletionKind::Spliced(Ok(1)) => Ok(()),
        _ => unexpected(&completion),
    }
}
