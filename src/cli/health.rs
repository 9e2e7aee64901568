//! `portolan health`: for a container's HEALTHCHECK, where no other program is at hand.

use anyhow::bail;
use hyper::StatusCode;

use super::client;

/// Whether the proxy whose `status.address` this is calls itself ready; the error says what it says instead.
pub async fn check(status_address: &str) -> anyhow::Result<()> {
    match client::get(status_address, "/readyz").await? {
        (StatusCode::OK, _) => Ok(()),
        (status, body) => bail!("{status}: {}", String::from_utf8_lossy(&body).trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::tests::answering;

    #[tokio::test]
    async fn healthy_is_ready() {
        let (port, head) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(check(&format!(":{port}")).await.is_ok());
        assert!(head.await.unwrap().starts_with("GET /readyz "));
        let (port, _) = answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 8\r\n\r\nstarting").await;
        let why = check(&format!(":{port}")).await.unwrap_err().to_string();
        assert!(why.contains("503") && why.contains("starting"), "{why}");
        let (port, task) = answering("").await;
        task.abort();
        assert!(task.await.is_err());
        assert!(check(&format!(":{port}")).await.is_err(), "nothing listens");
    }
}
