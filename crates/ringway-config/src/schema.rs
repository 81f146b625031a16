//! The JSON Schema of the configuration, draft 2020-12: what editors complete and validate from.
//! It comes from the same lists as the reading. Invariant: it describes the whole contract; a key
//! this version refuses says so in its description.

use serde_json::{Value as Json, json};

use crate::grammar::Grammar;
use crate::keys::Document;
use crate::unsupported::UNSUPPORTED;

/// The JSON Schema, as one object without references.
pub fn schema() -> Json {
    let mut schema = Document::schema();
    for row in UNSUPPORTED {
        let note = match row.only {
            Some(only) => format!(" (this version: only {only})"),
            None => " (not supported by this version)".to_owned(),
        };
        if let Some(key) = at(&mut schema, row.key) {
            let about = key["description"].as_str().unwrap_or_default();
            key["description"] = json!(format!("{about}{note}"));
        }
    }
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Ringway configuration");
    schema
}

/// The schema of the key at a path such as `listeners.*.protocol`.
pub(crate) fn at<'s>(schema: &'s mut Json, path: &str) -> Option<&'s mut Json> {
    path.split('.').try_fold(schema, |schema, step| {
        // A mapping that may be `off` is the second of two possibilities.
        let schema = match schema.get("anyOf") {
            Some(_) => schema.get_mut("anyOf")?.get_mut(1)?,
            None => schema,
        };
        match step {
            "*" => schema.get_mut("additionalProperties"),
            key => schema.get_mut("properties")?.get_mut(key),
        }
    })
}
