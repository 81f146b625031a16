//! The admin endpoint as a script would use it: one request per connection, status as JSON, metrics
//! as text. Not a check of either format.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use crate::peers::PATIENCE;

/// Where an instance answers.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) path: PathBuf,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Admin {
    pub(crate) fn get(&self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str) -> io::Result<Answer> {
        self.request("POST", path, "")
    }

    pub(crate) fn patch(&self, path: &str, body: &str) -> io::Result<Answer> {
        self.request("PATCH", path, body)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let broken = || io::Error::other(format!("not HTTP: {text:?}"));
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(broken)?;
        Ok(Answer {
            status,
            body: body.to_owned(),
        })
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/v1/status").unwrap().body).unwrap()
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.try_metrics().unwrap()
    }

    pub(crate) fn try_metrics(&self) -> io::Result<Metrics> {
        Ok(Metrics(self.get("/metrics")?.body))
    }
}

/// One scrape.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// What was counted, without what is zero and without distributions: for the reader of a failure.
    pub(crate) fn nonzero(&self) -> String {
        let is_told = |line: &&str| {
            !line.starts_with('#') && !line.ends_with(" 0") && !line.contains("_seconds")
        };
        self.0.lines().filter(is_told).collect::<Vec<_>>().join(
            "
",
        )
    }

    /// The sum over the series of a family that have all of these labels.
    pub(crate) fn sum(&self, family: &str, labels: &[(&str, &str)]) -> i64 {
        self.each(family, labels).iter().sum()
    }

    /// The value of each of them. A family that is not there is a mistake of the test.
    pub(crate) fn each(&self, family: &str, labels: &[(&str, &str)]) -> Vec<i64> {
        let values = self.values(family, labels).into_iter();
        values.map(|value| value as i64).collect()
    }

    /// The sum of a family of seconds.
    pub(crate) fn seconds(&self, family: &str) -> f64 {
        self.values(family, &[]).iter().sum()
    }

    fn values(&self, family: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let family = format!("ringway_{family}");
        let series = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(&family)?;
            let (names, value) = rest.rsplit_once(' ')?;
            (names.is_empty() || names.starts_with('{')).then_some((names, value))
        });
        let series: Vec<(&str, &str)> = series.collect();
        assert!(!series.is_empty(), "no {family} in:\n{}", self.0);
        let has = |names: &str| {
            labels
                .iter()
                .all(|(name, value)| names.contains(&format!("{name}=\"{value}\"")))
        };
        let values = series.into_iter().filter(|(names, _)| has(names));
        values.map(|(_, value)| value.parse().unwrap()).collect()
    }
}
