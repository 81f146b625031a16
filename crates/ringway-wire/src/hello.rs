//! TLS ClientHello: which host, and in which protocols, a client asks for. Read, never answered.
//!
//! After RFC 8446 section 4.1.2, RFC 6066 section 3 and RFC 7301; sections are quoted beside the constants. Not
//! judged: versions, cipher suites, and the content of any other extension, which are between the client and the
//! server behind. **Invariant:** a hello is accepted only as a whole and with all its lengths fitting each other, and
//! what is told of it consists of received bytes.
//!
//! What is ambiguous is decided so:
//! - An extension that is there twice is rejected, of whatever type (section 4.2: "There MUST NOT be more than one").
//! - Of several host names in the server name extension, which RFC 6066 forbids, the first one counts. It also does
//!   if it is not valid. Names of types that are not assigned are skipped.
//! - With Encrypted Client Hello, the name is the one anybody sees: the outer one.
//! - What the record of the hello has behind the hello is not looked at.

use crate::alpn::{self, Alpn};
use crate::handshake::Message;
use crate::host_name::{HOST_NAME_MAX, HostName, NameFault};
use crate::parse::{Parse, Reason, Step, reject};

/// What a hello asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The host.
    pub server_name: ServerName,
    /// The protocols to be spoken inside TLS, in order of preference.
    pub alpn: Alpn<'a>,
}

/// The host a hello asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "nothing here allocates")]
pub enum ServerName {
    /// There is no such extension, or no host name in it; as of clients that connect to an address.
    Absent,
    /// A valid name.
    Host(HostName),
    /// There is one, and it is none that a server can be known by. Its bytes are not kept.
    Invalid(NameFault),
}

/// RFC 8446 section 4.1.2: `ProtocolVersion legacy_version` and `Random random`, which is `opaque Random[32]`.
const VERSION_AND_RANDOM_SIZE: usize = 2 + 32;

/// Section 4.1.2: `opaque legacy_session_id<0..32>`.
const SESSION_ID_MAX: usize = 32;

/// Section 4.1.2: `CipherSuite cipher_suites<2..2^16-2>` and its length.
const CIPHER_SUITES_SIZE_MIN: usize = 2 + 2;

/// Section 4.1.2: `opaque legacy_compression_methods<1..2^8-1>` and its length.
const COMPRESSIONS_SIZE_MIN: usize = 1 + 1;

/// Section 4.2: type and length of an extension. The list of them has a length of two bytes too; TLS 1.2 lets a
/// client leave out the list as a whole.
const EXTENSION_HEADER_SIZE: usize = 2 + 2;
const EXTENSIONS_HEADER_SIZE: usize = 2;

/// Section 4.2: `server_name(0)` and `application_layer_protocol_negotiation(16)` of `ExtensionType`.
const SERVER_NAME: usize = 0;
const ALPN: usize = 16;

/// RFC 6066 section 3: `host_name(0)` of `NameType`.
const HOST_NAME: u8 = 0;

/// Section 3: name type and length: "all NameTypes ... MUST begin with a 16-bit length field".
const NAME_HEADER_SIZE: usize = 1 + 2;

/// `ServerName server_name_list<1..2^16-1>` and its length; an empty host name is told as such.
const SERVER_NAME_SIZE_MIN: usize = 2 + NAME_HEADER_SIZE;

/// Parses the hello at the start of a connection; `bytes` is all that was received, from the first byte on.
///
/// [`Reason::NotTls`] is decided by the first two bytes. `used` counts the hello and the headers of its records, and
/// is at most [`crate::CLIENT_HELLO_MAX`]. In `NeedMore` the whole rest of the hello is counted as far as its length
/// is known; a rejection may come earlier. All bytes are read again in each call: where they come in many small
/// pieces, call [`HelloProgress::parse`].
pub fn parse_client_hello(bytes: &[u8]) -> Parse<ClientHello<'_>> {
    hello(bytes).into()
}

/// Bounds the work of parsing again whenever more was received: one value per connection.
///
/// As long as there are less than 64 bytes, each of them is looked at as it comes: what is not TLS is rejected at
/// the first byte that tells. After that, bytes wait until they have doubled or the hello can be complete, so that
/// no client can make its bytes be read again as often as it likes.
#[derive(Clone, Copy, Debug, Default)]
pub struct HelloProgress {
    /// Fewer bytes than this are not looked at.
    pub(crate) parse_at: usize,
    /// The hello is known to end not before this.
    complete_at: usize,
}

/// While fewer bytes than this were received, each call parses.
const PROMPT_MAX: usize = 64;

impl HelloProgress {
    /// Whether [`HelloProgress::parse`] would not even look at so few bytes: for those who have to put them together
    /// first.
    pub fn waits_for_more(&self, len: usize) -> bool {
        len < self.parse_at
    }

    /// As [`parse_client_hello`], with the same answers; only a rejection inside a longer hello may come later, and
    /// at the latest when the hello is as long as it claims.
    ///
    /// `bytes` must begin with those of the call before.
    pub fn parse<'a>(&mut self, bytes: &'a [u8]) -> Parse<ClientHello<'a>> {
        if self.waits_for_more(bytes.len()) {
            return Parse::NeedMore {
                at_least: self.complete_at - bytes.len(),
            };
        }
        let parsed = parse_client_hello(bytes);
        if let Parse::NeedMore { at_least } = parsed {
            self.complete_at = bytes.len() + at_least;
            self.parse_at = if bytes.len() < PROMPT_MAX {
                bytes.len() + 1
            } else {
                self.complete_at.min(2 * bytes.len())
            };
        }
        parsed
    }
}

fn hello(bytes: &[u8]) -> Step<(ClientHello<'_>, usize)> {
    let mut message = Message::open(bytes)?;
    message.skip(VERSION_AND_RANDOM_SIZE)?;
    skip_to_extensions(&mut message)?;
    let mut hello = ClientHello {
        server_name: ServerName::Absent,
        alpn: Alpn::EMPTY,
    };
    if message.left() > 0 {
        let room = message.left() - EXTENSIONS_HEADER_SIZE;
        message.number::<2>(Reason::HelloForm, |length| length == room)?;
        extensions(&mut message, &mut hello)?;
    }
    Ok((hello, message.used()))
}

/// Skips session id, cipher suites and compression methods. Each leaves room for what must follow.
fn skip_to_extensions(message: &mut Message<'_>) -> Step<()> {
    let room = message.left() - 1 - CIPHER_SUITES_SIZE_MIN - COMPRESSIONS_SIZE_MIN;
    let length = message.number::<1>(Reason::HelloForm, |length| {
        length <= room.min(SESSION_ID_MAX)
    })?;
    message.skip(length)?;

    let room = message.left() - 2 - COMPRESSIONS_SIZE_MIN;
    let length = message.number::<2>(Reason::HelloForm, |length| {
        length > 0 && length % 2 == 0 && length <= room
    })?;
    message.skip(length)?;

    let room = message.left() - 1;
    let length = message.number::<1>(Reason::HelloForm, |length| {
        length > 0 && length <= room && can_be_extensions(room - length)
    })?;
    message.skip(length)
}

/// Whether the rest of a hello can be so long: nothing, no extensions, or at least one.
fn can_be_extensions(size: usize) -> bool {
    matches!(size, 0 | EXTENSIONS_HEADER_SIZE)
        || size >= EXTENSIONS_HEADER_SIZE + EXTENSION_HEADER_SIZE
}

/// Reads extensions up to the end of the message.
fn extensions<'a>(message: &mut Message<'a>, hello: &mut ClientHello<'a>) -> Step<()> {
    let mut seen = TypesSeen::none();
    while message.left() > 0 {
        let room = message.left() - EXTENSION_HEADER_SIZE;
        let kind = message.number::<2>(Reason::DuplicateExtension, |kind| !seen.contains(kind))?;
        seen.insert(kind);
        let size_min = size_min(kind);
        if size_min > room {
            return reject(Reason::HelloForm);
        }
        let size = message.number::<2>(Reason::HelloForm, |size| {
            size >= size_min && (size == room || size + EXTENSION_HEADER_SIZE <= room)
        })?;
        match kind {
            SERVER_NAME => hello.server_name = server_name(message, size)?,
            ALPN => hello.alpn = Alpn::read(message, size)?,
            _ => message.skip(size)?,
        }
    }
    Ok(())
}

fn size_min(kind: usize) -> usize {
    match kind {
        SERVER_NAME => SERVER_NAME_SIZE_MIN,
        ALPN => alpn::SIZE_MIN,
        _ => 0,
    }
}

/// Reads the server name extension of `size` bytes: the first host name in its list.
fn server_name(message: &mut Message<'_>, size: usize) -> Step<ServerName> {
    let list_size = message.number::<2>(Reason::ServerNameForm, |length| length == size - 2)?;
    let end = message.left() - list_size;
    let mut name = ServerName::Absent;
    while message.left() > end {
        let kind = message.byte()?;
        let room = message.left() - end - 2;
        let length = message.number::<2>(Reason::ServerNameForm, |length| {
            length == room || length + NAME_HEADER_SIZE <= room
        })?;
        if kind == HOST_NAME && name == ServerName::Absent {
            name = host_name(message, length)?;
        } else {
            message.skip(length)?;
        }
    }
    Ok(name)
}

fn host_name(message: &mut Message<'_>, length: usize) -> Step<ServerName> {
    // One byte more than a name has: the dot at its end.
    let mut text = [0; HOST_NAME_MAX + 1];
    let Some(text) = text.get_mut(..length) else {
        message.skip(length)?;
        return Ok(ServerName::Invalid(NameFault::TooLong));
    };
    message.copy(text)?;
    Ok(match HostName::new(text) {
        Ok(name) => ServerName::Host(name),
        Err(fault) => ServerName::Invalid(fault),
    })
}

/// The types of extension that were there, so that none is there twice.
struct TypesSeen {
    few: [usize; Self::FEW_MAX],
    few_count: usize,
    /// A bit for each of the 65,536, once there are more than a few: 8 KiB that a usual hello does not need cleared,
    /// and no client can make long to search.
    many: Option<[u64; Self::WORDS]>,
}

impl TypesSeen {
    /// Browsers send about 20.
    const FEW_MAX: usize = 32;
    const WORDS: usize = (1 << 16) / u64::BITS as usize;

    fn none() -> Self {
        Self {
            few: [0; Self::FEW_MAX],
            few_count: 0,
            many: None,
        }
    }

    fn contains(&self, kind: usize) -> bool {
        match &self.many {
            Some(bits) => bits[word(kind)] & bit(kind) != 0,
            None => self.few[..self.few_count].contains(&kind),
        }
    }

    fn insert(&mut self, kind: usize) {
        if let Some(bits) = &mut self.many {
            bits[word(kind)] |= bit(kind);
        } else if let Some(place) = self.few.get_mut(self.few_count) {
            *place = kind;
            self.few_count += 1;
        } else {
            let bits = self.many.insert([0; Self::WORDS]);
            for kind in self.few.into_iter().chain([kind]) {
                bits[word(kind)] |= bit(kind);
            }
        }
    }
}

fn word(kind: usize) -> usize {
    kind / u64::BITS as usize
}

fn bit(kind: usize) -> u64 {
    1 << (kind % u64::BITS as usize)
}
