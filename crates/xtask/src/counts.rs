//! The reviewed figures of `counts.json`: what an operation was found to cost, accepted by a person.
//! Not the invariants: those are promises with fixed limits; these are where the code stands, so that
//! a change for the worse is seen the day it is made. Invariant: only `--accept` writes the file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// Figures by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// One part of the file: what was counted in one way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Section {
    /// With what the figures were counted, where that matters: with anything else they are for
    /// information.
    pub(crate) counted_with: String,
    /// A figure more than this above the reviewed one is worse.
    pub(crate) tolerance_percent: f64,
    pub(crate) figures: Figures,
}

/// How a figure compares with the reviewed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Within,
    Better,
    Worse,
    /// Nobody has reviewed it.
    New,
    /// It was reviewed and is not counted any more.
    Gone,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Within => "yes",
            Change::Better => "better",
            Change::Worse => "WORSE",
            Change::New => "NEW",
            Change::Gone => "GONE",
        })
    }
}

/// One figure beside the reviewed one; at least one of them is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) counted: Option<f64>,
    pub(crate) reviewed: Option<f64>,
    pub(crate) change: Change,
}

impl Section {
    /// Every figure of either side.
    pub(crate) fn compare(&self, counted: &Figures) -> Vec<Compared> {
        let names = counted.keys().chain(self.figures.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| {
                let (counted, reviewed) = (counted.get(name), self.figures.get(name));
                Compared {
                    name: name.clone(),
                    counted: counted.copied(),
                    reviewed: reviewed.copied(),
                    change: self.change(counted.copied(), reviewed.copied()),
                }
            })
            .collect()
    }

    fn change(&self, counted: Option<f64>, reviewed: Option<f64>) -> Change {
        let (counted, reviewed) = match (counted, reviewed) {
            (None, _) => return Change::Gone,
            (Some(_), None) => return Change::New,
            (Some(counted), Some(reviewed)) => (counted, reviewed),
        };
        let tolerated = reviewed * self.tolerance_percent / 100.0;
        if counted > reviewed + tolerated {
            Change::Worse
        } else if counted < reviewed - tolerated {
            Change::Better
        } else {
            Change::Within
        }
    }
}

/// The file.
#[derive(Debug)]
pub(crate) struct Counts {
    path: PathBuf,
    json: Json,
}

impl Counts {
    /// The file of this source tree.
    pub(crate) fn read() -> io::Result<Counts> {
        Counts::at(&Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.json"))
    }

    fn at(path: &Path) -> io::Result<Counts> {
        let named =
            |error: &dyn fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| named(&error))?;
        Ok(Counts {
            path: path.to_owned(),
            json: serde_json::from_str(&text).map_err(|error| named(&error))?,
        })
    }

    /// The section called `name`; a figure that is no number is an error, not an absence.
    pub(crate) fn section(&self, name: &str) -> io::Result<Section> {
        let wrong =
            |what: &str| io::Error::other(format!("{}: {name}: {what}", self.path.display()));
        let section = &self.json[name];
        let figures = section["figures"]
            .as_object()
            .ok_or_else(|| wrong("no figures"))?;
        Ok(Section {
            counted_with: section["counted_with"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            tolerance_percent: section["tolerance_percent"]
                .as_f64()
                .ok_or_else(|| wrong("no tolerance_percent"))?,
            figures: figures
                .iter()
                .map(|(name, figure)| Some((name.clone(), figure.as_f64()?)))
                .collect::<Option<Figures>>()
                .ok_or_else(|| wrong("a figure is no number"))?,
        })
    }

    /// Writes `section` in the place of the one called `name`, and says where.
    pub(crate) fn accept(&mut self, name: &str, section: &Section) -> io::Result<&Path> {
        let place = &mut self.json[name];
        place["counted_with"] = section.counted_with.clone().into();
        place["tolerance_percent"] = section.tolerance_percent.into();
        place["figures"] = section
            .figures
            .iter()
            .map(|(name, figure)| (name.clone(), Json::from(*figure)))
            .collect();
        let text = serde_json::to_string_pretty(&self.json)?;
        fs::write(&self.path, text + "\n")?;
        Ok(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: &[(&str, f64)]) -> Figures {
        of.iter()
            .map(|(name, figure)| ((*name).to_owned(), *figure))
            .collect()
    }

    fn section() -> Section {
        Section {
            counted_with: "x 1.0".to_owned(),
            tolerance_percent: 5.0,
            figures: figures(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("d", 0.0)]),
        }
    }

    fn changes(of: &[(&str, f64)]) -> Vec<(String, Change)> {
        let compared = section().compare(&figures(of));
        compared
            .into_iter()
            .map(|compared| (compared.name, compared.change))
            .collect()
    }

    #[test]
    fn a_figure_is_judged_by_the_tolerance() {
        let named = |of: &[(&str, Change)]| -> Vec<(String, Change)> {
            of.iter()
                .map(|(name, change)| ((*name).to_owned(), *change))
                .collect()
        };
        assert_eq!(
            changes(&[("a", 105.0), ("b", 105.1), ("c", 94.9), ("d", 0.0)]),
            named(&[
                ("a", Change::Within),
                ("b", Change::Worse),
                ("c", Change::Better),
                ("d", Change::Within),
            ])
        );
        assert_eq!(
            changes(&[("a", 95.0), ("d", 0.1), ("e", 1.0)]),
            named(&[
                ("a", Change::Within),
                ("b", Change::Gone),
                ("c", Change::Gone),
                ("d", Change::Worse),
                ("e", Change::New),
            ])
        );
    }

    #[test]
    fn what_is_accepted_is_read_again_and_the_rest_stays() {
        let path = std::env::temp_dir().join(format!("ringway-counts-{}", std::process::id()));
        let before = r#"{"about": "x", "one": {"counted_with": "", "tolerance_percent": 1, "figures": {"z": 1}},
            "two": {"note": "kept", "tolerance_percent": 2, "figures": {}}}"#;
        fs::write(&path, before).unwrap();
        let mut counts = Counts::at(&path).unwrap();
        let one = counts.section("one").unwrap();
        counts.accept("two", &section()).unwrap();
        let counts = Counts::at(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(counts.section("two").unwrap(), section());
        assert_eq!(counts.section("one").unwrap(), one);
        assert_eq!(
            (&counts.json["about"], &counts.json["two"]["note"]),
            (&"x".into(), &"kept".into())
        );
    }

    #[test]
    fn a_section_that_cannot_be_judged_by_is_an_error() {
        for (text, words) in [
            (r#"{}"#, "no figures"),
            (r#"{"one": {"figures": {}}}"#, "no tolerance_percent"),
            (
                r#"{"one": {"tolerance_percent": 5, "figures": {"a": "many"}}}"#,
                "a figure is no number",
            ),
        ] {
            let counts = Counts {
                path: PathBuf::from("counts.json"),
                json: serde_json::from_str(text).unwrap(),
            };
            let error = counts.section("one").unwrap_err().to_string();
            assert_eq!(error, format!("counts.json: one: {words}"));
        }
    }

    #[test]
    fn the_reviewed_file_is_readable() {
        let counts = Counts::read().unwrap();
        for name in ["instructions", "invariants"] {
            assert!(!counts.section(name).unwrap().figures.is_empty(), "{name}");
        }
    }
}
