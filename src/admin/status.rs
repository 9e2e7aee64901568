//! The status listener: for probes and for Prometheus, on any address, so that it tells nothing else.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::serve;
use crate::control::view::View;
use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};

#[derive(Clone)]
pub struct StatusState {
    pub view: watch::Receiver<Arc<View>>,
    pub metrics: Arc<Metrics>,
}

/// Answers until `stop`, which comes after everything else has ended: a probe sees the end coming as "not ready".
pub async fn serve(listener: TcpListener, state: StatusState, stop: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state);
    serve::serve(listener, router, stop).await
}

async fn readyz(State(state): State<StatusState>) -> impl IntoResponse {
    let view = state.view.borrow();
    if view.ready {
        return (StatusCode::OK, "ready\n".to_string());
    }
    let why = view.not_ready_because.as_deref().unwrap_or("starting");
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n"))
}

async fn metrics(State(state): State<StatusState>) -> impl IntoResponse {
    // Issued in handshakes, of which nobody else hears.
    let certificates = state.view.borrow().clone().shown();
    state.metrics.set_certificates(certificates.iter().map(|c| (c.name.as_str(), c.issuer.as_str(), c.not_after)));
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], state.metrics.encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{Answer, Served, view};

    async fn start() -> Served {
        let (publish, view) = watch::channel(Arc::new(view()));
        let state = StatusState { view, metrics: Metrics::new() };
        Served::start(publish, |listener, stop| serve(listener, state, stop)).await
    }

    async fn get(served: &Served, path: &str) -> Answer {
        served.ask(&format!("GET {path} HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n")).await
    }

    #[tokio::test]
    async fn readiness_is_the_views_and_health_is_not() {
        let served = start().await;
        assert_eq!(get(&served, "/readyz").await.status, 200);
        let why = Some("docker has not answered yet".to_string());
        served.publish.send_replace(Arc::new(View { ready: false, not_ready_because: why, ..view() }));
        let answer = get(&served, "/readyz").await;
        assert_eq!((answer.status, answer.body.as_str()), (503, "not ready: docker has not answered yet\n"));
        assert_eq!(get(&served, "/healthz").await.status, 200);
    }

    #[tokio::test]
    async fn metrics_and_nothing_else() {
        let served = start().await;
        let answer = get(&served, "/metrics").await;
        assert!(answer.body.contains("portolan_build_info"), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
        for path in ["/", "/api/routes", "/debug"] {
            assert_eq!(get(&served, path).await.status, 404, "{path}");
        }
    }
}
