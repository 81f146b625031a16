//! `PATCH /v1/pools/{pool}/backends/{address}`: an operator's word on one backend, over what the file says.
//!
//! It reads the request; what it means is in `overrides.rs`, how it happens in `reload.rs`. Invariant:
//! the answer comes when every worker acts on the change, and shows the backend after it.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use ringway_balance::AdminState;
use ringway_config::limits::WEIGHT_MAX;
use serde::{Deserialize, Deserializer, Serialize};

use super::routes::{Refusal, changed, refusal};
use crate::instance::Instance;
use crate::overrides::{BackendChange, WeightChange};
use crate::reload::{self, Wish};
use crate::status::BackendStatus;

/// The body of the request. What is not there stays.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    state: Option<StateWord>,
    /// `null` is the weight of the file.
    #[serde(default, deserialize_with = "present")]
    weight: Option<Option<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateWord {
    Active,
    Drain,
    Maintenance,
}

/// A value that is there, `null` included.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    changes: Vec<String>,
    /// None when it has left the configuration meanwhile.
    backend: Option<BackendStatus>,
}

pub(super) async fn change(
    State(instance): State<Arc<Instance>>,
    place: Result<Path<(String, String)>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Changed>, Refusal> {
    let bad = |text: String| refusal(StatusCode::BAD_REQUEST, text);
    let Path((pool, address)) = place.map_err(|error| bad(error.to_string()))?;
    let body = body.map_err(|error| refusal(error.status(), error.to_string()))?;
    let (state, weight) = read(&body).map_err(bad)?;
    let change = BackendChange {
        pool: pool.clone(),
        address: address.clone(),
        state,
        weight,
    };
    let outcome = reload::ask(&instance.events, "PATCH", Wish::Backend(change)).await;
    let changes = changed(outcome)?;
    let backend = instance.backend_status_of(&pool, &address);
    Ok(Json(Changed { changes, backend }))
}

fn read(body: &[u8]) -> Result<(Option<AdminState>, Option<WeightChange>), String> {
    let wanted = format!(
        "the body is JSON: {{\"state\": \"active\" | \"drain\" | \"maintenance\", \
         \"weight\": 0 to {WEIGHT_MAX}, or null for that of the file}}, or one of both"
    );
    let read: Body = serde_json::from_slice(body).map_err(|error| format!("{error}; {wanted}"))?;
    if read.state.is_none() && read.weight.is_none() {
        return Err(format!("nothing to change; {wanted}"));
    }
    let state = read.state.map(|word| match word {
        StateWord::Active => AdminState::Active,
        StateWord::Drain => AdminState::Drain,
        StateWord::Maintenance => AdminState::Maintenance,
    });
    let weight = match read.weight {
        None => None,
        Some(None) => Some(WeightChange::ToThatOfTheFile),
        Some(Some(weight)) if weight <= WEIGHT_MAX => Some(WeightChange::To(weight)),
        Some(Some(weight)) => return Err(format!("the weight {weight} is too large; {wanted}")),
    };
    Ok((state, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_a_state_a_weight_or_both() {
        let of = |text: &str| read(text.as_bytes()).unwrap();
        assert_eq!(of(r#"{"state": "drain"}"#), (Some(AdminState::Drain), None));
        let both = (Some(AdminState::Active), Some(WeightChange::To(0)));
        assert_eq!(of(r#"{"weight": 0, "state": "active"}"#), both);
        let maintenance = (Some(AdminState::Maintenance), None);
        assert_eq!(of(r#"{"state": "maintenance"}"#), maintenance);
        let of_the_file = (None, Some(WeightChange::ToThatOfTheFile));
        assert_eq!(of(r#"{"weight": null}"#), of_the_file);
    }

    #[test]
    fn what_is_no_change_is_told_with_what_would_be() {
        for wrong in [
            "",
            "{}",
            "[]",
            "null",
            "{",
            r#"{"state": "DRAIN"}"#,
            r#"{"state": null}"#,
            r#"{"weight": -1}"#,
            r#"{"weight": 1.5}"#,
            r#"{"weight": "1"}"#,
            r#"{"weight": 4294967296}"#,
            r#"{"weight": 1, "wieght": 2}"#,
            r#"{"weight": 1, "weight": 2}"#,
            "\u{1}\u{0}",
        ] {
            let error = read(wrong.as_bytes()).unwrap_err();
            assert!(error.contains("\"drain\""), "{wrong}: {error}");
        }
        let heavy = format!(r#"{{"weight": {}}}"#, WEIGHT_MAX + 1);
        assert!(read(heavy.as_bytes()).unwrap_err().contains("too large"));
    }
}
