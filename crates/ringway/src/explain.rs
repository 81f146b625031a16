//! `ringway explain`: what would become of a connection, told for people or as the JSON it comes in. Not the
//! answer. Invariant: nothing the instance sends can steer the terminal.

use serde::Deserialize;

use crate::cli::ExplainArgs;
use crate::client::{ClientError, Endpoint, Method, encoded};
use crate::failure::Failure;
use crate::output::say;
use crate::table::{Align, Table};

/// More backends than these are listed only where they are in trouble or decide.
const BACKENDS_LISTED: usize = 50;

/// Asks the instance and prints its answer.
pub(crate) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let endpoint = Endpoint::of(&args.instance)?;
    let response = endpoint
        .request(Method::Get, &path(args))
        .map_err(|error| match error {
            // What was asked is wrong, and the instance says how.
            ClientError::Refused { response, .. } if matches!(response.status, 400 | 404) => {
                Failure::Usage(response.reason())
            }
            other => other.into(),
        })?;
    if args.json {
        return say(String::from_utf8_lossy(&response.body).trim_end());
    }
    let told: Told = serde_json::from_slice(&response.body).map_err(|error| {
        Failure::Runtime(format!("{endpoint}: its answer is not understood: {error}"))
    })?;
    say(&lines(&told).join("\n"))
}

fn path(args: &ExplainArgs) -> String {
    let mut path = format!("/v1/explain?listener={}", encoded(&args.listener, b""));
    let given = [
        ("source", &args.source),
        ("sni", &args.sni),
        ("alpn", &args.alpn),
        ("sender", &args.sender),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value, b"")));
        }
    }
    path
}

/// What is shown of an answer; what another version does not send is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    listener: String,
    source: Option<String>,
    sni: Option<String>,
    worker: Reason,
    admission: Admission,
    route: Route,
    pool: Option<Pool>,
    choices: Vec<Choice>,
    silent_workers: Vec<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reason {
    index: Option<u16>,
    why: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Admission {
    admitted: bool,
    reason: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    rule: String,
    matched: Option<String>,
    says: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Route {
    pool: Option<String>,
    rule: Option<String>,
    why: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pool {
    balance: String,
    decides: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    workers: Vec<u16>,
    backend: Option<String>,
    why: String,
    backends: Vec<Backend>,
    entries: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Backend {
    address: String,
    verdict: String,
    why: String,
    rank: Option<u32>,
    weight: u32,
    connections: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    entry: u32,
    backend: Option<String>,
}

fn lines(told: &Told) -> Vec<String> {
    let source = told
        .source
        .as_deref()
        .unwrap_or("a client of a Unix socket");
    let name = told
        .sni
        .as_ref()
        .map_or(String::new(), |name| format!(" asking for {name}"));
    let worker = told
        .worker
        .index
        .map_or("any".to_owned(), |index| index.to_string());
    let mut lines = vec![
        format!("{source}{name} at listener {}", told.listener),
        format!("worker     {worker}: {}", told.worker.why),
        match &told.admission.reason {
            None if told.admission.admitted => "admission  let in".to_owned(),
            reason => format!(
                "admission  refused: {}",
                reason.as_deref().unwrap_or_default()
            ),
        },
    ];
    for rule in &told.admission.rules {
        let matched = rule
            .matched
            .as_ref()
            .map_or(String::new(), |m| format!(" [{m}]"));
        lines.push(format!("           {}{matched}: {}", rule.rule, rule.says));
    }
    let rule = told
        .route
        .rule
        .as_ref()
        .map_or(String::new(), |rule| format!(" by {rule}"));
    let pool = told.route.pool.as_deref().unwrap_or("nowhere");
    lines.push(format!("route      {pool}{rule}: {}", told.route.why));
    if let Some(pool) = &told.pool {
        lines.push(format!("balance    {}: {}", pool.balance, pool.decides));
    }
    told.choices
        .iter()
        .for_each(|choice| lines.extend(choice_lines(choice)));
    if !told.silent_workers.is_empty() {
        lines.push(format!(
            "no answer from worker {}",
            list(&told.silent_workers)
        ));
    }
    let shown = |line: String| line.replace(char::is_control, "?");
    lines.into_iter().map(shown).collect()
}

fn choice_lines(choice: &Choice) -> Vec<String> {
    let backend = choice.backend.as_deref().unwrap_or("none");
    let mut lines = vec![
        String::new(),
        format!(
            "worker {}: backend {backend}: {}",
            list(&choice.workers),
            choice.why
        ),
    ];
    for entry in &choice.entries {
        let owner = entry.backend.as_deref().unwrap_or("one that has left");
        lines.push(format!("entry {} of the table: {owner}", entry.entry));
    }
    let mut table = Table::new(&[
        ("backend", Align::Left),
        ("verdict", Align::Left),
        ("rank", Align::Right),
        ("weight", Align::Right),
        ("active", Align::Right),
        ("why", Align::Left),
    ]);
    let few = choice.backends.len() <= BACKENDS_LISTED;
    let is_shown = |backend: &&Backend| few || backend.verdict != "candidate";
    for backend in choice.backends.iter().filter(is_shown) {
        let number = |number: Option<u32>| number.map_or("-".to_owned(), |n| n.to_string());
        table.row([
            backend.address.clone(),
            backend.verdict.clone(),
            number(backend.rank),
            backend.weight.to_string(),
            number(backend.connections),
            backend.why.clone(),
        ]);
    }
    lines.extend(table.lines());
    let left_out = choice
        .backends
        .iter()
        .filter(|backend| !is_shown(backend))
        .count();
    if left_out > 0 {
        lines.push(format!("and {left_out} candidates (--json lists them)"));
    }
    lines
}

fn list(workers: &[u16]) -> String {
    let workers: Vec<String> = workers.iter().map(u16::to_string).collect();
    workers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_lines() {
        let told: Told = serde_json::from_str(
            r#"{"listener": "web", "source": "192.0.2.1:5000", "sni": "a.example",
                "worker": {"index": null, "why": "the kernel chooses"},
                "admission": {"admitted": false, "reason": "access", "rules": [
                    {"rule": "access", "matched": "192.0.2.0/24", "says": "denied"}]},
                "route": {"pool": "p", "rule": "*.example", "why": "the best rule"},
                "pool": {"balance": "maglev", "decides": "a table"},
                "choices": [{"workers": [0, 1], "backend": "10.0.0.1:80", "why": "it owns the entry",
                    "entries": [{"entry": 7, "backend": "10.0.0.1:80"}],
                    "backends": [
                        {"address": "10.0.0.1:80", "verdict": "chosen", "why": "it owns", "weight": 2},
                        {"address": "10.0.0.2:80\u001b[2J", "verdict": "down", "why": "refused", "rank": 3,
                         "weight": 1, "connections": 4}]}],
                "silent_workers": [2]}"#,
        )
        .expect("an answer");
        let wanted = "\
192.0.2.1:5000 asking for a.example at listener web
worker     any: the kernel chooses
admission  refused: access
           access [192.0.2.0/24]: denied
route      p by *.example: the best rule
balance    maglev: a table

worker 0, 1: backend 10.0.0.1:80: it owns the entry
entry 7 of the table: 10.0.0.1:80
backend          verdict  rank  weight  active  why
10.0.0.1:80      chosen      -       2       -  it owns
10.0.0.2:80?[2J  down        3       1       4  refused
no answer from worker 2";
        assert_eq!(lines(&told).join("\n"), wanted);
    }
}
