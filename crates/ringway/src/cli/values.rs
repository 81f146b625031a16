//! Values of flags: what they may be, and what is said of others. Not the flags themselves.
//! Invariant: what is read here needs no second look by a command.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use ringway_balance::Algorithm;
use ringway_config::limits::{WEIGHT_MAX, WORKERS_MAX};
use ringway_config::{AddressError, AdminBind, BindAddress, Workers};

/// `balance` of the configuration.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Balance {
    RoundRobin,
    LeastConnections,
    Random,
    SourceHash,
    Maglev,
}

impl From<Balance> for Algorithm {
    fn from(balance: Balance) -> Algorithm {
        match balance {
            Balance::RoundRobin => Algorithm::RoundRobin,
            Balance::LeastConnections => Algorithm::LeastConnections,
            Balance::Random => Algorithm::Random,
            Balance::SourceHash => Algorithm::SourceHash,
            Balance::Maglev => Algorithm::Maglev,
        }
    }
}

/// `--health`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum HealthChoice {
    Tcp,
    Off,
}

/// `--workers`.
#[derive(Debug, Clone)]
pub(crate) struct WorkersChoice(pub(crate) Workers);

impl FromStr for WorkersChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(WorkersChoice(Workers::Auto));
        }
        text.parse::<NonZeroU16>()
            .ok()
            .filter(|count| u32::from(count.get()) <= WORKERS_MAX)
            .map(|count| WorkersChoice(Workers::Count(count)))
            .ok_or_else(|| format!("write `auto` or a number from 1 to {WORKERS_MAX}"))
    }
}

/// `--admin` of a command that starts an instance.
#[derive(Debug, Clone)]
pub(crate) struct AdminChoice(pub(crate) Option<AdminBind>);

impl FromStr for AdminChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(AdminChoice(None));
        }
        text.parse()
            .map(|bind| AdminChoice(Some(bind)))
            .map_err(|error: AddressError| error.to_string())
    }
}

/// What the demo's listener takes: visitors' URLs have no place for a unix socket.
pub(crate) fn ip_and_port(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<BindAddress>() {
        Ok(BindAddress::Tcp(address)) => Ok(address),
        Ok(BindAddress::Unix(_)) => Err("the demo needs an IP address and a port".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The same for its admin endpoint.
pub(crate) fn loopback_and_port(text: &str) -> Result<SocketAddr, String> {
    let address = ip_and_port(text)?;
    match AdminBind::try_from(BindAddress::Tcp(address)) {
        Ok(_) => Ok(address),
        Err(error) => Err(error.to_string()),
    }
}

/// A duration as in the configuration: a whole number and `ms`, `s`, `m` or `h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write 500ms, 30s, 5m or 1h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return Err(wrong()),
    };
    // A longer time could overflow the clock; nobody watches a demo for a year.
    const MOST_MS: u64 = 8760 * 3600 * 1000;
    match number.checked_mul(unit_ms) {
        Some(ms) if ms <= MOST_MS => Ok(Duration::from_millis(ms)),
        Some(_) | None => Err(format!("`{text}` is more than a year")),
    }
}

/// `--state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateChoice {
    Active,
    Drain,
    Maintenance,
}

impl StateChoice {
    /// As requests have it.
    pub(crate) fn as_word(self) -> &'static str {
        match self {
            StateChoice::Active => "active",
            StateChoice::Drain => "drain",
            StateChoice::Maintenance => "maintenance",
        }
    }
}

/// `--weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightChoice {
    To(u32),
    OfTheFile,
}

impl FromStr for WeightChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "file" {
            return Ok(WeightChoice::OfTheFile);
        }
        let weight = text.parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
        let wrong = || format!("write a number from 0 to {WEIGHT_MAX}, or `file`");
        weight.map(WeightChoice::To).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_in_the_configuration() {
        for (text, ms) in [
            ("500ms", 500),
            ("3s", 3000),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "3",
            "s",
            "-1s",
            "1.5s",
            "3 s",
            "1d",
            "99999999999999999999s",
            "9999h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn workers_are_auto_or_a_number_in_range() {
        let read = |text: &str| text.parse::<WorkersChoice>().map(|choice| choice.0);
        assert_eq!(read("auto"), Ok(Workers::Auto));
        assert!(matches!(read("4"), Ok(Workers::Count(count)) if count.get() == 4));
        for wrong in ["0", "-1", "1025", "70000", "many", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
