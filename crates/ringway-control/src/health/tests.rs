//! What the board knows, of whom it hears, and what it keeps over a reload.

use ringway_config::{Backend, Pool};

use super::*;
use crate::layout::Unused;

fn board(health: Option<ringway_config::HealthCheck>) -> (Config, Board) {
    let backends = ["127.0.0.1:1", "127.0.0.1:2"];
    let backends = backends.map(|address| Backend::new(address.parse().unwrap()));
    let mut pool = Pool::new("web", backends.into());
    pool.health = health;
    let config = Config::new(Vec::new(), vec![pool]);
    let board = Board::new(&config, &Layout::of(&config).unwrap());
    (config, board)
}

fn transition(board: &Board, key: BackendKey, to: Health, reason: ProbeResult) -> bool {
    let transition = Transition {
        from: Health::Unknown,
        to,
        reason,
    };
    board.note_transition(key, transition, |_| ()).is_some()
}

const REFUSED: ProbeResult = ProbeResult::Failed(ProbeFailure::Refused);

#[test]
fn the_first_round_is_over_when_every_backend_was_judged() {
    let (config, board) = board(Some(Default::default()));
    assert!(first_round_timeout(&config) > Duration::from_secs(1));
    for (key, to, reason) in [(0, Health::Up, ProbeResult::Ok), (1, Health::Down, REFUSED)] {
        assert!(!board.is_first_round_done());
        let key = board.key(0, key).unwrap();
        board.note_probe(
            key,
            Duration::from_secs(3),
            Duration::from_millis(1),
            &reason,
        );
        assert!(transition(&board, key, to, reason));
    }
    assert!(board.is_first_round_done());
    let expected = Standing {
        health: Health::Down,
        since: Duration::from_secs(3),
        checked_at: Some(Duration::from_secs(3)),
        check_began_at: Some(Duration::from_millis(2_999)),
        last_failure: Some(ProbeFailure::Refused),
    };
    assert_eq!(board.standing(0, 1), expected);
    assert_eq!(board.check_time(0).unwrap().count(), 2);
    assert_eq!(board.block(0, 1).unwrap().checks(CheckResult::Refused), 1);
}

#[test]
fn a_check_is_counted_under_the_name_it_is_told_by() {
    let failures = [
        ProbeFailure::Refused,
        ProbeFailure::Timeout,
        ProbeFailure::Reset,
        ProbeFailure::EarlyClose,
        ProbeFailure::WrongAnswer(ringway_health::Excerpt::of(b"no")),
        ProbeFailure::Unreachable,
        ProbeFailure::NoPorts,
        ProbeFailure::Resources,
        ProbeFailure::Other(5),
    ];
    assert_eq!(failures.len() + 1, CheckResult::COUNT);
    for failure in failures {
        let counted = label_of(&ProbeResult::Failed(failure));
        assert_eq!(counted.as_label(), failure.as_label());
    }
}

#[test]
fn without_checks_there_is_nothing_to_wait_for() {
    let (config, board) = board(None);
    assert!(board.is_first_round_done());
    assert_eq!(first_round_timeout(&config), Duration::ZERO);
    assert!(board.block(0, 0).is_none() && board.check_time(0).is_none());
    assert_eq!(board.standing(0, 0).health, Health::Unknown);
}

#[test]
fn a_reload_keeps_what_is_known_and_hears_nothing_of_what_is_gone() {
    let (mut config, board) = board(Some(Default::default()));
    let layout = Layout::of(&config).unwrap();
    let keys = [0, 1].map(|at| board.key(0, at).unwrap());
    assert!(transition(&board, keys[0], Health::Up, ProbeResult::Ok));
    assert!(transition(&board, keys[1], Health::Up, ProbeResult::Ok));
    assert!(board.is_first_round_done());
    config.pools[0].backends[1] = Backend::new("127.0.0.1:3".parse().unwrap());
    let layout = layout.next(&config, &Unused).unwrap();
    board.follow(&config, &layout, Duration::from_secs(9));
    assert_eq!(board.key(0, 0), Some(keys[0]));
    assert_eq!(board.standing(0, 0).health, Health::Up);
    assert_eq!(board.key(0, 1), None);
    assert!(!transition(&board, keys[1], Health::Down, REFUSED));
    assert_eq!(
        board.standing(0, 2),
        Standing::unknown(Duration::from_secs(9))
    );
    assert!(board.is_first_round_done());
    // It comes back: as a backend nobody knows.
    config.pools[0].backends[1] = Backend::new("127.0.0.1:2".parse().unwrap());
    let layout = layout.next(&config, &Unused).unwrap();
    board.follow(&config, &layout, Duration::from_secs(10));
    assert_ne!(board.key(0, 1), None);
    assert_ne!(board.key(0, 1), Some(keys[1]));
    assert_eq!(board.standing(0, 1).health, Health::Unknown);
}

#[test]
fn another_keeper_takes_over_what_is_known_and_the_first_is_not_heard_any_more() {
    let (_, board) = board(Some(Default::default()));
    let old = board.key(0, 0).unwrap();
    assert!(transition(&board, old, Health::Down, REFUSED));
    let [at, took] = [5_000, 20].map(Duration::from_millis);
    board.note_probe(old, at, took, &REFUSED);
    let (new, known) = board.hand_over(0, 0).unwrap();
    assert_eq!((known.health, board.key(0, 0)), (Health::Down, Some(new)));
    assert_eq!(known.check_began_at, Some(Duration::from_millis(4_980)));
    assert!(!transition(&board, old, Health::Up, ProbeResult::Ok));
    assert_eq!(board.standing(0, 0).health, Health::Down);
    assert!(transition(&board, new, Health::Up, ProbeResult::Ok));
    assert_eq!(board.hand_over(0, 7), None);
}
