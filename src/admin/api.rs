//! The admin API: what is live, as JSON arrays under `/api/`. Reads only.
//!
//! ```text
//! request ─▶ guard: GET or HEAD? Host ours? Origin ours? ─▶ poll: report of the current View, or of the next one
//!              │405                 │403       │403
//! ```
//! It listens on loopback, where every web page that this machine's user visits could reach it: a name that a page's
//! owner points at 127.0.0.1 (DNS rebinding) and a page of another origin are refused.

use std::net::IpAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::poll::{Listing, answer};
use super::serve;

pub use super::poll::AdminState;

/// Answers until `stop`.
pub async fn serve(listener: TcpListener, state: AdminState, stop: CancellationToken) -> std::io::Result<()> {
    let own = listener.local_addr()?.ip();
    serve::serve(listener, router(state, own), stop).await
}

fn router(state: AdminState, own: IpAddr) -> Router {
    Router::new()
        .route("/api/routes", get(async |state, asked| answer(Listing::Routes, state, asked).await))
        .route("/api/services", get(async |state, asked| answer(Listing::Services, state, asked).await))
        .route("/api/certificates", get(async |state, asked| answer(Listing::Certificates, state, asked).await))
        .route("/api/providers", get(async |state, asked| answer(Listing::Providers, state, asked).await))
        .route("/api/problems", get(async |state, asked| answer(Listing::Problems, state, asked).await))
        .fallback(async || (StatusCode::NOT_FOUND, "there is nothing here; see /api/routes\n"))
        .layer(middleware::from_fn_with_state(own, guard))
        .with_state(state)
}

async fn guard(State(own): State<IpAddr>, request: Request, next: Next) -> Response {
    let mut response = match refusal(own, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(own: IpAddr, request: &Request) -> Option<Response> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allow = [(header::ALLOW, "GET, HEAD")];
        return Some((StatusCode::METHOD_NOT_ALLOWED, allow, "the admin API only reads\n").into_response());
    }
    let Some(host) = only(request.headers(), &header::HOST).filter(|host| is_ours(own, host)) else {
        return Some((StatusCode::FORBIDDEN, "this is not a name of the admin API; use its address\n").into_response());
    };
    // RFC 9112 §3.2.2: an absolute target overrules Host.
    let absolute = request.uri().authority().is_some_and(|authority| !is_ours(own, authority.as_str()));
    // A page of the same machine on another port is another origin: the scheme and the port have to be ours as well.
    let foreign = request.headers().contains_key(header::ORIGIN)
        && only(request.headers(), &header::ORIGIN)
            .and_then(|origin| origin.strip_prefix("http://"))
            .is_none_or(|origin| !origin.eq_ignore_ascii_case(host));
    (absolute || foreign)
        .then(|| (StatusCode::FORBIDDEN, "the admin API answers no page of another origin\n").into_response())
}

/// The header's value where it stands once and is text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// Whether `host[:port]` names this machine or the address that the API listens on. Names under `localhost` are not
/// enough: a container may answer there.
fn is_ours(own: IpAddr, authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback() || ip == own)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::admin::tests::{Answer, Served, view};
    use crate::control::view::View;

    struct Api(Served);

    impl Api {
        async fn start() -> Api {
            let (publish, view) = watch::channel(Arc::new(view()));
            let state = AdminState::new(view);
            Api(Served::start(publish, |listener, stop| serve(listener, state, stop)).await)
        }

        async fn get(&self, path: &str, headers: &str) -> Answer {
            self.0.ask(&format!("GET {path} HTTP/1.1\r\n{headers}\r\n")).await
        }

        async fn status(&self, headers: &str) -> u16 {
            self.get("/api/problems", headers).await.status
        }
    }

    #[tokio::test]
    async fn every_kind_is_a_json_array_of_the_view() {
        let api = Api::start().await;
        for kind in ["routes", "services", "certificates", "providers", "problems"] {
            let answer = api.get(&format!("/api/{kind}"), "Host: localhost\r\n").await;
            assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{kind}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert!(json.is_array(), "{kind}: {json}");
        }
        let answer = api.get("/api/problems", "Host: localhost\r\n").await;
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(json[0]["subject"], "docker/route/shop/web");
        assert_eq!(json[0]["severity"], "error");
        assert_eq!(api.get("/api/else", "Host: localhost\r\n").await.status, 404);
    }

    #[tokio::test]
    async fn the_next_view_is_what_the_next_request_sees() {
        let api = Api::start().await;
        api.0.publish.send_replace(Arc::new(View { findings: Arc::default(), ..view() }));
        assert_eq!(api.get("/api/problems", "Host: localhost\r\n").await.body, "[]");
    }

    #[tokio::test]
    async fn it_only_reads() {
        let api = Api::start().await;
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            for path in ["/api/routes", "/else"] {
                let answer = api.0.ask(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
                assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
            }
        }
        let answer = api.0.ask("HEAD /api/routes HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }

    #[tokio::test]
    async fn a_name_that_somebody_points_at_loopback_is_refused() {
        let api = Api::start().await;
        for host in ["localhost", "LOCALHOST:9180", "127.0.0.1:1", "127.9.9.9", "[::1]:9180", "[::ffff:127.0.0.1]"] {
            assert_eq!(api.status(&format!("Host: {host}\r\n")).await, 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9180",
            "localhost.evil.example",
            "shop.localhost",
            "127.0.0.1.evil.example",
            "192.0.2.1",
            "0.0.0.0",
            "localhost:x",
            "",
        ] {
            assert_eq!(api.status(&format!("Host: {host}\r\n")).await, 403, "{host}");
        }
        assert_eq!(api.status("").await, 403, "no Host at all");
        assert_eq!(api.status("Host: localhost\r\nHost: evil.example\r\n").await, 403, "two of them");
        assert_eq!(api.get("http://evil.example/api/routes", "Host: localhost\r\n").await.status, 403);
    }

    #[tokio::test]
    async fn a_page_of_another_origin_is_refused() {
        let api = Api::start().await;
        assert_eq!(api.status("Host: localhost:9180\r\nOrigin: http://localhost:9180\r\n").await, 200);
        for origin in
            ["https://evil.example", "null", "http://localhost", "https://localhost:9180", "http://127.0.0.1:9180"]
        {
            assert_eq!(api.status(&format!("Host: localhost:9180\r\nOrigin: {origin}\r\n")).await, 403, "{origin}");
        }
    }

    #[test]
    fn the_address_that_it_listens_on_is_ours() {
        let own: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(is_ours(own, "192.0.2.1:9180"));
        assert!(!is_ours(own, "192.0.2.2:9180"));
    }
}
