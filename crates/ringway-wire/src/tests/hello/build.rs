//! Builds hellos from parts, and cuts them into records.

/// The parts of a hello, each without its length.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    pub(super) version: [u8; 2],
    pub(super) session_id: Vec<u8>,
    pub(super) suites: Vec<u8>,
    pub(super) compressions: Vec<u8>,
    /// All extensions with type and length; `None` leaves out the list.
    pub(super) extensions: Option<Vec<u8>>,
}

impl Hello {
    /// A usual hello with these extensions.
    pub(super) fn with(extensions: &[Vec<u8>]) -> Self {
        Self {
            version: [3, 3],
            session_id: vec![0x55; 32],
            suites: b"\x0a\x0a\x13\x01\x13\x02\xc0\x2b".to_vec(),
            compressions: vec![0],
            extensions: Some(extensions.concat()),
        }
    }

    pub(super) fn without_extensions(self) -> Self {
        Self {
            extensions: None,
            ..self
        }
    }

    /// The handshake message: type, length, body.
    pub(super) fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_vec();
        body.extend([0xab; 32]);
        body.extend(sized::<1>(&self.session_id));
        body.extend(sized::<2>(&self.suites));
        body.extend(sized::<1>(&self.compressions));
        if let Some(extensions) = &self.extensions {
            body.extend(sized::<2>(extensions));
        }
        [&[1][..], &sized::<3>(&body)].concat()
    }
}

/// Bytes with their length in front, in so many bytes.
pub(super) fn sized<const SIZE: usize>(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    let (high, low) = length.split_at(length.len() - SIZE);
    assert!(
        high.iter().all(|&byte| byte == 0),
        "too long for its length"
    );
    [low, bytes].concat()
}

pub(super) fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized::<2>(content)].concat()
}

pub(super) fn server_name(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<u8> = names
        .iter()
        .flat_map(|(kind, name)| [vec![*kind], sized::<2>(name)].concat())
        .collect();
    extension(0, &sized::<2>(&names))
}

pub(super) fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|name| sized::<1>(name)).collect();
    extension(16, &sized::<2>(&list))
}

pub(super) fn padding(size: usize) -> Vec<u8> {
    extension(21, &vec![0; size])
}

/// RFC 8446 section 4.2.8, with keys of these sizes.
pub(super) fn key_shares(sizes: &[usize]) -> Vec<u8> {
    let shares: Vec<u8> = sizes
        .iter()
        .flat_map(|&size| [b"\x11\xec".to_vec(), sized::<2>(&vec![0xc5; size])].concat())
        .collect();
    extension(51, &sized::<2>(&shares))
}

/// RFC 8701 section 2: types of two equal bytes that end in `a`.
pub(super) fn grease(byte: u8, content: &[u8]) -> Vec<u8> {
    extension(u16::from_be_bytes([byte, byte]), content)
}

/// RFC 8446 section 5.2: as long as a record may be.
const RECORD_LENGTH_MAX: usize = (1 << 14) + 256;

/// The message in records that end at these offsets of it, and wherever one cannot be longer.
pub(super) fn records(message: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 5 * (cuts.len() + 4));
    let mut start = 0;
    for &end in cuts.iter().chain([&message.len()]) {
        for fragment in message[start..end].chunks(RECORD_LENGTH_MAX) {
            bytes.extend(b"\x16\x03\x01");
            bytes.extend(sized::<2>(fragment));
        }
        start = end;
    }
    bytes
}
