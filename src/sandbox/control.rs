//! The sandbox's own calls, under `/_sandbox/`: what it holds, and how it misbehaves.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::Shared;
use super::faults::{Rule, Rules, Switches};
use super::ledger::Ledger;
use super::sevenbridges::RemoteFile;

type Handle = State<Arc<Shared>>;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_sandbox/files", get(files))
        .route("/_sandbox/ledger", get(ledger))
        .route("/_sandbox/faults", post(faults))
        .route("/_sandbox/switches", post(switches))
        .route("/_sandbox/vanish", post(vanish))
}

async fn files(State(shared): Handle) -> Json<Vec<RemoteFile>> {
    Json(shared.state().world.files())
}

async fn ledger(State(shared): Handle) -> Json<Ledger> {
    let state = shared.state();
    let open_uploads = state.world.open_uploads();
    Json(Ledger { open_uploads, ..state.ledger.clone() })
}

async fn faults(State(shared): Handle, Json(rules): Json<Vec<Rule>>) -> StatusCode {
    shared.state().rules = Rules::new(rules);
    StatusCode::NO_CONTENT
}

async fn switches(State(shared): Handle, Json(switches): Json<Switches>) -> StatusCode {
    shared.state().switches = switches;
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Vanish {
    upload_id: Option<String>,
}

/// Forgets one upload in progress, or all.
async fn vanish(State(shared): Handle, Json(which): Json<Vanish>) -> StatusCode {
    shared.state().world.vanish(which.upload_id.as_deref());
    StatusCode::NO_CONTENT
}
