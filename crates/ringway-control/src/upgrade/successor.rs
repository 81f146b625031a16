//! The side of the new process: it takes the sockets, proves itself, and waits for its turn.
//!
//! Invariant: it accepts nothing before it was told to, and it says why before it gives up.

use std::time::{Duration, Instant};

use serde_json::from_slice;

use super::channel::{Channel, ReceiveError};
use super::message::{FromNew, FromOld, Manifest, PROTOCOL, Spoken};
use crate::error::StartError;
use crate::inherited::{Heirloom, Heirlooms, Inheritance};
use crate::overrides::Overrides;

/// For each message of a process that has nothing else to do.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at what has no bell.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Places in one message.
const PLACES_MAX: usize = 4096;

/// A process on its way to take another's place.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Channel,
    /// Cookies of what was received, in its order.
    received: Vec<u64>,
    /// When it has to be prepared.
    deadline: Instant,
}

/// Gives up, and says why.
pub(crate) fn refuse(channel: &Channel, reason: &str) {
    let reasons = reason.lines().map(str::to_owned).collect();
    let refused = FromNew::Refused {
        protocol: PROTOCOL,
        reasons,
    };
    // The other one may have given up before.
    let _ = channel.send(&refused, &[], ANSWER_WITHIN);
}

impl Successor {
    /// Takes the sockets.
    pub(crate) fn begin(channel: Channel) -> Result<(Successor, Inheritance), StartError> {
        match receive(&channel) {
            Ok((manifest, overrides, heirlooms)) => {
                let within = Duration::from_millis(manifest.prepared_within_ms);
                let successor = Successor {
                    channel,
                    received: heirlooms.iter().map(|one| one.cookie).collect(),
                    deadline: Instant::now() + within,
                };
                let inheritance = Inheritance {
                    channel: None,
                    heirlooms: Heirlooms::of(heirlooms),
                    overrides,
                };
                Ok((successor, inheritance))
            }
            Err(error) => {
                refuse(&channel, &error.to_string());
                Err(error)
            }
        }
    }

    pub(crate) fn refuse(&self, reason: &str) {
        refuse(&self.channel, reason);
    }

    /// Waits for what is to be seen first, for half of the time there is at most, and not when the
    /// other one has gone.
    pub(crate) fn wait_for(&self, mut is_seen: impl FnMut() -> bool) {
        let now = Instant::now();
        let until = now + self.deadline.saturating_duration_since(now) / 2;
        while !is_seen() && Instant::now() < until && !self.channel.has_news() {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Says that nothing can fail any more, and waits for its turn. `declined` are the cookies of
    /// sockets it has closed.
    pub(crate) fn prepared(&self, version: &str, declined: &[u64]) -> Result<(), StartError> {
        let places = self.received.iter().enumerate();
        let places = places.filter(|(_, cookie)| declined.contains(cookie));
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        for places in places.chunks(PLACES_MAX) {
            let places = places.to_vec();
            self.send(&FromNew::Declined { places })?;
        }
        self.send(&FromNew::Prepared {
            protocol: PROTOCOL,
            version: version.to_owned(),
        })?;
        match self.channel.receive(ANSWER_WITHIN) {
            Ok((FromOld::Go, _)) => Ok(()),
            Ok((other, _)) => Err(failed(format!("{other:?} in place of its go"))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Says that it accepts, and waits until it is the only one. From here on nothing the other one
    /// does matters any more.
    pub(crate) fn accepting(self) {
        if self
            .channel
            .send(&FromNew::Accepting, &[], ANSWER_WITHIN)
            .is_ok()
        {
            let _: Result<(FromOld, _), _> = self.channel.receive(ANSWER_WITHIN);
        }
    }

    fn send(&self, message: &FromNew) -> Result<(), StartError> {
        let sent = self.channel.send(message, &[], ANSWER_WITHIN);
        sent.map_err(|error| failed(error.to_string()))
    }
}

fn receive(channel: &Channel) -> Result<(Manifest, Overrides, Vec<Heirloom>), StartError> {
    let said = |error: ReceiveError| failed(error.to_string());
    let (bytes, _) = channel.receive_raw(ANSWER_WITHIN).map_err(said)?;
    let spoken: Spoken = from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    if spoken.protocol != PROTOCOL {
        return Err(StartError::Upgrade(format!(
            "the running process hands over by protocol {}, this one by {PROTOCOL}: restart instead \
             of an upgrade, or upgrade by a version in between",
            spoken.protocol
        )));
    }
    let manifest = match from_slice(&bytes) {
        Ok(FromOld::Manifest(manifest)) => manifest,
        Ok(other) => return Err(failed(format!("{other:?} in place of a manifest"))),
        Err(error) => return Err(failed(error.to_string())),
    };
    let mut asked = Vec::new();
    while asked.len() < manifest.asked {
        match channel.receive(ANSWER_WITHIN).map_err(said)? {
            (FromOld::Asked { entries }, _) if !entries.is_empty() => asked.extend(entries),
            (other, _) => return Err(failed(format!("{other:?} in place of what was asked for"))),
        }
    }
    let overrides = Overrides::told(asked).map_err(failed)?;
    let mut heirlooms = Vec::new();
    while heirlooms.len() < manifest.sockets {
        let (message, fds) = channel.receive(ANSWER_WITHIN).map_err(said)?;
        let FromOld::Sockets { entries } = message else {
            return Err(failed(format!("{message:?} in place of sockets")));
        };
        if entries.len() != fds.len() || entries.is_empty() {
            let text = format!("{} sockets with {} descriptors", entries.len(), fds.len());
            return Err(failed(text));
        }
        for (fd, entry) in fds.into_iter().zip(entries) {
            let what = entry.bound.clone();
            let socket = Heirloom::checked(fd, entry);
            heirlooms.push(socket.map_err(|source| StartError::Inherited { what, source })?);
        }
    }
    Ok((manifest, overrides, heirlooms))
}

fn failed(text: String) -> StartError {
    StartError::Upgrade(format!("the running process has not handed over: {text}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;
    use crate::upgrade::message::{Asked, Entry, Role};

    const SOON: Duration = Duration::from_secs(5);

    fn manifest(protocol: u32, sockets: usize) -> FromOld {
        FromOld::Manifest(Manifest {
            protocol,
            version: "0".into(),
            sockets,
            asked: 0,
            prepared_within_ms: 1000,
        })
    }

    fn entry(bound: &str) -> Entry {
        Entry {
            role: Role::Listener,
            name: "web".into(),
            configured: bound.into(),
            bound: bound.into(),
            worker: 0,
            file: None,
            is_managers: false,
            options: None,
        }
    }

    /// What the new process answers to these messages.
    fn refusal_of(messages: &[FromOld], fds: &[std::os::fd::BorrowedFd<'_>]) -> String {
        let (old, new) = Channel::pair().unwrap();
        for message in messages {
            let fds = match message {
                FromOld::Sockets { .. } => fds,
                FromOld::Manifest(_) | FromOld::Asked { .. } | FromOld::Go | FromOld::Yours => &[],
            };
            old.send(message, fds, SOON).unwrap();
        }
        let error = Successor::begin(Channel::of(new).unwrap()).unwrap_err();
        let (answer, _) = old.receive(SOON).unwrap();
        let FromNew::Refused { protocol, reasons } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(protocol, PROTOCOL);
        assert_eq!(reasons.join("\n"), error.to_string());
        error.to_string()
    }

    #[test]
    fn another_protocol_is_refused_by_its_number() {
        let text = refusal_of(&[manifest(99, 0)], &[]);
        assert!(text.contains("protocol 99"), "{text}");
    }

    #[test]
    fn wrong_missing_and_extra_descriptors_are_refused() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = socket.local_addr().unwrap().to_string();
        let sockets = |entries| FromOld::Sockets { entries };
        let file = tempfile::tempfile().unwrap();
        for (entries, fds, words) in [
            (vec![entry(&bound)], vec![file.as_fd()], "socket"),
            (
                vec![entry("127.0.0.1:1")],
                vec![socket.as_fd()],
                "said to be",
            ),
            (vec![entry(&bound)], vec![], "0 descriptors"),
            (
                vec![entry(&bound)],
                vec![socket.as_fd(); 2],
                "2 descriptors",
            ),
            (vec![], vec![], "0 sockets"),
        ] {
            let text = refusal_of(&[manifest(PROTOCOL, 1), sockets(entries)], &fds);
            assert!(text.contains(words), "{text}");
        }
        let unknown = Asked {
            pool: "p".into(),
            address: "10.0.0.1:1".into(),
            state: "gone".into(),
            weight: None,
        };
        for (entries, words) in [
            (vec![unknown], "state `gone`"),
            (vec![], "in place of what"),
        ] {
            let first = FromOld::Manifest(Manifest {
                protocol: PROTOCOL,
                version: "0".into(),
                sockets: 0,
                asked: 1,
                prepared_within_ms: 1000,
            });
            let text = refusal_of(&[first, FromOld::Asked { entries }], &[]);
            assert!(text.contains(words), "{text}");
        }
        let text = refusal_of(&[manifest(PROTOCOL, 1), FromOld::Go], &[]);
        assert!(text.contains("in place of sockets"), "{text}");
        let text = refusal_of(&[FromOld::Sockets { entries: vec![] }], &[]);
        assert!(text.contains("has not handed over"), "{text}");
    }
}
