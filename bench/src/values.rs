//! Sizes, durations and lists as they are written on the command line, in the notation of Ringway's
//! configuration. Invariant: a number without its unit is never guessed (a size without one is in
//! bytes).

use std::time::Duration;

/// A size: `64`, `16KiB`, `4MiB`, `1GiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write 64, 16KiB, 4MiB or 1GiB");
    let (number, unit) = split(text);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// A size that is at least one byte.
pub(crate) fn size_not_zero(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("must be at least 1".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Longest duration: sums of a few of them still fit every clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A duration: `500ms`, `2s`, `10m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write 500ms, 2s, 10m or 1h");
    let (number, unit) = split(text);
    let number: u32 = number.parse().map_err(|_| wrong())?;
    let duration = match unit {
        "ms" => Duration::from_millis(number.into()),
        "s" => Duration::from_secs(number.into()),
        "m" => Duration::from_secs(u64::from(number) * 60),
        "h" => Duration::from_secs(u64::from(number) * 3600),
        _ => return Err(wrong()),
    };
    match duration > LONGEST {
        true => Err(format!("`{text}` is more than a year")),
        false => Ok(duration),
    }
}

/// A duration that is more than nothing.
pub(crate) fn duration_not_zero(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than nothing".to_owned()),
        time => Ok(time),
    }
}

fn split(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("64", 64),
            ("64B", 64),
            ("16KiB", 16384),
            ("2MiB", 2 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "1kb",
            "-1",
            "1.5MiB",
            "99999999999999999999",
            "99999999999TiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(size_not_zero("0").is_err());
    }

    #[test]
    fn durations() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("2s", 2000), ("1m", 60_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "1.5s", "2d", "-1s", "9999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration_not_zero("0s").is_err());
    }
}
