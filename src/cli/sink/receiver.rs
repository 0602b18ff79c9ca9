//! The receiver behind `sink` and `dev`: a customer's endpoint that counts, verifies and, if asked,
//! fails.
//!
//! It runs on a thread and a runtime of its own, so that one process can hold it and a gateway.
//! What it does to a request follows from the seed, the path, the `webhook-id` and the attempt
//! number alone, never from the order of arrival: two runs fail the same attempts.
//!
//! A duplicate is a request for an event that this path has already answered with a success. An
//! attempt after a failure is no duplicate, and two webhooks (two paths) may get the same event.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering::Relaxed},
        mpsc::SyncSender,
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};

use super::told::{Seen, Signature, Told};
use crate::{
    clock,
    sender::sign::{StandardHeaders, verify_hex, verify_standard},
    shutdown,
    tenant::SigningSecret,
};

/// The largest body read.
const MAX_BODY: usize = 1 << 20;
/// Events remembered to tell duplicates by, eight bytes each; those beyond are counted as
/// `untracked`.
const MAX_EVENTS: usize = 4_000_000;
/// A request that hangs is answered after this at the latest.
const MAX_HANG: Duration = Duration::from_secs(600);
/// How far `webhook-timestamp` may be from now, as Standard Webhooks recommends.
const TOLERANCE: Duration = Duration::from_secs(300);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the receiver behaves.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    pub listen: SocketAddr,
    /// Waits this long before it answers.
    pub latency: Duration,
    /// The share of requests answered with 500.
    pub fail_rate: f64,
    /// The share of requests that get no answer.
    pub hang_rate: f64,
    /// What the others are answered with.
    pub status: u16,
    pub seed: u64,
    /// Verifies what comes on paths that have no secret of their own ([`SinkHandle::set_secret`]). A
    /// request that no secret covers is counted as unverified and treated like the others.
    pub secret: Option<SigningSecret>,
    /// Told of every request once its answer is known; never waited for.
    pub watch: Option<SyncSender<Told>>,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            latency: Duration::ZERO,
            fail_rate: 0.0,
            hang_rate: 0.0,
            status: 200,
            seed: 0,
            secret: None,
            watch: None,
        }
    }
}

/// What came so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    pub requests: u64,
    /// Answered with 2xx.
    pub succeeded: u64,
    /// Answered with anything else on purpose.
    pub failed: u64,
    /// Left without an answer on purpose.
    pub hung: u64,
    /// Refused: one of the two signatures is missing or wrong.
    pub bad_signatures: u64,
    /// Refused: not a POST, no `webhook-id` or attempt number, or a body that is too large.
    pub malformed: u64,
    /// Accepted without a secret to verify by.
    pub unverified: u64,
    /// Events that had a success, each counted once per path.
    pub events: u64,
    /// Successes beyond the first of an event on a path.
    pub duplicates: u64,
    pub untracked: u64,
    /// Not told to whoever watches, who was too slow for them.
    pub untold: u64,
    pub connections: u64,
}

/// A running receiver; stops when dropped.
#[derive(Debug)]
pub struct SinkHandle {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    stop: shutdown::Trigger,
    thread: Option<JoinHandle<()>>,
}

/// Binds, and receives until stopped.
pub fn start(options: SinkOptions) -> std::io::Result<SinkHandle> {
    let listener = TcpListener::bind(options.listen)?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let shared = Arc::new(Shared::new(options));
    let (stop, stopped) = shutdown::channel();
    let thread = std::thread::Builder::new().name("sink".to_owned()).spawn({
        let shared = Arc::clone(&shared);
        move || run(listener, shared, stopped)
    })?;
    Ok(SinkHandle { addr, shared, stop, thread: Some(thread) })
}

impl SinkHandle {
    pub fn stats(&self) -> Stats {
        self.shared.state().stats
    }

    /// Requests to `/t/<tenant>` and below are verified with this secret from now on.
    pub fn set_secret(&self, tenant: &str, secret: SigningSecret) {
        self.shared.state().secrets.insert(tenant.to_owned(), secret);
    }

    /// Answers with another status from now on; how a test mends or breaks the receiver.
    pub fn set_status(&self, status: u16) {
        self.shared.status.store(status, Relaxed);
    }

    /// Closes every connection and tells what came.
    pub fn stop(mut self) -> Stats {
        self.join();
        self.stats()
    }

    fn join(&mut self) {
        self.stop.fire();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the receiver's thread panicked");
        }
    }
}

impl Drop for SinkHandle {
    fn drop(&mut self) {
        self.join();
    }
}

#[derive(Debug)]
struct Shared {
    options: SinkOptions,
    status: AtomicU16,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stats: Stats,
    secrets: HashMap<String, SigningSecret>,
    /// Hashes of path and `webhook-id` that had a success.
    events: HashSet<u64>,
}

/// What to do with a request that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Answer,
    Fail,
    Hang,
}

impl Shared {
    fn new(options: SinkOptions) -> Self {
        Self { status: AtomicU16::new(options.status), state: Mutex::default(), options }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn receive(&self, request: Request<Incoming>) -> StatusCode {
        self.state().stats.requests += 1;
        let (head, body) = request.into_parts();
        let (path, headers) = (head.uri.path(), &head.headers);
        let id = text(headers, "webhook-id");
        let attempt = text(headers, "x-senderz-attempt");
        let body = Limited::new(body, MAX_BODY).collect().await;
        let (Ok(body), Some(id), Some(attempt), &Method::POST) = (body, id, attempt, &head.method)
        else {
            self.state().stats.malformed += 1;
            return self.answered(headers, Signature::Malformed, StatusCode::BAD_REQUEST);
        };
        let signature = self.verify(path, headers, id, &body.to_bytes());
        if signature == Signature::Wrong {
            self.state().stats.bad_signatures += 1;
            return self.answered(headers, signature, StatusCode::UNAUTHORIZED);
        }
        let plan = self.plan(path, id, attempt);
        if plan == Plan::Hang {
            self.state().stats.hung += 1;
            self.tell(headers, signature, None);
            tokio::time::sleep(MAX_HANG).await;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        if !self.options.latency.is_zero() {
            tokio::time::sleep(self.options.latency).await;
        }
        let status = match plan {
            Plan::Fail => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::from_u16(self.status.load(Relaxed)).unwrap_or(StatusCode::OK),
        };
        self.state().record(status, hash(&(path, id)));
        self.answered(headers, signature, status)
    }

    fn answered(
        &self,
        headers: &HeaderMap,
        signature: Signature,
        status: StatusCode,
    ) -> StatusCode {
        self.tell(headers, signature, Some(status.as_u16()));
        status
    }

    fn tell(&self, headers: &HeaderMap, signature: Signature, status: Option<u16>) {
        let Some(watch) = &self.options.watch else { return };
        let owned = |name| text(headers, name).map(str::to_owned);
        let seen = Seen {
            at: clock::wall_ms(),
            webhook_id: owned("webhook-id"),
            event_type: owned("x-senderz-event"),
            attempt: owned("x-senderz-attempt"),
            status,
            signature,
        };
        if watch.try_send(Told::Request(seen)).is_err() {
            self.state().stats.untold += 1;
        }
    }

    fn verify(&self, path: &str, headers: &HeaderMap, id: &str, body: &[u8]) -> Signature {
        let tenant = path.strip_prefix("/t/").and_then(|rest| rest.split('/').next());
        let secret = {
            let mut state = self.state();
            let own = tenant.and_then(|tenant| state.secrets.get(tenant)).cloned();
            let Some(secret) = own.or_else(|| self.options.secret.clone()) else {
                state.stats.unverified += 1;
                return Signature::NotVerified;
            };
            secret
        };
        let standard = StandardHeaders {
            id,
            timestamp: text(headers, "webhook-timestamp").unwrap_or_default(),
            signature: text(headers, "webhook-signature").unwrap_or_default(),
        };
        let hex = text(headers, "x-senderz-signature").unwrap_or_default();
        let is_right = verify_hex(&secret, hex, body).is_ok()
            && verify_standard(&secret, standard, body, clock::wall_ms(), TOLERANCE).is_ok();
        if is_right { Signature::Verified } else { Signature::Wrong }
    }

    fn plan(&self, path: &str, id: &str, attempt: &str) -> Plan {
        let SinkOptions { seed, fail_rate, hang_rate, .. } = self.options;
        let draw = |purpose: u8| hash(&(seed, purpose, path, id, attempt)) as f64 / u64::MAX as f64;
        if draw(0) < hang_rate {
            Plan::Hang
        } else if draw(1) < fail_rate {
            Plan::Fail
        } else {
            Plan::Answer
        }
    }
}

impl State {
    fn record(&mut self, status: StatusCode, event: u64) {
        if !status.is_success() {
            self.stats.failed += 1;
            return;
        }
        self.stats.succeeded += 1;
        if self.events.contains(&event) {
            self.stats.duplicates += 1;
        } else if self.events.len() < MAX_EVENTS {
            self.events.insert(event);
            self.stats.events += 1;
        } else {
            self.stats.untracked += 1;
        }
    }
}

fn run(listener: TcpListener, shared: Arc<Shared>, mut stop: shutdown::Signal) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs a few file descriptors");
    runtime.block_on(async {
        tokio::select! {
            () = serve(listener, shared) => {}
            () = stop.fired() => {}
        }
    });
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is non-blocking");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Small answers must not wait for the acknowledgement of the last one.
        let _ = stream.set_nodelay(true);
        shared.state().stats.connections += 1;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move {
                    let mut response = Response::new(Full::new(Bytes::new()));
                    *response.status_mut() = shared.receive(request).await;
                    Ok::<_, Infallible>(response)
                }
            });
            // An error means that the gateway closed the connection.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn hash(value: &impl Hash) -> u64 {
    // The same in every run of one build: this hasher's keys are fixed.
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
