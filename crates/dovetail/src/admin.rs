//! The admin server: health, readiness, metrics, routes. No authentication; it listens on loopback unless told
//! otherwise, and answers nothing but GET.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use model::{ClusterName, Published, Report};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::bounded::Bounded;
use crate::explain;
use crate::routes;
use crate::view::View;

/// What handlers need.
#[derive(Clone)]
struct Context {
    view: Arc<View>,
    registry: Arc<Registry>,
    routes: Arc<Mutex<Option<RoutesPage>>>,
}

/// The list of routes and what it was made from. It is megabytes on a large cluster, and the same for every client.
struct RoutesPage {
    report: Arc<Report>,
    published: BTreeMap<ClusterName, Published>,
    text: Bytes,
}

/// Serves until told to stop.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    view: Arc<View>,
    registry: Arc<Registry>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(Bounded::new(listener), router(view, registry)).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// The pages.
pub fn router(view: Arc<View>, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/routes", get(list_routes))
        .route("/api/v1/services/{name}", get(service))
        .with_state(Context { view, registry, routes: Arc::default() })
}

/// The process runs and answers. It says nothing about the cluster: a restart would not help there.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(context): State<Context>) -> Response {
    let readiness = context.view.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(context): State<Context>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &context.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn list_routes(State(context): State<Context>) -> Response {
    let Some(report) = context.view.known() else { return not_known_yet(&context.view) };
    let published = context.view.published();
    let mut page = context.routes.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |page: &&RoutesPage| Arc::ptr_eq(&page.report, &report) && page.published == published;
    let text = match page.as_ref().filter(same) {
        Some(page) => page.text.clone(),
        None => {
            let text = serde_json::to_vec(&routes::routes(&report, &published)).map(Bytes::from);
            let Ok(text) = text else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
            *page = Some(RoutesPage { report, published, text: text.clone() });
            text
        }
    };
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn service(State(context): State<Context>, Path(name): Path<String>) -> Response {
    let Some(report) = context.view.known() else { return not_known_yet(&context.view) };
    let explanations = explain::explain(&report, &context.view.published(), &context.view.addresses.borrow(), &name);
    match explanations.into_iter().next() {
        Some(explanation) => Json(explanation).into_response(),
        None => {
            let error =
                format!("no service {name:?} asks to be routed; dovetail explain says whether it exists at all");
            refused(StatusCode::NOT_FOUND, &error)
        }
    }
}

/// Before the first complete reading every route would look as if nobody wanted it.
fn not_known_yet(view: &View) -> Response {
    let reasons = view.readiness().reasons.join("; ");
    let error = if reasons.is_empty() { "nothing is decided yet: try again".to_owned() } else { reasons };
    refused(StatusCode::SERVICE_UNAVAILABLE, &error)
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(serde_json::json!({ "error": error }))).into_response()
}
