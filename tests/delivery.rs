//! The main job through the real binary: accept, sign, deliver, retry on schedule, fail, replay.

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use support::{
    eventually,
    gateway::Gateway,
    payload,
    receiver::{Answer, Receiver, Request},
};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

/// Both signatures, as the published contract words them.
fn signatures(request: &Request, secret: &str) -> (String, String) {
    let hex = hmac(secret.as_bytes(), &[&request.body]);
    let hex = hex.iter().map(|b| format!("{b:02x}")).collect();
    let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a prefix")).expect("base64");
    let id = request.header("webhook-id").as_bytes();
    let time = request.header("webhook-timestamp").as_bytes();
    let standard = STANDARD.encode(hmac(&key, &[id, b".", time, b".", &request.body]));
    (hex, format!("v1,{standard}"))
}

#[test]
fn an_event_is_delivered_signed_and_byte_for_byte() {
    let dir = directory();
    let receiver = Receiver::start(|_| Answer::Status(200));
    let gateway = Gateway::start(dir.path(), &[]);
    let secret = gateway.tenant("acme");
    let webhook = gateway.webhook("acme", &receiver.url());
    let body = payload("message.failed", "msg_1").replace(":{", " : {  ");
    let event = gateway.event("acme", &body);

    let request = eventually("the request arrives", Duration::from_secs(5), || {
        receiver.requests().into_iter().next()
    });
    assert_eq!(request.body, body.as_bytes());
    assert_eq!(request.path, "/hook");
    let (hex, standard) = signatures(&request, &secret);
    assert_eq!(request.header("x-senderz-signature"), hex);
    assert_eq!(request.header("webhook-signature"), standard);
    assert_eq!(request.header("webhook-id"), event);
    assert_eq!(request.header("x-senderz-event"), "message.failed");
    assert_eq!(request.header("x-senderz-attempt"), "1");
    assert_eq!(request.header("user-agent"), "senderZ-Webhooks/1.0");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("accept-encoding"), "identity");
    assert!(request.headers.iter().any(|(name, _)| name == "X-Senderz-Signature"));

    let delivery = request.header("x-senderz-delivery").to_owned();
    let logged = eventually("the attempt is recorded", Duration::from_secs(5), || {
        let logged = gateway.get(&format!("/v1/deliveries/{delivery}"), "acme");
        (logged["status"] == "delivered").then_some(logged)
    });
    assert_eq!(logged["webhook_id"], webhook.as_str());
    assert_eq!(logged["event_id"], event.as_str());
    assert_eq!(logged["attempts"][0]["status"], 200);
    assert_eq!(logged["attempts"][0]["number"], 1);
    assert_eq!(logged["payload"]["data"]["id"], "msg_1");
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn the_schedule_is_1_2_4_8_16_seconds_and_a_replay_delivers_with_the_same_id() {
    let dir = directory();
    let mended = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&mended);
    let receiver = Receiver::start(move |_| {
        Answer::Status(if answer.load(Ordering::Relaxed) { 200 } else { 500 })
    });
    let gateway = Gateway::start(dir.path(), &[]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    let event = gateway.event("acme", &payload("message.delivered", "msg_1"));

    let requests = eventually("six attempts", Duration::from_secs(45), || {
        Some(receiver.requests()).filter(|r| r.len() == 6)
    });
    for (gap, seconds) in requests.windows(2).zip([1, 2, 4, 8, 16]) {
        let measured = gap[1].at - gap[0].at;
        println!("gap {seconds} s: {measured:?}");
        let late = measured
            .checked_sub(Duration::from_secs(seconds))
            .unwrap_or_else(|| panic!("{measured:?} is before its time"));
        assert!(late <= Duration::from_millis(50), "{measured:?} instead of {seconds} s");
    }
    let delivery = requests[0].header("x-senderz-delivery").to_owned();
    let path = format!("/v1/deliveries/{delivery}");
    let failed = eventually("the delivery fails", Duration::from_secs(5), || {
        Some(gateway.get(&path, "acme")).filter(|d| d["status"] == "failed")
    });
    assert_eq!(failed["attempts"].as_array().map(Vec::len), Some(6));
    assert_eq!(failed["attempts"][5]["error"]["code"], "status");
    for (outcome, attempts) in [("retry", 5.0), ("failed", 1.0)] {
        let line = format!("senderz_attempts_total{{outcome=\"{outcome}\",error=\"status\"}}");
        eventually("the attempts are counted", Duration::from_secs(5), || {
            (gateway.metric(&line) >= attempts).then_some(())
        });
        assert_eq!(gateway.metric(&line), attempts, "{line}");
    }

    mended.store(true, Ordering::Relaxed);
    gateway.post(&format!("{path}/replay"), Some("acme"), &json!({}));
    let replayed = eventually("the replay arrives", Duration::from_secs(5), || {
        receiver.requests().into_iter().nth(6)
    });
    assert_eq!(replayed.header("webhook-id"), event);
    assert_eq!(replayed.header("x-senderz-attempt"), "7");
    eventually("it is delivered", Duration::from_secs(5), || {
        Some(gateway.get(&path, "acme")).filter(|d| d["status"] == "delivered")
    });
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn each_webhook_gets_only_the_types_that_it_asked_for() {
    let dir = directory();
    let receiver = Receiver::start(|_| Answer::Status(200));
    let gateway = Gateway::start(dir.path(), &[]);
    gateway.tenant("acme");
    gateway.tenant("other");
    gateway.webhook("other", &format!("http://{}/other", receiver.addr));
    for (path, events) in [("all", json!(["*"])), ("failed", json!(["message.failed"]))] {
        let url = format!("http://{}/{path}", receiver.addr);
        gateway.post("/v1/webhooks", Some("acme"), &json!({"url": url, "events": events}));
    }
    for (n, event_type) in ["message.sent", "message.failed", "message.read"].iter().enumerate() {
        gateway.event("acme", &payload(event_type, &format!("msg_{n}")));
    }
    eventually("four deliveries", Duration::from_secs(5), || (receiver.count() == 4).then_some(()));
    let mut by_path: HashMap<String, Vec<String>> = HashMap::new();
    for request in receiver.requests() {
        by_path
            .entry(request.path.clone())
            .or_default()
            .push(request.header("x-senderz-event").to_owned());
    }
    assert_eq!(by_path["/failed"], ["message.failed"]);
    assert_eq!(by_path["/all"].len(), 3);
    assert!(!by_path.contains_key("/other"), "another tenant's webhook hears nothing");
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn a_graceful_stop_loses_and_repeats_nothing() {
    let dir = directory();
    let receiver = Receiver::start(|_| Answer::Status(200));
    let mut gateway = Gateway::start(dir.path(), &[]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    for round in 0..3 {
        for n in 0..200 {
            gateway.event("acme", &payload("message.sent", &format!("msg_{round}_{n}")));
        }
        assert_eq!(gateway.stop(), 0);
        gateway = Gateway::start(dir.path(), &[]);
    }
    eventually("all arrive", Duration::from_secs(20), || (receiver.count() >= 600).then_some(()));
    eventually("nothing waits", Duration::from_secs(5), || {
        (gateway.waiting("acme") == 0).then_some(())
    });
    assert_eq!(receiver.count(), 600, "each exactly once");
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn the_first_attempt_tells_how_long_it_waited_and_each_delivery_is_counted_once() {
    let dir = directory();
    let receiver = Receiver::start(|_| Answer::Status(200));
    let gateway = Gateway::start(dir.path(), &[]);
    gateway.tenant("acme");
    let slow = json!({"url": receiver.url(), "events": ["*"], "rate_limit": 1});
    gateway.post("/v1/webhooks", Some("acme"), &slow);
    for n in 0..3 {
        gateway.event("acme", &payload("message.sent", &format!("msg_{n}")));
    }
    let last = eventually("three deliveries", Duration::from_secs(10), || {
        receiver.requests().into_iter().nth(2)
    });
    let path = format!("/v1/deliveries/{}", last.header("x-senderz-delivery"));
    let delivered = eventually("the last is recorded", Duration::from_secs(5), || {
        Some(gateway.get(&path, "acme")).filter(|d| d["status"] == "delivered")
    });
    let queue = delivered["attempts"][0]["phases"]["queue"].as_f64().expect("milliseconds");
    assert!((1500.0..5000.0).contains(&queue), "one a second, so the third waited: {queue} ms");
    assert_eq!(gateway.metric("senderz_deliveries_created_total"), 3.0);
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn a_webhook_is_tried_before_it_is_saved_signed_and_recorded_nowhere() {
    let dir = directory();
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/hook" => Answer::Status(200),
        _ => Answer::Status(503),
    });
    let gateway = Gateway::start(dir.path(), &[]);
    let secret = gateway.tenant("acme");
    let check = |url: &str| {
        let body = json!({"url": url, "events": ["message.read"]});
        gateway.post("/v1/webhooks?dry_run=true", Some("acme"), &body)
    };
    let good = check(&receiver.url());
    assert_eq!(
        (&good["ok"], &good["status"], &good["error"]),
        (&json!(true), &json!(200), &json!(null))
    );
    let request = receiver.requests().pop().expect("it was sent");
    let (hex, standard) = signatures(&request, &secret);
    assert_eq!(request.header("x-senderz-signature"), hex);
    assert_eq!(request.header("webhook-signature"), standard);
    assert_eq!(request.header("x-senderz-event"), "message.read");

    let bad = check(&receiver.url().replace("/hook", "/other"));
    assert_eq!((&bad["ok"], &bad["error"]["code"]), (&json!(false), &json!("status")));
    assert!(bad["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
    // Nobody listens on port 1; and the guard stands in front of this one too.
    let refused = check("http://127.0.0.1:1/");
    assert_eq!((&refused["ok"], &refused["error"]["code"]), (&json!(false), &json!("connect")));
    let blocked = json!({"url": "http://169.254.169.254/", "events": ["*"]}).to_string();
    let blocked =
        gateway.ask("POST", "/v1/webhooks?dry_run=true", Some("acme"), blocked.as_bytes());
    assert_eq!(
        (blocked.status, &blocked.json()["errors"][0]["code"]),
        (400, &json!("blocked_target"))
    );

    for list in ["webhooks", "events", "deliveries"] {
        let listed = gateway.get(&format!("/v1/{list}"), "acme");
        assert_eq!(listed["data"], json!([]), "{list}");
    }
    assert_eq!(receiver.count(), 2, "each was sent once");
}
