//! What is charged to the control groups that bound this process, read from their files.
//!
//! It judges nothing. Invariant: what cannot be read, or understood, counts as nothing: a group that is gone is no
//! reason to refuse anybody.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::cgroups::Group;
use crate::pressure::Usage;

/// Longer than such a file: 60 lines of 30 bytes.
const FILE_MAX: usize = 8 << 10;

/// Names in memory.stat of a version of control groups.
#[derive(Debug)]
struct Names {
    /// What the kernel gives up for whoever asks.
    reclaimable: &'static [&'static str],
    /// What of the rest is a process's own and not the kernel's.
    own: &'static [&'static str],
}

const V1: Names = Names {
    reclaimable: &["total_active_file", "total_inactive_file"],
    own: &["total_rss", "total_shmem"],
};
const V2: Names = Names {
    reclaimable: &["active_file", "inactive_file", "slab_reclaimable"],
    own: &["anon", "shmem"],
};

/// The files of one group, open for as long as it is looked at.
#[derive(Debug)]
pub(crate) struct Charges {
    current: File,
    parts: File,
    names: &'static Names,
}

impl Charges {
    /// None where it has no such files, or not for us.
    pub(crate) fn open(group: &Group) -> Option<Charges> {
        let (path, current, names) = match group {
            Group::V1(path) => (path, "memory.usage_in_bytes", &V1),
            Group::V2(path) => (path, "memory.current", &V2),
        };
        Some(Charges {
            current: File::open(path.join(current)).ok()?,
            parts: File::open(path.join("memory.stat")).ok()?,
            names,
        })
    }

    /// What is charged now. Where all of it is less than `enough`, that is not divided: it costs several times as much.
    pub(crate) fn usage(&self, enough: u64) -> Usage {
        let current = text(&self.current);
        let all = current.trim().parse().unwrap_or(0);
        match all < enough {
            true => Usage {
                all,
                kernel: all,
                own_kernel: all,
            },
            false => usage_of(all, &text(&self.parts), self.names),
        }
    }
}

fn usage_of(all: u64, parts: &str, names: &Names) -> Usage {
    let sum = |names: &[&str]| -> u64 {
        let lines = parts.lines().filter_map(|line| line.split_once(' '));
        let wanted = lines.filter(|(name, _)| names.contains(name));
        wanted.map(|(_, value)| value.parse().unwrap_or(0)).sum()
    };
    let all = all.saturating_sub(sum(names.reclaimable));
    let kernel = all.saturating_sub(sum(names.own));
    Usage {
        all,
        kernel,
        own_kernel: kernel,
    }
}

fn text(file: &File) -> String {
    let mut bytes = [0; FILE_MAX];
    let len = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_can_be_dropped_do_not_count_and_own_memory_is_not_the_kernels() {
        let parts = "anon 10\nfile 70\nkernel 5\nsock 7\nshmem 3\ninactive_file 40\nactive_file 20\n\
                     slab_reclaimable 2\nnonsense\nanon_thp 99\n";
        let expected = Usage {
            all: 38,
            kernel: 25,
            own_kernel: 25,
        };
        assert_eq!(usage_of(100, parts, &V2), expected);
        let parts = "cache 70\nrss 0\ntotal_rss 10\ntotal_shmem 3\ntotal_inactive_file 40\ntotal_active_file 20\n";
        let expected = Usage {
            all: 40,
            kernel: 27,
            own_kernel: 27,
        };
        assert_eq!(usage_of(100, parts, &V1), expected);
    }

    #[test]
    fn parts_that_are_newer_than_their_sum_are_no_less_than_nothing() {
        let none = Usage::default();
        assert_eq!(usage_of(5, "inactive_file 9\nanon 4\n", &V2), none);
        assert_eq!(usage_of(0, "", &V2), none);
    }

    #[test]
    fn the_groups_of_this_process_have_such_files() {
        let groups = crate::cgroups::groups("memory", &["memory"]);
        let opened: Vec<Charges> = groups.iter().filter_map(Charges::open).collect();
        for charges in &opened {
            let (all, parts) = (charges.usage(u64::MAX).all, charges.usage(0));
            assert!(all > 0 && parts.all >= parts.kernel, "{all} {parts:?}");
        }
    }
}
