//! Ends by reset: never before the bytes that came earlier, never mistaken for a FIN.

use super::rig::*;
use crate::CloseHow::{Fin, Reset};
use crate::Output::MarkFirstByte;
use crate::{Fault, Input, Party, Timeouts, Why};

#[test]
fn a_reset_with_nothing_before_it_is_passed_on_at_once() {
    for fault in [Fault::Reset, Fault::Other] {
        Rig::relaying(OFF).plays(&[
            (
                failed(Front, fault),
                &[cancel_receive(Back), check_unsent(Back)],
            ),
            (unsent(Back, 0), &[cancel_all(Back)]),
            (
                cancelled(Back),
                &over(Fin, Reset, Party::Client, Why::Reset),
            ),
        ]);
        Rig::relaying(OFF).plays(&[
            (
                failed(Back, fault),
                &[cancel_receive(Front), check_unsent(Front)],
            ),
            (cancelled(Front), &[]),
            (
                unsent(Front, 0),
                &over(Reset, Fin, Party::Backend, Why::Reset),
            ),
        ]);
    }
}

#[test]
fn a_reset_comes_after_the_bytes_before_it_and_their_acknowledgement() {
    let mut rig = Rig::relaying(OFF);
    rig.plays(&[
        (got(Back, 0, 100), &[MarkFirstByte, send(Back, 0, 0, 100)]),
        (got(Back, 1, 50), &[]),
        (reset(Back), &[cancel_receive(Front)]),
        (cancelled(Front), &[]),
        (sent(Back, 100), &[recycle(0), send(Back, 1, 0, 50)]),
        (sent(Back, 50), &[recycle(1), check_unsent(Front)]),
        (unsent(Front, 80), &[]),
    ]);
    for pause in [1, 2, 4, 8, 16, 32, 64, 64] {
        assert_eq!(rig.due_in(), Some(pause * MS));
        assert_eq!(rig.expire(), [check_unsent(Front)]);
        rig.on(unsent(Front, 80));
    }
    assert_eq!(rig.expire(), [check_unsent(Front)]);
    rig.plays(&[(
        unsent(Front, 0),
        &over(Reset, Fin, Party::Backend, Why::Reset),
    )]);
}

#[test]
fn a_peer_that_acknowledges_nothing_is_reset_in_the_end() {
    for (half_close, patience) in [(millis(200), 200 * MS), (None, 30 * SECOND)] {
        let mut rig = Rig::relaying(Timeouts { half_close, ..OFF });
        rig.plays(&[
            (reset(Front), &[cancel_receive(Back), check_unsent(Back)]),
            (cancelled(Back), &[]),
        ]);
        let start = rig.now;
        let mut last = rig.on(unsent(Back, 1));
        for _ in 0..1000 {
            if last.is_empty() {
                assert_eq!(rig.expire(), [check_unsent(Back)]);
                last = rig.on(unsent(Back, 1));
            }
        }
        assert_eq!(last, over(Fin, Reset, Party::Client, Why::Reset));
        let waited = rig.now.since(start).as_micros() as u64;
        assert!((patience..patience + 64 * MS).contains(&waited), "{waited}");
    }
}

#[test]
fn bytes_for_a_side_that_reset_are_dropped() {
    Rig::relaying(OFF).plays(&[
        (got(Back, 0, 100), &[MarkFirstByte, send(Back, 0, 0, 100)]),
        (got(Back, 1, 50), &[]),
        (
            reset(Front),
            &[cancel_receive(Back), recycle(1), check_unsent(Back)],
        ),
        (got(Back, 2, 7), &[recycle(2)]),
        (send_failed(Back, Fault::Reset), &[recycle(0)]),
        (unsent(Back, 0), &[cancel_all(Back)]),
        (
            cancelled(Back),
            &over(Fin, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

#[test]
fn a_reset_seen_by_a_send_first_leaves_what_was_received_to_deliver() {
    // The send has taken the socket's error: the receive meets the rest of the bytes, then a mere
    // end.
    Rig::relaying(OFF).plays(&[
        (got(Front, 0, 100), &[send(Front, 0, 0, 100)]),
        (
            send_failed(Front, Fault::Reset),
            &[cancel_receive(Front), recycle(0)],
        ),
        (got(Back, 1, 50), &[MarkFirstByte, send(Back, 1, 0, 50)]),
        (fin(Back), &[]),
        (cancelled(Front), &[]),
        (sent(Back, 50), &[recycle(1), check_unsent(Front)]),
        (
            unsent(Front, 0),
            &over(Reset, Fin, Party::Backend, Why::Reset),
        ),
    ]);
}

#[test]
fn what_a_dead_direction_still_gets_is_dropped_and_how_it_ends_does_not_matter() {
    for end in [cancelled(Front), fin(Front), reset(Front)] {
        Rig::relaying(OFF).plays(&[
            (got(Front, 0, 100), &[send(Front, 0, 0, 100)]),
            (
                send_failed(Front, Fault::Reset),
                &[cancel_receive(Front), recycle(0)],
            ),
            (got(Front, 1, 10), &[recycle(1)]),
            (end, &[]),
            (reset(Back), &[check_unsent(Front)]),
            (
                unsent(Front, 0),
                &over(Reset, Fin, Party::Backend, Why::Reset),
            ),
        ]);
    }
}

#[test]
fn a_side_that_sent_fin_and_then_resets_is_passed_on_as_reset() {
    // The backend ended cleanly and then refuses what the client still sends.
    Rig::relaying(OFF).plays(&[
        (fin(Back), &[shut(Front)]),
        (got(Front, 0, 100), &[send(Front, 0, 0, 100)]),
        (
            send_failed(Front, Fault::Reset),
            &[cancel_receive(Front), recycle(0), check_unsent(Front)],
        ),
        (cancelled(Front), &[]),
        (
            unsent(Front, 0),
            &over(Reset, Fin, Party::Backend, Why::Reset),
        ),
    ]);
}

#[test]
fn a_reset_after_the_other_side_ended_is_passed_on() {
    Rig::relaying(OFF).plays(&[
        (fin(Front), &[shut(Back)]),
        (got(Back, 0, 10), &[MarkFirstByte, send(Back, 0, 0, 10)]),
        (reset(Back), &[]),
        (sent(Back, 10), &[recycle(0), check_unsent(Front)]),
        (
            unsent(Front, 0),
            &over(Reset, Fin, Party::Backend, Why::Reset),
        ),
    ]);
}

#[test]
fn both_sides_reset() {
    // One is seen by the receive, the other by the send of what the first one left.
    Rig::relaying(OFF).plays(&[
        (got(Front, 0, 10), &[send(Front, 0, 0, 10)]),
        (reset(Front), &[cancel_receive(Back)]),
        (
            send_failed(Front, Fault::Reset),
            &[recycle(0), cancel_all(Back)],
        ),
        (
            cancelled(Back),
            &over(Reset, Reset, Party::Client, Why::Reset),
        ),
    ]);
    // Both are seen by sends.
    Rig::relaying(OFF).plays(&[
        (got(Front, 0, 10), &[send(Front, 0, 0, 10)]),
        (got(Back, 1, 10), &[MarkFirstByte, send(Back, 1, 0, 10)]),
        (
            send_failed(Back, Fault::Reset),
            &[cancel_receive(Back), recycle(1)],
        ),
        (
            send_failed(Front, Fault::Reset),
            &[
                cancel_receive(Front),
                recycle(0),
                cancel_all(Front),
                cancel_all(Back),
            ],
        ),
        (cancelled(Front), &[]),
        (
            cancelled(Back),
            &over(Reset, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

#[test]
fn a_drain_cuts_a_reset_short() {
    let mut rig = Rig::relaying(OFF);
    rig.plays(&[
        (reset(Front), &[cancel_receive(Back), check_unsent(Back)]),
        (unsent(Back, 10), &[]),
    ]);
    rig.wait(2 * SECOND);
    assert!(!rig.flow.is_quiet(rig.now));
    rig.plays(&[
        (Input::Close(Why::Drain), &[cancel_all(Back)]),
        (
            cancelled(Back),
            &over(Reset, Reset, Party::Ringway, Why::Drain),
        ),
    ]);
}

#[test]
fn a_reset_that_was_seen_is_never_ended_by_fin() {
    // The backend's reset was seen by a send; what it sent before has not been fetched yet.
    let mut rig = Rig::relaying(OFF);
    rig.on(Input::Starved { from: Back });
    rig.on(got(Front, 0, 10));
    rig.on(send_failed(Front, Fault::Reset));
    rig.on(cancelled(Front));
    rig.on(Input::BuffersFree { from: Back });
    rig.wait(2 * SECOND);
    assert!(!rig.flow.is_quiet(rig.now));
    rig.plays(&[
        (Input::Close(Why::Drain), &[cancel_all(Back)]),
        (unwatched(Back), &[]),
        (
            cancelled(Back),
            &over(Reset, Reset, Party::Ringway, Why::Drain),
        ),
    ]);
}
