//! From accept until a backend is connected, or none can be.

use super::rig::*;
use crate::CloseHow::{Fin, Reset};
use crate::Output::{CancelConnect, Connect, DiscardBack, MarkConnected};
use crate::{Fault, Input, Party, RelayMode, Timeouts, Why};

fn accepted(timeouts: Timeouts) -> Rig {
    let mut rig = Rig::new(RelayMode::Copy, timeouts);
    rig.plays(&[(Input::Accepted, &[Connect, receive(Front, BUDGET)])]);
    rig
}

#[test]
fn bytes_of_the_client_wait_for_the_backend() {
    accepted(OFF).plays(&[
        (got(Front, 0, 100), &[]),
        (got(Front, 1, 50), &[]),
        (
            CONNECTED,
            &[MarkConnected, send(Front, 0, 0, 100), receive(Back, BUDGET)],
        ),
        (sent(Front, 100), &[recycle(0), send(Front, 1, 0, 50)]),
        (sent(Front, 50), &[recycle(1)]),
    ]);
}

#[test]
fn a_fin_before_the_connect_comes_after_its_bytes() {
    accepted(OFF).plays(&[
        (got(Front, 0, 100), &[]),
        (fin(Front), &[]),
        (
            CONNECTED,
            &[MarkConnected, send(Front, 0, 0, 100), receive(Back, BUDGET)],
        ),
        (sent(Front, 100), &[recycle(0), shut(Back)]),
    ]);
    accepted(OFF).plays(&[
        (fin(Front), &[]),
        (
            CONNECTED,
            &[MarkConnected, receive(Back, BUDGET), shut(Back)],
        ),
    ]);
}

#[test]
fn waiting_bytes_are_bounded() {
    let mut rig = accepted(OFF);
    for buffer in 0..3 {
        assert_eq!(rig.on(got(Front, buffer, CHUNK)), []);
    }
    rig.plays(&[
        (got_last(Front, 3, CHUNK), &[watch(Front)]),
        (
            CONNECTED,
            &[
                MarkConnected,
                send(Front, 0, 0, CHUNK),
                receive(Back, BUDGET),
            ],
        ),
        (sent(Front, CHUNK), &[recycle(0), send(Front, 1, 0, CHUNK)]),
        (
            sent(Front, CHUNK),
            &[
                recycle(1),
                send(Front, 2, 0, CHUNK),
                receive(Front, 2 * CHUNK),
            ],
        ),
    ]);
}

#[test]
fn a_client_that_resets_takes_its_connect_with_it() {
    let mut rig = accepted(OFF);
    rig.plays(&[
        (got(Front, 0, 100), &[]),
        (reset(Front), &[cancel_all(Back), recycle(0)]),
        (
            Input::Connected(Err(Fault::Cancelled)),
            &over(Reset, Reset, Party::Client, Why::Reset),
        ),
    ]);
    assert_eq!(rig.due, crate::Moment::NEVER);
}

#[test]
fn a_connect_that_succeeds_while_the_flow_closes_is_closed() {
    accepted(OFF).plays(&[
        (reset(Front), &[cancel_all(Back)]),
        (CONNECTED, &over(Reset, Reset, Party::Client, Why::Reset)),
    ]);
}

const NO_PORTS: Input = Input::Connected(Err(Fault::NoPorts));

#[test]
fn without_a_descriptor_no_other_backend_is_tried_and_none_is_to_blame() {
    for before in [&[][..], &[(REFUSED, &[DiscardBack, Connect][..])][..]] {
        let mut rig = accepted(OFF);
        rig.plays(before);
        rig.plays(&[
            (
                Input::Connected(Err(Fault::Shortage)),
                &[DiscardBack, cancel_all(Front)],
            ),
            (
                cancelled(Front),
                &[
                    close(Front, Reset),
                    finished(Party::Ringway, Why::Resources),
                ],
            ),
        ]);
    }
}

#[test]
fn without_a_port_another_backend_is_tried_and_the_blame_is_with_those_who_failed() {
    let end = |by, why| [close(Front, Reset), finished(by, why)];
    let own = end(Party::Ringway, Why::Resources);
    let theirs = end(Party::Backend, Why::ConnectFailed);
    for (first, second, ended) in [
        (NO_PORTS, NO_PORTS, &own),
        (REFUSED, NO_PORTS, &theirs),
        (NO_PORTS, REFUSED, &theirs),
    ] {
        let mut rig = accepted(OFF);
        rig.plays(&[
            (first, &[DiscardBack, Connect]),
            (second, &[DiscardBack, Connect]),
            (Input::NoBackend, &[cancel_all(Front)]),
            (cancelled(Front), ended),
        ]);
    }
}

#[test]
fn each_attempt_is_counted_and_the_last_failure_refuses_the_client() {
    let mut rig = accepted(OFF);
    rig.plays(&[
        (got(Front, 0, 100), &[]),
        (REFUSED, &[DiscardBack, Connect]),
        (REFUSED, &[DiscardBack, Connect]),
        (REFUSED, &[DiscardBack, cancel_all(Front), recycle(0)]),
        (
            cancelled(Front),
            &[
                close(Front, Reset),
                finished(Party::Backend, Why::ConnectFailed),
            ],
        ),
    ]);
    assert_eq!(rig.flow.attempts(), 3);
}

#[test]
fn without_a_backend_the_client_is_refused() {
    let mut rig = accepted(OFF);
    rig.plays(&[
        (Input::NoBackend, &[cancel_all(Front)]),
        (
            cancelled(Front),
            &[
                close(Front, Reset),
                finished(Party::Ringway, Why::NoBackend),
            ],
        ),
    ]);
    assert_eq!(rig.flow.attempts(), 0);
}

#[test]
fn an_attempt_that_finds_no_further_backend_is_none() {
    let mut rig = accepted(OFF);
    rig.plays(&[
        (REFUSED, &[DiscardBack, Connect]),
        (Input::NoBackend, &[cancel_all(Front)]),
        (
            cancelled(Front),
            &[
                close(Front, Reset),
                finished(Party::Backend, Why::ConnectFailed),
            ],
        ),
    ]);
    assert_eq!(rig.flow.attempts(), 1);
}

#[test]
fn no_backend_while_the_flow_closes_leaves_no_socket_to_close() {
    accepted(OFF).plays(&[
        (reset(Front), &[cancel_all(Back)]),
        (
            Input::NoBackend,
            &[close(Front, Reset), finished(Party::Client, Why::Reset)],
        ),
    ]);
}

#[test]
fn a_connect_that_takes_too_long_is_cancelled_and_the_next_one_gets_its_own_time() {
    let mut rig = accepted(Timeouts {
        connect: millis(100),
        ..OFF
    });
    assert_eq!(rig.due_in(), Some(100 * MS));
    assert_eq!(rig.expire(), [CancelConnect]);
    assert_eq!(rig.due_in(), None);
    rig.wait(MS);
    rig.plays(&[(
        Input::Connected(Err(Fault::Cancelled)),
        &[DiscardBack, Connect],
    )]);
    assert_eq!(rig.due_in(), Some(100 * MS));
}

#[test]
fn a_connect_that_wins_the_race_with_its_deadline_is_used() {
    let mut rig = accepted(Timeouts {
        connect: millis(100),
        ..OFF
    });
    assert_eq!(rig.expire(), [CancelConnect]);
    rig.plays(&[(CONNECTED, &[MarkConnected, receive(Back, BUDGET)])]);
    assert_eq!(rig.due_in(), None);
}

#[test]
fn a_drain_while_connecting_is_gentle_to_who_is_owed_nothing() {
    let mut rig = accepted(OFF);
    rig.wait(2 * SECOND);
    rig.plays(&[
        (
            Input::Close(Why::Drain),
            &[cancel_all(Front), cancel_all(Back)],
        ),
        (Input::Connected(Err(Fault::Cancelled)), &[]),
        (
            cancelled(Front),
            &over(Fin, Fin, Party::Ringway, Why::Drain),
        ),
    ]);
    let mut rig = accepted(OFF);
    rig.on(got(Front, 0, 10));
    rig.wait(2 * SECOND);
    rig.plays(&[
        (
            Input::Close(Why::Drain),
            &[cancel_all(Front), cancel_all(Back), recycle(0)],
        ),
        (cancelled(Front), &[]),
        (
            Input::Connected(Err(Fault::Cancelled)),
            &over(Reset, Reset, Party::Ringway, Why::Drain),
        ),
    ]);
}
