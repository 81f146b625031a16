//! Where the control groups of this process and those above them are. What they grant is for others to read.
//!
//! Invariant: whatever this host's files say, the answer is a list of directories that may not exist.

use std::fs;
use std::path::{Path, PathBuf};

/// The directory of a group, by the kind of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    V1(PathBuf),
    V2(PathBuf),
}

/// The groups that bound this process in one controller; `v1_mounts` are the names of its mounts.
pub(crate) fn groups(controller: &str, v1_mounts: &[&str]) -> Vec<Group> {
    let memberships = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let lines = memberships.lines();
    lines
        .flat_map(|line| groups_of(line, controller, v1_mounts))
        .collect()
}

/// The groups that one line of /proc/self/cgroup leads to; see cgroups(7).
fn groups_of(membership: &str, controller: &str, v1_mounts: &[&str]) -> Vec<Group> {
    let mut fields = membership.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
    else {
        return Vec::new();
    };
    let group: fn(PathBuf) -> Group;
    let mounts: &[&str];
    if controllers.is_empty() {
        (mounts, group) = (&["", "unified"], Group::V2);
    } else if controllers.split(',').any(|name| name == controller) {
        (mounts, group) = (v1_mounts, Group::V1);
    } else {
        return Vec::new();
    }
    // In a container the path is often the host's and the mount is the container's own group: then
    // only the root exists, and it is the right one.
    let relative = Path::new(path.trim_start_matches('/'));
    let ancestors = |mount: &&str| -> Vec<Group> {
        let root = Path::new("/sys/fs/cgroup").join(mount);
        let groups = relative.ancestors();
        groups.map(|path| group(root.join(path))).collect()
    };
    mounts.iter().flat_map(ancestors).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(line: &str) -> Vec<Group> {
        groups_of(line, "memory", &["memory"])
    }

    #[test]
    fn a_group_comes_with_all_above_it() {
        let v1 = |path: &str| Group::V1(Path::new("/sys/fs/cgroup/memory").join(path));
        assert_eq!(memory("4:memory:/a/b"), [v1("a/b"), v1("a"), v1("")]);
        assert_eq!(memory("4:cpu,memory:/"), [v1("")]);
        let v2 = |path: &str| Group::V2(Path::new("/sys/fs/cgroup").join(path));
        assert_eq!(memory("0::/a")[..2], [v2("a"), v2("")]);
    }

    #[test]
    fn odd_memberships_lead_nowhere() {
        for odd in ["", ":", "1:memory", "3:cpuset:/", "2:memory_of_another:/"] {
            assert_eq!(memory(odd), [], "{odd}");
        }
    }
}
