//! What a page of the list costs the gateway, however much is stored.
//!
//! `PORTAL_DELIVERIES=1000000 cargo test --release --test portal_speed -- --nocapture` is the figure
//! that is promised: 20 ms at the 99th percentile, from the request to the last byte, over loopback.

mod support;

use std::time::Duration;

use serde_json::json;
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    now, payload,
    receiver::{Answer, Receiver},
    setting,
};

const PER_BATCH: usize = 5_000;
const REQUESTS: usize = 300;
const PROMISED: Duration = Duration::from_millis(20);

fn login(gateway: &Gateway) -> String {
    let headers = [
        ("host", "127.0.0.1"),
        ("origin", "http://127.0.0.1"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let body = format!("key={OPERATOR_KEY}");
    let entered = Connection::open(gateway.api)
        .and_then(|mut c| c.request("POST", "/portal/login", &headers, body.as_bytes()))
        .expect("the gateway answers");
    let cookie = entered.header("set-cookie").expect("a session");
    cookie.split(';').next().expect("a pair").to_owned()
}

#[test]
fn a_page_of_fifty_is_as_fast_with_many_stored() {
    let deliveries: usize = setting("PORTAL_DELIVERIES").unwrap_or(20_000);
    let data = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(data.path(), &[]);
    let receiver = Receiver::start(|_| Answer::Status(200));
    gateway.tenant("acme");
    gateway.webhook("acme", &format!("http://{}/hook", receiver.addr));
    let mut left = deliveries;
    while left > 0 {
        let count = left.min(PER_BATCH);
        let line = |nth: usize| {
            let event: serde_json::Value =
                serde_json::from_str(&payload("message.sent", &format!("msg_{nth}")))
                    .expect("JSON");
            json!({"tenant": "acme", "payload": event}).to_string() + "\n"
        };
        let body: String = (0..count).map(line).collect();
        let key = format!("Bearer {OPERATOR_KEY}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/x-ndjson")];
        let sent = Connection::open(gateway.api)
            .and_then(|mut c| c.request("POST", "/v1/events?ids=false", &headers, body.as_bytes()))
            .expect("the gateway answers");
        assert_eq!(sent.status, 202, "{}", String::from_utf8_lossy(&sent.body));
        left -= count;
    }
    eventually("all are delivered", Duration::from_secs(1800), || {
        let name = "senderz_deliveries_ended_total{outcome=\"delivered\"}";
        (gateway.metric(name) >= deliveries as f64).then_some(())
    });
    let cookie = login(&gateway);
    let headers = [("host", "127.0.0.1"), ("cookie", cookie.as_str())];
    let mut connection = Connection::open(gateway.api).expect("it listens");
    let mut took: Vec<Duration> = (0..REQUESTS)
        .map(|_| {
            let from = now();
            let page = connection
                .request("GET", "/portal/t/acme/deliveries", &headers, b"")
                .expect("the gateway answers");
            let took = from.elapsed();
            assert_eq!(page.status, 200);
            let rows = String::from_utf8_lossy(&page.body).matches("<tr data-delivery=").count();
            assert_eq!(rows, 50);
            took
        })
        .collect();
    took.sort_unstable();
    let at = |share: f64| took[(REQUESTS as f64 * share) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    println!("portal: 50 of {deliveries} deliveries p50 {p50:.1?} p99 {p99:.1?}");
    assert!(cfg!(debug_assertions) || p99 <= PROMISED, "{p99:?}");
}
