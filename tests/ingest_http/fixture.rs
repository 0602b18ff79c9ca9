//! A gateway's front with a scripted store, and clients for it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use senderz_gateway::{
    config::{self, Listen},
    directory::Principal,
    event::EventType,
    id::{EventId, NodeNo, Place, TenantNo, WebhookNo},
    ingest::{Ingest, Tenants},
    server::{Front, Listener},
    shutdown::{self, Trigger},
    store::{AppendError, Appended, Health, IdempotencyKey, NewEvent, Route, Store, Write},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// How long anything may take before a test calls it stuck.
pub(crate) const STUCK: Duration = Duration::from_secs(10);

pub(crate) const PAYLOAD: &str = r#"{"type":"message.sent","timestamp":"2026-11-23T04:20:00Z","data":{"id":"m","channel":"sms","recipient":"+1"}}"#;

/// An answer that the store is scripted to give.
#[derive(Clone, Debug)]
pub(crate) enum Mood {
    /// Append, with idempotency.
    Works,
    Refuses(AppendError),
    /// Drops the reply, as a store that died would.
    Dies,
}

/// What the scripted store holds and how it feels.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) events: Mutex<Vec<(TenantNo, Vec<u8>)>>,
    pub(crate) mood: Mutex<Mood>,
    /// While true, nothing is taken from the queue.
    held: watch::Sender<bool>,
    keys: Mutex<HashMap<IdempotencyKey, (EventId, Vec<u8>)>>,
}

impl Script {
    pub(crate) fn count(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(crate) fn feel(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn append(&self, events: &[NewEvent]) -> Result<Vec<Appended>, AppendError> {
        if let Mood::Refuses(e) = &*self.mood.lock().unwrap() {
            return Err(e.clone());
        }
        let mut keys = self.keys.lock().unwrap();
        let reused: Vec<_> = (0..events.len())
            .filter(|i| {
                let first = events[*i].key.and_then(|key| keys.get(&key));
                first.is_some_and(|(_, payload)| events[*i].payload != payload[..])
            })
            .collect();
        if !reused.is_empty() {
            return Err(AppendError::KeyReused(reused));
        }
        let mut stored = self.events.lock().unwrap();
        let appended = events.iter().map(|event| {
            if let Some((id, _)) = event.key.and_then(|key| keys.get(&key)) {
                return Appended { id: *id, deliveries: 1, replayed: true };
            }
            let place = Place::new(1, stored.len() as u16);
            let id = EventId { accepted_at: 1_795_407_600_000, node: NodeNo(7), place };
            stored.push((event.tenant, event.payload.to_vec()));
            if let Some(key) = event.key {
                keys.insert(key, (id, event.payload.to_vec()));
            }
            let deliveries = event.routes.iter().filter(|route| route.enabled).count() as u32;
            Appended { id, deliveries, replayed: false }
        });
        Ok(appended.collect())
    }
}

/// A store actor that plays the script, with a queue of `queue` messages.
pub(crate) fn scripted_store(queue: usize) -> (Store, Arc<Script>) {
    let (writes, mut inbox) = mpsc::channel(queue);
    let script = Arc::new(Script {
        events: Mutex::default(),
        mood: Mutex::new(Mood::Works),
        held: watch::Sender::new(false),
        keys: Mutex::default(),
    });
    let actor = Arc::clone(&script);
    tokio::spawn(async move {
        let mut held = actor.held.subscribe();
        loop {
            held.wait_for(|held| !held).await.unwrap();
            let Some(write) = inbox.recv().await else { return };
            held.wait_for(|held| !held).await.unwrap();
            let Write::Append { events, reply } = write else { panic!("only appends are sent") };
            if matches!(*actor.mood.lock().unwrap(), Mood::Dies) {
                continue;
            }
            // The asker may be gone: the events stay.
            let _ = reply.send(actor.append(&events));
        }
    });
    let store = Store {
        writes,
        reads: mpsc::channel(1).0,
        health: watch::channel(Health::default()).1,
        recorded: watch::channel(0).1,
        node: NodeNo(7),
    };
    (store, script)
}

/// Tenants `acme` (1, two webhooks of which one is disabled) and `beta` (2, one webhook).
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) acme_is_gone: AtomicBool,
    /// Deleted, and made again under the same name.
    pub(crate) acme_is_another: AtomicBool,
}

impl Tenants for Table {
    fn authenticate(&self, key: &str) -> Option<Principal> {
        match key {
            "szk_operator_x" => Some(Principal::Operator),
            "szk_producer_x" => Some(Principal::Producer),
            "szk_tenant_acme" => Some(Principal::Tenant(TenantNo(1))),
            "szk_tenant_panic" => panic!("a planted panic"),
            _ => None,
        }
    }

    fn number(&self, tenant: &str) -> Option<TenantNo> {
        match tenant {
            "acme" if self.acme_is_gone.load(Ordering::Relaxed) => None,
            "acme" if self.acme_is_another.load(Ordering::Relaxed) => Some(TenantNo(3)),
            "acme" => Some(TenantNo(1)),
            "beta" => Some(TenantNo(2)),
            _ => None,
        }
    }

    fn routes(&self, tenant: &str, _: EventType) -> Option<(TenantNo, Arc<[Route]>)> {
        let no = self.number(tenant)?;
        let routes: &[Route] = &[
            Route { webhook: WebhookNo(1), enabled: true },
            Route { webhook: WebhookNo(2), enabled: false },
        ];
        Some((no, Arc::from(&routes[..if no.0 == 1 { 2 } else { 1 }])))
    }
}

/// The defaults of `config.toml`, small where a test would otherwise be slow.
pub(crate) fn ingest_config() -> config::Ingest {
    config::Ingest {
        max_payload: 256 * 1024,
        max_depth: 64,
        max_batch_lines: 1_000,
        max_batch: 1024 * 1024,
        max_batch_deliveries: 100_000,
        max_pending: 4 * 1024 * 1024,
        tenant_rate: None,
        retry_after: Duration::from_secs(3),
        idempotency_window: Duration::from_secs(60),
        idempotency_max_keys: 1_000,
        max_idempotency_key: 255,
    }
}

pub(crate) fn server_config() -> config::Server {
    config::Server {
        listen: Listen::Tcp("127.0.0.1:0".parse().unwrap()),
        tls: None,
        max_connections: 100,
        header_timeout: Duration::from_secs(30),
        body_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(30),
    }
}

/// Ingest without a socket.
pub(crate) fn ingest(settings: config::Ingest, queue: usize) -> (Arc<Ingest>, Arc<Script>) {
    let (store, script) = scripted_store(queue);
    let ingest = Ingest::new(settings, STUCK, Arc::new(Table::default()), store);
    (Arc::new(ingest), script)
}

/// A request as the operator; more headers by `edit`.
pub(crate) fn post(uri: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(uri)
        .header("authorization", "Bearer szk_operator_x")
        .header("content-type", content_type)
        .body(Full::new(body.into()))
        .unwrap()
}

/// A response, read whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(response: Response<Full<Bytes>>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body: serde_json::from_slice(&body).unwrap(),
        }
    }

    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array();
        errors.into_iter().flatten().map(|e| e["pointer"].as_str().unwrap()).collect()
    }
}

/// A front that listens, and its scripted store.
pub(crate) struct Gateway {
    pub(crate) address: Listen,
    pub(crate) script: Arc<Script>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) trigger: Trigger,
    pub(crate) served: JoinHandle<usize>,
}

impl Gateway {
    pub(crate) async fn start(ingest: config::Ingest, server: config::Server) -> Self {
        Self::with_api(ingest, server, axum::Router::new()).await
    }

    pub(crate) async fn with_api(
        settings: config::Ingest,
        server: config::Server,
        api: axum::Router,
    ) -> Self {
        let (store, script) = scripted_store(64);
        let body_timeout = server.body_timeout;
        let table = Arc::new(Table::default());
        let ingest = Arc::new(Ingest::new(settings, body_timeout, table, store));
        let listener = Listener::bind(&server).unwrap();
        let address = listener.local_addr().clone();
        let (trigger, signal) = shutdown::channel();
        let front = Arc::new(Front::new(Arc::clone(&ingest), api, body_timeout));
        let served = tokio::spawn(listener.serve(front, signal));
        Self { address, script, ingest, trigger, served }
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        match &self.address {
            Listen::Tcp(address) => *address,
            Listen::Unix(path) => panic!("listens on {}", path.display()),
        }
    }

    pub(crate) async fn connect(&self) -> Raw<TcpStream> {
        Raw::new(TcpStream::connect(self.tcp()).await.unwrap())
    }
}

/// A client that writes bytes and reads responses.
pub(crate) struct Raw<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

/// What is read from a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawResponse {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl RawResponse {
    pub(crate) fn status(&self) -> &str {
        &self.head["HTTP/1.1 ".len()..][..3]
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next response, by its `Content-Length`.
    pub(crate) async fn response(&mut self) -> RawResponse {
        tokio::time::timeout(STUCK, self.try_response())
            .await
            .expect("a response in time")
            .unwrap_or_else(|e| panic!("no response: {e}; got {:?}", self.buffer))
    }

    async fn try_response(&mut self) -> std::io::Result<RawResponse> {
        loop {
            let end = self.buffer.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
                let lower = head.to_ascii_lowercase();
                let length = lower
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                let whole = end + 4 + length;
                if self.buffer.len() >= whole {
                    let body = String::from_utf8(self.buffer[end + 4..whole].to_vec()).unwrap();
                    self.buffer.drain(..whole);
                    return Ok(RawResponse { head, body });
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes everything up to and including `end`.
    pub(crate) async fn up_to(&mut self, end: &str) -> String {
        let found = async {
            loop {
                let at = self.buffer.windows(end.len()).position(|w| w == end.as_bytes());
                if let Some(at) = at {
                    return self.buffer.drain(..at + end.len()).collect();
                }
                assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "closed");
            }
        };
        let bytes = tokio::time::timeout(STUCK, found).await.expect("comes in time");
        String::from_utf8(bytes).unwrap()
    }

    /// Waits until the server has closed the connection; whatever else came is returned.
    pub(crate) async fn closed(&mut self) -> String {
        let closed = async {
            // A reset is a way of closing, too.
            while matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {}
        };
        let in_time = tokio::time::timeout(STUCK, closed).await.is_ok();
        assert!(in_time, "not closed; got {:?}", String::from_utf8_lossy(&self.buffer));
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

/// An HTTP/1.1 request for one event of `acme`.
pub(crate) fn raw_event(payload: &str, headers: &str) -> String {
    format!(
        "POST /v1/tenants/acme/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer szk_operator_x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{payload}",
        payload.len()
    )
}

/// Waits until `what` holds.
pub(crate) async fn until(what: impl Fn() -> bool) {
    let holds = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(STUCK, holds).await.expect("holds in time");
}
