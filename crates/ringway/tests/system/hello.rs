//! TLS ClientHellos as clients write them, byte by byte after RFC 8446.

/// Bytes with their length before them, in so many bytes.
fn sized(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&length[4 - length_bytes..], content].concat()
}

/// An extension.
pub(crate) fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().as_slice(), &sized(2, content)].concat()
}

pub(crate) fn server_name(name: &[u8]) -> Vec<u8> {
    let entry = [[0].as_slice(), &sized(2, name)].concat();
    extension(0, &sized(2, &entry))
}

pub(crate) fn alpn(protocols: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = protocols
        .iter()
        .flat_map(|protocol| sized(1, protocol.as_bytes()))
        .collect();
    extension(16, &sized(2, &list))
}

/// Padding (RFC 7685), for a hello of any size.
pub(crate) fn padding(len: usize) -> Vec<u8> {
    extension(21, &vec![0; len])
}

/// The handshake message.
pub(crate) fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend(sized(1, &[9; 32]));
    hello.extend(sized(2, &[0x13, 0x01, 0x13, 0x02]));
    hello.extend(sized(1, &[0]));
    if !extensions.is_empty() {
        hello.extend(sized(2, &extensions.concat()));
    }
    [[1].as_slice(), &sized(3, &hello)].concat()
}

/// The message in records of so many bytes at most.
pub(crate) fn records(message: &[u8], most: usize) -> Vec<u8> {
    let record = |part: &[u8]| [[22, 3, 1].as_slice(), &sized(2, part)].concat();
    message.chunks(most).flat_map(record).collect()
}

/// One record.
pub(crate) fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(extensions), 16_384)
}

/// The hello of a client that asks for this name.
pub(crate) fn naming(name: &str) -> Vec<u8> {
    hello(&[server_name(name.as_bytes())])
}
