//! A kernel error number with a name: what a completion or a direct system call failed with.
//!
//! It is not `std::io::Error`: it is `Copy`, never allocates, and its name is a stable label for
//! metrics.

use std::fmt;
use std::io;

/// An error number as in errno(3), positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! names {
    ($($name:ident)*) => {
        /// The symbolic name; `"E?"` for a number that networking calls are not known to return.
        pub const fn name(self) -> &'static str {
            match self.0 {
                $(libc::$name => stringify!($name),)*
                _ => "E?",
            }
        }
    };
}

impl Errno {
    /// No descriptor left in this process.
    pub const MFILE: Errno = Errno(libc::EMFILE);
    /// An address of another family than that of the socket.
    pub const AFNOSUPPORT: Errno = Errno(libc::EAFNOSUPPORT);
    /// Nobody listens there.
    pub const CONNREFUSED: Errno = Errno(libc::ECONNREFUSED);
    /// A socket without a peer, or without one any more.
    pub const NOTCONN: Errno = Errno(libc::ENOTCONN);
    /// The answer to a cancelled operation.
    pub const CANCELED: Errno = Errno(libc::ECANCELED);

    names! {
        EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES
        EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY
        ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK
        ENOSYS ENOTEMPTY ELOOP ENOPROTOOPT EPROTO EBADFD EBADR ETIME ENOLINK EBADMSG EOVERFLOW
        ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP
        EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET
        ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETIMEDOUT ECONNREFUSED
        EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED EREMOTEIO EILSEQ
        EUSERS EUCLEAN
    }

    /// The error of the system call that has just failed on this thread.
    pub(crate) fn last() -> Errno {
        Errno::from_io(&io::Error::last_os_error())
    }

    /// EIO stands in for an error that has no number: the standard library makes such ones for bad
    /// arguments only.
    pub fn from_io(error: &io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// EAGAIN: not ready, try again when a poll says so.
    pub const fn is_would_block(self) -> bool {
        self.0 == libc::EAGAIN
    }

    /// EINPROGRESS: not connected, for a reason that the socket can tell.
    pub const fn is_in_progress(self) -> bool {
        self.0 == libc::EINPROGRESS
    }

    /// ECANCELED: the answer to a cancelled operation.
    pub const fn is_cancelled(self) -> bool {
        self.0 == libc::ECANCELED
    }

    /// EINTR, or the kernel's own number for it (ERESTARTSYS): it reaches a completion where no
    /// system call is there to be started again.
    pub const fn is_interrupted(self) -> bool {
        matches!(self.0, libc::EINTR | 512)
    }

    /// ENOBUFS: on a receive, the kernel's buffer ring was empty.
    pub const fn is_no_buffers(self) -> bool {
        self.0 == libc::ENOBUFS
    }

    /// EMFILE or ENFILE: no descriptor left in the process or on the host.
    pub const fn is_descriptor_limit(self) -> bool {
        matches!(self.0, libc::EMFILE | libc::ENFILE)
    }

    /// EMFILE, ENFILE, ENOBUFS or ENOMEM: this host has no descriptor or memory for a socket.
    pub const fn is_shortage(self) -> bool {
        self.is_descriptor_limit() || matches!(self.0, libc::ENOBUFS | libc::ENOMEM)
    }

    /// EADDRNOTAVAIL: no local port is left towards the address, or the local address is gone.
    pub const fn is_no_ports(self) -> bool {
        self.0 == libc::EADDRNOTAVAIL
    }

    /// The peer closed by reset, or wrote into a connection that was gone: ECONNRESET or EPIPE.
    pub const fn is_reset(self) -> bool {
        matches!(self.0, libc::ECONNRESET | libc::EPIPE)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        match self.name() {
            "E?" => write!(f, "errno {}: {text}", self.0),
            name => write!(f, "{name}: {text}"),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({} {})", self.0, self.name())
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_text() {
        let cases = [
            (
                libc::ECONNREFUSED,
                "ECONNREFUSED",
                "ECONNREFUSED: Connection refused",
            ),
            (
                libc::EAGAIN,
                "EAGAIN",
                "EAGAIN: Resource temporarily unavailable",
            ),
            (
                libc::ECANCELED,
                "ECANCELED",
                "ECANCELED: Operation canceled",
            ),
            (4095, "E?", "errno 4095: Unknown error 4095"),
        ];
        for (number, name, text) in cases {
            assert_eq!(Errno(number).name(), name);
            assert_eq!(Errno(number).to_string(), text);
        }
    }

    #[test]
    fn io_errors_keep_their_number() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(Errno::from_io(&refused), Errno(libc::ECONNREFUSED));
        assert_eq!(
            Errno::from_io(&io::Error::other("no number")),
            Errno(libc::EIO)
        );
        assert_eq!(
            io::Error::from(Errno(libc::EPIPE)).kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
