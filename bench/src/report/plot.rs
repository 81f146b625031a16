//! Plots as SVG: bars, and lines over a logarithmic axis. Colours are classes of the page, so that a
//! plot follows its light and dark themes, which is why no plotting library is used. Pure. Invariant:
//! every value is printed as a number, too, or is in the table beside the plot.

use std::fmt::Write as _;

use crate::compare::table::figure;

/// Sizes in the plot's own units; the page scales it.
const WIDTH: f64 = 360.0;
const BAR_HEIGHT: f64 = 18.0;
const BAR_GAP: f64 = 8.0;
const NAME_WIDTH: f64 = 104.0;
const VALUE_WIDTH: f64 = 56.0;
const LINES_HEIGHT: f64 = 230.0;
const MARGIN_LEFT: f64 = 50.0;
const MARGIN_RIGHT: f64 = 12.0;
const MARGIN_TOP: f64 = 10.0;
const MARGIN_BOTTOM: f64 = 30.0;

/// Text as it may stand in HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            _ => safe.push(letter),
        }
    }
    safe
}

/// The class of a name's colour.
pub(super) fn class(name: &str) -> &'static str {
    match name {
        "ringway" => "c0",
        "haproxy" => "c1",
        "haproxy-splice" => "c2",
        "nginx" => "c3",
        "tokio" => "c4",
        "monoio" => "c5",
        _ => "c6",
    }
}

/// One bar per name, the longest as long as there is room.
pub(super) fn bars(title: &str, values: &[(String, f64)]) -> String {
    let height = values.len() as f64 * (BAR_HEIGHT + BAR_GAP) + BAR_GAP;
    let greatest = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let room = WIDTH - NAME_WIDTH - VALUE_WIDTH;
    let mut svg = opening(title, height);
    for (place, (name, value)) in values.iter().enumerate() {
        let top = BAR_GAP + place as f64 * (BAR_HEIGHT + BAR_GAP);
        let middle = top + BAR_HEIGHT / 2.0 + 4.0;
        let length = if greatest > 0.0 {
            room * value / greatest
        } else {
            0.0
        };
        let (right, class) = (NAME_WIDTH - 8.0, class(name));
        let _ = writeln!(
            svg,
            "<text x=\"{right}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{NAME_WIDTH}\" y=\"{top}\" width=\"{:.1}\" \
             height=\"{BAR_HEIGHT}\"/><text x=\"{:.1}\" y=\"{middle}\">{}</text>",
            escaped(name),
            length.max(1.0),
            NAME_WIDTH + length + 6.0,
            figure(*value),
        );
    }
    svg + "</svg>\n"
}

/// One line of a plot.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    /// The place on the horizontal axis, and the value, which is positive.
    pub(super) points: Vec<(usize, f64)>,
}

/// Lines over the named places of the horizontal axis; the vertical one is logarithmic.
pub(super) fn lines(title: &str, places: &[String], lines: &[Line]) -> String {
    let values = || lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
    let Some((low, high)) = decades(values()) else {
        return String::new();
    };
    let room = (
        WIDTH - MARGIN_LEFT - MARGIN_RIGHT,
        LINES_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM,
    );
    let last = places.len().saturating_sub(1).max(1) as f64;
    let x = |place: usize| MARGIN_LEFT + room.0 * place as f64 / last;
    let span = (high / low).log10();
    let y = |value: f64| MARGIN_TOP + room.1 * (1.0 - (value / low).log10() / span);
    let mut svg = opening(title, LINES_HEIGHT);
    for tick in ticks(low, high) {
        let (at, right) = (y(tick), WIDTH - MARGIN_RIGHT);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{MARGIN_LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            MARGIN_LEFT - 6.0,
            at + 4.0,
            short(tick)
        );
    }
    for (place, name) in places.iter().enumerate() {
        let anchor = match place {
            0 => "start",
            _ if place + 1 == places.len() => "end",
            _ => "middle",
        };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            x(place),
            LINES_HEIGHT - 8.0,
            escaped(name)
        );
    }
    for line in lines {
        let class = class(&line.name);
        let points: Vec<String> = line
            .points
            .iter()
            .map(|(place, value)| format!("{:.1},{:.1}", x(*place), y(*value)))
            .collect();
        let name = escaped(&line.name);
        let _ = writeln!(
            svg,
            "<polyline class=\"{class}\" points=\"{}\"><title>{name}</title></polyline>",
            points.join(" ")
        );
        for (place, value) in &line.points {
            let _ = writeln!(
                svg,
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\">\
                 <title>{name}, {}: {}</title></circle>",
                x(*place),
                y(*value),
                escaped(&places[*place]),
                figure(*value)
            );
        }
    }
    svg + "</svg>\n"
}

fn opening(title: &str, height: f64) -> String {
    let title = escaped(title);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n\
         <title>{title}</title>\n"
    )
}

/// 1, 2 and 5 times a power of ten around `values`.
fn decades(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if high == 0.0 {
        return None;
    }
    let around = ticks(low / 10.0, high * 10.0);
    let below = around.iter().rev().find(|tick| **tick <= low);
    let above = around.iter().find(|tick| **tick > high);
    Some((*below?, *above?))
}

/// Every 1, 2 and 5 times a power of ten from `low` to `high`.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    // Bounds that are ticks themselves are among them, whatever rounding did to them.
    let (low, high) = (low * (1.0 - 1e-9), high * (1.0 + 1e-9));
    let mut decade = 10_f64.powf(low.log10().floor());
    let mut ticks = Vec::new();
    while decade <= high {
        let all = [1.0, 2.0, 5.0].map(|step| step * decade);
        ticks.extend(all.into_iter().filter(|tick| *tick >= low && *tick <= high));
        decade *= 10.0;
    }
    ticks
}

/// A tick's number.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{} k", value / 1e3),
        value => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_around_all_values() {
        assert_eq!(ticks(1.0, 50.0), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(decades([3.0, 70.0].into_iter()), Some((2.0, 100.0)));
        assert_eq!(decades([5.0].into_iter()), Some((5.0, 10.0)));
        assert_eq!(decades([0.0, f64::NAN].into_iter()), None);
    }

    #[test]
    fn numbers_of_ticks_are_short() {
        let shown = [0.5, 20.0, 5000.0, 2e6].map(short);
        assert_eq!(shown, ["0.5", "20", "5 k", "2 M"]);
    }

    #[test]
    fn the_longest_bar_fills_the_room() {
        let svg = bars(
            "t",
            &[("ringway".to_owned(), 5.0), ("nginx".to_owned(), 10.0)],
        );
        assert!(
            svg.contains("width=\"100.0\"") && svg.contains("width=\"200.0\""),
            "{svg}"
        );
        assert!(svg.contains(">5.00<") && svg.contains(">10.0<"), "{svg}");
    }

    #[test]
    fn no_values_are_no_plot() {
        assert_eq!(lines("t", &["a".to_owned()], &[]), "");
    }

    #[test]
    fn what_could_be_markup_is_none() {
        assert_eq!(escaped("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
