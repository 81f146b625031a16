//! `peer`: proxies of a few lines each on other runtimes, as baselines. Not products: they set
//! TCP_NODELAY and relay, and have no limits, no timeouts and no counters, which favours them.
//! Invariant: half-close is passed on in both directions.

mod monoio;
mod tokio;

use std::io;
use std::net::SocketAddr;

use crate::cli::{Peer, Runtime};

/// Serves until killed.
pub(crate) fn run(args: &Peer) -> io::Result<()> {
    match args.runtime {
        Runtime::Tokio => tokio::serve(&args.relays),
        Runtime::Monoio => monoio::serve(&args.relays),
    }
}

/// From where to where: connections take turns over the backends.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    pub(crate) listen: SocketAddr,
    pub(crate) backends: Vec<SocketAddr>,
}

impl std::str::FromStr for Relay {
    type Err = String;

    fn from_str(text: &str) -> Result<Relay, String> {
        let wrong = || format!("`{text}` is no relay: write LISTEN=BACKEND[+BACKEND...]");
        let (listen, backends) = text.split_once('=').ok_or_else(wrong)?;
        let backends = backends
            .split('+')
            .map(str::parse)
            .collect::<Result<_, _>>();
        Ok(Relay {
            listen: listen.parse().map_err(|_| wrong())?,
            backends: backends.map_err(|_| wrong())?,
        })
    }
}

impl Relay {
    /// The backend of connection `number`.
    fn backend(&self, number: usize) -> SocketAddr {
        self.backends[number % self.backends.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_takes_turns_over_its_backends() {
        let relay: Relay = "127.0.0.1:1=127.0.0.1:2+127.0.0.1:3".parse().unwrap();
        let ports: Vec<u16> = (0..3).map(|number| relay.backend(number).port()).collect();
        assert_eq!((relay.listen.port(), ports), (1, vec![2, 3, 2]));
        for wrong in ["", "127.0.0.1:1", "127.0.0.1:1=", "x=127.0.0.1:1"] {
            assert!(wrong.parse::<Relay>().is_err(), "{wrong}");
        }
    }
}
