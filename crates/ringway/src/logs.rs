//! Where log lines go: standard error, as text or JSON, from the configured level on. Not the access
//! log: that is a worker's and has its own queue. Invariant: the libraries below Ringway say no
//! more than warnings, whatever the level, so that `debug` shows Ringway and not its HTTP server.

use std::io::{IsTerminal, stderr};

use ringway_config::{Log, LogFormat, LogLevel};
use ringway_control::LevelSwitch;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging; to be called once. The level can be changed afterwards.
pub(crate) fn init(log: &Log) -> LevelSwitch {
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => registry
            .with(layer.with_ansi(stderr().is_terminal()))
            .init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
    LevelSwitch(Box::new(move |level| {
        // It fails when the log itself is gone, and then nobody reads it.
        let _ = handle.reload(targets(level));
    }))
}

/// A target is a module path; the prefix covers `ringway` and every `ringway_*` crate.
fn targets(log: LogLevel) -> Targets {
    let level = level(log);
    Targets::new()
        .with_target("ringway", level)
        .with_default(level.min(LevelFilter::WARN))
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
