//! A sender on a shard-like runtime, and receivers that do exactly what a test tells them.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use senderz_gateway::{
    clock::Clock,
    delivery::ErrorCode,
    event::{EventType, EventTypes},
    guard::{Host, Policy, Scheme, WebhookUrl},
    id::{DeliveryId, DeliveryKey, EventId, NodeNo, Place, TenantNo, WebhookId, WebhookNo},
    sender::{Attempted, Outgoing, Sender, Settings, target::Target},
    tenant::{SigningSecret, SigningSecrets, Tenant},
    webhook::{CustomHeaders, HeaderLimits, SuccessRule, Webhook},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet, spawn_local},
};

pub(crate) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// An attempt's deadline where a test does not choose another.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test as a shard does: one thread, one current-thread runtime, one `LocalSet`.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(6 * PATIENCE, test).await.expect("the test hangs")
    })
}

/// Waits on a predicate, and says what did not come true.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Checks that are played beside each other: most of their time is spent in waiting, and the rest is
/// little enough for one thread.
const BESIDE: usize = 8;

/// Plays all of a table's checks; each says what is wrong, if anything is.
pub(crate) async fn none_is_wrong<C>(checks: impl IntoIterator<Item = C>)
where
    C: Future<Output = Option<String>> + 'static,
{
    let (mut checks, mut under_way, mut wrong) = (checks.into_iter(), JoinSet::new(), Vec::new());
    loop {
        while under_way.len() < BESIDE
            && let Some(check) = checks.next()
        {
            under_way.spawn_local(check);
        }
        match under_way.join_next().await {
            None => break,
            Some(Ok(found)) => wrong.extend(found),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

pub(crate) fn policy(networks: &[&str]) -> Arc<Policy> {
    let allow_networks = networks.iter().map(|net| net.parse().unwrap()).collect();
    Arc::new(Policy { allow_networks, ..Policy::default() })
}

pub(crate) fn settings() -> Settings {
    Settings {
        timeout: DEADLINE,
        connect_timeout: Duration::from_secs(2),
        tls_timeout: Duration::from_secs(2),
        dns_timeout: Duration::from_secs(2),
        max_response: 64 * 1024,
        keep_response: 4 * 1024,
        pool_idle_timeout: Duration::from_secs(25),
        pool_max_age: Duration::from_secs(300),
        pool_max_idle_per_origin: 64,
        pool_max_connections: 1024,
        http2_max_streams: 100,
        dns_servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 9))],
        dns_cache_entries: 100,
        dns_min_ttl: Duration::from_secs(1),
        dns_max_ttl: Duration::from_secs(300),
        dns_negative_ttl: Duration::from_secs(30),
        ca_file: None,
        policy: policy(&["127.0.0.0/8"]),
        max_retry_after: Duration::from_secs(300),
        success: SuccessRule::Only200,
        clock: Clock::start(),
    }
}

pub(crate) fn sender(settings: Settings) -> Rc<Sender> {
    Rc::new(Sender::new(settings).unwrap())
}

/// What a test says of a webhook.
pub(crate) struct To {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) tenant: u32,
    pub(crate) timeout: Duration,
    pub(crate) headers: CustomHeaders,
}

impl To {
    pub(crate) fn http(address: SocketAddr) -> Self {
        let IpAddr::V4(ip) = address.ip() else { panic!("tests use IPv4") };
        Self {
            scheme: Scheme::Http,
            host: Host::V4(ip),
            port: address.port(),
            tenant: 1,
            timeout: DEADLINE,
            headers: CustomHeaders::default(),
        }
    }

    pub(crate) fn https(name: &str, port: u16) -> Self {
        let host = Host::Name(name.to_owned());
        let headers = CustomHeaders::default();
        Self { scheme: Scheme::Https, host, port, tenant: 1, timeout: DEADLINE, headers }
    }

    pub(crate) fn name(name: &str, port: u16) -> Self {
        Self { scheme: Scheme::Http, ..Self::https(name, port) }
    }

    pub(crate) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    pub(crate) fn tenant(self, tenant: u32) -> Self {
        Self { tenant, ..self }
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        let limits = HeaderLimits { max_count: 1, max_bytes: 100 };
        Self { headers: CustomHeaders::parse([(name, value)], limits).unwrap(), ..self }
    }

    pub(crate) fn outgoing(&self) -> Outgoing {
        self.outgoing_with(Bytes::from_static(br#"{"type":"message.sent"}"#))
    }

    pub(crate) fn outgoing_with(&self, payload: Bytes) -> Outgoing {
        let webhook = Webhook {
            no: WebhookNo(5),
            id: WebhookId(5),
            tenant: TenantNo(self.tenant),
            url: WebhookUrl {
                scheme: self.scheme,
                host: self.host.clone(),
                port: self.port,
                path_and_query: "/hooks?from=senderz".to_owned(),
            },
            events: EventTypes::ALL,
            description: String::new(),
            headers: self.headers.clone(),
            enabled: true,
            disabled: None,
            success: None,
            timeout: Some(self.timeout),
            max_in_flight: None,
            rate_limit: None,
            created_at: 0,
            updated_at: 0,
        };
        let tenant = Tenant {
            no: TenantNo(self.tenant),
            id: "acme".parse().unwrap(),
            name: "Acme".to_owned(),
            created_at: 0,
            secrets: SigningSecrets { current: secret(), previous: Vec::new() },
        };
        Outgoing {
            target: Arc::new(Target::new(&webhook, &tenant, &settings())),
            event: EventId {
                accepted_at: 1_795_407_600_000,
                node: NodeNo(7),
                place: Place::new(12, 3),
            },
            event_type: EventType::Sent,
            delivery: DeliveryId {
                node: NodeNo(7),
                key: DeliveryKey { place: Place::new(12, 3), webhook: WebhookNo(5) },
            },
            number: 1,
            payload,
            queued: 42,
            trace: None,
        }
    }
}

pub(crate) fn secret() -> SigningSecret {
    SECRET.parse().unwrap()
}

/// The code of what went wrong; none where the attempt delivered.
pub(crate) fn code(attempted: &Attempted) -> Option<ErrorCode> {
    attempted.attempt.error.as_ref().map(|error| error.code)
}

pub(crate) fn detail(attempted: &Attempted) -> &str {
    attempted.attempt.error.as_ref().map_or("", |error| &error.detail)
}

/// A listener that plays `script` on every connection and counts them.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    connections: Rc<Cell<usize>>,
    requests: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Receiver {
    /// `script` gets each connection, with its number counted from 0.
    pub(crate) async fn start<F>(script: impl Fn(TcpStream, usize, Log) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub(crate) async fn start_at<F>(
        address: &str,
        script: impl Fn(TcpStream, usize, Log) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Rc::new(Cell::new(0));
        let requests = Rc::new(RefCell::default());
        let (counter, log) = (Rc::clone(&connections), Log(Rc::clone(&requests)));
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = counter.replace(counter.get() + 1);
                spawn_local(script(stream, number, log.clone()));
            }
        });
        Self { address, connections, requests }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    pub(crate) fn requests(&self) -> Vec<Vec<u8>> {
        self.requests.borrow().clone()
    }
}

/// One that answers every request with [`OK`].
pub(crate) async fn receiver_at(address: &str) -> Receiver {
    Receiver::start_at(address, |mut stream, _, _| async move {
        while read_request(&mut stream).await.is_some() {
            stream.write_all(OK).await.unwrap();
        }
    })
    .await
}

/// Where a script notes the requests that it has read.
#[derive(Clone)]
pub(crate) struct Log(Rc<RefCell<Vec<Vec<u8>>>>);

impl Log {
    /// Reads one whole request; false at the connection's end.
    pub(crate) async fn read_request(&self, stream: &mut (impl AsyncRead + Unpin)) -> bool {
        let Some(request) = read_request(stream).await else { return false };
        self.0.borrow_mut().push(request);
        true
    }
}

pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(request[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |length| length.parse::<usize>().unwrap());
            if request.len() >= end + 4 + length {
                assert_eq!(request.len(), end + 4 + length, "bytes after the request");
                return Some(request);
            }
        }
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
