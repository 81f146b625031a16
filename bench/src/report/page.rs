//! The page: what was found, plots, and everything needed to do it again. Invariant: all text that
//! comes from a record is escaped.

use std::fmt::Write as _;

use super::plot::{Line, bars, class, escaped, lines};
use crate::compare::discipline::{self, Discipline, Load};
use crate::compare::record::Run;
use crate::compare::sample::{LATENCIES, Metric};
use crate::compare::summary::{self, Row, medians};
use crate::compare::table;
use crate::stats::Verdict;

const STYLE: &str = include_str!("page.css");

/// How ratios and intervals are made, for readers of the page.
const METHOD: &str = "Ratios are Ringway's figure over the peer's: Hodges-Lehmann estimates over \
    pairs of samples taken one right after the other, in turns with Ringway first and last, each with \
    a fresh start. The 95 % interval is the exact one of the signed-rank test. A/A is how far Ringway \
    against itself strays: a difference within it, or an interval with 1 in it, is called none. CPU is \
    that of all threads of the balancer, kernel threads included, from schedstat; \"machine\" is the \
    same ratio for the whole machine's CPU time.";

pub(super) fn page(runs: &[Run]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Ringway, measured</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Ringway, measured</h1>\n<p class=\"method\">{METHOD}</p>\n"
    );
    for run in runs {
        section(&mut html, run);
    }
    html + "</main>\n</body>\n</html>\n"
}

fn section(html: &mut String, run: &Run) {
    let rows = summary::rows(run);
    let date = escaped(&run.environment.date);
    let _ = write!(
        html,
        "<section>\n<h2>{date}</h2>\n<p>{}</p>\n<p>{}.</p>\n",
        escaped(&table::about(run)),
        escaped(&table::totals(&rows))
    );
    results(html, &rows);
    legend(html, run);
    percentiles(html, run);
    against_connections(html, run);
    costs(
        html,
        run,
        Metric::CpuUsPerOperation,
        "CPU time of the balancer per operation, us",
    );
    costs(
        html,
        run,
        Metric::CpuMsPerGb,
        "CPU time of the balancer per gigabyte, ms",
    );
    costs(
        html,
        run,
        Metric::BytesPerConnection,
        "User memory per idle connection, bytes",
    );
    how(html, run);
    html.push_str("</section>\n");
}

fn results(html: &mut String, rows: &[Row]) {
    html.push_str(
        "<div class=\"wide\"><table>\n<tr><th>discipline</th><th>peer</th><th>Ringway</th>\
         <th>peer's</th><th>ratio [95 %]</th><th>A/A</th><th>machine</th><th>goal</th>\
         <th>verdict</th></tr>\n",
    );
    for row in rows {
        let class = match row.verdict {
            Verdict::Ahead => "ahead",
            Verdict::Behind => "behind",
            Verdict::NoDifference | Verdict::TooFewPairs => "even",
        };
        let _ = writeln!(
            html,
            "<tr><td>{} <small>{}</small></td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td>{}</td><td>{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"{class}\">{}</td></tr>",
            escaped(row.discipline.title),
            row.discipline.metric.title(),
            escaped(&row.peer),
            table::figure(row.ours),
            table::figure(row.theirs),
            table::with_interval(&row.ratio),
            table::floor(row),
            table::machine(row),
            row.goal.map_or_else(|| "-".to_owned(), table::goal),
            escaped(&table::remarks(row)),
        );
    }
    html.push_str("</table></div>\n");
}

/// Which colour is whose.
fn legend(html: &mut String, run: &Run) {
    html.push_str("<p class=\"legend\">");
    for contender in &run.contenders {
        let (class, name) = (class(&contender.name), escaped(&contender.name));
        let _ = write!(
            html,
            "<span><svg viewBox=\"0 0 12 12\"><rect class=\"{class}\" width=\"12\" height=\"12\"/>\
             </svg>{name}</span> "
        );
    }
    html.push_str("</p>\n");
}

/// The latencies of round trips.
fn percentiles(html: &mut String, run: &Run) {
    let places: Vec<String> = LATENCIES
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let mut plots = Vec::new();
    for discipline in &discipline::ALL {
        match discipline.load {
            Load::RoundTrips { .. } | Load::Tail { .. } => {}
            Load::Short { .. } | Load::Streams { .. } | Load::Idle => continue,
        }
        if is_of_scale(discipline) {
            continue;
        }
        let by_place: Vec<Vec<(String, f64)>> = LATENCIES
            .iter()
            .map(|(_, key)| medians(run, discipline.name, key))
            .collect();
        plots.push((
            discipline.title,
            lines(discipline.title, &places, &turned(&by_place)),
        ));
    }
    figures(html, "Latency of a round trip, us", &plots);
}

/// Throughput and cost over the number of connections.
fn against_connections(html: &mut String, run: &Run) {
    let scale: Vec<(&Discipline, u32)> = discipline::ALL
        .iter()
        .filter(|discipline| is_of_scale(discipline))
        .filter(|discipline| !medians(run, discipline.name, discipline.metric.key()).is_empty())
        .filter_map(|discipline| match discipline.load {
            Load::RoundTrips { connections, .. } => Some((discipline, connections)),
            Load::Short { .. } | Load::Streams { .. } | Load::Idle | Load::Tail { .. } => None,
        })
        .collect();
    let places: Vec<String> = scale.iter().map(|(_, count)| count.to_string()).collect();
    let mut plots = Vec::new();
    for (title, metric) in [
        ("64 B round trips per second", Metric::OperationsPerSecond),
        ("CPU us per round trip", Metric::CpuUsPerOperation),
    ] {
        let by_place: Vec<Vec<(String, f64)>> = scale
            .iter()
            .map(|(discipline, _)| medians(run, discipline.name, metric.key()))
            .collect();
        plots.push((title, lines(title, &places, &turned(&by_place))));
    }
    figures(html, "Against the number of connections", &plots);
}

/// Whether it is one of those that differ in the number of connections only.
fn is_of_scale(discipline: &Discipline) -> bool {
    discipline.name.starts_with("scale-")
}

/// Bars of everything that `metric` decides.
fn costs(html: &mut String, run: &Run, metric: Metric, heading: &str) {
    let mut plots = Vec::new();
    for discipline in &discipline::ALL {
        if discipline.metric != metric || is_of_scale(discipline) {
            continue;
        }
        let values = medians(run, discipline.name, metric.key());
        let plot = match values.is_empty() {
            true => String::new(),
            false => bars(discipline.title, &values),
        };
        plots.push((discipline.title, plot));
    }
    figures(html, heading, &plots);
}

/// Values by place and name, turned into a line for each name.
fn turned(by_place: &[Vec<(String, f64)>]) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for (place, values) in by_place.iter().enumerate() {
        for (name, value) in values.iter().filter(|(_, value)| *value > 0.0) {
            match all.iter_mut().find(|line| line.name == *name) {
                Some(line) => line.points.push((place, *value)),
                None => all.push(Line {
                    name: name.clone(),
                    points: vec![(place, *value)],
                }),
            }
        }
    }
    all
}

/// Plots under a heading; empty ones are left out, and so is a heading without any.
fn figures(html: &mut String, heading: &str, plots: &[(&str, String)]) {
    if plots.iter().all(|(_, plot)| plot.is_empty()) {
        return;
    }
    let _ = writeln!(html, "<h3>{}</h3>\n<div class=\"plots\">", escaped(heading));
    for (title, plot) in plots.iter().filter(|(_, plot)| !plot.is_empty()) {
        let _ = writeln!(
            html,
            "<figure><figcaption>{}</figcaption>\n{plot}</figure>",
            escaped(title)
        );
    }
    html.push_str("</div>\n");
}

/// What was run, on what.
fn how(html: &mut String, run: &Run) {
    let environment = &run.environment;
    let _ = writeln!(
        html,
        "<h3>What was run</h3>\n<pre>{}</pre>",
        escaped(&environment.command)
    );
    html.push_str("<ul>\n");
    for skipped in &run.skipped {
        let text = format!("skipped: {}: {}", skipped.peer, skipped.reason);
        let _ = writeln!(html, "<li>{}</li>", escaped(&text));
    }
    for peak in &run.peaks {
        let text = format!(
            "{}: the peak of {} was {:.0} round trips per second; both sides ran at {}{}",
            peak.discipline,
            peak.peer,
            peak.peak,
            peak.rate,
            peak.bulk_rate.map_or_else(String::new, |rate| format!(
                " beside {:.1} Gbit/s",
                rate as f64 * 8e-9
            ))
        );
        let _ = writeln!(html, "<li>{}</li>", escaped(&text));
    }
    for note in summary::unusable(run).iter().chain(&run.notes) {
        let _ = writeln!(html, "<li>{}</li>", escaped(note));
    }
    html.push_str("</ul>\n");
    for contender in &run.contenders {
        let _ = writeln!(
            html,
            "<details><summary>{}: {}</summary>\n<pre>{}\n\n{}</pre></details>",
            escaped(&contender.name),
            escaped(&contender.version),
            escaped(&contender.command),
            escaped(&contender.configuration)
        );
    }
    html.push_str("<details><summary>kernel settings</summary>\n<pre>");
    for knob in &environment.knobs {
        let _ = writeln!(html, "{} = {}", escaped(&knob.name), escaped(&knob.value));
    }
    html.push_str("</pre></details>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_table_the_plots_and_what_was_run() {
        let page = page(&[summary::tests::run()]);
        for expected in [
            "<h2>2026-01-02</h2>",
            "ahead 1, behind 0",
            "<td class=\"n\">8.08</td><td class=\"n\">9.90</td>",
            "<td class=\"ahead\">ahead</td>",
            "<figcaption>64 B round trips, 64 connections</figcaption>",
            "<h3>Against the number of connections</h3>",
            "<pre>ringway-bench compare &lt;&amp;&gt;</pre>",
            "workers: [0]",
            "skipped: monoio: not asked for",
            "<li>a note</li>",
        ] {
            assert!(page.contains(expected), "{expected}\n{page}");
        }
        assert!(!page.contains("per idle connection"), "nothing was held");
        assert!(!page.contains("http"), "it needs nothing from elsewhere");
    }

    #[test]
    fn every_element_is_closed() {
        let page = page(&[summary::tests::run()]);
        for name in [
            "svg", "figure", "table", "tr", "td", "details", "div", "section", "text",
        ] {
            let opened = page.matches(&format!("<{name} ")).count()
                + page.matches(&format!("<{name}>")).count();
            assert_eq!(
                opened,
                page.matches(&format!("</{name}>")).count(),
                "{name}"
            );
        }
    }

    #[test]
    fn lines_are_made_of_places() {
        let of = |name: &str, value| (name.to_owned(), value);
        let lines = turned(&[
            vec![of("a", 1.0), of("b", 2.0)],
            vec![of("a", 3.0)],
            vec![of("b", 4.0), of("a", 0.0)],
        ]);
        let points: Vec<_> = lines.iter().map(|line| line.points.clone()).collect();
        assert_eq!(points, [vec![(0, 1.0), (1, 3.0)], vec![(0, 2.0), (2, 4.0)]]);
    }
}
