//! Waiting for what another process does, never longer than a deadline.
//!
//! Where the kernel has a bell it is waited for: a socket that can be read, a process that ends, a file
//! that changes. What has none, such as a counter that must reach a value, is looked at again and
//! again, and that happens in [`eventually`] and nowhere else.

use std::fmt::Debug;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long anything that must happen may take on a loaded machine. Shorter than the deadlines that
/// would end what hangs, such as `timeouts.half_close` and `shutdown.drain`.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// Between two looks at what has no bell; leaves the CPU to those that are waited for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Looks until there is an answer, which must come in time; until then `look` says what it saw instead.
pub(crate) fn eventually<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(answer) => return answer,
            Err(saw) => assert!(Instant::now() < deadline, "waited in vain: {saw}"),
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Waits for what must become true soon.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(|| is_so().then_some(()).ok_or(what.to_owned()));
}

/// The same for a value, which is told if it never comes.
pub(crate) fn until_is<T: PartialEq + Debug>(what: &str, expected: T, mut read: impl FnMut() -> T) {
    eventually(|| match read() {
        last if last == expected => Ok(()),
        last => Err(format!("{what}: {last:?}, not {expected:?}")),
    });
}

/// The least of several looks at a number that is too high for an instant now and then.
pub(crate) fn least(mut read: impl FnMut() -> usize) -> usize {
    let (mut looks, mut least) = (0, usize::MAX);
    eventually(|| {
        looks += 1;
        least = least.min(read());
        (looks == 10).then_some(least).ok_or(String::new())
    })
}

/// Whether it can be read, or accepted on, within that time.
pub(crate) fn is_readable(fd: &impl AsFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).unwrap();
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

/// Waits for the end of a process that nobody has waited for yet.
pub(crate) fn until_ended(patience: Duration, pid: Pid) {
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    assert!(
        is_readable(&process, patience),
        "waited in vain: the process has ended"
    );
}

/// Waits until what a file holds is as it should be; it need not be there yet.
pub(crate) fn until_file(path: &Path, what: &str, is_so: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let bell = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let changes =
        inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&bell, path.parent().unwrap(), changes).unwrap();
    while !std::fs::read_to_string(path).is_ok_and(|text| is_so(&text)) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(
            is_readable(&bell, left),
            "waited in vain: {what} in {}",
            path.display()
        );
        // What has rung so far; the next look comes after it.
        while rustix::io::read(&bell, &mut [0; 4096]).is_ok() {}
    }
}
