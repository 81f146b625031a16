//! Texts against the JSON Schema: what is valid fits, what is refused for its form does not.

use serde_json::{Value as Json, json};

use super::{CHANGES, REFUSED, WHOLE, needed_by, text_with, text_with_all};
use crate::schema::{at, schema};

/// A validator for the part of JSON Schema the schema uses; any other keyword is a failure.
fn violations(schema: &Json, value: &Json, path: &str, into: &mut Vec<String>) {
    let mut fail = |what: &str| into.push(format!("{path}: {what}: {value}"));
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "default" => {}
            "type" => {
                let names = rule
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![rule.clone()]);
                let is = |name: &Json| match name.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_i64(),
                    Some("boolean") => value.is_boolean(),
                    Some("null") => value.is_null(),
                    _ => panic!("type {name}"),
                };
                if !names.iter().any(is) {
                    fail("type");
                }
            }
            "const" if value != rule => fail("const"),
            "enum" if !rule.as_array().is_some_and(|all| all.contains(value)) => fail("enum"),
            "minimum" if value.is_i64() && value.as_i64() < rule.as_i64() => fail("minimum"),
            "maximum" if value.is_i64() && value.as_i64() > rule.as_i64() => fail("maximum"),
            "minItems"
                if value
                    .as_array()
                    .is_some_and(|all| (all.len() as u64) < rule.as_u64().unwrap_or(0)) =>
            {
                fail("minItems")
            }
            "minProperties" if value.as_object().is_some_and(|all| all.is_empty()) => {
                fail("minProperties")
            }
            "required" => {
                for key in rule
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Json::as_str)
                {
                    if value.get(key).is_none() {
                        fail(&format!("required {key}"));
                    }
                }
            }
            "const" | "enum" | "minimum" | "maximum" | "minItems" | "minProperties" => {}
            "maxItems"
            | "maxProperties"
            | "propertyNames"
            | "pattern"
            | "properties"
            | "additionalProperties"
            | "items"
            | "anyOf" => {}
            other => panic!("the validator of this test does not know {other}"),
        }
    }
    if let Some(all) = schema.get("anyOf").and_then(Json::as_array) {
        let fits = |schema: &Json| {
            let mut inner = Vec::new();
            violations(schema, value, path, &mut inner);
            inner.is_empty()
        };
        if !all.iter().any(fits) {
            into.push(format!("{path}: anyOf: {value}"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(items) = schema.get("items") {
            violations(items, item, &format!("{path}[{index}]"), into);
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match (
            schema.get("properties").and_then(|all| all.get(key)),
            schema.get("additionalProperties"),
        ) {
            (Some(schema), _) => violations(schema, inner, &path, into),
            (None, Some(Json::Bool(false))) => into.push(format!("{path}: no such key")),
            (None, Some(schema)) => violations(schema, inner, &path, into),
            (None, None) => {}
        }
    }
}

fn schema_violations(text: &str) -> Vec<String> {
    let value: Json = serde_yaml::from_str(text).expect("YAML that JSON can say");
    let mut found = Vec::new();
    violations(&schema(), &value, "", &mut found);
    found
}

#[test]
fn examples_and_the_whole_contract_fit_the_schema() {
    for text in [
        WHOLE,
        include_str!("../../../../config/minimal.yaml"),
        include_str!("../../../../config/edge.yaml"),
        include_str!("../../../../config/several-listeners.yaml"),
        include_str!("../../../../config/reference.yaml"),
    ] {
        assert_eq!(schema_violations(text), Vec::<String>::new());
    }
    for (key, value) in CHANGES.iter().chain(REFUSED) {
        let changes = [needed_by(key).as_slice(), &[(key, value)]].concat();
        let violations = schema_violations(&text_with_all(&changes));
        assert_eq!(violations, Vec::<String>::new(), "{key}");
    }
}

#[test]
fn the_schema_refuses_what_the_reading_refuses() {
    for (key, value) in [
        ("listeners.*.timeouts.idel", "10m"),
        ("listeners.*.timeouts.idle", "10"),
        ("listeners.*.relay", "mirror"),
        ("listeners.*.tcp.backlog", "0"),
        ("listeners.*.bind", "[]"),
        ("pools.*.backends.weight", "257"),
        ("pools.*.backends.weight", "'1'"),
        ("pools.*.health_check.timeout", "off"),
        ("shutdown", "off"),
        ("admin", "null"),
    ] {
        let text = text_with(key, value);
        assert!(crate::parse("f", &text).is_err(), "{key}: {value}");
        if value != "off" || key == "shutdown" {
            assert_ne!(
                schema_violations(&text),
                Vec::<String>::new(),
                "{key}: {value}"
            );
        }
    }
}

#[test]
fn the_schema_names_its_draft_and_its_defaults() {
    let mut schema = schema();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let idle = at(&mut schema, "listeners.*.timeouts.idle").expect("a key");
    assert_eq!(idle["default"], "10m");
    assert_eq!(
        at(&mut schema, "listeners.*").expect("a key")["required"],
        json!(["bind"])
    );
}
