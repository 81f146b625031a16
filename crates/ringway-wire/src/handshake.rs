//! The first handshake message of a TLS connection, read across the records it is cut into.
//!
//! RFC 8446 section 5.1: "Handshake messages MAY be ... fragmented across several records", at any byte; names in
//! the message are therefore not always slices of what was received. What the message means is not known here.
//! **Invariant:** every byte is read once and in order, is a received one, and lies inside the message; the message,
//! with the headers of its records, ends within [`CLIENT_HELLO_MAX`].

use crate::parse::{Reason, Step, Stop, reject};

/// The most bytes a hello may take from the start of the connection, headers of its records included. TLS allows
/// 16 MiB; post-quantum hellos are around 2 KiB and servers refuse them from 16 to 128 KiB on.
pub const CLIENT_HELLO_MAX: usize = 64 * 1024;

/// RFC 8446 section 5.1: type, legacy version and length of a record.
const RECORD_HEADER_SIZE: usize = 1 + 2 + 2;

/// Section 5.1: `handshake(22)` of `ContentType`.
const RECORD_HANDSHAKE: u8 = 22;

/// The high byte of `legacy_record_version`: RFC 5246 appendix E.1 makes servers "accept any value {03,XX}".
const RECORD_MAJOR: u8 = 3;

/// Section 5.2: the longest record of any kind. A hello is not encrypted and stays below 2^14 where the client obeys
/// section 5.1, which is for the server behind to judge.
const RECORD_LENGTH_MAX: usize = (1 << 14) + 256;

/// Section 4: `client_hello(1)` of `HandshakeType`.
const CLIENT_HELLO: u8 = 1;

/// Section 4.1.2: version, random, empty session id, one cipher suite, one compression method, no extensions.
const BODY_LENGTH_MIN: usize = 2 + 32 + 1 + (2 + 2) + (1 + 1);

/// A position in the message.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// All that was received, from the first byte of the connection.
    bytes: &'a [u8],
    /// The next byte to read.
    at: usize,
    /// What the record at this position has left.
    record_left: usize,
    /// What the message has left; the least possible while its length is not read.
    left: usize,
}

impl<'a> Message<'a> {
    /// At no message: nothing is left.
    pub(crate) const EMPTY: Self = Self {
        bytes: &[],
        at: 0,
        record_left: 0,
        left: 0,
    };

    /// Opens a ClientHello: reads its type and its length.
    pub(crate) fn open(bytes: &'a [u8]) -> Step<Self> {
        let mut message = Self {
            bytes,
            left: 1 + 3 + BODY_LENGTH_MIN,
            ..Self::EMPTY
        };
        if message.byte()? != CLIENT_HELLO {
            return reject(Reason::NotClientHello);
        }
        let mut length = 0;
        for bytes_missing in [2, 1, 0] {
            length = length << 8 | usize::from(message.byte()?);
            let least = length << (8 * bytes_missing);
            let most = least | ((1 << (8 * bytes_missing)) - 1);
            if most < BODY_LENGTH_MIN {
                return reject(Reason::HelloForm);
            }
            message.left = bytes_missing + least.max(BODY_LENGTH_MIN);
            if message.end() > CLIENT_HELLO_MAX {
                return reject(Reason::HelloTooLong);
            }
        }
        Ok(message)
    }

    /// How many bytes of the message are behind this position.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// How many received bytes are before this position, headers of records included.
    pub(crate) fn used(&self) -> usize {
        self.at
    }

    pub(crate) fn byte(&mut self) -> Step<u8> {
        match self.at_hand() {
            Some([byte]) => Ok(byte),
            None => Ok(self.piece(1)?[0]),
        }
    }

    /// A number of `SIZE` bytes that is valid; rejected as soon as the bytes that are there are of no valid one.
    pub(crate) fn number<const SIZE: usize>(
        &mut self,
        reason: Reason,
        valid: impl Fn(usize) -> bool,
    ) -> Step<usize> {
        let mut number = 0;
        for bytes_missing in (1..=SIZE).rev() {
            match self.byte() {
                Ok(byte) => number = number << 8 | usize::from(byte),
                Err(stop) => {
                    // What was read before may be of no valid number, whatever is to follow.
                    let least = number << (8 * bytes_missing);
                    let most = least | ((1 << (8 * bytes_missing)) - 1);
                    let none_read = bytes_missing == SIZE;
                    if none_read || (least..=most).any(valid) {
                        return Err(stop);
                    }
                    return reject(reason);
                }
            }
        }
        if !valid(number) {
            return reject(reason);
        }
        Ok(number)
    }

    pub(crate) fn skip(&mut self, size: usize) -> Step<()> {
        let mut missing = size;
        while missing > 0 {
            missing -= self.piece(missing)?.len();
        }
        Ok(())
    }

    /// Fills `out` with the next bytes.
    pub(crate) fn copy(&mut self, out: &mut [u8]) -> Step<()> {
        let mut filled = 0;
        while filled < out.len() {
            let piece = self.piece(out.len() - filled)?;
            out[filled..][..piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        Ok(())
    }

    /// The next bytes as far as they are in one record: at least one, at most `size_max`.
    fn piece(&mut self, size_max: usize) -> Step<&'a [u8]> {
        if self.record_left == 0 {
            self.open_record()?;
        }
        let received = self.bytes.len() - self.at;
        let size = size_max.min(self.record_left).min(received);
        if size == 0 {
            return self.more();
        }
        let piece = &self.bytes[self.at..][..size];
        self.advance(size);
        Ok(piece)
    }

    /// The next bytes, where so many were received and are in this record: nearly always.
    fn at_hand<const SIZE: usize>(&mut self) -> Option<[u8; SIZE]> {
        if self.record_left < SIZE {
            return None;
        }
        let bytes = *self.bytes.get(self.at..)?.first_chunk()?;
        self.advance(SIZE);
        Some(bytes)
    }

    fn advance(&mut self, size: usize) {
        self.at += size;
        self.record_left -= size;
        self.left -= size;
    }

    fn open_record(&mut self) -> Step<()> {
        let header = &self.bytes[self.at..];
        let reason = match self.at {
            0 => Reason::NotTls,
            _ => Reason::RecordInterleaved,
        };
        for (at, expected) in [(0, RECORD_HANDSHAKE), (1, RECORD_MAJOR)] {
            match header.get(at) {
                None => return self.more(),
                Some(&byte) if byte != expected => return reject(reason),
                Some(_) => {}
            }
        }
        // The high byte of the length may already be wrong.
        let mut length = 0;
        for (at, unknown) in [(3, 0xff_usize), (4, 0)] {
            let Some(&byte) = header.get(at) else {
                return self.more();
            };
            length = length << 8 | usize::from(byte);
            let least = length << unknown.count_ones();
            self.check_record(least, least | unknown)?;
        }
        self.at += RECORD_HEADER_SIZE;
        self.record_left = length;
        Ok(())
    }

    /// Checks a record at this position of which it is known that its length is in this range.
    fn check_record(&self, least: usize, most: usize) -> Step<()> {
        if most == 0 || least > RECORD_LENGTH_MAX {
            return reject(Reason::RecordLength);
        }
        let opened = Self {
            at: self.at + RECORD_HEADER_SIZE,
            record_left: most.min(RECORD_LENGTH_MAX),
            ..*self
        };
        if opened.end() > CLIENT_HELLO_MAX {
            return reject(Reason::HelloTooLong);
        }
        Ok(())
    }

    /// The first place at which the message can end: what is missing comes in records as long as possible.
    fn end(&self) -> usize {
        let in_further_records = self.left.saturating_sub(self.record_left);
        let headers = in_further_records.div_ceil(RECORD_LENGTH_MAX) * RECORD_HEADER_SIZE;
        self.at + self.left + headers
    }

    /// All received bytes were read.
    fn more<T>(&self) -> Step<T> {
        Err(Stop::More {
            at_least: self.end() - self.bytes.len(),
        })
    }
}
