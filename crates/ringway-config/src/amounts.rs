//! The scalars of a configuration that have a range: numbers, durations, sizes, rates. Invariant: a
//! value that was read is inside its range, and a number without its unit is never guessed.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::grammar::Grammar;
use crate::problem::quoted;
use crate::tree::{Node, Value};
use crate::values::text;
use crate::walk::Lowering;

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
        DURATIONS.expected.to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let milliseconds = duration(node, &DURATIONS, cx)?;
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

/// A duration from `MIN` to `MAX` microseconds, the one kind that knows them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Micros<const MIN: u64, const MAX: u64>(pub(crate) Duration);

impl<const MIN: u64, const MAX: u64> Grammar for Micros<MIN, MAX> {
    fn expected() -> String {
        SHORT_DURATIONS.expected.to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let micros = duration(node, &SHORT_DURATIONS, cx)?;
        if (MIN..=MAX).contains(&micros) {
            return Some(Micros(Duration::from_micros(micros)));
        }
        let [from, to] = [MIN, MAX].map(|micros| shown(micros, &SHORT_DURATIONS));
        let instead = match micros {
            0 => off_hint(true, cx).to_owned(),
            1.. => format!(": write {}", Self::expected()),
        };
        let message = format!("{} is not from {from} to {to}{instead}", written(node));
        cx.reject(node, message);
        None
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[0-9]+(us|ms)$"})
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
        let milliseconds = duration(node, &DURATIONS, cx)?;
        if !milliseconds.is_multiple_of(1000) {
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
        let number = amount(text).filter(|(_, unit)| *unit == "/s");
        let number = number.and_then(|(number, _)| u32::try_from(number).ok());
        match number {
            Some(rate @ 1..) => Some(Rate(rate)),
            Some(0) | None => {
                let off = off_hint(number == Some(0), cx);
                cx.reject(
                    node,
                    format!("`{}` is not {}{off}", quoted(text), Self::expected()),
                );
                None
            }
        }
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^[0-9]+/s$"})
    }
}

/// A number and what stands after it.
fn amount(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    digits.parse().ok().map(|number| (number, unit))
}

/// What a kind of duration is written in.
struct Units {
    expected: &'static str,
    /// What a number without a unit may be meant in.
    meant: &'static [&'static str],
    /// In the smallest one, which is the first.
    factors: &'static [(&'static str, u64)],
}

const DURATIONS: Units = Units {
    expected: "a duration such as `500ms`, `2s`, `10m` or `1h`",
    meant: &["s", "ms"],
    factors: &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)],
};
/// Those of [`Micros`]; the larger ones are known so that the answer to them is the range.
const SHORT_DURATIONS: Units = Units {
    expected: "a duration such as `20us` or `1ms`",
    meant: &["us"],
    factors: &[
        ("us", 1),
        ("ms", 1000),
        ("s", 1_000_000),
        ("m", 60_000_000),
        ("h", 3_600_000_000),
    ],
};

/// A duration in the smallest of its units.
fn duration(node: &Node, units: &Units, cx: &mut Lowering<'_, '_>) -> Option<u64> {
    let expected = units.expected;
    if let Value::Integer(integer @ 0..) = node.value {
        let off = off_hint(integer == 0, cx);
        let meant: Vec<String> = units
            .meant
            .iter()
            .map(|unit| format!("`{integer}{unit}`"))
            .collect();
        cx.reject(
            node,
            format!("{integer} has no unit: write {}{off}", meant.join(" or ")),
        );
        return None;
    }
    let text = text(node, expected, cx)?;
    let duration = amount(text).and_then(|(number, unit)| {
        let (_, factor) = units.factors.iter().find(|(name, _)| *name == unit)?;
        number.checked_mul(*factor)
    });
    if duration.is_none() {
        let words = ["off"].into_iter().filter(|word| cx.takes_word(word));
        let hint = cx.did_you_mean(text, words);
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
    duration
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
    shown(milliseconds, &DURATIONS)
}

/// A duration in its largest whole unit.
fn shown(duration: u64, units: &Units) -> String {
    let fits = |(_, factor): &&(&str, u64)| duration.is_multiple_of(*factor);
    match units.factors.iter().rev().find(fits) {
        Some((unit, factor)) if duration > 0 => format!("{}{unit}", duration / factor),
        Some(_) | None => "0s".to_owned(),
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
