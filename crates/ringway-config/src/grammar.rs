//! What a kind of value is, and how the keys of one mapping are declared: from one list come the
//! struct, its reading and its schema. Not which keys there are; those are in `keys.rs`. Invariant:
//! the reading and the schema cannot know different keys.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json, json};

use crate::problem::quoted;
use crate::tree::{self, Key, Node, Value};
use crate::walk::{Field, Lowering, Step};

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

/// The keys of one mapping of the contract.
#[derive(Debug)]
pub(crate) struct Entries<'n> {
    entries: &'n [(Key, Node)],
    /// Keys that are probably there, misspelt.
    meant: Vec<&'static str>,
}

impl<'n> Entries<'n> {
    /// Opens a mapping that may hold `keys`, and notes every other key.
    pub(crate) fn open(
        node: &'n Node,
        keys: &[&'static str],
        expected: &str,
        cx: &mut Lowering<'_, '_>,
    ) -> Option<Entries<'n>> {
        let Value::Mapping(entries) = &node.value else {
            cx.mismatch(node, expected);
            return None;
        };
        let mut meant = Vec::new();
        for (key, _) in entries {
            if !keys.contains(&key.text.as_str()) {
                let name = quoted(&key.text);
                let near = cx.nearest(&key.text, keys.iter().copied());
                meant.extend(near);
                let hint = match near {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None => format!("; the keys here are {}", keys.join(", ")),
                };
                let message = format!("unknown key `{name}`{hint}");
                cx.reject_at(Step::Key(&key.text), key.span, message);
            }
        }
        Some(Entries { entries, meant })
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
        cx.absent(name, |cx| match preset {
            Loaded::Required if self.meant.contains(&name) => None,
            Loaded::Required => {
                cx.reject_here(format!("`{name}` is missing: {}", T::expected()));
                None
            }
            Loaded::Absent => T::absent(),
            Loaded::Is(node) => T::lower(node, cx),
        })
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
    ($(#[$about:meta])+ $mapping:ident $(($expected:literal))? {
        $($name:literal $field:ident: $type:ty = $preset:expr, $doc:literal;)+
    }) => {
        $(#[$about])+
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $mapping {
            $(#[doc = $doc] pub(crate) $field: $crate::walk::Field<$type>,)+
        }

        impl $crate::grammar::Grammar for $mapping {
            fn expected() -> String {
                // Only a mapping that is hard to guess says more.
                [$($expected,)? "a mapping"][0].to_owned()
            }

            fn lower(
                node: &$crate::tree::Node,
                cx: &mut $crate::walk::Lowering<'_, '_>,
            ) -> Option<Self> {
                let entries = $crate::grammar::Entries::open(node, &[$($name),+], &Self::expected(), cx)?;
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
