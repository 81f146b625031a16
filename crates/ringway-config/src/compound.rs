//! Values made of values: a word or a value, a list, one or many, named things, a word of a closed
//! set. Not the scalars themselves; those are `values.rs`. Invariant: an item that is wrong does
//! not hide what is wrong with the next one.

use std::marker::PhantomData;

use serde_json::{Value as Json, json};

use crate::grammar::Grammar;
use crate::limits::NAME_CHARS_MAX;
use crate::problem::{Span, quoted};
use crate::tree::{Node, Value};
use crate::walk::{Field, Lowering, Step};

/// A word that stands for the lack of a value.
pub(crate) trait Keyword {
    const WORD: &'static str;
}

/// `off`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Off;
/// `auto`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Auto;
/// `client`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Client;
/// `same`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Same;

impl Keyword for Off {
    const WORD: &'static str = "off";
}
impl Keyword for Auto {
    const WORD: &'static str = "auto";
}
impl Keyword for Client {
    const WORD: &'static str = "client";
}
impl Keyword for Same {
    const WORD: &'static str = "same";
}

/// The word of `W`, or a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Or<W, T> {
    value: Option<T>,
    word: PhantomData<W>,
}

impl<W, T> Or<W, T> {
    /// The value; `None` for the word.
    pub(crate) fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

impl<W: Keyword + PartialEq, T: Grammar> Grammar for Or<W, T> {
    fn expected() -> String {
        format!("`{}` or {}", W::WORD, T::expected())
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let is_word = matches!(&node.value, Value::Text(text) if text == W::WORD);
        let value = if is_word {
            None
        } else {
            Some(cx.lower_or(W::WORD, node)?)
        };
        Some(Or {
            value,
            word: PhantomData,
        })
    }

    fn schema() -> Json {
        json!({"anyOf": [{"const": W::WORD}, T::schema()]})
    }
}

/// `null`, or a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OrNull<T>(pub(crate) Option<T>);

impl<T: Grammar> Grammar for OrNull<T> {
    fn expected() -> String {
        T::expected()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        if matches!(node.value, Value::Null) {
            return Some(OrNull(None));
        }
        T::lower(node, cx).map(|value| OrNull(Some(value)))
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "null"}, T::schema()]})
    }
}

/// A list of `MIN` to `MAX` items.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct List<T, const MIN: usize, const MAX: usize>(pub(crate) Vec<Field<T>>);

impl<T: Grammar, const MIN: usize, const MAX: usize> Grammar for List<T, MIN, MAX> {
    fn expected() -> String {
        format!("a list, each item {}", T::expected())
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let Value::Sequence(items) = &node.value else {
            cx.mismatch(node, &Self::expected());
            return None;
        };
        if items.len() < MIN {
            cx.reject(
                node,
                format!("the list is empty: it needs {}", T::expected()),
            );
            return None;
        }
        if items.len() > MAX {
            cx.reject(
                node,
                format!("{} items, and at most {MAX} are possible", items.len()),
            );
            return None;
        }
        Some(List(fields(items, cx)))
    }

    fn schema() -> Json {
        json!({"type": "array", "items": T::schema(), "minItems": MIN, "maxItems": MAX})
    }
}

/// One value, or a list of at least one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<Field<T>>);

/// Most values of one key that takes one or many.
const MANY_MAX: usize = 256;

impl<T: Grammar> Grammar for OneOrMany<T> {
    fn expected() -> String {
        format!("{}, or a list of them", T::expected())
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        if matches!(node.value, Value::Sequence(_)) {
            return List::<T, 1, MANY_MAX>::lower(node, cx).map(|list| OneOrMany(list.0));
        }
        T::lower(node, cx).map(|value| OneOrMany(vec![cx.own(node, value)]))
    }

    fn schema() -> Json {
        json!({"anyOf": [T::schema(), List::<T, 1, MANY_MAX>::schema()]})
    }
}

fn fields<T: Grammar>(items: &[Node], cx: &mut Lowering<'_, '_>) -> Vec<Field<T>> {
    items
        .iter()
        .enumerate()
        .map(|(index, item)| cx.field(Step::Index(index), item.span, item))
        .collect()
}

/// Things the user names: a mapping from each name to its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named<T, const MAX: usize>(pub(crate) Vec<Entry<T>>);

/// One named thing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry<T> {
    pub(crate) name: String,
    pub(crate) value: Field<T>,
}

impl<T: Grammar, const MAX: usize> Grammar for Named<T, MAX> {
    fn expected() -> String {
        "a mapping from a name to its settings".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            cx.mismatch(node, &Self::expected());
            return None;
        };
        if entries.is_empty() {
            cx.reject(node, "empty: at least one name with its settings is needed");
            return None;
        }
        if entries.len() > MAX {
            cx.reject(
                node,
                format!("{} names, and at most {MAX} are possible", entries.len()),
            );
            return None;
        }
        let mut named = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            check_name(&key.text, key.span, cx);
            let value = cx.field(Step::Name(&key.text), key.span, node);
            named.push(Entry {
                name: key.text.clone(),
                value,
            });
        }
        Some(Named(named))
    }

    fn schema() -> Json {
        json!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": MAX,
            "propertyNames": {"pattern": NAME_PATTERN, "maxLength": NAME_CHARS_MAX},
            "additionalProperties": T::schema(),
        })
    }
}

/// The names of listeners and pools: metric labels and parts of URLs.
pub(crate) const NAME_PATTERN: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$";

fn check_name(name: &str, span: Span, cx: &mut Lowering<'_, '_>) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let fits = name.starts_with(is_word)
        && name.chars().all(|c| is_word(c) || c == '.' || c == '-')
        && name.len() <= NAME_CHARS_MAX;
    if !fits {
        let message = format!(
            "`{}` is no name: up to {NAME_CHARS_MAX} letters, digits, `_`, `-` and `.`, not \
             starting with `-` or `.`",
            quoted(name)
        );
        cx.reject_at(Step::Name(name), span, message);
    }
}

/// A closed set of words.
pub(crate) trait Words: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Words> Grammar for T {
    fn expected() -> String {
        let words: Vec<String> = T::WORDS
            .iter()
            .map(|(word, _)| format!("`{word}`"))
            .collect();
        match words.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let Value::Text(text) = &node.value else {
            cx.mismatch(node, &Self::expected());
            return None;
        };
        if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        let hint = cx.did_you_mean(text, T::WORDS.iter().map(|(word, _)| *word));
        let message = format!("`{}` is not {}{hint}", quoted(text), Self::expected());
        cx.reject(node, message);
        None
    }

    fn schema() -> Json {
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        json!({"enum": words})
    }
}
