//! Serves a router to whoever comes, without letting anybody stay in the way of the others.
//!
//! These addresses are for probes, scrapes and commands: few connections, short ones. When there are too many the oldest
//! gives way, so that a probe gets through whatever slow clients do.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

const MOST_CONNECTIONS: usize = 128;
/// For a head to be read, the idle time before it included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD: usize = 16 << 10;
/// For what is being answered when `stop` comes; a client that never reads is not waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Until `stop`.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    // Oldest first.
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                open.retain(|task| task.id() != id);
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if open.len() >= MOST_CONNECTIONS
                        && let Some(oldest) = open.pop_front()
                    {
                        oldest.abort();
                    }
                    open.push_back(tasks.spawn(connection(stream, router.clone(), stop.clone())));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors or memory: asking again at once would only spin.
                    tracing::warn!(%error, "cannot accept; trying again");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(LAST_ANSWERS, async { while tasks.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let mut served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::Pin::new(&mut served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "status or admin connection ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start(
        router: Router,
    ) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        (address, stop.clone(), tokio::spawn(serve(listener, router, stop)))
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_does_not_hold_back_the_end() {
        let slow = Router::new().fallback(async || std::future::pending::<()>().await);
        let (address, stop, task) = start(slow).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        tokio::time::timeout(LAST_ANSWERS * 5, task).await.expect("it ends").unwrap().unwrap();
    }

    #[tokio::test]
    async fn clients_that_stay_give_way_to_one_that_asks() {
        let (address, _stop, _task) = start(Router::new().fallback(async || "here\n")).await;
        let mut slow = Vec::new();
        for _ in 0..MOST_CONNECTIONS + 10 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
            slow.push(stream);
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here\n"), "{answer}");
        // The oldest are gone, by end or by reset; the newest are not.
        let patience = Duration::from_secs(10);
        let gone = tokio::time::timeout(patience, slow[0].read(&mut [0])).await.expect("closed");
        assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
        let newest = slow.last_mut().unwrap();
        newest.write_all(b"st: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        newest.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here\n"), "{answer}");
    }
}
