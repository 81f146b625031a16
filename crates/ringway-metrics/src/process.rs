//! What the kernel says about this process, read from the text of files in `/proc`.
//!
//! Whoever has the files reads them; this only parses (proc(5)). A file that is missing or odd
//! costs the values that come from it and no others.
//!
//! **Invariant:** no text, however odd, makes it panic.

/// Texts of files in `/proc`, and what they must be read with. An empty text is a missing file.
#[derive(Clone, Copy, Debug)]
pub struct ProcFiles<'a> {
    /// `/proc/self/stat`.
    pub stat: &'a str,
    /// `/proc/self/status`.
    pub status: &'a str,
    /// `/proc/self/limits`.
    pub limits: &'a str,
    /// `/proc/stat`, the system's.
    pub system_stat: &'a str,
    /// Entries of `/proc/self/fd`; the one that reads the directory is among them.
    pub open_fds: Option<u64>,
    /// `sysconf(_SC_CLK_TCK)`: 100 on every common platform.
    pub ticks_per_second: u64,
}

/// Numbers about the process; `None` is what could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// CPU time, user and system, in milliseconds.
    pub cpu_millis: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// The soft limit of descriptors; `None` also where there is none.
    pub max_fds: Option<u64>,
    /// Memory in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads, those of the kernel that work for the process's rings included.
    pub threads: Option<u64>,
    /// Start, in milliseconds since 1970.
    pub start_unix_millis: Option<u64>,
}

impl ProcessStats {
    /// Reads what there is to read in `files`.
    pub fn parse(files: ProcFiles<'_>) -> Self {
        // Fields 14, 15 and 22 of the manual page; the first two, the second in parentheses and of
        // any content, are skipped with the last parenthesis.
        let after_name = files.stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |number: usize| after_name.split_whitespace().nth(number - 3)?.parse().ok();
        let millis = |ticks: u64| {
            ticks
                .checked_mul(1_000)?
                .checked_div(files.ticks_per_second)
        };
        let cpu_ticks = || u64::checked_add(field(14)?, field(15)?);
        let boot_millis = || u64::checked_mul(number_after(files.system_stat, "btime ")?, 1_000);
        let bytes = |key| u64::checked_mul(number_after(files.status, key)?, 1_024);
        Self {
            cpu_millis: cpu_ticks().and_then(millis),
            open_fds: files.open_fds,
            max_fds: number_after(files.limits, "Max open files "),
            resident_bytes: bytes("VmRSS:"),
            virtual_bytes: bytes("VmSize:"),
            threads: number_after(files.status, "Threads:"),
            start_unix_millis: field(22)
                .and_then(millis)
                .and_then(|since_boot| boot_millis()?.checked_add(since_boot)),
        }
    }
}

/// The number that follows `key` at the start of a line.
fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "4242 (ring) way (x)) S 1 4242 4242 0 -1 4194560 3311 0 2 0 1234 766 0 0 20 \
                        0 5 0 8745613 162832384 2210 18446744073709551615 1 1 0 0 0 0 0 4096\n";
    const STATUS: &str = "Name:\tringway\nVmPeak:\t  159016 kB\nVmSize:\t  159012 kB\n\
                          VmRSS:\t    8840 kB\nThreads:\t5\nvoluntary_ctxt_switches:\t150\n";
    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max processes             95972                95972                processes 
Max open files            65536                1048576              files     
Max locked memory         8388608              8388608              bytes     
";
    const SYSTEM_STAT: &str = "cpu  1 2 3 4\nctxt 5\nbtime 1700000000\nprocesses 6\n";

    fn files() -> ProcFiles<'static> {
        ProcFiles {
            stat: STAT,
            status: STATUS,
            limits: LIMITS,
            system_stat: SYSTEM_STAT,
            open_fds: Some(17),
            ticks_per_second: 100,
        }
    }

    #[test]
    fn everything_is_read() {
        let expected = ProcessStats {
            cpu_millis: Some(20_000),
            open_fds: Some(17),
            max_fds: Some(65_536),
            resident_bytes: Some(8_840 * 1_024),
            virtual_bytes: Some(159_012 * 1_024),
            threads: Some(5),
            start_unix_millis: Some(1_700_087_456_130),
        };
        assert_eq!(ProcessStats::parse(files()), expected);
    }

    #[test]
    fn a_missing_file_costs_only_its_own_values() {
        let all = ProcessStats::parse(files());
        let without_status = ProcessStats::parse(ProcFiles {
            status: "",
            ..files()
        });
        let expected = ProcessStats {
            resident_bytes: None,
            virtual_bytes: None,
            threads: None,
            ..all
        };
        assert_eq!(without_status, expected);
        let without_boot_time = ProcessStats::parse(ProcFiles {
            system_stat: "",
            ..files()
        });
        assert_eq!(
            without_boot_time,
            ProcessStats {
                start_unix_millis: None,
                ..all
            }
        );
        let no_ticks = ProcessStats::parse(ProcFiles {
            ticks_per_second: 0,
            ..files()
        });
        assert_eq!(
            no_ticks,
            ProcessStats {
                cpu_millis: None,
                start_unix_millis: None,
                ..all
            }
        );
    }

    #[test]
    fn no_limit_is_no_number() {
        let limits = "Max open files            unlimited            unlimited            files\n";
        assert_eq!(
            ProcessStats::parse(ProcFiles { limits, ..files() }).max_fds,
            None
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,60}", digits in "[0-9 )]{0,200}", ticks: u64) {
            let after = |key| format!("{key}{digits}");
            for odd in [after(") "), after("btime "), after("VmRSS:"), text + &digits] {
                let files = ProcFiles {
                    stat: &odd,
                    status: &odd,
                    limits: &odd,
                    system_stat: &odd,
                    open_fds: None,
                    ticks_per_second: ticks,
                };
                prop_assert_eq!(ProcessStats::parse(files).open_fds, None);
            }
        }
    }
}
