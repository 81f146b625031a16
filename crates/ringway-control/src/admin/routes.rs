//! What the admin endpoint answers. Handlers are thin: they ask the [`Instance`] and give its
//! answer a form. GET changes nothing; errors are `{"error": "...", "detail": [...]}`.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Extension, Json, Router, middleware};
use ringway_metrics::{Format, PerWorker, render};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::error;

use super::bounded::Seats;
use super::guard::{self, Guard};
use super::{backend, explain, page};
use crate::instance::Instance;
use crate::reload::{self, Outcome, RefusalKind, Wish};
use crate::status::{PoolStatus, Status};
use crate::supervise::Event;
use crate::upgrade::outcome::{UpgradeError, Upgraded};

type Shared = State<Arc<Instance>>;

/// An error as every client gets it.
#[derive(Debug, Serialize)]
struct ErrorBody {
    error: String,
    detail: Vec<String>,
}

/// The status and the body of an error.
#[derive(Debug)]
pub(super) struct Refusal(StatusCode, ErrorBody);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

pub(super) fn refusal(status: StatusCode, error: impl Into<String>) -> Refusal {
    refusal_with(status, error.into(), Vec::new())
}

pub(super) fn refusal_with(status: StatusCode, error: String, detail: Vec<String>) -> Refusal {
    Refusal(status, ErrorBody { error, detail })
}

pub(super) fn router(instance: Arc<Instance>, guard: Guard) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status))
        .route("/v1/pools/{pool}", get(pool))
        .route("/v1/drain", post(drain))
        .route(
            "/v1/pools/{pool}/backends/{address}",
            patch(backend::change),
        )
        .route("/v1/explain", get(explain::explain))
        .route("/v1/reload", post(reload))
        .route("/v1/upgrade", post(upgrade))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "there is no such path"))
        .method_not_allowed_fallback(async || {
            let text = "this path takes another method: GET reads, POST and PATCH change";
            refusal(StatusCode::METHOD_NOT_ALLOWED, text)
        })
        .layer(DefaultBodyLimit::max(guard::BODY_BYTES_MAX as usize))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .with_state(instance)
}

#[derive(Debug, Default, Deserialize)]
struct MetricsQuery {
    per_worker: Option<String>,
}

async fn metrics(
    State(instance): Shared,
    query: Result<Query<MetricsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Query(query) =
        query.map_err(|error| refusal(StatusCode::BAD_REQUEST, error.to_string()))?;
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let format = Format::from_accept(accept.unwrap_or_default());
    let per_worker = match query.per_worker.as_deref() {
        Some("1" | "true") => PerWorker::Labelled,
        Some(_) | None => PerWorker::Merged,
    };
    let turn = Arc::clone(&instance);
    let _turn = turn.scraping.lock().await;
    let text = blocking(move || render(&instance.scrape(), format, per_worker)).await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

async fn livez(State(instance): Shared) -> Result<&'static str, Refusal> {
    let hung = blocking(move || instance.hung_workers()).await?;
    if hung.is_empty() {
        return Ok("ok\n");
    }
    let list: Vec<String> = hung.iter().map(u16::to_string).collect();
    let text = format!("worker {} does not answer", list.join(", "));
    Err(refusal(StatusCode::SERVICE_UNAVAILABLE, text))
}

async fn readyz(State(instance): Shared) -> Result<&'static str, Refusal> {
    match instance.unready_because() {
        None => Ok("ok\n"),
        Some(why) => Err(refusal(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

#[derive(Debug, Default, Deserialize)]
struct StatusQuery {
    latency: Option<String>,
}

async fn status(
    State(instance): Shared,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Json<Status>, Refusal> {
    let Query(query) =
        query.map_err(|error| refusal(StatusCode::BAD_REQUEST, error.to_string()))?;
    if !matches!(query.latency.as_deref(), Some("1" | "true")) {
        return Ok(Json(instance.status(None)));
    }
    let turn = Arc::clone(&instance);
    let _turn = turn.scraping.lock().await;
    let told = blocking(move || instance.status(Some(instance.latency()))).await?;
    Ok(Json(told))
}

async fn pool(
    State(instance): Shared,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<PoolStatus>, Refusal> {
    let Path(name) = name.map_err(|error| refusal(StatusCode::BAD_REQUEST, error.to_string()))?;
    let found = instance.pool_status_of(&name).map(Json);
    found.ok_or_else(|| refusal(StatusCode::NOT_FOUND, format!("there is no pool `{name}`")))
}

#[derive(Debug, Serialize)]
struct Draining {
    draining: bool,
}

async fn drain(State(instance): Shared) -> (StatusCode, Json<Draining>) {
    // The receiver lives as long as the runtime that runs this.
    let _ = instance.events.send(Event::Drain);
    (StatusCode::ACCEPTED, Json(Draining { draining: true }))
}

#[derive(Debug, Serialize)]
struct Reloaded {
    changes: Vec<String>,
}

async fn reload(State(instance): Shared) -> Result<Json<Reloaded>, Refusal> {
    let outcome = reload::ask(&instance.events, "POST /v1/reload", Wish::File).await;
    Ok(Json(Reloaded {
        changes: changed(outcome)?,
    }))
}

/// What changed, or the answer that says why nothing did.
pub(super) fn changed(outcome: Outcome) -> Result<Vec<String>, Refusal> {
    outcome.map_err(|refused| {
        let status = match refused.kind {
            RefusalKind::Unacceptable => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::NotThere => StatusCode::NOT_FOUND,
            RefusalKind::Draining | RefusalKind::Upgrading => StatusCode::CONFLICT,
            RefusalKind::Unread | RefusalKind::Stuck => StatusCode::GATEWAY_TIMEOUT,
        };
        let (error, detail) = (refused.error, refused.detail);
        Refusal(status, ErrorBody { error, detail })
    })
}

/// Answers when the new process has taken over, or has failed to.
async fn upgrade(
    State(instance): Shared,
    Extension(seats): Extension<Seats>,
) -> Result<Json<Upgraded>, Refusal> {
    let _patience = seats.be_patient();
    let (reply, answer) = oneshot::channel();
    // The receiver lives as long as the runtime that runs this.
    let _ = instance.events.send(Event::Upgrade(Some(reply)));
    let ended = || UpgradeError::Failed("this process ended meanwhile".into());
    let outcome = answer.await.unwrap_or_else(|_| Err(ended()));
    outcome.map(Json).map_err(|error| {
        let status = match error {
            UpgradeError::Busy(_) => StatusCode::CONFLICT,
            UpgradeError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            UpgradeError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            UpgradeError::Failed(_) => StatusCode::BAD_GATEWAY,
        };
        let text = error.to_string();
        let detail = match error {
            UpgradeError::Refused(reasons) => reasons,
            UpgradeError::Busy(_) | UpgradeError::Unsupported(_) | UpgradeError::Failed(_) => {
                Vec::new()
            }
        };
        Refusal(
            status,
            ErrorBody {
                error: text,
                detail,
            },
        )
    })
}

/// Runs what waits for workers or reads files where nothing else waits for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|failure| {
        error!(%failure, "a request of the admin endpoint failed");
        refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request failed; see the log",
        )
    })
}
