//! The protocols a client offers by ALPN (RFC 7301), in its order.
//!
//! What they mean, and GREASE among them (RFC 8701: `{0x0A,0x0A}` and the like), is for whoever reads the list.
//! **Invariant:** an [`Alpn`] was checked as a whole when its hello was parsed; each protocol ends inside and has a
//! name.

use std::fmt;

use crate::handshake::Message;
use crate::parse::{Reason, Step};

/// RFC 7301 section 3.1: `opaque ProtocolName<1..2^8-1>`.
const PROTOCOL_MAX: usize = 255;

/// The least size of the extension: `ProtocolName protocol_name_list<2..2^16-1>` and its length.
pub(crate) const SIZE_MIN: usize = 2 + 2;

/// All protocols that are offered: iterate over it. None where the client sent no such extension.
#[derive(Clone, Copy)]
pub struct Alpn<'a> {
    message: Message<'a>,
    list_left: usize,
}

/// The name of a protocol: 1 to 255 bytes, such as `h2` or `http/1.1`. A copy, as it may have been cut in two.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AlpnProtocol {
    length: u8,
    /// Zero behind the name, so that equal names are equal as a whole.
    bytes: [u8; PROTOCOL_MAX],
}

impl<'a> Alpn<'a> {
    pub(crate) const EMPTY: Self = Self {
        message: Message::EMPTY,
        list_left: 0,
    };

    /// Checks an extension of `size` bytes, at least [`SIZE_MIN`].
    pub(crate) fn read(message: &mut Message<'a>, size: usize) -> Step<Self> {
        let list_size = message.number::<2>(Reason::AlpnForm, |length| length == size - 2)?;
        let alpn = Self {
            message: *message,
            list_left: list_size,
        };
        let end = message.left() - list_size;
        while message.left() > end {
            let room = message.left() - end - 1;
            let length = message.number::<1>(Reason::AlpnForm, |length| {
                length > 0 && (length == room || length + 2 <= room)
            })?;
            message.skip(length)?;
        }
        Ok(alpn)
    }

    /// Whether no protocol is offered.
    pub fn is_empty(&self) -> bool {
        self.list_left == 0
    }

    fn step(&mut self) -> Step<AlpnProtocol> {
        let length = self.message.byte()?;
        let mut bytes = [0; PROTOCOL_MAX];
        self.message.copy(&mut bytes[..usize::from(length)])?;
        self.list_left -= 1 + usize::from(length);
        Ok(AlpnProtocol { length, bytes })
    }
}

impl Iterator for Alpn<'_> {
    type Item = AlpnProtocol;

    fn next(&mut self) -> Option<AlpnProtocol> {
        if self.list_left == 0 {
            return None;
        }
        Some(self.step().expect("invariant: the list was checked"))
    }
}

/// Equal lists offer the same protocols in the same order, however they were cut into records.
impl PartialEq for Alpn<'_> {
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for Alpn<'_> {}

impl fmt::Debug for Alpn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

impl AlpnProtocol {
    /// A protocol of that name; none where a hello could not say it.
    pub fn new(name: &[u8]) -> Option<Self> {
        let length = u8::try_from(name.len()).ok().filter(|length| *length > 0)?;
        let mut bytes = [0; PROTOCOL_MAX];
        bytes[..name.len()].copy_from_slice(name);
        Some(Self { length, bytes })
    }

    /// The name, never empty.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for AlpnProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}
