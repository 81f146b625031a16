//! What the pairs of a run say, row by row: medians, the ratio with its interval, the noise floor,
//! the verdict, the goal. Pure. Invariant: a row is made of pairs in which both sides worked without
//! a failure and the host took little away; how many were left out is said.

use super::discipline::{self, Discipline};
use super::record::{Pair, Run};
use super::sample::{FAILED_KEY, MACHINE_KEY, Metric, STEAL_KEY, Sample};
use crate::cli::PeerName;
use crate::stats::{Better, Ratio, Verdict, median, noise_floor, ratio, verdict};

/// How Ringway is called where it is its own peer.
pub(crate) const OURSELVES: &str = "ringway";

/// More of the machine than this, in percent, taken away by the host makes a sample worthless. Less
/// cannot be told: in the short samples of a quick run a single tick of the counter is almost one.
const STEAL_PERCENT_MAX: f64 = 2.0;

/// A discipline against one peer.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) discipline: &'static Discipline,
    pub(crate) peer: String,
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
    pub(crate) ratio: Ratio,
    /// The noise floor, as a factor.
    pub(crate) floor: Option<f64>,
    /// The same ratio of the whole machine's CPU time.
    pub(crate) machine: Option<Ratio>,
    pub(crate) verdict: Verdict,
    pub(crate) goal: Option<Goal>,
    /// Pairs that were left out.
    pub(crate) dropped: usize,
}

/// A goal, and how the interval stands to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Goal {
    pub(crate) ratio: f64,
    pub(crate) standing: Standing,
}

/// Where the whole interval lies: an estimate alone, with noise on either side, reaches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Met,
    /// The goal is inside the interval.
    Open,
    Missed,
}

impl Standing {
    fn of(goal: f64, (low, high): (f64, f64), better: Better) -> Standing {
        let (is_met, is_missed) = match better {
            Better::Lower => (high <= goal, low > goal),
            Better::Higher => (low >= goal, high < goal),
        };
        match (is_met, is_missed) {
            (true, _) => Standing::Met,
            (false, true) => Standing::Missed,
            (false, false) => Standing::Open,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Standing::Met => "met",
            Standing::Open => "open",
            Standing::Missed => "missed",
        }
    }
}

impl Row {
    /// Whether the whole machine's time speaks against what the balancer's own says.
    pub(crate) fn machine_disagrees(&self) -> bool {
        let Some((low, high)) = self.machine.and_then(|machine| machine.interval) else {
            return false;
        };
        let is_cpu = matches!(
            self.discipline.metric,
            Metric::CpuUsPerOperation | Metric::CpuMsPerGb
        );
        is_cpu
            && match self.verdict {
                Verdict::Ahead => low > 1.0,
                Verdict::Behind => high < 1.0,
                Verdict::NoDifference | Verdict::TooFewPairs => false,
            }
    }
}

/// The rows of `run`, discipline by discipline, in the order of [`discipline::ALL`].
pub(crate) fn rows(run: &Run) -> Vec<Row> {
    let mut rows = Vec::new();
    for discipline in &discipline::ALL {
        let of_discipline = || {
            let pairs = run.pairs.iter();
            pairs.filter(|pair| pair.discipline == discipline.name)
        };
        let itself = of_discipline().filter(|pair| pair.peer == OURSELVES);
        let itself: Vec<&Pair> = itself.filter(|pair| is_sound(pair)).collect();
        let floor = ratio(&values(&itself, discipline.metric.key()))
            .as_ref()
            .and_then(noise_floor);
        let mut peers: Vec<&str> = Vec::new();
        for pair in of_discipline() {
            if pair.peer != OURSELVES && !peers.contains(&pair.peer.as_str()) {
                peers.push(&pair.peer);
            }
        }
        for peer in peers {
            let pairs: Vec<&Pair> = of_discipline().filter(|pair| pair.peer == peer).collect();
            rows.extend(row(discipline, peer, &pairs, floor));
        }
    }
    rows
}

fn row(
    discipline: &'static Discipline,
    peer: &str,
    pairs: &[&Pair],
    floor: Option<f64>,
) -> Option<Row> {
    let sound: Vec<&Pair> = pairs
        .iter()
        .copied()
        .filter(|pair| is_sound(pair))
        .collect();
    let metric = discipline.metric;
    let values_of = values(&sound, metric.key());
    let found = ratio(&values_of)?;
    let (ours, theirs): (Vec<f64>, Vec<f64>) = values_of.into_iter().unzip();
    let goal = peer_named(peer).and_then(|peer| discipline.goal(peer));
    Some(Row {
        discipline,
        peer: peer.to_owned(),
        ours: median(&ours)?,
        theirs: median(&theirs)?,
        ratio: found,
        floor,
        machine: ratio(&values(&sound, MACHINE_KEY)),
        verdict: verdict(&found, floor, metric.better()),
        // A goal is judged by as many pairs as a difference is.
        goal: goal.zip(found.interval).map(|(ratio, interval)| Goal {
            ratio,
            standing: Standing::of(ratio, interval, metric.better()),
        }),
        dropped: pairs.len() - sound.len(),
    })
}

fn peer_named(name: &str) -> Option<PeerName> {
    let mut all = PeerName::ALL.into_iter();
    all.find(|peer| super::contender::peer_name(*peer) == name)
}

/// Whether both sides of `pair` may be believed.
fn is_sound(pair: &Pair) -> bool {
    let sound = |sample: &Sample| {
        let value = |key: &str| sample.get(key).copied().unwrap_or_default();
        value(FAILED_KEY) == 0.0 && value(STEAL_KEY) <= STEAL_PERCENT_MAX
    };
    sound(&pair.ours) && sound(&pair.theirs)
}

/// (ours, theirs) of figure `key`.
fn values(pairs: &[&Pair], key: &str) -> Vec<(f64, f64)> {
    pairs
        .iter()
        .filter_map(|pair| Some((*pair.ours.get(key)?, *pair.theirs.get(key)?)))
        .collect()
}

/// Disciplines and peers that were run, but not once so that it could be used.
pub(crate) fn unusable(run: &Run) -> Vec<String> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for pair in &run.pairs {
        let key = (pair.discipline.as_str(), pair.peer.as_str());
        if !all.contains(&key) {
            all.push(key);
        }
    }
    let is_used = |(discipline, peer): &(&str, &str)| {
        run.pairs
            .iter()
            .any(|pair| pair.discipline == *discipline && pair.peer == *peer && is_sound(pair))
    };
    all.into_iter()
        .filter(|key| !is_used(key))
        .map(|(discipline, peer)| {
            format!("{discipline}: {peer}: no pair without failures or with enough of the CPU")
        })
        .collect()
}

/// Figure `key` of everybody in `discipline`: name and median, Ringway first.
pub(crate) fn medians(run: &Run, discipline: &str, key: &str) -> Vec<(String, f64)> {
    let mut of: Vec<(String, Vec<f64>)> = vec![(OURSELVES.to_owned(), Vec::new())];
    let pairs = run.pairs.iter();
    for pair in pairs.filter(|pair| pair.discipline == discipline && is_sound(pair)) {
        for (name, sample) in [(OURSELVES, &pair.ours), (&pair.peer, &pair.theirs)] {
            let Some(value) = sample.get(key) else {
                continue;
            };
            match of.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(*value),
                None => of.push((name.to_owned(), vec![*value])),
            }
        }
    }
    of.into_iter()
        .filter_map(|(name, values)| Some((name, median(&values)?)))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::record::{Environment, First, Participant, Skipped};
    use super::*;

    fn sample(cpu_us: f64, failed: f64) -> Sample {
        let mut sample = Sample::from([
            ("cpu_us_per_operation".to_owned(), cpu_us),
            ("machine_us_per_operation".to_owned(), cpu_us * 3.0),
            ("operations_per_second".to_owned(), 1e6 / cpu_us),
            ("failed".to_owned(), failed),
        ]);
        for (place, (_, key)) in super::super::sample::LATENCIES.iter().enumerate() {
            sample.insert((*key).to_owned(), cpu_us * 10.0 * (place + 1) as f64);
        }
        sample
    }

    /// A run with one clear difference, one that is none, and a program against itself.
    pub(crate) fn run() -> Run {
        let mut pairs = Vec::new();
        for place in 0..8 {
            let wobble = 1.0 + 0.01 * f64::from(place % 3);
            for (peer, factor) in [(OURSELVES, 1.0), ("haproxy", 1.25), ("nginx", 1.005)] {
                let theirs = 8.0 * factor * (2.0 - wobble);
                let first = if place % 2 == 0 {
                    First::Ours
                } else {
                    First::Theirs
                };
                pairs.push(Pair {
                    discipline: "rr-64b".to_owned(),
                    peer: peer.to_owned(),
                    first,
                    ours: sample(8.0 * wobble, 0.0),
                    theirs: sample(theirs, f64::from(u8::from(place == 7 && peer == "nginx"))),
                });
            }
            for discipline in ["scale-00010", "scale-01000"] {
                pairs.push(Pair {
                    discipline: discipline.to_owned(),
                    peer: "nginx".to_owned(),
                    first: First::Ours,
                    ours: sample(8.0, 0.0),
                    theirs: sample(9.0, 0.0),
                });
            }
        }
        Run {
            environment: Environment {
                date: "2026-01-02".to_owned(),
                command: "ringway-bench compare <&>".to_owned(),
                kernel: "Linux 6.18".to_owned(),
                ..Environment::default()
            },
            contenders: vec![Participant {
                name: OURSELVES.to_owned(),
                version: "ringway 0.1.0".to_owned(),
                command: "ringway run -c ringway.conf".to_owned(),
                configuration: "workers: [0]\n".to_owned(),
            }],
            skipped: vec![Skipped {
                peer: "monoio".to_owned(),
                reason: "not asked for".to_owned(),
            }],
            peaks: Vec::new(),
            pairs,
            notes: vec!["a note".to_owned()],
        }
    }

    #[test]
    fn a_clear_difference_is_called_and_a_small_one_is_not() {
        let rows = rows(&run());
        let of = |peer: &str| rows.iter().find(|row| row.peer == peer).unwrap();
        let haproxy = of("haproxy");
        assert_eq!(haproxy.verdict, Verdict::Ahead);
        assert!((haproxy.ratio.middle - 0.8).abs() < 0.03);
        assert_eq!(
            haproxy.goal,
            Some(Goal {
                ratio: 0.85,
                standing: Standing::Met
            })
        );
        assert!(!haproxy.machine_disagrees());
        let nginx = of("nginx");
        assert_eq!(nginx.verdict, Verdict::NoDifference);
        assert_eq!((nginx.dropped, nginx.ratio.pairs), (1, 7));
        assert_eq!(nginx.goal.unwrap().standing, Standing::Missed);
        assert!(rows.iter().all(|row| row.peer != OURSELVES));
    }

    #[test]
    fn a_goal_is_judged_by_the_whole_interval() {
        let lower = |interval| Standing::of(0.85, interval, Better::Lower);
        assert_eq!(lower((0.80, 0.85)), Standing::Met);
        assert_eq!(lower((0.80, 0.86)), Standing::Open);
        assert_eq!(lower((0.86, 0.90)), Standing::Missed);
        let higher = |interval| Standing::of(1.1, interval, Better::Higher);
        assert_eq!(higher((1.1, 1.3)), Standing::Met);
        assert_eq!(higher((1.0, 1.3)), Standing::Open);
        assert_eq!(higher((1.0, 1.05)), Standing::Missed);
    }

    #[test]
    fn a_peer_that_always_failed_is_named() {
        let mut run = run();
        assert!(unusable(&run).is_empty());
        for pair in &mut run.pairs {
            if pair.peer == "haproxy" {
                pair.theirs.insert("failed".to_owned(), 1.0);
            }
        }
        assert_eq!(
            unusable(&run),
            ["rr-64b: haproxy: no pair without failures or with enough of the CPU"]
        );
        assert!(rows(&run).iter().all(|row| row.peer != "haproxy"));
    }

    #[test]
    fn medians_are_by_name_and_ours_come_first() {
        let medians = medians(&run(), "scale-00010", "cpu_us_per_operation");
        assert_eq!(
            medians,
            [("ringway".to_owned(), 8.0), ("nginx".to_owned(), 9.0)]
        );
    }
}
