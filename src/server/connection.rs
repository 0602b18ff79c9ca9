//! One connection, from its first byte to its end.
//!
//! A connection ends when the client closes it, when it has been quiet for `server.idle_timeout`,
//! when a request's head is late, when it is the longest idle one and another needs its place, or
//! on shutdown, then after the requests in flight are answered. Over HTTP/2 a head is late that is
//! the connection's first one ([`Watched`] cannot follow the others), and a client that answers no
//! ping is gone.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    api::Ended,
    server::{
        Front,
        crowd::{Activity, InFlight, Member},
        watched::Watched,
    },
    shutdown::Signal,
};

/// HTTP/1: the most that is buffered of a head (beyond it 431), and read at once of a body.
const HTTP1_BUFFER: usize = 64 * 1024;
/// HTTP/2: requests at once on one connection.
const HTTP2_STREAMS: u32 = 128;
/// HTTP/2: a request's header fields together, bytes.
const HTTP2_HEADERS: u32 = 16 * 1024;
/// HTTP/2: what a client may send ahead on one stream, and on the whole connection.
const HTTP2_STREAM_WINDOW: u32 = 128 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 256 * 1024;
/// HTTP/2: streams reset by the client before they were taken, and by us because of the client's
/// errors, that are borne before the connection is closed (rapid reset and its like).
const HTTP2_PENDING_RESETS: usize = 20;
const HTTP2_LOCAL_RESETS: usize = 64;
/// HTTP/2: a silent peer is asked for a sign of life, and closed without one.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What a connection that was asked to end while quiet gets to do so.
const FAREWELL: Duration = Duration::from_secs(5);

/// What an idle connection that has to make room gets, from its last answer on: that answer may
/// still be on its way. Who has been idle longer is closed at once.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Connections {
    front: Arc<Front>,
    protocol: auto::Builder<TokioExecutor>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl Connections {
    pub(super) fn new(
        front: Arc<Front>,
        header_timeout: Duration,
        idle_timeout: Duration,
    ) -> Arc<Self> {
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol
            .http1()
            // `Watched` keeps the time: hyper's timer would also run between requests.
            .header_read_timeout(None)
            .max_buf_size(HTTP1_BUFFER)
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_header_list_size(HTTP2_HEADERS)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
            .max_local_error_reset_streams(HTTP2_LOCAL_RESETS)
            .keep_alive_interval(HTTP2_PING_EVERY)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT);
        Arc::new(Self { front, protocol, header_timeout, idle_timeout })
    }

    pub(super) fn header_timeout(&self) -> Duration {
        self.header_timeout
    }

    /// Serves one connection to its end.
    pub(super) async fn serve<S>(self: Arc<Self>, stream: S, member: &Member, mut signal: Signal)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let activity = Arc::clone(member);
        let watched = Watched::new(stream, Arc::clone(&activity), self.header_timeout);
        let service = hyper::service::service_fn(|request: Request<Incoming>| {
            let in_flight = activity.begin();
            let front = Arc::clone(&self.front);
            async move { Ok::<_, Infallible>(hold(front.serve(request).await, in_flight)) }
        });
        let mut connection = pin!(self.protocol.serve_connection(TokioIo::new(watched), service));
        let mut wake = pin!(tokio::time::sleep(self.patience(&activity)));
        let mut is_ending = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(e) = result {
                        tracing::debug!(error = e, "connection ended");
                    }
                    return;
                }
                () = signal.fired(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = activity.asked_to_leave() => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                    let rest = ROOM_WAIT.saturating_sub(activity.quiet_for().unwrap_or_default());
                    let ended = tokio::time::timeout(rest, connection.as_mut()).await;
                    // A request that came at the last moment is answered before the end.
                    if ended.is_ok() || activity.quiet_for().is_some() {
                        return;
                    }
                }
                () = wake.as_mut() => {
                    let patience = self.patience(&activity);
                    let wait = match activity.quiet_for() {
                        None => patience,
                        Some(quiet) if quiet < patience => patience - quiet,
                        Some(_) if is_ending => return,
                        Some(_) => {
                            is_ending = true;
                            connection.as_mut().graceful_shutdown();
                            FAREWELL
                        }
                    };
                    wake.as_mut().reset(tokio::time::Instant::now() + wait);
                }
            }
        }
    }
}

impl Connections {
    /// How long a connection may be quiet.
    fn patience(&self, activity: &Activity) -> Duration {
        if activity.is_new() {
            self.header_timeout.min(self.idle_timeout)
        } else {
            self.idle_timeout
        }
    }
}

/// Keeps a request in flight until its answer has been produced whole: a stream of events is not
/// idleness. A body of known size is at hand, so there is nothing to wait for. A stream says itself
/// when it has ended: the rest of it may never be taken.
fn hold(
    mut response: Response<axum::body::Body>,
    in_flight: InFlight,
) -> Response<axum::body::Body> {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    if let Some(Ended(mut ended)) = response.extensions_mut().remove() {
        tokio::spawn(async move {
            ended.fired().await;
            drop(in_flight);
        });
        return response;
    }
    response.map(|body| {
        axum::body::Body::new(body.map_frame(move |frame| {
            let _held = &in_flight;
            frame
        }))
    })
}
