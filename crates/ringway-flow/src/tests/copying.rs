//! Bytes in both directions through buffers: order, budgets, back-pressure, shortage.

use super::rig::*;
use crate::CloseHow::Reset;
use crate::Output::MarkFirstByte;
use crate::{Fault, Input, Output, Party, QUEUED_BYTES_MAX, Side, Why};

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

fn gather(to: u16, at: u32, from: u16, len: u32, rest: u32) -> Output {
    Output::Gather {
        to,
        at,
        from,
        len,
        rest,
    }
}

#[test]
fn pieces_that_would_need_a_fifth_buffer_are_gathered() {
    let mut rig = Rig::relaying(OFF);
    rig.plays(&[
        (got(Front, 0, 10), &[send(Front, 0, 0, 10)]),
        (got(Front, 1, 20), &[]),
        (got(Front, 2, CHUNK - 40), &[]),
        (got(Front, 3, 30), &[]),
        // Also behind what is being sent.
        (
            got(Front, 4, 40),
            &[
                gather(0, 10, 1, 20, 0),
                recycle(1),
                gather(0, 30, 2, CHUNK - 40, 0),
                recycle(2),
                gather(0, CHUNK - 10, 3, 10, 20),
                gather(3, 20, 4, 40, 0),
                recycle(4),
            ],
        ),
        (sent(Front, 10), &[send(Front, 0, 10, CHUNK - 10)]),
        (
            sent(Front, CHUNK - 10),
            &[recycle(0), send(Front, 3, 0, 60)],
        ),
        (sent(Front, 60), &[recycle(3)]),
    ]);
    assert_eq!(rig.flow.sent_bytes(Back), rig.flow.received_bytes(Front));
}

#[test]
fn single_bytes_never_hold_more_than_four_buffers() {
    let mut rig = Rig::relaying(OFF);
    rig.on(got(Front, 0, 1));
    rig.on(send_failed(Front, Fault::WouldBlock));
    let mut held = vec![0];
    for _ in 1..50_000 {
        let buffer = (0..).find(|it| !held.contains(it)).unwrap();
        held.push(buffer);
        for output in rig.on(got(Front, buffer, 1)) {
            match output {
                Output::Recycle { buffer } => held.retain(|it| *it != buffer),
                Output::Gather { .. } => {}
                _ => panic!("{output:?}"),
            }
        }
        assert!(held.len() <= 4);
    }
    // Three of them are full.
    assert_eq!(held.len(), 4);
    rig.plays(&[
        (
            Input::Writable { from: Front },
            &[send(Front, held[0], 0, CHUNK)],
        ),
        (
            sent(Front, CHUNK),
            &[recycle(held[0]), send(Front, held[1], 0, CHUNK)],
        ),
        (
            sent(Front, CHUNK),
            &[recycle(held[1]), send(Front, held[2], 0, CHUNK)],
        ),
        (
            sent(Front, CHUNK),
            &[
                recycle(held[2]),
                send(Front, held[3], 0, 50_000 - 3 * CHUNK),
            ],
        ),
    ]);
}

#[test]
fn a_receive_starved_of_buffers_waits_until_some_are_free() {
    Rig::relaying(OFF).plays(&[
        (got(Front, 0, 100), &[send(Front, 0, 0, 100)]),
        (Input::Starved { from: Front }, &[]),
        (sent(Front, 100), &[recycle(0), watch(Front)]),
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
