//! `ringway completions` and `ringway man`: what a package installs beside the binary. Not the help
//! texts themselves: both come from the definitions in [`cli`](crate::cli). Invariant: a command that
//! the help does not show is in neither.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::VERSION;
use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::failure::Failure;
use crate::output::say;

/// Prints the completion script of a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    say(script(args.shell).trim_end())
}

/// Prints the page of `ringway`, or writes it and one page per command into a directory.
pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    // The pages' own crate leaves out what is hidden, but for the command `help` of clap.
    let command = Cli::command().disable_help_subcommand(true);
    match &args.directory {
        None => say(page(command)?.trim_end()),
        Some(directory) => write(command, directory),
    }
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(&Cli::command()), "ringway", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command line without the commands of later versions, which completion would offer.
fn shown(whole: &Command) -> Command {
    let commands = whole
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    Command::new("ringway")
        .version(VERSION)
        .args(whole.get_arguments().cloned())
        .subcommands(commands.cloned())
}

fn page(command: Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::Runtime(format!("the man page: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn write(command: Command, directory: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(command, directory).map_err(|error| {
        Failure::Runtime(format!("man pages in `{}`: {error}", directory.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completion_offers_every_command_that_the_help_shows_and_no_other() {
        let whole = Cli::command();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for command in whole.get_subcommands() {
                let name = command.get_name();
                let is_there = script.contains(&match shell {
                    Shell::Bash => format!("ringway,{name})"),
                    Shell::Zsh => format!("_ringway__subcmd__{name}_commands()"),
                    _ => format!("-a \"{name}\""),
                });
                assert_eq!(is_there, !command.is_hide_set(), "{shell} {name}: {script}");
            }
            for flag in ["listen", "health", "no-traffic"] {
                assert!(script.contains(flag), "{shell} {flag}");
            }
        }
    }

    #[test]
    fn the_page_names_every_command_that_the_help_shows_and_no_other() {
        let whole = Cli::command();
        let page = page(Cli::command().disable_help_subcommand(true)).unwrap();
        for command in whole.get_subcommands() {
            let name = format!("ringway\\-{}(1)", command.get_name());
            assert_eq!(
                page.contains(&name),
                !command.is_hide_set(),
                "{name}: {page}"
            );
        }
    }
}
