//! A connection's bytes and requests, watched: its head's deadline, its framing, its idleness.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::{
    clock,
    server::framing::{END_OF_HEAD, Framing},
};

/// How many requests a connection is busy with, and since when it is quiet. Shared by the
/// connection and its requests, which on HTTP/2 are tasks of their own.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    in_flight: AtomicUsize,
    /// Microseconds after `opened` at which the last request ended.
    quiet_since: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: clock::instant(),
            in_flight: AtomicUsize::new(0),
            quiet_since: AtomicU64::new(0),
        })
    }

    /// Counts a request until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// How long no request has been in flight; none while one is.
    pub(super) fn quiet_for(&self) -> Option<Duration> {
        if self.in_flight.load(Ordering::Acquire) > 0 {
            return None;
        }
        let since = Duration::from_micros(self.quiet_since.load(Ordering::Relaxed));
        Some(self.opened.elapsed().saturating_sub(since))
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.quiet_since.store(now, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}

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
