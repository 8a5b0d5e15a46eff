//! The admin server: health, readiness, metrics, routes. No authentication; it listens on loopback unless told
//! otherwise, and answers nothing but GET.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::explain;
use crate::routes;
use crate::view::View;

/// What handlers need.
#[derive(Clone)]
struct Context {
    view: Arc<View>,
    registry: Arc<Registry>,
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
    axum::serve(listener, router(view, registry)).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// The pages.
pub fn router(view: Arc<View>, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/routes", get(list_routes))
        .route("/api/v1/services/{name}", get(service))
        .with_state(Context { view, registry })
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

async fn list_routes(State(context): State<Context>) -> Json<Vec<routes::Route>> {
    Json(routes::routes(&context.view.report(), &context.view.published()))
}

async fn service(State(context): State<Context>, Path(name): Path<String>) -> Response {
    let explanations =
        explain::explain(&context.view.report(), &context.view.published(), &context.view.addresses.borrow(), &name);
    match explanations.into_iter().next() {
        Some(explanation) => Json(explanation).into_response(),
        None => {
            let error = serde_json::json!({ "error": format!("no service {name:?} asks to be routed") });
            (StatusCode::NOT_FOUND, Json(error)).into_response()
        }
    }
}
