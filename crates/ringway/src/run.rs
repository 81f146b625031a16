//! `ringway run`, and the part it shares with `ringway proxy`: from a checked configuration to the
//! end of the process. Not what runs: that is `ringway-control`. Invariant: nothing is started
//! before the whole configuration is known to be valid.

use std::path::PathBuf;

use ringway_config::Config;
use ringway_control::{RunParams, Signals, start};
use tracing::info;

use crate::cli::ConfigFile;
use crate::failure::Failure;
use crate::{COMMIT, VERSION, logs};

/// Runs a file in the foreground until a signal or a drain ends it.
pub(crate) fn run(args: &ConfigFile) -> Result<(), Failure> {
    let config = ringway_config::load(&args.config)?;
    serve(config, Some(args.config.clone()))
}

/// Runs `config`, which came from the file `config_path` if there is one.
pub(crate) fn serve(config: Config, config_path: Option<PathBuf>) -> Result<(), Failure> {
    logs::init(&config.log);
    let running = start(RunParams {
        config,
        config_path,
        version: VERSION,
        commit: COMMIT,
        signals: Signals::Handle,
    })?;
    for (name, address) in running.listeners() {
        info!(listener = name, address, "listening");
    }
    if let Some(address) = running.admin() {
        info!(address, "admin endpoint");
    }
    running
        .run()
        .map_err(|error| Failure::Runtime(error.to_string()))
}
