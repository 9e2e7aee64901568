//! A request's body that can be sent once more, as long as little of it has gone.
//!
//! ```text
//! Coming ─▶ Kept ─frames, remembered up to MOST─▶ stream ─refused─▶ the next holder: what was remembered, then the rest
//! ```
//! For h2 endpoints, which refuse streams in the ordinary course of things: when they have enough of them, and when they
//! close (RFC 9113 §6.8, §8.7). What is remembered is shared with what is sent, not copied, and forgotten with the answer.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::{Coming, UploadError};

/// The first window of a stream (RFC 9113 §6.9.2): what may have gone before the endpoint said anything.
const MOST: usize = 65_535;

/// One holder of a body. The one that came last has it.
#[derive(Debug)]
pub struct Kept {
    body: Rc<RefCell<Keeping>>,
    holder: u32,
    /// Index of the remembered frame that goes next.
    next: usize,
}

#[derive(Debug)]
struct Keeping {
    coming: Box<Coming>,
    remembered: Vec<Bytes>,
    size: usize,
    /// Nothing that was taken is missing among what is remembered.
    whole: bool,
    ended: bool,
    holder: u32,
}

impl Kept {
    pub fn new(coming: Box<Coming>) -> Kept {
        let keeping = Keeping { coming, remembered: Vec::new(), size: 0, whole: true, ended: false, holder: 0 };
        Kept { body: Rc::new(RefCell::new(keeping)), holder: 0, next: 0 }
    }

    /// Has nothing of it until [`Kept::take`].
    pub fn next_holder(&self) -> Kept {
        Kept { body: self.body.clone(), holder: self.holder + 1, next: 0 }
    }

    /// From its beginning; whether it is still all there.
    pub fn take(&self) -> bool {
        let mut keeping = self.body.borrow_mut();
        if keeping.whole {
            keeping.holder = self.holder;
        }
        keeping.whole
    }

    pub fn pass_in_h2(&self) {
        self.body.borrow_mut().coming.pass_in_h2();
    }
}

impl Body for Kept {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let body = self.body.clone();
        let mut keeping = body.borrow_mut();
        if keeping.holder != self.holder {
            return Poll::Ready(Some(Err(UploadError::Moved)));
        }
        if let Some(frame) = keeping.remembered.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(frame.clone()))));
        }
        if keeping.ended {
            return Poll::Ready(None);
        }
        let polled = keeping.coming.poll_frame(cx);
        keeping.coming.settle();
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                // `body` is one of the holders here.
                let wanted = keeping.whole && Rc::strong_count(&body) > 2;
                match frame.data_ref() {
                    Some(data) if wanted && keeping.size + data.len() <= MOST => {
                        keeping.size += data.len();
                        keeping.remembered.push(data.clone());
                    }
                    _ => {
                        keeping.whole = false;
                        keeping.remembered = Vec::new();
                    }
                }
                self.next = keeping.remembered.len();
            }
            Poll::Ready(Some(Err(_))) => keeping.whole = false,
            Poll::Ready(None) => keeping.ended = true,
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let keeping = self.body.borrow();
        self.next >= keeping.remembered.len() && (keeping.ended || keeping.coming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let keeping = self.body.borrow();
        let ahead: u64 = keeping.remembered.iter().skip(self.next).map(|frame| frame.len() as u64).sum();
        let rest = keeping.coming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}
