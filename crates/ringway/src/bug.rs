//! What a panic does to a running balancer: it ends the process, whichever thread it was and however this was built,
//! so that whoever started it starts it again. Not what any error of a peer or a host does.
//!
//! Invariant: no thread of a balancer is missing while the others go on.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::process;
use std::thread;

use crate::failure::Failure;
use crate::output::complain;
use crate::{COMMIT, VERSION};

/// From now on.
pub(crate) fn end_on_panic() {
    panic::set_hook(Box::new(|panic| {
        let failure = Failure::Runtime(describe(panic));
        // It has one where RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            complain(&backtrace.to_string());
        }
        complain(&failure.to_string());
        process::exit(failure.exit_code().into());
    }));
}

/// One line.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let place = panic.location().map(ToString::to_string);
    let place = place.as_deref().unwrap_or("an unknown place");
    let text = panic.payload().downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str));
    let why = text.unwrap_or("for no reason given").replace('\n', " ");
    format!(
        "a bug of this program: thread `{thread}` panicked at {place}: {why} (version {VERSION}, commit {COMMIT})"
    )
}
