//! A gateway without shards, ingest and network: what they would do, the test does.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use senderz_gateway::{
    api::{self, Answers, ApiState, Jobs, Settings},
    backups::Backups,
    command::Shards,
    config::{self, Limits},
    delivery::{Attempt, Entry, KeptResponse, Phases, Protocol, Verdict},
    directory::{Change, Directory, KeyRing, OperatorKey},
    erasures::Erasures,
    event::EventType,
    guard::Policy,
    id::{DeliveryId, DeliveryKey, EventId, WebhookNo},
    replays::Replays,
    request_id::RequestId,
    sessions::Sessions,
    shutdown::{self, Trigger},
    store::{self, NewEvent, Opened, Row, Store, Write},
};
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use crate::{openapi, shard::Shard};

/// What every request of the suite is called, as if the listener had found the name in its header.
pub(crate) const REQUEST: &str = "req_of_the_suite";

/// The one place where the tests choose a store.
fn open_store(retention_age: Duration) -> Opened {
    let settings = store::Settings {
        data_dir: std::path::PathBuf::new(),
        cache: 0,
        commit_max_events: 1000,
        commit_max_bytes: 1 << 20,
        commit_max_wait: Duration::from_millis(1),
        entries_max_wait: Duration::from_millis(1),
        retention_age,
        retention_bytes: 1 << 30,
        disk_headroom: 0,
        idempotency_window: Duration::from_secs(60),
        idempotency_max_keys: 1000,
        max_scan_blocks: 1000,
        max_indexed: 1000,
        queue: 64,
    };
    store::memory::open(settings).expect("an empty memory store opens")
}

pub(crate) fn limits() -> Limits {
    Limits {
        tenants: 10,
        webhooks_per_tenant: 8,
        keys_per_tenant: 4,
        custom_headers: 3,
        custom_headers_size: 200,
        description: 50,
        url: 2048,
        page: 20,
        kept_answers: 16 * 1024,
        tenant_kept_answers: 4 * 1024,
        webhook_checks: 2,
        webhook_tests: 6.try_into().expect("not zero"),
        tenant_tests: 10.try_into().expect("not zero"),
        audit_records: 60,
    }
}

pub(crate) fn stream_limits() -> config::Stream {
    config::Stream {
        max_streams: 5,
        max_per_tenant: 3,
        max_lag: Duration::from_secs(60),
        keep_alive: Duration::from_secs(15),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        limits: limits(),
        stream: stream_limits(),
        policy: Arc::new(Policy::default()),
        max_timeout: Duration::from_secs(60),
        max_in_flight: 100,
        max_replay_rate: 1000,
        longest_idempotency_key: 40,
        document: openapi::served(),
    }
}

pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) state: ApiState,
    pub(crate) directory: Directory,
    pub(crate) store: Store,
    pub(crate) shard: Shard,
    pub(crate) stop_jobs: Trigger,
    pub(crate) changes: mpsc::Receiver<Change>,
    pub(crate) operator: String,
}

/// A tenant and the key that speaks for it.
pub(crate) struct TestTenant {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) secret: String,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}: {:?}", self.status, self.body))
    }

    /// The problem's code; fails where the answer is not a whole problem document.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        let code = problem["code"].as_str().expect("a problem has a code");
        assert_eq!(problem["type"], format!("/problems/{code}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        code.to_owned()
    }

    /// The pointers of the problem's errors.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let problem = self.json();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|e| e["pointer"].as_str().expect("a pointer").to_owned()).collect()
    }

    pub(crate) fn expect(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{text}");
        self
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with_retention(Duration::from_secs(3600)).await
    }

    /// It keeps no event whose deliveries have all ended.
    pub(crate) async fn forgetful() -> Self {
        Self::with_retention(Duration::ZERO).await
    }

    async fn with_retention(age: Duration) -> Self {
        let opened = open_store(age);
        opened.feeds.send(Vec::new()).expect("the store waits to be told");
        let store = opened.store;
        let ring = KeyRing::generate();
        let directory = Directory::load(store.clone(), opened.rows, limits(), ring);
        let directory = directory.expect("it loads");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let operator = match directory.ensure_operator_key(None, dir.path()) {
            Ok(OperatorKey::Made(key)) => key.expose().to_owned(),
            other => panic!("the first start makes a key: {other:?}"),
        };
        let (tell, changes) = mpsc::channel(1000);
        directory.subscribe(tell).await;
        let (router, state, shard, stop_jobs) = router(&directory, store.clone(), &[], Vec::new());
        Self { router, state, directory, store, shard, stop_jobs, changes, operator }
    }

    /// From now on the API's writes wait in the answer instead of going to the store.
    pub(crate) fn hold_writes(&mut self) -> mpsc::Receiver<Write> {
        let (writes, held) = mpsc::channel(10);
        let store = Store { writes, ..self.store.clone() };
        (self.router, self.state, self.shard, self.stop_jobs) =
            router(&self.directory, store, &[], Vec::new());
        held
    }

    /// As after a restart that found these rows of kept answers.
    pub(crate) fn restarted_with(&mut self, answers: &[Row]) {
        (self.router, self.state, self.shard, self.stop_jobs) =
            router(&self.directory, self.store.clone(), answers, Vec::new());
    }

    /// A POST that may be repeated.
    pub(crate) async fn post_once(
        &self,
        key: &str,
        idempotency_key: &str,
        path: &str,
        body: Value,
    ) -> Answer {
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", idempotency_key)
            .body(Body::from(body.to_string()));
        self.send(request.expect("a valid request")).await
    }

    /// What the router answers; every answer has to be as the OpenAPI document says.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(RequestId::of(REQUEST.as_bytes()).expect("a name"));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answering = self.shard.beside(self.router.clone().oneshot(request));
        let response = answering.await.expect("the router is infallible");
        let (head, body) = response.into_parts();
        let body = match head.headers.get(header::CONTENT_TYPE) {
            Some(kind) if kind == "text/event-stream" => first_piece(body).await,
            _ => to_bytes(body, 1 << 24).await.expect("a body in memory"),
        };
        let answer = Answer { status: head.status, headers: head.headers, body };
        openapi::hold(&method, &path, &answer);
        answer
    }

    /// A request without a key.
    pub(crate) async fn bare(&self, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).body(Body::empty());
        self.send(request.expect("a valid request")).await
    }

    /// A request with a key, and with a JSON body where there is one.
    pub(crate) async fn call(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.expect("a valid request")).await
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Answer {
        self.call(key, Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: Value) -> Answer {
        self.call(key, Method::POST, path, Some(body)).await
    }

    /// What an operator asks for a tenant.
    pub(crate) async fn get_for(&self, key: &str, tenant: &str, path: &str) -> Answer {
        let request = Request::get(path)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header("senderz-tenant", tenant);
        self.send(request.body(Body::empty()).expect("a valid request")).await
    }

    pub(crate) async fn patch(&self, key: &str, path: &str, body: Value) -> Answer {
        self.call(key, Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn tenant(&self, id: &str) -> TestTenant {
        let body = serde_json::json!({"id": id, "name": id});
        let made = self.post(&self.operator, "/v1/tenants", body).await.expect(201).json();
        let text = |name: &str| made[name].as_str().expect("shown once").to_owned();
        TestTenant { id: id.to_owned(), key: text("api_key"), secret: text("signing_secret") }
    }

    /// The new webhook's id.
    pub(crate) async fn webhook(&self, tenant: &TestTenant) -> String {
        let body = serde_json::json!({"url": "https://hooks.example.com/in", "events": ["*"]});
        let made = self.post(&tenant.key, "/v1/webhooks", body).await.expect(201).json();
        made["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) fn webhook_no(&self, tenant: &TestTenant, id: &str) -> WebhookNo {
        let no = self.directory.tenant(&tenant.id).expect("it exists").tenant.no;
        self.directory.webhook_no(no, id.parse().expect("an id")).expect("it exists")
    }

    /// Accepts an event as ingest would.
    pub(crate) async fn event(
        &self,
        tenant: &TestTenant,
        event_type: EventType,
        payload: &str,
    ) -> EventId {
        let entry = self.directory.tenant(&tenant.id).expect("it exists");
        let event = NewEvent {
            tenant: entry.tenant.no,
            event_type,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            key: None,
            trace: None,
            routes: entry.routes(event_type),
        };
        self.store.append(vec![event]).await.expect("there is room")[0].id
    }

    /// Records an attempt as a shard would.
    pub(crate) async fn attempted(&self, key: DeliveryKey, verdict: Verdict, attempt: Attempt) {
        let entry = Entry { key, at: attempt.at, verdict, attempt: Some(attempt) };
        self.store.put_entries(vec![entry]).await.expect("the store works");
    }

    pub(crate) fn delivery_id(&self, key: DeliveryKey) -> String {
        DeliveryId { node: self.store.node, key }.to_string()
    }
}

/// Of an answer that does not end.
async fn first_piece(mut body: Body) -> Bytes {
    let frame = body.frame().await.expect("it begins").expect("no error");
    frame.into_data().expect("data")
}

/// The trigger stops the replays of many.
fn router(
    directory: &Directory,
    store: Store,
    answers: &[Row],
    rows: Vec<Row>,
) -> (Router, ApiState, Shard, Trigger) {
    let (send, commands) = mpsc::channel(100);
    let bounds = api::Bounds {
        window: Duration::from_secs(60),
        all: limits().kept_answers,
        tenant: limits().tenant_kept_answers,
    };
    let answers = Answers::load(store.clone(), answers, bounds).expect("they are whole");
    let commands_in = Shards::new(vec![send]);
    let (stop, stopped) = shutdown::channel();
    let limits = config::Replays { rate: 50, max_rate: 1000, per_tenant: 2, jobs: 3, kept: 2 };
    let (directory, jobs) = (directory.clone(), commands_in.clone());
    let (replays, erasures): (Vec<Row>, Vec<Row>) = {
        let mut rows = rows;
        let erasures = Erasures::take_rows(&mut rows);
        (rows, erasures)
    };
    let replays = Replays::start(
        store.clone(),
        directory.clone(),
        jobs.clone(),
        limits,
        replays,
        stopped.clone(),
    );
    let replays = replays.expect("its rows are whole");
    let erasures = Erasures::start(store.clone(), directory.clone(), jobs, erasures, stopped);
    let erasures = erasures.expect("its rows are whole");
    let settings_of_backups = config::Backup { dir: "nowhere".into(), rate: 1, keep: 0 };
    let backups = Backups::new(store.clone(), settings_of_backups);
    let portal = config::load(&config::Sources::default()).expect("valid defaults").portal;
    let base = "http://127.0.0.1:8080".to_owned();
    let sessions = Sessions::new(directory.clone(), portal, base);
    let state = ApiState::new(
        directory,
        store,
        commands_in,
        Jobs { replays, erasures, backups },
        sessions,
        answers,
        settings(),
    );
    (api::router(state.clone()), state, Shard::new(commands), stop)
}

/// A delivered attempt, to change.
pub(crate) fn attempt(number: u16) -> Attempt {
    Attempt {
        number,
        at: 1_795_407_600_123,
        status: Some(200),
        error: None,
        latency: 12_345,
        phases: Phases { queue: 1, dns: 20, connect: 300, tls: 4_000, first_byte: 50_000, body: 6 },
        response: KeptResponse {
            headers: Bytes::from_static(b"Content-Type: text/plain\r\nX-A: 1\r\nx-a: 2\r\n"),
            body: Bytes::from_static(b"ok \xff"),
            truncated: true,
        },
        peer: Some(([1, 1, 1, 1], 443).into()),
        protocol: Protocol::Http1,
        reused_connection: true,
    }
}

/// Polls all of them in turn until each is done.
pub(crate) async fn join_all(
    calls: impl Iterator<Item = impl Future<Output = Answer>>,
) -> Vec<u16> {
    let mut running: Vec<_> = calls.map(|call| (Box::pin(call), None)).collect();
    std::future::poll_fn(|context| {
        for (call, status) in &mut running {
            if status.is_none()
                && let std::task::Poll::Ready(answer) = call.as_mut().poll(context)
            {
                *status = Some(answer.status.as_u16());
            }
        }
        match running.iter().map(|(_, status)| *status).collect::<Option<Vec<u16>>>() {
            Some(statuses) => std::task::Poll::Ready(statuses),
            None => std::task::Poll::Pending,
        }
    })
    .await
}
