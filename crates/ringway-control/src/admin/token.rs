//! The bearer token that changes need where `admin.token_file` is set.
//!
//! The file is read at each change, so a new token holds from the moment it is written and an old
//! one no longer. Invariant: without a token that can be read nobody changes anything; how long a
//! comparison takes says nothing about how much of a guess was right.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, header};
use tracing::warn;

/// Longer than any token, shorter than what could hurt.
const FILE_BYTES_MAX: u64 = 4096;
/// Shorter ones can be guessed.
const SAFE_BYTES: usize = 16;
/// The bits of a file's mode that let others than its owner and group read or write it.
const OTHERS: u32 = 0o006;

/// Where the token is.
#[derive(Debug)]
pub(crate) struct TokenFile(PathBuf);

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
        Ok(TokenFile(path))
    }

    /// Reads the file, so it blocks.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let given = bearer(headers).ok_or(Denied::Missing)?;
        let token = read(&self.0).map_err(Denied::Unreadable)?;
        if is_same(given.as_bytes(), token.as_bytes()) {
            Ok(())
        } else {
            Err(Denied::Wrong)
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
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

    #[test]
    fn the_token_in_the_file_now_is_the_one_that_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "first-of-two-tokens\n").unwrap();
        let file = TokenFile::open(path.clone()).unwrap();
        assert!(file.check(&headers("Bearer first-of-two-tokens")).is_ok());
        assert!(file.check(&headers("bearer  first-of-two-tokens")).is_ok());
        for wrong in [
            "Bearer first",
            "Bearer first-of-two-tokens-",
            "Bearer x",
            "Bearer ",
        ] {
            assert!(
                matches!(file.check(&headers(wrong)), Err(Denied::Wrong)),
                "{wrong}"
            );
        }
        for none in ["Basic first-of-two-tokens", "first-of-two-tokens"] {
            assert!(
                matches!(file.check(&headers(none)), Err(Denied::Missing)),
                "{none}"
            );
        }
        assert!(matches!(
            file.check(&HeaderMap::new()),
            Err(Denied::Missing)
        ));

        fs::write(&path, "second-of-two-tokens").unwrap();
        assert!(matches!(
            file.check(&headers("Bearer first-of-two-tokens")),
            Err(Denied::Wrong)
        ));
        assert!(file.check(&headers("Bearer second-of-two-tokens")).is_ok());
        fs::remove_file(&path).unwrap();
        let gone = file.check(&headers("Bearer second-of-two-tokens"));
        assert!(matches!(gone, Err(Denied::Unreadable(_))));
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
