//! Sums over a metrics page. Not a parser of everything the format allows: label values here hold
//! no quotes and no braces. Invariant: a family that is not on the page is an error, never a zero.

use std::io;

/// A page of metrics.
#[derive(Debug, Clone)]
pub(super) struct Exposition(pub(super) String);

impl Exposition {
    /// The sum of the samples of `family` that have all of `labels`.
    pub(super) fn sum(&self, family: &str, labels: &[(&str, &str)]) -> io::Result<u64> {
        let mut sum = 0.0;
        let mut found = false;
        for line in self.0.lines() {
            let Some(rest) = line.strip_prefix(family) else {
                continue;
            };
            let (written, value) = match rest.strip_prefix('{') {
                Some(rest) => match rest.split_once("} ") {
                    Some(parts) => parts,
                    None => continue,
                },
                None => match rest.strip_prefix(' ') {
                    Some(value) => ("", value),
                    None => continue,
                },
            };
            found = true;
            let has = |(name, value): &(&str, &str)| {
                written
                    .split(',')
                    .any(|label| label == format!("{name}=\"{value}\""))
            };
            if labels.iter().all(has) {
                sum += value.parse::<f64>().map_err(io::Error::other)?;
            }
        }
        match found {
            true => Ok(sum as u64),
            false => Err(io::Error::other(format!("no {family} in the metrics"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_family_and_labels() {
        let page = Exposition(
            "# HELP a_total x\na_total{l=\"x\",m=\"1\"} 3\na_total{l=\"y\",m=\"1\"} 4\n\
             a_total_more{l=\"x\"} 100\nb 7\n"
                .to_owned(),
        );
        assert_eq!(page.sum("a_total", &[]).unwrap(), 7);
        assert_eq!(page.sum("a_total", &[("l", "x")]).unwrap(), 3);
        assert_eq!(page.sum("a_total", &[("l", "x"), ("m", "2")]).unwrap(), 0);
        assert_eq!(page.sum("b", &[]).unwrap(), 7);
        assert!(page.sum("c", &[]).is_err());
    }
}
