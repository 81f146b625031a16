//! What operators have asked for of single backends while the process runs, over what the file says.
//! Pure: configurations in, configurations out.
//!
//! Invariant: what was asked for holds until the same is asked for otherwise, its backend leaves the
//! file, or, for a weight, the file gives the backend another one: the newest word counts.

use std::collections::BTreeMap;
use std::fmt;

use ringway_balance::AdminState;
use ringway_config::{Backend, BackendAddress, Config, Pool};

use crate::upgrade::message::Asked;

/// Backends named in an error at most.
const NAMED_MAX: usize = 10;

/// All that was asked for, by pool and address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    asked: BTreeMap<(String, String), Override>,
}

/// What was asked for of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Override {
    state: AdminState,
    weight: Option<Weights>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weights {
    asked: u32,
    /// What the file said then.
    file: u32,
}

/// A change of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendChange {
    pub(crate) pool: String,
    pub(crate) address: String,
    pub(crate) state: Option<AdminState>,
    pub(crate) weight: Option<WeightChange>,
}

/// What its weight is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WeightChange {
    To(u32),
    ToThatOfTheFile,
}

/// What a change is about does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotThere {
    Pool {
        pool: String,
        pools: Vec<String>,
    },
    Backend {
        pool: String,
        address: String,
        backends: Vec<String>,
    },
}

impl Overrides {
    /// The configuration of a file with these over it, and those that still hold.
    pub(crate) fn over(&self, mut file: Config) -> (Overrides, Config) {
        let mut kept = Overrides::default();
        if self.asked.is_empty() {
            return (kept, file);
        }
        for pool in &mut file.pools {
            for backend in &mut pool.backends {
                let key = (pool.name.clone(), backend.address.to_string());
                let Some(mut asked) = self.asked.get(&key).copied() else {
                    continue;
                };
                asked.weight = asked.weight.filter(|w| w.file == backend.weight);
                asked.apply(backend);
                kept.set(key, asked);
            }
        }
        (kept, file)
    }

    /// What runs with one more change.
    pub(crate) fn with(
        &self,
        running: &Config,
        change: &BackendChange,
    ) -> Result<(Overrides, Config), NotThere> {
        let mut config = running.clone();
        let backend = find(&mut config, &change.pool, &change.address)?;
        let key = (change.pool.clone(), backend.address.to_string());
        let before = self.asked.get(&key).copied().unwrap_or_default();
        let file = before.weight.map_or(backend.weight, |w| w.file);
        let asked = Override {
            state: change.state.unwrap_or(before.state),
            weight: match change.weight {
                None => before.weight,
                Some(WeightChange::ToThatOfTheFile) => None,
                Some(WeightChange::To(asked)) => (asked != file).then_some(Weights { asked, file }),
            },
        };
        backend.weight = file;
        asked.apply(backend);
        let mut overrides = self.clone();
        overrides.set(key, asked);
        Ok((overrides, config))
    }

    /// For another process.
    pub(crate) fn tell(&self) -> Vec<Asked> {
        let told = |((pool, address), asked): (&(String, String), &Override)| Asked {
            pool: pool.clone(),
            address: address.clone(),
            state: asked.state.as_label().to_owned(),
            weight: asked.weight.map(|weight| (weight.asked, weight.file)),
        };
        self.asked.iter().map(told).collect()
    }

    /// What another process has told, or why that makes no sense.
    pub(crate) fn told(asked: Vec<Asked>) -> Result<Overrides, String> {
        let mut overrides = Overrides::default();
        for Asked {
            pool,
            address,
            state,
            weight,
        } in asked
        {
            let mut known = AdminState::ALL.into_iter();
            let known = known.find(|known| known.as_label() == state);
            let asked = Override {
                state: known.ok_or_else(|| format!("there is no state `{state}`"))?,
                weight: weight.map(|(asked, file)| Weights { asked, file }),
            };
            overrides.set((pool, address), asked);
        }
        Ok(overrides)
    }

    fn set(&mut self, key: (String, String), asked: Override) {
        if asked == Override::default() {
            self.asked.remove(&key);
        } else {
            self.asked.insert(key, asked);
        }
    }
}

impl Override {
    fn apply(self, backend: &mut Backend) {
        backend.state = self.state;
        if let Some(Weights { asked, .. }) = self.weight {
            backend.weight = asked;
        }
    }
}

fn find<'c>(
    config: &'c mut Config,
    name: &str,
    address: &str,
) -> Result<&'c mut Backend, NotThere> {
    let pools = || config.pools.iter().map(|pool| pool.name.clone());
    let Some(at) = config.pools.iter().position(|pool| pool.name == name) else {
        return Err(NotThere::Pool {
            pool: name.to_owned(),
            pools: pools().collect(),
        });
    };
    let pool = &mut config.pools[at];
    match place_of(pool, address) {
        Some(at) => Ok(&mut pool.backends[at]),
        None => Err(NotThere::Backend {
            pool: name.to_owned(),
            address: address.to_owned(),
            backends: pool
                .backends
                .iter()
                .map(|b| b.address.to_string())
                .collect(),
        }),
    }
}

/// The same address may be written in more than one way.
fn place_of(pool: &Pool, address: &str) -> Option<usize> {
    let address: BackendAddress = address.parse().ok()?;
    pool.backends.iter().position(|b| b.address == address)
}

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self {
            NotThere::Pool { pool, pools } => {
                write!(f, "there is no pool `{pool}`; there is ")?;
                pools
            }
            NotThere::Backend {
                pool,
                address,
                backends,
            } => {
                write!(
                    f,
                    "there is no backend `{address}` in pool `{pool}`; there is "
                )?;
                backends
            }
        };
        let named = &names[..names.len().min(NAMED_MAX)];
        write!(f, "{}", named.join(", "))?;
        match names.len() - named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl std::error::Error for NotThere {}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "10.0.0.1:1";
    const B: &str = "10.0.0.2:1";

    fn file(backends: &[(&str, u32)]) -> Config {
        let backend = |(address, weight): &(&str, u32)| Backend {
            weight: *weight,
            ..Backend::new(address.parse().unwrap())
        };
        let pool = Pool::new("p", backends.iter().map(backend).collect());
        Config::new(Vec::new(), vec![pool])
    }

    fn change(
        address: &str,
        state: Option<AdminState>,
        weight: Option<WeightChange>,
    ) -> BackendChange {
        BackendChange {
            pool: "p".to_owned(),
            address: address.to_owned(),
            state,
            weight,
        }
    }

    fn seen(config: &Config) -> Vec<(AdminState, u32)> {
        let backends = config.pools[0].backends.iter();
        backends.map(|b| (b.state, b.weight)).collect()
    }

    use AdminState::{Active, Drain, Maintenance};
    use WeightChange::{To, ToThatOfTheFile};

    #[test]
    fn a_change_names_what_it_changes_and_leaves_the_rest() {
        let config = file(&[(A, 1), (B, 2)]);
        let none = Overrides::default();
        let (drained, config) = none.with(&config, &change(B, Some(Drain), None)).unwrap();
        assert_eq!(seen(&config), [(Active, 1), (Drain, 2)]);
        let (both, config) = drained
            .with(&config, &change(B, None, Some(To(7))))
            .unwrap();
        assert_eq!(seen(&config), [(Active, 1), (Drain, 7)]);
        let (one, config) = both.with(&config, &change(B, Some(Active), None)).unwrap();
        assert_eq!(seen(&config), [(Active, 1), (Active, 7)]);
        let back = change(B, None, Some(ToThatOfTheFile));
        let (nothing, config) = one.with(&config, &back).unwrap();
        assert_eq!(seen(&config), [(Active, 1), (Active, 2)]);
        assert_eq!(nothing, none);
    }

    #[test]
    fn the_weight_of_the_file_is_no_change() {
        let config = file(&[(A, 3)]);
        let none = Overrides::default();
        let (five, config) = none.with(&config, &change(A, None, Some(To(5)))).unwrap();
        let (same, config) = five.with(&config, &change(A, None, Some(To(3)))).unwrap();
        assert_eq!((same, seen(&config)), (none, vec![(Active, 3)]));
    }

    #[test]
    fn what_was_asked_for_outlives_a_reload_and_not_its_backend() {
        let config = file(&[(A, 1), (B, 1)]);
        let asked = change(A, Some(Maintenance), Some(To(9)));
        let (asked, _) = Overrides::default().with(&config, &asked).unwrap();
        let (kept, config) = asked.over(file(&[(B, 4), (A, 1)]));
        assert_eq!(seen(&config), [(Active, 4), (Maintenance, 9)]);
        assert_eq!(kept, asked);
        assert_eq!(Overrides::told(asked.tell()), Ok(asked.clone()));
        let (kept, config) = asked.over(file(&[(B, 1)]));
        assert_eq!(
            (kept, seen(&config)),
            (Overrides::default(), vec![(Active, 1)])
        );
    }

    #[test]
    fn a_weight_that_the_file_has_changed_since_is_that_of_the_file() {
        let config = file(&[(A, 1)]);
        let asked = change(A, Some(Drain), Some(To(9)));
        let (asked, _) = Overrides::default().with(&config, &asked).unwrap();
        let (kept, config) = asked.over(file(&[(A, 2)]));
        assert_eq!(seen(&config), [(Drain, 2)]);
        // Not even when it says the old one again.
        let (_, config) = kept.over(file(&[(A, 1)]));
        assert_eq!(seen(&config), [(Drain, 1)]);
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let many: Vec<String> = (1..=12).map(|n| format!("10.0.0.{n}:1")).collect();
        let many: Vec<(&str, u32)> = many.iter().map(|b| (b.as_str(), 1)).collect();
        let config = file(&many);
        let none = Overrides::default();
        for wrong in ["10.0.0.1:2", "", "unix:/a", "nonsense"] {
            let error = none.with(&config, &change(wrong, None, None)).unwrap_err();
            let text = error.to_string();
            let begin = format!("there is no backend `{wrong}` in pool `p`; there is 10.0.0.1:1, ");
            assert!(
                text.starts_with(&begin) && text.ends_with(" and 2 more"),
                "{text}"
            );
        }
        let wrong = BackendChange {
            pool: "q".to_owned(),
            ..change(A, None, None)
        };
        let text = none.with(&config, &wrong).unwrap_err().to_string();
        assert_eq!(text, "there is no pool `q`; there is p");
    }
}
