//! Who may change the instance, and how large a request may be.
//!
//! Where there is a token (`token.rs`), changes need it and nothing else: no page can send what it does
//! not know. Where there is none, the endpoint is on loopback or in a file of its owner. On loopback there
//! are browsers, and any page on the web can make one send a POST here, or look up a name of its own as
//! 127.0.0.1 (DNS rebinding). So a request that changes something must name this host by address or
//! `localhost`, and must not come from a page of elsewhere. Reading is free: who can connect can read.
//!
//! Invariant: every request that changes something, or tried to, is one line of the log.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use tracing::{info, warn};

use super::bounded::Peer;
use super::routes::refusal;
use super::token::{Denied, TokenFile};

/// Largest body of a request.
pub(super) const BODY_BYTES_MAX: u64 = 64 * 1024;

/// Who can reach the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every program on this host, browsers among them.
    Browsers,
    /// Whoever may open the socket's file.
    FileOwner,
}

/// Who is let through.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) reach: Reach,
    /// What changes need, if anything.
    pub(crate) token: Option<Arc<TokenFile>>,
}

pub(crate) async fn check(
    State(guard): State<Guard>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if body_bytes(request.headers()) > BODY_BYTES_MAX {
        let text = "a request has at most 64 KiB";
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
    }
    if !changes(request.method()) {
        return next.run(request).await;
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match guard.denies(request.headers()).await {
        Some(refused) => refused,
        None => next.run(request).await,
    };
    let status = response.status().as_u16();
    info!(%peer, %method, path, status, "admin request");
    response
}

impl Guard {
    /// The answer to a request that may not change anything.
    async fn denies(&self, headers: &HeaderMap) -> Option<Response> {
        let Some(token) = &self.token else {
            let text = "changes are taken from this host only: the header Host must be an IP address \
                        or localhost, and Origin must be the same";
            let is_denied = self.reach == Reach::Browsers && !is_local(headers);
            return is_denied.then(|| refusal(StatusCode::FORBIDDEN, text).into_response());
        };
        token
            .check(headers)
            .await
            .err()
            .map(|denied| denial(&denied))
    }
}

fn denial(denied: &Denied) -> Response {
    let (status, text) = match denied {
        Denied::Missing => (
            StatusCode::UNAUTHORIZED,
            "changes need the token of admin.token_file: send it as `Authorization: Bearer TOKEN` \
             (ringway: --token-file FILE)",
        ),
        Denied::Wrong => (
            StatusCode::UNAUTHORIZED,
            "this is not the token that is in admin.token_file now",
        ),
        Denied::Unreadable(error) => {
            warn!(%error, "admin.token_file cannot be read: changes are refused");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "changes need a token and admin.token_file cannot be read; see the log",
            )
        }
    };
    let answer = refusal(status, text).into_response();
    if status == StatusCode::UNAUTHORIZED {
        return ([(header::WWW_AUTHENTICATE, "Bearer")], answer).into_response();
    }
    answer
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What the request announces; one of unknown length counts as nothing here, and as what comes where it is read.
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
