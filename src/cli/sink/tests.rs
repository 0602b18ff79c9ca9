use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::mpsc::sync_channel,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::*;
use crate::{clock, tenant::SigningSecret};

const BODY: &str = r#"{"type":"message.sent"}"#;

/// A request as the gateway would send it.
struct Delivery<'a> {
    path: &'a str,
    id: &'a str,
    attempt: u32,
    /// The keys of `X-Senderz-Signature` and of `webhook-signature`.
    signed_with: Option<[&'a SigningSecret; 2]>,
    signed_at: u64,
}

impl Delivery<'_> {
    /// The status answered; none where the connection gives none in time.
    fn send(&self, sink: &SinkHandle, patience: Duration) -> Option<u16> {
        let mut stream = TcpStream::connect(sink.addr).unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        let signatures = self.signed_with.map_or_else(String::new, |s| self.signatures(s));
        write!(
            stream,
            "POST {} HTTP/1.1\r\nhost: x\r\nwebhook-id: {}\r\nx-senderz-attempt: {}\r\n\
             {signatures}content-length: {}\r\n\r\n{BODY}",
            self.path,
            self.id,
            self.attempt,
            BODY.len()
        )
        .unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).ok()?;
        std::str::from_utf8(&head[9..]).unwrap().parse().ok()
    }

    fn signatures(&self, [hex, standard]: [&SigningSecret; 2]) -> String {
        let mac = |key: &[u8], text: &str| {
            Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes()
        };
        let at = self.signed_at;
        let hex: String =
            mac(hex.expose().as_bytes(), BODY).iter().map(|b| format!("{b:02x}")).collect();
        let standard = mac(&standard.key_bytes(), &format!("{}.{at}.{BODY}", self.id));
        format!(
            "x-senderz-signature: {hex}\r\nwebhook-timestamp: {at}\r\n\
             webhook-signature: v1,{}\r\n",
            STANDARD.encode(standard)
        )
    }
}

fn unsigned<'a>(path: &'a str, id: &'a str, attempt: u32) -> Delivery<'a> {
    Delivery { path, id, attempt, signed_with: None, signed_at: now() }
}

fn now() -> u64 {
    clock::wall_ms() / 1000
}

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn both_signatures_must_be_of_the_tenants_secret_and_of_now() {
    let sink = start(SinkOptions::default()).unwrap();
    let (acme, other) = (SigningSecret::generate(), SigningSecret::generate());
    sink.set_secret("acme", acme.clone());
    sink.set_secret("other", other.clone());
    let check = |path, signed_with, signed_at, status| {
        let delivery = Delivery { path, id: "evt_1", attempt: 1, signed_with, signed_at };
        assert_eq!(delivery.send(&sink, PATIENCE), Some(status), "{path}");
    };
    check("/t/acme/hook", Some([&acme, &acme]), now(), 200);
    check("/t/acme/hook", Some([&acme, &other]), now(), 401);
    check("/t/acme/hook", Some([&other, &acme]), now(), 401);
    check("/t/acme/hook", Some([&acme, &acme]), now() - 301, 401);
    check("/t/other", Some([&acme, &acme]), now(), 401);
    check("/t/other", None, now(), 401);
    check("/t/other", Some([&other, &other]), now(), 200);
    check("/elsewhere", None, now(), 200);
    let stats = sink.stop();
    assert_eq!((stats.bad_signatures, stats.unverified, stats.succeeded), (5, 1, 3));
}

#[test]
fn a_duplicate_is_a_success_after_a_success_on_the_same_path() {
    let sink = start(SinkOptions { status: 503, ..SinkOptions::default() }).unwrap();
    let send = |path, id, attempt| unsigned(path, id, attempt).send(&sink, PATIENCE);
    assert_eq!(send("/a", "evt_1", 1), Some(503));
    sink.set_status(200);
    // After a failure it is a retry; on another path it is another webhook's.
    assert_eq!(send("/a", "evt_1", 2), Some(200));
    assert_eq!(send("/b", "evt_1", 1), Some(200));
    assert_eq!(sink.stats().duplicates, 0);
    assert_eq!(send("/a", "evt_1", 2), Some(200));
    let stats = sink.stop();
    assert_eq!((stats.duplicates, stats.events, stats.succeeded, stats.failed), (1, 2, 3, 1));
}

#[test]
fn the_same_seed_fails_the_same_attempts_whatever_their_order() {
    let failures = |seed: u64, backwards: bool| {
        let options = SinkOptions { fail_rate: 0.3, seed, ..SinkOptions::default() };
        let sink = start(options).unwrap();
        let mut ids: Vec<_> = (0..60).map(|n| format!("evt_{n}")).collect();
        if backwards {
            ids.reverse();
        }
        let mut failed: Vec<_> = ids
            .into_iter()
            .filter(|id| unsigned("/", id, 1).send(&sink, PATIENCE) == Some(500))
            .collect();
        failed.sort();
        assert_eq!(sink.stop().failed as usize, failed.len());
        failed
    };
    let first = failures(7, false);
    assert!((5..=35).contains(&first.len()), "a third of 60, not {}", first.len());
    assert_eq!(failures(7, true), first);
    assert_ne!(failures(8, false), first);
}

#[test]
fn a_hanging_receiver_gives_no_answer_and_stops_all_the_same() {
    let sink = start(SinkOptions { hang_rate: 1.0, ..SinkOptions::default() }).unwrap();
    let answer = unsigned("/", "evt_1", 1).send(&sink, Duration::from_millis(50));
    assert_eq!(answer, None);
    assert_eq!(
        sink.stop(),
        Stats { requests: 1, hung: 1, unverified: 1, connections: 1, ..Stats::default() }
    );
}

#[test]
fn what_is_no_delivery_is_refused_and_counted() {
    let sink = start(SinkOptions::default()).unwrap();
    let mut stream = TcpStream::connect(sink.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(sink.stop().malformed, 1);
}

#[test]
fn every_request_is_told_with_its_answer_and_what_became_of_its_signature() {
    let secret = SigningSecret::generate();
    let (watch, told) = sync_channel(100);
    let sink = start(SinkOptions { watch: Some(watch), ..SinkOptions::default() }).unwrap();
    sink.set_secret("acme", secret.clone());
    let send = |path, signed_with| {
        let delivery = Delivery { path, id: "evt_1", attempt: 2, signed_with, signed_at: now() };
        delivery.send(&sink, PATIENCE);
        let Ok(Told::Request(seen)) = told.try_recv() else { panic!("told, then answered") };
        assert_eq!(seen.webhook_id.as_deref(), Some("evt_1"));
        seen
    };
    let right = send("/t/acme", Some([&secret, &secret]));
    assert_eq!((right.status, right.signature), (Some(200), Signature::Verified));
    let line = right.to_string();
    assert!(line.ends_with("Z  evt_1  -                  attempt 2  200  verified"), "{line}");
    let wrong = send("/t/acme", None);
    assert_eq!((wrong.status, wrong.signature), (Some(401), Signature::Wrong));
    sink.set_status(503);
    let open = send("/", None);
    assert_eq!((open.status, open.signature), (Some(503), Signature::NotVerified));
    let json = serde_json::to_value(&open).unwrap();
    assert_eq!((&json["signature"], &json["status"]), (&"not_verified".into(), &503.into()));
}

#[test]
fn whoever_watches_too_slowly_holds_up_nobody_and_misses_a_number() {
    let (watch, held) = sync_channel(1);
    let sink = start(SinkOptions { watch: Some(watch), ..SinkOptions::default() }).unwrap();
    let send = |id| unsigned("/", id, 1).send(&sink, PATIENCE);
    let answers = ["evt_1", "evt_2", "evt_3"].map(send);
    // Before anything can fail: a sink that waits for it could not stop.
    drop(held);
    assert_eq!(answers, [Some(200); 3]);
    let stats = sink.stop();
    assert_eq!((stats.succeeded, stats.untold), (3, 2));
}
