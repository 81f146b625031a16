//! How many workers run, and on which CPUs.
//!
//! [`place`] decides from three values: what the file says, which CPUs the process may use, and how
//! much of them its cgroup grants. The rest reads the latter two from the kernel. A quota bounds
//! `auto` only: whoever gives a number has decided.

use std::fs;
use std::path::Path;

use ringway_config::Workers;

use crate::cgroups::{Group, groups};
use crate::error::StartError;

/// CPU time a cgroup grants, as microseconds per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuQuota {
    pub(crate) quota_us: u64,
    pub(crate) period_us: u64,
}

impl CpuQuota {
    /// Workers it can feed: rounded up, since half a CPU's worth is better used than left.
    fn cpus(self) -> usize {
        let cpus = self.quota_us.div_ceil(self.period_us.max(1)).max(1);
        usize::try_from(cpus).unwrap_or(usize::MAX)
    }
}

/// The CPU of each worker. `allowed` is in ascending order.
pub(crate) fn place(
    workers: &Workers,
    allowed: &[usize],
    quota: Option<CpuQuota>,
) -> Result<Vec<usize>, StartError> {
    let most = ringway_config::limits::WORKERS_MAX as usize;
    match workers {
        Workers::Auto => {
            let count = allowed
                .len()
                .min(quota.map_or(most, CpuQuota::cpus))
                .min(most);
            Ok(allowed[..count].to_vec())
        }
        Workers::Count(count) => Ok(allowed
            .iter()
            .copied()
            .cycle()
            .take(count.get().into())
            .collect()),
        Workers::Cpus(cpus) => cpus
            .iter()
            .map(|cpu| {
                let is_allowed = allowed.contains(&usize::from(*cpu));
                is_allowed
                    .then_some(usize::from(*cpu))
                    .ok_or_else(|| StartError::Cpu {
                        cpu: *cpu,
                        allowed: allowed
                            .iter()
                            .map(usize::to_string)
                            .collect::<Vec<_>>()
                            .join(", "),
                    })
            })
            .collect(),
    }
}

/// The CPUs this process may use, ascending, never empty.
pub(crate) fn allowed() -> Result<Vec<usize>, StartError> {
    let set = rustix::thread::sched_getaffinity(None).map_err(|errno| StartError::System {
        what: "the CPUs of this process could not be read (sched_getaffinity)",
        source: errno.into(),
    })?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// The smallest CPU quota of this process's cgroup and those above it.
pub(crate) fn quota() -> Option<CpuQuota> {
    let groups = groups("cpu", &["cpu", "cpu,cpuacct"]);
    let quotas = groups.iter().filter_map(|group| match group {
        Group::V1(path) => read_v1(path),
        Group::V2(path) => read_v2(path),
    });
    quotas.min_by_key(|quota| quota.cpus())
}

fn read_v2(group: &Path) -> Option<CpuQuota> {
    parse_v2(&fs::read_to_string(group.join("cpu.max")).ok()?)
}

fn read_v1(group: &Path) -> Option<CpuQuota> {
    let number = |name| fs::read_to_string(group.join(name)).ok();
    parse_v1(&number("cpu.cfs_quota_us")?, &number("cpu.cfs_period_us")?)
}

/// `max 100000` or `150000 100000`.
fn parse_v2(cpu_max: &str) -> Option<CpuQuota> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    parse_v1(quota, period)
}

/// A quota of -1 (v1) or `max` (v2) is none.
fn parse_v1(quota_us: &str, period_us: &str) -> Option<CpuQuota> {
    let quota_us = quota_us.trim().parse().ok()?;
    let period_us = period_us.trim().parse().ok().filter(|period| *period > 0)?;
    Some(CpuQuota {
        quota_us,
        period_us,
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn auto(allowed: &[usize], quota: Option<CpuQuota>) -> Vec<usize> {
        place(&Workers::Auto, allowed, quota).unwrap()
    }

    #[test]
    fn auto_is_one_per_allowed_cpu_within_the_quota() {
        let quota = |quota_us| {
            Some(CpuQuota {
                quota_us,
                period_us: 100_000,
            })
        };
        assert_eq!(auto(&[0, 1, 4], None), [0, 1, 4]);
        assert_eq!(auto(&[0, 1, 4], quota(800_000)), [0, 1, 4]);
        assert_eq!(auto(&[0, 1, 4], quota(150_000)), [0, 1]);
        assert_eq!(auto(&[0, 1, 4], quota(100_000)), [0]);
        assert_eq!(auto(&[2, 3], quota(1)), [2]);
        assert_eq!(auto(&[2, 3], quota(0)), [2]);
    }

    #[test]
    fn a_number_goes_round_the_allowed_cpus_whatever_the_quota() {
        let five = Workers::Count(NonZeroU16::new(5).unwrap());
        let quota = Some(CpuQuota {
            quota_us: 1,
            period_us: 1,
        });
        assert_eq!(place(&five, &[1, 3], quota).unwrap(), [1, 3, 1, 3, 1]);
    }

    #[test]
    fn a_list_is_taken_as_it_is_or_refused() {
        let list = Workers::Cpus(vec![3, 1]);
        assert_eq!(place(&list, &[0, 1, 3], None).unwrap(), [3, 1]);
        let error = place(&Workers::Cpus(vec![1, 7]), &[0, 1], None).unwrap_err();
        assert!(error.to_string().contains("CPU 7"), "{error}");
        assert!(error.to_string().contains("(0, 1)"), "{error}");
    }

    #[test]
    fn quotas_are_read_as_both_kernels_write_them() {
        let some = |quota_us, period_us| {
            Some(CpuQuota {
                quota_us,
                period_us,
            })
        };
        assert_eq!(parse_v2("max 100000\n"), None);
        assert_eq!(parse_v2("150000 100000\n"), some(150_000, 100_000));
        assert_eq!(parse_v2(""), None);
        assert_eq!(parse_v2("1 0"), None);
        assert_eq!(parse_v1("-1\n", "100000\n"), None);
        assert_eq!(parse_v1("50000\n", "100000\n"), some(50_000, 100_000));
    }

    #[test]
    fn this_process_has_a_cpu() {
        assert!(!allowed().unwrap().is_empty());
    }
}
