//! The bearer token that changes need where `admin.token_file` is set.
//!
//! The file is read at each change, so a new token holds from the moment it is written and an old
//! one no longer. Invariant: without a token that can be read nobody changes anything; how long a
//! comparison takes says nothing about how much of a guess was right; a file that does not answer keeps one
//! thread, whoever asks.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::warn;

/// Longer than any token, shorter than what could hurt.
const FILE_BYTES_MAX: u64 = 4096;
/// Shorter ones can be guessed.
const SAFE_BYTES: usize = 16;
/// The bits of a file's mode that let others than its owner and group read or write it.
const OTHERS: u32 = 0o006;

/// How long the file may take, and how long one may wait for those before.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Where the token is.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    /// Held by whoever reads it, until it was read.
    turn: Arc<Mutex<()>>,
}

/// What is wrong with a request that should change something.
#[derive(Debug)]
pub(super) enum Denied {
    /// It brings no token.
    Missing,
    /// It brings another one.
    Wrong,
    /// There is none to compare with.
    Unreadable(io::Error),
}

impl TokenFile {
    /// Of a file that holds a token now.
    pub(crate) fn open(path: PathBuf) -> io::Result<TokenFile> {
        let token = read(&path)?;
        if token.len() < SAFE_BYTES {
            let bytes = token.len();
            warn!(path = %path.display(), bytes, "the admin token is short: use 16 bytes or more");
        }
        let mode = std::fs::metadata(&path)?.mode();
        if mode & OTHERS != 0 {
            let mode = format!("{:o}", mode & 0o7777);
            warn!(path = %path.display(), mode, "the admin token can be read by every user: chmod o=");
        }
        Ok(TokenFile {
            path,
            turn: Arc::default(),
        })
    }

    /// Whether the request brings what the file holds now.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let given = bearer(headers).ok_or(Denied::Missing)?;
        let read = timeout(READ_WITHIN, self.read());
        let silent = |_| Err(io::ErrorKind::TimedOut.into());
        let token = read.await.unwrap_or_else(silent);
        let token = token.map_err(Denied::Unreadable)?;
        if is_same(given.as_bytes(), token.as_bytes()) {
            Ok(())
        } else {
            Err(Denied::Wrong)
        }
    }

    /// One at a time: the turn ends with the look at the file, which nobody may wait for any more.
    async fn read(&self) -> io::Result<String> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let path = self.path.clone();
        let look = spawn_blocking(move || {
            let text = read(&path);
            drop(turn);
            text
        });
        look.await.map_err(io::Error::other)?
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // To open a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path)?.is_file() {
        let text = "it is a directory, a pipe or a device";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    let token = text.trim();
    let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if text.len() as u64 > FILE_BYTES_MAX {
        wrong("it is longer than 4096 bytes")
    } else if token.is_empty() {
        wrong("it is empty")
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        wrong("a token is one word of ASCII characters")
    } else {
        Ok(token.to_owned())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Looks at every byte, whatever the first ones are.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let differing = given
        .iter()
        .zip(token)
        .fold(0, |bits, (a, b)| black_box(bits | (a ^ b)));
    black_box(differing == 0) & (given.len() == token.len())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        [(header::AUTHORIZATION, authorization.parse().unwrap())]
            .into_iter()
            .collect()
    }

    fn check(file: &TokenFile, headers: &HeaderMap) -> Result<(), Denied> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(file.check(headers))
    }

    #[test]
    fn the_token_in_the_file_now_is_the_one_that_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "first-of-two-tokens\n").unwrap();
        let file = TokenFile::open(path.clone()).unwrap();
        assert!(check(&file, &headers("Bearer first-of-two-tokens")).is_ok());
        assert!(check(&file, &headers("bearer  first-of-two-tokens")).is_ok());
        for wrong in [
            "Bearer first",
            "Bearer first-of-two-tokens-",
            "Bearer x",
            "Bearer ",
        ] {
            assert!(
                matches!(check(&file, &headers(wrong)), Err(Denied::Wrong)),
                "{wrong}"
            );
        }
        for none in ["Basic first-of-two-tokens", "first-of-two-tokens"] {
            assert!(
                matches!(check(&file, &headers(none)), Err(Denied::Missing)),
                "{none}"
            );
        }
        assert!(matches!(
            check(&file, &HeaderMap::new()),
            Err(Denied::Missing)
        ));

        fs::write(&path, "second-of-two-tokens").unwrap();
        assert!(matches!(
            check(&file, &headers("Bearer first-of-two-tokens")),
            Err(Denied::Wrong)
        ));
        assert!(check(&file, &headers("Bearer second-of-two-tokens")).is_ok());
        fs::remove_file(&path).unwrap();
        let gone = check(&file, &headers("Bearer second-of-two-tokens"));
        assert!(matches!(gone, Err(Denied::Unreadable(_))));
    }

    #[test]
    fn a_pipe_is_no_file_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "a-token-of-some-length").unwrap();
        let file = TokenFile::open(path.clone()).unwrap();
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let given = headers("Bearer a-token-of-some-length");
        assert!(matches!(check(&file, &given), Err(Denied::Unreadable(_))));
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(TokenFile::open(path.clone()).is_err());
        for text in ["", " \n", "two words", "naïve", &"x".repeat(5000)] {
            fs::write(&path, text).unwrap();
            assert!(TokenFile::open(path.clone()).is_err(), "{text}");
        }
    }
}
