//! The sandbox's own calls, under `/_sandbox/VENDOR/`: its content, and its faults.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::faults::{Rule, Switches};
use super::{Shared, Vendor};

type Handle = State<Arc<Shared>>;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_sandbox/{vendor}/files", get(files))
        .route("/_sandbox/{vendor}/ledger", get(ledger))
        .route("/_sandbox/{vendor}/faults", post(faults))
        .route("/_sandbox/{vendor}/switches", post(switches))
        .route("/_sandbox/{vendor}/vanish", post(vanish))
}

/// Runs an action on the stand-in of a name.
fn with(vendor: &str, act: impl FnOnce(Vendor) -> Response) -> Response {
    Vendor::parse(vendor).map_or_else(|| StatusCode::NOT_FOUND.into_response(), act)
}

async fn files(State(shared): Handle, Path(vendor): Path<String>) -> Response {
    with(&vendor, |vendor| Json(shared.stand(vendor).files()).into_response())
}

async fn ledger(State(shared): Handle, Path(vendor): Path<String>) -> Response {
    with(&vendor, |vendor| Json(shared.stand(vendor).ledger()).into_response())
}

async fn faults(
    State(shared): Handle,
    Path(vendor): Path<String>,
    Json(rules): Json<Vec<Rule>>,
) -> Response {
    with(&vendor, |vendor| {
        shared.stand(vendor).set_rules(rules);
        StatusCode::NO_CONTENT.into_response()
    })
}

async fn switches(
    State(shared): Handle,
    Path(vendor): Path<String>,
    Json(switches): Json<Switches>,
) -> Response {
    with(&vendor, |vendor| {
        shared.stand(vendor).set_switches(switches);
        StatusCode::NO_CONTENT.into_response()
    })
}

#[derive(Deserialize)]
struct Vanish {
    upload_id: Option<String>,
}

/// Drops one upload in progress, or all.
async fn vanish(
    State(shared): Handle,
    Path(vendor): Path<String>,
    Json(which): Json<Vanish>,
) -> Response {
    with(&vendor, |vendor| {
        shared.stand(vendor).vanish(which.upload_id.as_deref());
        StatusCode::NO_CONTENT.into_response()
    })
}
