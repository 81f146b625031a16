//! The families that control knows the values of: one series per process, never per worker.
//!
//! **Invariant:** a value that is not known is left out, not written as zero.

use std::sync::Arc;

use super::{BackendScrape, Scrape};
use crate::block::BackendBlock;
use crate::declare;
use crate::label::{AdminState, CheckResult, EjectionState, ReloadResult};
use crate::process::ProcessStats;
use crate::text::{Exposition, Value};

/// Writes what is running, and on how many workers.
pub(super) fn render_build(scrape: &Scrape, out: &mut Exposition) {
    let labels = [scrape.build.version.as_str(), scrape.build.commit.as_str()];
    out.family(&declare::BUILD_INFO)
        .put(&labels, None, Value::Count(1));
    let workers = Value::Count(scrape.serving_workers);
    out.family(&declare::WORKERS).put(&[], None, workers);
}

/// Writes whether backends are up and in which state the operator wants them.
pub(super) fn render_backend_states(scrape: &Scrape, out: &mut Exposition) {
    let mut family = out.family(&declare::BACKEND_UP);
    for (labels, backend) in backends(scrape) {
        family.put(&labels, None, Value::Count(u64::from(backend.up)));
    }
    let mut family = out.family(&declare::BACKEND_STATE);
    for ([pool, address], backend) in backends(scrape) {
        for state in AdminState::ALL {
            let value = Value::Count(u64::from(backend.state == state));
            family.put(&[pool, address, state.as_label()], None, value);
        }
    }
    for ((pool, at), [name, address]) in scrape.topology.backends() {
        let blocks = scrape.workers.iter().map(|worker| &worker.blocks.backends);
        let blocks: Vec<_> = blocks
            .filter_map(|pools| pools.get(pool)?.get(at))
            .collect();
        for state in EjectionState::ALL {
            let gauge = |block: &&Arc<BackendBlock>| match state {
                EjectionState::Ejected => block.ejected.value(),
                EjectionState::HalfOpen => block.half_open.value(),
            };
            let value = Value::Level(blocks.iter().map(gauge).sum());
            family.put(&[name, address, state.as_label()], None, value);
        }
    }
}

/// Writes the health checks of the backends that have any.
pub(super) fn render_health_checks(scrape: &Scrape, out: &mut Exposition) {
    let checked = || backends(scrape).filter_map(|(at, b)| Some((at, b.health.as_deref()?)));
    let mut family = out.family(&declare::HEALTH_CHECKS);
    for ([pool, address], health) in checked() {
        for result in CheckResult::ALL {
            let value = Value::Count(health.checks(result));
            family.put(&[pool, address, result.as_label()], None, value);
        }
    }
    let mut family = out.family(&declare::HEALTH_LAST_CHECK);
    for (labels, health) in checked() {
        if let Some(millis) = health.last_check_unix_millis() {
            family.put(&labels, None, millis_since_1970(millis));
        }
    }
    let mut family = out.family(&declare::HEALTH_CHECK_TIME);
    for (at, name) in scrape.topology.pools() {
        let pool = scrape.pools.get(at);
        if let Some(snapshot) = pool.and_then(|pool| pool.health_check_time.as_ref()) {
            family.put_histogram(&[name], None, snapshot);
        }
    }
}

/// Writes the reloads and the connections that a drain waits for.
pub(super) fn render_configuration(scrape: &Scrape, out: &mut Exposition) {
    let mut family = out.family(&declare::CONFIG_RELOADS);
    for result in ReloadResult::ALL {
        let value = Value::Count(scrape.control.reloads[result].value());
        family.put(&[result.as_label()], None, value);
    }
    let applied = scrape.control.last_reload_success_unix_millis.value();
    if applied != 0 {
        out.family(&declare::CONFIG_LAST_RELOAD)
            .put(&[], None, millis_since_1970(applied));
    }
    let draining = Value::Count(scrape.draining_connections);
    out.family(&declare::DRAINING_CONNECTIONS)
        .put(&[], None, draining);
}

/// Writes what the kernel says about the process.
pub(super) fn render_process(process: &ProcessStats, out: &mut Exposition) {
    for (family, value) in [
        (&declare::PROCESS_CPU, process.cpu_millis.map(Value::Millis)),
        (
            &declare::PROCESS_OPEN_FDS,
            process.open_fds.map(Value::Count),
        ),
        (&declare::PROCESS_MAX_FDS, process.max_fds.map(Value::Count)),
        (
            &declare::PROCESS_RESIDENT,
            process.resident_bytes.map(Value::Count),
        ),
        (
            &declare::PROCESS_VIRTUAL,
            process.virtual_bytes.map(Value::Count),
        ),
        (&declare::PROCESS_THREADS, process.threads.map(Value::Count)),
        (
            &declare::PROCESS_START,
            process.start_unix_millis.map(Value::Millis),
        ),
    ] {
        if let Some(value) = value {
            out.family(family).put(&[], None, value);
        }
    }
}

/// The labels `pool` and `backend` of each backend of the configuration, and what control knows of it.
fn backends(scrape: &Scrape) -> impl Iterator<Item = ([&str; 2], &BackendScrape)> {
    scrape
        .topology
        .backends()
        .filter_map(|((pool, backend), labels)| {
            let known = scrape.pools.get(pool)?.backends.get(backend)?;
            known.is_offered.then_some((labels, known))
        })
}

/// A clock before 1970 is a clock that was never set: it counts as 1970.
fn millis_since_1970(millis: i64) -> Value {
    Value::Millis(u64::try_from(millis).unwrap_or(0))
}
