//! What a client says first: the PROXY protocol's headers and a TLS ClientHello.

use std::hint::black_box;
use std::net::SocketAddr;

use ringway_wire::{
    Addresses, Checksum, Command, Extensions, PROXY_HEADER_MAX, Parse, Transport,
    parse_client_hello, parse_proxy, write_v1, write_v2,
};

use crate::Operation;

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "proxy v1: parsed",
        repetitions: 20_000,
        run: |repetitions| parse(&v1(), repetitions),
    },
    Operation {
        name: "proxy v2: parsed",
        repetitions: 20_000,
        run: |repetitions| parse(&v2(Checksum::Absent), repetitions),
    },
    Operation {
        name: "proxy v2: parsed, with checksum",
        repetitions: 10_000,
        run: |repetitions| parse(&v2(Checksum::Crc32c), repetitions),
    },
    Operation {
        name: "proxy v2: written",
        repetitions: 20_000,
        run: write,
    },
    Operation {
        name: "ClientHello of 517 bytes: parsed",
        repetitions: 10_000,
        run: hello,
    },
];

fn addresses() -> Addresses<'static> {
    let source = SocketAddr::from(([192, 0, 2, 1], 56_324));
    let destination = SocketAddr::from(([192, 0, 2, 2], 443));
    Addresses::from_sockets(Transport::Stream, source, destination)
}

fn v1() -> Vec<u8> {
    let mut out = [0; PROXY_HEADER_MAX];
    let length = write_v1(&addresses(), &mut out).expect("it fits");
    out[..length].to_vec()
}

fn v2(checksum: Checksum) -> Vec<u8> {
    let mut out = [0; PROXY_HEADER_MAX];
    let extensions = Extensions {
        checksum,
        ..Extensions::default()
    };
    let length = write_v2(Command::Proxy, &addresses(), &extensions, &mut out);
    out[..length.expect("it fits")].to_vec()
}

fn parse(header: &[u8], repetitions: u64) {
    for _ in 0..repetitions {
        let parsed = black_box(parse_proxy(black_box(header)));
        assert!(matches!(parsed, Parse::Done { used, .. } if used == header.len()));
    }
}

fn write(repetitions: u64) {
    let addresses = addresses();
    let mut out = [0; PROXY_HEADER_MAX];
    for _ in 0..repetitions {
        let addresses = black_box(&addresses);
        let length = write_v2(Command::Proxy, addresses, &Extensions::default(), &mut out);
        assert_eq!(length, Some(28));
        black_box(&out);
    }
}

fn hello(repetitions: u64) {
    let bytes = client_hello();
    assert_eq!(bytes.len(), 517);
    for _ in 0..repetitions {
        let parsed = parse_client_hello(black_box(&bytes));
        let Parse::Done { value, .. } = black_box(parsed) else {
            panic!("a whole hello");
        };
        assert_eq!(value.alpn.count(), 2);
    }
}

/// As a browser sends it: a name, ALPN, a key share, and padding to the usual size.
fn client_hello() -> Vec<u8> {
    let name = sized::<2>(&[&[0], &sized::<2>(b"www.example.com")[..]].concat());
    let alpn = sized::<2>(&[sized::<1>(b"h2"), sized::<1>(b"http/1.1")].concat());
    let share = sized::<2>(&[&[0, 0x1d], &sized::<2>(&[0xc5; 32])[..]].concat());
    let before = [
        extension(0, &name),
        extension(16, &alpn),
        extension(43, &[2, 3, 4]),
        extension(51, &share),
    ]
    .concat();
    // Record and message headers, the fixed fields, the list's length, padding's own header.
    let others = 5 + 4 + 2 + 32 + 33 + 2 + 8 + 2 + 2 + 4;
    let padding = extension(21, &vec![0; 517 - others - before.len()]);
    let body = [
        &[3, 3][..],
        &[0xab; 32],
        &sized::<1>(&[0x55; 32]),
        &sized::<2>(b"\x13\x01\x13\x02\x13\x03\xc0\x2b"),
        &sized::<1>(&[0]),
        &sized::<2>(&[before, padding].concat()),
    ]
    .concat();
    let message = [&[1][..], &sized::<3>(&body)].concat();
    [&b"\x16\x03\x01"[..], &sized::<2>(&message)].concat()
}

/// Bytes with their length in front, in so many bytes.
fn sized<const SIZE: usize>(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    [&length[length.len() - SIZE..], bytes].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized::<2>(content)].concat()
}
