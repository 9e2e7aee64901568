pub mod status { use crate::control::view::View; use std::sync::Arc;
pub async fn serve(l: tokio::net::TcpListener, view: tokio::sync::watch::Receiver<Arc<View>>, m: Arc<crate::telemetry::Metrics>, _leaving: tokio_util::sync::CancellationToken, stop: tokio_util::sync::CancellationToken) {
 use axum::{Router, routing::get, http::StatusCode};
 let app = Router::new().route("/readyz", get(move || { let v = view.borrow().clone(); async move { if v.ready {(StatusCode::OK, "ok".to_string())} else {(StatusCode::SERVICE_UNAVAILABLE, v.not_ready_because.clone().unwrap_or_default())} } })).route("/metrics", get(move || { let t = m.encode(); async move { t } }));
 let _ = axum::serve(l, app).with_graceful_shutdown(stop.cancelled_owned()).await; } }
pub mod api { use crate::control::view::View; use std::sync::Arc;
pub async fn serve(_l: tokio::net::TcpListener, _a: crate::model::listener::ListenAddress, _view: tokio::sync::watch::Receiver<Arc<View>>, stop: tokio_util::sync::CancellationToken) { stop.cancelled().await } }
