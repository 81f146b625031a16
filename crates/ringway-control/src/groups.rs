//! In which order the kernel has the sockets of each address (SO_REUSEPORT), by worker, as far as that is known: so
//! that newcomers can be led past those that are about to close. Pure.
//!
//! Sockets come in the order in which they began to listen, and the last takes the place of one that closes. Not known
//! is the order of those that another process has made, and that of those that stay where several closed at a
//! time. Invariant: what is not known is not here.

use std::collections::BTreeMap;

use crate::posts::{Duty, Posting, Role};

/// The workers of each address, by its number, in the order of their sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups(BTreeMap<u16, Vec<u16>>);

/// What becomes of the sockets of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coming {
    /// Each who serves has a new one.
    All,
    /// Each who begins to serve has a new one beside those that there are.
    Newcomers,
    /// Those who begin to serve share what others have.
    Nobody,
}

impl Groups {
    /// The sockets of an address were made for these workers, in this order.
    pub(crate) fn made(&mut self, number: u16, workers: impl IntoIterator<Item = u16>) {
        self.0.insert(number, workers.into_iter().collect());
    }

    /// The order of an address when those who leave have left it, if it is known then. With it come the places of those who
    /// stay, where others leave.
    pub(crate) fn next(
        &self,
        number: u16,
        coming: Coming,
        postings: &[Posting],
    ) -> (Option<Vec<u16>>, Option<Vec<u32>>) {
        let those = |is_one: &dyn Fn(Role) -> bool| -> Vec<u16> {
            let postings = postings.iter().filter(|one| is_one(one.role));
            postings.map(|one| one.number).collect()
        };
        let newcomers = those(&Role::is_newcomer);
        let Some(before) = self.0.get(&number).filter(|_| coming != Coming::All) else {
            let serving = those(&|role| role.duty() == Duty::Serves);
            return ((coming == Coming::All).then_some(serving), None);
        };
        if coming == Coming::Nobody && !newcomers.is_empty() {
            return (None, None);
        }
        let leaving = those(&|role| role == Role::Leaves);
        let (gone, stay): (Vec<u32>, Vec<u32>) = (0..)
            .take(before.len())
            .partition(|at| leaving.contains(&before[*at as usize]));
        let mut order = before.clone();
        let is_known = match gone[..] {
            [] => true,
            [one] => {
                order.swap_remove(one as usize);
                true
            }
            // Whoever closes first, nobody moves.
            [first, ..] if stay.iter().all(|place| *place < first) => {
                order.truncate(first as usize);
                true
            }
            [..] => false,
        };
        let steer = (!gone.is_empty() && !stay.is_empty()).then_some(stay);
        order.extend(newcomers);
        (is_known.then_some(order), steer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postings(roles: &[(u16, Role)]) -> Vec<Posting> {
        let posting = |(number, role): &(u16, Role)| Posting {
            number: *number,
            cpu: 0,
            role: *role,
        };
        roles.iter().map(posting).collect()
    }

    fn of(workers: &[u16]) -> Groups {
        let mut groups = Groups::default();
        groups.made(7, workers.iter().copied());
        groups
    }

    use Role::{Leaves, New, Returns, Stays};

    #[test]
    fn the_last_leave_and_others_come_behind() {
        let fewer = postings(&[(0, Stays), (1, Stays), (2, Leaves), (3, Leaves)]);
        let (order, steer) = of(&[0, 1, 2, 3]).next(7, Coming::Newcomers, &fewer);
        assert_eq!((order, steer), (Some(vec![0, 1]), Some(vec![0, 1])));
        // Those who leave for a while have no socket any more.
        let more = postings(&[(0, Stays), (1, Stays), (2, Returns), (3, Leaves), (4, New)]);
        let (order, steer) = of(&[0, 1]).next(7, Coming::Newcomers, &more);
        assert_eq!((order, steer), (Some(vec![0, 1, 2, 4]), None));
    }

    #[test]
    fn the_last_takes_the_place_of_one_that_leaves() {
        let fewer = postings(&[(0, Leaves), (1, Stays), (2, Stays)]);
        let (order, steer) = of(&[0, 1, 2]).next(7, Coming::Newcomers, &fewer);
        assert_eq!((order, steer), (Some(vec![2, 1]), Some(vec![1, 2])));
    }

    #[test]
    fn what_depends_on_who_is_first_is_not_known() {
        let fewer = postings(&[(0, Leaves), (1, Leaves), (2, Stays), (3, Stays)]);
        let (order, steer) = of(&[0, 1, 2, 3]).next(7, Coming::Newcomers, &fewer);
        assert_eq!((order, steer), (None, Some(vec![2, 3])));
        let shared = postings(&[(0, Stays), (1, New)]);
        let (order, steer) = of(&[0]).next(7, Coming::Nobody, &shared);
        assert_eq!((order, steer), (None, None));
        let (order, steer) = Groups::default().next(7, Coming::Newcomers, &fewer);
        assert_eq!((order, steer), (None, None));
    }

    #[test]
    fn an_address_that_is_new_is_everybodys_who_serves() {
        let roles = postings(&[(0, Stays), (1, Leaves), (2, New)]);
        let (order, steer) = of(&[5]).next(7, Coming::All, &roles);
        assert_eq!((order, steer), (Some(vec![0, 2]), None));
    }
}
