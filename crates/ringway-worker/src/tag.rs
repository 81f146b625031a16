//! What an operation is to a worker, as it travels through the ring in [`Token::tag`].

use ringway_flow::Side;
use ringway_uring::Token;

/// The operations of a worker. Those of a half carry the side its bytes come from. The ring tells
/// kinds of operations apart, so that a poll and the splice it may be linked to share a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `slot` is the number of the listening socket.
    Accept,
    /// The eventfd of the mailbox.
    Mailbox,
    Connect,
    Receive(Side),
    Send(Side),
    /// The poll for bytes, with or without a splice.
    PollIn(Side),
    /// The poll for room, with or without a splice.
    PollOut(Side),
    /// The poll that tells when the source is broken.
    Watch(Side),
}

impl Tag {
    const ALL: [Tag; 13] = [
        Tag::Accept,
        Tag::Mailbox,
        Tag::Connect,
        Tag::Receive(Side::Front),
        Tag::Receive(Side::Back),
        Tag::Send(Side::Front),
        Tag::Send(Side::Back),
        Tag::PollIn(Side::Front),
        Tag::PollIn(Side::Back),
        Tag::PollOut(Side::Front),
        Tag::PollOut(Side::Back),
        Tag::Watch(Side::Front),
        Tag::Watch(Side::Back),
    ];

    /// The tag with this number; `None` for a number no tag has.
    pub(crate) fn from_raw(raw: u8) -> Option<Tag> {
        Tag::ALL.get(usize::from(raw)).copied()
    }

    fn raw(self) -> u8 {
        let side = |side| match side {
            Side::Front => 0,
            Side::Back => 1,
        };
        match self {
            Tag::Accept => 0,
            Tag::Mailbox => 1,
            Tag::Connect => 2,
            Tag::Receive(from) => 3 + side(from),
            Tag::Send(from) => 5 + side(from),
            Tag::PollIn(from) => 7 + side(from),
            Tag::PollOut(from) => 9 + side(from),
            Tag::Watch(from) => 11 + side(from),
        }
    }

    /// The token of this operation of a slot.
    pub(crate) fn of(self, slot: u32, generation: u16) -> Token {
        Token {
            tag: self.raw(),
            generation,
            slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_survives_the_ring() {
        for (index, tag) in Tag::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(tag.raw()), index);
            assert_eq!(Tag::from_raw(tag.of(1, 2).tag), Some(tag));
        }
        assert_eq!(Tag::from_raw(13), None);
    }
}
