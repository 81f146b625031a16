//! What is on the screen, in ratatui's own terminal of text.

use std::fmt::Write as _;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::snapshot::Snapshot;

/// Two answers a second apart, of so many backends; each third is down.
fn board(backends: usize) -> Board {
    let mut board = Board::default();
    for second in 1..=2u64 {
        let mut listed = Vec::new();
        for at in 0..backends as u64 {
            let mut one = String::new();
            let state = if at % 3 == 2 { "down" } else { "up" };
            write!(
                one,
                r#"{{"address": "10.0.0.{at}:80", "state": "{state}", "connections": {at}, "last_failure": "refused",
                    "connections_total": {}}}"#,
                second * 10 * at
            )
            .expect("a string");
            listed.push(one);
        }
        let text = format!(
            r#"{{"version": "1.2.3", "pid": 7, "uptime_seconds": {second}, "connections": 3, "connections_max": 900,
                "workers": [{{"index": 0, "cpu": 4, "connections": 3, "connections_total": {}, "busy_seconds_total": {}}}],
                "listeners": [{{"name": "web", "addresses": ["127.0.0.1:80"], "pool": "p", "pools": ["p"], "connections_total": {}}}],
                "pools": [{{"name": "p", "backends": [{}]}}]}}"#,
            50 * second,
            0.25 * second as f64,
            50 * second,
            listed.join(",")
        );
        board.take(Ok(Snapshot::read(text.as_bytes()).expect("a status")));
    }
    board
}

fn drawn(screen: &mut Screen, board: &Board, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal of text");
    terminal
        .draw(|frame| screen.draw(frame, board))
        .expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    let line = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
            .trim_end()
            .to_owned()
    };
    (0..height).map(line).collect()
}

fn screen() -> Screen {
    Screen::new("127.0.0.1:9901".to_owned())
}

/// The first words of the rows of the table.
fn column(lines: &[String], word: usize) -> Vec<String> {
    let rows = lines
        .iter()
        .skip_while(|line| !line.contains("backend "))
        .skip(1);
    rows.filter_map(|line| line.split_whitespace().nth(word).map(str::to_owned))
        .filter(|text| text.starts_with("10."))
        .collect()
}

#[test]
fn an_instance_is_shown() {
    let lines = drawn(&mut screen(), &board(3), 100, 20);
    let wanted = "\
ringway 1.2.3 at 127.0.0.1:9901, pid 7, up 2s, ready
3 of at most 900 connections, 50/s new, 0/s refused, 0B/s received
workers
    worker         CPU        open         new       bytes        busy
         0           4           3        50/s        0B/s         25%
 backends   listeners   workers  1 to 3 of 3
pool       backend              state            open       new v      failed       total  why
p          10.0.0.2:80          down                2        20/s         0/s          40  refused
p          10.0.0.1:80          up                  1        10/s         0/s          20
p          10.0.0.0:80          up                  0         0/s         0/s           0";
    let shown = lines[..wanted.lines().count()].join("\n");
    assert_eq!(shown, wanted, "\n{shown}");
    assert!(lines[19].starts_with("q quit"));
}

#[test]
fn keys_sort_filter_and_scroll() {
    let (mut screen, board) = (screen(), board(100));
    let first = |screen: &mut Screen| column(&drawn(screen, &board, 100, 30), 1)[0].clone();
    assert_eq!(first(&mut screen), "10.0.0.99:80");
    screen.press(Key::Reverse);
    assert_eq!(first(&mut screen), "10.0.0.0:80");
    screen.press(Key::Scroll(3));
    assert_eq!(first(&mut screen), "10.0.0.3:80");
    screen.press(Key::Scroll(isize::MAX));
    let last = column(&drawn(&mut screen, &board, 100, 30), 1);
    assert_eq!(last.last().map(String::as_str), Some("10.0.0.99:80"));
    screen.press(Key::Scroll(isize::MIN));
    screen.press(Key::Trouble);
    assert_eq!(first(&mut screen), "10.0.0.2:80");
    for _ in 0..3 {
        screen.press(Key::SortLeft);
    }
    assert_eq!(first(&mut screen), "10.0.0.11:80");
    screen.press(Key::NextTable);
    let lines = drawn(&mut screen, &board, 100, 30);
    assert!(
        lines.iter().any(|line| line.contains("none of 1")),
        "{lines:#?}"
    );
}

#[test]
fn silence_is_told_and_ends() {
    let (mut screen, mut board) = (screen(), board(2));
    board.take(Err("no instance answers at 127.0.0.1:9901".to_owned()));
    let lines = drawn(&mut screen, &board, 100, 24);
    assert!(lines[0].ends_with("no answer"), "{}", lines[0]);
    assert!(lines[1].starts_with("no instance answers"), "{}", lines[1]);
    let nothing = drawn(&mut screen, &Board::default(), 100, 24);
    assert!(
        nothing[0].starts_with("asking 127.0.0.1:9901"),
        "{}",
        nothing[0]
    );
}

#[test]
fn every_size_is_drawn_into() {
    let (mut screen, board) = (screen(), board(50));
    for (width, height) in [(1, 1), (3, 2), (20, 5), (40, 19), (80, 24), (400, 200)] {
        for _ in 0..3 {
            drawn(&mut screen, &board, width, height);
            screen.press(Key::Page(1));
            screen.press(Key::NextTable);
        }
    }
}
