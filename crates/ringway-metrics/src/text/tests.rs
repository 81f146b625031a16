//! The encoder: golden texts, escaping, and what it refuses to write twice.

use super::*;
use crate::declare;
use crate::histogram::Histogram;
use proptest::prelude::*;

fn sample_text(format: Format) -> String {
    let mut histogram = Histogram::new();
    for us in [3, 70, 70, 2_000_000] {
        histogram.record(us);
    }
    let mut out = Exposition::new(format);
    out.family(&declare::BUILD_INFO)
        .put(&["1.2.3", "abc"], None, Value::Count(1));
    let mut family = out.family(&declare::WORKER_BUSY);
    family.put(&[], Some(0), Value::Nanos(1_500_000_000));
    family.put(&[], Some(1), Value::Nanos(1));
    let mut family = out.family(&declare::LISTENER_CONNECTIONS_TOTAL);
    family.put(&["a\"b\\c\nd"], None, Value::Count(u64::MAX));
    out.family(&declare::LISTENER_CONNECTIONS)
        .put(&["web"], Some(7), Value::Level(-1));
    out.family(&declare::LISTENER_REFUSED);
    out.family(&declare::RECEIVED_BYTES)
        .put(&["l", "p", "client"], None, Value::Count(0));
    out.family(&declare::HEALTH_CHECK_TIME)
        .put_histogram(&["web"], None, &histogram.snapshot());
    out.family(&declare::CONFIG_LAST_RELOAD)
        .put(&[], None, Value::Millis(1_700_000_000_050));
    out.finish()
}

const HISTOGRAM: &str = r#"ringway_health_check_seconds_bucket{pool="web",le="0.0001"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.00025"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.0005"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.001"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.0025"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.005"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.01"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.025"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.05"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.1"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.25"} 3
ringway_health_check_seconds_bucket{pool="web",le="0.5"} 3
ringway_health_check_seconds_bucket{pool="web",le="1.0"} 3
ringway_health_check_seconds_bucket{pool="web",le="3.0"} 4
ringway_health_check_seconds_bucket{pool="web",le="7.0"} 4
ringway_health_check_seconds_bucket{pool="web",le="15.0"} 4
ringway_health_check_seconds_bucket{pool="web",le="30.0"} 4
ringway_health_check_seconds_bucket{pool="web",le="60.0"} 4
ringway_health_check_seconds_bucket{pool="web",le="+Inf"} 4
ringway_health_check_seconds_sum{pool="web"} 2.000143
ringway_health_check_seconds_count{pool="web"} 4
"#;

#[test]
fn prometheus_text() {
    let before = r#"# HELP ringway_build_info The build that is running.
# TYPE ringway_build_info gauge
ringway_build_info{version="1.2.3",commit="abc"} 1
# HELP ringway_worker_busy_seconds_total Time spent in turns of the loop, waiting not included.
# TYPE ringway_worker_busy_seconds_total counter
ringway_worker_busy_seconds_total{worker="0"} 1.5
ringway_worker_busy_seconds_total{worker="1"} 0.000000001
# HELP ringway_listener_connections_total Connections taken from the listening socket, those refused afterwards included.
# TYPE ringway_listener_connections_total counter
ringway_listener_connections_total{listener="a\"b\\c\nd"} 18446744073709551615
# HELP ringway_listener_connections Connections open now.
# TYPE ringway_listener_connections gauge
ringway_listener_connections{listener="web",worker="7"} -1
# HELP ringway_received_bytes_total Bytes received from clients and from backends.
# TYPE ringway_received_bytes_total counter
ringway_received_bytes_total{listener="l",pool="p",side="client"} 0
# HELP ringway_health_check_seconds Duration of health checks.
# TYPE ringway_health_check_seconds histogram
"#;
    let after = r#"# HELP ringway_config_last_reload_success_timestamp_seconds When the running configuration was applied, in seconds since 1970.
# TYPE ringway_config_last_reload_success_timestamp_seconds gauge
ringway_config_last_reload_success_timestamp_seconds 1700000000.05
"#;
    assert_eq!(
        sample_text(Format::Prometheus),
        format!("{before}{HISTOGRAM}{after}")
    );
}

#[test]
fn open_metrics_text() {
    let before = r#"# TYPE ringway_build info
# HELP ringway_build The build that is running.
ringway_build_info{version="1.2.3",commit="abc"} 1
# TYPE ringway_worker_busy_seconds counter
# UNIT ringway_worker_busy_seconds seconds
# HELP ringway_worker_busy_seconds Time spent in turns of the loop, waiting not included.
ringway_worker_busy_seconds_total{worker="0"} 1.5
ringway_worker_busy_seconds_total{worker="1"} 0.000000001
# TYPE ringway_listener_connections_total unknown
# HELP ringway_listener_connections_total Connections taken from the listening socket, those refused afterwards included.
ringway_listener_connections_total{listener="a\"b\\c\nd"} 18446744073709551615
# TYPE ringway_listener_connections gauge
# HELP ringway_listener_connections Connections open now.
ringway_listener_connections{listener="web",worker="7"} -1
# TYPE ringway_received_bytes counter
# UNIT ringway_received_bytes bytes
# HELP ringway_received_bytes Bytes received from clients and from backends.
ringway_received_bytes_total{listener="l",pool="p",side="client"} 0
# TYPE ringway_health_check_seconds histogram
# UNIT ringway_health_check_seconds seconds
# HELP ringway_health_check_seconds Duration of health checks.
"#;
    let after = r#"# TYPE ringway_config_last_reload_success_timestamp_seconds gauge
# UNIT ringway_config_last_reload_success_timestamp_seconds seconds
# HELP ringway_config_last_reload_success_timestamp_seconds When the running configuration was applied, in seconds since 1970.
ringway_config_last_reload_success_timestamp_seconds 1700000000.05
# EOF
"#;
    assert_eq!(
        sample_text(Format::OpenMetrics),
        format!("{before}{HISTOGRAM}{after}")
    );
}

#[test]
fn a_histogram_without_labels_still_has_its_bounds() {
    let mut out = Exposition::new(Format::Prometheus);
    let snapshot = HistogramSnapshot::default();
    out.family(&declare::WORKER_LOOP)
        .put_histogram(&[], Some(2), &snapshot);
    let text = out.finish();
    assert!(
        text.contains("_bucket{worker=\"2\",le=\"0.000001\"} 0\n"),
        "{text}"
    );
    assert!(text.contains("_sum{worker=\"2\"} 0\n"), "{text}");
}

#[test]
fn the_accept_header_chooses_the_format() {
    for (accept, format) in [
        ("", Format::Prometheus),
        ("*/*", Format::Prometheus),
        ("text/plain", Format::Prometheus),
        ("application/openmetrics-text", Format::OpenMetrics),
        (
            "Application/OpenMetrics-Text; version=1.0.0",
            Format::OpenMetrics,
        ),
        ("application/openmetrics-text;q=0", Format::Prometheus),
        (
            "application/openmetrics-text;q=0.2,text/plain;q=0.5",
            Format::Prometheus,
        ),
        (
            "text/plain;q=0.5, application/openmetrics-text;q=0.5",
            Format::OpenMetrics,
        ),
        (
            "application/openmetrics-text;q=nonsense",
            Format::Prometheus,
        ),
        // Prometheus 2 and 3.
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
             version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::OpenMetrics,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.1",
            Format::OpenMetrics,
        ),
    ] {
        assert_eq!(Format::from_accept(accept), format, "{accept}");
    }
}

#[test]
fn content_types_name_the_versions() {
    assert!(Format::Prometheus.content_type().contains("version=0.0.4"));
    assert!(Format::OpenMetrics.content_type().contains("version=1.0.0"));
}

/// The inverse of escaping, as the formats define it.
fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let mut value = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(match chars.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => panic!("a lone backslash ends {text:?}"),
            }),
            '"' | '\n' => panic!("unescaped {c:?} in {text:?}"),
            other => value.push(other),
        }
    }
    value
}

proptest! {
    #[test]
    fn any_label_value_survives(value in r#"(?s)([\\"\nn]|.){0,40}"#) {
        let mut escaped = String::new();
        push_escaped(&mut escaped, &value);
        prop_assert_eq!(unescaped(&escaped), value);
    }

    #[test]
    fn decimals_are_exact(n: u64) {
        for (value, digits) in [(Value::Millis(n), 3), (Value::Micros(n), 6), (Value::Nanos(n), 9)] {
            let mut text = String::new();
            push_value(&mut text, value);
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            prop_assert!(fraction.len() <= digits && !fraction.ends_with('0'), "{}", text);
            prop_assert_eq!(format!("{whole}{fraction:0<digits$}").parse::<u64>().unwrap(), n);
        }
    }
}
