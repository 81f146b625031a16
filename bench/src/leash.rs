//! `leash`: runs a program that lives no longer than whoever holds the other end of standard input,
//! however that one ends. Invariant: nothing it started is left when it returns.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::Leash;

/// How long the program may take to end by itself.
const GRACE: Duration = Duration::from_millis(1500);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

pub(crate) fn run(args: &Leash) -> io::Result<()> {
    let (program, arguments) = args
        .program
        .split_first()
        .expect("invariant: the command line has one at least");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    println!("running {}", child.id());
    io::stdout().flush()?;
    let mut ignored = [0_u8; 64];
    let mut stdin = io::stdin().lock();
    while matches!(stdin.read(&mut ignored), Ok(count) if count > 0) {}
    end(&mut child)
}

/// Asks first, so that a program with processes of its own ends them.
fn end(child: &mut Child) -> io::Result<()> {
    let pid = Pid::from_child(child);
    // Fails only if it has ended already, which the wait finds.
    let _ = kill_process(pid, Signal::TERM);
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > GRACE {
            child.kill()?;
            child.wait()?;
            break;
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}
