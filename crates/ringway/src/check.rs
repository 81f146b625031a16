//! `ringway check` and `ringway schema`: what can be said about a configuration without running it.
//! Invariant: nothing is bound and nothing is connected to.

use crate::cli::ConfigFile;
use crate::failure::Failure;
use crate::output::{pretty, say};

/// Prints `FILE: ok` and a summary, or fails with every error of the file.
pub(crate) fn check(args: &ConfigFile) -> Result<(), Failure> {
    let config = ringway_config::load(&args.config)?;
    say(&format!(
        "{}: ok\n{}",
        args.config.display(),
        ringway_config::summary(&config)
    ))
}

/// Prints the JSON Schema of the configuration.
pub(crate) fn schema() -> Result<(), Failure> {
    say(&pretty(&ringway_config::schema()))
}
