//! The dashboard: one page that needs nothing but the status.
//!
//! Its parts are files of their own for those who change them and are joined when this is compiled.
//! Invariant: a browser runs no script and takes no style but those of this answer, wherever names
//! and addresses come from: both carry a number that is new in each answer, and what has none is
//! refused by the policy in the header.

use std::hash::{BuildHasher, Hasher, RandomState};

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    include_str!("page/format.js"),
    include_str!("page/model.js"),
    include_str!("page/plot.js"),
    include_str!("page/tables.js"),
    include_str!("page/main.js"),
);

pub(super) async fn page() -> Response {
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(joined(&nonce))).into_response()
}

fn joined(nonce: &str) -> String {
    FRAME
        .replace("{nonce}", nonce)
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT)
}

/// Nobody can tell the next one: the keys of the standard library's hash tables are secret and come
/// from the kernel.
fn nonce() -> String {
    let part = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_joined_and_close_nothing_early() {
        let page = joined("abc");
        assert_eq!(page.matches("nonce=\"abc\"").count(), 2);
        for left in ["{nonce}", "{style}", "{script}"] {
            assert!(!page.contains(left), "{left}");
        }
        assert_eq!(page.matches("</script>").count(), 1);
        assert_eq!(page.matches("</style>").count(), 1);
    }

    #[test]
    fn nothing_makes_markup_of_text() {
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!SCRIPT.contains(way), "{way}");
        }
    }

    #[test]
    fn every_answer_has_its_own_number() {
        assert_ne!(nonce(), nonce());
    }
}
