//! Who works where: the workers of a configuration, and which of them serve, return, leave or are new in the
//! next one. Pure: who is there and the CPUs that are wanted go in, places of work come out.
//!
//! A worker whose CPU is still wanted stays on it; one whose CPU is not goes to another one that is, and leaves
//! when there is none. Invariant: of each CPU, so many serve as the list names it, and nobody has the number of
//! a thread that has not ended.

use std::collections::HashSet;

use crate::plan::place;

/// What a worker is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// It accepts.
    Serves,
    /// It keeps what connections it has, until the last of them ends.
    Leaves,
}

/// A worker that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) number: u16,
    pub(crate) cpu: usize,
    pub(crate) duty: Duty,
    /// Whether it was told to end already: then it cannot serve again.
    pub(crate) is_dismissed: bool,
}

/// What becomes of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It serves and has served.
    Stays,
    /// It serves again.
    Returns,
    /// It leaves, or is leaving already.
    Leaves,
    /// It is to be started.
    New,
}

/// A worker from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) number: u16,
    pub(crate) cpu: usize,
    pub(crate) role: Role,
}

impl Role {
    pub(crate) fn duty(self) -> Duty {
        match self {
            Role::Stays | Role::Returns | Role::New => Duty::Serves,
            Role::Leaves => Duty::Leaves,
        }
    }

    /// Whether it needs sockets of every address.
    pub(crate) fn is_newcomer(self) -> bool {
        match self {
            Role::Returns | Role::New => true,
            Role::Stays | Role::Leaves => false,
        }
    }
}

/// The next postings, by number. Without `cpus` everybody goes on as before.
pub(crate) fn next(present: &[Present], cpus: Option<&[usize]>) -> Vec<Posting> {
    let post = |worker: &Present, role, cpu| Posting {
        number: worker.number,
        cpu,
        role,
    };
    let as_before = |worker: &Present| match worker.duty {
        Duty::Serves => post(worker, Role::Stays, worker.cpu),
        Duty::Leaves => post(worker, Role::Leaves, worker.cpu),
    };
    let Some(cpus) = cpus else {
        return present.iter().map(as_before).collect();
    };
    let mut wanted = cpus.to_vec();
    let mut take = |cpu: Option<usize>| {
        let at = match cpu {
            Some(cpu) => wanted.iter().position(|wanted| *wanted == cpu)?,
            None => 0,
        };
        (at < wanted.len()).then(|| wanted.remove(at))
    };
    let mut postings: Vec<Option<Posting>> = vec![None; present.len()];
    let serving = (Duty::Serves, Role::Stays);
    let returning = (Duty::Leaves, Role::Returns);
    // Those that serve before those that have left, and of each those that need not move.
    for ((duty, role), moves) in [
        (serving, false),
        (serving, true),
        (returning, false),
        (returning, true),
    ] {
        for (worker, posting) in present.iter().zip(&mut postings) {
            if posting.is_none() && worker.duty == duty && !worker.is_dismissed {
                let cpu = take((!moves).then_some(worker.cpu));
                *posting = cpu.map(|cpu| post(worker, role, cpu));
            }
        }
    }
    let staying = present.iter().zip(postings);
    let mut postings: Vec<Posting> = staying
        .map(|(worker, posting)| posting.unwrap_or_else(|| post(worker, Role::Leaves, worker.cpu)))
        .collect();
    let taken: HashSet<u16> = present.iter().map(|worker| worker.number).collect();
    let free = (0..).map(place).filter(|number| !taken.contains(number));
    postings.extend(free.zip(wanted).map(|(number, cpu)| Posting {
        number,
        cpu,
        role: Role::New,
    }));
    postings.sort_by_key(|posting| posting.number);
    postings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn serving(cpus: &[usize]) -> Vec<Present> {
        let worker = |(number, cpu): (u16, &usize)| Present {
            number,
            cpu: *cpu,
            duty: Duty::Serves,
            is_dismissed: false,
        };
        (0..).zip(cpus).map(worker).collect()
    }

    fn roles(postings: &[Posting]) -> Vec<(usize, Role)> {
        postings.iter().map(|one| (one.cpu, one.role)).collect()
    }

    /// Those that have not ended of postings that came about.
    fn present(postings: &[Posting]) -> Vec<Present> {
        let worker = |one: &Posting| Present {
            number: one.number,
            cpu: one.cpu,
            duty: one.role.duty(),
            is_dismissed: false,
        };
        postings.iter().map(worker).collect()
    }

    #[test]
    fn more_are_started_and_the_last_leave() {
        let more = next(&serving(&[0]), Some(&[0, 1]));
        assert_eq!(roles(&more), [(0, Role::Stays), (1, Role::New)]);
        let fewer = next(&serving(&[0, 1, 0]), Some(&[0]));
        let expected = [(0, Role::Stays), (1, Role::Leaves), (0, Role::Leaves)];
        assert_eq!(roles(&fewer), expected);
    }

    #[test]
    fn who_is_leaving_serves_again_before_another_is_started() {
        let fewer = next(&serving(&[0, 1, 2]), Some(&[0]));
        let again = next(&present(&fewer), Some(&[0, 2, 3, 4]));
        let expected = [
            (0, Role::Stays),
            (3, Role::Returns),
            (2, Role::Returns),
            (4, Role::New),
        ];
        assert_eq!(roles(&again), expected);
    }

    #[test]
    fn who_was_told_to_end_ends_and_its_number_waits_for_that() {
        let mut there = present(&next(&serving(&[0, 1]), Some(&[0])));
        there[1].is_dismissed = true;
        let again = next(&there, Some(&[0, 1]));
        let numbers: Vec<(u16, Role)> = again.iter().map(|one| (one.number, one.role)).collect();
        assert_eq!(
            numbers,
            [(0, Role::Stays), (1, Role::Leaves), (2, Role::New)]
        );
    }

    #[test]
    fn who_keeps_its_cpu_stays_and_who_does_not_is_moved() {
        let fewer = next(&serving(&[0, 2, 4]), Some(&[0, 4]));
        let expected = [(0, Role::Stays), (2, Role::Leaves), (4, Role::Stays)];
        assert_eq!(roles(&fewer), expected);
        let moved = next(&serving(&[0, 2, 4]), Some(&[4, 6, 0]));
        let expected = [(0, Role::Stays), (6, Role::Stays), (4, Role::Stays)];
        assert_eq!(roles(&moved), expected);
        let without = next(&serving(&[0, 2]), None);
        assert_eq!(roles(&without), [(0, Role::Stays), (2, Role::Stays)]);
    }

    proptest! {
        #[test]
        fn every_wanted_cpu_is_served_and_numbers_are_of_one_thread(
            lists in proptest::collection::vec(proptest::collection::vec(0usize..6, 1..8), 1..12),
            ended in any::<u64>(),
        ) {
            let mut there = serving(&[0, 1]);
            for (round, list) in lists.iter().enumerate() {
                let postings = next(&there, Some(list));
                let serves = |one: &&Posting| one.role.duty() == Duty::Serves;
                let mut cpus: Vec<usize> = postings.iter().filter(serves).map(|one| one.cpu).collect();
                let mut wanted = list.clone();
                cpus.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(cpus, wanted);
                let numbers: HashSet<u16> = postings.iter().map(|one| one.number).collect();
                prop_assert_eq!(numbers.len(), postings.len());
                for worker in &there {
                    let kept = postings.iter().find(|one| one.number == worker.number);
                    let kept = kept.expect("nobody is forgotten");
                    prop_assert!(kept.role != Role::New);
                    // Nobody leaves while another is started.
                    let leaves = worker.duty == Duty::Serves && kept.role == Role::Leaves;
                    prop_assert!(!leaves || postings.iter().all(|one| !one.role.is_newcomer()));
                }
                there = present(&postings);
                // Some of those that leave end.
                let stays = |one: &Present| one.duty == Duty::Serves || ended >> (round * 3 + usize::from(one.number)) & 1 == 0;
                there.retain(stays);
            }
        }
    }
}
