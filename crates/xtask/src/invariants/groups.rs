//! Control groups (v2) with 128 MiB for an instance, one inside the other. Invariant: one of both has the bound, and
//! neither may swap.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// What the group has.
const BOUND_BYTES: u64 = 128 * MIB;

/// Which group has the bound.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bounded {
    Own,
    Above,
}

impl Bounded {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Bounded::Own => "its group has 128 MiB",
            Bounded::Above => "a group above has 128 MiB",
        }
    }
}

/// A group inside another, removed when it is dropped.
#[derive(Debug)]
pub(super) struct Groups {
    outer: PathBuf,
    inner: PathBuf,
}

impl Groups {
    /// None where this host has no such groups for memory, or lets nobody make one.
    pub(super) fn new(bounded: Bounded) -> Option<Groups> {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !controllers.split_whitespace().any(|name| name == "memory") {
            return None;
        }
        let outer = root.join(format!("ringway-xtask-{}", std::process::id()));
        let inner = outer.join("inner");
        let groups = Groups { outer, inner };
        groups.make(root, bounded).ok().map(|()| groups)
    }

    fn make(&self, root: &Path, bounded: Bounded) -> io::Result<()> {
        fs::write(root.join("cgroup.subtree_control"), "+memory")?;
        fs::create_dir(&self.outer)?;
        fs::write(self.outer.join("cgroup.subtree_control"), "+memory")?;
        fs::create_dir(&self.inner)?;
        let group = match bounded {
            Bounded::Own => &self.inner,
            Bounded::Above => &self.outer,
        };
        fs::write(group.join("memory.max"), BOUND_BYTES.to_string())?;
        // Not there on a kernel without swap.
        let _ = fs::write(group.join("memory.swap.max"), "0");
        Ok(())
    }

    pub(super) fn processes(&self) -> PathBuf {
        self.inner.join("cgroup.procs")
    }

    /// How often something was done because memory was short, here and below.
    pub(super) fn events(&self, name: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.outer.join("memory.events"))?;
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        let count = found.and_then(|rest| rest.trim().parse().ok());
        count.ok_or_else(|| io::Error::other(format!("no {name} in memory.events")))
    }

    /// What was charged to it now, in MiB: all, of it what is in sockets, and the kernel's.
    pub(super) fn charged(&self) -> io::Result<String> {
        let all = fs::read_to_string(self.outer.join("memory.current"))?;
        let all: u64 = all.trim().parse().map_err(io::Error::other)?;
        let parts = fs::read_to_string(self.outer.join("memory.stat"))?;
        let part = |name: &str| -> u64 {
            let mut values = parts.lines().filter_map(|line| {
                let (found, value) = line.split_once(' ')?;
                (found == name).then(|| value.parse().ok())?
            });
            values.next().unwrap_or(0)
        };
        let [anonymous, sockets, kernel] = ["anon", "sock", "kernel"].map(|name| part(name) / MIB);
        let all = all / MIB;
        Ok(format!(
            "{all} MiB: {anonymous} own, {sockets} sockets, {kernel} kernel"
        ))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // Empty by now, or left for whoever looks after what went wrong.
        let _ = fs::remove_dir(&self.inner);
        let _ = fs::remove_dir(&self.outer);
    }
}
