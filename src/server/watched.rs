//! A connection's bytes, watched: its head's deadline and its framing.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::{
    clock,
    server::{
        crowd::Activity,
        framing::{END_OF_HEAD, Framing},
    },
};

/// A stream whose reads are followed by [`Framing`] and end with an error when a head takes too
/// long. The first head's time starts when the connection opens, a later one's with its first
/// byte, or with the end of the request before it where that is later.
pub(super) struct Watched<S> {
    stream: S,
    framing: Framing,
    /// What is still to follow a refused head.
    end_of_head: &'static [u8],
    activity: Arc<Activity>,
    header_timeout: Duration,
    /// Set while a head is waited for.
    head_deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, header_timeout: Duration) -> Self {
        let head_deadline = Some(Box::pin(tokio::time::sleep(header_timeout)));
        Self {
            stream,
            framing: Framing::new(),
            end_of_head: END_OF_HEAD,
            activity,
            header_timeout,
            head_deadline,
        }
    }

    /// Whether the head that is being read is late. Registers the task to be woken when it is.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = &mut self.head_deadline else { return false };
        if deadline.as_mut().poll(cx).is_pending() {
            return false;
        }
        match self.activity.quiet_for() {
            Some(quiet) if quiet >= self.header_timeout => true,
            // A pipelined head waits for the request before it: that is not the client's fault.
            quiet => {
                let wait = self.header_timeout - quiet.unwrap_or(Duration::ZERO);
                deadline.as_mut().reset(tokio::time::Instant::from(clock::instant() + wait));
                // Polled so that the new time wakes the task.
                deadline.as_mut().poll(cx).is_ready()
            }
        }
    }

    fn follow(&mut self, bytes: &mut [u8]) {
        self.framing.inspect(bytes);
        if !self.framing.in_head() {
            self.head_deadline = None;
        } else if self.head_deadline.is_none() {
            self.head_deadline = Some(Box::pin(tokio::time::sleep(self.header_timeout)));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_late(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.framing.is_refused() && !self.end_of_head.is_empty() {
            let n = buf.remaining().min(self.end_of_head.len());
            let (now, later) = self.end_of_head.split_at(n);
            buf.put_slice(now);
            self.end_of_head = later;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.follow(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
