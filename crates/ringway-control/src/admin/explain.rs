//! `GET /v1/explain` over HTTP: parameters in, JSON or a refusal out. Not the answer itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;

use super::routes::{Refusal, blocking, refusal, refusal_with};
use crate::explain::{Explanation, WrongKind};
use crate::instance::Instance;

pub(super) async fn explain(
    State(instance): State<Arc<Instance>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Explanation>, Refusal> {
    let Query(pairs) =
        query.map_err(|error| refusal(StatusCode::BAD_REQUEST, error.to_string()))?;
    let turn = Arc::clone(&instance);
    let _turn = turn.scraping.lock().await;
    let answer = blocking(move || instance.explain(&pairs)).await?;
    answer.map(Json).map_err(|wrong| {
        let status = match wrong.kind {
            WrongKind::Parameter => StatusCode::BAD_REQUEST,
            WrongKind::NoListener => StatusCode::NOT_FOUND,
            WrongKind::Reloading => StatusCode::SERVICE_UNAVAILABLE,
        };
        refusal_with(status, wrong.error, wrong.detail)
    })
}
