//! The bytes that are sent: one fixed pseudo-random sequence, and a place in it for every position
//! of every stream. A byte that is lost, doubled, out of order or from another connection is seen
//! at once. Invariant: streams with different keys differ within any 16 bytes at equal positions,
//! up to [`PERIOD`] keys.

/// Length of the sequence before it repeats, in bytes: a prime, so that no power-of-two loss or
/// repetition maps it onto itself.
const PERIOD: usize = 61_441;
/// Most bytes that [`Pattern::at`] gives at once.
pub(crate) const SLICE_BYTES_MAX: usize = 256 * 1024;
/// Distance in the sequence between the streams of two successive keys.
const KEY_STRIDE: usize = 7_919;

/// The sequence, long enough for any slice that starts within one period.
#[derive(Debug)]
pub(crate) struct Pattern {
    bytes: Vec<u8>,
}

impl Pattern {
    pub(crate) fn new() -> Pattern {
        // xorshift64*: any sequence without short repetitions will do.
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
            })
            .collect();
        for index in 0..SLICE_BYTES_MAX {
            bytes.push(bytes[index]);
        }
        Pattern { bytes }
    }

    /// The bytes of stream `key` from `position` on, `length` or [`SLICE_BYTES_MAX`] of them.
    pub(crate) fn at(&self, key: usize, position: u64, length: u64) -> &[u8] {
        let period = PERIOD as u64;
        let offset = (key as u64 % period * KEY_STRIDE as u64 + position % period) % period;
        let offset = usize::try_from(offset).expect("invariant: less than a period");
        let length = usize::try_from(length)
            .unwrap_or(SLICE_BYTES_MAX)
            .min(SLICE_BYTES_MAX);
        &self.bytes[offset..offset + length]
    }

    /// Whether `got` is what stream `key` has at `position`.
    pub(crate) fn matches(&self, key: usize, position: u64, got: &[u8]) -> bool {
        let mut position = position;
        got.chunks(SLICE_BYTES_MAX).all(|chunk| {
            let same = self.at(key, position, chunk.len() as u64) == chunk;
            position += chunk.len() as u64;
            same
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_continues_where_a_slice_ended() {
        let pattern = Pattern::new();
        let whole = pattern.at(3, 1_000_000, 5000).to_vec();
        assert_eq!(&whole[1234..2000], pattern.at(3, 1_001_234, 766));
        assert!(pattern.matches(3, 1_000_000, &whole));
    }

    #[test]
    fn other_positions_and_other_streams_do_not_match() {
        let pattern = Pattern::new();
        let got = pattern.at(5, 777, 16).to_vec();
        for key in (0..20_000).filter(|key| *key != 5) {
            assert!(!pattern.matches(key, 777, &got), "stream {key}");
        }
        for shift in 1..PERIOD as u64 {
            assert!(!pattern.matches(5, 777 + shift, &got), "shifted by {shift}");
        }
    }
}
