//! Open connections.
//!
//! An HTTP/1.1 connection has no task: the attempt that holds it moves its bytes. A request then
//! costs no hand-over between two tasks and no wake-up beyond the socket's own. While it rests in
//! the pool nobody listens to it; [`Http1::look`] catches up with what came meanwhile.
//!
//! An HTTP/2 connection is shared, so a task on the shard's own thread drives it. The handle owns
//! the connection's life: when it is dropped (idle for too long, too old, evicted), the task gets
//! [`LINGER`] to say goodbye, and then the socket is shut down under it. A peer that neither reads
//! nor closes can therefore not keep a descriptor.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    os::fd::AsFd as _,
    pin::{Pin, pin},
    rc::{Rc, Weak},
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::oneshot,
    task::{spawn_local, unconstrained},
    time::timeout,
};

use super::{
    io::{InOnePiece, Socket},
    pool::Permit,
};

/// How long a connection whose handle is gone may take to close.
const LINGER: Duration = Duration::from_secs(2);

/// A response's head on HTTP/1.1, and how far its body is read ahead of us.
const HTTP1_BUFFER: usize = 32 * 1024;

/// A response's head on HTTP/2.
const HTTP2_HEADER_LIST: u32 = 16 * 1024;

/// One response body fits with room to spare; what is beyond its limit is never read.
const HTTP2_STREAM_WINDOW: u32 = 128 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// While requests are open, a peer that is silent this long is asked whether it is there …
const HTTP2_PING_AFTER: Duration = Duration::from_secs(10);
/// … and has this long to say so.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What both kinds of connection know of themselves. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: SocketAddr,
    pub(super) opened: Instant,
    socket: Weak<RefCell<TcpStream>>,
    _permit: Permit,
}

impl Link {
    /// Asks the kernel, past the runtime, whether an idle peer has closed the connection or sent
    /// what nobody asked for. The runtime may not have heard of it yet, and a request written now
    /// would be lost.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(socket) = self.socket.upgrade() else { return false };
        let peeked =
            recv(socket.borrow().as_fd(), &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }
}

/// An HTTP/1.1 connection; whoever holds it has it alone, and drives it.
pub(super) struct Http1 {
    /// None only while it is being dropped.
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    driver: Driver,
    pub(super) link: Link,
}

impl Http1 {
    pub(super) async fn open<T>(io: T, socket: Opened) -> hyper::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .title_case_headers(true)
            .max_buf_size(HTTP1_BUFFER)
            .handshake(TokioIo::new(io))
            .await?;
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let driver = Driver { connection: Some(Box::pin(connection)), bell, waker };
        Ok(Self { sender: Some(sender), driver, link: socket.into_link() })
    }

    /// Takes a request. Its answer comes only to one who drives the connection meanwhile; who
    /// stops half-way must drop the connection, too.
    pub(super) fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>> + use<>
    {
        self.sender.as_mut().expect("only a drop takes it").try_send_request(request)
    }

    /// Moves the connection's bytes while `work` waits for some of them, and for nothing else.
    pub(super) async fn drive<W: Future>(&mut self, work: Pin<&mut W>) -> W::Output {
        // Only the driver can move `work` on, and it has just been polled: no waker is needed,
        // and no budget of the runtime may send it away.
        let mut work = unconstrained(work);
        let mut unheard = Context::from_waker(Waker::noop());
        let done = poll_fn(|cx| {
            self.driver.bell.give(Some(cx.waker()));
            self.driver.poll();
            Pin::new(&mut work).poll(&mut unheard)
        })
        .await;
        self.driver.bell.give(None);
        done
    }

    /// Whether it can take a request now. A connection that is still writing the last request
    /// (the response came early) is not worth waiting for.
    pub(super) fn is_ready(&self) -> bool {
        self.driver.connection.is_some()
            && self.sender.as_ref().is_some_and(http1::SendRequest::is_ready)
    }

    /// Takes notice of what the peer did while the connection was at rest, as far as the runtime
    /// has heard of it. Costs no system call where there was nothing.
    pub(super) fn look(&mut self) {
        self.driver.poll();
    }
}

impl Drop for Http1 {
    /// Without its handle, a connection at rest has one thing left to do: to say goodbye, which
    /// matters over TLS. The socket takes that at once, or it is of no use.
    fn drop(&mut self) {
        drop(self.sender.take());
        self.look();
    }
}

impl std::fmt::Debug for Http1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http1").field("link", &self.link).finish_non_exhaustive()
    }
}

/// What moves an HTTP/1.1 connection's bytes when it is polled.
struct Driver {
    /// None once it has ended. Dropping it is what tells a request that it never took.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>>>>>,
    bell: Arc<Bell>,
    /// Rings the bell. Everything below keeps it from one poll to the next and need not change it.
    waker: Waker,
}

/// Wakes whoever drives a connection now. While nobody does, it is silent: hyper wakes the last
/// one who polled when it is given a request, and by then that one is busy elsewhere.
#[derive(Debug, Default)]
struct Bell(Mutex<Option<Waker>>);

impl Bell {
    fn give(&self, waker: Option<&Waker>) {
        let mut held = self.0.lock().expect("wakers do not panic");
        match (&mut *held, waker) {
            (Some(held), Some(waker)) => held.clone_from(waker),
            (held, waker) => *held = waker.cloned(),
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(waker) = &*self.0.lock().expect("wakers do not panic") {
            waker.wake_by_ref();
        }
    }
}

impl Driver {
    fn poll(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let mut cx = Context::from_waker(&self.waker);
        if let Poll::Ready(ended) = connection.as_mut().poll(&mut cx) {
            self.connection = None;
            if let Err(error) = ended {
                // The attempt that it hit, if there was one, is told by hyper; this is for the
                // rest.
                tracing::trace!(%error, "connection ended");
            }
        }
    }
}

/// An HTTP/2 connection, shared by requests of one tenant to one origin.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<Full<Bytes>>,
    pub(super) link: Link,
    pub(super) streams: Cell<usize>,
    /// When the last stream ended.
    pub(super) idle_since: Cell<Instant>,
    /// The server's own limit of open streams, as last heard.
    allowed: Rc<Cell<usize>>,
    _released: oneshot::Sender<Infallible>,
}

impl Http2 {
    pub(super) async fn open<T>(io: T, socket: Opened) -> hyper::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_header_list_size(HTTP2_HEADER_LIST)
            .keep_alive_interval(HTTP2_PING_AFTER)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .handshake(TokioIo::new(InOnePiece(io)))
            .await?;
        let allowed = Rc::new(Cell::new(connection.current_max_send_streams()));
        let heard = Rc::clone(&allowed);
        let idle_since = Cell::new(socket.at);
        let (link, released) = socket.drive(async move {
            let mut connection = pin!(connection);
            poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                heard.set(connection.current_max_send_streams());
                ended
            })
            .await
        });
        let streams = Cell::new(0);
        Ok(Self { sender, link, streams, idle_since, allowed, _released: released })
    }

    /// Whether it can take one more request, of at most `limit`.
    pub(super) fn has_room(&self, limit: usize) -> bool {
        self.streams.get() < limit.min(self.allowed.get()).max(1)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// A socket that is connected, about to become a connection.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) peer: SocketAddr,
    pub(super) at: Instant,
    pub(super) socket: Socket,
    pub(super) permit: Permit,
}

impl Opened {
    fn into_link(self) -> Link {
        let socket = Rc::downgrade(&self.socket.0);
        Link { peer: self.peer, opened: self.at, socket, _permit: self.permit }
    }

    /// Spawns the task that moves the connection's bytes until what comes back is dropped.
    fn drive(
        self,
        connection: impl Future<Output = hyper::Result<()>> + 'static,
    ) -> (Link, oneshot::Sender<Infallible>) {
        let (released, mut handle) = oneshot::channel::<Infallible>();
        let link = self.into_link();
        let under = Weak::clone(&link.socket);
        spawn_local(async move {
            if let Err(error) = finish(connection, &mut handle).await {
                // The attempts that it hit, if there were any, have been told.
                tracing::trace!(%error, "connection ended");
            }
            close(under).await;
        });
        (link, released)
    }
}

/// Drives a connection to its end, or until it has had its time after its handle was dropped.
async fn finish(
    connection: impl Future<Output = hyper::Result<()>>,
    handle: &mut oneshot::Receiver<Infallible>,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = &mut connection => return ended,
        _ = handle => {}
    }
    timeout(LINGER, connection).await.unwrap_or(Ok(()))
}

/// HTTP/2 keeps its socket in a task of its own, which flushes what is left and then closes. It
/// gets the same time as everyone; after that, what it waits for fails.
async fn close(socket: Weak<RefCell<TcpStream>>) {
    if socket.strong_count() == 0 {
        return;
    }
    tokio::time::sleep(LINGER).await;
    if let Some(socket) = socket.upgrade() {
        // Fails where the peer was faster.
        let _ = shutdown(socket.borrow().as_fd(), Shutdown::Both);
    }
}

/// Runs what hyper's HTTP/2 wants run beside a connection on the shard's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}
