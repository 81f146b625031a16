//! `--watch`: looks at the file every now and then and asks for a reload when it has changed.
//!
//! It looks at what the path leads to, through whatever links, because a ConfigMap changes by a link to
//! a directory that is renamed; the kernel's notices would have to follow each of them. Invariant: a
//! change asks once, when the file has been at rest from one look to the next; one that is refused asks
//! again at the next change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::reload::{Asker, Wish};
use crate::supervise::Event;

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// What tells one content from another without reading it; nothing where there is no file.
type Look = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

fn look(path: &Path) -> Look {
    let about = fs::metadata(path).ok()?;
    let modified = (about.mtime(), about.mtime_nsec());
    let changed = (about.ctime(), about.ctime_nsec());
    Some((about.dev(), about.ino(), about.size(), modified, changed))
}

/// What was seen, and what was asked for.
#[derive(Debug)]
struct Watcher {
    last: Look,
    /// The content that was loaded, or refused.
    done: Look,
}

impl Watcher {
    /// What was loaded at start may have changed since: the first content at rest is loaded again, which
    /// changes nothing if it is the same.
    fn new(first: Look) -> Watcher {
        Watcher {
            last: first,
            done: None,
        }
    }

    /// Takes a look in; whether a reload is due.
    fn see(&mut self, now: Look) -> bool {
        let is_at_rest = now == self.last;
        self.last = now;
        // A file that is away, in the middle of a change or for good, is nothing to load.
        let is_due = is_at_rest && now.is_some() && now != self.done;
        if is_due {
            self.done = now;
        }
        is_due
    }
}

/// Looks until the runtime ends. On a thread that may wait for the disk.
pub(crate) async fn watch(path: PathBuf, events: UnboundedSender<Event>) {
    let seen = |path: PathBuf| async {
        let look = tokio::task::spawn_blocking(move || look(&path)).await;
        look.unwrap_or_default()
    };
    let mut watcher = Watcher::new(seen(path.clone()).await);
    loop {
        tokio::time::sleep(PAUSE).await;
        if watcher.see(seen(path.clone()).await) {
            let asker = Asker {
                wish: Wish::File,
                who: "--watch",
                reply: None,
            };
            if events.send(Event::Reload(asker)).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn content(number: u64) -> Look {
        Some((1, number, 1, (1, 1), (1, 1)))
    }

    #[test]
    fn a_change_asks_once_and_when_it_is_at_rest() {
        let mut watcher = Watcher::new(content(1));
        assert!(watcher.see(content(1)));
        let looks = [1, 2, 3, 3, 3, 1, 1, 1].map(|number| watcher.see(content(number)));
        assert_eq!(
            looks,
            [false, false, false, true, false, false, true, false]
        );
    }

    #[test]
    fn a_file_that_is_away_is_no_change_and_one_that_is_back_is_looked_at() {
        let mut watcher = Watcher::new(content(1));
        assert!(watcher.see(content(1)));
        assert!([None, None, content(1), content(1)].map(|l| watcher.see(l)) == [false; 4]);
        assert!([None, content(2)].map(|l| watcher.see(l)) == [false; 2]);
        assert!(watcher.see(content(2)));
    }
}
