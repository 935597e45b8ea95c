//! Answers of a given size, made as they are sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// The largest answer of `/bytes`, in bytes.
pub const MAX_BYTES: u64 = 1 << 30;

const CHUNK: &[u8] = &[b'x'; 64 * 1024];

/// A body of `left` times the letter x.
pub(crate) struct Filler {
    pub(crate) left: u64,
}

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.left.min(CHUNK.len() as u64);
        if size == 0 {
            return Poll::Ready(None);
        }
        self.left -= size;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK[..size as usize])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
