//! The project's own checks: `cargo run -p xtask -- check | instructions | invariants`. Not a build system and not
//! a test runner. Invariant: it exits with 0 only if every rule that could be checked holds, and what
//! could not be checked is named.
#![forbid(unsafe_code)]

mod build;
mod check;
mod counts;
mod instructions;
mod invariants;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo run -p xtask -- COMMAND

  check                    purity of the crates, unsafe code, layout, headers, sizes
  instructions [OPTIONS]   what operations of the pure crates cost, compared with the reviewed figures
      --only WORD          only the operations whose name contains WORD
      --accept             take what was counted as reviewed: writes crates/xtask/counts.json
  invariants [OPTIONS]     what must always hold of the release binary, measured here
      --only WORD          only the checks whose name contains WORD
      --binaries DIR       ringway and ringway-bench from DIR instead of building them
      --idle-connections N so many idle ones, where descriptors allow it (20000)
      --gates              fail for the gates of crates/xtask/counts.json only, which a busy machine
                           does not move; the rest is printed for information
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let holds = match words.as_slice() {
        ["check"] => check::run(),
        ["instructions", options @ ..] => match instructions::Options::parse(options) {
            Some(options) => instructions::run(&options),
            None => return usage(),
        },
        ["invariants", options @ ..] => match invariants::Options::parse(options) {
            Some(options) => invariants::run(&options),
            None => return usage(),
        },
        _ => return usage(),
    };
    match holds {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}
