//! How the tree becomes typed values: one trait for every kind of value, and the walk that keeps
//! track of where it is. Not what may be written where; that is `keys.rs`. Invariant: a value that
//! cannot be read is `None` and has at least one problem noted, and reading goes on after it.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json, json};

use crate::problem::{Collector, Span, quoted};
use crate::suggest::nearest;
use crate::tree::{self, Key, Node, Value};
use crate::unsupported::Unsupported;

/// A kind of value: how it is read, and how the JSON Schema describes it.
pub(crate) trait Grammar: Sized + PartialEq {
    /// What to write, to complete "expected …".
    fn expected() -> String;
    /// Reads a node. `None` after noting why not.
    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self>;
    /// The JSON Schema of the value.
    fn schema() -> Json;
    /// The value of a key that may be left out and has no default.
    fn absent() -> Option<Self> {
        None
    }
}

impl<T: Grammar> Grammar for Option<T> {
    fn expected() -> String {
        T::expected()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        T::lower(node, cx).map(Some)
    }

    fn schema() -> Json {
        T::schema()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// What a key is when it is not written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Preset {
    /// An error.
    Required,
    /// Nothing; the value is an `Option`.
    Absent,
    /// This YAML.
    Is(&'static str),
}

/// A [`Preset`] that is ready to be read.
#[derive(Debug)]
pub(crate) enum Loaded {
    Required,
    Absent,
    Is(Node),
}

impl Preset {
    pub(crate) fn load(self) -> Loaded {
        match self {
            Preset::Required => Loaded::Required,
            Preset::Absent => Loaded::Absent,
            Preset::Is(text) => Loaded::Is(tree::read_preset(text)),
        }
    }
}

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
    fn reject_here(&mut self, message: impl Into<String>) {
        self.found.push(self.here, &self.path, message);
    }

    /// Notes that `node` is of the wrong type.
    pub(crate) fn mismatch(&mut self, node: &Node, expected: &str) {
        let words: String = self
            .words
            .iter()
            .map(|word| format!("`{word}` or "))
            .collect();
        let hint = match &node.value {
            Value::Bool(false) if self.takes_word("off") || expected.contains("`off`") => {
                "; did you mean `off`?"
            }
            Value::Text(text) if text.parse::<i64>().is_ok() && expected.contains("number") => {
                "; remove the quotes"
            }
            Value::Bool(_) | Value::Integer(_) | Value::Number(_) if expected.contains("text") => {
                "; quote it"
            }
            _ => "",
        };
        let found = describe(node);
        self.reject(
            node,
            format!("expected {words}{expected}, found {found}{hint}"),
        );
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
            let value = match node.value {
                Value::Refused => None,
                _ => T::lower(node, cx),
            };
            Field {
                value,
                span: cx.place(node),
                path: cx.path.clone(),
                written: true,
            }
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

    /// The nearest of `candidates`, as the end of a message.
    pub(crate) fn did_you_mean<'c>(
        &self,
        word: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<String> {
        if !self.found.has_room() {
            return None;
        }
        nearest(word, candidates).map(|near| format!("; did you mean `{near}`?"))
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
    fn refuse_unsupported<T: Grammar>(&mut self, key: &Key, node: &Node, field: &Field<T>) {
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

/// The keys of one mapping of the contract.
#[derive(Debug)]
pub(crate) struct Entries<'n> {
    entries: &'n [(Key, Node)],
}

impl<'n> Entries<'n> {
    /// Opens a mapping that may hold `keys`, and notes every other key.
    pub(crate) fn open(
        node: &'n Node,
        keys: &[&'static str],
        cx: &mut Lowering<'_, '_>,
    ) -> Option<Entries<'n>> {
        let Value::Mapping(entries) = &node.value else {
            cx.mismatch(node, "a mapping");
            return None;
        };
        for (key, _) in entries {
            if !keys.contains(&key.text.as_str()) {
                let name = quoted(&key.text);
                let hint = cx
                    .did_you_mean(&key.text, keys.iter().copied())
                    .unwrap_or_else(|| format!("; the keys here are {}", keys.join(", ")));
                let message = format!("unknown key `{name}`{hint}");
                cx.reject_at(Step::Key(&key.text), key.span, message);
            }
        }
        Some(Entries { entries })
    }

    /// Reads one key.
    pub(crate) fn field<T: Grammar>(
        &self,
        name: &'static str,
        preset: &Loaded,
        cx: &mut Lowering<'_, '_>,
    ) -> Field<T> {
        if let Some((key, node)) = self.entries.iter().find(|(key, _)| key.text == name) {
            let field = cx.field(Step::Key(name), key.span, node);
            cx.refuse_unsupported(key, node, &field);
            return field;
        }
        let here = cx.here;
        cx.step(Step::Key(name), here, |cx| {
            let value = match preset {
                Loaded::Required => {
                    cx.reject_here(format!("`{name}` is missing: {}", T::expected()));
                    None
                }
                Loaded::Absent => T::absent(),
                Loaded::Is(node) => T::lower(node, cx),
            };
            Field {
                value,
                span: here,
                path: cx.path.clone(),
                written: false,
            }
        })
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

/// One key of a mapping for the JSON Schema.
pub(crate) fn key_schema(mut schema: Json, about: &str, preset: Preset) -> Json {
    schema["description"] = json!(about);
    if let Preset::Is(text) = preset
        && text != "{}"
    {
        schema["default"] = to_json(&tree::read_preset(text));
    }
    schema
}

/// A mapping for the JSON Schema.
pub(crate) fn mapping_schema(keys: Vec<(&'static str, Json, Preset)>) -> Json {
    let required: Vec<&str> = keys
        .iter()
        .filter(|(_, _, preset)| matches!(preset, Preset::Required))
        .map(|(name, _, _)| *name)
        .collect();
    let properties: Map<String, Json> = keys
        .into_iter()
        .map(|(name, schema, _)| (name.to_owned(), schema))
        .collect();
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn to_json(node: &Node) -> Json {
    match &node.value {
        Value::Null | Value::Refused => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Integer(integer) => json!(integer),
        Value::Number(text) | Value::Text(text) => json!(text),
        Value::Sequence(items) => items.iter().map(to_json).collect(),
        Value::Mapping(entries) => entries
            .iter()
            .map(|(key, node)| (key.text.clone(), to_json(node)))
            .collect(),
    }
}

/// The default of a key, read once.
pub(crate) type LoadedOnce = LazyLock<Loaded>;

/// One mapping of the contract: a struct with a [`Field`] per key, its reading and its schema. The
/// three come from one list, so that none of them can know a key the others do not.
macro_rules! mapping {
    ($(#[$about:meta])+ $mapping:ident {
        $($name:literal $field:ident: $type:ty = $preset:expr, $doc:literal;)+
    }) => {
        $(#[$about])+
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $mapping {
            $(#[doc = $doc] pub(crate) $field: $crate::grammar::Field<$type>,)+
        }

        impl $crate::grammar::Grammar for $mapping {
            fn expected() -> String {
                "a mapping".to_owned()
            }

            fn lower(
                node: &$crate::tree::Node,
                cx: &mut $crate::grammar::Lowering<'_, '_>,
            ) -> Option<Self> {
                let entries = $crate::grammar::Entries::open(node, &[$($name),+], cx)?;
                Some($mapping {
                    $($field: {
                        static PRESET: $crate::grammar::LoadedOnce =
                            $crate::grammar::LoadedOnce::new(|| $preset.load());
                        entries.field($name, &PRESET, cx)
                    },)+
                })
            }

            fn schema() -> serde_json::Value {
                $crate::grammar::mapping_schema(vec![$((
                    $name,
                    $crate::grammar::key_schema(
                        <$type as $crate::grammar::Grammar>::schema(),
                        $doc,
                        $preset,
                    ),
                    $preset,
                )),+])
            }
        }
    };
}
pub(crate) use mapping;
