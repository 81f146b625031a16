//! The text formats of Prometheus (0.0.4) and OpenMetrics (1.0), written.
//!
//! An [`Exposition`] takes families in turn and their samples with label values in the declared
//! order, and gives the text. It knows how to write, not what: values come from
//! [`render`](crate::render()). Numbers are integers or exact decimals made from integers, so that
//! none can be NaN or lose digits. Sources: prometheus.io/docs/instrumenting/exposition_formats and
//! the OpenMetrics 1.0 specification.
//!
//! **Invariant:** a family is written once, all its samples together, and no series twice (checked
//! in debug builds).

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::declare::{FAMILIES, Family, Kind, WorkerLabel};
use crate::histogram::HistogramSnapshot;

/// The text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, which every scraper reads.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The value of the header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format for a request with this header `Accept`: OpenMetrics where it is named and not
    /// less welcome than `text/plain`, else Prometheus text, whatever else is asked for.
    pub fn from_accept(accept: &str) -> Self {
        let best = |media_type: &str| {
            accept
                .split(',')
                .filter_map(|range| weight(range, media_type))
                .fold(0.0, f32::max)
        };
        let open = best("application/openmetrics-text");
        if open > 0.0 && open >= best("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

/// The weight (RFC 9110, 12.4.2) of `range`, if it is exactly `media_type`, parameters aside.
fn weight(range: &str, media_type: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    parts
        .next()
        .filter(|name| name.eq_ignore_ascii_case(media_type))?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    Some(weight.map_or(1.0, |text| text.parse().unwrap_or(0.0)))
}

/// The value of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A count or a size.
    Count(u64),
    /// A level, which may be negative for a moment: see [`crate::counter`].
    Level(i64),
    /// Seconds, given in thousandths.
    Millis(u64),
    /// Seconds, given in millionths.
    Micros(u64),
    /// Seconds, given in billionths.
    Nanos(u64),
}

/// Text under construction.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
    written: HashSet<&'static str>,
}

impl Exposition {
    /// Nothing yet, to be written in `format`.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            text: String::with_capacity(64 * 1024),
            written: HashSet::new(),
        }
    }

    /// Starts `family`. Its heading is written with its first sample: a family without any leaves
    /// no trace.
    pub fn family(&mut self, family: &'static Family) -> FamilyWriter<'_> {
        let first = self.written.insert(family.name);
        debug_assert!(first, "{} is written twice", family.name);
        FamilyWriter {
            exposition: self,
            family,
            labels: String::new(),
            heading: Heading::Due,
            series: HashSet::new(),
        }
    }

    /// The finished text.
    pub fn finish(mut self) -> String {
        match self.format {
            Format::Prometheus => {}
            Format::OpenMetrics => self.text.push_str("# EOF\n"),
        }
        self.text
    }
}

/// Writes the samples of one family.
#[derive(Debug)]
pub struct FamilyWriter<'e> {
    exposition: &'e mut Exposition,
    family: &'static Family,
    /// The label pairs of the series being written, without braces.
    labels: String,
    heading: Heading,
    /// The label pairs of the series written; only kept in debug builds.
    series: HashSet<String>,
}

#[derive(Debug)]
enum Heading {
    Due,
    Written,
}

impl FamilyWriter<'_> {
    /// Writes the sample with these label values, in the order of the declaration. `worker` is the
    /// value of the label `worker`, for a family that may have it.
    pub fn put(&mut self, values: &[&str], worker: Option<u16>, value: Value) {
        self.begin_series(values, worker);
        self.write_sample("", None, value);
    }

    /// Writes the buckets, the sum and the count of a histogram with these label values.
    pub fn put_histogram(
        &mut self,
        values: &[&str],
        worker: Option<u16>,
        snapshot: &HistogramSnapshot,
    ) {
        let Kind::Histogram(ladder) = self.family.kind else {
            unreachable!("invariant: only families of histograms are given histograms")
        };
        self.begin_series(values, worker);
        for (bound, count) in ladder.bounds_us.iter().zip(snapshot.cumulative(&ladder)) {
            self.write_sample("_bucket", Some(Bound::Micros(*bound)), Value::Count(count));
        }
        self.write_sample(
            "_bucket",
            Some(Bound::Infinite),
            Value::Count(snapshot.count()),
        );
        self.write_sample("_sum", None, Value::Micros(snapshot.sum_us()));
        self.write_sample("_count", None, Value::Count(snapshot.count()));
    }

    fn begin_series(&mut self, values: &[&str], worker: Option<u16>) {
        debug_assert_eq!(
            values.len(),
            self.family.labels.len(),
            "{}",
            self.family.name
        );
        debug_assert!(may_have(self.family.worker, worker), "{}", self.family.name);
        self.write_heading();
        self.labels.clear();
        for (name, value) in self.family.labels.iter().zip(values) {
            push_separator(&mut self.labels);
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            push_escaped(&mut self.labels, value);
            self.labels.push('"');
        }
        if let Some(worker) = worker {
            push_separator(&mut self.labels);
            push(&mut self.labels, format_args!("worker=\"{worker}\""));
        }
        debug_assert!(
            self.series.insert(self.labels.clone()),
            "{}{{{}}} is written twice",
            self.family.name,
            self.labels
        );
    }

    fn write_sample(&mut self, suffix: &str, bound: Option<Bound>, value: Value) {
        let text = &mut self.exposition.text;
        text.push_str(self.family.name);
        text.push_str(suffix);
        if !self.labels.is_empty() || bound.is_some() {
            text.push('{');
            text.push_str(&self.labels);
            if let Some(bound) = bound {
                text.push_str(if self.labels.is_empty() {
                    "le=\""
                } else {
                    ",le=\""
                });
                push_bound(text, bound);
                text.push('"');
            }
            text.push('}');
        }
        text.push(' ');
        push_value(text, value);
        text.push('\n');
    }

    fn write_heading(&mut self) {
        match self.heading {
            Heading::Written => return,
            Heading::Due => self.heading = Heading::Written,
        }
        let Family {
            name,
            help,
            kind,
            unit,
            ..
        } = self.family;
        let text = &mut self.exposition.text;
        match self.exposition.format {
            Format::Prometheus => {
                let kind = prometheus_type(*kind);
                push(
                    text,
                    format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
                );
            }
            Format::OpenMetrics => {
                let (name, kind) = open_metrics_type(self.family);
                push(text, format_args!("# TYPE {name} {kind}\n"));
                if let Some(unit) = unit.as_suffix().filter(|_| kind != "unknown") {
                    push(text, format_args!("# UNIT {name} {unit}\n"));
                }
                push(text, format_args!("# HELP {name} {help}\n"));
            }
        }
    }
}

fn may_have(label: WorkerLabel, worker: Option<u16>) -> bool {
    match label {
        WorkerLabel::Always => worker.is_some(),
        WorkerLabel::OnRequest => true,
        WorkerLabel::Never => worker.is_none(),
    }
}

const fn prometheus_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

/// The name and type that OpenMetrics gives a family. There, the family of a counter is named
/// without `_total`, and two families may not have one name: a counter that stands beside a gauge
/// of that name, as `x_total` beside `x`, keeps its full name and is of type `unknown`, so that the
/// series are called the same in both formats.
fn open_metrics_type(family: &Family) -> (&'static str, &'static str) {
    let without = |suffix| family.name.strip_suffix(suffix).unwrap_or(family.name);
    match family.kind {
        Kind::Counter => {
            let name = without("_total");
            if FAMILIES.iter().any(|other| other.name == name) {
                (family.name, "unknown")
            } else {
                (name, "counter")
            }
        }
        Kind::Gauge => (family.name, "gauge"),
        Kind::Info => (without("_info"), "info"),
        Kind::Histogram(_) => (family.name, "histogram"),
    }
}

/// The upper bound of a bucket.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Micros(u64),
    Infinite,
}

fn push_bound(text: &mut String, bound: Bound) {
    match bound {
        Bound::Micros(us) if us.is_multiple_of(1_000_000) => {
            // The formats want a bound to look like a float, and the same bound always alike.
            push(text, format_args!("{}.0", us / 1_000_000));
        }
        Bound::Micros(us) => push_value(text, Value::Micros(us)),
        Bound::Infinite => text.push_str("+Inf"),
    }
}

fn push_value(text: &mut String, value: Value) {
    match value {
        Value::Count(count) => text.push_str(itoa::Buffer::new().format(count)),
        Value::Level(level) => text.push_str(itoa::Buffer::new().format(level)),
        Value::Millis(n) => push_decimal(text, n, 1_000, 3),
        Value::Micros(n) => push_decimal(text, n, 1_000_000, 6),
        Value::Nanos(n) => push_decimal(text, n, 1_000_000_000, 9),
    }
}

/// Writes `n / per_unit` exactly, without trailing zeros; `per_unit` is ten to the `digits`.
fn push_decimal(text: &mut String, n: u64, per_unit: u64, digits: usize) {
    text.push_str(itoa::Buffer::new().format(n / per_unit));
    let fraction = n % per_unit;
    if fraction != 0 {
        push(text, format_args!(".{fraction:0digits$}"));
        text.truncate(text.trim_end_matches('0').len());
    }
}

fn push_separator(labels: &mut String) {
    if !labels.is_empty() {
        labels.push(',');
    }
}

fn push_escaped(text: &mut String, value: &str) {
    // Hardly any has something to escape, and a page has many thousands.
    let is_special = |byte: &u8| matches!(byte, b'\\' | b'"' | b'\n');
    if !value.as_bytes().iter().any(is_special) {
        return text.push_str(value);
    }
    for part in value.split_inclusive(['\\', '"', '\n']) {
        let Some(plain) = part.strip_suffix(['\\', '"', '\n']) else {
            text.push_str(part);
            continue;
        };
        text.push_str(plain);
        text.push('\\');
        text.push_str(if part.ends_with('\n') {
            "n"
        } else {
            &part[plain.len()..]
        });
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("invariant: writing to a string does not fail");
}

#[cfg(test)]
mod tests;
