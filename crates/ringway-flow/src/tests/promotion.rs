//! Which directions `auto` promotes: those that send much at a time, streams and large messages alike.

use super::rig::*;
use crate::{Input, Rearm, RelayMode};

fn connected() -> Rig {
    let mut rig = Rig::new(RelayMode::Auto, OFF);
    rig.on(Input::Accepted);
    rig.on(CONNECTED);
    rig
}

/// Messages of a full buffer, each answered before the next.
#[test]
fn large_messages_are_promoted_like_a_stream() {
    let mut rig = connected();
    for buffer in 0..3 {
        rig.on(got(Front, buffer, CHUNK));
        rig.on(sent(Front, CHUNK));
    }
    rig.plays(&[(
        got(Front, 3, CHUNK),
        &[send(Front, 3, 0, CHUNK), cancel_receive(Front)],
    )]);
}

#[test]
fn a_burst_counts_as_a_whole() {
    let mut rig = connected();
    for buffer in 0..2 {
        rig.on(streamed(Front, buffer, Rearm::Armed));
        rig.on(sent(Front, CHUNK));
        rig.on(got(Front, buffer, CHUNK / 2));
        rig.on(sent(Front, CHUNK / 2));
    }
    // 48 KiB so far.
    rig.plays(&[(
        streamed(Front, 3, Rearm::Armed),
        &[send(Front, 3, 0, CHUNK), cancel_receive(Front)],
    )]);
}

#[test]
fn a_small_burst_ends_the_streak() {
    let mut rig = connected();
    for buffer in 0..3 {
        rig.on(got(Front, buffer, CHUNK));
        rig.on(sent(Front, CHUNK));
    }
    rig.on(got(Front, 3, CHUNK - 1));
    rig.on(sent(Front, CHUNK - 1));
    rig.plays(&[(
        streamed(Front, 0, Rearm::Armed),
        &[send(Front, 0, 0, CHUNK)],
    )]);
}
