//! A server that answers before it has the whole request, and closes: its answer counts, not that the rest cannot be sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection that is read to its end although nobody takes what is written: once a write failed, what follows is
/// dropped, and what was answered, or that nothing was, is found by reading.
#[derive(Debug)]
pub(crate) struct Patient {
    stream: TcpStream,
    deaf: bool,
}

impl Patient {
    pub(crate) const fn new(stream: TcpStream) -> Self {
        Self { stream, deaf: false }
    }

    /// What a write came to, where `all` is what there was to write.
    fn written<T>(&mut self, result: Poll<io::Result<T>>, all: T) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                Poll::Ready(Ok(all))
            }
            other => other,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(result, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(all));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(result, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(result, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(result, ())
    }
}
