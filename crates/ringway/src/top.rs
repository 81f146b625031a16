//! `ringway top`: a running instance on the whole terminal, again and again. Not what it shows
//! (`top/view.rs`) and not where the numbers come from (`top/board.rs`). Invariant: the terminal is as it
//! was found, however this ends: by a key, a signal, an error or a panic.

mod board;
mod view;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::TopArgs;
use crate::client::Endpoint;
use crate::failure::Failure;
use crate::snapshot::Snapshot;

use board::Board;
use view::{Key, Screen};

/// Between two looks for keys, answers and signals.
const BEAT: Duration = Duration::from_millis(100);
/// Asking more often than this tells nothing.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What the asking thread brings.
type Answer = Result<Snapshot, String>;

/// Shows the instance until told to stop.
pub(crate) fn top(args: &TopArgs) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let text = "`ringway top` needs a terminal; for scripts there is `ringway status --json`";
        return Err(Failure::Usage(text.to_owned()));
    }
    let endpoint = Endpoint::of(&args.instance)?;
    let screen = Screen::new(endpoint.to_string());
    let answers = ask(endpoint, args.interval.max(INTERVAL_MIN));
    let is_told_to_end = on_signals().map_err(broken)?;
    // From here a panic restores the terminal before it is told.
    let mut terminal = ratatui::try_init().map_err(broken)?;
    let shown = watch(&mut terminal, screen, &answers, &is_told_to_end);
    ratatui::restore();
    shown.map_err(broken)
}

fn broken(error: io::Error) -> Failure {
    Failure::Runtime(format!("the terminal: {error}"))
}

/// Asks on a thread of its own, so that keys answer also while the instance does not.
fn ask(endpoint: Endpoint, interval: Duration) -> Receiver<Answer> {
    let (sender, answers): (Sender<Answer>, _) = channel();
    thread::spawn(move || {
        loop {
            let begun = Instant::now();
            let answer = Snapshot::fetch(&endpoint).map_err(|failure| failure.to_string());
            if sender.send(answer).is_err() {
                return;
            }
            thread::sleep(interval.saturating_sub(begun.elapsed()));
        }
    });
    answers
}

/// Set by the signals that would leave the terminal as it is.
fn on_signals() -> io::Result<Arc<AtomicBool>> {
    let is_told = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_told);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            let kinds = [
                SignalKind::terminate(),
                SignalKind::interrupt(),
                SignalKind::hangup(),
            ];
            let [Ok(mut end), Ok(mut interrupt), Ok(mut hangup)] = kinds.map(signal) else {
                return;
            };
            tokio::select! {
                _ = end.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
            told.store(true, Ordering::Relaxed);
        });
    });
    Ok(is_told)
}

fn watch(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    answers: &Receiver<Answer>,
    is_told_to_end: &AtomicBool,
) -> io::Result<()> {
    let mut board = Board::default();
    while !is_told_to_end.load(Ordering::Relaxed) {
        for answer in answers.try_iter().filter(|_| !screen.is_paused()) {
            board.take(answer);
        }
        terminal.draw(|frame| screen.draw(frame, &board))?;
        if !event::poll(BEAT)? {
            continue;
        }
        // What is not a key changes the size, which the next drawing asks for.
        let Event::Key(pressed) = event::read()? else {
            continue;
        };
        if pressed.kind == KeyEventKind::Release {
            continue;
        }
        let is_control = pressed.modifiers.contains(KeyModifiers::CONTROL);
        match key(pressed.code, is_control) {
            Some(Key::Quit) => return Ok(()),
            Some(key) => screen.press(key),
            None => {}
        }
    }
    Ok(())
}

fn key(code: KeyCode, is_control: bool) -> Option<Key> {
    Some(match code {
        KeyCode::Char('c' | 'd') if is_control => Key::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Tab => Key::NextTable,
        KeyCode::BackTab => Key::PreviousTable,
        KeyCode::Char('<' | ',') | KeyCode::Left => Key::SortLeft,
        KeyCode::Char('>' | '.') | KeyCode::Right => Key::SortRight,
        KeyCode::Char('r') => Key::Reverse,
        KeyCode::Char('t') => Key::Trouble,
        KeyCode::Char('p' | ' ') => Key::Pause,
        KeyCode::Up | KeyCode::Char('k') => Key::Scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => Key::Scroll(1),
        KeyCode::PageUp => Key::Page(-1),
        KeyCode::PageDown => Key::Page(1),
        KeyCode::Home | KeyCode::Char('g') => Key::Scroll(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => Key::Scroll(isize::MAX),
        _ => return None,
    })
}
