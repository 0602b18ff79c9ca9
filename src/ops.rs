//! The operations listener: `/metrics`, `/livez`, `/readyz`, `/version`.
//!
//! It has a thread and a runtime of its own, so that a gateway which is saturated, or draining, can
//! still be looked at. It is the last to stop: during the drain it answers that the gateway is not
//! ready. The same thread drains the metrics exporter once a second, whether anyone listens or not.
//!
//! It serves no secrets and takes no commands; who may reach it is the network's business.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use crate::{metrics, shutdown};

/// Open at once; beyond it new ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// A connection that sends no request for this long is closed, so that idle ones cannot fill the
/// listener.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// After a failed accept (no file descriptor left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// What can keep the gateway from being ready, by the names that `/readyz` shows.
pub mod reason {
    pub const STARTING: &str = "starting";
    pub const RECOVERING: &str = "recovering";
    pub const DRAINING: &str = "draining";
    pub const STORE_FULL: &str = "store_full";
    pub const STORE_FAILED: &str = "store_failed";
    pub const THREAD_FAILED: &str = "thread_failed";
}

/// A latch: the gateway is ready while no reason against it holds. Copies share one latch.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Reasons>>);

#[derive(Debug, Default)]
struct Reasons {
    /// Reasons held by parts that still start, with how many hold each.
    held: BTreeMap<&'static str, usize>,
    /// Conditions that come and go.
    set: BTreeMap<&'static str, ()>,
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the hold is dropped. Several may hold the same reason.
    pub fn hold(&self, reason: &'static str) -> ReadyHold {
        *self.reasons_now().held.entry(reason).or_default() += 1;
        ReadyHold { readiness: self.clone(), reason }
    }

    /// Switches a condition: not ready while it is on.
    pub fn set(&self, reason: &'static str, on: bool) {
        let mut reasons = self.reasons_now();
        if on {
            reasons.set.insert(reason, ());
        } else {
            reasons.set.remove(reason);
        }
    }

    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// What stands against it, by name; empty where the gateway is ready.
    pub fn reasons(&self) -> Vec<&'static str> {
        let reasons = self.reasons_now();
        let mut all: Vec<_> = reasons.held.keys().chain(reasons.set.keys()).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn reasons_now(&self) -> MutexGuard<'_, Reasons> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the gateway from being ready until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it releases readiness"]
pub struct ReadyHold {
    readiness: Readiness,
    reason: &'static str,
}

impl ReadyHold {
    pub fn release(self) {}
}

impl Drop for ReadyHold {
    fn drop(&mut self) {
        let mut reasons = self.readiness.reasons_now();
        if let Some(holders) = reasons.held.get_mut(self.reason) {
            *holders -= 1;
            if *holders == 0 {
                reasons.held.remove(self.reason);
            }
        }
    }
}

/// The port is taken, the address is not ours, or may not be bound by this user.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for operations: {reason}; set ops.listen to a free address")]
pub struct BindError {
    pub address: SocketAddr,
    pub reason: std::io::Error,
}

/// The running listener.
#[derive(Debug)]
pub struct Ops {
    /// Where it listens; none where `ops.listen` is off.
    pub address: Option<SocketAddr>,
    /// Ends after the stop signal.
    pub thread: JoinHandle<()>,
}

/// Binds and serves until `stop` fires. Pass a signal that fires after the drain, not at its start.
pub fn start(
    listen: Option<SocketAddr>,
    readiness: Readiness,
    metrics: metrics::Handle,
    stop: shutdown::Signal,
    vigil: shutdown::Vigil,
) -> Result<Ops, BindError> {
    let bound = listen
        .map(|address| bind(address).map_err(|reason| BindError { address, reason }))
        .transpose()?;
    let address = bound.as_ref().map(|(_, address)| *address);
    let listener = bound.map(|(listener, _)| listener);
    let thread = std::thread::Builder::new()
        .name("ops".to_owned())
        .spawn(move || {
            run(listener, readiness, metrics, stop);
            vigil.stand_down();
        })
        .expect("a process that cannot start a thread cannot run a gateway");
    Ok(Ops { address, thread })
}

fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn run(
    listener: Option<TcpListener>,
    readiness: Readiness,
    metrics: metrics::Handle,
    mut stop: shutdown::Signal,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs a few file descriptors, and the process has just started");
    runtime.block_on(async {
        if let Some(listener) = listener {
            tokio::spawn(serve(listener, readiness, metrics.clone()));
        }
        let mut tick = tokio::time::interval(UPKEEP_EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => metrics.upkeep(),
                () = stop.fired() => break,
            }
        }
    });
}

async fn serve(listener: TcpListener, readiness: Readiness, metrics: metrics::Handle) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is non-blocking");
    let open = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&open).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (readiness, metrics) = (readiness.clone(), metrics.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let answer = answer(&request, &readiness, &metrics);
                async { Ok::<_, Infallible>(answer) }
            });
            // An error means that the client went away or spoke no HTTP: it knows.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            drop(permit);
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    readiness: &Readiness,
    metrics: &metrics::Handle,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let problem = serde_json::json!({"title": "method not allowed", "status": 405});
        return json(StatusCode::METHOD_NOT_ALLOWED, &problem);
    }
    match request.uri().path() {
        "/metrics" => {
            ::metrics::gauge!(metrics::READY).set(f64::from(u8::from(readiness.is_ready())));
            let body = metrics.render();
            response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
        }
        "/livez" => json(StatusCode::OK, &serde_json::json!({"live": true})),
        "/readyz" => match readiness.reasons() {
            none if none.is_empty() => json(StatusCode::OK, &serde_json::json!({"ready": true})),
            reasons => json(
                StatusCode::SERVICE_UNAVAILABLE,
                &serde_json::json!({"ready": false, "reasons": reasons}),
            ),
        },
        "/version" => json(
            StatusCode::OK,
            &serde_json::json!({
                "name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
            }),
        ),
        _ => json(StatusCode::NOT_FOUND, &serde_json::json!({"title": "not found", "status": 404})),
    }
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    response(status, "application/json", body.to_string())
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn vigil() -> shutdown::Vigil {
        shutdown::Alarm::new().watch_over("a test's listener")
    }

    fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    #[test]
    fn ready_only_while_nothing_holds_it_back() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (one, two) = (readiness.hold(reason::STARTING), readiness.hold(reason::STARTING));
        readiness.set(reason::STORE_FULL, true);
        readiness.set(reason::STORE_FULL, true);
        assert_eq!(readiness.reasons(), [reason::STARTING, reason::STORE_FULL]);
        one.release();
        assert_eq!(readiness.reasons(), [reason::STARTING, reason::STORE_FULL]);
        drop(two);
        assert_eq!(readiness.reasons(), [reason::STORE_FULL]);
        readiness.set(reason::STORE_FULL, false);
        assert!(readiness.is_ready());
    }

    #[test]
    fn the_listener_answers_and_stops_when_told() {
        let (trigger, stop) = shutdown::channel();
        let readiness = Readiness::new();
        let hold = readiness.hold(reason::RECOVERING);
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let ops = start(listen, readiness.clone(), metrics::install(), stop, vigil()).unwrap();
        let address = ops.address.unwrap();

        assert_eq!(get(address, "/livez").0, 200);
        let not_ready = "{\"ready\":false,\"reasons\":[\"recovering\"]}";
        assert_eq!(get(address, "/readyz"), (503, not_ready.to_owned()));
        assert!(get(address, "/metrics").1.contains("\nsenderz_ready 0\n"));
        hold.release();
        assert_eq!(get(address, "/readyz"), (200, "{\"ready\":true}".to_owned()));
        assert!(get(address, "/version").1.contains(env!("CARGO_PKG_VERSION")));
        assert!(get(address, "/metrics").1.contains("senderz_build_info{"));
        assert!(get(address, "/metrics").1.contains("\nsenderz_ready 1\n"));
        assert_eq!(get(address, "/other").0, 404);

        let (_trigger, never) = shutdown::channel();
        let taken = start(Some(address), readiness, metrics::install(), never, vigil());
        assert!(taken.unwrap_err().to_string().contains(&address.to_string()));

        trigger.fire();
        ops.thread.join().unwrap();
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
