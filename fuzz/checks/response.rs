//! Any bytes as a receiver's answer, and as the value of its `Retry-After`: the attempt ends, and
//! what it leads to stays within the schedule's bounds.

use std::{
    cell::OnceCell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use senderz_gateway::{
    clock::Clock,
    delivery::{ErrorCode, Outcome},
    event::{EventType, EventTypes},
    guard::{Host, Policy, Scheme, WebhookUrl},
    id::{DeliveryId, DeliveryKey, EventId, NodeNo, Place, TenantNo, WebhookId, WebhookNo},
    sender::{Attempted, Outgoing, Sender, Settings, target::Target},
    tenant::{SigningSecrets, Tenant},
    webhook::{CustomHeaders, SuccessRule, Webhook},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    runtime::Runtime,
    task::LocalSet,
};

const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

struct Rig {
    runtime: Runtime,
    local: LocalSet,
    listener: TcpListener,
    sender: Sender,
    clock: Clock,
    outgoing: Outgoing,
}

thread_local! {
    /// Never dropped: a runtime must not end while its thread does.
    static RIG: OnceCell<&'static Rig> = const { OnceCell::new() };
}

pub(crate) fn check(data: &[u8]) {
    RIG.with(|rig| {
        let rig = rig.get_or_init(|| Box::leak(Box::new(Rig::start())));
        is_sound(rig, &rig.attempt(data));
        let head = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: ";
        let done = rig.attempt(&[head, data, b"\r\n\r\n"].concat());
        is_sound(rig, &done);
        assert_ne!(done.outcome, Outcome::Delivered);
    });
}

fn is_sound(rig: &Rig, done: &Attempted) {
    let attempt = &done.attempt;
    assert_eq!(done.outcome == Outcome::Delivered, attempt.error.is_none());
    match done.outcome {
        Outcome::Delivered => assert_eq!(attempt.status, Some(200), "only a 200 is a success"),
        Outcome::Retry { not_before } => {
            // Rounded up, so that no delay ends early.
            let latest = rig.clock.now() + 1 + MAX_RETRY_AFTER.as_millis() as u64;
            assert!(not_before.is_none_or(|at| at <= latest), "{not_before:?}");
        }
        Outcome::Failed => panic!("a receiver cannot end a delivery"),
    }
    if let Some(error) = &attempt.error {
        assert_ne!(error.code, ErrorCode::BlockedTarget);
        assert!(!error.detail.contains(['\r', '\n', '\0']), "{:?}", error.detail);
    }
    assert!(attempt.response.body.len() <= 4096);
    assert!(attempt.latency < 5_000_000, "it ends with the connection");
}

impl Rig {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let local = LocalSet::new();
        let listener = local.block_on(&runtime, TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("bound");
        let clock = Clock::start();
        let settings = settings(clock);
        let sender = local.block_on(&runtime, async { Sender::new(settings.clone()) });
        let outgoing = outgoing(address, &settings);
        Self { runtime, local, listener, sender: sender.expect("a sender"), clock, outgoing }
    }

    fn attempt(&self, answer: &[u8]) -> Attempted {
        self.local.block_on(&self.runtime, async {
            let serve = async {
                let (mut stream, _) = self.listener.accept().await.expect("a connection");
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            };
            let (done, ()) = tokio::join!(self.sender.attempt(self.outgoing.clone()), serve);
            done
        })
    }
}

fn settings(clock: Clock) -> Settings {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let policy = Policy { allow_networks: vec![loopback], ..Policy::default() };
    Settings {
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(2),
        tls_timeout: Duration::from_secs(2),
        dns_timeout: Duration::from_secs(2),
        max_response: 64 * 1024,
        keep_response: 4 * 1024,
        pool_idle_timeout: Duration::from_secs(25),
        pool_max_age: Duration::from_secs(300),
        // Each attempt has a connection of its own.
        pool_max_idle_per_origin: 0,
        pool_max_connections: 16,
        http2_max_streams: 100,
        dns_servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 9))],
        dns_cache_entries: 100,
        dns_min_ttl: Duration::from_secs(1),
        dns_max_ttl: Duration::from_secs(300),
        dns_negative_ttl: Duration::from_secs(30),
        ca_file: None,
        policy: Arc::new(policy),
        max_retry_after: MAX_RETRY_AFTER,
        success: SuccessRule::Only200,
        clock,
    }
}

fn outgoing(address: SocketAddr, settings: &Settings) -> Outgoing {
    let IpAddr::V4(ip) = address.ip() else { panic!("bound to IPv4") };
    let (tenant, webhook) = (TenantNo(1), WebhookNo(1));
    let to = Webhook {
        no: webhook,
        id: WebhookId(1),
        tenant,
        url: WebhookUrl {
            scheme: Scheme::Http,
            host: Host::V4(ip),
            port: address.port(),
            path_and_query: "/".to_owned(),
        },
        events: EventTypes::ALL,
        description: String::new(),
        headers: CustomHeaders::default(),
        enabled: true,
        disabled: None,
        success: None,
        timeout: None,
        max_in_flight: None,
        rate_limit: None,
        created_at: 0,
        updated_at: 0,
    };
    let owner = Tenant {
        no: tenant,
        id: "acme".parse().expect("an id"),
        name: String::new(),
        created_at: 0,
        secrets: SigningSecrets::generate(),
    };
    let (node, place) = (NodeNo(1), Place::new(1, 0));
    Outgoing {
        target: Arc::new(Target::new(&to, &owner, settings)),
        event: EventId { accepted_at: 0, node, place },
        event_type: EventType::Sent,
        delivery: DeliveryId { node, key: DeliveryKey { place, webhook } },
        number: 1,
        payload: Bytes::from_static(b"{}"),
        queued: 0,
        trace: None,
    }
}
