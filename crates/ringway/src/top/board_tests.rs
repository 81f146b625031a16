//! Rates between answers: of one process, of another, and of none.

use super::*;

fn answer(pid: u32, uptime: f64, total: u64) -> Answer {
    let text = format!(
        r#"{{"pid": {pid}, "uptime_seconds": {uptime},
            "workers": [{{"index": 0, "connections_total": {total}, "received_bytes_total": {total}000,
                "busy_seconds_total": {uptime}}}],
            "listeners": [{{"name": "web", "connections_total": {total}, "refused_total": 0}}],
            "routes": [{{"received_bytes": {{"client": {total}000, "backend": 0}}}}],
            "pools": [{{"name": "p", "backends": [
                {{"address": "a\u001b[2J", "state": "up", "connections_total": {total}}},
                {{"address": "b", "state": "down", "last_failure": "refused"}},
                {{"address": "c", "state": "up", "ejected_workers": 2}}]}}]}}"#
    );
    Ok(Snapshot::read(text.as_bytes()).expect("a status"))
}

fn texts(row: &Row) -> Vec<&str> {
    row.cells.iter().map(|cell| cell.text.as_str()).collect()
}

#[test]
fn rates_are_those_of_the_instances_own_seconds() {
    let mut board = Board::default();
    board.take(answer(1, 10.0, 100));
    assert_eq!(board.totals().accepted, None);
    assert_eq!(texts(&board.workers()[0]), ["0", "0", "0", "-", "-", "-"]);
    board.take(answer(1, 12.0, 150));
    assert_eq!(board.totals().accepted, Some(25.0));
    assert_eq!(
        texts(&board.workers()[0]),
        ["0", "0", "0", "25/s", "25.0kB/s", "100%"]
    );
    let backends = board.backends();
    assert_eq!(
        texts(&backends[0]),
        ["p", "a?[2J", "up", "0", "25/s", "0/s", "150", ""]
    );
    assert_eq!(
        texts(&backends[1])[2..],
        ["down", "0", "0/s", "0/s", "0", "refused"]
    );
    let moods: Vec<Mood> = backends.iter().map(|row| row.mood).collect();
    assert_eq!(moods, [Mood::Fine, Mood::Bad, Mood::Odd]);
}

#[test]
fn another_process_begins_anew() {
    let mut board = Board::default();
    board.take(answer(1, 10.0, 100));
    board.take(answer(2, 11.0, 150));
    assert_eq!(board.totals().accepted, None);
    board.take(answer(2, 12.0, 100));
    assert_eq!(
        board.totals().accepted,
        None,
        "a count that fell is no rate"
    );
    board.take(answer(2, 13.0, 101));
    assert_eq!(board.totals().accepted, Some(1.0));
}

#[test]
fn silence_keeps_what_was_seen_and_says_so() {
    let mut board = Board::default();
    board.take(answer(1, 10.0, 100));
    board.take(Err("no instance answers".to_owned()));
    assert_eq!(board.trouble.as_deref(), Some("no instance answers"));
    assert_eq!(board.backends().len(), 3);
    board.take(answer(1, 14.0, 140));
    assert_eq!(
        (board.trouble.as_deref(), board.totals().accepted),
        (None, Some(10.0))
    );
}

#[test]
fn numbers_have_three_digits() {
    for (value, wanted) in [
        (0.0, "0"),
        (7.0, "7"),
        (0.256, "0.26"),
        (999.6, "1.00k"),
        (12_345.0, "12.3k"),
        (2.5e9, "2.50G"),
    ] {
        assert_eq!(scaled(value), wanted);
    }
}
