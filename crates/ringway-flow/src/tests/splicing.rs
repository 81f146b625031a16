//! Bytes through pipes: promotion and demotion, scarce pipes, ends and resets in mid-stream.

use super::rig::*;
use crate::CloseHow::{Fin, Reset};
use crate::Output::{MarkConnected, MarkFirstByte};
use crate::{Fault, Input, Output, Party, Rearm, RelayMode, Residue, Side, Why};

fn connected(relay: RelayMode) -> Rig {
    let mut rig = Rig::new(relay, OFF);
    rig.on(Input::Accepted);
    rig.on(CONNECTED);
    rig
}

/// Both directions splice from the start, and wait for bytes.
fn splicing() -> Rig {
    let mut rig = Rig::new(RelayMode::Splice, OFF);
    rig.plays(&[
        (Input::Accepted, &[Output::Connect, receive(Front, BUDGET)]),
        (
            CONNECTED,
            &[MarkConnected, cancel_receive(Front), poll_in(Back)],
        ),
        (cancelled(Front), &[poll_in(Front)]),
    ]);
    rig
}

fn readable(from: Side) -> Input {
    Input::Readable { from }
}

fn no_pipe(from: Side) -> Input {
    Input::Pipe { from, grant: None }
}

fn splice_failed_in(from: Side, fault: Fault) -> Input {
    Input::SplicedIn {
        from,
        result: Err(fault),
    }
}

fn splice_failed_out(from: Side, fault: Fault) -> Input {
    Input::SplicedOut {
        from,
        result: Err(fault),
    }
}

/// An `auto` flow whose client streams until it is promoted.
fn promoted() -> Rig {
    let mut rig = connected(RelayMode::Auto);
    rig.plays(&[
        (
            streamed(Front, 0, Rearm::Armed),
            &[send(Front, 0, 0, CHUNK)],
        ),
        (streamed(Front, 1, Rearm::Armed), &[]),
        (streamed(Front, 2, Rearm::Armed), &[]),
        (streamed(Front, 3, Rearm::Needed), &[]),
        (sent(Front, CHUNK), &[recycle(0), send(Front, 1, 0, CHUNK)]),
        (sent(Front, CHUNK), &[recycle(1), send(Front, 2, 0, CHUNK)]),
        (sent(Front, CHUNK), &[recycle(2), send(Front, 3, 0, CHUNK)]),
        (sent(Front, CHUNK), &[recycle(3), poll_in(Front)]),
    ]);
    rig
}

#[test]
fn a_direction_that_streams_is_promoted_once_its_buffers_are_sent() {
    let mut rig = promoted();
    rig.plays(&[
        (readable(Front), &[take_pipe(Front)]),
        (pipe(Front), &[splice_in(Front)]),
        (spliced_in(Front, 50_000), &[splice_out(Front, 50_000)]),
        (spliced_out(Front, 50_000), &[splice_in(Front)]),
        (spliced_in(Front, 50_000), &[splice_out(Front, 50_000)]),
        // After two rounds the turn is the neighbours'.
        (
            spliced_out(Front, 50_000),
            &[give_pipe(Front, Residue::Empty), poll_in(Front)],
        ),
    ]);
    assert_eq!(rig.flow.spliced_bytes(Front), 100_000);
    assert_eq!(
        rig.flow.received_bytes(Front),
        100_000 + 4 * u64::from(CHUNK)
    );
    assert_eq!(rig.flow.sent_bytes(Back), rig.flow.received_bytes(Front));
}

#[test]
fn a_receive_in_flight_is_cancelled_for_the_promotion() {
    let mut rig = connected(RelayMode::Auto);
    for buffer in 0..3 {
        rig.on(streamed(Front, buffer, Rearm::Armed));
        rig.on(sent(Front, CHUNK));
    }
    rig.plays(&[
        (
            streamed(Front, 3, Rearm::Armed),
            &[send(Front, 3, 0, CHUNK), cancel_receive(Front)],
        ),
        (sent(Front, CHUNK), &[recycle(3)]),
        (cancelled(Front), &[poll_in(Front)]),
    ]);
}

#[test]
fn copy_never_promotes() {
    let mut rig = connected(RelayMode::Copy);
    for _ in 0..100 {
        let outputs = rig.on(streamed(Front, 0, Rearm::Armed));
        assert_eq!(outputs, [send(Front, 0, 0, CHUNK)]);
        rig.on(sent(Front, CHUNK));
    }
}

#[test]
fn lean_splices_demote() {
    let mut rig = promoted();
    for _ in 0..3 {
        rig.plays(&[
            (readable(Front), &[take_pipe(Front)]),
            (pipe(Front), &[splice_in(Front)]),
            (spliced_in(Front, 100), &[splice_out(Front, 100)]),
            (
                spliced_out(Front, 100),
                &[give_pipe(Front, Residue::Empty), poll_in(Front)],
            ),
        ]);
    }
    rig.plays(&[
        (readable(Front), &[take_pipe(Front)]),
        (pipe(Front), &[splice_in(Front)]),
        (spliced_in(Front, 100), &[splice_out(Front, 100)]),
        (
            spliced_out(Front, 100),
            &[give_pipe(Front, Residue::Empty), receive(Front, BUDGET)],
        ),
    ]);
}

#[test]
fn without_a_pipe_a_direction_goes_on_as_copy_and_asks_again_much_later() {
    let mut rig = promoted();
    rig.plays(&[
        (readable(Front), &[take_pipe(Front)]),
        (no_pipe(Front), &[receive(Front, BUDGET)]),
    ]);
    for _ in 0..63 {
        rig.plays(&[
            (
                streamed(Front, 0, Rearm::Armed),
                &[send(Front, 0, 0, CHUNK)],
            ),
            (sent(Front, CHUNK), &[recycle(0)]),
        ]);
    }
    rig.plays(&[(
        streamed(Front, 0, Rearm::Armed),
        &[send(Front, 0, 0, CHUNK), cancel_receive(Front)],
    )]);
}

#[test]
fn urgent_data_wakes_a_splice_that_cannot_pass_it_so_it_is_copied() {
    splicing().plays(&[
        (readable(Back), &[take_pipe(Back)]),
        (pipe(Back), &[splice_in(Back)]),
        (
            splice_failed_in(Back, Fault::WouldBlock),
            &[give_pipe(Back, Residue::Empty), receive(Back, BUDGET)],
        ),
    ]);
}

#[test]
fn a_socket_drained_by_a_second_look_is_polled_again() {
    let mut rig = promoted();
    rig.plays(&[
        (readable(Front), &[take_pipe(Front)]),
        (pipe(Front), &[splice_in(Front)]),
        (spliced_in(Front, 50_000), &[splice_out(Front, 50_000)]),
        (spliced_out(Front, 50_000), &[splice_in(Front)]),
        (
            splice_failed_in(Front, Fault::WouldBlock),
            &[give_pipe(Front, Residue::Empty), poll_in(Front)],
        ),
    ]);
}

#[test]
fn a_splice_that_moved_little_is_not_followed_by_another_look() {
    let mut rig = promoted();
    rig.plays(&[
        (readable(Front), &[take_pipe(Front)]),
        (pipe(Front), &[splice_in(Front)]),
        (spliced_in(Front, CHUNK), &[splice_out(Front, CHUNK)]),
        (
            spliced_out(Front, CHUNK),
            &[give_pipe(Front, Residue::Empty), poll_in(Front)],
        ),
    ]);
}

#[test]
fn a_full_destination_is_polled_and_the_pipe_kept() {
    splicing().plays(&[
        (readable(Back), &[take_pipe(Back)]),
        (pipe(Back), &[splice_in(Back)]),
        (
            spliced_in(Back, 50_000),
            &[MarkFirstByte, splice_out(Back, 50_000)],
        ),
        (spliced_out(Back, 20_000), &[poll_out(Back), watch(Back)]),
        (Input::Writable { from: Back }, &[splice_out(Back, 30_000)]),
        (
            splice_failed_out(Back, Fault::WouldBlock),
            &[poll_out(Back)],
        ),
        (Input::Writable { from: Back }, &[splice_out(Back, 30_000)]),
        (spliced_out(Back, 30_000), &[splice_in(Back)]),
        (
            spliced_in(Back, 0),
            &[give_pipe(Back, Residue::Empty), shut(Front)],
        ),
    ]);
}

#[test]
fn bytes_of_the_client_from_before_the_connect_go_before_what_is_spliced() {
    let mut rig = Rig::new(RelayMode::Splice, OFF);
    rig.plays(&[
        (Input::Accepted, &[Output::Connect, receive(Front, BUDGET)]),
        (got(Front, 0, 10), &[]),
        (
            CONNECTED,
            &[
                MarkConnected,
                send(Front, 0, 0, 10),
                cancel_receive(Front),
                poll_in(Back),
            ],
        ),
        (cancelled(Front), &[]),
        (sent(Front, 10), &[recycle(0), poll_in(Front)]),
    ]);
}

#[test]
fn a_reset_in_mid_stream_is_passed_on_and_a_full_pipe_destroyed() {
    let mut rig = splicing();
    rig.on(readable(Back));
    rig.on(pipe(Back));
    rig.on(spliced_in(Back, 50_000));
    rig.plays(&[
        (spliced_out(Back, 20_000), &[poll_out(Back), watch(Back)]),
        // The client resets: what is in the pipe is nobody's.
        (readable(Front), &[take_pipe(Front)]),
        (pipe(Front), &[splice_in(Front)]),
        (
            splice_failed_in(Front, Fault::Reset),
            &[
                give_pipe(Back, Residue::Bytes),
                give_pipe(Front, Residue::Empty),
                check_unsent(Back),
            ],
        ),
        (unsent(Back, 0), &[cancel_all(Front), cancel_all(Back)]),
        (unwatched(Back), &[]),
        (
            Input::Writable { from: Back },
            &over(Fin, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

#[test]
fn a_destination_that_fails_lets_the_other_direction_end() {
    let mut rig = splicing();
    rig.on(readable(Front));
    rig.on(pipe(Front));
    rig.on(spliced_in(Front, 50_000));
    rig.plays(&[
        (
            splice_failed_out(Front, Fault::Reset),
            &[give_pipe(Front, Residue::Bytes)],
        ),
        (readable(Back), &[take_pipe(Back)]),
        (pipe(Back), &[splice_in(Back)]),
        (spliced_in(Back, 10), &[MarkFirstByte, splice_out(Back, 10)]),
        (
            spliced_out(Back, 10),
            &[give_pipe(Back, Residue::Empty), poll_in(Back)],
        ),
        (readable(Back), &[take_pipe(Back)]),
        (pipe(Back), &[splice_in(Back)]),
        // The failed splice has taken the error.
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

/// The client streams into pipes; the backend's answer is copied and a send of it is in flight.
fn splicing_one_way() -> Rig {
    let mut rig = promoted();
    rig.plays(&[
        (got(Back, 9, 10), &[MarkFirstByte, send(Back, 9, 0, 10)]),
        (readable(Front), &[take_pipe(Front)]),
        (pipe(Front), &[splice_in(Front)]),
        (spliced_in(Front, 0), &[give_pipe(Front, Residue::Empty)]),
    ]);
    rig
}

#[test]
fn an_end_during_a_send_to_the_same_socket_is_believed_once_that_send_succeeds() {
    splicing_one_way().plays(&[(sent(Back, 10), &[recycle(9), shut(Back)])]);
}

#[test]
fn an_end_during_a_send_that_fails_was_a_reset() {
    splicing_one_way().plays(&[
        (
            send_failed(Back, Fault::Reset),
            &[cancel_receive(Back), recycle(9), check_unsent(Back)],
        ),
        (cancelled(Back), &[]),
        (
            unsent(Back, 0),
            &over(Fin, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

#[test]
fn an_end_during_a_send_that_blocks_is_believed_after_a_while() {
    let mut rig = splicing_one_way();
    assert_eq!(rig.due_in(), Some(100 * MS));
    assert_eq!(rig.expire(), [shut(Back)]);
}

#[test]
fn the_literal_form_splices_in_the_ring() {
    let mut rig = Rig::new(RelayMode::UringSplice, OFF);
    let (in_front, in_back) = (
        Output::RingSpliceIn {
            from: Front,
            len: 65536,
        },
        Output::RingSpliceIn {
            from: Back,
            len: 65536,
        },
    );
    let out = |len| Output::RingSpliceOut { from: Front, len };
    rig.plays(&[
        (Input::Accepted, &[Output::Connect, receive(Front, BUDGET)]),
        (
            CONNECTED,
            &[MarkConnected, cancel_receive(Front), take_pipe(Back)],
        ),
        (pipe(Back), &[in_back]),
        (cancelled(Front), &[take_pipe(Front)]),
        (pipe(Front), &[in_front]),
        // A splice that waits for room does not see what becomes of the source.
        (spliced_in(Front, 100), &[out(100), watch(Front)]),
        (spliced_out(Front, 60), &[out(40)]),
        // Whose peer has ended passes for ready although it is full: that would go round and round.
        (
            splice_failed_out(Front, Fault::WouldBlock),
            &[poll_out(Front)],
        ),
        (Input::Writable { from: Front }, &[out(40)]),
        (spliced_out(Front, 40), &[in_front]),
        (spliced_in(Front, 7), &[out(7)]),
        // Closing waits for both; a pipe with bytes in it serves nobody else.
        (
            Input::Close(Why::Drain),
            &[cancel_all(Front), cancel_all(Back)],
        ),
        (unwatched(Front), &[]),
        (
            splice_failed_in(Back, Fault::Cancelled),
            &[give_pipe(Back, Residue::Empty)],
        ),
    ]);
    assert_eq!(
        rig.on(splice_failed_out(Front, Fault::Cancelled)),
        [
            give_pipe(Front, Residue::Bytes),
            close(Front, Reset),
            close(Back, Reset),
            finished(Party::Ringway, Why::Drain),
        ]
    );
}

#[test]
fn an_end_that_is_received_is_doubted_too_while_the_ring_splices_to_the_same_socket() {
    let mut rig = Rig::new(RelayMode::UringSplice, OFF);
    rig.on(Input::Accepted);
    rig.on(CONNECTED);
    rig.on(pipe(Back));
    rig.on(cancelled(Front));
    // The client's direction finds no pipe and goes on as copy.
    rig.plays(&[
        (no_pipe(Front), &[receive(Front, BUDGET)]),
        (
            spliced_in(Back, 100),
            &[
                MarkFirstByte,
                Output::RingSpliceOut {
                    from: Back,
                    len: 100,
                },
                watch(Back),
            ],
        ),
        (fin(Front), &[]),
        (
            splice_failed_out(Back, Fault::Reset),
            &[give_pipe(Back, Residue::Bytes), check_unsent(Back)],
        ),
        (unsent(Back, 0), &[cancel_all(Back)]),
        (
            unwatched(Back),
            &over(Fin, Reset, Party::Client, Why::Reset),
        ),
    ]);
}

/// Both directions wait in the ring for bytes.
fn splicing_in_the_ring() -> Rig {
    let mut rig = connected(RelayMode::UringSplice);
    rig.on(pipe(Back));
    rig.on(cancelled(Front));
    rig.on(pipe(Front));
    rig.wait(2 * SECOND);
    rig
}

#[test]
fn a_ring_splice_that_waits_for_bytes_holds_none_back() {
    let mut rig = splicing_in_the_ring();
    assert!(rig.flow.is_quiet(rig.now));
    rig.plays(&[
        (
            Input::Close(Why::Idle),
            &[cancel_all(Front), cancel_all(Back)],
        ),
        (
            splice_failed_in(Front, Fault::Cancelled),
            &[give_pipe(Front, Residue::Empty)],
        ),
    ]);
    let outputs = rig.on(splice_failed_in(Back, Fault::Cancelled));
    assert_eq!(outputs[0], give_pipe(Back, Residue::Empty));
    assert_eq!(outputs[1..], over(Fin, Fin, Party::Ringway, Why::Idle));
}

#[test]
fn what_a_ring_splice_brings_while_the_flow_closes_is_missed_by_its_destination() {
    let mut rig = splicing_in_the_ring();
    rig.on(Input::Close(Why::Idle));
    rig.on(splice_failed_in(Back, Fault::Cancelled));
    let outputs = rig.on(spliced_in(Front, 10));
    assert_eq!(outputs[0], give_pipe(Front, Residue::Bytes));
    assert_eq!(outputs[1..], over(Fin, Reset, Party::Ringway, Why::Idle));
}
