//! Handles requests: token, faults, projects, AppResults, AppSessions.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::any;

use super::wire::{self, Call, Dress, Outcome, Refusal, Route, Success, parse_id};
use super::world::{AppResult, Project, SessionStatus, World, show_user};
use super::{PROJECT, files, list};
use crate::sandbox::faulting;
use crate::sandbox::server::Breaker;
use crate::sandbox::stand::{Stand, lock};
use crate::sandbox::{Shared, unix_time};

pub(super) type Sandbox = Stand<World>;

pub(in crate::sandbox) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/basespace", any(api))
        .route("/basespace/", any(api))
        .route("/basespace/{*rest}", any(api))
}

async fn api(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(breaker): ConnectInfo<Breaker>,
    request: Request,
) -> Response {
    let (call, content) = Call::read(request).await;
    let work = respond(&shared, &call, content);
    let operation = call.route().operation();
    let response = faulting::perform(&shared.basespace, operation, &breaker, work).await;
    wire::move_etag(response).await
}

async fn respond(shared: &Shared, call: &Call, content: Body) -> Response {
    let outcome = match admit(shared, call) {
        Ok(()) => dispatch(shared, call, content).await,
        Err(refusal) => {
            files::discard(shared, call.route(), content).await;
            Err(refusal)
        }
    };
    let mut state = lock(&shared.basespace);
    let unique = state.new_id(22);
    let dress = Dress {
        now: unix_time(),
        unique: &unique,
        is_read: call.method == Method::GET,
        notification: state.switches.basespace.notification,
    };
    wire::render(&outcome, &dress)
}

/// Checks token and maintenance, in this order.
fn admit(shared: &Shared, call: &Call) -> Result<(), Refusal> {
    let mut state = lock(&shared.basespace);
    let operation = call.route().operation();
    if call.query_token().is_some() {
        state.ledger.breach(format!("{operation}: the token is in the query"));
    }
    if call.route() == Route::Unknown {
        state.ledger.breach(format!("{} {} is no call", call.method, call.path));
        return Err(Refusal::no_route());
    }
    if call.token() != Some(&shared.settings.token) || state.switches.token_revoked {
        return Err(Refusal::bad_token());
    }
    if state.switches.maintenance {
        return Err(Refusal::maintenance());
    }
    Ok(())
}

async fn dispatch(shared: &Shared, call: &Call, content: Body) -> Outcome {
    let locked = || lock(&shared.basespace);
    match call.route() {
        Route::User => {
            let state = locked();
            let first = state.world.projects.get(&parse_id(PROJECT));
            let created_at = first.map(|project| project.created_at).unwrap_or_default();
            Success::new(200, show_user(created_at))
        }
        Route::Projects => projects(&locked(), call),
        Route::MakeProject => make_project(&mut locked(), call),
        Route::Project(id) => {
            let state = locked();
            let project = find_project(&state.world, id)?;
            Success::new(200, state.world.show_project(project))
        }
        Route::MakeAppResult(project) => make_app_result(&mut locked(), call, project),
        Route::AppResults(project) => app_results(&locked(), call, project),
        Route::AppResult(id) => show_app_result(&locked(), 200, id),
        Route::AppSession(id) => {
            let state = locked();
            let session = state.world.sessions.get(&id);
            let session = session.ok_or_else(|| Refusal::denied("AppSession"))?;
            Success::new(200, session.show())
        }
        Route::SetAppSession(id) => set_session(&mut locked(), call, id),
        Route::Initiate(app_result) => files::initiate(&mut locked(), call, app_result),
        Route::Single(app_result) => files::single(shared, call, app_result, content).await,
        Route::ListFiles(app_result) => files::list_files(&locked(), call, app_result),
        Route::Put(file, part) => files::put(shared, call, file, part, content).await,
        Route::ListParts(file) => files::list_parts(&locked(), call, file),
        Route::Complete(file) => files::complete(shared, file),
        Route::Abort(file) => files::abort(&mut locked(), file),
        Route::OddStatus(_) => {
            locked().ledger.breach("POST files: uploadstatus is neither complete nor aborted");
            Err(Refusal::bad_request("UploadStatus must be complete or aborted."))
        }
        Route::File(id) => files::show(&mut locked(), id),
        Route::Unknown => Err(Refusal::no_route()),
    }
}

fn find_project(world: &World, id: u64) -> Result<&Project, Refusal> {
    world.projects.get(&id).ok_or_else(|| Refusal::denied("Project"))
}

/// Lists projects; the vendor's filter by name may return more than requested.
fn projects(state: &Sandbox, call: &Call) -> Outcome {
    let wish = call.param("name").unwrap_or_default().to_lowercase();
    let fits = |project: &&Project| project.name.to_lowercase().contains(&wish);
    let found = state.world.projects.values().filter(fits).collect();
    let key_of = |project: &&Project, key: &str| match key {
        "Name" => project.name.clone(),
        _ => wire::date(project.created_at),
    };
    let show = |project: &&Project| state.world.show_project(project);
    list::page(call, found, &["Id", "Name", "DateCreated"], key_of, show)
}

fn make_project(state: &mut Sandbox, call: &Call) -> Outcome {
    let name = call.require("name")?;
    let known = state.world.projects.values().find(|project| project.name == name);
    let (status, id) = match known {
        Some(project) => (200, project.id),
        None => (201, state.world.add_project(name)),
    };
    let project = find_project(&state.world, id)?;
    Success::new(status, state.world.show_project(project))
}

fn make_app_result(state: &mut Sandbox, call: &Call, project: u64) -> Outcome {
    find_project(&state.world, project)?;
    let name = call.require("name")?;
    let href = call.param("hrefappsession").and_then(|href| href.rsplit('/').next());
    let session = match call.param("appsessionid").or(href).filter(|id| !id.is_empty()) {
        Some(id) => {
            let id = parse_id(id);
            let session = state.world.sessions.get(&id);
            let session = session.ok_or_else(|| Refusal::denied("AppSession"))?;
            if session.status != SessionStatus::Running {
                return Err(Refusal::forbidden("The AppSession is not Running."));
            }
            id
        }
        None => state.world.add_session(name),
    };
    let description = call.param("description").unwrap_or_default();
    let id = state.world.add_app_result(project, session, name, description);
    show_app_result(state, 201, id)
}

fn show_app_result(state: &Sandbox, status: u16, id: u64) -> Outcome {
    let app_result = state.world.app_results.get(&id);
    let app_result = app_result.ok_or_else(|| Refusal::denied("AppResult"))?;
    Success::new(status, state.world.show_app_result(app_result))
}

fn app_results(state: &Sandbox, call: &Call, project: u64) -> Outcome {
    find_project(&state.world, project)?;
    let statuses = call.param("statuses").unwrap_or_default();
    let statuses: Vec<_> = statuses.split(',').filter_map(SessionStatus::parse).collect();
    let fits = |app_result: &&AppResult| {
        let status = state.world.status_of(app_result.id).ok();
        app_result.project == project
            && (statuses.is_empty() || status.is_some_and(|status| statuses.contains(&status)))
    };
    let found = state.world.app_results.values().filter(fits).collect();
    let key_of = |app_result: &&AppResult, key: &str| match key {
        "Name" => app_result.name.clone(),
        _ => wire::date(app_result.created_at),
    };
    let show = |app_result: &&AppResult| state.world.show_app_result(app_result);
    list::page(call, found, &["Id", "Name", "DateCreated"], key_of, show)
}

fn set_session(state: &mut Sandbox, call: &Call, id: u64) -> Outcome {
    let session = state.world.sessions.get_mut(&id);
    let session = session.ok_or_else(|| Refusal::denied("AppSession"))?;
    let Some(status) = SessionStatus::parse(call.require("status")?) else {
        state.ledger.breach("set-appsession: there is no such status");
        return Err(Refusal::bad_request("There is no such Status."));
    };
    if session.status.is_terminal() {
        if session.status == status {
            return Success::new(200, session.show());
        }
        state.ledger.breach(format!("set-appsession: {id} has ended"));
        return Err(Refusal::forbidden("The AppSession has ended."));
    }
    session.status = status;
    if let Some(summary) = call.param("statussummary") {
        summary.clone_into(&mut session.summary);
    }
    Success::new(200, session.show())
}
