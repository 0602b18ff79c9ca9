//! What a hostile or broken client can put on the wire.

use std::time::Duration;

use senderz_gateway::config;

use crate::fixture::*;

const HEAD: &str = "POST /v1/tenants/acme/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer szk_operator_x\r\nContent-Type: application/json\r\n";
const BATCH_HEAD: &str = "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer szk_operator_x\r\nContent-Type: application/x-ndjson\r\n";

async fn start() -> Gateway {
    Gateway::start(ingest_config(), server_config()).await
}

#[tokio::test]
async fn doubtful_framing_is_a_400_and_the_end_of_the_connection() {
    let gateway = start().await;
    let smuggled = "GET /v1/tenants HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = "5\r\nabcde\r\n0\r\n\r\n";
    for (name, request) in [
        (
            "CL.TE",
            format!(
                "{HEAD}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
        ),
        (
            "TE.CL",
            format!(
                "{HEAD}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunked}{smuggled}"
            ),
        ),
        (
            "TE.TE",
            format!("{HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n{chunked}"),
        ),
        ("obscured TE", format!("{HEAD}Transfer-Encoding: xchunked\r\n\r\n{chunked}")),
        ("space before the colon", format!("{HEAD}Transfer-Encoding : chunked\r\n\r\n{chunked}")),
        ("two lengths", format!("{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef")),
        ("same length twice", format!("{HEAD}Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde")),
        ("a list of lengths", format!("{HEAD}Content-Length: 5, 5\r\n\r\nabcde")),
        ("signed length", format!("{HEAD}Content-Length: +5\r\n\r\nabcde")),
        ("obs-fold", format!("{HEAD}X: a\r\n b\r\nContent-Length: 0\r\n\r\n")),
        ("folded TE", format!("{HEAD}Transfer-Encoding:\r\n chunked\r\n\r\n{chunked}")),
        ("bare LF in a header", format!("{HEAD}X: a\nContent-Length: 0\r\n\r\n")),
        ("bare LF everywhere", "GET / HTTP/1.1\nHost: x\n\n".into()),
        ("bare LF at the end", format!("{HEAD}Content-Length: 0\r\n\n")),
        ("bare CR in a header", format!("{HEAD}X: a\rb\r\nContent-Length: 0\r\n\r\n")),
        ("NUL in a header", format!("{HEAD}X: a\0b\r\nContent-Length: 0\r\n\r\n")),
        ("no header name", format!("{HEAD}: a\r\n\r\n")),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into()),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        (
            "HTTP/1.0 with TE",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        ),
        ("no version", "GET /\r\n\r\n".into()),
        ("garbage", "\x16\x03\x01\x02\x00\r\n\r\n".into()),
    ] {
        let mut client = gateway.connect().await;
        client.send(&request).await;
        let seen = client.closed().await;
        assert!(
            seen.starts_with("HTTP/1.1 400 ") || seen.starts_with("HTTP/1.0 400 "),
            "{name}: {seen}"
        );
        assert_eq!(seen.matches("HTTP/1.").count(), 1, "{name}: answered twice: {seen}");
    }
    assert_eq!(gateway.script.count(), 0);
}

#[tokio::test]
async fn doubtful_framing_after_a_good_request_ends_the_connection_too() {
    let gateway = start().await;
    let mut client = gateway.connect().await;
    let bad = raw_event(PAYLOAD, "").replace("Host: x\r\n", "Host: x\n");
    client.send(raw_event(PAYLOAD, "") + &bad).await;
    assert_eq!(client.response().await.status(), "202");
    assert!(client.closed().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(gateway.script.count(), 1);
}

#[tokio::test]
async fn a_body_with_line_feeds_and_requests_in_it_arrives_untouched() {
    let gateway = start().await;
    let inner =
        "\n\nGET / HTTP/1.1\nHost: y\n\n\r\n\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\n";
    let spaced = format!("\n\n\r\n{PAYLOAD}\n\n");
    let quoted = PAYLOAD.replace("\"sms\"", &format!("\"sms\",\"x\":{}", serde_json::json!(inner)));
    let mut client = gateway.connect().await;
    for payload in [&spaced, &quoted] {
        client.send(raw_event(payload, "")).await;
        assert_eq!(client.response().await.status(), "202");
        let chunks: String = payload
            .as_bytes()
            .chunks(11)
            .map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c)))
            .collect();
        client.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")).await;
        assert_eq!(client.response().await.status(), "202");
    }
    let stored: Vec<_> =
        gateway.script.events.lock().unwrap().iter().map(|e| e.1.clone()).collect();
    let expected: Vec<_> =
        [&spaced, &spaced, &quoted, &quoted].map(|p| p.clone().into_bytes()).into();
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gateway = start().await;
    let mut client = gateway.connect().await;
    let mut bytes = String::new();
    for i in 0..20 {
        bytes += &raw_event(&PAYLOAD.replace("+1", &format!("+{i}")), "");
    }
    client.send(bytes).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        let response = client.response().await;
        assert_eq!(response.status(), "202", "{response:?}");
        ids.push(response.body);
    }
    assert_eq!(gateway.script.count(), 20);
    assert!(ids.is_sorted(), "{ids:?}");
}

#[tokio::test]
async fn too_large_by_its_announcement_is_refused_before_the_body() {
    let gateway = start().await;
    let mut client = gateway.connect().await;
    client.send(format!("{HEAD}Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n")).await;
    let response = client.response().await;
    assert_eq!(response.status(), "413");
    assert!(response.head.to_ascii_lowercase().contains("connection: close"));
    assert!(response.body.contains("payload_too_large"), "{}", response.body);
    assert_eq!(client.closed().await, "");
}

#[tokio::test]
async fn too_large_while_it_arrives_is_refused_at_the_limit() {
    let gateway = start().await;
    let mut client = gateway.connect().await;
    client.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n")).await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
    // 256 KiB are the limit; the answer comes although the body never ends.
    for _ in 0..5 {
        client.send(&chunk).await;
    }
    let response = client.response().await;
    assert_eq!(response.status(), "413");
    client.closed().await;
    until(|| gateway.ingest.pending_bytes() == 0).await;
}

#[tokio::test]
async fn a_gateways_delivery_is_refused_before_its_body() {
    let gateway = start().await;
    for head in [HEAD, BATCH_HEAD] {
        let mut client = gateway.connect().await;
        client.send(head).await;
        // No byte of the announced body is ever sent.
        client.send("X-Senderz-Delivery: dlv_1\r\nContent-Length: 100\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!(response.status(), "400");
        assert!(response.body.contains(r#""code":"loop_detected""#), "{}", response.body);
    }
    assert_eq!(gateway.script.count(), 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_accepted() {
    let gateway = start().await;
    let cut = raw_event(PAYLOAD, "");
    let mut client = gateway.connect().await;
    client.send(&cut[..cut.len() - 1]).await;
    until(|| gateway.ingest.pending_bytes() > 0).await;
    drop(client);
    until(|| gateway.ingest.pending_bytes() == 0).await;
    let mut client = gateway.connect().await;
    client.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n")).await;
    client.closed().await;
    assert_eq!(gateway.script.count(), 0);
}

#[tokio::test]
async fn strange_paths_and_methods_are_refused() {
    let gateway = start().await;
    let long = format!("/v1/{}", "x".repeat(100_000));
    for (method, path, status) in [
        ("PUT", "/v1/events", "405"),
        ("OPTIONS", "/v1/tenants/acme/events", "405"),
        ("TRACE", "/v1/tenants/acme/events", "405"),
        ("POST", "/v1/tenants/../events", "404"),
        ("POST", "/v1/tenants/%2e%2e/events", "404"),
        ("POST", "/v1/tenants/acme%2fevents", "404"),
        ("POST", "/v1/tenants//events", "404"),
        ("POST", "//v1/events", "404"),
        ("POST", "/v1/events/../events", "404"),
        ("GET", &long, "431"),
        ("POST", "v1/events", "400"),
    ] {
        let mut client = gateway.connect().await;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer szk_operator_x\r\nX-HTTP-Method-Override: POST\r\nContent-Length: 0\r\n\r\n"
        );
        client.send(request).await;
        let response = client.response().await;
        let short = &path[..path.len().min(40)];
        assert_eq!(response.status(), status, "{method} {short}: {response:?}");
        if status == "405" {
            assert!(response.head.to_ascii_lowercase().contains("allow: "), "{response:?}");
        }
    }
}

#[tokio::test]
async fn a_slow_body_is_a_408_and_the_end_of_the_connection() {
    let server = config::Server { body_timeout: Duration::from_millis(100), ..server_config() };
    let gateway = Gateway::start(ingest_config(), server).await;
    let mut client = gateway.connect().await;
    client.send(format!("{HEAD}Content-Length: 100\r\n\r\n{{")).await;
    let response = client.response().await;
    assert_eq!(response.status(), "408");
    assert!(response.body.contains(r#""code":"timeout""#));
    client.closed().await;
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let gateway = start().await;
    let mut client = gateway.connect().await;
    // No key: the answer comes early, and the unread body must not turn it into a reset.
    client.send("POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n").await;
    for _ in 0..20 {
        client.send(vec![b' '; 10_000]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.response().await.status(), "401");
}
