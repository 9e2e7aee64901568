//! One direction of a tunnel: bytes from one side to the other, in their order, and the end after the last of them.
//!
//! ```text
//! reader ─▶ scratch (the worker's) ─▶ writer          what it does not take: kept, and nothing more is read meanwhile
//!   └─ end ─▶ flush ─▶ shutdown of the writer alone
//! ```
//! An idle direction holds no buffer; one whose reader is faster than its writer holds one read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often one direction reads in a row before others get their turn.
const TURNS: usize = 32;

#[derive(Debug)]
pub struct Pipe {
    /// Read, and not yet taken by the writer.
    kept: Bytes,
    moved: u64,
    unflushed: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The reader has ended.
    Ending,
    Ended,
}

/// Which side failed.
#[derive(Debug)]
pub enum Broken {
    Reader(io::Error),
    Writer(io::Error),
}

impl Pipe {
    /// `ahead` was read from the reader already.
    pub fn new(ahead: Bytes) -> Pipe {
        Pipe { kept: ahead, moved: 0, unflushed: false, stage: Stage::Open }
    }

    /// Bytes that the writer has taken.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// The reader has sent all that it will.
    pub fn has_read_all(&self) -> bool {
        self.stage != Stage::Open
    }

    /// Ready when the reader has ended and the writer was told.
    pub fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        scratch: &mut [u8],
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            while !self.kept.is_empty() {
                let taken = ready!(self.write(cx, writer, None))?;
                self.kept.advance(taken);
            }
            // What was sliced from a larger buffer would hold all of it.
            self.kept = Bytes::new();
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(Broken::Writer)?;
                    self.stage = Stage::Ended;
                    return Poll::Ready(Ok(()));
                }
                Stage::Open => {}
            }
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *reader).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read.map_err(Broken::Reader)?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Broken::Writer)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let read = buffer.filled();
            if read.is_empty() {
                self.stage = Stage::Ending;
                continue;
            }
            let taken = match self.write(cx, writer, Some(read)) {
                Poll::Ready(taken) => taken?,
                Poll::Pending => 0,
            };
            if taken < read.len() {
                self.kept = Bytes::copy_from_slice(&read[taken..]);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Of `bytes`, else of what is kept.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        bytes: Option<&[u8]>,
    ) -> Poll<Result<usize, Broken>> {
        let bytes = bytes.unwrap_or(&self.kept);
        match ready!(Pin::new(writer).poll_write(cx, bytes)) {
            Ok(0) => Poll::Ready(Err(Broken::Writer(io::ErrorKind::WriteZero.into()))),
            Ok(taken) => {
                self.moved += taken as u64;
                self.unflushed = true;
                Poll::Ready(Ok(taken))
            }
            Err(error) => Poll::Ready(Err(Broken::Writer(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn poll(
        pipe: &mut Pipe,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        pipe.poll(&mut Context::from_waker(Waker::noop()), from, to, &mut [0; 8])
    }

    #[tokio::test]
    async fn bytes_keep_their_order_and_no_more_is_read_than_the_writer_takes() {
        let (mut client, mut from) = tokio::io::duplex(1000);
        let (mut to, mut endpoint) = tokio::io::duplex(4);
        let mut pipe = Pipe::new(Bytes::from_static(b"ah"));
        client.write_all(b"ead and then some more").await.unwrap();
        assert!(poll(&mut pipe, &mut from, &mut to).is_pending());
        assert_eq!((pipe.moved(), &pipe.kept[..]), (4, &b"d and "[..]), "one read is kept, the rest waits");
        let mut seen = Vec::new();
        client.shutdown().await.unwrap();
        while seen.len() < 24 {
            let mut part = [0; 4];
            let count = endpoint.read(&mut part).await.unwrap();
            seen.extend_from_slice(&part[..count]);
            let _ = poll(&mut pipe, &mut from, &mut to);
        }
        assert_eq!(String::from_utf8_lossy(&seen), "ahead and then some more");
        assert!(matches!(poll(&mut pipe, &mut from, &mut to), Poll::Ready(Ok(()))));
        assert_eq!(endpoint.read(&mut [0]).await.unwrap(), 0, "the end comes after the last byte");
        assert_eq!(pipe.moved(), 24);
    }

    #[tokio::test]
    async fn whose_fault_an_end_is_can_be_told() {
        let (client, mut from) = tokio::io::duplex(10);
        let (mut to, endpoint) = tokio::io::duplex(10);
        drop(endpoint);
        let mut pipe = Pipe::new(Bytes::from_static(b"x"));
        assert!(matches!(poll(&mut pipe, &mut from, &mut to), Poll::Ready(Err(Broken::Writer(_)))));
        drop(client);
    }
}
