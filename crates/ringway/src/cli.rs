//! The command line: every command, flag and help text. Not what a command does. Invariant: every
//! command's help ends with an example, and a value that is wrong is refused here, by clap, with
//! exit code 2.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ringway_balance::Algorithm;
use ringway_config::limits::WORKERS_MAX;
use ringway_config::{AddressError, AdminBind, BackendAddress, BindAddress, Workers};

pub(crate) const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("RINGWAY_COMMIT"), ")");

/// A TCP load balancer for Linux: one io_uring worker per CPU, nothing shared between them.
#[derive(Debug, Parser)]
#[command(name = "ringway", version = VERSION, arg_required_else_help = true)]
#[command(after_help = "Example: ringway demo\n\n\
    Exit codes: 0 success or graceful end, 1 runtime failure, 2 wrong usage,\n\
    69 this kernel or its limits cannot run it, 78 invalid configuration.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the balancer in the foreground
    #[command(
        long_about = "Run the balancer in the foreground.\n\n\
            SIGTERM and the first SIGINT drain and exit; a second one exits at once. SIGHUP reads the\n\
            file again. SIGUSR2 replaces the process by a new one of the binary at the same path: see\n\
            `ringway upgrade --help`.",
        after_help = "Example: ringway run -c /etc/ringway/ringway.yaml"
    )]
    Run(RunArgs),
    /// Validate a configuration without binding anything
    #[command(
        long_about = "Validate a configuration without binding anything.\n\n\
            Prints `FILE: ok` and a summary, or every error with its place and exit code 78. A file\n\
            that is missing or cannot be read is exit code 78, too.",
        after_help = "Example: ringway check -c ringway.yaml"
    )]
    Check(ConfigFile),
    /// Print the JSON Schema of the configuration
    #[command(
        long_about = "Print the JSON Schema of the configuration.\n\n\
            Editors complete and validate from it, for instance the YAML language server after a\n\
            first line `# yaml-language-server: $schema=ringway.schema.json`.",
        after_help = "Example: ringway schema > ringway.schema.json"
    )]
    Schema,
    /// Balance without a file
    #[command(
        long_about = "Balance without a file.\n\n\
            An address is IP:PORT, [IPV6]:PORT or unix:/path. Everything the flags do not say is as\n\
            in a configuration that does not say it.",
        after_help = "Example: ringway proxy --listen 0.0.0.0:8080 --to 10.0.0.1:80 --to 10.0.0.2:80"
    )]
    Proxy(ProxyArgs),
    /// Start backends, a balancer and its traffic on loopback, and watch them
    #[command(
        long_about = "Start three small backends, the balancer in front of them and a little traffic,\n\
            all on loopback, and show how connections spread.\n\n\
            Needs no file and no privilege. Ctrl-C ends it with a summary.",
        after_help = "Example: ringway demo, then in another terminal: curl http://127.0.0.1:8080/"
    )]
    Demo(DemoArgs),
    /// Say what this kernel and these limits allow
    #[command(
        long_about = "Say what this kernel and these limits allow: one line each, with the remedy.\n\n\
            Exit code 69 if `ringway run` could not work here.",
        after_help = "Example: ringway doctor"
    )]
    Doctor(DoctorArgs),
    /// Show a running instance: listeners, backends, workers
    #[command(after_help = "Example: ringway status --admin 127.0.0.1:9901")]
    Status(StatusArgs),
    /// Watch a running instance: rates by worker, listener and backend
    #[command(
        long_about = "Watch a running instance: rates by worker, listener and backend.\n\n\
            Tab shows another table, < and > choose the column to sort by, r turns the order round,\n\
            t shows only what is in trouble, arrows and Page keys scroll, p pauses, q ends.",
        after_help = "Example: ringway top --admin unix:/run/ringway/admin.sock"
    )]
    Top(TopArgs),
    /// Let a running instance finish its connections and exit
    #[command(
        long_about = "Let a running instance finish its connections and exit.\n\n\
            The same as SIGTERM: not ready at once, no new connections after `shutdown.delay`, the\n\
            end after `shutdown.drain` at the latest. Returns as soon as the drain has begun.",
        after_help = "Example: ringway drain --admin unix:/run/ringway/admin.sock"
    )]
    Drain(Instance),
    /// Let a running instance read its configuration again
    #[command(
        long_about = "Let a running instance read its configuration again.\n\n\
            The same as SIGHUP, with an answer: what changed, once every worker runs it. Established\n\
            connections stay. Where the file is invalid, nothing changes, every error is printed with\n\
            its place, and the exit code is 78; where this host cannot run it, such as a port in use,\n\
            nothing changes and the exit code is 1.",
        after_help = "Example: ringway reload --admin 127.0.0.1:9901"
    )]
    Reload(Instance),
    /// Print the completion script of a shell
    #[command(
        long_about = "Print the completion script of a shell.\n\n\
            README.md says where each shell looks for it.",
        after_help = "Example: ringway completions bash > ~/.local/share/bash-completion/completions/ringway"
    )]
    Completions(CompletionsArgs),
    /// Print the man page, or write those of all commands
    #[command(
        long_about = "Print the man page of ringway, or write it and one page per command into a directory.",
        after_help = "Example: ringway man | man -l -, or to install: ringway man /usr/local/share/man/man1"
    )]
    Man(ManArgs),
    /// Replace a running instance by a new process, without losing a connection
    #[command(
        long_about = "Replace a running instance by a new process, without losing a connection.\n\n\
            The instance starts the binary at the path it was started by, with the same arguments,\n\
            and hands its listening sockets over. The new process reads its configuration anew;\n\
            when it accepts, the old one drains. Returns when that is done. If the new process\n\
            fails, or takes longer than `--upgrade-timeout` of the instance, exit code 1 and the\n\
            reason; the instance serves as before.",
        after_help = "Example: ringway upgrade --admin 127.0.0.1:9901"
    )]
    Upgrade(Instance),
    #[command(hide = true, after_help = "Example: ringway backend")]
    Backend(Later),
}

/// The arguments of a command that a later version will have: anything.
#[derive(Debug, Args)]
pub(crate) struct Later {
    /// Not supported by this version
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration, a YAML file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Read the file again by itself when it has changed
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
}

/// What is about the process and not about balancing.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServiceArgs {
    /// Become this user, from root, keeping nothing but CAP_NET_BIND_SERVICE
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// How long the new process of an upgrade may take until it could serve
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub(crate) upgrade_timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    /// Where to accept connections; may be repeated
    #[arg(long, value_name = "ADDR", required = true, num_args = 1..)]
    pub(crate) listen: Vec<BindAddress>,
    /// A backend to connect to; may be repeated
    #[arg(long, value_name = "ADDR", required = true, num_args = 1..)]
    pub(crate) to: Vec<BackendAddress>,
    /// How connections are spread
    #[arg(
        long,
        value_enum,
        value_name = "ALGORITHM",
        default_value = "least_connections"
    )]
    pub(crate) balance: Balance,
    /// How backends are checked
    #[arg(long, value_enum, value_name = "CHECK", default_value = "tcp")]
    pub(crate) health: HealthChoice,
    /// One worker per usable CPU, or a number of them
    #[arg(long, value_name = "auto|N", default_value = "auto")]
    pub(crate) workers: WorkersChoice,
    /// Where the admin endpoint answers: a loopback address, unix:/path or off
    #[arg(long, value_name = "ADDR|off", default_value = "127.0.0.1:9901")]
    pub(crate) admin: AdminChoice,
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where to accept connections [default: 127.0.0.1:8080, or any free port if that is taken]
    #[arg(long, value_name = "IP:PORT", value_parser = ip_and_port)]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the admin endpoint answers [default: 127.0.0.1:9901, or any free port if that is taken]
    #[arg(long, value_name = "IP:PORT", value_parser = loopback_and_port)]
    pub(crate) admin: Option<SocketAddr>,
    /// One worker per usable CPU, or a number of them
    #[arg(long, value_name = "auto|N", default_value = "auto")]
    pub(crate) workers: WorkersChoice,
    /// Make no connections of its own
    #[arg(long)]
    pub(crate) no_traffic: bool,
    /// End after this time, such as 500ms, 30s or 5m, instead of at Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// Print the answer as it came, in JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// List every backend, also where there are many that are up
    #[arg(long, conflicts_with = "json")]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// How often to ask, such as 500ms or 5s
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    pub(crate) interval: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write ringway.1, ringway-run.1 and so on; it has to exist
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// Which running instance is meant.
#[derive(Debug, Args)]
pub(crate) struct Instance {
    /// The instance's admin endpoint: IP:PORT or unix:/path [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    pub(crate) admin: Option<BackendAddress>,
    /// Take the admin endpoint from this configuration
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The token that changes may need, if it is not that of the configuration
    #[arg(long, value_name = "FILE", env = "RINGWAY_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

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
fn ip_and_port(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<BindAddress>() {
        Ok(BindAddress::Tcp(address)) => Ok(address),
        Ok(BindAddress::Unix(_)) => Err("the demo needs an IP address and a port".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The same for its admin endpoint.
fn loopback_and_port(text: &str) -> Result<SocketAddr, String> {
    let address = ip_and_port(text)?;
    match AdminBind::try_from(BindAddress::Tcp(address)) {
        Ok(_) => Ok(address),
        Err(error) => Err(error.to_string()),
    }
}

/// A duration as in the configuration: a whole number and `ms`, `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_ends_with_an_example() {
        for command in Cli::command().get_subcommands() {
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let wanted = format!("Example: ringway {}", command.get_name());
            assert!(
                after.starts_with(&wanted),
                "{}: {after}",
                command.get_name()
            );
        }
    }

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
