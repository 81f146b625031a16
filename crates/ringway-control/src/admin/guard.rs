//! Who may change the instance, and how large a request may be.
//!
//! The endpoint is on loopback or in a file of its owner. On loopback there are browsers, and any
//! page on the web can make one send a POST here, or look up a name of its own as 127.0.0.1 (DNS
//! rebinding). So a request that changes something must name this host by address or `localhost`,
//! and must not come from a page of elsewhere.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::routes::refusal;

/// Largest body of a request.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// Who can reach the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every program on this host, browsers among them.
    Browsers,
    /// Whoever may open the socket's file.
    FileOwner,
}

pub(crate) async fn check(State(reach): State<Reach>, request: Request, next: Next) -> Response {
    let refused = if body_bytes(request.headers()) > BODY_BYTES_MAX {
        Some((
            StatusCode::PAYLOAD_TOO_LARGE,
            "a request has at most 64 KiB",
        ))
    } else if reach == Reach::Browsers && changes(request.method()) && !is_local(request.headers())
    {
        let text = "changes are taken from this host only: the header Host must be an IP address \
                    or localhost, and Origin must be the same";
        Some((StatusCode::FORBIDDEN, text))
    } else {
        None
    };
    match refused {
        Some((status, text)) => refusal(status, text).into_response(),
        None => next.run(request).await,
    }
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What the request announces; one of unknown length counts as nothing, and no handler reads it.
fn body_bytes(headers: &HeaderMap) -> u64 {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or("?");
    let is_same = |origin: &str| origin.strip_prefix("http://") == Some(host);
    names_this_host(host) && text(header::ORIGIN).is_none_or(is_same)
}

/// Whether it is `localhost` or an IP address, with or without a port.
fn names_this_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn changes_come_from_this_host() {
        let host = |host| headers(&[(header::HOST, host)]);
        for local in [
            "127.0.0.1:9901",
            "127.0.0.1",
            "localhost:9901",
            "[::1]:9901",
            "[::1]",
        ] {
            assert!(is_local(&host(local)), "{local}");
        }
        for foreign in [
            "evil.example:9901",
            "localhost.evil.example",
            "",
            "[x]",
            ":9901",
        ] {
            assert!(!is_local(&host(foreign)), "{foreign}");
        }
        assert!(!is_local(&HeaderMap::new()));
    }

    #[test]
    fn a_page_from_elsewhere_changes_nothing() {
        let from = |origin| {
            is_local(&headers(&[
                (header::HOST, "127.0.0.1:9901"),
                (header::ORIGIN, origin),
            ]))
        };
        assert!(from("http://127.0.0.1:9901"));
        for foreign in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:80",
            "https://127.0.0.1:9901",
        ] {
            assert!(!from(foreign), "{foreign}");
        }
    }

    #[test]
    fn reading_changes_nothing() {
        assert!(!changes(&Method::GET) && !changes(&Method::HEAD));
        assert!(changes(&Method::POST) && changes(&Method::PATCH) && changes(&Method::DELETE));
    }
}
