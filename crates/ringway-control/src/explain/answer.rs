//! The answer as JSON. Fields are added, never renamed: scripts read them. Not where it comes from.

use serde::Serialize;

/// What would become of a connection, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    pub(super) listener: String,
    /// Whose address counts; none for a client of a Unix socket.
    pub(super) source: Option<String>,
    /// Who sends the PROXY header, where that was said.
    pub(super) sender: Option<String>,
    pub(super) sni: Option<String>,
    pub(super) alpn: Vec<String>,
    pub(super) worker: Worker,
    pub(super) admission: Admission,
    pub(super) route: Route,
    pub(super) pool: Option<Pool>,
    /// What workers would choose, those together that would choose the same for the same reasons.
    pub(super) choices: Vec<Choice>,
    /// Workers that did not answer in time.
    pub(super) silent_workers: Vec<u16>,
}

/// Which worker.
#[derive(Debug, Serialize)]
pub(super) struct Worker {
    /// None where the kernel chooses among several.
    pub(super) index: Option<u16>,
    pub(super) why: String,
}

/// Whether it is let in.
#[derive(Debug, Serialize)]
pub(super) struct Admission {
    pub(super) admitted: bool,
    /// As in the metric `listener_refused_total`.
    pub(super) reason: Option<&'static str>,
    /// What there is to pass, in the order in which it is asked.
    pub(super) rules: Vec<Rule>,
}

/// One thing to pass.
#[derive(Debug, Serialize)]
pub(super) struct Rule {
    /// The key of the configuration.
    pub(super) rule: &'static str,
    /// The network that decides, where one does.
    pub(super) matched: Option<String>,
    pub(super) says: String,
}

/// Where it is led.
#[derive(Debug, Serialize)]
pub(super) struct Route {
    pub(super) pool: Option<String>,
    /// The name that was met, as the configuration writes it.
    pub(super) rule: Option<String>,
    pub(super) why: String,
}

/// How its pool chooses.
#[derive(Debug, Serialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) balance: &'static str,
    /// Whether every connection of this source gets the same backend while nothing changes. Otherwise what is
    /// told is of the next connection of each worker.
    pub(super) stable: bool,
    pub(super) decides: &'static str,
}

/// What some workers would choose.
#[derive(Debug, Serialize)]
pub(super) struct Choice {
    pub(super) workers: Vec<u16>,
    #[serde(flatten)]
    pub(super) told: Told,
}

/// One choice with its reasons.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Told {
    pub(super) backend: Option<String>,
    pub(super) why: String,
    /// Whether it is chosen although it is held to be down.
    pub(super) fail_open: bool,
    pub(super) backends: Vec<Backend>,
    /// With `maglev`: the entries that were looked at, the last of which decided.
    pub(super) entries: Vec<Entry>,
}

/// One backend in it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Backend {
    pub(super) address: String,
    /// chosen, candidate, backup, down, ejected, full, weightless, drain or maintenance.
    pub(super) verdict: &'static str,
    pub(super) why: String,
    /// Its place in the order that decides, from 1, where one does.
    pub(super) rank: Option<u32>,
    pub(super) weight: u32,
    /// Connections of this worker, where they decide.
    pub(super) connections: Option<u32>,
    /// closed, ejected, half_open or trying; none without `outlier`.
    pub(super) circuit: Option<&'static str>,
}

/// One entry of a table.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Entry {
    pub(super) entry: u32,
    pub(super) backend: Option<String>,
}
