//! The guard on the connections of the real binary: what an open connection turns out to be, and
//! what a reload makes of idle ones.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{
    eventually,
    gateway::Gateway,
    namespace::{is_inside, must},
    payload,
    receiver::{Answer, Receiver},
};

const LIMIT: Duration = Duration::from_secs(20);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// The only delivery of an event, once it has ended.
fn ended(gateway: &Gateway, event: &str) -> Value {
    eventually("its delivery ends", LIMIT, || {
        let deliveries = gateway.get("/v1/deliveries?limit=100", "acme");
        let found = deliveries["data"].as_array().expect("a list").iter().find(|d| {
            d["event_id"] == event && (d["status"] == "delivered" || d["status"] == "failed")
        })?;
        let id = found["id"].as_str().expect("an id");
        Some(gateway.get(&format!("/v1/deliveries/{id}"), "acme"))
    })
}

fn assert_blocked(delivery: &Value) {
    assert_eq!(delivery["status"], "failed", "{delivery}");
    let attempts = delivery["attempts"].as_array().expect("a list");
    assert_eq!(attempts.len(), 1, "{delivery}");
    assert_eq!(attempts[0]["error"]["code"], "blocked_target", "{delivery}");
}

/// A wildcard listener is on every address of its machine; only the open connection shows that an
/// address is one of them.
#[test]
fn a_webhook_cannot_reach_the_gateway_itself_over_another_address_of_its_machine() {
    let name = "a_webhook_cannot_reach_the_gateway_itself_over_another_address_of_its_machine";
    if !is_inside(name, &["--net"]) {
        return;
    }
    must("ip", &["link", "set", "lo", "up"]);
    must("ip", &["address", "add", "10.9.9.9/32", "dev", "lo"]);
    let dir = directory();
    let env = [
        ("SENDERZ_SERVER__LISTEN", "0.0.0.0:0"),
        ("SENDERZ_SECURITY__ALLOW_NETWORKS", "127.0.0.0/8,10.0.0.0/8"),
    ];
    let gateway = Gateway::start(dir.path(), &env);
    gateway.tenant("acme");
    let receiver = Receiver::start_at("10.9.9.9:0", |_| Answer::Status(200));
    let itself = format!("http://10.9.9.9:{}/v1/tenants/acme/events", gateway.api.port());
    for url in [itself, receiver.url()] {
        gateway.webhook("acme", &url);
    }
    let event = gateway.event("acme", &payload("message.sent", "msg_1"));
    let deliveries = eventually("both deliveries end", LIMIT, || {
        let all = gateway.get(&format!("/v1/events/{event}"), "acme");
        let all = all["deliveries"].as_array().expect("a list").clone();
        (all.len() == 2 && all.iter().all(|d| d["status"] != "pending")).then_some(all)
    });
    let by_status = |status: &str| {
        let found = deliveries.iter().find(|d| d["status"] == status);
        let id = found.unwrap_or_else(|| panic!("none {status} in {deliveries:?}"))["id"].as_str();
        gateway.get(&format!("/v1/deliveries/{}", id.expect("an id")), "acme")
    };
    by_status("delivered");
    assert_blocked(&by_status("failed"));
    assert_eq!(receiver.count(), 1);
    // The producer's own request, and not one from inside.
    let route = "senderz_http_requests_total{route=\"ingest_event\"";
    for (class, expected) in [("2xx", 1.0), ("4xx", 0.0)] {
        let line = format!("{route},code_class=\"{class}\"}}");
        assert_eq!(gateway.metric(&line), expected, "{line}");
    }
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn after_a_reload_an_idle_connection_to_an_address_refused_now_carries_nothing() {
    let dir = directory();
    let file = dir.path().join("config.toml");
    let allow = |networks: &str| {
        let text = format!("[security]\nallow_networks = [{networks}]\n");
        std::fs::write(&file, text).expect("ours");
    };
    allow("\"127.0.0.0/8\"");
    let config = file.to_str().expect("UTF-8");
    let mut command = Gateway::command(&dir.path().join("data"), &[("SENDERZ_CONFIG", config)]);
    command.env_remove("SENDERZ_SECURITY__ALLOW_NETWORKS").env("SENDERZ_POOL__IDLE_TIMEOUT", "60s");
    let gateway = Gateway::run(command).expect("it starts");
    gateway.wait_ready();
    let receiver = Receiver::start(|_| Answer::Status(200));
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    for n in 1..=2 {
        let event = gateway.event("acme", &payload("message.sent", &format!("msg_{n}")));
        assert_eq!(ended(&gateway, &event)["status"], "delivered");
    }
    eventually("its connection is idle", LIMIT, || {
        (gateway.metric("senderz_connections{state=\"idle\"}") == 1.0).then_some(())
    });
    assert_eq!(receiver.connections(), 1, "the second request used it again");

    allow("");
    gateway.signal("-HUP");
    eventually("the reload is in force", LIMIT, || {
        let body = br#"{"url":"http://127.0.0.1:9/","events":["*"]}"#;
        (gateway.ask("POST", "/v1/webhooks", Some("acme"), body).status == 400).then_some(())
    });
    let event = gateway.event("acme", &payload("message.sent", "msg_3"));
    assert_blocked(&ended(&gateway, &event));
    assert_eq!((receiver.count(), receiver.connections()), (2, 1));
    assert_eq!(gateway.stop(), 0);
}
