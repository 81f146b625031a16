//! Where log lines go: standard error, as text or JSON, from the configured level on. Not the access
//! log: that is a worker's and has its own queue. Invariant: the libraries below Ringway say no
//! more than warnings, whatever the level, so that `debug` shows Ringway and not its HTTP server.

use std::io::{IsTerminal, stderr};

use ringway_config::{Log, LogFormat, LogLevel};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging; to be called once.
pub(crate) fn init(log: &Log) {
    let level = level(log.level);
    // A target is a module path; the prefix covers `ringway` and every `ringway_*` crate.
    let filter = Targets::new()
        .with_target("ringway", level)
        .with_default(level.min(LevelFilter::WARN));
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => registry
            .with(layer.with_ansi(stderr().is_terminal()))
            .init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
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
