//! What needs the inside of this crate: the lists of keys against the schema, the model and the
//! keys that are not supported. Invariant: together they prove that no key is accepted and ignored.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::load::parse_with;
use crate::schema::{at, schema};
use crate::unsupported::UNSUPPORTED;

mod oracle;
mod schema_fit;

/// A text in which `key`, a path such as `listeners.*.timeouts.idle`, has the value `value`.
fn text_with(key: &str, value: &str) -> String {
    text_with_all(&[(key, value)])
}

fn text_with_all(changes: &[(&str, &str)]) -> String {
    let mut document = json!({
        "listeners": {"l": {"bind": "127.0.0.1:0", "pool": "p"}},
        "pools": {
            "p": {"backends": [{"address": "127.0.0.1:9"}]},
            "q": {"backends": [{"address": "127.0.0.1:8"}]},
        },
    });
    for (key, value) in changes {
        *slot_of(&mut document, key) = serde_yaml::from_str(value).expect("YAML");
    }
    // JSON is YAML.
    document.to_string()
}

fn slot_of<'d>(document: &'d mut Json, key: &str) -> &'d mut Json {
    let mut slot = document;
    let mut above = "";
    for step in key.split('.') {
        let name = match (above, step) {
            ("listeners", "*") => "l",
            ("pools", "*") => "p",
            (_, step) => step,
        };
        slot = match slot {
            Json::Array(items) => &mut items[0][name],
            other => &mut other[name],
        };
        above = step;
    }
    slot
}

/// The full key of everything that has no keys below it.
fn leaves(schema: &Json, path: &str, into: &mut BTreeSet<String>) {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    let mut is_leaf = true;
    if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
        is_leaf = false;
        for (key, schema) in properties {
            leaves(schema, &below(key), into);
        }
    }
    if let Some(named) = schema
        .get("additionalProperties")
        .filter(|value| value.is_object())
    {
        is_leaf = false;
        leaves(named, &below("*"), into);
    }
    for inner in schema
        .get("anyOf")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .chain(schema.get("items"))
    {
        let mut found = BTreeSet::new();
        leaves(inner, path, &mut found);
        if found.iter().any(|key| key != path) {
            is_leaf = false;
            into.extend(found.into_iter().filter(|key| key != path));
        }
    }
    if is_leaf {
        into.insert(path.to_owned());
    }
}

fn all_leaves() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    leaves(&schema(), "", &mut found);
    found
}

fn is_unsupported(key: &str) -> bool {
    UNSUPPORTED
        .iter()
        .any(|row| key == row.key || key.starts_with(&format!("{}.", row.key)))
}

/// For every supported key a value that is not its default.
const CHANGES: &[(&str, &str)] = &[
    ("workers", "3"),
    ("busy_poll", "7us"),
    ("listeners.*.bind", "'127.0.0.1:7'"),
    ("listeners.*.pool", "q"),
    ("listeners.*.routes.sni", "['*.a.example']"),
    ("listeners.*.routes.alpn", "[h2]"),
    ("listeners.*.routes.pool", "q"),
    ("listeners.*.proxy_protocol.mode", "required"),
    ("listeners.*.proxy_protocol.trusted", "[10.0.0.0/8]"),
    ("listeners.*.access.allow", "[10.0.0.0/8]"),
    ("listeners.*.access.deny", "[10.0.0.0/8]"),
    ("listeners.*.limits.connections", "7"),
    ("listeners.*.limits.connections_per_source", "7"),
    ("listeners.*.limits.rate", "7/s"),
    ("listeners.*.limits.rate_per_source", "7/s"),
    ("listeners.*.limits.over", "close"),
    ("listeners.*.timeouts.handshake", "7s"),
    ("listeners.*.timeouts.first_byte", "7s"),
    ("listeners.*.timeouts.idle", "7s"),
    ("listeners.*.timeouts.half_close", "7s"),
    ("listeners.*.timeouts.lifetime", "7s"),
    ("listeners.*.relay", "splice"),
    ("listeners.*.tcp.nodelay", "false"),
    ("listeners.*.tcp.keepalive.idle", "7s"),
    ("listeners.*.tcp.keepalive.interval", "7s"),
    ("listeners.*.tcp.keepalive.count", "7"),
    ("listeners.*.tcp.user_timeout", "7s"),
    ("listeners.*.tcp.backlog", "7"),
    ("listeners.*.tcp.defer_accept", "7s"),
    ("listeners.*.tcp.fast_open", "7"),
    ("listeners.*.tcp.receive_buffer", "64KiB"),
    ("listeners.*.tcp.send_buffer", "1MiB"),
    ("pools.*.balance", "maglev"),
    ("pools.*.backends.address", "'127.0.0.1:7'"),
    ("pools.*.backends.weight", "7"),
    ("pools.*.backends.backup", "true"),
    ("pools.*.backends.max_connections", "7"),
    ("pools.*.health_check.type", "http"),
    ("pools.*.health_check.path", "/healthz"),
    ("pools.*.health_check.host", "a.example"),
    ("pools.*.health_check.status", "[204]"),
    ("pools.*.health_check.send", "PING"),
    ("pools.*.health_check.expect", "PONG"),
    ("pools.*.health_check.interval", "7s"),
    ("pools.*.health_check.timeout", "7ms"),
    ("pools.*.health_check.rise", "7"),
    ("pools.*.health_check.fall", "7"),
    ("pools.*.health_check.port", "7"),
    ("pools.*.outlier.consecutive_failures", "7"),
    ("pools.*.outlier.ejection", "7s"),
    ("pools.*.outlier.max_ejection", "7m"),
    ("pools.*.outlier.max_ejected_percent", "7"),
    ("pools.*.send_proxy_protocol", "v2"),
    ("pools.*.slow_start", "7s"),
    ("pools.*.connect.timeout", "7s"),
    ("pools.*.connect.attempts", "7"),
    ("pools.*.connect.source", "client"),
    ("pools.*.when_backend_down", "close"),
    ("pools.*.when_all_down", "refuse"),
    ("admin.bind", "off"),
    ("admin.token_file", "/run/token"),
    ("log.level", "debug"),
    ("log.format", "json"),
    ("log.access", "stdout"),
    ("shutdown.delay", "7s"),
    ("shutdown.drain", "7s"),
];

/// What must be written for a key to have an effect.
fn needed_by(key: &str) -> Vec<(&'static str, &'static str)> {
    let kind = |kind| vec![("pools.*.health_check.type", kind)];
    match key {
        "pools.*.health_check.path" | "pools.*.health_check.host" => kind("http"),
        "pools.*.health_check.status" => kind("http"),
        "pools.*.health_check.send" | "pools.*.health_check.expect" => kind("exchange"),
        "listeners.*.proxy_protocol.mode" => {
            vec![("listeners.*.proxy_protocol.trusted", "[10.0.0.0/8]")]
        }
        key if key.starts_with("listeners.*.routes.") => {
            vec![("listeners.*.routes", "[{sni: [a.example], pool: p}]")]
        }
        _ => Vec::new(),
    }
}

/// For every unsupported key a value that asks for it.
const REFUSED: &[(&str, &str)] = &[
    ("listeners.*.protocol", "udp"),
    ("pools.*.discover", "{dns: a.example}"),
];

#[test]
fn every_key_is_in_the_model_or_refused_by_name() {
    let named = CHANGES
        .iter()
        .map(|(key, _)| (*key).to_owned())
        .collect::<BTreeSet<_>>();
    let supported = all_leaves()
        .into_iter()
        .filter(|key| !is_unsupported(key))
        .collect();
    assert_eq!(
        named, supported,
        "CHANGES lists every supported key of the schema"
    );
}

#[test]
fn every_supported_key_changes_the_model() {
    for (key, value) in CHANGES {
        let needed = needed_by(key);
        let base = crate::parse("f", &text_with_all(&needed)).expect("valid");
        let text = text_with_all(&[needed.as_slice(), &[(key, value)]].concat());
        match crate::parse("f", &text) {
            Ok(config) => assert_ne!(
                config, base,
                "{key}: {value} is accepted and ignored:\n{text}"
            ),
            Err(errors) => panic!("{key}: {value} is refused:\n{text}{errors}"),
        }
    }
}

#[test]
fn every_unsupported_key_is_refused_by_name() {
    let listed = REFUSED.iter().map(|(key, _)| *key).collect::<BTreeSet<_>>();
    assert_eq!(listed, UNSUPPORTED.iter().map(|row| row.key).collect());
    for (key, value) in REFUSED {
        let text = text_with(key, value);
        let errors = crate::parse("f", &text).expect_err(key);
        let name = key.rsplit('.').next().unwrap_or_default();
        let [problem] = errors.problems() else {
            panic!("{key}: one error, not\n{errors}")
        };
        assert!(
            problem.message().starts_with(&format!("`{name}")),
            "{errors}"
        );
        assert!(
            problem
                .message()
                .contains("is not supported by this version"),
            "{errors}"
        );
    }
}

#[test]
fn the_only_value_of_an_unsupported_key_changes_nothing() {
    let base = crate::parse("f", &text_with("workers", "auto")).expect("valid");
    for row in UNSUPPORTED {
        let Some(only) = row.only else { continue };
        let text = text_with(row.key, only);
        let config = crate::parse("f", &text).unwrap_or_else(|errors| panic!("{text}{errors}"));
        assert_eq!(config, base, "{}", row.key);
    }
}

#[test]
fn every_unsupported_key_exists_and_says_so_in_the_schema() {
    let mut schema = schema();
    for row in UNSUPPORTED {
        let key = at(&mut schema, row.key).unwrap_or_else(|| panic!("{} is no key", row.key));
        let about = key["description"].as_str().unwrap_or_default();
        assert!(about.contains("this version"), "{}: {about}", row.key);
    }
}

/// The example of the documentation, in which every key of the contract is written.
const WHOLE: &str = include_str!("../tests/whole.yaml");

#[test]
fn the_whole_contract_can_be_read() {
    let config = parse_with("whole.yaml", WHOLE, &[]);
    assert!(config.is_ok(), "{}", config.expect_err("checked"));
    let written: serde_yaml::Value = serde_yaml::from_str(WHOLE).expect("YAML");
    for key in all_leaves().iter().filter(|key| *key != "pools.*.discover") {
        let mut level = vec![&written];
        for step in key.split('.') {
            level = level
                .into_iter()
                .flat_map(|value| match value {
                    serde_yaml::Value::Sequence(items) => items.iter().collect(),
                    other => vec![other],
                })
                .flat_map(|value| match step {
                    "*" => value
                        .as_mapping()
                        .into_iter()
                        .flat_map(|map| map.values())
                        .collect(),
                    step => value.get(step).into_iter().collect::<Vec<_>>(),
                })
                .collect();
        }
        assert!(!level.is_empty(), "{key} is not in whole.yaml");
    }
}

#[test]
fn what_is_not_supported_is_still_checked() {
    for (key, value, message) in [
        (
            "listeners.*.proxy_protocol.mode",
            "required",
            "needs `trusted`",
        ),
        (
            "listeners.*.routes",
            "[{sni: [a.example], pool: r}]",
            "no pool is named `r`",
        ),
        (
            "pools.*.health_check.path",
            "/x",
            "only a check of `type: http`",
        ),
        (
            "pools.*.health_check.status",
            "[204]",
            "only a check of `type: http`",
        ),
        (
            "pools.*.health_check.host",
            "x",
            "only a check of `type: http`",
        ),
        (
            "pools.*.health_check.send",
            "x",
            "only a check of `type: exchange`",
        ),
        (
            "pools.*.health_check.status",
            "[99, 399-200, x]",
            "expected a status",
        ),
        (
            "pools.*.outlier",
            "{consecutive_failures: 0}",
            "0 is not from 1 to 1000",
        ),
        (
            "pools.*.connect.source",
            "['10.0.0.1:80']",
            "is not an IP address without a port",
        ),
        (
            "pools.*.connect.source",
            "[10.0.0.1, '10.0.0.1']",
            "is in this list already",
        ),
        (
            "pools.*.connect.source",
            "[0.0.0.0]",
            "is no address of a host",
        ),
        (
            "pools.*.connect.source",
            "['::1']",
            "no IPv4 address is among them",
        ),
        ("admin.token_file", "token", "is not a path"),
        (
            "admin.bind",
            "0.0.0.0:9901",
            "reachable from other machines",
        ),
    ] {
        let errors = parse_with("f", &text_with(key, value), &[]).expect_err(key);
        assert!(
            errors.to_string().contains(message),
            "{key}: {value}\n{errors}"
        );
    }
}
