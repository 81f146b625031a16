//! Tries whether a budgeted multishot receive works: it ends at its limit, its bytes are in order.
//!
//! It is not a feature check: older kernels answer EINVAL, and a kernel that accepts the field but
//! clamps wrongly would break back-pressure silently, so the behaviour itself is tested, over
//! loopback TCP where possible. Once per process.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

use crate::completion::CompletionKind;
use crate::ring::{Ring, Wait};
use crate::setup::{ReceiveStyle, ReceivesBy, RingParams, SetupError};
use crate::token::Token;

const TOKEN: Token = Token {
    tag: 0,
    generation: 0,
    slot: 0,
};
/// A completion that takes longer than this on loopback does not come.
const PATIENCE: Duration = Duration::from_secs(1);
const BUFFER_SIZE: u32 = 64;
/// Bytes after which an operation must end: not a multiple of the buffer's size.
const LIMIT: u32 = 100;

/// The form of receive this kernel can be trusted with.
pub(crate) fn receives_by() -> Result<ReceivesBy, SetupError> {
    static RESULT: OnceLock<ReceivesBy> = OnceLock::new();
    if let Some(known) = RESULT.get() {
        return Ok(*known);
    }
    let works = match tcp_pair() {
        Some((ours, theirs)) => budget_works(ours.as_fd(), &ours, &theirs)?,
        None => match UnixStream::pair() {
            Ok((ours, theirs)) => budget_works(ours.as_fd(), &ours, &theirs)?,
            Err(_) => false,
        },
    };
    let style = if works {
        ReceivesBy::Budget
    } else {
        ReceivesBy::OneShot
    };
    Ok(*RESULT.get_or_init(|| style))
}

fn tcp_pair() -> Option<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let ours = TcpStream::connect(listener.local_addr().ok()?).ok()?;
    let (theirs, _) = listener.accept().ok()?;
    Some((ours, theirs))
}

/// Two operations on one stream: bytes already there, then bytes that come later in two parts. The
/// first must not touch what is beyond its limit, and what lies beyond both must stay in the
/// socket.
fn budget_works(
    fd: BorrowedFd<'_>,
    mut ours: impl Read,
    mut theirs: impl Write,
) -> Result<bool, SetupError> {
    let params = RingParams {
        sq_entries: 8,
        cq_entries: 64,
        buffer_size: BUFFER_SIZE,
        buffers_initial: 16,
        buffers_lent_max: 32,
        buffers_max: 32,
        receive_style: ReceiveStyle::Auto,
    };
    let mut ring = Ring::with_receive(&params, ReceivesBy::Budget)?;
    let stream: Vec<u8> = (0..=255).collect();
    let mut seen = Vec::new();
    let mut parts = [&stream[150..190], &stream[190..]].into_iter();
    let mut ran = || -> Option<()> {
        theirs.write_all(&stream[..150]).ok()?;
        take(&mut ring, fd, &mut seen, &mut || Some(()))?;
        take(&mut ring, fd, &mut seen, &mut || match parts.next() {
            Some(part) => theirs.write_all(part).ok(),
            None => Some(()),
        })
    };
    let ended = ran().is_some() && stream.starts_with(&seen);
    let mut rest = vec![0; stream.len() - seen.len().min(stream.len())];
    Ok(ended && ours.read_exact(&mut rest).is_ok() && stream.ends_with(&rest))
}

/// One multishot receive to its end; `Some` if it ended with the completion that reached the limit.
/// `feed` is called before each wait.
fn take(
    ring: &mut Ring,
    fd: BorrowedFd<'_>,
    seen: &mut Vec<u8>,
    feed: &mut dyn FnMut() -> Option<()>,
) -> Option<()> {
    ring.receive(fd, TOKEN, LIMIT + BUFFER_SIZE - 1);
    let mut total = 0;
    let mut completions = Vec::new();
    loop {
        // Arms the receive before the bytes come.
        ring.submit_and_wait(Wait {
            timeout: Some(Duration::ZERO),
            min_wait: None,
        })
        .ok()?;
        feed()?;
        ring.submit_and_wait(Wait {
            timeout: Some(PATIENCE),
            min_wait: None,
        })
        .ok()?;
        ring.reap(&mut completions, 64);
        if completions.is_empty() {
            return None;
        }
        for completion in completions.drain(..) {
            let CompletionKind::Received {
                result: Ok(count),
                buffer: Some(buffer),
                ..
            } = completion.kind
            else {
                return None;
            };
            seen.extend_from_slice(ring.bytes(buffer, 0, count));
            ring.recycle(buffer);
            total += count;
            match (completion.more, total < LIMIT) {
                (true, true) => {}
                (false, false) => return Some(()),
                (true, false) | (false, true) => return None,
            }
        }
    }
}
