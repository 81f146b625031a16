//! What is asked: the parameters of a request, each read by itself. Not the answer. Invariant: whatever is wrong
//! names its parameter, and where a name was meant, the nearest that there is.

use std::net::{IpAddr, SocketAddr};

use ringway_config::{BindAddress, Config, Listener, ProxyProtocolMode, nearest};
use ringway_wire::{AlpnProtocol, HostName};
use ringway_worker::Visitor;

/// Every parameter.
const PARAMETERS: [&str; 5] = ["listener", "source", "sni", "alpn", "sender"];

/// A question that can be answered.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The place of the listener in the configuration.
    pub(super) listener: usize,
    pub(super) visitor: Visitor,
}

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) kind: WrongKind,
    /// What is wrong, with the parameter that is.
    pub(crate) error: String,
    /// What could have been written.
    pub(crate) detail: Vec<String>,
}

/// What kind of wrong it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrongKind {
    /// A parameter.
    Parameter,
    /// There is no listener of that name.
    NoListener,
    /// Another configuration is about to run.
    Reloading,
}

impl Wrong {
    fn parameter(name: &str, what: impl std::fmt::Display) -> Wrong {
        Wrong {
            kind: WrongKind::Parameter,
            error: format!("{name}: {what}"),
            detail: Vec::new(),
        }
    }
}

impl Question {
    pub(super) fn read(config: &Config, pairs: &[(String, String)]) -> Result<Question, Wrong> {
        refuse_unknown(pairs)?;
        let value = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let listener = listener(config, value("listener"))?;
        let at = &config.listeners[listener];
        let source = value("source").map(|text| address("source", text));
        let sender = value("sender").map(|text| address("sender", text));
        let (source, sender) = (source.transpose()?, sender.transpose()?);
        Ok(Question {
            listener,
            visitor: Visitor {
                source: who(at, source, sender)?,
                sender,
                name: value("sni").map(name).transpose()?,
                protocols: value("alpn").map_or_else(|| Ok(Vec::new()), protocols)?,
            },
        })
    }
}

fn refuse_unknown(pairs: &[(String, String)]) -> Result<(), Wrong> {
    for (at, (key, _)) in pairs.iter().enumerate() {
        if !PARAMETERS.contains(&key.as_str()) {
            let near = nearest(key, PARAMETERS);
            let mean = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let what = format!("there is no such parameter{mean}");
            return Err(Wrong {
                detail: PARAMETERS.map(str::to_owned).into(),
                ..Wrong::parameter(&key.escape_default().to_string(), what)
            });
        }
        if pairs[..at].iter().any(|(before, _)| before == key) {
            return Err(Wrong::parameter(key, "it is given twice"));
        }
    }
    Ok(())
}

fn listener(config: &Config, name: Option<&str>) -> Result<usize, Wrong> {
    let names = || {
        config
            .listeners
            .iter()
            .map(|listener| listener.name.as_str())
    };
    let detail = || names().map(str::to_owned).collect();
    let Some(name) = name else {
        return Err(Wrong {
            detail: detail(),
            ..Wrong::parameter("listener", "it is missing: give the name of one")
        });
    };
    names().position(|known| known == name).ok_or_else(|| {
        let near = nearest(name, names());
        let mean = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        let what = format!("there is no `{}`{mean}", name.escape_default());
        Wrong {
            kind: WrongKind::NoListener,
            detail: detail(),
            ..Wrong::parameter("listener", what)
        }
    })
}

/// A port decides nothing but which worker the kernel chooses, so it may be left out.
fn address(parameter: &str, text: &str) -> Result<SocketAddr, Wrong> {
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    text.parse::<SocketAddr>().or_else(|_| bare()).map_err(|_| {
        let text = text.escape_default();
        let what = format!("`{text}` is no address: write 192.0.2.1:5000 or [2001:db8::1]:5000");
        Wrong::parameter(parameter, what)
    })
}

/// Whose address counts.
fn who(
    at: &Listener,
    source: Option<SocketAddr>,
    sender: Option<SocketAddr>,
) -> Result<Option<SocketAddr>, Wrong> {
    let announces = at.proxy_protocol.mode == ProxyProtocolMode::Required;
    if sender.is_some() && !announces {
        let what = format!(
            "listener `{}` takes no PROXY header: who connects is `source`",
            at.name
        );
        return Err(Wrong::parameter("sender", what));
    }
    let by_file = at
        .binds
        .iter()
        .any(|bind| matches!(bind, BindAddress::Unix(_)));
    match source.or(sender) {
        None if !by_file => {
            let what = "it is missing: give the client's address and port, such as 192.0.2.1:5000";
            Err(Wrong::parameter("source", what))
        }
        known => Ok(known),
    }
}

fn name(text: &str) -> Result<HostName, Wrong> {
    HostName::new(text.as_bytes()).map_err(|_| {
        let text = text.escape_default();
        let what = format!("`{text}` is no server name; such a one counts as none: leave it out");
        Wrong::parameter("sni", what)
    })
}

fn protocols(text: &str) -> Result<Vec<AlpnProtocol>, Wrong> {
    let names = text.split(',').map(str::as_bytes).map(AlpnProtocol::new);
    names.collect::<Option<Vec<_>>>().ok_or_else(|| {
        let what =
            "write protocols of 1 to 255 bytes with commas between them, such as h2,http/1.1";
        Wrong::parameter("alpn", what)
    })
}

#[cfg(test)]
mod tests {
    use ringway_config::{Backend, Pool};

    use super::*;

    fn config() -> Config {
        let bind = |text: &str| vec![text.parse().unwrap()];
        let mut announced = Listener::new("announced", bind("127.0.0.1:1"), 0);
        announced.proxy_protocol.mode = ProxyProtocolMode::Required;
        let backend = Backend::new("127.0.0.1:1".parse().unwrap());
        Config::new(
            vec![
                Listener::new("web", bind("127.0.0.1:2"), 0),
                announced,
                Listener::new("file", bind("unix:/run/x"), 0),
            ],
            vec![Pool::new("p", vec![backend])],
        )
    }

    fn read(text: &str) -> Result<Question, Wrong> {
        let pairs: Vec<(String, String)> = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Question::read(&config(), &pairs)
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_meant() {
        for (text, words) in [
            ("", "listener: it is missing"),
            (
                "listener=wbe&source=1.2.3.4:5",
                "listener: there is no `wbe`; did you mean `web`?",
            ),
            ("listener=zzzzzz", "listener: there is no `zzzzzz`"),
            (
                "listner=web",
                "listner: there is no such parameter; did you mean `listener`?",
            ),
            ("listener=web&listener=web", "listener: it is given twice"),
            ("listener=web", "source: it is missing"),
            ("listener=web&source=here", "source: `here` is no address"),
            (
                "listener=web&source=1.2.3.4:70000",
                "source: `1.2.3.4:70000` is no address",
            ),
            (
                "listener=web&source=1.2.3.4:5&sender=1.2.3.4:5",
                "sender: listener `web` takes no PROXY header",
            ),
            (
                "listener=announced&source=1.2.3.4:5&sender=x",
                "sender: `x` is no address",
            ),
            (
                "listener=web&source=1.2.3.4:5&sni=a b",
                "sni: `a b` is no server name",
            ),
            (
                "listener=web&source=1.2.3.4:5&alpn=h2,",
                "alpn: write protocols",
            ),
        ] {
            let wrong = read(text).unwrap_err();
            assert!(wrong.error.starts_with(words), "{text}: {}", wrong.error);
        }
        let missing = read("listener=x").unwrap_err();
        assert_eq!(missing.detail, ["web", "announced", "file"]);
        assert_eq!(missing.kind, WrongKind::NoListener);
    }

    #[test]
    fn whose_address_counts_depends_on_the_listener() {
        let source = |text: &str| read(text).unwrap().visitor.source.map(|at| at.to_string());
        let known = |text: &str| Some(text.to_owned());
        assert_eq!(source("listener=web&source=1.2.3.4:5"), known("1.2.3.4:5"));
        assert_eq!(source("listener=web&source=::1"), known("[::1]:0"));
        assert_eq!(
            source("listener=announced&sender=9.9.9.9:1"),
            known("9.9.9.9:1")
        );
        assert_eq!(
            source("listener=announced&source=1.2.3.4:5&sender=9.9.9.9:1"),
            known("1.2.3.4:5")
        );
        assert_eq!(source("listener=file"), None);
    }
}
