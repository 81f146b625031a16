//! Weighted random: each pickable member with a probability in proportion to its weight.
//!
//! Drawing again when a member is not pickable leaves the proportions of the others as they are; after a few draws
//! in vain the pickable members are walked instead, which gives the same proportions and always ends.

use crate::draw::Draw;
use crate::pool::{Backend, BackendIndex};
use crate::tier::Tier;

/// Draws before the members are walked.
const DRAWS_MAX: usize = 8;

/// A random member that is pickable.
pub(crate) fn pick(
    tier: &Tier,
    backends: &[Backend],
    draw: &mut Draw,
    pickable: &mut impl FnMut(BackendIndex) -> bool,
) -> Option<BackendIndex> {
    if tier.members().is_empty() {
        return None;
    }
    for _ in 0..DRAWS_MAX {
        let member = tier.at_point(draw.below(tier.share_total()));
        if pickable(member) {
            return Some(member);
        }
    }
    walk(tier, backends, draw, pickable)
}

/// One pass that keeps each pickable member with the probability that its weight has among those seen so far.
fn walk(
    tier: &Tier,
    backends: &[Backend],
    draw: &mut Draw,
    pickable: &mut impl FnMut(BackendIndex) -> bool,
) -> Option<BackendIndex> {
    let mut seen = 0;
    let mut chosen = None;
    for &member in tier.members() {
        if pickable(member) {
            let weight = backends[member.as_usize()].share();
            seen += weight;
            if draw.below(seen) < weight {
                chosen = Some(member);
            }
        }
    }
    chosen
}
