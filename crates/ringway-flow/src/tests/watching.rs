//! A direction that is held up: nothing reads its source, and yet the source's reset is noticed.

use super::rig::*;
use crate::CloseHow::{self, Fin, Reset};
use crate::Output::{self, MarkConnected, MarkFirstByte};
use crate::{Fault, Input, Operation, Party, RelayMode, Residue, Room, Side, Timeouts, Why};

const WRITABLE: Input = Input::Writable { from: Front };

/// The backend does not read: four buffers of the client's wait, and more in its socket.
fn blocked(timeouts: Timeouts) -> Rig {
    let mut rig = Rig::relaying(timeouts);
    rig.plays(&[
        (got(Front, 0, CHUNK), &[send(Front, 0, 0, CHUNK)]),
        (send_failed(Front, Fault::WouldBlock), &[poll_out(Front)]),
        (got(Front, 1, CHUNK), &[]),
        (got(Front, 2, CHUNK), &[]),
        // As long as it is received, the receive would tell.
        (got_last(Front, 3, CHUNK), &[watch(Front)]),
    ]);
    rig
}

#[test]
fn a_direction_that_is_not_held_up_is_not_watched() {
    let mut rig = Rig::relaying(OFF);
    for _ in 0..3 {
        rig.plays(&[
            (got(Front, 0, CHUNK), &[send(Front, 0, 0, CHUNK)]),
            (got(Front, 1, CHUNK), &[]),
            (got(Front, 2, CHUNK), &[]),
            (got_last(Front, 3, CHUNK), &[]),
            (sent(Front, CHUNK), &[recycle(0), send(Front, 1, 0, CHUNK)]),
            (
                sent(Front, CHUNK),
                &[
                    recycle(1),
                    send(Front, 2, 0, CHUNK),
                    receive(Front, 2 * CHUNK),
                ],
            ),
            (sent(Front, CHUNK), &[recycle(2), send(Front, 3, 0, CHUNK)]),
            (sent(Front, CHUNK), &[recycle(3)]),
            (
                got_last(Front, 4, 1),
                &[send(Front, 4, 0, 1), receive(Front, 3 * CHUNK)],
            ),
            (sent(Front, 1), &[recycle(4)]),
        ]);
    }
}

#[test]
fn one_watch_serves_however_often_a_direction_is_held_up() {
    let mut rig = blocked(OFF);
    for _ in 0..3 {
        rig.plays(&[
            (WRITABLE, &[send(Front, 0, 0, CHUNK)]),
            (sent(Front, CHUNK), &[recycle(0), send(Front, 1, 0, CHUNK)]),
            (
                sent(Front, CHUNK),
                &[
                    recycle(1),
                    send(Front, 2, 0, CHUNK),
                    receive(Front, 2 * CHUNK),
                ],
            ),
            (sent(Front, CHUNK), &[recycle(2), send(Front, 3, 0, CHUNK)]),
            (sent(Front, CHUNK), &[recycle(3)]),
            (got(Front, 0, CHUNK), &[send(Front, 0, 0, CHUNK)]),
            (got_last(Front, 1, CHUNK), &[receive(Front, 2 * CHUNK)]),
            (send_failed(Front, Fault::WouldBlock), &[poll_out(Front)]),
            (got(Front, 2, CHUNK), &[]),
            (got_last(Front, 3, CHUNK), &[]),
        ]);
    }
    let operations: Vec<_> = rig.flow.operations(Front).collect();
    assert_eq!(operations, [Operation::Watch { from: Front }]);
}

#[test]
fn what_came_before_the_reset_goes_out_before_it_also_what_is_unread() {
    blocked(OFF).plays(&[
        // Nothing can be sent to the client any more; the other direction is over.
        (broken(Front), &[cancel_receive(Back)]),
        (cancelled(Back), &[]),
        (WRITABLE, &[send(Front, 0, 0, CHUNK)]),
        (sent(Front, CHUNK), &[recycle(0), send(Front, 1, 0, CHUNK)]),
        (
            sent(Front, CHUNK),
            &[
                recycle(1),
                send(Front, 2, 0, CHUNK),
                receive(Front, 2 * CHUNK),
            ],
        ),
        (sent(Front, CHUNK), &[recycle(2), send(Front, 3, 0, CHUNK)]),
        (sent(Front, CHUNK), &[recycle(3)]),
        (got(Front, 0, 100), &[send(Front, 0, 0, 100)]),
        (reset(Front), &[]),
        (sent(Front, 100), &[recycle(0), check_unsent(Back)]),
        (
            unsent(Back, 0),
            &over(Fin, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

#[test]
fn behind_a_reset_that_is_known_an_end_is_no_clean_one() {
    // Behind the FIN of a peer that then resets, a receive sees the FIN only.
    let mut rig = blocked(OFF);
    rig.on(broken(Front));
    rig.on(cancelled(Back));
    rig.on(WRITABLE);
    for _ in 0..4 {
        rig.on(sent(Front, CHUNK));
    }
    rig.plays(&[
        (fin(Front), &[check_unsent(Back)]),
        (
            unsent(Back, 0),
            &over(Fin, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

/// Both sockets are reset without further ado, and the client is named.
fn gives_up(rig: &mut Rig) {
    assert_eq!(
        rig.expire(),
        [
            cancel_all(Back),
            recycle(0),
            recycle(1),
            recycle(2),
            recycle(3)
        ]
    );
    rig.plays(&[(WRITABLE, &over(Reset, Reset, Party::Client, Why::Reset))]);
}

#[test]
fn a_backend_that_never_reads_does_not_keep_a_flow_whose_client_has_reset() {
    for (half_close, patience) in [
        (millis(500), 500 * MS),
        (millis(90_000), 30 * SECOND),
        (None, 30 * SECOND),
    ] {
        let mut rig = blocked(Timeouts {
            half_close,
            idle: millis(600_000),
            ..OFF
        });
        rig.wait(60 * SECOND);
        rig.plays(&[
            (broken(Front), &[cancel_receive(Back)]),
            (cancelled(Back), &[]),
        ]);
        assert_eq!(rig.due_in(), Some(patience));
        gives_up(&mut rig);
    }
}

#[test]
fn a_backend_that_reads_slowly_is_waited_for_as_long_as_it_reads() {
    let mut rig = blocked(Timeouts {
        half_close: millis(500),
        ..OFF
    });
    rig.on(broken(Front));
    rig.on(cancelled(Back));
    for start in 0..10 {
        rig.wait(400 * MS);
        rig.plays(&[
            (WRITABLE, &[send(Front, 0, start, CHUNK - start)]),
            (
                sent(Front, 1),
                &[send(Front, 0, start + 1, CHUNK - start - 1)],
            ),
            (send_failed(Front, Fault::WouldBlock), &[poll_out(Front)]),
        ]);
        assert_eq!(rig.on(Input::Deadline), []);
        assert_eq!(rig.due_in(), Some(500 * MS));
    }
    gives_up(&mut rig);
}

#[test]
fn a_reset_that_a_send_or_the_source_has_told_of_is_no_news() {
    // By a send: it is not watched for any more.
    let mut rig = Rig::relaying(OFF);
    rig.plays(&[
        (got(Back, 9, 5), &[MarkFirstByte, send(Back, 9, 0, 5)]),
        (got(Front, 0, CHUNK), &[send(Front, 0, 0, CHUNK)]),
        (send_failed(Front, Fault::WouldBlock), &[poll_out(Front)]),
        (
            send_failed(Back, Fault::Reset),
            &[cancel_receive(Back), recycle(9)],
        ),
        (Input::Starved { from: Front }, &[]),
    ]);
    // By the receive: that the watch says so too changes nothing.
    let mut rig = blocked(Timeouts {
        half_close: millis(500),
        ..OFF
    });
    rig.on(WRITABLE);
    for _ in 0..4 {
        rig.on(sent(Front, CHUNK));
    }
    rig.on(got(Front, 0, 10));
    rig.plays(&[
        (reset(Front), &[cancel_receive(Back)]),
        (cancelled(Back), &[]),
    ]);
    rig.wait(300 * MS);
    rig.plays(&[(broken(Front), &[])]);
    assert_eq!(rig.due_in(), Some(200 * MS));
}

#[test]
fn a_peer_that_sent_fin_and_then_resets_is_noticed_by_its_watch() {
    let mut rig = blocked(OFF);
    rig.on(WRITABLE);
    for _ in 0..4 {
        rig.on(sent(Front, CHUNK));
    }
    rig.plays(&[
        (fin(Front), &[shut(Back)]),
        (broken(Front), &[cancel_receive(Back), check_unsent(Back)]),
        (cancelled(Back), &[]),
        (
            unsent(Back, 0),
            &over(Fin, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

#[test]
fn while_it_connects_a_client_with_much_to_say_is_watched() {
    let mut rig = Rig::new(RelayMode::Auto, OFF);
    rig.on(Input::Accepted);
    for buffer in 0..3 {
        rig.on(got(Front, buffer, CHUNK));
    }
    rig.plays(&[
        (got_last(Front, 3, CHUNK), &[watch(Front)]),
        (
            broken(Front),
            &[
                cancel_all(Back),
                recycle(0),
                recycle(1),
                recycle(2),
                recycle(3),
            ],
        ),
        (
            Input::Connected(Err(Fault::Cancelled)),
            &over(Reset, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

#[test]
fn a_half_without_buffers_is_watched() {
    let mut rig = Rig::relaying(OFF);
    rig.room = Room::Scarce;
    rig.plays(&[
        (Input::Starved { from: Front }, &[watch(Front)]),
        (broken(Front), &[cancel_receive(Back)]),
        (cancelled(Back), &[]),
        (Input::BuffersFree { from: Front }, &[receive(Front, CHUNK)]),
        (got_last(Front, 0, 100), &[send(Front, 0, 0, 100)]),
        (sent(Front, 100), &[recycle(0), receive(Front, CHUNK)]),
        (reset(Front), &[check_unsent(Back)]),
        (
            unsent(Back, 0),
            &over(Fin, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

/// The client streams into a pipe that the backend does not empty.
fn splice_blocked() -> Rig {
    let mut rig = Rig::new(RelayMode::Splice, OFF);
    rig.plays(&[
        (Input::Accepted, &[Output::Connect, receive(Front, BUDGET)]),
        (
            CONNECTED,
            &[MarkConnected, cancel_receive(Front), poll_in(Back)],
        ),
        (cancelled(Front), &[poll_in(Front)]),
        (Input::Readable { from: Front }, &[take_pipe(Front)]),
        (pipe(Front), &[splice_in(Front)]),
        (spliced_in(Front, 50_000), &[splice_out(Front, 50_000)]),
        (spliced_out(Front, 20_000), &[poll_out(Front), watch(Front)]),
    ]);
    rig
}

#[test]
fn a_full_pipe_is_emptied_before_the_reset_and_what_is_unread_follows() {
    splice_blocked().plays(&[
        (broken(Front), &[]),
        (WRITABLE, &[splice_out(Front, 30_000)]),
        (spliced_out(Front, 30_000), &[splice_in(Front)]),
        (spliced_in(Front, 10_000), &[splice_out(Front, 10_000)]),
        (
            spliced_out(Front, 10_000),
            &[give_pipe(Front, Residue::Empty), poll_in(Front)],
        ),
        (Input::Readable { from: Front }, &[take_pipe(Front)]),
        (pipe(Front), &[splice_in(Front)]),
        (
            Input::SplicedIn {
                from: Front,
                result: Err(Fault::Reset),
            },
            &[give_pipe(Front, Residue::Empty), check_unsent(Back)],
        ),
        (unsent(Back, 0), &[cancel_all(Back)]),
        (
            Input::Readable { from: Back },
            &over(Fin, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

#[test]
fn a_full_pipe_that_nobody_empties_is_given_up() {
    let mut rig = splice_blocked();
    rig.on(broken(Front));
    assert_eq!(rig.due_in(), Some(30 * SECOND));
    assert_eq!(
        rig.expire(),
        [cancel_all(Back), give_pipe(Front, Residue::Bytes)]
    );
    rig.plays(&[
        (WRITABLE, &[]),
        (
            Input::Readable { from: Back },
            &over(Reset, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

#[test]
fn a_ring_splice_that_waits_for_room_is_watched_as_well() {
    let mut rig = Rig::new(RelayMode::UringSplice, OFF);
    let out = |len| Output::RingSpliceOut { from: Back, len };
    rig.on(Input::Accepted);
    rig.on(CONNECTED);
    rig.on(pipe(Back));
    rig.plays(&[
        (
            spliced_in(Back, 100),
            &[MarkFirstByte, out(100), watch(Back)],
        ),
        (broken(Back), &[]),
    ]);
    assert_eq!(rig.due_in(), Some(30 * SECOND));
    rig.plays(&[
        (cancelled(Front), &[]),
        (
            spliced_out(Back, 100),
            &[Output::RingSpliceIn {
                from: Back,
                len: 65536,
            }],
        ),
        (
            spliced_in(Back, 0),
            &[give_pipe(Back, Residue::Empty), check_unsent(Front)],
        ),
        (
            unsent(Front, 0),
            &over(Reset, Fin, Party::Backend, Why::Reset),
        ),
    ]);
}

#[test]
fn a_half_without_buffers_that_finds_no_pipe_either_is_watched() {
    let mut rig = Rig::new(RelayMode::Splice, OFF);
    rig.on(Input::Accepted);
    rig.plays(&[
        (
            CONNECTED,
            &[MarkConnected, cancel_receive(Front), poll_in(Back)],
        ),
        (Input::Starved { from: Front }, &[poll_in(Front)]),
        (Input::Readable { from: Front }, &[take_pipe(Front)]),
        (
            Input::Pipe {
                from: Front,
                grant: None,
            },
            &[watch(Front)],
        ),
    ]);
}

#[test]
fn either_side_is_watched() {
    for side in Side::BOTH {
        let mut rig = Rig::relaying(OFF);
        rig.on(got(side, 0, CHUNK));
        rig.on(send_failed(side, Fault::WouldBlock));
        rig.on(got(side, 1, CHUNK));
        assert_eq!(rig.on(got_last(side, 2, CHUNK)), [watch(side)]);
    }
}

#[test]
fn a_reset_seen_while_the_flow_closes_is_told_to_the_other_side() {
    let closes = |last: Input, back: CloseHow| {
        let mut rig = blocked(OFF);
        rig.on(WRITABLE);
        for _ in 0..4 {
            rig.on(sent(Front, CHUNK));
        }
        rig.wait(2 * SECOND);
        rig.plays(&[
            (
                Input::Close(Why::Drain),
                &[cancel_all(Front), cancel_all(Back)],
            ),
            (cancelled(Front), &[]),
            (cancelled(Back), &[]),
            (last, &over(Fin, back, Party::Ringway, Why::Drain)),
        ]);
    };
    closes(unwatched(Front), Fin);
    closes(broken(Front), Reset);
}

#[test]
fn a_reset_seen_after_both_have_ended_does_not_spoil_a_clean_end() {
    let mut rig = blocked(OFF);
    rig.on(WRITABLE);
    for _ in 0..4 {
        rig.on(sent(Front, CHUNK));
    }
    rig.plays(&[
        (fin(Front), &[shut(Back)]),
        (fin(Back), &[cancel_all(Front)]),
        (broken(Front), &over(Fin, Fin, Party::Client, Why::Fin)),
    ]);
}
