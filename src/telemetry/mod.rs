pub mod access_log {
    use std::net::SocketAddr; use std::time::Duration;
    #[derive(Clone)] pub struct AccessLog; pub struct Lane;
    impl AccessLog { pub fn lane(&self) -> Lane { Lane } }
    impl Lane { pub fn write(&self, _: &Record<'_>) {} pub fn flush(&self) {} }
    pub struct TlsRecord<'a> { pub version: &'a str, pub cipher: &'a str, pub sni: Option<&'a str>, pub resumed: Option<bool> }
    pub struct Record<'a> { pub time: jiff::Timestamp, pub client: SocketAddr, pub listener: &'a str, pub protocol: &'a str, pub method: &'a str, pub host: &'a str, pub path: &'a str, pub status: u16, pub request_bytes: u64, pub response_bytes: u64, pub duration: Duration, pub upstream_duration: Option<Duration>, pub route: Option<&'a str>, pub service: Option<&'a str>, pub endpoint: Option<&'a str>, pub tls: Option<TlsRecord<'a>>, pub reason: Option<&'a str>, pub user_agent: Option<&'a str>, pub referer: Option<&'a str> }
}
pub mod metrics {
    use std::{rc::Rc, sync::Arc, time::Duration};
    pub struct Metrics; pub struct MetricsLane; #[derive(Debug)] pub struct RouteCells; pub struct Guard;
    impl Metrics { pub fn lane(self: &Arc<Self>) -> MetricsLane { MetricsLane } }
    impl MetricsLane {
        pub fn route(&self, _: &str, _: &str) -> Rc<RouteCells> { Rc::new(RouteCells) }
        pub fn refusal(&self, _: &'static str) {} pub fn upstream_error(&self, _: &str, _: &'static str) {}
        pub fn request_begins(&self) {} pub fn request_ends(&self) {} pub fn connection(&self, _: &str) -> Guard { Guard }
        pub fn handshake_failure(&self, _: &'static str) {} pub fn flush(&self) {}
    }
    impl RouteCells { pub fn record(&self, _: u16, _: Duration) {} }
}
