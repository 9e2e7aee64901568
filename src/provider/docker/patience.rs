//! A connection to an engine that may not fall silent while somebody waits for its answer.
//!
//! An engine that hangs does so anywhere: before its answer (which the client's own limit sees) or in the middle of a
//! list. Without this, whoever reads the rest would wait for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Why it ended, inside of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("it fell silent")]
pub struct Silence;

pub struct Patient<S> {
    stream: S,
    /// `None`: silence means nothing, as on an event stream.
    limit: Option<Duration>,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S> Patient<S> {
    pub fn new(stream: S, limit: Option<Duration>) -> Patient<S> {
        Patient { stream, limit, deadline: Box::pin(sleep(limit.unwrap_or_default())), waiting: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.waiting = false;
            return Poll::Ready(read);
        }
        let Some(limit) = self.limit else { return Poll::Pending };
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + limit);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Silence)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn each_byte_buys_time_and_silence_ends_it() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut patient = Patient::new(near, Some(LIMIT));
        let started = Instant::now();
        let talker = tokio::spawn(async move {
            for _ in 0..4 {
                sleep(LIMIT / 2).await;
                far.write_all(b"x").await.expect("taken");
            }
            far
        });
        let mut read = [0; 4];
        patient.read_exact(&mut read).await.expect("slow is not silent");
        assert!(started.elapsed() >= LIMIT * 2);
        let _open = talker.await.expect("its end");
        let silent = patient.read_exact(&mut read).await.expect_err("nothing more came");
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn without_a_limit_silence_is_nothing() {
        let (near, _far) = tokio::io::duplex(64);
        let mut patient = Patient::new(near, None);
        let mut read = [0; 1];
        assert!(tokio::time::timeout(LIMIT * 2, patient.read_exact(&mut read)).await.is_err());
    }
}
