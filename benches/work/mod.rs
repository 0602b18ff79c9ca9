//! What the micro-benchmarks time and the instruction gate counts: one small rig for each thing
//! that is done once or more for a delivery, always with the same input.

pub(crate) mod blocks;
pub(crate) mod directory;
pub(crate) mod timers;
pub(crate) mod turns;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use http_body_util::Full;
use senderz_gateway::{
    clock::{Clock, Millis},
    delivery::Protocol,
    engine::router,
    event::{EventType, EventTypes, PayloadLimits, parse_payload_str},
    guard::{Host, Policy, Scheme, WebhookUrl},
    id::{DeliveryId, DeliveryKey, EventId, NodeNo, Place, TenantNo, WebhookId, WebhookNo},
    sender::{Outgoing, Settings, sign::Signer, target::Target},
    tenant::{SigningSecret, SigningSecrets, Tenant},
    webhook::{CustomHeaders, SuccessRule, Webhook},
};
use sha2::Sha256;

/// When everything here happens.
pub(crate) const NOW: Millis = 1_795_407_600_000;

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const PLACE: Place = Place::new(1_234_567, 3);
const NODE: NodeNo = NodeNo(7);
const WEBHOOK: WebhookNo = WebhookNo(4321);

/// An event's payload of exactly `len` bytes: a few dozen bytes a member, as real ones have.
pub(crate) fn payload(len: usize) -> String {
    let mut text = String::from(
        r#"{"type":"message.delivered","timestamp":"2026-11-23T04:20:00.123Z","data":{"id":"msg_b4fe0a0991f035bc5023","channel":"whatsapp","recipient":"+15555550100","status_reason":null,"metadata":{"#,
    );
    for n in 0.. {
        let member = format!(r#""field_{n:05}":"value {n:05} über","#);
        // The last member fills up what is left.
        if text.len() + member.len() + 40 > len {
            break;
        }
        text.push_str(&member);
    }
    let filler = len.checked_sub(text.len() + r#""note":""}}}"#.len());
    text.push_str(r#""note":""#);
    text.extend(std::iter::repeat_n('x', filler.expect("the required members need 240 bytes")));
    text.push_str(r#""}}}"#);
    assert_eq!(text.len(), len);
    text
}

pub(crate) fn secrets() -> SigningSecrets {
    let current: SigningSecret = SECRET.parse().expect("a secret");
    SigningSecrets { current, previous: Vec::new() }
}

const EVENT: &[u8] = b"evt_01jd3a0000000000000000000a";
const SECONDS: &[u8] = b"1795407600";

/// The hashing that no way of signing with two keys can do without.
pub(crate) struct Hash {
    state: Hmac<Sha256>,
    body: String,
}

impl Hash {
    pub(crate) fn new(len: usize) -> Self {
        let state = Hmac::new_from_slice(SECRET.as_bytes()).expect("keys have any length");
        Self { state, body: payload(len) }
    }

    pub(crate) fn run(&self) -> [[u8; 32]; 2] {
        [&[self.body.as_bytes()][..], &[EVENT, b".", SECONDS, b".", self.body.as_bytes()]].map(
            |parts| {
                let mut mac = self.state.clone();
                parts.iter().for_each(|part| mac.update(part));
                mac.finalize().into_bytes().into()
            },
        )
    }
}

/// Both signatures of one attempt.
pub(crate) struct Sign {
    signer: Signer,
    body: String,
    out: Vec<u8>,
}

impl Sign {
    pub(crate) fn new(len: usize) -> Self {
        Self { signer: Signer::new(&secrets()), body: payload(len), out: Vec::with_capacity(384) }
    }

    pub(crate) fn run(&mut self) -> usize {
        let body = self.body.as_bytes();
        self.out.clear();
        self.signer.write_hex(NOW, body, &mut self.out);
        self.signer.write_standard(NOW, EVENT, SECONDS, body, &mut self.out);
        self.out.len()
    }
}

/// The check of one payload.
pub(crate) struct Parse(String);

impl Parse {
    pub(crate) fn new(len: usize) -> Self {
        Self(payload(len))
    }

    pub(crate) fn run(&self) -> EventType {
        let limits = PayloadLimits { max_bytes: 256 * 1024, max_depth: 32 };
        parse_payload_str(&self.0, &limits).expect("it is a payload")
    }
}

/// The whole request of one attempt, signatures included.
pub(crate) struct Head(Outgoing);

impl Head {
    pub(crate) fn new(len: usize) -> Self {
        let url = webhook_url(SocketAddr::from(([192, 0, 2, 1], 8443)));
        Self(outgoing(target(TenantNo(23), url), Bytes::from(payload(len))))
    }

    pub(crate) fn run(&self) -> Request<Full<Bytes>> {
        self.0.target.request(&self.0, NOW, Protocol::Http1, false)
    }
}

/// Twenty webhooks' routes.
pub(crate) fn rebuild_routes() -> [Vec<(WebhookNo, bool)>; EventType::EVERY.len()] {
    router::routes((0..20).map(|no| (WebhookNo(no), EventTypes::ALL, true)))
}

pub(crate) fn webhook_url(address: SocketAddr) -> WebhookUrl {
    let SocketAddr::V4(address) = address else { panic!("the benchmarks use IPv4") };
    WebhookUrl {
        scheme: Scheme::Http,
        host: Host::V4(*address.ip()),
        port: address.port(),
        path_and_query: "/hooks/senderz?source=whatsapp".to_owned(),
    }
}

pub(crate) fn target(tenant: TenantNo, url: WebhookUrl) -> Arc<Target> {
    let webhook = Webhook {
        no: WEBHOOK,
        id: WebhookId(5),
        tenant,
        url,
        events: EventTypes::ALL,
        description: String::new(),
        headers: CustomHeaders::default(),
        enabled: true,
        disabled: None,
        success: None,
        timeout: None,
        max_in_flight: None,
        rate_limit: None,
        created_at: NOW,
        updated_at: NOW,
    };
    let tenant = Tenant {
        no: tenant,
        id: "acme".parse().expect("a tenant's id"),
        name: "Acme".to_owned(),
        created_at: NOW,
        secrets: secrets(),
    };
    Arc::new(Target::new(&webhook, &tenant, &sender_settings()))
}

pub(crate) fn outgoing(target: Arc<Target>, payload: Bytes) -> Outgoing {
    Outgoing {
        target,
        event: EventId { accepted_at: NOW, node: NODE, place: PLACE },
        event_type: EventType::Delivered,
        delivery: DeliveryId { node: NODE, key: DeliveryKey { place: PLACE, webhook: WEBHOOK } },
        number: 1,
        payload,
        queued: 42,
        trace: None,
    }
}

/// For receivers on loopback addresses.
pub(crate) fn sender_settings() -> Settings {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    Settings {
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(2),
        tls_timeout: Duration::from_secs(2),
        dns_timeout: Duration::from_secs(2),
        max_response: 64 * 1024,
        keep_response: 4 * 1024,
        pool_idle_timeout: Duration::from_secs(25),
        pool_max_age: Duration::from_secs(300),
        pool_max_idle_per_origin: 64,
        pool_max_connections: 4096,
        http2_max_streams: 100,
        dns_servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 9))],
        dns_cache_entries: 100,
        dns_min_ttl: Duration::from_secs(1),
        dns_max_ttl: Duration::from_secs(300),
        dns_negative_ttl: Duration::from_secs(30),
        ca_file: None,
        policy: Arc::new(Policy { allow_networks: vec![loopback], ..Policy::default() }),
        max_retry_after: Duration::from_secs(300),
        success: SuccessRule::Only200,
        clock: Clock::start(),
    }
}
