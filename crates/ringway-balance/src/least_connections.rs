//! Least connections by the power of two choices: two different members are drawn, the less loaded one wins.
//!
//! Loads are this worker's own counts; two choices keep partial knowledge from herding connections onto the one
//! that looks idle everywhere. Draws are by weight, so that a heavy member is compared as often as its share asks
//! for, and while all are idle the shares are those of the weights. One or two members are compared exactly.

use crate::draw::Draw;
use crate::pool::{Backend, BackendIndex};
use crate::tier::Tier;

/// Draws in search of two different pickable members before all members are compared instead.
const DRAWS_MAX: usize = 8;

/// The less loaded of two drawn members, or the least loaded of all where two could not be drawn.
pub(crate) fn pick(
    tier: &Tier,
    backends: &[Backend],
    draw: &mut Draw,
    pickable: &mut impl FnMut(BackendIndex) -> bool,
) -> Option<BackendIndex> {
    if tier.members().len() > 2 {
        let mut first = None;
        for _ in 0..DRAWS_MAX {
            let member = tier.at_point(draw.below(tier.share_total()));
            if first == Some(member) || !pickable(member) {
                continue;
            }
            let Some(first) = first else {
                first = Some(member);
                continue;
            };
            return Some(less_loaded(backends, first, member));
        }
    }
    least_loaded(tier, backends, draw, pickable)
}

/// The one with fewer connections per unit of weight. On a tie the first: it was drawn by weight, the second was
/// drawn among the others.
fn less_loaded(backends: &[Backend], first: BackendIndex, second: BackendIndex) -> BackendIndex {
    let (a, b) = (&backends[first.as_usize()], &backends[second.as_usize()]);
    if scaled_load(b, a) < scaled_load(a, b) {
        second
    } else {
        first
    }
}

/// Exact: of all pickable members the least loaded, ties decided at random by weight.
fn least_loaded(
    tier: &Tier,
    backends: &[Backend],
    draw: &mut Draw,
    pickable: &mut impl FnMut(BackendIndex) -> bool,
) -> Option<BackendIndex> {
    let mut best: Option<BackendIndex> = None;
    let mut tied_weight = 0;
    for &member in tier.members() {
        let candidate = &backends[member.as_usize()];
        let weight = candidate.share();
        let order = best.map(|best| {
            let best = &backends[best.as_usize()];
            scaled_load(candidate, best).cmp(&scaled_load(best, candidate))
        });
        if order.is_some_and(|order| order.is_gt()) || !pickable(member) {
            continue;
        }
        if order.is_some_and(|order| order.is_eq()) {
            tied_weight += weight;
            if draw.below(tied_weight) >= weight {
                continue;
            }
        } else {
            tied_weight = weight;
        }
        best = Some(member);
    }
    best
}

/// The load of one, scaled so that comparing it with that of the other compares loads per weight without dividing.
pub(crate) fn scaled_load(of: &Backend, against: &Backend) -> u128 {
    u128::from(of.load) * u128::from(against.share())
}
