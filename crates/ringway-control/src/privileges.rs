//! From root to an ordinary user that may bind ports below 1024 and nothing else.
//!
//! Credentials belong to threads: this runs before the process has a second one, and what is started
//! later inherits them. CAP_NET_BIND_SERVICE is kept as an ambient capability, so that the new process
//! of an upgrade has it too; it is kept always, because a later configuration may name such a port.
//!
//! Invariant: it succeeds only if what was read back from the kernel is what was asked for.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;

use nix::unistd::{User, getgrouplist};
use rustix::process::{Gid, Uid, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// Why this process does not run as the user it was to run as.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Nobody is called so.
    #[error(
        "--user {0}: there is no such user: create it (`useradd --system {0}`), or name another"
    )]
    Unknown(String),
    /// It would be root.
    #[error("--user {0}: is root, which may do everything: name an ordinary user")]
    Root(String),
    /// Only root can become somebody else.
    #[error(
        "--user {0}: only root can become another user: start as root, or as {0} without --user"
    )]
    NotRoot(String),
    /// A system call failed.
    #[error("--user {user}: {what}: {source}")]
    Refused {
        /// The name.
        user: String,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// It was done, and is not so.
    #[error("--user {user}: {what} is {found} and not {expected}: refusing to run")]
    NotSo {
        /// The name.
        user: String,
        /// Of the kernel's account of this process.
        what: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
}

/// Becomes that user for good. A process that is that user already, as the new one of an upgrade is,
/// is looked at all the same. To be called while the process has one thread.
///
/// # Errors
/// [`PrivilegeError`]; the process must not go on then.
pub fn become_user(name: &str) -> Result<(), PrivilegeError> {
    let user = User::from_name(name)
        .ok()
        .flatten()
        .ok_or_else(|| PrivilegeError::Unknown(name.into()))?;
    if user.uid.is_root() {
        return Err(PrivilegeError::Root(name.into()));
    }
    let refused = |what| {
        move |source: io::Error| PrivilegeError::Refused {
            user: name.to_owned(),
            what,
            source,
        }
    };
    let groups = CString::new(name)
        .map_err(io::Error::from)
        .and_then(|name| getgrouplist(&name, user.gid).map_err(io::Error::from))
        .map_err(refused("its groups cannot be found"))?;
    let groups: Vec<u32> = groups.into_iter().map(|group| group.as_raw()).collect();
    let wanted = Wanted {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().collect(),
    };
    let least = if getuid().is_root() {
        wanted
            .become_it()
            .map_err(|(what, source)| refused(what)(source))?;
        Least::AllOfIt
    } else if getuid().as_raw() == wanted.uid {
        set_no_new_privs(true).map_err(|errno| refused("PR_SET_NO_NEW_PRIVS")(errno.into()))?;
        Least::Nothing
    } else {
        return Err(PrivilegeError::NotRoot(name.into()));
    };
    let status = fs::read_to_string("/proc/self/status")
        .map_err(refused("/proc/self/status cannot be read"))?;
    wanted.compare(name, &status, least)?;
    // Who could still become root would not have left.
    let root = Uid::ROOT;
    match set_thread_res_uid(root, root, root) {
        Err(_) => Ok(()),
        Ok(()) => Err(PrivilegeError::NotSo {
            user: name.into(),
            what: "the way back to root",
            found: "open".into(),
            expected: "closed".into(),
        }),
    }
}

/// How much of what it would be given a process has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Least {
    /// It was given to it just now.
    AllOfIt,
    /// It came as the user it is.
    Nothing,
}

/// Who this process is to be.
#[derive(Debug)]
struct Wanted {
    uid: u32,
    gid: u32,
    groups: BTreeSet<u32>,
}

impl Wanted {
    fn become_it(&self) -> Result<(), (&'static str, io::Error)> {
        let at = |what: &'static str| move |errno: rustix::io::Errno| (what, errno.into());
        for capability in CapabilitySet::all().iter() {
            // Those the kernel has no name for yet cannot be removed and are in no set of ours.
            if capability != KEPT {
                let _ = remove_capability_from_bounding_set(capability);
            }
        }
        set_keep_capabilities(true).map_err(at("PR_SET_KEEPCAPS"))?;
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        set_thread_groups(&groups).map_err(at("setgroups"))?;
        let gid = Gid::from_raw(self.gid);
        set_thread_res_gid(gid, gid, gid).map_err(at("setresgid"))?;
        let uid = Uid::from_raw(self.uid);
        set_thread_res_uid(uid, uid, uid).map_err(at("setresuid"))?;
        set_keep_capabilities(false).map_err(at("PR_SET_KEEPCAPS"))?;
        let sets = CapabilitySets {
            effective: KEPT,
            permitted: KEPT,
            inheritable: KEPT,
        };
        set_capabilities(None, sets).map_err(at("CAP_NET_BIND_SERVICE cannot be kept"))?;
        clear_ambient_capability_set().map_err(at("PR_CAP_AMBIENT_CLEAR_ALL"))?;
        configure_capability_in_ambient_set(KEPT, true).map_err(at("PR_CAP_AMBIENT_RAISE"))?;
        set_no_new_privs(true).map_err(at("PR_SET_NO_NEW_PRIVS"))
    }

    /// With proc_pid_status(5).
    fn compare(&self, user: &str, status: &str, least: Least) -> Result<(), PrivilegeError> {
        let field = |what: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(what));
            let words = line.unwrap_or_default().split_whitespace();
            words.map(str::to_owned).collect::<Vec<String>>()
        };
        let four = |id: u32| vec![id.to_string(); 4];
        let kept = vec![format!("{:016x}", KEPT.bits())];
        let groups: BTreeSet<u32> = field("Groups:")
            .iter()
            .filter_map(|g| g.parse().ok())
            .collect();
        let told = |groups: &BTreeSet<u32>| groups.iter().map(u32::to_string).collect();
        let expected = [
            ("Uid:", field("Uid:"), four(self.uid)),
            ("Gid:", field("Gid:"), four(self.gid)),
            ("Groups:", told(&groups), told(&self.groups)),
            ("CapInh:", field("CapInh:"), kept.clone()),
            ("CapPrm:", field("CapPrm:"), kept.clone()),
            ("CapEff:", field("CapEff:"), kept.clone()),
            ("CapAmb:", field("CapAmb:"), kept),
            ("NoNewPrivs:", field("NoNewPrivs:"), vec!["1".to_owned()]),
        ];
        let none = format!("{:016x}", 0);
        for (what, found, expected) in expected {
            let is_less = match what {
                "Groups:" => found.iter().all(|group| expected.contains(group)),
                _ => what.starts_with("Cap") && found == [none.as_str()],
            };
            if found != expected && !(is_less && least == Least::Nothing) {
                return Err(PrivilegeError::NotSo {
                    user: user.into(),
                    what: what.trim_end_matches(':'),
                    found: found.join(" "),
                    expected: expected.join(" "),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\nGroups:\t9 8 \n\
        CapInh:\t0000000000000400\nCapPrm:\t0000000000000400\nCapEff:\t0000000000000400\n\
        CapBnd:\t0000000000000400\nCapAmb:\t0000000000000400\nNoNewPrivs:\t1\n";

    fn wanted() -> Wanted {
        Wanted {
            uid: 7,
            gid: 8,
            groups: [8, 9].into(),
        }
    }

    #[test]
    fn what_was_asked_for_is_found() {
        wanted().compare("x", STATUS, Least::AllOfIt).unwrap();
        wanted().compare("x", STATUS, Least::Nothing).unwrap();
    }

    #[test]
    fn every_difference_is_refused_by_its_name() {
        for (from, to, name) in [
            ("Uid:\t7\t7\t7\t7", "Uid:\t7\t7\t0\t7", "Uid"),
            ("Gid:\t8\t8", "Gid:\t0\t8", "Gid"),
            ("Groups:\t9 8", "Groups:\t9 8 0", "Groups"),
            (
                "CapInh:\t0000000000000400",
                "CapInh:\t0000000000000000",
                "CapInh",
            ),
            (
                "CapPrm:\t0000000000000400",
                "CapPrm:\t0000000000000401",
                "CapPrm",
            ),
            (
                "CapEff:\t0000000000000400",
                "CapEff:\t000001ffffffffff",
                "CapEff",
            ),
            (
                "CapAmb:\t0000000000000400",
                "CapAmb:\t0000000000000000",
                "CapAmb",
            ),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "NoNewPrivs"),
        ] {
            let status = STATUS.replace(from, to);
            assert_ne!(status, STATUS, "{from}");
            let error = wanted().compare("x", &status, Least::AllOfIt);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(&format!(" {name} is ")), "{error}");
        }
        assert!(wanted().compare("x", "", Least::Nothing).is_err());
    }

    #[test]
    fn less_is_enough_for_who_came_as_the_user_and_more_is_not() {
        let less = STATUS
            .replace("0000000000000400", "0000000000000000")
            .replace("Groups:\t9 8 ", "Groups:\t ");
        wanted().compare("x", &less, Least::Nothing).unwrap();
        assert!(wanted().compare("x", &less, Least::AllOfIt).is_err());
        let more = STATUS.replace("CapEff:\t0000000000000400", "CapEff:\t0000000000001400");
        assert!(wanted().compare("x", &more, Least::Nothing).is_err());
    }

    #[test]
    fn nobody_and_root_are_refused() {
        let error = become_user("no-such-user-here").unwrap_err();
        assert!(matches!(error, PrivilegeError::Unknown(_)), "{error}");
        let error = become_user("root").unwrap_err();
        assert!(matches!(error, PrivilegeError::Root(_)), "{error}");
    }
}
