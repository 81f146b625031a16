//! Version 1: what is valid, and at which byte and for which reason everything else is rejected.

use super::*;
use crate::{Command, Transport, V1_LINE_MAX, write_v1};

pub(super) const VALID: &[(&str, &str)] = &[
    (
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        "192.168.0.1:56324 192.168.0.11:443",
    ),
    (
        "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        "255.255.255.255:65535 255.255.255.255:65535",
    ),
    (
        "PROXY TCP4 0.0.0.0 10.0.0.1 0 1\r\n",
        "0.0.0.0:0 10.0.0.1:1",
    ),
    (
        "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
    ),
    (
        "PROXY TCP6 2001:DB8::1 ::1 56324 443\r\n",
        "[2001:db8::1]:56324 [::1]:443",
    ),
    ("PROXY TCP6 :: 1:: 1 2\r\n", "[::]:1 [1::]:2"),
    (
        "PROXY TCP6 1:2:3:4:5:6:7:8 0001:02:0:0:0:0:0:8 1 2\r\n",
        "[1:2:3:4:5:6:7:8]:1 [1:2::8]:2",
    ),
    (
        "PROXY TCP6 1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1 2\r\n",
        "[1:2:3:4:5:6:7:0]:1 [0:2:3:4:5:6:7:8]:2",
    ),
    (
        "PROXY TCP6 1::8 1:2:3::6:7:8 1 2\r\n",
        "[1::8]:1 [1:2:3::6:7:8]:2",
    ),
    (
        "PROXY TCP6 ::ffff:192.0.2.1 ::192.0.2.1 1 2\r\n",
        "[::ffff:192.0.2.1]:1 [::c000:201]:2",
    ),
    (
        "PROXY TCP6 1:2:3:4:5:6:1.2.3.4 1:2::5:6:1.2.3.4 1 2\r\n",
        "[1:2:3:4:5:6:102:304]:1 [1:2::5:6:102:304]:2",
    ),
    ("PROXY UNKNOWN\r\n", ""),
    ("PROXY UNKNOWN \r\n", ""),
    (
        "PROXY UNKNOWN anything, even\ttabs \u{1} and PROXY TCP4\r\n",
        "",
    ),
    (
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        "",
    ),
];

/// Lines with `|` before the first byte that no valid line has there.
const MALFORMED: &[(&str, Reason)] = &[
    ("PROXY|\r\n", Reason::NotProxy),
    ("PROXY |\r\n", Reason::Protocol),
    ("PROXY | TCP4 1.2.3.4 1.2.3.4 1 2\r\n", Reason::Protocol),
    ("PROXY |tcp4 1.2.3.4 1.2.3.4 1 2\r\n", Reason::Protocol),
    ("PROXY TCP|5 1.2.3.4 1.2.3.4 1 2\r\n", Reason::Protocol),
    ("PROXY TCP4|6 1.2.3.4 1.2.3.4 1 2\r\n", Reason::Protocol),
    ("PROXY TCP4|\r\n", Reason::Protocol),
    ("PROXY TCP6|\t::1 ::1 1 2\r\n", Reason::Protocol),
    ("PROXY U|DP4 1.2.3.4 1.2.3.4 1 2\r\n", Reason::Protocol),
    ("PROXY UN|IX\r\n", Reason::Protocol),
    ("PROXY UNKNOWN|X\r\n", Reason::Protocol),
    ("PROXY UNKNOWN|\t\r\n", Reason::Protocol),
    ("PROXY UNKNOWN|\n", Reason::LineEnd),
    ("PROXY UNKNOWN\r|\r\n", Reason::LineEnd),
    ("PROXY UNKNOWN a|\nb\r\n", Reason::LineEnd),
    ("PROXY UNKNOWN a\r|b\r\n", Reason::LineEnd),
    ("PROXY TCP4 | 1.2.3.4 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 1.2.3.4 | 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 1.2.3| 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 1.2.3.4|.5 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 1.|.3.4 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 25|6.2.3.4 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 100|0.2.3.4 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 0|1.2.3.4 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 1.0|0.3.4 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 |-1.2.3.4 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 |+1.2.3.4 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 0|x7f.0.0.1 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 1.2.3.4|\t1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP4 1.2.3.4|\r\n", Reason::Address),
    ("PROXY TCP4 1.2.3.4|\n", Reason::Address),
    ("PROXY TCP4 |::1 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP4 200|1:db8::1 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP4 1.2.3.4 |::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 1|.2.3.4 1.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP6 ::1 1|.2.3.4 1 2\r\n", Reason::Address),
    ("PROXY TCP6 | ::1 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 :|1 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 ::|:1 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 1::2:|:3 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 1:| ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 1::2:| ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 1:2:3:4:5:6:7| ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 1:2:3:4:5:6:7:8|:9 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 1:2:3:4:5:6:7:8|:: ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 1:2:3:4:5:6:7::|8 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 ::2:3:4:5:6:7:8|:9 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 1234|5:: ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 ::|g ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 ::1|%1 ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 |[::1] ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 ::ffff:1.2.3| ::1 1 2\r\n", Reason::Address),
    ("PROXY TCP6 ::ffff:1.2.3.4|:5 ::1 1 2\r\n", Reason::Address),
    (
        "PROXY TCP6 1:2:3:4:5:6:7:1|.2.3.4 ::1 1 2\r\n",
        Reason::Address,
    ),
    ("PROXY TCP6 1:2:3:4:5:1|.2.3.4 ::1 1 2\r\n", Reason::Address),
    (
        "PROXY TCP6 1::3:4:5:6:7:1|.2.3.4 ::1 1 2\r\n",
        Reason::Address,
    ),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 |\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1|\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 |\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 | 2\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 | 1 2\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 0|1 2\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 0|0\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 6553|6 2\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 9999|9\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 12345|6\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 |-1 2\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 |http 2\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2| \r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2|a\r\n", Reason::Port),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2|\n", Reason::LineEnd),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r|\r\n", Reason::LineEnd),
    (
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r|GET / HTTP/1.1",
        Reason::LineEnd,
    ),
];

#[test]
fn valid_lines_are_read() {
    for (line, expected) in VALID {
        let (header, _) = done(line.as_bytes());
        assert_eq!(
            (header.version, header.command),
            (ProxyVersion::V1, Command::Proxy)
        );
        assert!(header.tlvs.is_empty());
        let sockets = header.addresses.sockets();
        let shown = sockets
            .map(|(from, to)| format!("{from} {to}"))
            .unwrap_or_default();
        assert_eq!(&shown, expected, "{line}");
    }
}

#[test]
fn valid_lines_ask_for_more_at_every_prefix_and_leave_the_payload_alone() {
    VALID
        .iter()
        .for_each(|(line, _)| check_valid(line.as_bytes()));
}

#[test]
fn malformed_lines_are_rejected_at_the_first_impossible_byte() {
    for (marked, reason) in MALFORMED {
        let at = marked.find('|').expect("each case has a mark");
        check_rejected(marked.replace('|', "").as_bytes(), at, *reason);
    }
}

#[test]
fn a_line_may_have_107_bytes_and_not_one_more() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    check_valid(line(V1_LINE_MAX).as_bytes());
    check_rejected(
        line(V1_LINE_MAX + 1).as_bytes(),
        V1_LINE_MAX - 2,
        Reason::LineTooLong,
    );
    let dotted = "0001:0002:0003:0004:0005:0006:255.255.255.255";
    let long = format!("PROXY TCP6 {dotted} {dotted} 65535 65535\r\n");
    check_rejected(long.as_bytes(), V1_LINE_MAX - 1, Reason::LineTooLong);
}

#[test]
fn lines_are_written() {
    let written = |from: &str, to: &str| {
        let from = from.parse().expect("a socket address");
        let to = to.parse().expect("a socket address");
        let mut out = [0; V1_LINE_MAX];
        let used = write_v1(
            &Addresses::from_sockets(Transport::Stream, from, to),
            &mut out,
        );
        String::from_utf8(out[..used.expect("it fits")].to_vec()).expect("ASCII")
    };
    assert_eq!(
        written("192.0.2.1:56324", "192.0.2.2:443"),
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
    );
    assert_eq!(
        written("[2001:db8::1]:1", "[::1]:2"),
        "PROXY TCP6 2001:db8::1 ::1 1 2\r\n"
    );
    // No dotted decimals: the protocol's text has no form for them.
    assert_eq!(
        written("192.0.2.1:1", "[::]:2"),
        "PROXY TCP6 ::ffff:c000:201 :: 1 2\r\n"
    );
    assert_eq!(
        written("[::1:2]:1", "[::1:0]:2"),
        "PROXY TCP6 ::1:2 ::1:0 1 2\r\n"
    );
}

#[test]
fn what_version_1_cannot_say_is_unknown() {
    let [from, to] = ["192.0.2.1:1", "192.0.2.2:2"].map(|s| s.parse().expect("a socket address"));
    let path = [0; 108];
    let datagram = Addresses::from_sockets(Transport::Datagram, from, to);
    let unix = Addresses::Unix {
        transport: Transport::Stream,
        source: &path,
        destination: &path,
    };
    for addresses in [Addresses::Unspecified, datagram, unix] {
        let mut out = [0; 20];
        assert_eq!(write_v1(&addresses, &mut out), Some(15));
        assert_eq!(&out[..15], b"PROXY UNKNOWN\r\n");
    }
}

#[test]
fn a_line_that_does_not_fit_is_not_written() {
    for (line, _) in VALID {
        let addresses = done(line.as_bytes()).0.addresses;
        let mut out = [0; V1_LINE_MAX];
        let used = write_v1(&addresses, &mut out).expect("it fits");
        assert_eq!(write_v1(&addresses, &mut out[..used]), Some(used));
        for short in 0..used {
            assert_eq!(write_v1(&addresses, &mut out[..short]), None);
        }
    }
}
