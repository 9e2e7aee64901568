//! Answers that wait until there is news: `?after=<tag>`, where the tag is the `ETag` of what the asker has seen.
//!
//! ```text
//! GET /api/routes              ─▶ now, with ETag and Last-Modified
//! GET /api/routes?after=<tag>  ─▶ as soon as the content is another · 304 after a while · 503 when there are too many
//! ```
//! The tag is made of the content: a new view that says the same is no news, and neither is a restart of the proxy.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::report::{self, ProblemReport};
use crate::control::view::View;

/// A watcher that hears nothing for so long is told that nothing has changed, so that it knows somebody is there.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// The first change is told at once; where one follows another, so often at most.
const BREATH: Duration = Duration::from_millis(100);
/// Handshakes issue certificates, of which no view tells.
const CERTIFICATES_ARE_LOOKED_AT: Duration = Duration::from_secs(1);
/// Each waits on a connection of its own.
const MOST_WATCHERS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listing {
    Routes,
    Services,
    Certificates,
    Providers,
    Problems,
}

#[derive(Clone)]
pub struct AdminState {
    view: watch::Receiver<Arc<View>>,
    watchers: Arc<Semaphore>,
    made: Arc<Mutex<Made>>,
}

/// With the view that it was made of, which it must not keep: however many watch, it is made once.
type Made = HashMap<Listing, (Weak<View>, Page)>;

/// One listing as JSON.
#[derive(Debug, Clone)]
struct Page {
    tag: String,
    body: Bytes,
    changed: Timestamp,
}

#[derive(Debug, Deserialize)]
pub struct Asked {
    after: Option<String>,
}

impl AdminState {
    pub fn new(view: watch::Receiver<Arc<View>>) -> AdminState {
        AdminState { view, watchers: Arc::new(Semaphore::new(MOST_WATCHERS)), made: Arc::default() }
    }

    fn page(&self, listing: Listing, view: &Arc<View>) -> Result<Page, serde_json::Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, page)) = made.get(&listing)
            && of.ptr_eq(&Arc::downgrade(view))
            && listing != Listing::Certificates
        {
            return Ok(page.clone());
        }
        let body = match listing {
            Listing::Routes => serde_json::to_vec(&report::routes(&view.desired, &view.findings)),
            Listing::Services => serde_json::to_vec(&report::services(&view.desired, &view.verdicts)),
            Listing::Certificates => serde_json::to_vec(&view.certificates()),
            Listing::Providers => serde_json::to_vec(&view.providers),
            Listing::Problems => {
                let problems: Vec<_> = view.findings.iter().map(ProblemReport::from).collect();
                serde_json::to_vec(&problems)
            }
        }?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&body);
        let page = Page { tag: format!("{:016x}", hasher.finish()), body: body.into(), changed: view.changed };
        made.insert(listing, (Arc::downgrade(view), page.clone()));
        Ok(page)
    }
}

pub async fn answer(listing: Listing, State(state): State<AdminState>, Query(asked): Query<Asked>) -> Response {
    let mut view = state.view.clone();
    let now = |view: &mut watch::Receiver<Arc<View>>| {
        let seen = view.borrow_and_update().clone();
        state.page(listing, &seen)
    };
    let Some(after) = asked.after else {
        return now(&mut view).map_or_else(unwritable, Page::into_response);
    };
    let Ok(_place) = state.watchers.try_acquire() else {
        let retry = [(header::RETRY_AFTER, "1")];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, "too many are watching\n").into_response();
    };
    let end = Instant::now() + LONGEST_WAIT;
    loop {
        match now(&mut view) {
            Ok(page) if page.tag != after => return page.into_response(),
            Ok(_) => {}
            Err(error) => return unwritable(error),
        }
        let looked = Instant::now();
        let next_look = async {
            match listing {
                Listing::Certificates => sleep(CERTIFICATES_ARE_LOOKED_AT).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = view.changed() => if changed.is_err() {
                return (StatusCode::SERVICE_UNAVAILABLE, "the proxy is stopping\n").into_response();
            },
            () = next_look => {}
            () = sleep_until(end) => return StatusCode::NOT_MODIFIED.into_response(),
        }
        if looked.elapsed() < BREATH {
            sleep_until(looked + BREATH).await;
        }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Page { tag, body, changed } = self;
        // RFC 9110 §5.6.7.
        let changed = changed.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
        for (name, value) in [(header::ETAG, format!("\"{tag}\"")), (header::LAST_MODIFIED, changed)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

fn unwritable(error: serde_json::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::admin::api::serve;
    use crate::admin::tests::{Answer, Served, view};

    async fn start() -> Served {
        let (publish, view) = watch::channel(Arc::new(view()));
        Served::start(publish, |listener, stop| serve(listener, AdminState::new(view), stop)).await
    }

    async fn get(served: &Served, path: &str) -> Answer {
        served.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    fn tag(answer: &Answer) -> &str {
        answer.header("etag").unwrap().trim_matches('"')
    }

    #[tokio::test]
    async fn who_has_seen_it_waits_for_the_next() {
        let served = start().await;
        let first = get(&served, "/api/problems").await;
        assert_eq!(first.header("last-modified"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(tag(&first), tag(&get(&served, "/api/problems").await), "the tag is the content's");
        let path = format!("/api/problems?after={}", tag(&first));
        let waiting = get(&served, &path);
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err(), "nothing is new");
        // Another view that says the same about problems.
        served.publish.send_replace(Arc::new(View { generation: 7, ..view() }));
        assert!(timeout(BREATH * 3, &mut waiting).await.is_err(), "nothing that is listed is new");
        let changed = Timestamp::from_second(1_000_000_000).unwrap();
        served.publish.send_replace(Arc::new(View { findings: Arc::default(), changed, ..view() }));
        let second = timeout(Duration::from_secs(5), waiting).await.expect("told");
        assert_eq!((second.status, second.body.as_str()), (200, "[]"));
        assert_eq!(second.header("last-modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
        assert_ne!(tag(&second), tag(&first));
        assert_eq!(get(&served, &path).await.body, "[]", "who has seen another is answered at once");
    }

    #[tokio::test]
    async fn the_watchers_end_with_the_proxy() {
        let (control, view) = watch::channel(Arc::new(view()));
        let (publish, _) = watch::channel(Arc::default());
        let served = Served::start(publish, |listener, stop| serve(listener, AdminState::new(view), stop)).await;
        let path = format!("/api/routes?after={}", tag(&get(&served, "/api/routes").await));
        let waiting = get(&served, &path);
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        drop(control);
        assert_eq!(timeout(Duration::from_secs(5), waiting).await.expect("told").status, 503);
    }

    #[tokio::test]
    async fn so_many_may_watch_and_no_more() {
        let (publish, view) = watch::channel(Arc::new(view()));
        let state = AdminState::new(view);
        let places = state.watchers.clone().acquire_many_owned(MOST_WATCHERS as u32).await.unwrap();
        let served = Served::start(publish, |listener, stop| serve(listener, state, stop)).await;
        let path = format!("/api/routes?after={}", tag(&get(&served, "/api/routes").await));
        let refused = get(&served, &path).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        drop(places);
        assert!(timeout(Duration::from_millis(100), get(&served, &path)).await.is_err(), "there is room again");
    }
}
