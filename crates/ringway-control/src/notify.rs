//! What the service manager is told, by datagrams to `NOTIFY_SOCKET` (sd_notify(3)). Where there is
//! none, nothing is told.
//!
//! Not here: when. Invariant: telling never blocks and never fails; a manager that does not listen
//! misses it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::{error, warn};

use crate::instance::Instance;

/// Between two looks at whether the instance has become ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// Whether it was told that the service is there.
    is_announced: AtomicBool,
}

impl Notifier {
    /// As the environment says.
    pub(crate) fn of_process() -> Notifier {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
            return Notifier::default();
        };
        let number = |name| {
            let value = std::env::var(name).ok()?;
            value.parse::<u64>().ok()
        };
        let is_for_us =
            number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_for_us);
        let found = Notifier::to(name.as_bytes(), watchdog.map(Duration::from_micros));
        found.unwrap_or_else(|error| {
            warn!(%error, socket = %name.to_string_lossy(), "NOTIFY_SOCKET is no socket; nothing is told to it");
            Notifier::default()
        })
    }

    fn to(name: &[u8], watchdog: Option<Duration>) -> std::io::Result<Notifier> {
        let address = match name.split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
            Some(_) | None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Notifier {
            to: Some((socket, address)),
            watchdog,
            is_announced: AtomicBool::new(false),
        })
    }

    fn tell(&self, lines: &str) {
        if let Some((socket, address)) = &self.to {
            // A manager that is gone or does not keep up misses it.
            let _ = socket.send_to_addr(lines.as_bytes(), address);
        }
    }

    /// Started.
    pub(crate) fn ready(&self, status: &str) {
        self.is_announced.store(true, Ordering::Relaxed);
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// A reload begins; it ends with [`Notifier::reloaded`]. (For `Type=notify-reload`.) Nothing is told
    /// of one before the service was announced: its end would announce it too early.
    pub(crate) fn reloading(&self) {
        if !self.is_announced.load(Ordering::Relaxed) {
            return;
        }
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"
        ));
    }

    /// A reload has ended.
    pub(crate) fn reloaded(&self, status: &str) {
        if self.is_announced.load(Ordering::Relaxed) {
            self.ready(status);
        }
    }

    /// The end begins.
    pub(crate) fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// What it does now.
    pub(crate) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// The service goes on in another process, of which the manager hears from this one only.
    pub(crate) fn main_pid(&self, pid: u32) {
        self.tell(&format!(
            "MAINPID={pid}\nSTATUS=process {pid} has taken over"
        ));
    }

    fn alive(&self) {
        self.tell("WATCHDOG=1");
    }
}

/// Tells the manager when the instance is ready, and from then on that it lives, inside the runtime.
pub(crate) async fn attend(notifier: Arc<Notifier>, instance: Arc<Instance>) {
    if notifier.to.is_none() {
        return;
    }
    while !instance.is_draining() {
        if instance.unready_because().is_none() {
            notifier.ready(&instance.summary());
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let Some(watchdog) = notifier.watchdog else {
        return;
    };
    let mut was_alive = true;
    loop {
        let looked_at = Arc::clone(&instance);
        let hung = tokio::task::spawn_blocking(move || looked_at.hung_workers()).await;
        let is_alive = matches!(&hung, Ok(hung) if hung.is_empty());
        if is_alive {
            notifier.alive();
        } else if was_alive {
            error!(workers = ?hung, "workers do not answer: the service manager will restart this");
        }
        was_alive = is_alive;
        // One that is lost on the way is no reason for a restart.
        tokio::time::sleep(watchdog / 3).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(to: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let len = to.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    #[test]
    fn each_state_is_told_in_the_words_of_the_protocol() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(path.as_os_str().as_bytes(), None).unwrap();
        notifier.reloading();
        notifier.reloaded("too early to be told");
        notifier.ready("serving");
        assert_eq!(said(&manager), "READY=1\nSTATUS=serving");
        notifier.main_pid(7);
        assert!(said(&manager).starts_with("MAINPID=7\nSTATUS="));
        notifier.stopping("draining");
        assert_eq!(said(&manager), "STOPPING=1\nSTATUS=draining");
        notifier.status("1 connection");
        assert_eq!(said(&manager), "STATUS=1 connection");
        notifier.alive();
        assert_eq!(said(&manager), "WATCHDOG=1");
        let before = clock_gettime(ClockId::Monotonic).tv_sec;
        notifier.reloading();
        let text = said(&manager);
        let micros = text
            .lines()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let seconds = micros.unwrap().parse::<i64>().unwrap() / 1_000_000;
        assert!(
            text.starts_with("RELOADING=1\n") && seconds >= before,
            "{text}"
        );
    }

    #[test]
    fn a_manager_that_does_not_listen_holds_nobody_up() {
        let name = format!("@ringway-test-{}", std::process::id());
        let notifier = Notifier::to(name.as_bytes(), None).unwrap();
        notifier.ready("nobody is there");
        let address = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        for _ in 0..10_000 {
            notifier.status("again");
        }
        assert_eq!(said(&manager), "STATUS=again");
    }
}
