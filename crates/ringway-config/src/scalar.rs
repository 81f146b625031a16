//! What an unquoted word of YAML is: the core schema of YAML 1.2.2, section 10.3.2. Quoted text is
//! always text. Invariant: `on`, `off`, `yes` and `no` are text, as 1.2 has it and 1.1 had not.

use crate::tree::Value;

/// The value of a plain scalar.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match integer(text) {
            Some(Ok(integer)) => Value::Integer(integer),
            Some(Err(OutOfRange)) => Value::Number(text.to_owned()),
            None if is_float(text) => Value::Number(text.to_owned()),
            None => Value::Text(text.to_owned()),
        },
    }
}

struct OutOfRange;

/// `[-+]?[0-9]+`, `0o[0-7]+` or `0x[0-9a-fA-F]+`.
fn integer(text: &str) -> Option<Result<i64, OutOfRange>> {
    let (digits, radix) = match (text.strip_prefix("0o"), text.strip_prefix("0x")) {
        (Some(octal), _) => (octal, 8),
        (None, Some(hexadecimal)) => (hexadecimal, 16),
        (None, None) => (text.strip_prefix(['-', '+']).unwrap_or(text), 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let signed = if radix == 10 { text } else { digits };
    Some(i64::from_str_radix(signed, radix).map_err(|_| OutOfRange))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, `[-+]?\.inf` or `\.nan`.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            exponent.strip_prefix(['-', '+']).or(Some(exponent)),
        ),
        None => (unsigned, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, part)) => {
            (is_digits(whole) && (part.is_empty() || is_digits(part)))
                || (whole.is_empty() && is_digits(part))
        }
        None => is_digits(mantissa),
    };
    mantissa_fits && exponent.is_none_or(is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_the_core_schema_says() {
        let kind = |text: &str| match plain(text) {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Integer(_) => "integer",
            Value::Number(_) => "number",
            Value::Text(_) => "text",
            Value::Sequence(_) | Value::Mapping(_) | Value::Refused => "impossible",
        };
        let cases = [
            ("null", "null ~ Null NULL"),
            ("bool", "true True TRUE false False FALSE"),
            ("integer", "0 -1 +7 0123 0o17 0xfF 9223372036854775807"),
            (
                "number",
                "1.5 .5 1. 1e3 1.5E-7 -2.0 .inf -.INF .nan 9223372036854775808 0x1ffffffffffffffff",
            ),
            (
                "text",
                "off on yes no Off 10m 1.2.3.4 1:2 0b1 0o8 0x 1e . - + e5 1_000 nUll -.nan 0xg",
            ),
        ];
        assert_eq!(kind(""), "null");
        for (expected, words) in cases {
            for word in words.split(' ') {
                assert_eq!(kind(word), expected, "{word}");
            }
        }
    }

    #[test]
    fn integers_keep_their_value() {
        for (text, value) in [
            ("0o17", 15),
            ("0xfF", 255),
            ("-12", -12),
            ("+12", 12),
            ("010", 10),
        ] {
            assert!(
                matches!(plain(text), Value::Integer(found) if found == value),
                "{text}"
            );
        }
    }
}
