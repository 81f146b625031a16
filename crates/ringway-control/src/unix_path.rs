//! Unix sockets in the file system: what a dead process left behind is cleared, what a living one
//! uses is not touched, and our own is removed at the end.
//!
//! Invariant: only a socket that refuses connections is removed before a bind, and at the end only
//! the very file we made.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A socket file that is removed when this is dropped, unless another has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(SocketFile {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    /// That of a process whose place we take.
    pub(crate) fn adopted(path: &Path, identity: (u64, u64)) -> SocketFile {
        let path = path.to_owned();
        SocketFile { path, identity }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Leaves the file to somebody else.
    pub(crate) fn leave(mut self) {
        // No file is like this.
        self.identity = (0, 0);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if is_ours {
            // Without permission it stays behind, and the next start clears it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A listener's socket; its mode is what the umask leaves.
pub(crate) fn listen(path: &Path, backlog_len: u32) -> io::Result<(OwnedFd, SocketFile)> {
    clear_stale(path)?;
    let socket = ringway_uring::listen_unix(path, backlog_len)?;
    Ok((socket, SocketFile::of(path)?))
}

/// A socket that only its owner may connect to, from its first moment on: on Linux bind(2) makes
/// the file with the mode of the socket, so the umask of the process need not be touched.
pub(crate) fn listen_private(path: &Path, backlog_len: i32) -> io::Result<(OwnedFd, SocketFile)> {
    clear_stale(path)?;
    let socket = stream_socket()?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile::of(path)?;
    rustix::net::listen(&socket, backlog_len)?;
    Ok((socket, file))
}

/// Removes a socket on which nobody accepts. EADDRINUSE when somebody does, EEXIST when it is no
/// socket.
fn clear_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(Errno::EXIST.into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // Non-blocking: a living process whose backlog is full must not hold us up.
    match rustix::net::connect(stream_socket()?, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => Err(Errno::ADDRINUSE.into()),
        Err(errno) => Err(errno.into()),
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_private_socket_is_its_owners_and_goes_with_its_guard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let (_socket, file) = listen_private(&path, 16).unwrap();
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (socket, file) = listen(&path, 16).unwrap();
        let error = listen(&path, 16).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::ADDRINUSE));
        UnixStream::connect(&path).unwrap();
        drop((socket, file));
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        fs::write(&path, "mine").unwrap();
        let error = listen(&path, 16).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::EXIST));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_file_that_took_our_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let (_socket, file) = listen(&path, 16).unwrap();
        let other = dir.path().join("b.sock");
        let _other = UnixListener::bind(&other).unwrap();
        fs::rename(&other, &path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
