//! `idle`: opens connections, exchanges once on each so that both ends have seen it work, and holds
//! them. Invariant: a connection that ends while it is held is a failure.

use std::io::{self, Write};

use crate::cli::Idle;
use crate::clock::Clock;
use crate::crew;
use crate::open::Routes;
use crate::outcome::Outcome;
use crate::rr::{Connections, Pace};
use crate::stdin::StopSignal;

pub(crate) fn run(args: &Idle) -> io::Result<Outcome> {
    let clock = Clock::start();
    let routes = Routes::new(&args.target);
    let numbers = 0..args.connections.get();
    let patience = args.target.patience;
    let mut connections = Connections::open(&routes, numbers, clock, args.size, patience)?;
    let start_ns = clock.now_ns();
    connections.exchange(Pace::OnceEach { next: 0 })?;
    // For whoever waits for it: from here on nothing happens.
    println!("holding {}", connections.alive());
    io::stdout().flush()?;
    let (stop, hold) = match args.until_stdin_ends {
        true => (StopSignal::at_end_of_stdin()?, None),
        false => (StopSignal::never()?, Some(args.hold)),
    };
    connections.hold(stop.fd(), hold)?;
    let result = crew::Result {
        tally: connections.finish(),
        start_ns,
    };
    Ok(Outcome::of("idle", &result, start_ns))
}
