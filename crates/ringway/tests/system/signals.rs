//! Signals that do not end an instance.

use std::io::Write;

use rustix::process::Signal;

use crate::backend::Backend;
use crate::eventually::until_file;
use crate::peers::read_exactly;
use crate::setup::Setup;

#[test]
fn the_signals_of_later_versions_and_those_of_pipes_do_no_harm() {
    let backend = Backend::new();
    let ringway = Setup::to([backend.address()]).workers(2).start();
    let (mut client, accepted) = backend.pair(&ringway);
    for signal in [Signal::HUP, Signal::USR1, Signal::PIPE] {
        ringway.signal(signal);
    }
    let is_told = |log: &str| log.contains("SIGHUP");
    until_file(&ringway.dir().join("log"), "what it did not do", is_told);
    client.write_all(b"still there").unwrap();
    assert_eq!(&read_exactly::<11>(&accepted), b"still there");
    let (mut another, also) = backend.pair(&ringway);
    another.write_all(b"me too").unwrap();
    assert_eq!(&read_exactly::<6>(&also), b"me too");
}
