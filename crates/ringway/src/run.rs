//! `ringway run`, and the part it shares with `ringway proxy`: from a checked configuration to the
//! end of the process. Not what runs: that is `ringway-control`. Invariant: nothing is started
//! before the whole configuration is known to be valid.

use std::path::PathBuf;

use ringway_config::Config;
use ringway_control::{RunParams, Signals, Watch, start};
use tracing::info;

use crate::cli::RunArgs;
use crate::failure::Failure;
use crate::{COMMIT, VERSION, logs};

/// Runs a file in the foreground until a signal or a drain ends it.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let file = &args.file.config;
    let config = ringway_config::load(file)?;
    let watch = match args.watch {
        true => Watch::On,
        false => Watch::Off,
    };
    serve(config, Some(file.clone()), watch)
}

/// Runs `config`, which came from the file `config_path` if there is one.
pub(crate) fn serve(
    config: Config,
    config_path: Option<PathBuf>,
    watch: Watch,
) -> Result<(), Failure> {
    let log_level = Some(logs::init(&config.log));
    let running = start(RunParams {
        config,
        config_path,
        version: VERSION,
        commit: COMMIT,
        signals: Signals::Handle,
        watch,
        log_level,
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
