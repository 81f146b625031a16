//! Before a backend is chosen: the client's first bytes are looked at.

use super::rig::*;
use crate::CloseHow::{Fin, Reset};
use crate::Output::{CancelConnect, Connect, DiscardBack, Gather, Look, MarkConnected};
use crate::{CloseHow, Finding, FlowParams, Input, Party, RelayMode, Room, Timeouts, Why};

const MORE: Input = Input::Looked(Finding::More);
const REFUSE: Input = Input::Looked(Finding::Refuse);

const fn route(skip: u32) -> Input {
    Input::Looked(Finding::Route { skip })
}

fn looking_with(timeouts: Timeouts, over: CloseHow) -> Rig {
    let params = FlowParams::new(&timeouts, RelayMode::Copy, 3, CHUNK, over);
    let mut rig = Rig::with(params.looking_first(millis(5_000)));
    rig.plays(&[(Input::Accepted, &[receive(Front, BUDGET)])]);
    rig
}

fn looking() -> Rig {
    looking_with(OFF, Reset)
}

/// The first piece has come, and tells nothing yet.
fn begun() -> Rig {
    let mut rig = looking();
    rig.plays(&[(got(Front, 0, 100), &[Look]), (MORE, &[])]);
    rig
}

#[test]
fn pieces_are_kept_together_until_they_tell_where_to() {
    let mut rig = begun();
    let together = Gather {
        to: 0,
        at: 100,
        from: 1,
        len: 50,
        rest: 0,
    };
    rig.plays(&[
        (got(Front, 1, 50), &[together, recycle(1), Look]),
        (route(0), &[Connect]),
        (got(Front, 2, 10), &[]),
        (
            CONNECTED,
            &[MarkConnected, send(Front, 0, 0, 150), receive(Back, BUDGET)],
        ),
        (sent(Front, 150), &[recycle(0), send(Front, 2, 0, 10)]),
    ]);
    assert_eq!(rig.flow.received_bytes(Front), 160);
}

#[test]
fn skipped_bytes_are_not_sent_and_not_counted() {
    let mut rig = looking();
    rig.plays(&[
        (got(Front, 0, 100), &[Look]),
        (route(28), &[Connect]),
        (
            CONNECTED,
            &[MarkConnected, send(Front, 0, 28, 72), receive(Back, BUDGET)],
        ),
        (sent(Front, 72), &[recycle(0)]),
    ]);
    assert_eq!(rig.flow.received_bytes(Front), 72);
    assert_eq!(rig.flow.sent_bytes(Back), 72);
}

#[test]
fn where_all_bytes_are_skipped_their_buffers_go_at_once() {
    let mut rig = looking();
    rig.plays(&[
        (got(Front, 0, CHUNK), &[Look]),
        (MORE, &[]),
        (got(Front, 1, 100), &[Look]),
    ]);
    assert_eq!(rig.waiting(), [(0, CHUNK), (1, 100)]);
    rig.plays(&[
        (route(CHUNK + 100), &[recycle(0), recycle(1), Connect]),
        (CONNECTED, &[MarkConnected, receive(Back, BUDGET)]),
    ]);
    assert_eq!(rig.flow.received_bytes(Front), 0);
}

/// What the flow holds bounds what can be looked at; the last part of a buffer counts.
#[test]
fn it_collects_as_much_as_it_may_hold_and_then_gives_up() {
    let mut rig = looking();
    for buffer in 0..3 {
        rig.plays(&[(got(Front, buffer, CHUNK), &[Look]), (MORE, &[])]);
    }
    rig.plays(&[
        (got_last(Front, 3, CHUNK - 5), &[Look]),
        (MORE, &[receive(Front, 5)]),
    ]);
    let together = Gather {
        to: 3,
        at: CHUNK - 5,
        from: 4,
        len: 5,
        rest: 0,
    };
    rig.plays(&[(got_last(Front, 4, 5), &[together, recycle(4), Look])]);
    assert_eq!(rig.waiting().len(), 4);
    let over = [
        recycle(0),
        recycle(1),
        recycle(2),
        recycle(3),
        close(Front, Reset),
        finished(Party::Ringway, Why::Handshake),
    ];
    rig.plays(&[(MORE, &over)]);
}

#[test]
fn while_buffers_are_scarce_one_is_filled() {
    let mut rig = begun();
    rig.room = Room::Scarce;
    rig.plays(&[(
        got_last(Front, 1, 50),
        &[
            Gather {
                to: 0,
                at: 100,
                from: 1,
                len: 50,
                rest: 0,
            },
            recycle(1),
            Look,
        ],
    )]);
    rig.plays(&[(MORE, &[receive(Front, CHUNK - 150)])]);
    rig.plays(&[(
        got_last(Front, 2, CHUNK - 150),
        &[
            Gather {
                to: 0,
                at: 150,
                from: 2,
                len: CHUNK - 150,
                rest: 0,
            },
            recycle(2),
            Look,
        ],
    )]);
    // The deadline or a reset is waited for, or somebody else's end.
    rig.plays(&[(MORE, &[watch(Front)])]);
}

#[test]
fn who_is_refused_gets_what_the_listener_says() {
    for over in [Fin, Reset] {
        let mut rig = looking_with(OFF, over);
        rig.plays(&[
            (got(Front, 0, 100), &[Look]),
            (REFUSE, &[cancel_all(Front), recycle(0)]),
            (
                cancelled(Front),
                &[close(Front, over), finished(Party::Ringway, Why::Refused)],
            ),
        ]);
    }
}

#[test]
fn the_deadline_counts_from_accept_whatever_comes() {
    let mut rig = looking();
    for buffer in 0..4 {
        assert_eq!(rig.due_in(), Some((5 - u64::from(buffer)) * SECOND));
        rig.wait(SECOND);
        rig.on(got(Front, buffer, 1));
        rig.on(MORE);
    }
    assert_eq!(rig.due_in(), Some(SECOND));
    assert_eq!(rig.expire(), [cancel_all(Front), recycle(0)]);
    let end = [
        close(Front, Reset),
        finished(Party::Ringway, Why::Handshake),
    ];
    rig.plays(&[(cancelled(Front), &end)]);
}

/// Neither of them knows yet what is payload.
#[test]
fn other_deadlines_wait_but_for_the_lifetime() {
    let timeouts = Timeouts {
        first_byte: millis(1_000),
        idle: millis(1_000),
        half_close: millis(1_000),
        ..OFF
    };
    let mut rig = looking_with(timeouts, Reset);
    assert_eq!(rig.due_in(), Some(5 * SECOND));
    rig.wait(2 * SECOND);
    rig.on(got(Front, 0, 28));
    // Nothing but a header has come, so the first byte is overdue by now.
    rig.plays(&[(route(28), &[recycle(0), Connect])]);
    assert_eq!(rig.due_in(), Some(0));
    let timeouts = Timeouts {
        lifetime: millis(1_000),
        ..OFF
    };
    assert_eq!(looking_with(timeouts, Reset).due_in(), Some(SECOND));
}

#[test]
fn a_client_that_leaves_early_bothers_nobody() {
    let gone = |why| {
        [
            recycle(0),
            close(Front, Reset),
            finished(Party::Client, why),
        ]
    };
    begun().plays(&[(fin(Front), &gone(Why::Fin))]);
    begun().plays(&[(reset(Front), &gone(Why::Reset))]);
    let mut rig = looking();
    let gone = [close(Front, Reset), finished(Party::Client, Why::Fin)];
    rig.plays(&[(fin(Front), &gone)]);
}

#[test]
fn who_found_no_buffer_is_looked_at_when_there_is_one() {
    let mut rig = looking();
    rig.plays(&[
        (Input::Starved { from: Front }, &[watch(Front)]),
        (
            Input::BuffersFree { from: Front },
            &[receive(Front, BUDGET)],
        ),
        (got(Front, 0, 9), &[Look]),
        (route(0), &[Connect]),
    ]);
}

#[test]
fn attempts_and_their_deadlines_are_those_of_any_flow() {
    let timeouts = Timeouts {
        connect: millis(300),
        ..OFF
    };
    let mut rig = looking_with(timeouts, Reset);
    rig.plays(&[(got(Front, 0, 9), &[Look]), (route(4), &[Connect])]);
    assert_eq!(rig.due_in(), Some(300 * MS));
    assert_eq!(rig.expire(), [CancelConnect]);
    rig.plays(&[
        (
            Input::Connected(Err(crate::Fault::Cancelled)),
            &[DiscardBack, Connect],
        ),
        (
            CONNECTED,
            &[MarkConnected, send(Front, 0, 4, 5), receive(Back, BUDGET)],
        ),
    ]);
}
