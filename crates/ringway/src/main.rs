//! The command `ringway`: reads the command line, hands over to one module per command, and turns
//! its end into an exit code. Not the balancer: that is `ringway-control` and what is below it.
//! Invariant: every way out but a signal and a panic (see [`bug`]) goes through `main`, and every exit
//! code is in [`failure`].
#![forbid(unsafe_code)]

mod backend;
mod bug;
mod check;
mod cli;
mod client;
mod demo;
mod doctor;
mod drain;
mod explain;
mod failure;
mod logs;
mod output;
mod packaging;
mod proxy;
mod reload;
mod run;
mod snapshot;
mod status;
mod table;
mod top;
mod upgrade;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use failure::Failure;

/// The version of this build.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit of this build, or `unknown`.
const COMMIT: &str = env!("RINGWAY_COMMIT");

fn main() -> ExitCode {
    // Wrong usage ends here, with exit code 2 as in the table of `failure`.
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.to_string());
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Schema => check::schema(),
        Command::Proxy(args) => proxy::proxy(args),
        Command::Demo(args) => demo::demo(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Status(args) => status::status(&args),
        Command::Backend(args) => backend::backend(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Drain(args) => drain::drain(&args),
        Command::Reload(args) => reload::reload(&args),
        Command::Completions(args) => packaging::completions(&args),
        Command::Man(args) => packaging::man(&args),
        Command::Top(args) => top::top(&args),
        Command::Upgrade(args) => upgrade::upgrade(&args),
    }
}
