//! What a completion is about: the 64 bits of `user_data`.
//!
//! It is not a table: everything needed to route a completion is inside the token, so a stale
//! completion is recognised by its generation without a look-up of the past. Layout, high to low:
//! kind(4), tag(4), generation(16), buffer(16), slot(24). Kind 0 is never used, so a zeroed entry
//! cannot be mistaken for ours.

/// Number of values of [`Token::tag`].
const TAGS: u8 = 1 << 4;
/// Number of values of [`Token::slot`].
const SLOTS: u32 = 1 << 24;

/// The caller's name for an operation; comes back unchanged in its completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// What the operation is to the caller (which half of a flow, which listener, ...): 0..=15.
    pub tag: u8,
    /// Told apart from the slot's earlier users.
    pub generation: u16,
    /// Index into the caller's slab: below 2^24.
    pub slot: u32,
}

/// The operations a caller can cancel by token: [`Ring::cancel`](crate::Ring::cancel). A send is
/// none: it never waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Ring::accept_multishot`](crate::Ring::accept_multishot).
    Accept,
    /// [`Ring::receive`](crate::Ring::receive).
    Receive,
    /// [`Ring::connect`](crate::Ring::connect).
    Connect,
    /// [`Ring::poll`](crate::Ring::poll) and [`Ring::poll_multishot`](crate::Ring::poll_multishot).
    Poll,
    /// [`Ring::poll_then_splice`](crate::Ring::poll_then_splice).
    Splice,
}

/// What an entry in the ring is; decides how its result is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Accept = 1,
    Receive = 2,
    Send = 3,
    /// Completes only if it fails, in place of the poll behind it.
    Connect = 4,
    Poll = 5,
    Splice = 6,
    /// The poll in front of a splice: completes only if it fails, in place of the splice.
    SplicePoll = 7,
    /// Completes only if it fails; counted.
    Close = 8,
    /// Completes only if it fails, which says that there was nothing left to cancel; ignored.
    Cancel = 9,
    /// The poll behind a connect, whose success it stands for.
    ConnectPoll = 10,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Accept,
        Kind::Receive,
        Kind::Send,
        Kind::Connect,
        Kind::Poll,
        Kind::Splice,
        Kind::SplicePoll,
        Kind::Close,
        Kind::Cancel,
        Kind::ConnectPoll,
    ];
}

/// `user_data` taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserData {
    pub(crate) kind: Kind,
    pub(crate) token: Token,
    /// The buffer of a send; 0 for everything else.
    pub(crate) buffer: u16,
}

impl UserData {
    pub(crate) fn new(kind: Kind, token: Token) -> UserData {
        UserData {
            kind,
            token,
            buffer: 0,
        }
    }

    /// For entries that belong to no caller.
    pub(crate) fn internal(kind: Kind) -> UserData {
        UserData::new(
            kind,
            Token {
                tag: 0,
                generation: 0,
                slot: 0,
            },
        )
    }

    pub(crate) fn pack(self) -> u64 {
        let Token {
            tag,
            generation,
            slot,
        } = self.token;
        assert!(tag < TAGS, "token: tag {tag} does not fit in 4 bits");
        assert!(slot < SLOTS, "token: slot {slot} does not fit in 24 bits");
        (self.kind as u64) << 60
            | u64::from(tag) << 56
            | u64::from(generation) << 40
            | u64::from(self.buffer) << 24
            | u64::from(slot)
    }

    /// `None` if no entry of ours has this `user_data`.
    pub(crate) fn unpack(bits: u64) -> Option<UserData> {
        let kind = *Kind::ALL.get(((bits >> 60) as usize).checked_sub(1)?)?;
        Some(UserData {
            kind,
            token: Token {
                tag: (bits >> 56) as u8 & (TAGS - 1),
                generation: (bits >> 40) as u16,
                slot: bits as u32 & (SLOTS - 1),
            },
            buffer: (bits >> 24) as u16,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_loses_nothing(
            kind in 0..Kind::ALL.len(),
            tag in 0..TAGS,
            generation: u16,
            buffer: u16,
            slot in 0..SLOTS,
        ) {
            let token = Token { tag, generation, slot };
            let data = UserData { kind: Kind::ALL[kind], token, buffer };
            prop_assert_eq!(UserData::unpack(data.pack()), Some(data));
        }

        #[test]
        fn any_other_kind_is_not_ours(kind in 11u64..16, rest in 0u64..1 << 60) {
            prop_assert_eq!(UserData::unpack(kind << 60 | rest), None);
            prop_assert_eq!(UserData::unpack(rest), None);
        }
    }

    #[test]
    fn kinds_are_numbered_by_their_place() {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index + 1);
        }
    }
}
