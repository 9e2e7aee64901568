//! What operators and their tools ask over HTTP, on addresses of its own.
//!
//! ```text
//! View ─▶ report (pure) ─▶ api     admin address, loopback: /api/…
//!      └──────────────────▶ status  any address: /healthz /readyz /metrics
//! ```

pub mod api;
mod poll;
pub mod report;
mod serve;
pub mod status;

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

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
            verdicts: Default::default(),
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
            policies: Vec::new(),
            ready: true,
            not_ready_because: None,
        }
    }

    /// A server under test on a port of its own, asked in plain text: heads that no client would send as well.
    pub struct Served {
        pub publish: watch::Sender<Arc<View>>,
        address: SocketAddr,
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
            tokio::spawn(serve(listener, CancellationToken::new()));
            Served { publish, address }
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
}
