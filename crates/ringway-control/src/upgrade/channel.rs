//! Messages and descriptors between two processes, over a Unix socket that keeps the borders of
//! messages. Blocking, with a limit to every wait: it is used where nothing else waits for it.
//!
//! Invariant: a message arrives whole with all of its descriptors or is an error; descriptors that
//! were received are closed on exec.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Descriptors in one message at most; the kernel takes 253 (SCM_MAX_FD).
pub(crate) const FDS_MAX: usize = 128;
/// Bytes of one message at most: under what a socket buffer holds by default.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
const RIGHTS_BYTES: usize = rustix::cmsg_space!(ScmRights(253));

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The other end is closed.
    #[error("the other process is gone")]
    Gone,
    /// The other end was closed with something unread.
    #[error("the other process is gone")]
    Reset,
    /// Nothing came in time.
    #[error("the other process says nothing")]
    Silent,
    /// What came is not of this protocol.
    #[error("the other process says something else: {0}")]
    Unknown(String),
    /// The kernel refused.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Channel {
    /// The two ends of a new one.
    pub(crate) fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Channel(ours), theirs))
    }

    /// An end that was inherited.
    pub(crate) fn of(fd: OwnedFd) -> io::Result<Channel> {
        match sockopt::socket_type(&fd)? {
            SocketType::SEQPACKET => Ok(Channel(fd)),
            _ => Err(Errno::PROTOTYPE.into()),
        }
    }

    /// Sends a message with descriptors.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        fds: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        sockopt::set_socket_timeout(&self.0, Timeout::Send, Some(patience))?;
        let mut space = [MaybeUninit::uninit(); RIGHTS_BYTES];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::TOOMANYREFS.into());
        }
        let parts = [IoSlice::new(&bytes)];
        rustix::net::sendmsg(&self.0, &parts, &mut rights, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The bytes of the next message, and its descriptors.
    pub(crate) fn receive_raw(
        &self,
        patience: Duration,
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), ReceiveError> {
        match self.receive_once(patience) {
            // Said when the other end was closed before it had read everything; what it said before is
            // still there.
            Err(ReceiveError::Reset) => match self.receive_once(patience) {
                Err(ReceiveError::Reset) => Err(ReceiveError::Gone),
                other => other,
            },
            other => other,
        }
    }

    fn receive_once(&self, patience: Duration) -> Result<(Vec<u8>, Vec<OwnedFd>), ReceiveError> {
        let patience = patience.max(Duration::from_millis(1));
        let timeout = sockopt::set_socket_timeout(&self.0, Timeout::Recv, Some(patience));
        timeout.map_err(io::Error::from)?;
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); RIGHTS_BYTES];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut bytes)];
        let received =
            match rustix::net::recvmsg(&self.0, parts, &mut rights, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => received,
                Err(Errno::AGAIN | Errno::INTR) => return Err(ReceiveError::Silent),
                Err(Errno::CONNRESET) => return Err(ReceiveError::Reset),
                Err(errno) => return Err(io::Error::from(errno).into()),
            };
        let mut fds = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(ReceiveError::Gone);
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            // The kernel had no room for a descriptor in this process.
            return Err(io::Error::from(Errno::MFILE).into());
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ReceiveError::Unknown("a message that is too long".into()));
        }
        bytes.truncate(received.bytes);
        Ok((bytes, fds))
    }

    /// The next message, and its descriptors.
    pub(crate) fn receive<T: DeserializeOwned>(
        &self,
        patience: Duration,
    ) -> Result<(T, Vec<OwnedFd>), ReceiveError> {
        let (bytes, fds) = self.receive_raw(patience)?;
        let message = serde_json::from_slice(&bytes);
        let message = message.map_err(|error| ReceiveError::Unknown(error.to_string()))?;
        Ok((message, fds))
    }

    /// Whether the other end is closed, or has said something.
    pub(crate) fn has_news(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec::default();
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn messages_keep_their_borders_and_their_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let other = Channel::of(other).unwrap();
        let files: Vec<_> = (0..FDS_MAX)
            .map(|_| tempfile::tempfile().unwrap())
            .collect();
        let fds: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        one.send(&"first", &fds, SOON).unwrap();
        one.send(&"second", &[], SOON).unwrap();
        let (text, received): (String, _) = other.receive(SOON).unwrap();
        assert_eq!((text.as_str(), received.len()), ("first", FDS_MAX));
        let flags = rustix::io::fcntl_getfd(&received[0]).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let (text, received): (String, _) = other.receive(SOON).unwrap();
        assert_eq!((text.as_str(), received.len()), ("second", 0));
    }

    #[test]
    fn an_end_and_a_silence_are_told_apart() {
        let (one, other) = Channel::pair().unwrap();
        let silent = one.receive_raw(Duration::from_millis(1)).unwrap_err();
        assert!(matches!(silent, ReceiveError::Silent), "{silent}");
        assert!(!one.has_news());
        drop(other);
        assert!(one.has_news());
        let gone = one.receive_raw(SOON).unwrap_err();
        assert!(matches!(gone, ReceiveError::Gone), "{gone}");
    }

    #[test]
    fn the_last_words_of_one_who_did_not_listen_are_heard() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&"nobody reads this", &[], SOON).unwrap();
        Channel::of(other).unwrap().send(&"no", &[], SOON).unwrap();
        let (text, _): (String, _) = one.receive(SOON).unwrap();
        assert_eq!(text, "no");
        assert!(matches!(one.receive_raw(SOON), Err(ReceiveError::Gone)));
    }

    #[test]
    fn what_is_no_message_is_said_to_be_none() {
        let (one, other) = Channel::pair().unwrap();
        rustix::net::send(&other, b"hello", SendFlags::empty()).unwrap();
        let unknown = one.receive::<u32>(SOON).unwrap_err();
        assert!(matches!(unknown, ReceiveError::Unknown(_)), "{unknown}");
        let (file, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Channel::of(file.into()).is_err());
    }
}
