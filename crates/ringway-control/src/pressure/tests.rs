//! Levels of memory, on numbers alone.

use proptest::prelude::*;

use super::*;

/// 128 MiB with one worker, in MiB.
const BUDGET: Budget = Budget {
    bound: 128,
    kernel: 48,
};

fn usage(all: u64, kernel: u64) -> Usage {
    Usage {
        all,
        kernel,
        own_kernel: kernel,
    }
}

fn levels(of: impl IntoIterator<Item = (u64, u64)>) -> Vec<Level> {
    let mut level = Level::Ease;
    let step = |(all, kernel)| {
        level = BUDGET.level(level, usage(all, kernel));
        level
    };
    of.into_iter().map(step).collect()
}

#[test]
fn levels_rise_at_once_and_fall_late() {
    use Level::{Ease, Over, Short};
    let kernel = [0, 35, 36, 31, 47, 48, 43, 41, 30, 29, 35, 50, 0];
    let expected = [
        Ease, Ease, Short, Short, Short, Over, Over, Short, Short, Ease, Ease, Over, Ease,
    ];
    assert_eq!(levels(kernel.map(|kernel| (kernel, kernel))), expected);
    let all = [111, 112, 119, 120, 113, 111, 104, 103];
    let expected = [Ease, Short, Short, Over, Over, Short, Short, Ease];
    assert_eq!(levels(all.map(|all| (all, 20))), expected);
}

#[test]
fn who_holds_little_is_not_refused_for_what_others_took() {
    assert_eq!(levels([(128, 11), (128, 12)]), [Level::Ease, Level::Over]);
}

/// Others who have the bound together with this process.
#[test]
fn nobody_is_reset_for_what_others_hold_in_the_kernel() {
    let of_others = |own_kernel| Usage {
        all: 128,
        kernel: 60,
        own_kernel,
    };
    assert_eq!(BUDGET.level(Level::Over, of_others(11)), Level::Ease);
    assert_eq!(BUDGET.level(Level::Ease, of_others(13)), Level::Over);
    assert_eq!(BUDGET.excess(of_others(13)), 1);
}

#[test]
fn what_could_be_used_up_meanwhile_is_looked_at_sooner() {
    let budget = Budget {
        bound: 128 << 20,
        kernel: 48 << 20,
    };
    let used = |mebibytes: u64| usage(mebibytes << 20, mebibytes << 20);
    let pause = |level, mebibytes, connections| {
        let pause = budget.pause(level, used(mebibytes), connections);
        pause.as_millis()
    };
    assert_eq!(pause(Level::Ease, 0, 18), 100);
    assert_eq!(pause(Level::Ease, 0, 19), 20);
    assert_eq!(pause(Level::Ease, 30, 3), 100);
    assert_eq!(pause(Level::Ease, 30, 4), 20);
    assert_eq!(pause(Level::Short, 30, 0), 10);
}

#[test]
fn a_shortage_is_said_once_and_that_it_is_over_too() {
    let begin = Instant::now();
    let mut course = Course::default();
    let mut said = |seconds: u64, level| {
        let now = begin + Duration::from_secs(seconds);
        course.take(now, level, 5).1
    };
    assert_eq!(said(0, Level::Ease), None);
    assert_eq!(said(1, Level::Over), Some(News::Refusing));
    assert_eq!(said(2, Level::Over), Some(News::Resetting));
    assert_eq!(said(3, Level::Ease), None);
    assert_eq!(said(6, Level::Short), None);
    assert_eq!(said(7, Level::Over), None);
    assert_eq!(said(11, Level::Ease), None);
    let after = Duration::from_secs(6);
    assert_eq!(said(12, Level::Ease), Some(News::Eased { after }));
    assert_eq!(said(13, Level::Ease), None);
    assert_eq!(said(14, Level::Short), Some(News::Refusing));
}

#[test]
fn workers_look_twice_before_they_reset_and_wait_for_what_comes_back() {
    let begin = Instant::now();
    let mut course = Course::default();
    let mut told = |millis, level| {
        let now = begin + Duration::from_millis(millis);
        course.take(now, level, 5).0
    };
    let over = Some(Strain::Over { bytes: 5 });
    assert_eq!(told(0, Level::Ease), None);
    assert_eq!(told(10, Level::Over), Some(Strain::Short));
    assert_eq!(told(20, Level::Over), over);
    assert_eq!(told(30, Level::Over), Some(Strain::Short));
    assert_eq!(told(59, Level::Over), Some(Strain::Short));
    assert_eq!(told(60, Level::Over), over);
    assert_eq!(told(70, Level::Short), Some(Strain::Short));
    assert_eq!(told(100, Level::Over), over);
    assert_eq!(told(110, Level::Ease), Some(Strain::Ease));
    assert_eq!(told(120, Level::Ease), None);
}

fn any_usage() -> impl Strategy<Value = Usage> {
    (0u64..200, 0u64..200, 0u64..200).prop_map(|(all, kernel, own_kernel)| Usage {
        all: all.max(kernel),
        kernel,
        own_kernel: own_kernel.min(kernel),
    })
}

proptest! {
    /// More of anything is never less of a shortage, wherever it begins.
    #[test]
    fn more_use_is_no_lower_level(usage in any_usage(), more in any_usage(), before in 0usize..3) {
        let before = [Level::Ease, Level::Short, Level::Over][before];
        let more = Usage {
            all: usage.all + more.all,
            kernel: usage.kernel + more.kernel,
            own_kernel: usage.own_kernel + more.own_kernel,
        };
        prop_assert!(BUDGET.level(before, usage) <= BUDGET.level(before, more));
    }

    /// When what was asked for is given back, nobody has to go any more; when it is not over, nothing is asked for
    /// beyond the margin.
    #[test]
    fn what_is_asked_for_is_enough(usage in any_usage(), before in 0usize..3) {
        let before = [Level::Ease, Level::Short, Level::Over][before];
        if BUDGET.level(before, usage) == Level::Over {
            let excess = BUDGET.excess(usage) + 1;
            let after = Usage {
                all: usage.all.saturating_sub(excess),
                kernel: usage.kernel.saturating_sub(excess),
                own_kernel: usage.own_kernel.saturating_sub(excess),
            };
            prop_assert!(BUDGET.level(Level::Over, after) < Level::Over);
        }
    }

    /// Whatever happens, one that said it is short says that it is over, and nothing else twice.
    #[test]
    fn what_is_said_alternates(levels in proptest::collection::vec((0usize..3, 0u64..9), 1..60)) {
        let mut course = Course::default();
        let (mut now, mut open, mut has_reset) = (Instant::now(), false, false);
        for (level, seconds) in levels {
            now += Duration::from_secs(seconds);
            let level = [Level::Ease, Level::Short, Level::Over][level];
            let (strain, news) = course.take(now, level, 1);
            prop_assert_eq!(strain.is_some_and(|strain| strain == Strain::Ease), strain.is_some() && level == Level::Ease);
            match news {
                Some(News::Refusing) => { prop_assert!(!open); (open, has_reset) = (true, false); }
                Some(News::Resetting) => { prop_assert!(open && !has_reset); has_reset = true; }
                Some(News::Eased { .. }) => { prop_assert!(open && level == Level::Ease); open = false; }
                None => prop_assert!(open || level == Level::Ease),
            }
        }
    }

    /// Usage that is not looked into is one that is no shortage.
    #[test]
    fn what_is_enough_is_ease(bound in 64u64 << 20..1 << 40, part in 1u64..8) {
        let budget = Budget { bound, kernel: bound / 8 * part };
        let all = budget.enough() - 1;
        prop_assert_eq!(budget.level(Level::Ease, usage(all, all)), Level::Ease);
        prop_assert_eq!(budget.level(Level::Over, usage(all, all)), Level::Ease);
    }
}
