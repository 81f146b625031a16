//! Ends by FIN and by Ringway's own decision, in every phase.

use super::rig::*;
use crate::CloseHow::{Fin, Reset};
use crate::Output::MarkFirstByte;
use crate::{CloseHow, Fault, Input, Party, Side, Why};

#[test]
fn a_fin_is_passed_on_and_the_other_direction_goes_on() {
    for first in Side::BOTH {
        let other = first.other();
        let mut rig = Rig::relaying(OFF);
        rig.plays(&[(fin(first), &[shut(other)])]);
        let bytes = rig.on(got(other, 0, 100));
        assert!(bytes.ends_with(&[send(other, 0, 0, 100)]));
        rig.plays(&[
            (sent(other, 100), &[recycle(0)]),
            (fin(other), &over(Fin, Fin, first.into(), Why::Fin)),
        ]);
    }
}

#[test]
fn a_fin_waits_for_every_byte_before_it() {
    Rig::relaying(OFF).plays(&[
        (got(Back, 0, 100), &[MarkFirstByte, send(Back, 0, 0, 100)]),
        (got(Back, 1, 50), &[]),
        (fin(Back), &[]),
        (sent(Back, 100), &[recycle(0), send(Back, 1, 0, 50)]),
        (sent(Back, 49), &[send(Back, 1, 49, 1)]),
        (sent(Back, 1), &[recycle(1), shut(Front)]),
        (fin(Front), &over(Fin, Fin, Party::Backend, Why::Fin)),
    ]);
}

#[test]
fn both_ends_at_once_close_without_passing_on() {
    Rig::relaying(OFF).plays(&[
        (got(Front, 0, 10), &[send(Front, 0, 0, 10)]),
        (fin(Front), &[]),
        (fin(Back), &[shut(Front)]),
        (
            sent(Front, 10),
            &[
                recycle(0),
                close(Front, Fin),
                close(Back, Fin),
                finished(Party::Client, Why::Fin),
            ],
        ),
    ]);
}

/// Ringway closes a relaying flow that moved a byte long ago or just now.
fn closed_for(why: Why, quiet: bool) -> (CloseHow, Party) {
    let mut rig = Rig::relaying(OFF);
    rig.wait(if quiet { 2 * SECOND } else { 10 });
    rig.plays(&[(Input::Close(why), &[cancel_all(Front), cancel_all(Back)])]);
    let outputs = rig.join_receives();
    let (Some(crate::Output::CloseSocket { how, .. }), Some(crate::Output::Finished(ended))) =
        (outputs.first(), outputs.last())
    else {
        panic!("not the end: {outputs:?}");
    };
    assert_eq!(outputs, over(*how, *how, ended.by, why));
    (*how, ended.by)
}

#[test]
fn a_drain_is_gentle_to_a_quiet_flow_and_everything_else_resets() {
    assert_eq!(closed_for(Why::Drain, true), (Fin, Party::Ringway));
    assert_eq!(closed_for(Why::Drain, false), (Reset, Party::Ringway));
    assert_eq!(closed_for(Why::BackendDown, true), (Reset, Party::Backend));
    assert_eq!(closed_for(Why::HeldMemory, true), (Reset, Party::Ringway));
    assert_eq!(closed_for(Why::Error, true), (Reset, Party::Ringway));
}

#[test]
fn a_drain_of_a_half_closed_flow() {
    let mut rig = Rig::relaying(OFF);
    rig.on(fin(Front));
    rig.wait(2 * SECOND);
    assert!(rig.flow.is_quiet(rig.now));
    rig.plays(&[
        (Input::Close(Why::Drain), &[cancel_all(Back)]),
        (cancelled(Back), &over(Fin, Fin, Party::Ringway, Why::Drain)),
    ]);
}

#[test]
fn a_flow_is_quiet_only_when_nothing_waits() {
    let mut rig = Rig::relaying(OFF);
    assert!(!rig.flow.is_quiet(rig.now));
    rig.wait(SECOND);
    assert!(rig.flow.is_quiet(rig.now));
    rig.on(Input::Starved { from: Back });
    assert!(!rig.flow.is_quiet(rig.now));
    rig.on(Input::BuffersFree { from: Back });
    assert!(rig.flow.is_quiet(rig.now));
    rig.on(got(Back, 0, 10));
    rig.wait(SECOND);
    assert!(!rig.flow.is_quiet(rig.now));
}

#[test]
fn closing_waits_for_everything_in_flight_and_gives_everything_back() {
    let mut rig = Rig::relaying(OFF);
    for (side, buffer) in [(Front, 0), (Back, 10)] {
        rig.on(got(side, buffer, 100));
        rig.on(got(side, buffer + 1, 100));
    }
    let outputs = rig.on(Input::Close(Why::Drain));
    assert_eq!(
        outputs,
        [cancel_all(Front), cancel_all(Back), recycle(1), recycle(11)]
    );
    assert!(rig.flow.is_closing());
    rig.plays(&[
        (Input::Close(Why::Drain), &[]),
        // What still arrives is given back at once.
        (got(Front, 2, 5), &[recycle(2)]),
        (sent(Front, 60), &[recycle(0)]),
        (cancelled(Front), &[]),
        (fin(Back), &[]),
        (
            send_failed(Back, Fault::Cancelled),
            &[
                recycle(10),
                close(Front, Reset),
                close(Back, Reset),
                finished(Party::Ringway, Why::Drain),
            ],
        ),
        (Input::Close(Why::Drain), &[]),
    ]);
    assert_eq!(rig.flow.sent_bytes(Back), 60);
    assert_eq!(rig.flow.received_bytes(Front), 200);
}

#[test]
fn bytes_that_arrive_while_a_flow_closes_are_missed_by_their_destination() {
    let mut rig = Rig::relaying(OFF);
    rig.wait(2 * SECOND);
    rig.plays(&[
        (
            Input::Close(Why::Drain),
            &[cancel_all(Front), cancel_all(Back)],
        ),
        (got(Back, 0, 5), &[recycle(0)]),
        (cancelled(Back), &[]),
        (
            cancelled(Front),
            &over(Reset, Fin, Party::Ringway, Why::Drain),
        ),
    ]);
}

#[test]
fn a_reset_that_arrives_while_a_flow_closes_is_no_fin_for_the_other_side() {
    let mut rig = Rig::relaying(OFF);
    rig.wait(2 * SECOND);
    rig.plays(&[
        (
            Input::Close(Why::Drain),
            &[cancel_all(Front), cancel_all(Back)],
        ),
        (reset(Front), &[]),
        (
            cancelled(Back),
            &over(Fin, Reset, Party::Ringway, Why::Drain),
        ),
    ]);
}
