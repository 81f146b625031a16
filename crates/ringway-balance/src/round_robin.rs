//! Smooth weighted round robin: exact over one cycle of the weights (shares, while one grows), and never a burst to the heaviest.
//!
//! The scheme is nginx's: each pick gives every member credit by its share, takes the one with most credit, and
//! charges it the whole sum. **Invariant:** credits of members that take part add up to what they were before.

use crate::pool::{Backend, BackendIndex};
use crate::ramp::Ramp;
use crate::tier::{Tier, Tiers};

/// The most picks [`skip`] makes: beyond it a cycle is so long that its beginning is as good as its middle.
const SKIPS_MAX: u64 = 4096;

/// The next member in turn that is pickable.
///
/// A member that is not pickable gets no credit when that was found out; one that nobody asked about does. It then
/// comes first soon, is asked about, and stops earning: what it can save up is bounded by one cycle.
pub(crate) fn pick(
    tier: &Tier,
    backends: &mut [Backend],
    pickable: &mut impl FnMut(BackendIndex) -> bool,
) -> Option<BackendIndex> {
    let mut charge = 0;
    let mut best: Option<(i64, BackendIndex)> = None;
    for &member in tier.members() {
        let backend = &mut backends[member.as_usize()];
        let weight = backend.share() as i64;
        let credit = backend.credit + weight;
        if best.is_none_or(|(most, _)| credit > most) {
            if !pickable(member) {
                continue;
            }
            best = Some((credit, member));
        }
        backend.credit = credit;
        charge += weight;
    }
    let (_, chosen) = best?;
    backends[chosen.as_usize()].credit -= charge;
    Some(chosen)
}

/// Moves on by `count` picks, modulo one cycle.
pub(crate) fn skip(tiers: &Tiers, backends: &mut [Backend], count: u32) {
    for tier in tiers.in_order() {
        let cycle = (tier.share_total() / u64::from(Ramp::PARTS)).clamp(1, SKIPS_MAX);
        for _ in 0..u64::from(count) % cycle {
            pick(tier, backends, &mut |_| true);
        }
    }
}
