//! A moment of a worker's clock. Not a clock: whoever owns one reads it once per turn and passes
//! the moment on.

use std::time::Duration;

/// Microseconds since an epoch of the worker's choosing; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Later than everything: the deadline that is off.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment `micros` microseconds after the epoch.
    pub const fn from_micros(micros: u64) -> Moment {
        Moment(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// This moment plus `span`; `NEVER` stays `NEVER`, and so does what would overflow.
    pub const fn after(self, span: Span) -> Moment {
        Moment(self.0.saturating_add(span.0))
    }

    /// Time from `earlier` until this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in microseconds, or for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u64);

impl Span {
    /// A span that never ends: the timeout that is off.
    pub const FOREVER: Span = Span(u64::MAX);

    /// A span of `micros` microseconds.
    pub const fn from_micros(micros: u64) -> Span {
        Span(micros)
    }

    /// This span times two to the power of `times`.
    pub const fn doubled(self, times: u8) -> Span {
        Span(
            self.0
                .saturating_mul(1 << (if times > 32 { 32 } else { times })),
        )
    }
}

impl From<Option<Duration>> for Span {
    fn from(timeout: Option<Duration>) -> Span {
        timeout.map_or(Span::FOREVER, |span| {
            Span(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_never() {
        assert_eq!(
            Moment::from_micros(5).after(Span::from(None)),
            Moment::NEVER
        );
        assert_eq!(Moment::NEVER.after(Span::from_micros(1)), Moment::NEVER);
    }

    #[test]
    fn a_timeout_counts_in_micros() {
        let span = Span::from(Some(Duration::from_millis(2)));
        assert_eq!(
            Moment::from_micros(1).after(span),
            Moment::from_micros(2001)
        );
        assert_eq!(
            Moment::from_micros(1).since(Moment::from_micros(5)),
            Duration::ZERO
        );
    }
}
