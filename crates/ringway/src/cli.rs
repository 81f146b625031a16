//! The command line: every command, flag and help text. Not what a command does. Invariant: every
//! command's help ends with an example, and a value that is wrong is refused here, by clap, with
//! exit code 2.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use ringway_config::{BackendAddress, BindAddress};

mod values;

use values::{duration, ip_and_port, loopback_and_port};

pub(crate) use values::{
    AdminChoice, Balance, HealthChoice, StateChoice, WeightChoice, WorkersChoice,
};

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
    /// Say what would become of a connection: rule, pool, backend, and why
    #[command(
        long_about = "Say what a running instance would do with a connection: which worker, whether it is let in,\n\
            which route and pool, which backend, and why not the others.\n\n\
            Nothing comes of it: no place is taken, no turn passes. Wrong arguments are exit code 2.",
        after_help = "Example: ringway explain --listener web --source 192.0.2.7:5000 --sni api.example.com"
    )]
    Explain(ExplainArgs),
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
    /// Take a backend of a running instance out of use, or give it another weight
    #[command(
        long_about = "Take a backend of a running instance out of use and back, or give it another weight.\n\n\
            `drain`: no new connections; those it has go on, and it is still checked. `maintenance`: the\n\
            same, and nobody checks it. `active`: in use again. What is asked for here holds across\n\
            reloads until it is asked for otherwise, the backend leaves the file, or, for a weight, the\n\
            file gives it another one; not across a restart. Without --state and --weight it says what\n\
            there is.",
        after_help = "Example: ringway backend web 127.0.0.1:9001 --state drain --wait 5m"
    )]
    Backend(BackendArgs),
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
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// The listener it would come to
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: String,
    /// The client; where a PROXY header is required, the client that it announces
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) source: Option<String>,
    /// The server name it would ask for
    #[arg(long, value_name = "NAME")]
    pub(crate) sni: Option<String>,
    /// The protocols it would offer, with commas between them
    #[arg(long, value_name = "PROTOCOLS")]
    pub(crate) alpn: Option<String>,
    /// Who would send the PROXY header [default: somebody who is trusted]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) sender: Option<String>,
    /// Print the answer as it came, in JSON
    #[arg(long)]
    pub(crate) json: bool,
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
pub(crate) struct BackendArgs {
    /// The pool
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// The backend's address in that pool
    #[arg(value_name = "ADDR")]
    pub(crate) address: BackendAddress,
    /// Whether it takes new connections
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) state: Option<StateChoice>,
    /// Its share of new connections, or `file` for what the file says
    #[arg(long, value_name = "N|file")]
    pub(crate) weight: Option<WeightChoice>,
    /// Return when it has no connection left; exit code 1 if that takes longer than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) instance: Instance,
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
}
