//! `ringway run`, and the part it shares with `ringway proxy`: from a checked configuration to the
//! end of the process. Not what runs: that is `ringway-control`. Invariant: nothing is started
//! before the whole configuration is known to be valid.

use std::path::PathBuf;

use ringway_config::Config;
use ringway_control::{Inheritance, Relaunch, RunParams, Signals, Watch, become_user, start};
use tracing::info;

use crate::cli::{RunArgs, ServiceArgs};
use crate::failure::Failure;
use crate::{COMMIT, VERSION, bug, logs};

/// Runs a file in the foreground until a signal or a drain ends it.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let path = &args.file.config;
    let load = || Ok(ringway_config::load(path)?);
    let watch = match args.watch {
        true => Watch::On,
        false => Watch::Off,
    };
    serve(load, Some(path.clone()), watch, &args.service)
}

/// Runs what `load` gives, which comes from the file `config_path` if there is one. It is loaded as
/// the user that will load it again.
pub(crate) fn serve(
    load: impl FnOnce() -> Result<Config, Failure>,
    config_path: Option<PathBuf>,
    watch: Watch,
    service: &ServiceArgs,
) -> Result<(), Failure> {
    // Before anything is opened.
    let inheritance = Inheritance::of_process()?;
    let relaunch = Relaunch::of_process(service.upgrade_timeout)
        .map_err(|error| Failure::Runtime(format!("/proc/self/exe: {error}")))?;
    let user = service.user.as_deref();
    let become_it = |name| become_user(name).map_err(|e| Failure::Runtime(e.to_string()));
    let config = match user.map_or(Ok(()), become_it).and_then(|()| load()) {
        Ok(config) => config,
        Err(failure) => {
            inheritance.refuse(&failure.to_string());
            return Err(failure);
        }
    };
    let log_level = Some(logs::init(&config.log));
    bug::end_on_panic();
    let running = start(RunParams {
        config,
        config_path,
        version: VERSION,
        commit: COMMIT,
        signals: Signals::Handle,
        watch,
        log_level,
        inheritance,
        relaunch: Some(relaunch),
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
