//! Bytes in both directions through buffers: order, budgets, back-pressure, shortage.

use super::rig::*;
use crate::CloseHow::Reset;
use crate::Output::MarkFirstByte;
use crate::{Fault, Input, Party, QUEUED_BYTES_MAX, Side, Why};

#[test]
fn sends_go_out_one_at_a_time_and_in_order() {
    let mut rig = Rig::relaying(OFF);
    rig.plays(&[
        (got(Front, 0, 100), &[send(Front, 0, 0, 100)]),
        (got(Front, 1, 50), &[]),
        (sent(Front, 30), &[send(Front, 0, 30, 70)]),
        (sent(Front, 70), &[recycle(0), send(Front, 1, 0, 50)]),
        (sent(Front, 50), &[recycle(1)]),
        (got(Front, 0, 5), &[send(Front, 0, 0, 5)]),
    ]);
    assert_eq!(rig.flow.received_bytes(Front), 155);
    assert_eq!(rig.flow.sent_bytes(Back), 150);
    assert_eq!(rig.flow.spliced_bytes(Front), 0);
}

#[test]
fn the_directions_do_not_wait_for_each_other() {
    Rig::relaying(OFF).plays(&[
        (got(Front, 0, 100), &[send(Front, 0, 0, 100)]),
        (got(Back, 1, 200), &[MarkFirstByte, send(Back, 1, 0, 200)]),
        (got(Back, 2, 10), &[]),
        (sent(Back, 200), &[recycle(1), send(Back, 2, 0, 10)]),
        (sent(Front, 100), &[recycle(0)]),
        (sent(Back, 10), &[recycle(2)]),
    ]);
}

#[test]
fn a_half_holds_no_more_than_its_bound() {
    let mut rig = Rig::relaying(OFF);
    rig.plays(&[
        (got(Front, 0, CHUNK), &[send(Front, 0, 0, CHUNK)]),
        (got(Front, 1, CHUNK), &[]),
        (got(Front, 2, CHUNK), &[]),
        (got_last(Front, 3, CHUNK), &[]),
        // Part of a buffer frees nothing.
        (sent(Front, CHUNK - 1), &[send(Front, 0, CHUNK - 1, 1)]),
        (sent(Front, 1), &[recycle(0), send(Front, 1, 0, CHUNK)]),
        // Half of the bound is free: worth a receive again, of whole buffers.
        (
            sent(Front, CHUNK),
            &[
                recycle(1),
                send(Front, 2, 0, CHUNK),
                receive(Front, 2 * CHUNK),
            ],
        ),
    ]);
    assert_eq!(BUDGET, QUEUED_BYTES_MAX);
}

#[test]
fn a_budget_is_what_is_left_rounded_down_to_whole_buffers() {
    Rig::relaying(OFF).plays(&[(
        got_last(Front, 0, 100),
        &[send(Front, 0, 0, 100), receive(Front, 3 * CHUNK)],
    )]);
}

#[test]
fn many_small_pieces_stop_the_receive_until_they_are_sent() {
    let mut rig = Rig::relaying(OFF);
    assert_eq!(rig.on(got(Front, 0, 10)), [send(Front, 0, 0, 10)]);
    for buffer in 1..15 {
        assert_eq!(rig.on(got(Front, buffer, 10)), []);
    }
    rig.plays(&[
        (got(Front, 15, 10), &[cancel_receive(Front)]),
        // One that was under way.
        (got(Front, 16, 10), &[]),
        (cancelled(Front), &[]),
    ]);
    for buffer in 0..8 {
        let next = send(Front, buffer + 1, 0, 10);
        assert_eq!(rig.on(sent(Front, 10)), [recycle(buffer), next]);
    }
    rig.plays(&[(
        sent(Front, 10),
        &[recycle(8), send(Front, 9, 0, 10), receive(Front, 3 * CHUNK)],
    )]);
}

#[test]
fn a_receive_that_ends_before_its_cancellation_arrives_is_over() {
    let mut rig = Rig::relaying(OFF);
    for buffer in 0..15 {
        rig.on(got(Front, buffer, 10));
    }
    rig.plays(&[
        (got(Front, 15, 10), &[cancel_receive(Front)]),
        (got_last(Front, 16, 10), &[]),
    ]);
    for _ in 0..8 {
        rig.on(sent(Front, 10));
    }
    let again = rig.on(sent(Front, 10));
    assert_eq!(again[2..], [receive(Front, 3 * CHUNK)]);
    // The cancellation may meet the new receive instead: then that one is repeated.
    rig.plays(&[(cancelled(Front), &[receive(Front, 3 * CHUNK)])]);
    // And a receive that is armed again can be stopped again.
    for buffer in 0..7 {
        assert_eq!(rig.on(got(Front, buffer, 10)), []);
    }
    assert_eq!(rig.on(got(Front, 7, 10)), [cancel_receive(Front)]);
}

#[test]
fn a_receive_starved_of_buffers_waits_until_some_are_free() {
    Rig::relaying(OFF).plays(&[
        (got(Front, 0, 100), &[send(Front, 0, 0, 100)]),
        (Input::Starved { from: Front }, &[]),
        (sent(Front, 100), &[recycle(0)]),
        (
            Input::BuffersFree { from: Front },
            &[receive(Front, BUDGET)],
        ),
    ]);
}

#[test]
fn free_buffers_do_not_lift_the_bound() {
    let mut rig = Rig::relaying(OFF);
    for buffer in 0..3 {
        rig.on(got(Front, buffer, CHUNK));
    }
    rig.plays(&[
        (Input::Starved { from: Front }, &[]),
        (Input::BuffersFree { from: Front }, &[]),
        (
            sent(Front, CHUNK),
            &[
                recycle(0),
                send(Front, 1, 0, CHUNK),
                receive(Front, 2 * CHUNK),
            ],
        ),
    ]);
}

#[test]
fn one_shot_receives_are_repeated() {
    for side in Side::BOTH {
        let mut rig = Rig::relaying(OFF);
        let outputs = rig.on(got_last(side, 0, 100));
        let again = [send(side, 0, 0, 100), receive(side, 3 * CHUNK)];
        assert!(outputs.ends_with(&again), "{outputs:?}");
    }
}

#[test]
fn a_full_destination_is_polled_and_gets_the_same_bytes_again() {
    let mut rig = Rig::relaying(OFF);
    rig.plays(&[
        (got(Front, 0, 100), &[send(Front, 0, 0, 100)]),
        (sent(Front, 60), &[send(Front, 0, 60, 40)]),
        (send_failed(Front, Fault::WouldBlock), &[poll_out(Front)]),
        // More bytes wait with them, and so does the end.
        (got(Front, 1, 10), &[]),
        (fin(Front), &[]),
        (Input::Writable { from: Front }, &[send(Front, 0, 60, 40)]),
        (sent(Front, 40), &[recycle(0), send(Front, 1, 0, 10)]),
        (sent(Front, 10), &[recycle(1), shut(Back)]),
    ]);
}

#[test]
fn a_flow_that_closes_while_a_destination_is_full_gives_its_buffers_back() {
    let mut rig = Rig::relaying(OFF);
    rig.on(got(Front, 0, 100));
    rig.plays(&[
        (send_failed(Front, Fault::WouldBlock), &[poll_out(Front)]),
        (
            Input::Close(Why::Idle),
            &[cancel_all(Front), cancel_all(Back), recycle(0)],
        ),
        (cancelled(Front), &[]),
        (cancelled(Back), &[]),
        (
            Input::Writable { from: Front },
            &over(Reset, Reset, Party::Ringway, Why::Idle),
        ),
    ]);
}
