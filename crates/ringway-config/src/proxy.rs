//! A configuration without a file: one listener, one pool, for the command line. Invariant: what
//! comes out keeps the same promises as a configuration that was read from a file.

use std::collections::BTreeSet;
use std::fmt;

use ringway_balance::Algorithm;

use crate::address::{AdminBind, BackendAddress, BindAddress};
use crate::model::{Backend, Config, HealthCheck, Listener, Pool, Workers};

/// What `ringway proxy` takes from its command line.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Where to accept; at least one.
    pub listen: Vec<BindAddress>,
    /// Where to connect to; at least one.
    pub to: Vec<BackendAddress>,
    /// How connections are spread.
    pub algorithm: Algorithm,
    /// Active checks; `None` is off.
    pub health: Option<HealthCheck>,
    /// How many workers.
    pub workers: Workers,
    /// Where the admin endpoint answers; `None` is off.
    pub admin: Option<AdminBind>,
}

impl Proxy {
    /// The defaults of a file.
    pub fn new(listen: Vec<BindAddress>, to: Vec<BackendAddress>) -> Self {
        Proxy {
            listen,
            to,
            algorithm: Algorithm::LeastConnections,
            health: Some(HealthCheck::default()),
            workers: Workers::default(),
            admin: Some(AdminBind::default()),
        }
    }
}

/// Why a [`Proxy`] is no configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyError {
    /// No address to accept on.
    NoListen,
    /// No backend.
    NoBackend,
    /// The same address to accept on twice, or also as the admin endpoint.
    ListenTwice(BindAddress),
    /// The same backend twice.
    BackendTwice(BackendAddress),
    /// The backend is the listener itself.
    Loop(BackendAddress),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::NoListen => write!(f, "no address to listen on"),
            ProxyError::NoBackend => write!(f, "no backend to connect to"),
            ProxyError::ListenTwice(address) => write!(f, "{address} would be bound twice"),
            ProxyError::BackendTwice(address) => write!(f, "the backend {address} is given twice"),
            ProxyError::Loop(address) => {
                write!(
                    f,
                    "the backend {address} is the listener itself: it would connect to itself"
                )
            }
        }
    }
}

impl std::error::Error for ProxyError {}

impl Config {
    /// One listener and one pool, both named `proxy`, and the contract's defaults for the rest.
    ///
    /// # Errors
    /// When the addresses cannot work together.
    pub fn for_proxy(proxy: Proxy) -> Result<Config, ProxyError> {
        check(&proxy)?;
        let backends = proxy.to.into_iter().map(Backend::new).collect();
        let mut pool = Pool::new("proxy", backends);
        pool.algorithm = proxy.algorithm;
        pool.health = proxy.health;
        let mut config = Config::new(vec![Listener::new("proxy", proxy.listen, 0)], vec![pool]);
        config.workers = proxy.workers;
        config.admin = proxy.admin;
        Ok(config)
    }
}

fn check(proxy: &Proxy) -> Result<(), ProxyError> {
    if proxy.listen.is_empty() {
        return Err(ProxyError::NoListen);
    }
    if proxy.to.is_empty() {
        return Err(ProxyError::NoBackend);
    }
    let mut bound = BTreeSet::new();
    for address in proxy
        .listen
        .iter()
        .cloned()
        .chain(proxy.admin.clone().map(BindAddress::from))
    {
        if !address.is_any_port() && !bound.insert(address.clone()) {
            return Err(ProxyError::ListenTwice(address));
        }
    }
    let mut seen = BTreeSet::new();
    for address in &proxy.to {
        if !seen.insert(address) {
            return Err(ProxyError::BackendTwice(address.clone()));
        }
        if proxy.listen.iter().any(|bind| bind.is_reached_by(address)) {
            return Err(ProxyError::Loop(address.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(listen: &[&str], to: &[&str]) -> Proxy {
        Proxy::new(
            listen
                .iter()
                .map(|text| text.parse().expect("a bind address"))
                .collect(),
            to.iter()
                .map(|text| text.parse().expect("a backend address"))
                .collect(),
        )
    }

    #[test]
    fn a_proxy_equals_the_file_that_says_the_same() {
        let text = "listeners: {proxy: {bind: ['127.0.0.1:0', '[::1]:0'], pool: proxy}}\n\
                    pools: {proxy: {backends: [{address: '127.0.0.1:9001'}, {address: 'unix:/x'}]}}\n";
        let config = Config::for_proxy(proxy(
            &["127.0.0.1:0", "[::1]:0"],
            &["127.0.0.1:9001", "unix:/x"],
        ));
        assert_eq!(config, Ok(crate::parse("proxy.yaml", text).expect("valid")));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let refused = |listen: &[&str], to: &[&str]| {
            Config::for_proxy(proxy(listen, to))
                .map_err(|error| error.to_string())
                .err()
        };
        let (a, b) = ("127.0.0.1:80", "127.0.0.1:81");
        assert_eq!(refused(&[a], &[b]), None);
        assert_eq!(refused(&["127.0.0.1:0", "127.0.0.1:0"], &[b]), None);
        assert_eq!(
            refused(&[], &[b]).as_deref(),
            Some("no address to listen on")
        );
        assert_eq!(
            refused(&[a], &[]).as_deref(),
            Some("no backend to connect to")
        );
        assert_eq!(
            refused(&[a, a], &[b]).as_deref(),
            Some("127.0.0.1:80 would be bound twice")
        );
        let admin = refused(&["127.0.0.1:9901"], &[b]);
        assert_eq!(
            admin.as_deref(),
            Some("127.0.0.1:9901 would be bound twice")
        );
        let twice = refused(&[a], &[b, b]);
        assert_eq!(
            twice.as_deref(),
            Some("the backend 127.0.0.1:81 is given twice")
        );
        let itself = refused(&["0.0.0.0:81"], &[b]);
        assert!(itself.is_some_and(|message| message.contains("connect to itself")));
    }
}
