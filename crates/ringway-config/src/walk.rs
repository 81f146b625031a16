//! The walk down the tree: where it is, what it reads there and what it notes. Not what may be
//! written where; that is `keys.rs`. Invariant: a value that cannot be read is `None` and has at
//! least one problem noted, and the walk goes on after it.

use crate::grammar::Grammar;
use crate::problem::{Collector, Span, quoted};
use crate::suggest::nearest;
use crate::tree::{self, Key, Node, Value};
use crate::unsupported::Unsupported;

/// A value, its place and its full key.
#[derive(Debug, Clone)]
pub(crate) struct Field<T> {
    value: Option<T>,
    pub(crate) span: Span,
    pub(crate) path: String,
    pub(crate) written: bool,
}

impl<T> Field<T> {
    /// The value; `None` when it is wrong, which is noted already.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

/// Two fields are equal when they say the same, wherever they say it.
impl<T: PartialEq> PartialEq for Field<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// One step down the tree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'s> {
    /// A key of the contract.
    Key(&'s str),
    /// A name the user chose.
    Name(&'s str),
    /// A place in a list.
    Index(usize),
}

/// The walk down the tree.
#[derive(Debug)]
pub(crate) struct Lowering<'f, 't> {
    found: &'f mut Collector<'t>,
    unsupported: &'static [Unsupported],
    /// The full key, as shown: `listeners.web.bind`.
    path: String,
    /// The full key with the user's names left out: `listeners.*.bind`.
    pattern: String,
    /// The place of the key or list item the walk is at.
    here: Span,
    /// Words that would be taken instead of the value now read.
    words: Vec<&'static str>,
}

impl<'f, 't> Lowering<'f, 't> {
    pub(crate) fn new(found: &'f mut Collector<'t>, unsupported: &'static [Unsupported]) -> Self {
        Lowering {
            found,
            unsupported,
            path: String::new(),
            pattern: String::new(),
            here: Span::START,
            words: Vec::new(),
        }
    }

    /// Notes a problem with the value `node`.
    pub(crate) fn reject(&mut self, node: &Node, message: impl Into<String>) {
        let span = self.place(node);
        self.found.push(span, &self.path, message);
    }

    /// Notes a problem of the key one step further down at `here`.
    pub(crate) fn reject_at(&mut self, step: Step<'_>, here: Span, message: impl Into<String>) {
        self.step(step, here, |cx| cx.reject_here(message));
    }

    /// Notes a problem of a value that was read before.
    pub(crate) fn reject_field<T>(&mut self, field: &Field<T>, message: impl Into<String>) {
        self.found.push(field.span, &field.path, message);
    }

    /// Notes a problem of the key or list item the walk is at.
    pub(crate) fn reject_here(&mut self, message: impl Into<String>) {
        self.found.push(self.here, &self.path, message);
    }

    /// Notes that `node` is of the wrong type.
    pub(crate) fn mismatch(&mut self, node: &Node, expected: &str) {
        let words: String = self
            .words
            .iter()
            .map(|word| format!("`{word}` or "))
            .collect();
        let hint = self.mismatch_hint(node, expected);
        let found = describe(node);
        self.reject(
            node,
            format!("expected {words}{expected}, found {found}{hint}"),
        );
    }

    /// How the value should have been written, where the mistake is a common one.
    fn mismatch_hint(&self, node: &Node, expected: &str) -> &'static str {
        match &node.value {
            Value::Bool(false) if self.takes_word("off") || expected.contains("`off`") => {
                "; did you mean `off`?"
            }
            Value::Bool(_) | Value::Integer(_) | Value::Number(_) if expected.contains("text") => {
                "; quote it"
            }
            Value::Text(text) if text.parse::<i64>().is_ok() && expected.contains("number") => {
                "; remove the quotes"
            }
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Null
            | Value::Sequence(_)
            | Value::Mapping(_)
            | Value::Refused => "",
        }
    }

    /// Whether `word` would be taken instead of the value now read.
    pub(crate) fn takes_word(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    /// Reads `node` while `word` would be taken too.
    pub(crate) fn lower_or<T: Grammar>(&mut self, word: &'static str, node: &Node) -> Option<T> {
        self.words.push(word);
        let value = T::lower(node, self);
        self.words.pop();
        value
    }

    /// Reads `node`, which stands one step further down at `here`.
    pub(crate) fn field<T: Grammar>(
        &mut self,
        step: Step<'_>,
        here: Span,
        node: &Node,
    ) -> Field<T> {
        self.step(step, here, |cx| {
            let is_refused = matches!(node.value, Value::Refused);
            let value = if is_refused { None } else { T::lower(node, cx) };
            Field {
                value,
                span: cx.place(node),
                path: cx.path.clone(),
                written: true,
            }
        })
    }

    /// The field of a key that is not written, which `read` gives a value.
    pub(crate) fn absent<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Field<T> {
        let here = self.here;
        self.step(Step::Key(name), here, |cx| Field {
            value: read(cx),
            span: here,
            path: cx.path.clone(),
            written: false,
        })
    }

    /// The field of a value that stands where the walk is.
    pub(crate) fn own<T>(&self, node: &Node, value: T) -> Field<T> {
        Field {
            value: Some(value),
            span: self.place(node),
            path: self.path.clone(),
            written: true,
        }
    }

    /// The nearest of `candidates`, while there is room to say so.
    pub(crate) fn nearest<'c>(
        &self,
        word: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        if self.found.wants_suggestions() {
            nearest(word, candidates)
        } else {
            None
        }
    }

    /// The nearest of `candidates` as the end of a message; empty when none is near.
    pub(crate) fn did_you_mean<'c>(
        &self,
        word: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> String {
        let near = self.nearest(word, candidates);
        near.map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default()
    }

    /// The key's place for a list or a mapping, whose own place may be lines below.
    fn place(&self, node: &Node) -> Span {
        match node.value {
            Value::Sequence(_) | Value::Mapping(_) => self.here,
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Refused => node.span,
        }
    }

    fn step<R>(&mut self, step: Step<'_>, here: Span, walk: impl FnOnce(&mut Self) -> R) -> R {
        let (path, pattern) = (self.path.len(), self.pattern.len());
        let outside = self.here;
        let words = std::mem::take(&mut self.words);
        match step {
            Step::Key(key) => {
                tree::push_key(&mut self.path, key);
                tree::push_key(&mut self.pattern, key);
            }
            Step::Name(name) => {
                tree::push_key(&mut self.path, name);
                self.pattern.push_str(".*");
            }
            Step::Index(index) => tree::push_index(&mut self.path, index),
        }
        self.here = here;
        let result = walk(self);
        self.here = outside;
        self.words = words;
        self.path.truncate(path);
        self.pattern.truncate(pattern);
        result
    }

    /// Refuses a written value this version has no code for.
    pub(crate) fn refuse_unsupported<T: Grammar>(
        &mut self,
        key: &Key,
        node: &Node,
        field: &Field<T>,
    ) {
        let row = self.unsupported.iter().find(|row| {
            row.key
                .strip_suffix(&*key.text)
                .is_some_and(|above| above.strip_suffix('.').unwrap_or(above) == self.pattern)
        });
        let (Some(row), Some(value)) = (row, field.get()) else {
            return;
        };
        let only = row.only.map(tree::read_preset);
        let mut scratch = Collector::new("preset", "");
        let supported = only
            .as_ref()
            .and_then(|only| T::lower(only, &mut Lowering::new(&mut scratch, &[])));
        if supported.as_ref() == Some(value) {
            return;
        }
        let shown = match &node.value {
            Value::Text(text) if !text.is_empty() => format!("{}: {}", key.text, quoted(text)),
            Value::Integer(integer) => format!("{}: {integer}", key.text),
            Value::Text(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Sequence(_)
            | Value::Mapping(_)
            | Value::Refused => key.text.clone(),
        };
        let only = match row.only {
            Some("[]" | "''" | "null") | None => String::new(),
            Some(only) => format!("; only `{only}` is"),
        };
        let message = format!("`{shown}` is not supported by this version{only}");
        self.found.push(field.span, &field.path, message);
    }
}

/// What was written, for a message.
fn describe(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Integer(integer) => format!("the number {integer}"),
        Value::Number(number) => format!("the number {}", quoted(number)),
        Value::Text(text) => format!("the text `{}`", quoted(text)),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Refused => "something that is refused".to_owned(),
    }
}
