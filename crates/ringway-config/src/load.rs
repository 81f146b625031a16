//! A configuration from a file or a text. Not the rules: this is the way from bytes to model.
//! Invariant: a file is read whole before anything is looked at, and never more of it than
//! [`FILE_BYTES_MAX`] bytes.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::grammar::Grammar;
use crate::keys::Document;
use crate::limits::FILE_BYTES_MAX;
use crate::lower;
use crate::model::Config;
use crate::problem::{Collector, Errors, Span};
use crate::tree;
use crate::unsupported::{UNSUPPORTED, Unsupported};
use crate::walk::Lowering;

/// Reads and checks a file.
///
/// # Errors
/// When the file cannot be read, or with everything that is wrong with what it says.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let text = read(path)?;
    parse(&path.display().to_string(), &text).map_err(LoadError::Invalid)
}

/// As [`load`], for a file that may be written at this moment: it is read until two looks at it see the
/// same. Whoever writes in place and stops in the middle for longer than that is taken to be done;
/// a file that is renamed into its place is never seen half.
///
/// # Errors
/// As [`load`], when the file does not come to rest, and when it is none.
pub fn load_settled(path: &Path) -> Result<Config, LoadError> {
    let text = read_settled(path)?;
    parse(&path.display().to_string(), &text).map_err(LoadError::Invalid)
}

/// Checks a text; `name` is what the errors call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(name: &str, text: &str) -> Result<Config, Errors> {
    parse_with(name, text, UNSUPPORTED)
}

/// Checks a text while other keys are unsupported.
pub(crate) fn parse_with(
    name: &str,
    text: &str,
    unsupported: &'static [Unsupported],
) -> Result<Config, Errors> {
    // A byte order mark is allowed at the start (YAML 1.2.2, 5.2) and no part of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Collector::new(
        name,
        if text.len() > FILE_BYTES_MAX {
            ""
        } else {
            text
        },
    );
    let config = lower_text(text, &mut found, unsupported);
    match found.finish() {
        Some(errors) => Err(errors),
        None => Ok(config.expect("invariant: a model is missing only after a problem was noted")),
    }
}

fn lower_text(
    text: &str,
    found: &mut Collector<'_>,
    unsupported: &'static [Unsupported],
) -> Option<Config> {
    if text.len() > FILE_BYTES_MAX {
        found.push(Span::START, "", too_large(text.len() as u64));
        return None;
    }
    let root = tree::read(text, found)?;
    let document = Document::lower(&root, &mut Lowering::new(found, unsupported))?;
    lower::config(&document, found)
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be opened or read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a directory.
    Directory {
        /// Which one.
        path: PathBuf,
    },
    /// It is a pipe, a socket or a device, which cannot be read again and may never answer.
    NoFile {
        /// Which one.
        path: PathBuf,
    },
    /// It has more than [`FILE_BYTES_MAX`] bytes.
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size in bytes, at least.
        bytes: u64,
    },
    /// It changes all the time.
    Unsettled {
        /// Which file.
        path: PathBuf,
    },
    /// It is no UTF-8 text.
    NotText {
        /// Which file.
        path: PathBuf,
        /// The line of the first byte that is wrong, from 1.
        line: usize,
        /// Its place in that line in bytes, from 1.
        column: usize,
    },
    /// It could be read, and is wrong.
    Invalid(Errors),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Unreadable { path, source } => {
                let remedy = match source.kind() {
                    io::ErrorKind::NotFound => "; check the path given with -c",
                    io::ErrorKind::PermissionDenied => {
                        "; the user of this process must be able to read it"
                    }
                    _ => "",
                };
                write!(f, "{}: cannot be read: {source}{remedy}", path.display())
            }
            LoadError::Directory { path } => {
                write!(
                    f,
                    "{}: is a directory; give the file inside it",
                    path.display()
                )
            }
            LoadError::NoFile { path } => write!(
                f,
                "{}: is a pipe or a device, which cannot be read again; give a file",
                path.display()
            ),
            LoadError::TooLarge { path, bytes } => {
                write!(f, "{}: {}", path.display(), too_large(*bytes))
            }
            LoadError::Unsettled { path } => {
                write!(f, "{}: is being written all the time", path.display())
            }
            LoadError::NotText { path, line, column } => write!(
                f,
                "{}:{line}:{column}: not UTF-8 text; save the file as UTF-8",
                path.display()
            ),
            LoadError::Invalid(errors) => write!(f, "{errors}"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoadError::Unreadable { source, .. } => Some(source),
            LoadError::Directory { .. }
            | LoadError::NoFile { .. }
            | LoadError::TooLarge { .. }
            | LoadError::NotText { .. }
            | LoadError::Unsettled { .. }
            | LoadError::Invalid(_) => None,
        }
    }
}

fn read_settled(path: &Path) -> Result<String, LoadError> {
    // A file that was last touched longer ago is at rest.
    const RECENT: Duration = Duration::from_millis(200);
    const PAUSE: Duration = Duration::from_millis(20);
    const LOOKS_MAX: usize = 50;
    let mut seen = None;
    for _ in 0..LOOKS_MAX {
        let about = std::fs::metadata(path);
        // To open a pipe would wait for whoever writes to it.
        if about.as_ref().is_ok_and(|about| !is_readable_again(about)) {
            return Err(LoadError::NoFile {
                path: path.to_owned(),
            });
        }
        let touched = about.and_then(|about| about.modified());
        let text = read(path)?;
        // A clock that was set back says nothing of the age.
        let age = touched.ok().and_then(|at| at.elapsed().ok());
        if seen.as_ref() == Some(&text) || age.is_some_and(|age| age > RECENT) {
            return Ok(text);
        }
        seen = Some(text);
        std::thread::sleep(PAUSE);
    }
    Err(LoadError::Unsettled {
        path: path.to_owned(),
    })
}

/// A directory has an error of its own.
fn is_readable_again(about: &std::fs::Metadata) -> bool {
    about.is_file() || about.is_dir()
}

fn too_large(bytes: u64) -> String {
    format!(
        "{bytes} bytes, and a configuration has at most {FILE_BYTES_MAX}; is this the right file?"
    )
}

fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(LoadError::Directory {
            path: path.to_owned(),
        });
    }
    let too_large = |bytes| LoadError::TooLarge {
        path: path.to_owned(),
        bytes,
    };
    if metadata.len() > FILE_BYTES_MAX as u64 {
        return Err(too_large(metadata.len()));
    }
    // The size of a pipe or a device is not known before its end.
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(too_large(bytes.len() as u64));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        LoadError::NotText {
            path: path.to_owned(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: before.len() - line_start + 1,
        }
    })
}
