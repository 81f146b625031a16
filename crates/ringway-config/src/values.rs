//! The scalars of a configuration: durations, sizes, rates, numbers, addresses, paths. Invariant: a
//! value that was read is inside its range, and a message says what to write instead of what was.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value as Json, json};

use crate::address::{AddressError, BackendAddress, BindAddress};
use crate::compound::NAME_PATTERN;
use crate::grammar::{Grammar, Lowering};
use crate::problem::quoted;
use crate::tree::{Node, Value};

impl Grammar for bool {
    fn expected() -> String {
        "`true` or `false`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        cx.mismatch(node, &Self::expected());
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
        match node.value {
            // A pool may be called `8080`, and its key is text however it is written.
            Value::Integer(number) => Some(PoolName(number.to_string())),
            _ => text(node, &Self::expected(), cx).map(|name| PoolName(name.to_owned())),
        }
    }

    fn schema() -> Json {
        json!({"type": ["string", "integer"], "pattern": NAME_PATTERN})
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Int<const MIN: u32, const MAX: u32>(pub(crate) u32);

impl<const MIN: u32, const MAX: u32> Grammar for Int<MIN, MAX> {
    fn expected() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let Value::Integer(integer) = node.value else {
            cx.mismatch(node, &Self::expected());
            return None;
        };
        match u32::try_from(integer) {
            Ok(number) if (MIN..=MAX).contains(&number) => Some(Int(number)),
            _ => {
                let off = off_hint(integer == 0, cx);
                cx.reject(node, format!("{integer} is not from {MIN} to {MAX}{off}"));
                None
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
}

/// A duration from `MIN` to `MAX` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Time<const MIN: u64, const MAX: u64>(pub(crate) Duration);

impl<const MIN: u64, const MAX: u64> Grammar for Time<MIN, MAX> {
    fn expected() -> String {
        "a duration such as `500ms`, `2s`, `10m` or `1h`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let milliseconds = duration_ms(node, cx)?;
        if (MIN..=MAX).contains(&milliseconds) {
            return Some(Time(Duration::from_millis(milliseconds)));
        }
        let (from, to) = (shown_ms(MIN), shown_ms(MAX));
        let off = off_hint(milliseconds == 0, cx);
        let message = format!("{} is not from {from} to {to}{off}", written(node));
        cx.reject(node, message);
        None
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"})
    }
}

/// A duration from `MIN` to `MAX` seconds, of which the kernel takes whole ones only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seconds<const MIN: u64, const MAX: u64>(pub(crate) Duration);

impl<const MIN: u64, const MAX: u64> Grammar for Seconds<MIN, MAX> {
    fn expected() -> String {
        "a duration of whole seconds such as `2s`, `10m` or `1h`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let milliseconds = duration_ms(node, cx)?;
        if milliseconds % 1000 != 0 {
            cx.reject(node, format!("{} is not whole seconds", written(node)));
            return None;
        }
        let seconds = milliseconds / 1000;
        if !(MIN..=MAX).contains(&seconds) {
            let off = off_hint(seconds == 0, cx);
            cx.reject(
                node,
                format!("{} is not from {MIN}s to {MAX}s{off}", written(node)),
            );
            return None;
        }
        Some(Seconds(Duration::from_secs(seconds)))
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"})
    }
}

/// A size from `MIN` to `MAX` bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size<const MIN: u32, const MAX: u32>(pub(crate) u32);

/// The units of a size, in bytes.
const SIZES: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl<const MIN: u32, const MAX: u32> Grammar for Size<MIN, MAX> {
    fn expected() -> String {
        "a size such as `64KiB` or `1MiB`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        if let Value::Integer(integer) = node.value {
            cx.reject(
                node,
                format!("{integer} has no unit: write {}", Self::expected()),
            );
            return None;
        }
        let text = text(node, &Self::expected(), cx)?;
        let bytes = amount(text).and_then(|(number, unit)| {
            let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(*factor)
        });
        let Some(bytes) = bytes else {
            cx.reject(
                node,
                format!("`{}` is no size: write {}", quoted(text), Self::expected()),
            );
            return None;
        };
        match u32::try_from(bytes) {
            Ok(size) if (MIN..=MAX).contains(&size) => Some(Size(size)),
            _ => {
                let (from, to) = (MIN >> 10, MAX >> 20);
                cx.reject(
                    node,
                    format!("`{}` is not from {from}KiB to {to}MiB", quoted(text)),
                );
                None
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)$"})
    }
}

/// So many per second; at least one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(pub(crate) u32);

impl Grammar for Rate {
    fn expected() -> String {
        "a rate such as `5000/s`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        if let Value::Integer(integer) = node.value {
            cx.reject(node, format!("{integer} has no unit: write `{integer}/s`"));
            return None;
        }
        let text = text(node, &Self::expected(), cx)?;
        let rate = amount(text).filter(|(_, unit)| *unit == "/s");
        match rate
            .and_then(|(number, _)| u32::try_from(number).ok())
            .filter(|rate| *rate > 0)
        {
            Some(rate) => Some(Rate(rate)),
            None => {
                cx.reject(
                    node,
                    format!("`{}` is not {}", quoted(text), Self::expected()),
                );
                None
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[0-9]+/s$"})
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
pub(crate) struct LocalIp(pub(crate) std::net::IpAddr);

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
            _ => None,
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
            let hint = cx.did_you_mean(path, words).unwrap_or_default();
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

fn text<'n>(node: &'n Node, expected: &str, cx: &mut Lowering<'_, '_>) -> Option<&'n str> {
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

/// A number and what stands after it.
fn amount(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    digits.parse().ok().map(|number| (number, unit))
}

/// The units of a duration, in milliseconds.
const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

fn duration_ms(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<u64> {
    let expected = "a duration such as `500ms`, `2s`, `10m` or `1h`";
    if let Value::Integer(integer @ 0..) = node.value {
        let off = off_hint(integer == 0, cx);
        cx.reject(
            node,
            format!("{integer} has no unit: write `{integer}s` or `{integer}ms`{off}"),
        );
        return None;
    }
    let text = text(node, expected, cx)?;
    let milliseconds = amount(text).and_then(|(number, unit)| {
        let (_, factor) = DURATIONS.iter().find(|(name, _)| *name == unit)?;
        number.checked_mul(*factor)
    });
    if milliseconds.is_none() {
        let words = ["off"].into_iter().filter(|word| cx.takes_word(word));
        let hint = cx.did_you_mean(text, words).unwrap_or_default();
        let or_off = if cx.takes_word("off") {
            "`off` or "
        } else {
            ""
        };
        cx.reject(
            node,
            format!("`{}` is not {or_off}{expected}{hint}", quoted(text)),
        );
    }
    milliseconds
}

/// How to write nothing, when somebody wrote zero.
fn off_hint(is_zero: bool, cx: &Lowering<'_, '_>) -> &'static str {
    if is_zero && cx.takes_word("off") {
        "; `off` disables it"
    } else {
        ""
    }
}

/// A number of milliseconds in its largest whole unit.
fn shown_ms(milliseconds: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| milliseconds % factor == 0;
    let (unit, factor) = DURATIONS
        .iter()
        .rev()
        .find(fits)
        .copied()
        .unwrap_or(("ms", 1));
    if milliseconds == 0 {
        "0s".to_owned()
    } else {
        format!("{}{unit}", milliseconds / factor)
    }
}

fn written(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => quoted(text),
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Number(_)
        | Value::Sequence(_)
        | Value::Mapping(_)
        | Value::Refused => "this".to_owned(),
    }
}
