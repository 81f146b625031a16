//! Weighted rendezvous hashing: each member gets a score from its identity and the key, the best score wins.
//!
//! When a member leaves, only its own keys move, and they come back when it does; the order of the list does not
//! matter. **Invariant:** scores use only IEEE 754 additions, multiplications and divisions, which every platform
//! rounds alike; the logarithm of a libm is not such an operation.

use crate::hash::mix64;
use crate::pool::{Backend, BackendIndex};
use crate::tier::Tier;

/// The pickable member with the best score for this key.
pub(crate) fn pick(
    tier: &Tier,
    backends: &[Backend],
    key: u64,
    pickable: &mut impl FnMut(BackendIndex) -> bool,
) -> Option<BackendIndex> {
    let key = mix64(key);
    let mut best: Option<((f64, u64), BackendIndex)> = None;
    for &member in tier.members() {
        let backend = &backends[member.as_usize()];
        let hash = hash(backend, key);
        if best.is_some_and(|((least, _), _)| is_beaten(hash, backend.weight, least)) {
            continue;
        }
        let score = score_of(backend, hash);
        if best.is_none_or(|(least, _)| score < least) && pickable(member) {
            best = Some((score, member));
        }
    }
    best.map(|(_, member)| member)
}

/// The least is the best. The identity decides between equal scores, so that the order of the list does not.
pub(crate) fn score(backend: &Backend, mixed_key: u64) -> (f64, u64) {
    score_of(backend, hash(backend, mixed_key))
}

fn score_of(backend: &Backend, hash: u64) -> (f64, u64) {
    (
        exponential(hash) / f64::from(backend.weight),
        backend.identity,
    )
}

fn hash(backend: &Backend, mixed_key: u64) -> u64 {
    mix64(mixed_key ^ mix64(backend.identity))
}

/// Whether the score of this hash is above `least`, as far as a few instructions tell: `-ln(u)` is at least
/// `1 - u`. Of many members hardly any is left to take a logarithm of.
fn is_beaten(hash: u64, weight: u32, least: f64) -> bool {
    let u = ((hash >> 11) + 1) as f64 * UNIT;
    1.0 - u - MARGIN > least * f64::from(weight)
}

/// 2^-53.
const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
/// More than [`exponential`] and the division by the weight are wrong by.
const MARGIN: f64 = 1e-10;

/// Turns a uniform hash into an exponentially distributed number, `-ln(u)` with `u` in `(0, 1]`.
///
/// Of independent exponential variables divided by weights, each is the least with a probability in proportion to
/// its weight: that is what makes the rendezvous weighted (Schindelhauer and Schomaker, 2005).
fn exponential(hash: u64) -> f64 {
    // u = bits / 2^53, and bits = mantissa * 2^exponent with the mantissa in [1, 2).
    let bits = (hash >> 11) + 1;
    let exponent = bits.ilog2();
    let mantissa = bits as f64 / (1u64 << exponent) as f64;
    // ln(mantissa) = 2 atanh(s); with s at most 1/3 the first term left out is below 1e-12.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut series = 0.0;
    for odd in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        series = series * square + 1.0 / odd;
    }
    f64::from(53 - exponent) * std::f64::consts::LN_2 - 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_the_negative_logarithm() {
        for step in 0..1000u64 {
            let hash = mix64(step);
            let u = ((hash >> 11) + 1) as f64 / (1u64 << 53) as f64;
            assert!((exponential(hash) + u.ln()).abs() < 1e-11, "hash {hash:#x}");
        }
    }

    #[test]
    fn who_is_beaten_has_the_larger_score() {
        for step in 0..200_000u64 {
            let (hash, other) = (mix64(step), mix64(!step));
            // Near the ends, too.
            let hash = if step % 2 == 0 {
                hash
            } else {
                !(hash >> (step % 64))
            };
            let weight = 1 + (other % 256) as u32;
            let score = exponential(hash) / f64::from(weight);
            for least in [exponential(other), score, score * (1.0 - f64::EPSILON)] {
                if is_beaten(hash, weight, least) {
                    assert!(
                        score > least,
                        "hash {hash:#x}, weight {weight}, least {least}"
                    );
                }
            }
        }
    }

    #[test]
    fn exponential_holds_at_both_ends() {
        assert_eq!(exponential(u64::MAX), 0.0);
        assert!((exponential(0) - 53.0 * std::f64::consts::LN_2).abs() < 1e-11);
    }
}
