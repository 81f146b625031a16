//! The addresses users write: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/ringway/web.sock`. Not
//! names: nothing here resolves anything. Invariant: `Display` writes what `FromStr` reads, and a
//! unix path is absolute and fits into `sun_path` of unix(7).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::limits::UNIX_PATH_BYTES_MAX;
use crate::problem::quoted;

/// Where a listener accepts. Port 0 lets the kernel pick a free one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The absolute path of a unix stream socket.
    Unix(PathBuf),
}

/// Where a backend answers: never port 0, the unspecified address or a multicast group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The absolute path of a unix stream socket.
    Unix(PathBuf),
}

/// Where the admin endpoint answers. Reading one refuses an IP address that is not loopback:
/// whoever reaches the endpoint may change the instance, unless changes need a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdminBind {
    /// An address and a port, of loopback where there is no token; port 0 lets the kernel pick a free one.
    Tcp(SocketAddr),
    /// The absolute path of a unix stream socket (mode 0600).
    Unix(PathBuf),
}

impl Default for AdminBind {
    fn default() -> Self {
        AdminBind::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901))
    }
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressError {
    /// An IP address without a port.
    NoPort(String),
    /// A port without an IP address.
    NoIp(String),
    /// What stands after the last `:` is no port from 0 to 65535.
    BadPort(String),
    /// An IPv6 address needs brackets before its port.
    NoBrackets(String),
    /// A name where an IP address is needed.
    Name(String),
    /// A path without `unix:` before it.
    NoUnixPrefix(String),
    /// The path of a unix socket is relative.
    RelativePath(String),
    /// The path of a unix socket is longer than the kernel takes, or holds a NUL.
    BadPath(String),
    /// Port 0 cannot be connected to.
    PortZero,
    /// The unspecified address or a multicast group cannot be connected to.
    NoDestination(IpAddr),
    /// The admin endpoint would be reachable from other machines.
    NotLoopback(SocketAddr),
    /// Anything else.
    Malformed(String),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::NoPort(text) if text.contains(':') => write!(
                f,
                "`{}` has no port: write it in brackets with one, as in \"[::1]:8080\"",
                quoted(text)
            ),
            AddressError::NoPort(text) => {
                write!(
                    f,
                    "`{0}` has no port: write it with one, as in `{0}:8080`",
                    quoted(text)
                )
            }
            AddressError::NoIp(port) => {
                write!(
                    f,
                    "an IP address is missing: write `0.0.0.0:{0}` or `127.0.0.1:{0}`",
                    quoted(port)
                )
            }
            AddressError::BadPort(port) => {
                write!(f, "`{}` is no port: a number from 0 to 65535", quoted(port))
            }
            AddressError::NoBrackets(text) => {
                write!(
                    f,
                    "`{}`: an IPv6 address needs brackets, as in \"[::1]:8080\"",
                    quoted(text)
                )
            }
            AddressError::Name(name) => write!(
                f,
                "`{}` is a name, and names are not resolved yet: an IP address is needed",
                quoted(name)
            ),
            AddressError::NoUnixPrefix(path) => {
                write!(
                    f,
                    "a path needs `unix:` before it: write `unix:{}`",
                    quoted(path)
                )
            }
            AddressError::RelativePath(path) => {
                write!(
                    f,
                    "`unix:{}`: the path must be absolute, as in `unix:/run/web.sock`",
                    quoted(path)
                )
            }
            AddressError::BadPath(path) => write!(
                f,
                "`unix:{}`: the path must have 1 to {UNIX_PATH_BYTES_MAX} bytes and no NUL",
                quoted(path)
            ),
            AddressError::PortZero => write!(f, "port 0 cannot be connected to"),
            AddressError::NoDestination(ip) => {
                write!(
                    f,
                    "{ip} cannot be connected to: write the backend's own address"
                )
            }
            AddressError::NotLoopback(address) => write!(
                f,
                "{address} is reachable from other machines, and who reaches it may change this \
                 instance: bind a loopback address or `unix:/path`"
            ),
            AddressError::Malformed(text) => write!(
                f,
                "`{}` is no address: write IP:PORT, as in `127.0.0.1:8080` or \"[::1]:8080\", or \
                 `unix:/path`",
                quoted(text)
            ),
        }
    }
}

impl std::error::Error for AddressError {}

impl FromStr for BindAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Ok(match parse(text)? {
            Parsed::Tcp(address) => BindAddress::Tcp(address),
            Parsed::Unix(path) => BindAddress::Unix(path),
        })
    }
}

impl FromStr for BackendAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match parse(text)? {
            Parsed::Tcp(address) if address.port() == 0 => Err(AddressError::PortZero),
            Parsed::Tcp(address)
                if address.ip().is_unspecified() || address.ip().is_multicast() =>
            {
                Err(AddressError::NoDestination(address.ip()))
            }
            Parsed::Tcp(address) => Ok(BackendAddress::Tcp(address)),
            Parsed::Unix(path) => Ok(BackendAddress::Unix(path)),
        }
    }
}

impl FromStr for AdminBind {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        AdminBind::try_from(text.parse::<BindAddress>()?)
    }
}

impl AdminBind {
    /// Any address: changes need a token.
    pub(crate) fn with_token(address: BindAddress) -> AdminBind {
        match address {
            BindAddress::Tcp(address) => AdminBind::Tcp(address),
            BindAddress::Unix(path) => AdminBind::Unix(path),
        }
    }
}

impl TryFrom<BindAddress> for AdminBind {
    type Error = AddressError;

    fn try_from(address: BindAddress) -> Result<Self, AddressError> {
        match address {
            BindAddress::Tcp(address) if address.ip().to_canonical().is_loopback() => {
                Ok(AdminBind::Tcp(address))
            }
            BindAddress::Tcp(address) => Err(AddressError::NotLoopback(address)),
            BindAddress::Unix(path) => Ok(AdminBind::Unix(path)),
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindAddress::Tcp(address) => write!(f, "{address}"),
            BindAddress::Unix(path) => write_unix(f, path),
        }
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendAddress::Tcp(address) => write!(f, "{address}"),
            BackendAddress::Unix(path) => write_unix(f, path),
        }
    }
}

impl fmt::Display for AdminBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminBind::Tcp(address) => write!(f, "{address}"),
            AdminBind::Unix(path) => write_unix(f, path),
        }
    }
}

impl BindAddress {
    /// Whether connecting to `backend` would come back to a socket bound here.
    pub(crate) fn is_reached_by(&self, backend: &BackendAddress) -> bool {
        match (self, backend) {
            (BindAddress::Tcp(bind), BackendAddress::Tcp(backend)) => {
                bind.port() == backend.port()
                    && (bind.ip() == backend.ip()
                        || (bind.ip().is_unspecified()
                            && backend.ip().to_canonical().is_loopback()))
            }
            (BindAddress::Unix(bind), BackendAddress::Unix(backend)) => bind == backend,
            (BindAddress::Tcp(_), BackendAddress::Unix(_))
            | (BindAddress::Unix(_), BackendAddress::Tcp(_)) => false,
        }
    }

    /// Whether the kernel picks the port, so that binding twice gives two sockets.
    pub(crate) fn is_any_port(&self) -> bool {
        match self {
            BindAddress::Tcp(address) => address.port() == 0,
            BindAddress::Unix(_) => false,
        }
    }
}

impl From<AdminBind> for BindAddress {
    fn from(admin: AdminBind) -> Self {
        match admin {
            AdminBind::Tcp(address) => BindAddress::Tcp(address),
            AdminBind::Unix(path) => BindAddress::Unix(path),
        }
    }
}

fn write_unix(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    write!(f, "unix:{}", path.display())
}

enum Parsed {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

fn parse(text: &str) -> Result<Parsed, AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.len() > UNIX_PATH_BYTES_MAX || path.is_empty() || path.contains('\0') {
            Err(AddressError::BadPath(path.to_owned()))
        } else if !path.starts_with('/') {
            Err(AddressError::RelativePath(path.to_owned()))
        } else {
            Ok(Parsed::Unix(PathBuf::from(path)))
        };
    }
    text.parse::<SocketAddr>()
        .map(Parsed::Tcp)
        .map_err(|_| diagnose(text))
}

/// What is wrong with a text that is no socket address.
fn diagnose(text: &str) -> AddressError {
    let own = text.to_owned();
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return AddressError::NoPort(own);
    }
    if text.starts_with('/') {
        return AddressError::NoUnixPrefix(own);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return match text {
            _ if is_port(text) => AddressError::NoIp(own),
            _ if is_name(text) => AddressError::Name(own),
            _ => AddressError::Malformed(own),
        };
    };
    let is_ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    let is_ip = is_ipv6 || host.parse::<Ipv4Addr>().is_ok();
    match host {
        "" | "*" if is_port(port) => AddressError::NoIp(port.to_owned()),
        _ if is_ip => AddressError::BadPort(port.to_owned()),
        _ if host.parse::<Ipv6Addr>().is_ok() => AddressError::NoBrackets(own),
        _ if is_name(host) => AddressError::Name(host.to_owned()),
        _ => AddressError::Malformed(own),
    }
}

/// Whether the text looks like a host name: its last label holds a letter.
fn is_name(text: &str) -> bool {
    let is_label_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or("");
    text.chars().all(is_label_character) && last.chars().any(|c| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_back() {
        for text in [
            "0.0.0.0:8080",
            "[::]:0",
            "[fe80::1%3]:80",
            "unix:/run/a b.sock",
        ] {
            assert_eq!(
                text.parse::<BindAddress>().map(|a| a.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["10.0.0.1:1", "[2001:db8::1]:65535", "unix:/x"] {
            assert_eq!(
                text.parse::<BackendAddress>().map(|a| a.to_string()),
                Ok(text.to_owned())
            );
        }
        assert_eq!(AdminBind::default().to_string(), "127.0.0.1:9901");
    }

    #[test]
    fn what_is_wrong_is_named() {
        use AddressError as E;
        let own = str::to_owned;
        let long = format!("/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        for (text, error) in [
            ("127.0.0.1", E::NoPort(own("127.0.0.1"))),
            ("::1", E::NoPort(own("::1"))),
            ("[::1]", E::NoPort(own("[::1]"))),
            ("8080", E::NoIp(own("8080"))),
            (":8080", E::NoIp(own("8080"))),
            ("*:8080", E::NoIp(own("8080"))),
            ("127.0.0.1:70000", E::BadPort(own("70000"))),
            ("127.0.0.1:", E::BadPort(own(""))),
            ("[::1]:http", E::BadPort(own("http"))),
            ("fe80::1:x", E::NoBrackets(own("fe80::1:x"))),
            ("fe80::g:1", E::Malformed(own("fe80::g:1"))),
            (
                "2001:db8:0:0:0:0:0:1:443",
                E::NoBrackets(own("2001:db8:0:0:0:0:0:1:443")),
            ),
            ("localhost:9001", E::Name(own("localhost"))),
            ("web-1.internal", E::Name(own("web-1.internal"))),
            ("999.1.1.1:80", E::Malformed(own("999.1.1.1:80"))),
            ("/run/x.sock", E::NoUnixPrefix(own("/run/x.sock"))),
            ("unix:run/x.sock", E::RelativePath(own("run/x.sock"))),
            ("unix:@x", E::RelativePath(own("@x"))),
            ("unix:", E::BadPath(own(""))),
            (&format!("unix:{long}"), E::BadPath(long.clone())),
            ("", E::Malformed(own(""))),
        ] {
            assert_eq!(text.parse::<BindAddress>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_backend_can_be_connected_to() {
        for text in [
            "127.0.0.1:0",
            "0.0.0.0:80",
            "[::]:80",
            "224.0.0.1:80",
            "[ff02::1]:80",
        ] {
            assert!(text.parse::<BindAddress>().is_ok(), "{text}");
            assert!(text.parse::<BackendAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_admin_endpoint_is_local() {
        for text in [
            "127.0.0.1:0",
            "127.9.9.9:1",
            "[::1]:9901",
            "[::ffff:127.0.0.1]:1",
            "unix:/x",
        ] {
            assert!(text.parse::<AdminBind>().is_ok(), "{text}");
        }
        for text in ["0.0.0.0:9901", "[::]:9901", "10.0.0.1:9901"] {
            assert!(matches!(
                text.parse::<AdminBind>(),
                Err(AddressError::NotLoopback(_))
            ));
        }
    }

    #[test]
    fn a_loop_is_seen() {
        let reached = |bind: &str, backend: &str| {
            let bind: BindAddress = bind.parse().expect("a bind address");
            bind.is_reached_by(&backend.parse().expect("a backend address"))
        };
        assert!(reached("127.0.0.1:80", "127.0.0.1:80"));
        assert!(reached("0.0.0.0:80", "127.0.0.1:80"));
        assert!(reached("[::]:80", "[::1]:80"));
        assert!(reached("unix:/a", "unix:/a"));
        assert!(!reached("0.0.0.0:80", "10.0.0.1:80"));
        assert!(!reached("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!reached("unix:/a", "127.0.0.1:80"));
    }
}
