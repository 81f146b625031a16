//! What a run's figures depend on besides the programs: the machine, the kernel, its settings; and
//! the network namespace that makes some of them the same everywhere. Invariant: what was set is
//! read back before it is relied on.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::record::Knob;

const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What may pace in the namespace, the best first: a namespace may only choose what the host lets
/// everybody use, which reno always is. What paces by itself, as bbr does, would hide differences.
const CONGESTION_CONTROLS: [&str; 2] = ["cubic", "reno"];
const PORTS: &str = "1024\t65535";

/// Settings worth recording.
const KNOBS: [&str; 17] = [
    "net/core/somaxconn",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_autocorking",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_limit_output_bytes",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_max_tw_buckets",
    "net/ipv4/tcp_mem",
    "net/ipv4/tcp_notsent_lowat",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_slow_start_after_idle",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_wmem",
    "fs/pipe-max-size",
    "kernel/io_uring_disabled",
];

/// Becomes this same command in a new network namespace; returns only if that failed.
pub(super) fn enter_namespace() -> io::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    Command::new("unshare")
        .args(["--net", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .arg("--inside-namespace")
        .exec()
}

/// Makes the namespace usable; what could not be set is returned as notes.
pub(super) fn furnish_namespace() -> io::Result<Vec<String>> {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    match up {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(io::Error::other(format!("ip link set lo up: {status}"))),
        Err(error) => return Err(io::Error::other(format!("ip: {error}"))),
    }
    let mut notes = Vec::new();
    let is_set = |path: &str, value: &str| {
        // Reading back says whether it worked.
        let _ = fs::write(path, value);
        fs::read_to_string(path).is_ok_and(|is| is.trim() == value)
    };
    let mut choices = CONGESTION_CONTROLS.iter();
    if !choices.any(|choice| is_set(CONGESTION_CONTROL, choice)) {
        notes.push("neither cubic nor reno could be chosen".to_owned());
    }
    if !is_set(PORT_RANGE, PORTS) {
        notes.push("the range of ports could not be widened".to_owned());
    }
    Ok(notes)
}

pub(super) fn knobs() -> Vec<Knob> {
    KNOBS
        .iter()
        .filter_map(|name| {
            let value = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
            Some(Knob {
                name: name.replace('/', "."),
                value: value.split_whitespace().collect::<Vec<_>>().join(" "),
            })
        })
        .collect()
}

pub(super) fn congestion_control() -> String {
    let text = fs::read_to_string(CONGESTION_CONTROL).unwrap_or_default();
    text.trim().to_owned()
}

pub(super) fn kernel() -> String {
    let uname = rustix::system::uname();
    format!(
        "{} {}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy()
    )
}

pub(super) fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':'))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

/// The load average of one minute.
pub(super) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Today, in UTC.
pub(super) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let days = since.map_or(0, |since| since.as_secs() / 86_400);
    date(days)
}

/// The date `days` after 1970-01-01.
fn date(days: u64) -> String {
    let is_leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    let (mut year, mut left) = (1970, days);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(59), "1970-03-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_453), "2025-12-31");
        assert_eq!(date(20_454), "2026-01-01");
    }

    #[test]
    fn this_machine_is_described() {
        assert!(kernel().starts_with("Linux "));
        assert!(knobs().iter().any(|knob| knob.name == "net.ipv4.tcp_rmem"));
        assert!(!congestion_control().is_empty());
    }
}
