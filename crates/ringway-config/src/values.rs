//! The scalars of a configuration that are words: booleans, text, names, addresses, networks and
//! paths. Not those with a range; they are `amounts.rs`. Invariant: a message says what to write instead.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde_json::{Value as Json, json};

use crate::address::{AddressError, BackendAddress, BindAddress};
use crate::compound::NAME_PATTERN;
use crate::grammar::Grammar;
use crate::problem::quoted;
use crate::tree::{Node, Value};
use crate::walk::Lowering;

impl Grammar for bool {
    fn expected() -> String {
        "`true` or `false`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        // YAML 1.1 took these for booleans.
        if let Value::Text(text) = &node.value
            && matches!(text.as_str(), "yes" | "on" | "no" | "off")
        {
            let meant = matches!(text.as_str(), "yes" | "on");
            cx.reject(
                node,
                format!("`{text}` is not `true` or `false`; did you mean `{meant}`?"),
            );
        } else {
            cx.mismatch(node, &Self::expected());
        }
        None
    }

    fn schema() -> Json {
        json!({"type": "boolean"})
    }
}

impl Grammar for String {
    fn expected() -> String {
        "text".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        text(node, &Self::expected(), cx).map(str::to_owned)
    }

    fn schema() -> Json {
        json!({"type": "string"})
    }
}

/// The name of a pool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PoolName(pub(crate) String);

impl Grammar for PoolName {
    fn expected() -> String {
        "the name of a pool".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        // A pool may be called `8080`, and its key is text however it is written.
        if let Value::Integer(number) = node.value {
            return Some(PoolName(number.to_string()));
        }
        text(node, &Self::expected(), cx).map(|name| PoolName(name.to_owned()))
    }

    fn schema() -> Json {
        json!({"type": ["string", "integer"], "pattern": NAME_PATTERN})
    }
}

impl Grammar for BindAddress {
    fn expected() -> String {
        "an address such as `0.0.0.0:8080` or `unix:/run/web.sock`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        address(node, &Self::expected(), cx)
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": ADDRESS_PATTERN})
    }
}

impl Grammar for BackendAddress {
    fn expected() -> String {
        "an address such as `10.0.0.1:8080` or `unix:/run/app.sock`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        address(node, &Self::expected(), cx)
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": ADDRESS_PATTERN})
    }
}

const ADDRESS_PATTERN: &str = r"^(unix:/.+|([0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]+)$";

/// An IP address of this host, without a port.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LocalIp(pub(crate) IpAddr);

impl Grammar for LocalIp {
    fn expected() -> String {
        "an IP address without a port".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        parsed(node, &Self::expected(), cx).map(LocalIp)
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[0-9A-Fa-f:.]+$"})
    }
}

impl Grammar for IpNet {
    fn expected() -> String {
        "a network such as `10.0.0.0/8` or \"::/0\"".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let text = text(node, &Self::expected(), cx)?;
        if let Ok(address) = text.parse::<IpAddr>() {
            let whole = IpNet::from(address);
            cx.reject(node, format!("`{address}` has no length: write `{whole}`"));
            return None;
        }
        let network: IpNet = parsed(node, &Self::expected(), cx)?;
        if network != network.trunc() {
            let message = format!("`{network}` has host bits: write `{}`", network.trunc());
            cx.reject(node, message);
            return None;
        }
        Some(network)
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9]+$"})
    }
}

/// HTTP statuses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Statuses(pub(crate) u16, pub(crate) u16);

impl Grammar for Statuses {
    fn expected() -> String {
        "a status such as `204` or a range such as `200-399`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let range = match &node.value {
            Value::Integer(status) => u16::try_from(*status).ok().map(|status| (status, status)),
            Value::Text(text) => text
                .split_once('-')
                .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?))),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Sequence(_)
            | Value::Mapping(_)
            | Value::Refused => None,
        };
        match range {
            Some((from, to)) if from <= to && from >= 100 && to <= 599 => Some(Statuses(from, to)),
            _ => {
                cx.mismatch(node, &Self::expected());
                None
            }
        }
    }

    fn schema() -> Json {
        json!({"type": ["integer", "string"], "minimum": 100, "maximum": 599,
               "pattern": "^[1-5][0-9][0-9]-[1-5][0-9][0-9]$"})
    }
}

/// The path of a file; it holds a `/`, so that a misspelt word is not taken for one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FilePath(pub(crate) PathBuf);

impl Grammar for FilePath {
    fn expected() -> String {
        "a path such as `/var/log/ringway.log` or `./ringway.log`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let path = text(node, &Self::expected(), cx)?;
        if !path.contains('/') || path.ends_with('/') || path.contains('\0') {
            let words = ["stdout", "off"]
                .into_iter()
                .filter(|word| cx.takes_word(word));
            let hint = cx.did_you_mean(path, words);
            let message = format!("`{}` is not {}{hint}", quoted(path), Self::expected());
            cx.reject(node, message);
            return None;
        }
        Some(FilePath(PathBuf::from(path)))
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "/[^/]+$"})
    }
}

/// A value of any kind, for a key whose shape is not settled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Anything;

impl Grammar for Anything {
    fn expected() -> String {
        "a value".to_owned()
    }

    fn lower(_: &Node, _: &mut Lowering<'_, '_>) -> Option<Self> {
        Some(Anything)
    }

    fn schema() -> Json {
        json!({})
    }
}

/// The text of a node that must be text.
pub(crate) fn text<'n>(
    node: &'n Node,
    expected: &str,
    cx: &mut Lowering<'_, '_>,
) -> Option<&'n str> {
    if let Value::Text(text) = &node.value {
        return Some(text);
    }
    cx.mismatch(node, expected);
    None
}

fn parsed<T: FromStr>(node: &Node, expected: &str, cx: &mut Lowering<'_, '_>) -> Option<T> {
    let text = text(node, expected, cx)?;
    let value = text.parse().ok();
    if value.is_none() {
        cx.reject(node, format!("`{}` is not {expected}", quoted(text)));
    }
    value
}

fn address<T: FromStr<Err = AddressError>>(
    node: &Node,
    expected: &str,
    cx: &mut Lowering<'_, '_>,
) -> Option<T> {
    if let Value::Integer(port) = node.value
        && u16::try_from(port).is_ok()
    {
        cx.reject(node, AddressError::NoIp(port.to_string()).to_string());
        return None;
    }
    match text(node, expected, cx)?.parse() {
        Ok(address) => Some(address),
        Err(error) => {
            cx.reject(node, error.to_string());
            None
        }
    }
}
