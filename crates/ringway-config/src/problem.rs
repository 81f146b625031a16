//! What is wrong with a file, where, and how it is shown. Not what may be wrong: the messages are
//! written where the rules are. Invariant: an [`Errors`] holds at least one problem, in the order
//! of the file, and every problem can be shown without the file.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::limits::{ERRORS_MAX, EXCERPT_CHARS_MAX, QUOTE_CHARS_MAX, SUGGESTIONS_MAX};

/// One error of a configuration, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    file: Arc<str>,
    line: u32,
    column: u32,
    key: String,
    message: String,
    excerpt: Option<Excerpt>,
}

impl Problem {
    /// The name of the file as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, counted from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The column in characters, counted from 1.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// The full key, such as `listeners.web.timeouts.idle` or `pools.web.backends[1].address`;
    /// empty when the error belongs to no key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong and, where it is known, what to write instead.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.message)?;
        match &self.excerpt {
            Some(excerpt) => {
                let (before, width) = (excerpt.offset, excerpt.width);
                write!(f, "\n{:>5} | {}", self.line, excerpt.text)?;
                write!(f, "\n      | {:before$}{:^^width$}", "", "")
            }
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with one configuration. Its `Display` prints all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    problems: Vec<Problem>,
    omitted: usize,
}

impl Errors {
    /// The problems in the order of the file; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many more were found than [`ERRORS_MAX`](crate::limits::ERRORS_MAX).
    pub fn omitted(&self) -> usize {
        self.omitted
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more errors", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// A place on one line of the text. Lines and columns count from 1; columns and width are in
/// characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) width: u32,
}

impl Span {
    /// The first character of the file.
    pub(crate) const START: Span = Span {
        line: 1,
        column: 1,
        width: 1,
    };
}

/// Collects the problems of one text.
#[derive(Debug)]
pub(crate) struct Collector<'t> {
    file: Arc<str>,
    lines: Vec<&'t str>,
    problems: Vec<Problem>,
    places: BTreeSet<(u32, u32, String)>,
    omitted: usize,
}

impl<'t> Collector<'t> {
    /// `text` is what the spans of later problems point into.
    pub(crate) fn new(file: &str, text: &'t str) -> Self {
        // A file name may hold anything; an error is one line on a terminal.
        let file: String = file.chars().map(shown).collect();
        Collector {
            file: file.into(),
            lines: lines(text),
            problems: Vec::new(),
            places: BTreeSet::new(),
            omitted: 0,
        }
    }

    /// Notes a problem. The first one of a key at a place wins: what follows is its consequence.
    pub(crate) fn push(&mut self, span: Span, key: &str, message: impl Into<String>) {
        // A place past the end (an unfinished last line) is shown at the end of the last line.
        let last = u32::try_from(self.lines.len()).unwrap_or(u32::MAX).max(1);
        let text = |line: u32| self.lines.get(line as usize - 1).copied().unwrap_or("");
        let span = if span.line > last {
            let column = u32::try_from(text(last).chars().count()).unwrap_or(u32::MAX);
            Span {
                line: last,
                column: column.max(1),
                width: 1,
            }
        } else {
            span
        };
        if self.problems.len() >= ERRORS_MAX {
            self.omitted += 1;
            return;
        }
        if !self.places.insert((span.line, span.column, key.to_owned())) {
            return;
        }
        self.problems.push(Problem {
            file: Arc::clone(&self.file),
            line: span.line,
            column: span.column,
            key: key.to_owned(),
            message: message.into(),
            excerpt: Excerpt::of(text(span.line), span),
        });
    }

    /// Whether near words are still worth looking up: a list this long is not read to its end.
    pub(crate) fn wants_suggestions(&self) -> bool {
        self.problems.len() < SUGGESTIONS_MAX
    }

    /// The line `number` (from 1), without its end.
    pub(crate) fn line(&self, number: u32) -> &'t str {
        self.lines
            .get((number as usize).wrapping_sub(1))
            .copied()
            .unwrap_or("")
    }

    /// The problems in the order of the file; `None` when there are none.
    pub(crate) fn finish(mut self) -> Option<Errors> {
        self.problems
            .sort_by_key(|problem| (problem.line, problem.column));
        (!self.problems.is_empty()).then_some(Errors {
            problems: self.problems,
            omitted: self.omitted,
        })
    }
}

/// Part of a line, made safe to print, and where in it the error is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    offset: usize,
    width: usize,
}

impl Excerpt {
    fn of(line: &str, span: Span) -> Option<Excerpt> {
        if line.trim().is_empty() {
            return None;
        }
        let column = span.column as usize - 1;
        let skipped = column.saturating_sub(EXCERPT_CHARS_MAX / 2);
        let text: String = line
            .chars()
            .skip(skipped)
            .take(EXCERPT_CHARS_MAX)
            .map(shown)
            .collect();
        let offset = column - skipped;
        let room = text.chars().count().saturating_sub(offset).max(1);
        let width = (span.width as usize).clamp(1, room);
        Some(Excerpt {
            text: text.trim_end().to_owned(),
            offset,
            width,
        })
    }
}

/// `text` cut to a length fit for a message, with nothing in it a terminal would act on.
pub(crate) fn quoted(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(QUOTE_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        short.push('…');
    }
    // A quote inside backticks needs no backslash.
    short.replace("\\\"", "\"").replace("\\'", "'")
}

/// One character for one, so that columns stay where they are.
fn shown(character: char) -> char {
    match character {
        '\t' => ' ',
        // Marks that reorder what follows them could make an error point at the wrong text.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        other if other.is_control() => '\u{fffd}',
        other => other,
    }
}

/// The lines of a text as YAML counts them: LF, CR LF and a lone CR end one (YAML 1.2.2, 5.4).
fn lines(text: &str) -> Vec<&str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
        .collect::<Vec<_>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_yaml_ends_them() {
        assert_eq!(lines("a\nb\r\nc\rd"), ["a", "b", "c", "d"]);
        assert_eq!(lines("a\r\n"), ["a", ""]);
    }

    #[test]
    fn a_problem_shows_its_place() {
        let mut found = Collector::new("edge.yaml", "one\n  two: 3\n");
        found.push(
            Span {
                line: 2,
                column: 3,
                width: 3,
            },
            "two",
            "is wrong",
        );
        let errors = found.finish().expect("one problem");
        assert_eq!(
            errors.to_string(),
            "edge.yaml:2:3: two: is wrong\n    2 |   two: 3\n      |   ^^^"
        );
    }

    #[test]
    fn nothing_a_terminal_acts_on_is_shown() {
        let text = "a: \u{1b}[31m\u{202e}x\ty\n";
        let mut found = Collector::new("\u{1b}c.yaml", text);
        found.push(
            Span {
                line: 1,
                column: 4,
                width: 1,
            },
            "",
            quoted("\u{1b}\u{202e}\n'\""),
        );
        let shown = found.finish().expect("one problem").to_string();
        assert!(
            shown.chars().all(|c| c == '\n' || !c.is_control()),
            "{shown:?}"
        );
        assert!(!shown.contains('\u{202e}'), "{shown:?}");
        assert!(shown.contains("'\""), "{shown:?}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(5000), "b".repeat(5000));
        let mut found = Collector::new("f", &text);
        found.push(
            Span {
                line: 1,
                column: 5001,
                width: 4,
            },
            "",
            "m",
        );
        let shown = found.finish().expect("one problem").to_string();
        let rows: Vec<&str> = shown.lines().collect();
        assert!(rows[1].chars().count() <= EXCERPT_CHARS_MAX + 8);
        assert_eq!(rows[1].find("HERE"), rows[2].find("^^^^"));
    }

    #[test]
    fn more_than_can_be_kept_are_counted() {
        let mut found = Collector::new("f", "x");
        for index in 0..ERRORS_MAX + 7 {
            found.push(Span::START, &index.to_string(), "m");
        }
        let errors = found.finish().expect("many problems");
        assert_eq!((errors.problems().len(), errors.omitted()), (ERRORS_MAX, 7));
        assert!(errors.to_string().ends_with("\nand 7 more errors"));
    }
}
