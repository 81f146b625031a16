//! The shipped alerts and dashboard ask only for what exists: metrics, labels and label values.
//!
//! It reads just enough of PromQL for that (names, selectors, `by` and `on` lists, strings) and
//! leaves the grammar to promtool, which it runs where it is installed. It does not judge whether
//! an alert is wise; `deploy/prometheus/ringway-alerts-test.yml` shows when each fires.
//!
//! **Invariant:** a name that no family declares, or a label or a value that its family never has,
//! fails here, not on somebody's screen.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::process::Command;

use ringway_metrics::declare::{FAMILIES, Family, Kind, WorkerLabel};
use ringway_metrics::{
    AcceptError, AdminState, CheckResult, CloseReason, ConnectError, EjectionState, Engine,
    RefusedReason, ReloadResult, Side, Stage,
};

const ALERTS: &str = include_str!("../../../deploy/prometheus/ringway-alerts.yml");
const DASHBOARD: &str = include_str!("../../../deploy/grafana/ringway.json");
const PROMETHEUS_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/prometheus");

/// What the server adds to every series of a target.
const TARGET_LABELS: [&str; 2] = ["job", "instance"];

/// One word or sign of an expression; strings keep their text without the quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '"' || c == '\'' {
            let text = rest.by_ref().take_while(|t| *t != c).collect();
            tokens.push(Token::Text(text));
        } else if c.is_ascii_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(next) = rest.next_if(|n| n.is_ascii_alphanumeric() || *n == '_') {
                word.push(next);
            }
            tokens.push(Token::Word(word));
        } else if !c.is_whitespace() {
            tokens.push(Token::Sign(c));
        }
    }
    tokens
}

/// The family that exposes a series of this name: a histogram has three, and none of its own name.
fn family(series: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| match family.kind {
        Kind::Counter | Kind::Gauge | Kind::Info => series == family.name,
        Kind::Histogram(_) => series
            .strip_prefix(family.name)
            .is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix)),
    })
}

/// The labels that the series of this name have at `/metrics`.
fn labels(series: &str, family: &Family) -> BTreeSet<&'static str> {
    let worker = match family.worker {
        WorkerLabel::Always => Some("worker"),
        WorkerLabel::OnRequest | WorkerLabel::Never => None,
    };
    let bound = series.ends_with("_bucket").then_some("le");
    let own = family.labels.iter().copied();
    own.chain(worker)
        .chain(bound)
        .chain(TARGET_LABELS)
        .collect()
}

/// The values of labels that come from closed sets; `None` for names of the configuration.
fn values(series: &str, label: &str) -> Option<Vec<&'static str>> {
    fn texts<L: Copy>(all: &[L], text: fn(L) -> &'static str) -> Option<Vec<&'static str>> {
        Some(all.iter().map(|value| text(*value)).collect())
    }
    match (series, label) {
        ("ringway_connections_closed_total", "reason") => {
            texts(&CloseReason::ALL, CloseReason::as_label)
        }
        ("ringway_worker_pipes", "state") => Some(vec!["in_use", "idle"]),
        ("ringway_config_reloads_total", "result") => {
            texts(&ReloadResult::ALL, ReloadResult::as_label)
        }
        (_, "reason") => texts(&RefusedReason::ALL, RefusedReason::as_label),
        (_, "result") => texts(&CheckResult::ALL, CheckResult::as_label),
        ("ringway_backend_state", "state") => {
            let wanted = AdminState::ALL.map(AdminState::as_label);
            Some(
                [
                    &wanted[..],
                    &EjectionState::ALL.map(EjectionState::as_label),
                ]
                .concat(),
            )
        }
        (_, "state") => texts(&AdminState::ALL, AdminState::as_label),
        (_, "side") => texts(&Side::ALL, Side::as_label),
        (_, "stage") => texts(&Stage::ALL, Stage::as_label),
        (_, "engine") => texts(&Engine::ALL, Engine::as_label),
        (_, "error") => texts(&ConnectError::ALL, ConnectError::as_label),
        (_, "errno") => texts(&AcceptError::ALL, AcceptError::as_label),
        _ => None,
    }
}

/// What is wrong with the selector `{...}` that `rest` starts with, if it starts with one.
fn selector_problems(series: &str, known: &BTreeSet<&str>, rest: &[Token]) -> Vec<String> {
    let Some((Token::Sign('{'), rest)) = rest.split_first() else {
        return Vec::new();
    };
    let end = rest
        .iter()
        .position(|token| *token == Token::Sign('}'))
        .expect("a closed selector");
    let mut problems = Vec::new();
    for matcher in rest[..end].split(|token| *token == Token::Sign(',')) {
        let [Token::Word(label), operator @ .., Token::Text(value)] = matcher else {
            problems.push(format!("{series}: not a matcher: {matcher:?}"));
            continue;
        };
        if !known.contains(label.as_str()) {
            problems.push(format!("{series} has no label {label}"));
        }
        let is_pattern = operator.contains(&Token::Sign('~'));
        let closed = values(series, label).filter(|_| !is_pattern);
        if closed.is_some_and(|all| !all.contains(&value.as_str())) {
            problems.push(format!("{series}: {label} is never {value}"));
        }
    }
    problems
}

/// The labels in the lists after `by` or `on`.
fn listed(tokens: &[Token], keyword: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let is_keyword = |token: &Token| matches!(token, Token::Word(word) if word == keyword);
    for (place, _) in tokens.iter().enumerate().filter(|(_, t)| is_keyword(t)) {
        let list = tokens[place + 1..].iter();
        found.extend(
            list.take_while(|token| **token != Token::Sign(')'))
                .filter_map(|token| match token {
                    Token::Word(label) => Some(label.clone()),
                    Token::Text(_) | Token::Sign(_) => None,
                }),
        );
    }
    found
}

/// What is wrong with an expression, and with the labels that texts beside it name.
fn problems(expression: &str, named: &BTreeSet<String>) -> Vec<String> {
    let tokens = tokens(expression);
    let mut problems = Vec::new();
    let mut known = BTreeSet::from(TARGET_LABELS);
    for (place, token) in tokens.iter().enumerate() {
        let Token::Word(series) = token else { continue };
        if !series.starts_with("ringway_") && !series.starts_with("process_") {
            continue;
        }
        let Some(family) = family(series) else {
            problems.push(format!("no family exposes {series}"));
            continue;
        };
        let own = labels(series, family);
        problems.extend(selector_problems(series, &own, &tokens[place + 1..]));
        known.extend(own);
    }
    let by = listed(&tokens, "by");
    for label in by.union(&listed(&tokens, "on")) {
        if !known.contains(label.as_str()) {
            problems.push(format!("nothing in it has the label {label}"));
        }
    }
    for label in named {
        let is_left = by.is_empty() || by.contains(label);
        if !is_left || !known.contains(label.as_str()) {
            problems.push(format!("the result has no label {label}"));
        }
    }
    problems
        .iter()
        .map(|problem| format!("{problem}: {expression}"))
        .collect()
}

/// The labels named in `{{ $labels.x }}` or, where `prefix` is empty, in `{{x}}`.
fn named_labels(text: &str, prefix: &str) -> BTreeSet<String> {
    text.split("{{")
        .skip(1)
        .filter_map(|part| part.split("}}").next())
        .filter_map(|part| part.trim().strip_prefix(prefix))
        .map(|label| {
            label
                .split(' ')
                .next()
                .expect("one part at least")
                .to_owned()
        })
        .collect()
}

/// Expression and named labels of each alert: `expr:` up to the next key of the same depth.
fn alerts() -> Vec<(String, BTreeSet<String>)> {
    ALERTS
        .split("- alert:")
        .skip(1)
        .map(|block| {
            let (_, after) = block.split_once("expr:").expect("an alert has an expr");
            let end = [" for:", " labels:"].iter().filter_map(|key| {
                let key = format!("\n       {key}");
                after.find(&key)
            });
            let expression = &after[..end.min().expect("an alert has labels")];
            let expression = expression.trim().trim_start_matches(">-").trim();
            (expression.to_owned(), named_labels(block, "$labels."))
        })
        .collect()
}

/// Expression and named labels of each query of the dashboard; one key a line, as it is written.
fn queries() -> Vec<(String, BTreeSet<String>)> {
    let value = |line: &str, key: &str| {
        let text = line.trim().strip_prefix(&format!("\"{key}\": \""))?;
        let text = text.trim_end_matches(',').strip_suffix('"')?;
        Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
    };
    let mut found: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in DASHBOARD.lines() {
        if let Some(expression) = value(line, "expr") {
            found.push((expression, BTreeSet::new()));
        } else if let Some(legend) =
            value(line, "legendFormat").or_else(|| value(line, "textFormat"))
        {
            found.last_mut().expect("a legend follows its query").1 = named_labels(&legend, "");
        } else if let Some(variable) = value(line, "definition") {
            // label_values(series, label): the label is one of the result.
            let inside = variable
                .trim_start_matches("label_values(")
                .trim_end_matches(')');
            let (series, label) = inside.rsplit_once(", ").expect("a series and a label");
            found.push((series.to_owned(), BTreeSet::from([label.to_owned()])));
        }
    }
    found
}

fn assert_no_problems(expressions: &[(String, BTreeSet<String>)]) {
    let found: Vec<_> = expressions
        .iter()
        .flat_map(|(expression, named)| problems(expression, named))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_alerts_ask_for_what_exists() {
    let alerts = alerts();
    assert_eq!(alerts.len(), ALERTS.matches("- alert:").count());
    assert!(alerts.len() >= 12, "{}", alerts.len());
    assert_no_problems(&alerts);
}

#[test]
fn the_dashboard_asks_for_what_exists() {
    let queries = queries();
    let written = DASHBOARD.matches("\"expr\":").count();
    assert_eq!(
        queries.len(),
        written + DASHBOARD.matches("\"definition\":").count()
    );
    assert!(written >= 40, "{written}");
    assert_no_problems(&queries);
}

#[test]
fn what_does_not_exist_is_found() {
    let check = |expression: &str, named: &[&str]| {
        problems(expression, &named.iter().map(|l| (*l).to_owned()).collect())
    };
    assert_eq!(
        check("sum by (pool) (ringway_backend_up) == 0", &["pool"]),
        [""; 0]
    );
    for (expression, named) in [
        ("rate(ringway_connection_total[5m])", &[][..]),
        // A histogram has no series of its own name, a counter none with a suffix.
        ("ringway_connection_stage_seconds", &[]),
        ("ringway_backend_retries_total_count", &[]),
        ("process_heap_bytes", &[]),
        (r#"ringway_backend_up{listener="a"}"#, &[]),
        // The label `worker` is there only with per_worker=1.
        ("sum by (worker) (ringway_listener_connections)", &[]),
        ("sum by (le) (ringway_health_check_seconds_sum)", &[]),
        (r#"ringway_listener_refused_total{reason="resource"}"#, &[]),
        (r#"ringway_connections_closed_total{reason="rate"}"#, &[]),
        ("ringway_backend_up", &["listener"]),
        ("sum by (pool) (ringway_backend_up)", &["backend"]),
    ] {
        assert_ne!(check(expression, named), [""; 0], "{expression}");
    }
}

#[test]
fn promtool_accepts_the_alerts_and_their_tests() {
    for arguments in [
        ["check", "rules", "ringway-alerts.yml"],
        ["test", "rules", "ringway-alerts-test.yml"],
    ] {
        let ended = Command::new("promtool")
            .args(arguments)
            .current_dir(PROMETHEUS_FOLDER)
            .output();
        let output = match ended {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("skipped: promtool is not installed");
                return;
            }
            Err(error) => panic!("promtool: {error}"),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}
