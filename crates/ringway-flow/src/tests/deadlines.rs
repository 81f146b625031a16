//! Deadlines: when each comes, what it is called and how the sockets are closed.

use super::rig::*;
use crate::CloseHow::{self, Fin, Reset};
use crate::{Fault, Input, Moment, Party, RelayMode, Timeouts, Why};

const IDLE: Timeouts = Timeouts {
    idle: millis(500),
    ..OFF
};

/// The deadline comes; both receives are cancelled and the flow ends.
#[track_caller]
fn ends(rig: &mut Rig, how: CloseHow, why: Why) {
    let outputs = rig.expire();
    assert!(
        outputs.starts_with(&[cancel_all(Front), cancel_all(Back)]),
        "{outputs:?}"
    );
    assert_eq!(rig.due, Moment::NEVER);
    let outputs = rig.join_receives();
    assert!(
        outputs.ends_with(&over(how, how, Party::Ringway, why)),
        "{outputs:?}"
    );
}

#[test]
fn each_deadline_has_its_reason() {
    let half_second = millis(500);
    let cases = [
        (
            Timeouts {
                idle: half_second,
                ..OFF
            },
            Fin,
            Why::Idle,
        ),
        (
            Timeouts {
                first_byte: half_second,
                ..OFF
            },
            Fin,
            Why::FirstByte,
        ),
        (
            Timeouts {
                lifetime: half_second,
                ..OFF
            },
            Reset,
            Why::Lifetime,
        ),
    ];
    for (timeouts, how, why) in cases {
        let mut rig = Rig::relaying(timeouts);
        assert_eq!(rig.due_in(), Some(500 * MS), "{why:?}");
        ends(&mut rig, how, why);
    }
}

#[test]
fn half_close_counts_from_the_end_and_from_every_byte_since() {
    let mut rig = Rig::relaying(Timeouts {
        half_close: millis(500),
        ..OFF
    });
    rig.wait(SECOND);
    assert_eq!(rig.due_in(), None);
    rig.plays(&[(fin(Front), &[shut(Back)])]);
    assert_eq!(rig.due_in(), Some(500 * MS));
    rig.wait(400 * MS);
    rig.on(got(Back, 0, 10));
    rig.on(sent(Back, 10));
    // The timer is left as it is; when it comes, it is set anew.
    assert_eq!(rig.expire(), []);
    assert_eq!(rig.due_in(), Some(400 * MS));
    assert_eq!(rig.expire(), [cancel_all(Back)]);
    rig.plays(&[(
        cancelled(Back),
        &over(Fin, Fin, Party::Ringway, Why::HalfClose),
    )]);
}

#[test]
fn idle_moves_with_every_byte() {
    let mut rig = Rig::relaying(IDLE);
    rig.wait(300 * MS);
    rig.on(got(Front, 0, 10));
    rig.wait(100 * MS);
    rig.on(sent(Front, 10));
    assert_eq!(rig.expire(), []);
    assert_eq!(rig.due_in(), Some(400 * MS));
    ends(&mut rig, Fin, Why::Idle);
}

#[test]
fn the_first_byte_stops_waiting_for_it() {
    let timeouts = Timeouts {
        first_byte: millis(500),
        ..OFF
    };
    let mut rig = Rig::relaying(timeouts);
    rig.on(got(Front, 0, 1));
    assert_eq!(rig.expire(), []);
    assert_eq!(rig.due_in(), None);
    // A client that ends without a byte has said what it had to say.
    let mut rig = Rig::relaying(timeouts);
    rig.on(fin(Front));
    assert_eq!(rig.due_in(), None);
}

#[test]
fn what_waits_to_be_sent_turns_the_end_into_a_reset() {
    let mut rig = Rig::relaying(IDLE);
    rig.on(got(Front, 0, 10));
    let outputs = rig.expire();
    assert_eq!(outputs, [cancel_all(Front), cancel_all(Back)]);
    rig.plays(&[
        (cancelled(Front), &[]),
        (cancelled(Back), &[]),
        (
            send_failed(Front, Fault::Cancelled),
            &[
                recycle(0),
                close(Front, Reset),
                close(Back, Reset),
                finished(Party::Ringway, Why::Idle),
            ],
        ),
    ]);
}

#[test]
fn a_starved_half_may_hold_bytes_back() {
    let mut rig = Rig::relaying(IDLE);
    rig.on(Input::Starved { from: Back });
    assert_eq!(rig.expire(), [cancel_all(Front), cancel_all(Back)]);
    rig.plays(&[
        (unwatched(Back), &[]),
        (
            cancelled(Front),
            &over(Reset, Reset, Party::Ringway, Why::Idle),
        ),
    ]);
}

#[test]
fn a_failed_send_gives_the_other_direction_its_own_time() {
    let mut rig = Rig::relaying(Timeouts {
        idle: millis(60_000),
        half_close: millis(500),
        ..OFF
    });
    rig.on(got(Front, 0, 10));
    // The backend read nothing for long, and then resets.
    rig.wait(10 * SECOND);
    rig.plays(&[(
        send_failed(Front, Fault::Reset),
        &[cancel_receive(Front), recycle(0)],
    )]);
    assert_eq!(rig.due_in(), Some(500 * MS));
    // Whatever else happens, the client must not take this for a complete answer.
    assert_eq!(rig.expire(), [cancel_all(Front), cancel_all(Back)]);
    let outputs = rig.join_receives();
    assert_eq!(outputs, over(Reset, Reset, Party::Backend, Why::Reset));
}

#[test]
fn a_deadline_that_comes_early_or_late_does_no_harm() {
    let mut rig = Rig::relaying(IDLE);
    rig.wait(100 * MS);
    assert_eq!(rig.on(Input::Deadline), []);
    assert_eq!(rig.due_in(), Some(400 * MS));
    rig.wait(10 * SECOND);
    assert_eq!(
        rig.on(Input::Deadline),
        [cancel_all(Front), cancel_all(Back)]
    );
    // While it closes, and after that, no deadline means anything.
    assert_eq!(rig.on(Input::Deadline), []);
    rig.join_receives();
    assert_eq!(rig.on(Input::Deadline), []);
}

#[test]
fn while_connecting_only_the_connect_the_first_byte_and_the_lifetime_count() {
    let mut rig = Rig::new(
        crate::RelayMode::Copy,
        Timeouts {
            connect: millis(100),
            first_byte: millis(700),
            idle: millis(1),
            half_close: millis(1),
            lifetime: millis(900),
        },
    );
    rig.on(Input::Accepted);
    assert_eq!(rig.due_in(), Some(100 * MS));
    assert_eq!(rig.expire(), [crate::Output::CancelConnect]);
    assert_eq!(rig.due_in(), Some(600 * MS));
    rig.on(fin(Front));
    assert_eq!(rig.due_in(), Some(800 * MS));
    assert_eq!(rig.expire(), [cancel_all(Back)]);
    rig.plays(&[(
        Input::Connected(Err(Fault::Cancelled)),
        &over(Reset, Reset, Party::Ringway, Why::Lifetime),
    )]);
}

#[test]
fn a_reset_that_a_splice_of_the_ring_learns_of_during_the_close_is_passed_on() {
    let mut rig = Rig::new(RelayMode::UringSplice, IDLE);
    rig.on(Input::Accepted);
    rig.on(Input::Connected(Ok(())));
    rig.on(cancelled(Front));
    rig.on(pipe(Front));
    rig.on(pipe(Back));
    rig.expire();
    rig.on(Input::SplicedIn {
        from: Back,
        result: Err(Fault::Reset),
    });
    let outputs = rig.on(Input::SplicedIn {
        from: Front,
        result: Err(Fault::Cancelled),
    });
    assert!(
        outputs.ends_with(&over(Reset, Fin, Party::Ringway, Why::Idle)),
        "{outputs:?}"
    );
}

#[test]
fn a_backend_reached_while_the_flow_closes_may_have_spoken() {
    let mut rig = Rig::new(
        RelayMode::Auto,
        Timeouts {
            first_byte: millis(500),
            ..OFF
        },
    );
    rig.on(Input::Accepted);
    rig.expire();
    rig.on(cancelled(Front));
    let outputs = rig.on(CONNECTED);
    assert!(
        outputs.ends_with(&over(Reset, Fin, Party::Ringway, Why::FirstByte)),
        "{outputs:?}"
    );
}
