//! `ringway demo`, as somebody who has never seen it meets it.

use rustix::process::Signal;

use crate::process::{Background, ringway};

const ANYWHERE: [&str; 5] = ["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// The numbers of a line such as `  by backend: A 26, B 30, C 24`.
fn counts(line: &str) -> Vec<u64> {
    let (_, counts) = line.split_once(':').expect("a colon");
    counts
        .split(',')
        .filter_map(|part| part.rsplit(' ').next()?.parse().ok())
        .collect()
}

fn line_of<'t>(text: &'t str, start: &str) -> &'t str {
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(start));
    line.unwrap_or_else(|| panic!("no line {start:?}: {text}"))
}

#[test]
fn it_shows_addresses_what_to_try_and_how_connections_spread() {
    let ended = ringway(&[&ANYWHERE[..], &["--duration", "3s"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.is_empty(), "{}", ended.err);
    for (start, words) in [
        ("balancer", "http://127.0.0.1:"),
        ("backends", "A 127.0.0.1:"),
        ("dashboard", "http://127.0.0.1:"),
        ("metrics", "/metrics"),
        ("status", "/v1/status"),
        ("curl", "http://127.0.0.1:"),
        ("ringway status", "--admin 127.0.0.1:"),
    ] {
        assert!(
            line_of(&ended.out, start).contains(words),
            "{start}: {}",
            ended.out
        );
    }
    assert!(
        !ended.out.contains('\x1b'),
        "no terminal, no escapes: {:?}",
        ended.out
    );
    assert!(
        ended.out.contains("backends: A "),
        "a line per change: {}",
        ended.out
    );

    let total = counts(line_of(&ended.out, "Connections:"));
    let by_backend = counts(line_of(&ended.out, "by backend:"));
    assert_eq!(by_backend.len(), 3, "{}", ended.out);
    assert!(by_backend.iter().all(|count| *count > 0), "{}", ended.out);
    assert_eq!(by_backend.iter().sum::<u64>(), total[0], "{}", ended.out);
    let by_worker = counts(line_of(&ended.out, "by worker:"));
    assert_eq!(by_worker.iter().sum::<u64>(), total[0], "{}", ended.out);
    let visitors = line_of(&ended.out, "All ");
    assert!(
        visitors.contains(&format!("All {} visitors", total[0])),
        "{}",
        ended.out
    );
}

#[test]
fn it_ends_gracefully_at_a_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut demo = Background::start(&ANYWHERE);
        demo.line_with("Ctrl-C ends it.");
        demo.line_with("backends: A ");
        demo.signal(signal);
        let (lines, status) = demo.end();
        assert_eq!(status.code(), Some(0), "{signal:?}: {lines:#?}");
        assert!(
            lines.iter().any(|line| line.contains("by backend:")),
            "{lines:#?}"
        );
    }
}

#[test]
fn it_answers_status_and_ends_when_it_is_drained() {
    let mut demo = Background::start(&[&ANYWHERE[..], &["--no-traffic"]].concat());
    let line = demo.line_with("ringway status --admin ");
    let (_, admin) = line.rsplit_once(' ').expect("an address");
    demo.line_with("backends: A ");

    let status = ringway(&["status", "--admin", admin]);
    assert_eq!(status.code, Some(0), "{}", status.err);
    assert!(
        line_of(&status.out, "demo").contains("127.0.0.1:"),
        "{}",
        status.out
    );

    let drain = ringway(&["drain", "--admin", admin]);
    assert_eq!(
        (drain.code, drain.out),
        (Some(0), format!("{admin}: draining\n"))
    );
    let (lines, status) = demo.end();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line == "Connections: 0"),
        "{lines:#?}"
    );
}
