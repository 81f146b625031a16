//! How long a thread goes on while others wait for its CPU. Not which thread goes first, nor where:
//! no priority and no affinity. Invariant: a thread with a policy of its own (real-time, deadline,
//! idle) keeps all of it.

use crate::errno::Errno;

/// Such a turn: sched_setattr(2), `sched_runtime` of SCHED_OTHER and SCHED_BATCH. Before Linux 6.12
/// every thread has the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The shortest there is, 100 us: a thread that computes for long lets others through at once.
    Brief,
    /// What the kernel gives where nothing is asked for: 0.7 to 3 ms, by the number of CPUs.
    Usual,
}

impl Turn {
    /// In nanoseconds; 0 asks for the kernel's own.
    fn runtime(self) -> u64 {
        match self {
            Turn::Brief => 100_000,
            Turn::Usual => 0,
        }
    }
}

/// Gives the calling thread, and the threads and processes it starts from now on, turns of that
/// length.
///
/// # Errors
/// EPERM where a seccomp filter forbids it. Others as sched_getattr(2), sched_setattr(2).
pub fn take_turns(turn: Turn) -> Result<(), Errno> {
    let mut attributes = attributes()?;
    if is_fair(&attributes) {
        attributes.sched_runtime = turn.runtime();
        set(&mut attributes)?;
    }
    Ok(())
}

/// Whether a turn is all that `sched_runtime` is about.
fn is_fair(attributes: &libc::sched_attr) -> bool {
    let policies = [libc::SCHED_OTHER, libc::SCHED_BATCH];
    policies
        .map(|policy| policy as u32)
        .contains(&attributes.sched_policy)
}

/// Of the calling thread.
fn attributes() -> Result<libc::sched_attr, Errno> {
    // SAFETY: sched_attr is made of integers; all zero is a valid value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let value: *mut libc::sched_attr = &mut attributes;
    let size = size_of::<libc::sched_attr>();
    // SAFETY: the kernel writes at most `size` bytes to `value`, which is that large.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, value, size, 0) };
    if result < 0 {
        return Err(Errno::last());
    }
    Ok(attributes)
}

fn set(attributes: &mut libc::sched_attr) -> Result<(), Errno> {
    let value: *mut libc::sched_attr = attributes;
    // SAFETY: the kernel reads what `size` in it says, which sched_getattr set to at most its own
    // size, and may write that field.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, value, 0) };
    if result < 0 {
        return Err(Errno::last());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    /// Nanoseconds; `None` where the kernel does not show them.
    fn slice() -> Option<u64> {
        let shown = fs::read_to_string("/proc/thread-self/sched").ok()?;
        let line = shown.lines().find(|line| line.starts_with("se.slice "))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn a_turn_is_inherited_and_given_back() {
        let usual = slice();
        take_turns(Turn::Brief).unwrap();
        let brief = slice();
        thread::scope(|scope| {
            scope.spawn(move || {
                assert_eq!(slice(), brief);
                take_turns(Turn::Usual).unwrap();
                assert_eq!(slice(), usual);
            });
        });
        assert_eq!(slice(), brief);
        take_turns(Turn::Usual).unwrap();
        assert_eq!(slice(), usual);
        let own = attributes().unwrap();
        let can_be_brief = is_fair(&own) && own.sched_runtime > 0;
        if can_be_brief {
            assert!(brief.is_none_or(|slice| slice == Turn::Brief.runtime()));
        }
    }

    #[test]
    fn a_policy_of_its_own_stays() {
        let mut own = attributes().unwrap();
        own.sched_policy = libc::SCHED_IDLE as u32;
        set(&mut own).unwrap();
        take_turns(Turn::Brief).unwrap();
        let after = attributes().unwrap();
        assert_eq!(after.sched_policy, libc::SCHED_IDLE as u32);
        assert_ne!(after.sched_runtime, Turn::Brief.runtime());
    }
}
