//! YAML text to a small tree in which every node knows its place. Not a general YAML reader: one
//! document, and no anchors, aliases, tags or merge keys, each refused by name, so that a small
//! file cannot become a large tree. What one word of YAML means is `scalar.rs`.
//!
//! Invariant: a tree holds at most [`NODES_MAX`] nodes, is at most [`DEPTH_MAX`] deep, and no
//! mapping in it holds a key twice.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as YamlSpan};

use crate::limits::{DEPTH_MAX, NODES_MAX};
use crate::problem::{Collector, Span, quoted};
use crate::scalar;

/// One value of the file and the place where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// What a node is, by the YAML 1.2 core schema.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that is no 64-bit integer, as it is written.
    Number(String),
    Text(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
    /// Something this reader refuses; the problem is noted already and needs no second one.
    Refused,
}

/// A key of a mapping, whatever its type, as text.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// Reads one document. `None` means that it has no tree; the reasons are in `found`.
pub(crate) fn read(text: &str, found: &mut Collector<'_>) -> Option<Node> {
    if !check_characters(text, found) {
        return None;
    }
    let mut builder = Builder {
        found,
        path: String::new(),
        stack: Vec::new(),
        nodes: 0,
        root: None,
    };
    for event in Parser::new_from_str(text).map_while_ok() {
        match event {
            Ok((event, span)) => builder.event(event, span)?,
            Err(error) => {
                builder.syntax(&error);
                return None;
            }
        }
    }
    match builder.root {
        Some(root) => Some(root),
        None => {
            found.push(
                Span::START,
                "",
                "the file is empty: it needs at least `listeners` and `pools`",
            );
            None
        }
    }
}

/// Reads a default written in the tables of `keys.rs`.
pub(crate) fn read_preset(text: &str) -> Node {
    let mut found = Collector::new("preset", text);
    read(text, &mut found).expect("invariant: every default of the tables is YAML, see its test")
}

/// Ends the stream of events after its first error: the parser's state is undefined then.
trait MapWhileOk<'t> {
    fn map_while_ok(self) -> impl Iterator<Item = Result<(Event<'t>, YamlSpan), ScanError>>;
}

impl<'t, I: Iterator<Item = Result<(Event<'t>, YamlSpan), ScanError>>> MapWhileOk<'t> for I {
    fn map_while_ok(mut self) -> impl Iterator<Item = Result<(Event<'t>, YamlSpan), ScanError>> {
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let next = self.next();
            failed = matches!(next, Some(Err(_)));
            next
        })
    }
}

/// A collection whose end has not been read.
#[derive(Debug)]
struct Open {
    span: Span,
    /// Length of the builder's path outside this collection.
    path_length: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<(Key, Node)>,
        lines: BTreeMap<String, u32>,
        key: Option<Key>,
    },
}

#[derive(Debug)]
struct Builder<'f, 't> {
    found: &'f mut Collector<'t>,
    path: String,
    stack: Vec<Open>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder<'_, '_> {
    /// Takes one event; `None` ends the reading.
    fn event(&mut self, event: Event<'_>, at: YamlSpan) -> Option<()> {
        let span = place(at);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Some(()),
            Event::DocumentStart(_) if self.root.is_none() => Some(()),
            Event::DocumentStart(_) => self.stop(
                span,
                "a second document starts here: one file holds one configuration",
            ),
            Event::Alias(_) => {
                self.refuse(span, ALIASES);
                self.value(Node {
                    value: Value::Refused,
                    span,
                })
            }
            Event::Scalar(text, style, anchor, tag) => {
                let refused = self.refuse_properties(anchor, tag.is_some(), span);
                self.scalar(&text, style, span, refused)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_properties(anchor, tag.is_some(), span);
                self.open(span, Content::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_properties(anchor, tag.is_some(), span);
                let (entries, lines) = (Vec::new(), BTreeMap::new());
                self.open(
                    span,
                    Content::Mapping {
                        entries,
                        lines,
                        key: None,
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span, refused: bool) -> Option<()> {
        if let Some(Open {
            content: Content::Mapping {
                key: key @ None, ..
            },
            ..
        }) = self.stack.last_mut()
        {
            *key = Some(Key {
                text: text.to_owned(),
                span,
            });
            push_key(&mut self.path, text);
            return self.count(span);
        }
        let value = if refused {
            Value::Refused
        } else if style == ScalarStyle::Plain {
            scalar::plain(text)
        } else {
            Value::Text(text.to_owned())
        };
        self.value(Node { value, span })
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, mut node: Node) -> Option<()> {
        let span = node.span;
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open {
                content: Content::Sequence(items),
                ..
            }) => items.push(node),
            Some(Open {
                content:
                    Content::Mapping {
                        entries,
                        lines,
                        key,
                    },
                path_length,
                ..
            }) => {
                let Some(key) = key.take() else {
                    return self.stop(span, "a key must be one word, not a list or a mapping");
                };
                if matches!(node.value, Value::Null) {
                    // Nothing was written, so the key is what can be shown.
                    node.span = key.span;
                }
                let outside = *path_length;
                if let Some(first) = lines.get(&key.text) {
                    let name = quoted(&key.text);
                    let message = format!("duplicate key `{name}`; it is first on line {first}");
                    self.found.push(key.span, &self.path, message);
                } else if key.text == "<<" {
                    let message = "merge keys are not supported: write the keys out";
                    self.found.push(key.span, &self.path, message);
                } else {
                    lines.insert(key.text.clone(), key.span.line);
                    entries.push((key, node));
                }
                self.path.truncate(outside);
            }
        }
        self.count(span)
    }

    fn open(&mut self, span: Span, content: Content) -> Option<()> {
        if self.stack.len() >= DEPTH_MAX {
            return self.stop(span, format!("nested deeper than {DEPTH_MAX} levels"));
        }
        match self.stack.last() {
            Some(Open {
                content: Content::Mapping { key: None, .. },
                ..
            }) => {
                return self.stop(span, "a key must be one word, not a list or a mapping");
            }
            Some(Open {
                content: Content::Sequence(items),
                ..
            }) => {
                let path_length = self.path.len();
                push_index(&mut self.path, items.len());
                self.stack.push(Open {
                    span,
                    path_length,
                    content,
                });
                return Some(());
            }
            Some(Open {
                content: Content::Mapping { key: Some(_), .. },
                ..
            })
            | None => {}
        }
        let path_length = self.path.len();
        self.stack.push(Open {
            span,
            path_length,
            content,
        });
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let open = self
            .stack
            .pop()
            .expect("invariant: a collection ends after it starts");
        self.path.truncate(open.path_length);
        let value = match open.content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping { entries, .. } => Value::Mapping(entries),
        };
        self.value(Node {
            value,
            span: open.span,
        })
    }

    fn count(&mut self, span: Span) -> Option<()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return self.stop(span, format!("more than {NODES_MAX} keys and values"));
        }
        Some(())
    }

    /// Whether the node carries something that is refused.
    fn refuse_properties(&mut self, anchor: usize, tagged: bool, span: Span) -> bool {
        if anchor != 0 {
            self.refuse(
                span,
                "anchors (`&name`) are not supported: write the value out",
            );
        }
        if tagged {
            self.refuse(
                span,
                "tags (`!name`) are not supported: quote a value to make it text",
            );
        }
        anchor != 0 || tagged
    }

    fn refuse(&mut self, span: Span, message: &str) {
        self.found.push(span, &self.path, message);
    }

    fn stop(&mut self, span: Span, message: impl Into<String>) -> Option<()> {
        self.found.push(span, &self.path, message);
        None
    }

    fn syntax(&mut self, error: &ScanError) {
        let at = error.marker();
        let span = place(YamlSpan::empty(*at));
        // The parser reports what it missed, often after the line that caused it.
        let lines = [
            self.found.line(span.line),
            self.found.line(span.line.saturating_sub(1)),
        ];
        let message = explain(error.info(), lines);
        self.found.push(span, &self.path, message);
    }
}

const ALIASES: &str = "aliases (`*name`) are not supported: write the value out";

/// What a syntax error of the parser means to who wrote the file.
fn explain(info: &str, lines: [&str; 2]) -> String {
    if info.contains("unknown anchor") || info.contains("anchor or alias") {
        return format!("{ALIASES}, or quote text that starts with `*` or `&`");
    }
    if lines.iter().any(|line| line.contains("]:")) {
        return format!("not YAML: {info}; quote an IPv6 address, as in \"[::]:8080\"");
    }
    if info.contains("tab") {
        return format!("not YAML: {info}; indent with spaces");
    }
    let meaning = match info {
        "recursion limit exceeded" => return format!("nested deeper than {DEPTH_MAX} levels"),
        "mapping values are not allowed in this context" => {
            "a `:` is not expected here; check the indentation, or quote a value that has a `:`"
        }
        "simple key expected" | "simple key expect ':'" => {
            "a key without `:`; check the indentation and the `:` of this and the line before"
        }
        "while parsing a block mapping, did not find expected key" => {
            "a key is expected here; check the indentation and what stands after a `]`, `}` or quote"
        }
        other => other,
    };
    format!("not YAML: {meaning}")
}

/// Refuses what YAML does not allow in a file: YAML 1.2.2, 5.1, `c-printable`.
fn check_characters(text: &str, found: &mut Collector<'_>) -> bool {
    let is_printable = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}')
            || (matches!(c, '\u{e000}'..='\u{fffd}' | '\u{10000}'..) && c != '\u{feff}')
    };
    let count = text.chars().filter(|c| !is_printable(*c)).count();
    if count == 0 {
        return true;
    }
    let (mut line, mut column, mut previous) = (1, 1, ' ');
    for character in text.chars() {
        if !is_printable(character) {
            let code = u32::from(character);
            let also = if count == 1 {
                String::new()
            } else {
                format!(" ({count} in this file)")
            };
            let message =
                format!("the character U+{code:04X} is not allowed in YAML{also}: is this text?");
            found.push(
                Span {
                    line,
                    column,
                    width: 1,
                },
                "",
                message,
            );
            return false;
        }
        match character {
            '\n' if previous == '\r' => {}
            '\n' | '\r' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
        previous = character;
    }
    false
}

fn place(span: YamlSpan) -> Span {
    let clamp = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let on_one_line = span.start.line() == span.end.line();
    let width = if on_one_line {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Span {
        line: clamp(span.start.line().max(1)),
        column: clamp(span.start.col() + 1),
        width: clamp(width.max(1)),
    }
}

/// Appends a key to a path; what is not a plain word is quoted.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !key.is_empty() && key.chars().all(is_word) && key.len() <= 100 {
        path.push_str(key);
    } else {
        path.push_str(&format!("\"{}\"", quoted(key)));
    }
}

/// Appends the place in a list to a path.
pub(crate) fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}
