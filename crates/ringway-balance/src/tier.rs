//! The backends that may be picked now, sorted by who comes first.
//!
//! Sorting happens after a change, not at each pick. **Invariant:** every member is offered by its owner (weight
//! above zero, active); members are all up, or, when the pool fails open, all down; spares are ejected, and the last are
//! down by their checks; sorting never allocates.

use crate::params::WhenAllDown;
use crate::pick::{NoBackend, PickMode};
use crate::pool::{AdminState, Backend, BackendIndex, Eligibility};
use crate::tried::Tried;

/// Where a backend stands after sorting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In the tier that is asked first.
    Primary,
    /// In the tier that is asked when no primary can be picked.
    Backup,
    /// Ejected, and asked when nobody else can be picked.
    Spare,
    /// Down by its checks while others are up, and asked when the connection has failed with all of those.
    Last,
    /// In none.
    Out,
}

/// All tiers, and in which sense their members may be picked.
#[derive(Clone, Debug)]
pub(crate) struct Tiers {
    pub(crate) primary: Tier,
    pub(crate) backup: Tier,
    pub(crate) spare: Tier,
    pub(crate) last: Tier,
    /// How a member is picked, or why there is none.
    pub(crate) serving: Result<PickMode, NoBackend>,
}

/// Members of one tier with the running sum of their shares.
#[derive(Clone, Debug)]
pub(crate) struct Tier {
    pub(crate) standing: Standing,
    members: Vec<BackendIndex>,
    /// `cumulative[i]` is the sum of the shares of members `0..=i`.
    cumulative: Vec<u64>,
}

impl Tiers {
    /// Empty tiers with room for a pool of this size, so that sorting never allocates.
    pub(crate) fn with_capacity(backend_count: usize) -> Self {
        Self {
            primary: Tier::with_capacity(Standing::Primary, backend_count),
            backup: Tier::with_capacity(Standing::Backup, backend_count),
            spare: Tier::with_capacity(Standing::Spare, backend_count),
            last: Tier::with_capacity(Standing::Last, backend_count),
            serving: Err(NoBackend::Empty),
        }
    }

    /// Sorts all backends and writes each one's standing.
    pub(crate) fn sort(&mut self, backends: &mut [Backend], when_all_down: WhenAllDown) {
        self.serving = serving(backends, when_all_down);
        let wants_up = match self.serving {
            Ok(PickMode::Normal) => Some(true),
            Ok(PickMode::FailOpen) => Some(false),
            Err(_) => None,
        };
        let has_spares = wants_up == Some(true) && when_all_down == WhenAllDown::Try;
        self.primary.clear();
        self.backup.clear();
        self.spare.clear();
        self.last.clear();
        for (backend, place) in backends.iter_mut().zip(0..) {
            let is_member = backend.is_offered() && Some(backend.is_up()) == wants_up;
            let is_spare = has_spares && backend.is_offered() && !is_member;
            let tier = match (is_member, backend.eligibility) {
                (true, _) if backend.backup => &mut self.backup,
                (true, _) => &mut self.primary,
                // Ejected, for otherwise it would be a member.
                (false, Eligibility::Up) if is_spare => &mut self.spare,
                (false, Eligibility::Down) if is_spare => &mut self.last,
                (false, Eligibility::Up | Eligibility::Down) => {
                    backend.standing = Standing::Out;
                    continue;
                }
            };
            backend.standing = tier.push(BackendIndex::new(place), backend.share());
        }
        self.settle_credits(backends);
    }

    /// The tiers in the order in which they are asked.
    pub(crate) fn in_order(&self) -> [&Tier; 4] {
        [&self.primary, &self.backup, &self.spare, &self.last]
    }

    /// Whether a connection has failed with everybody who is not down by the checks. That some are full is no reason to
    /// ask those that are down.
    pub(crate) fn all_before_last_are_in(&self, tried: &Tried) -> bool {
        let [primary, backup, spare, _] = self.in_order();
        [primary, backup, spare]
            .iter()
            .all(|tier| tier.is_within(tried))
    }

    /// Bounds what round robin remembers by what the new shares could have produced. A credit earned under larger
    /// shares would otherwise starve or flood a backend for as many picks as the old shares were large.
    fn settle_credits(&self, backends: &mut [Backend]) {
        let bound = |tier: &Tier| i64::try_from(tier.share_total()).unwrap_or(i64::MAX);
        let (primary, backup) = (bound(&self.primary), bound(&self.backup));
        let spare = bound(&self.spare);
        for backend in backends {
            backend.credit = match backend.standing {
                Standing::Primary => backend.credit.clamp(-primary, primary),
                Standing::Backup => backend.credit.clamp(-backup, backup),
                Standing::Spare => backend.credit.clamp(-spare, spare),
                Standing::Last | Standing::Out => 0,
            };
        }
    }
}

/// In which sense a pool with these backends serves, or why it does not.
fn serving(backends: &[Backend], when_all_down: WhenAllDown) -> Result<PickMode, NoBackend> {
    let mut offered = backends
        .iter()
        .filter(|backend| backend.is_offered())
        .peekable();
    if offered.peek().is_none() {
        return Err(why_none_is_offered(backends));
    }
    if offered.any(Backend::is_up) {
        return Ok(PickMode::Normal);
    }
    match when_all_down {
        WhenAllDown::Try => Ok(PickMode::FailOpen),
        WhenAllDown::Refuse => Err(NoBackend::AllDown),
    }
}

fn why_none_is_offered(backends: &[Backend]) -> NoBackend {
    if backends.is_empty() {
        NoBackend::Empty
    } else if backends
        .iter()
        .any(|backend| backend.admin_state == AdminState::Active)
    {
        NoBackend::AllWeightless
    } else {
        NoBackend::AllWithdrawn
    }
}

impl Tier {
    fn with_capacity(standing: Standing, backend_count: usize) -> Self {
        Self {
            standing,
            members: Vec::with_capacity(backend_count),
            cumulative: Vec::with_capacity(backend_count),
        }
    }

    fn clear(&mut self) {
        self.members.clear();
        self.cumulative.clear();
    }

    fn push(&mut self, backend: BackendIndex, share: u64) -> Standing {
        self.cumulative.push(self.share_total() + share);
        self.members.push(backend);
        self.standing
    }

    /// The members in the order of the pool's list.
    pub(crate) fn members(&self) -> &[BackendIndex] {
        &self.members
    }

    /// Whether all members have been tried.
    pub(crate) fn is_within(&self, tried: &Tried) -> bool {
        // More than were tried cannot all have been.
        self.members.len() <= tried.len()
            && self.members.iter().all(|&member| tried.contains(member))
    }

    /// The sum of the members' shares.
    pub(crate) fn share_total(&self) -> u64 {
        self.cumulative.last().copied().unwrap_or(0)
    }

    /// The member that owns `point` on the line on which each member has a stretch as long as its share.
    /// `point` is below [`Tier::share_total`].
    pub(crate) fn at_point(&self, point: u64) -> BackendIndex {
        self.members[self.cumulative.partition_point(|&end| end <= point)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, BackendParams, Pool};

    #[test]
    fn sorting_stays_within_the_room_taken_at_creation() {
        let params = [BackendParams {
            weight: 1,
            backup: false,
            identity: 0,
        }; 100];
        let mut pool = Pool::new(Algorithm::RoundRobin, WhenAllDown::Try, &params, 0);
        let room = |pool: &Pool| {
            pool.tiers
                .in_order()
                .map(|tier| (tier.members.capacity(), tier.cumulative.capacity()))
        };
        let before = room(&pool);
        for eligibility in [Eligibility::Down, Eligibility::Up] {
            for backend in pool.indices() {
                pool.set_eligibility(backend, eligibility);
                pool.refresh();
            }
        }
        assert_eq!(room(&pool), before);
    }
}
