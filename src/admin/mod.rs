//! What operators and their tools ask over HTTP, on addresses of its own.
//!
//! ```text
//! View ─▶ report (pure) ─▶ api     admin address, loopback: /api/…
//!      └──────────────────▶ status  any address: /healthz /readyz /metrics
//! ```

pub mod api;
mod poll;
pub mod report;
pub mod status;

use std::io;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// For what is being answered when `stop` comes; a client that never reads is not waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let patience = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        result = served => result,
        () = patience => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::watch;

    use super::*;
    use crate::control::view::View;
    use crate::model::snapshot::ProviderReport;
    use crate::model::{Diagnostic, Kind, ObjectId, Origin, Provider, Reason, Source};
    use crate::reconcile::Desired;

    pub fn view() -> View {
        let id = ObjectId::new(&Source::new(Provider::Docker, Some("shop".into())), Kind::Route, "web");
        View {
            generation: 1,
            changed: jiff::Timestamp::UNIX_EPOCH,
            desired: Arc::new(Desired::default()),
            findings: Arc::new(vec![Diagnostic::error(id, Reason::Invalid, Origin::Default, "misspelt")]),
            providers: vec![ProviderReport {
                name: Provider::Docker,
                state: "live",
                since: None,
                why: None,
                routes: 1,
            }],
            configured: Vec::new(),
            issuers: Vec::new(),
            ready: true,
            not_ready_because: None,
        }
    }

    /// A server under test on a port of its own, asked in plain text: heads that no client would send as well.
    pub struct Served {
        pub publish: watch::Sender<Arc<View>>,
        address: SocketAddr,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<io::Result<()>>,
    }

    impl Served {
        pub async fn start<F>(
            publish: watch::Sender<Arc<View>>,
            serve: impl FnOnce(TcpListener, CancellationToken) -> F,
        ) -> Served
        where
            F: Future<Output = io::Result<()>> + Send + 'static,
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let stop = CancellationToken::new();
            let task = tokio::spawn(serve(listener, stop.clone()));
            Served { publish, address, stop, task }
        }

        /// `head` ends with an empty line.
        pub async fn ask(&self, head: &str) -> Answer {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            Answer { status, headers: headers.map(|(k, v)| (k.into(), v.into())).collect(), body: body.into() }
        }
    }

    #[derive(Debug)]
    pub struct Answer {
        pub status: u16,
        headers: Vec<(String, String)>,
        pub body: String,
    }

    impl Answer {
        pub fn header(&self, name: &str) -> Option<&str> {
            self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        }
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_does_not_hold_back_the_end() {
        let (publish, _) = watch::channel(Arc::new(view()));
        let slow = Router::new().fallback(async || std::future::pending::<()>().await);
        let served = Served::start(publish, |listener, stop| serve(listener, slow, stop)).await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        served.stop.cancel();
        tokio::time::timeout(LAST_ANSWERS * 5, served.task).await.expect("it ends").unwrap().unwrap();
    }
}
