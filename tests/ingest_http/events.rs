//! `POST /v1/tenants/{tenant}/events`, without a socket.

use http::HeaderValue;
use senderz_gateway::{id::TenantNo, store::AppendError};

use crate::fixture::*;

const JSON: &str = "application/json";

#[tokio::test]
async fn a_payload_is_stored_byte_for_byte_and_answered_with_its_id_and_deliveries() {
    let (ingest, script) = ingest(ingest_config(), 8);
    let payload =
        format!(" \t{}\r\n", PAYLOAD.replace(':', " :").replace("04 :20 :00", "04:20:00"));
    let answer = Answer::of(ingest.event("acme", post("/", JSON, payload.clone())).await).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(!answer.headers.contains_key("idempotent-replayed"));
    // One webhook of two is enabled.
    assert_eq!(answer.body["deliveries"], 1);
    let id = answer.body["id"].as_str().unwrap();
    assert!(id.starts_with("evt_") && id.len() == 30, "{id}");
    let events = script.events.lock().unwrap().clone();
    assert_eq!(events, [(TenantNo(1), payload.into_bytes())]);
}

#[tokio::test]
async fn who_may_send_for_whom() {
    let (ingest, script) = ingest(ingest_config(), 8);
    for (key, tenant, status) in [
        (Some("Bearer szk_operator_x"), "acme", 202),
        (Some("bearer szk_producer_x"), "beta", 202),
        (Some("Bearer szk_tenant_acme"), "acme", 202),
        (Some("Bearer szk_tenant_acme"), "beta", 404),
        (Some("Bearer szk_tenant_acme"), "gone", 404),
        (Some("Bearer szk_operator_x"), "gone", 404),
        (Some("Bearer szk_operator_x"), "%61cme", 404),
        (Some("Bearer szk_operator_x"), "ACME", 404),
        (Some("Bearer szk_unknown"), "acme", 401),
        (Some("Bearer szk_unknown"), "gone", 401),
        (Some("Basic c3prX29wZXJhdG9yX3g="), "acme", 401),
        (None, "acme", 401),
    ] {
        let before = script.count();
        let mut request = post("/", JSON, PAYLOAD);
        request.headers_mut().remove("authorization");
        if let Some(key) = key {
            let key = HeaderValue::from_static(key);
            request.headers_mut().insert("authorization", key);
        }
        let answer = Answer::of(ingest.event(tenant, request).await).await;
        assert_eq!(answer.status, status, "{key:?} {tenant}");
        assert_eq!(script.count() - before, usize::from(status == 202));
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge.starts_with("Bearer"), status == 401, "{challenge}");
    }
}

#[tokio::test]
async fn anothers_tenant_looks_the_same_as_a_missing_one() {
    let (ingest, _) = ingest(ingest_config(), 8);
    let ask = async |tenant| {
        let mut request = post("/", JSON, PAYLOAD);
        let key = HeaderValue::from_static("Bearer szk_tenant_acme");
        request.headers_mut().insert("authorization", key);
        Answer::of(ingest.event(tenant, request).await).await
    };
    assert_eq!(ask("beta").await, ask("gone").await);
}

#[tokio::test]
async fn a_key_in_the_url_is_refused_even_beside_a_good_header() {
    let (ingest, script) = ingest(ingest_config(), 8);
    let request = post("/?key=szk_operator_x", JSON, PAYLOAD);
    let answer = Answer::of(ingest.event("acme", request).await).await;
    assert_eq!((answer.status, answer.code()), (401, "unauthorized"));
    let request = post("/?wait=true", JSON, PAYLOAD);
    let answer = Answer::of(ingest.event("acme", request).await).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_parameter"));
    assert_eq!(script.count(), 0);
}

#[tokio::test]
async fn only_plain_json_is_taken() {
    let (ingest, script) = ingest(ingest_config(), 8);
    for content_type in ["application/x-ndjson", "text/plain", "application/octet-stream"] {
        let answer = Answer::of(ingest.event("acme", post("/", content_type, PAYLOAD)).await).await;
        assert_eq!((answer.status, answer.code()), (415, "unsupported_media_type"));
    }
    let utf16 = post("/", "application/json; charset=utf-16", PAYLOAD);
    let answer = Answer::of(ingest.event("acme", utf16).await).await;
    assert_eq!((answer.status, answer.code()), (415, "unsupported_media_type"));
    let detail = answer.body["detail"].as_str().expect("text");
    assert!(detail.contains("charset=utf-8"), "says what to do: {detail}");
    let mut zipped = post("/", JSON, PAYLOAD);
    zipped.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
    assert_eq!(Answer::of(ingest.event("acme", zipped).await).await.status, 415);
    assert_eq!(script.count(), 0);
    let utf8 = post("/", "application/json; charset=\"UTF-8\"", PAYLOAD);
    assert_eq!(Answer::of(ingest.event("acme", utf8).await).await.status, 202);
}

#[tokio::test]
async fn a_bad_payload_is_a_400_that_names_each_field() {
    let (ingest, script) = ingest(ingest_config(), 8);
    let bad = PAYLOAD.replace("message.sent", "message.failed").replace(r#""m""#, "5");
    let answer = Answer::of(ingest.event("acme", post("/", JSON, bad)).await).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_payload"));
    assert_eq!(answer.pointers(), ["/data/id", "/data/status_reason"]);
    assert_eq!(answer.body["type"], "/problems/invalid_payload");
    let depth_bomb = "[".repeat(100_000);
    let answer = Answer::of(ingest.event("acme", post("/", JSON, depth_bomb)).await).await;
    assert_eq!((answer.status, answer.pointers()), (400, vec![""]));
    let large = " ".repeat(256 * 1024 + 1);
    let answer = Answer::of(ingest.event("acme", post("/", JSON, large)).await).await;
    assert_eq!((answer.status, answer.code()), (413, "payload_too_large"));
    assert_eq!(script.count(), 0);
}

/// A post with an idempotency key.
async fn post_keyed(
    ingest: &senderz_gateway::ingest::Ingest,
    tenant: &str,
    key: &str,
    payload: String,
) -> Answer {
    let mut request = post("/", JSON, payload);
    let key = HeaderValue::from_bytes(key.as_bytes()).unwrap();
    request.headers_mut().insert("idempotency-key", key);
    Answer::of(ingest.event(tenant, request).await).await
}

#[tokio::test]
async fn the_same_key_gets_the_first_answer_and_another_payload_a_422() {
    let (ingest, script) = ingest(ingest_config(), 8);
    let other = PAYLOAD.replace("+1", "+2");
    let first = post_keyed(&ingest, "acme", "k", PAYLOAD.into()).await;
    let again = post_keyed(&ingest, "acme", "k", PAYLOAD.into()).await;
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(first.body["id"], again.body["id"]);
    assert_eq!(first.header("idempotent-replayed"), "");
    assert_eq!(again.header("idempotent-replayed"), "true");
    let reused = post_keyed(&ingest, "acme", "k", other.clone()).await;
    assert_eq!((reused.status, reused.code()), (422, "idempotency_key_reused"));
    // Another tenant's key is another key.
    let beta = post_keyed(&ingest, "beta", "k", other).await;
    assert_eq!((beta.status, beta.header("idempotent-replayed")), (202, ""));
    assert_eq!(script.count(), 2);
}

#[tokio::test]
async fn unusable_keys_are_refused() {
    let (ingest, script) = ingest(ingest_config(), 8);
    for key in ["", "a b", "schlüssel", &"k".repeat(256), &"k".repeat(10_000)] {
        let answer = post_keyed(&ingest, "acme", key, PAYLOAD.into()).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_idempotency_key"), "{key}");
    }
    assert_eq!(script.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_posts_at_once_with_one_key_make_one_event() {
    let (ingest, script) = ingest(ingest_config(), 8);
    let posts: Vec<_> = (0..100)
        .map(|_| {
            let ingest = ingest.clone();
            tokio::spawn(async move { post_keyed(&ingest, "acme", "k", PAYLOAD.into()).await })
        })
        .collect();
    let mut answers = Vec::new();
    for post in posts {
        answers.push(post.await.unwrap());
    }
    assert!(answers.iter().all(|a| a.status == 202 && a.body["id"] == answers[0].body["id"]));
    let new = answers.iter().filter(|a| a.header("idempotent-replayed") != "true").count();
    assert_eq!(new, 1);
    assert_eq!(script.count(), 1);
}

#[tokio::test]
async fn nothing_is_answered_before_the_store_has_answered() {
    let (ingest, script) = ingest(ingest_config(), 8);
    script.hold(true);
    let mut posting = Box::pin(ingest.event("acme", post("/", JSON, PAYLOAD)));
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut posting).await;
    assert!(early.is_err(), "answered although the store holds the append");
    script.hold(false);
    assert_eq!(posting.await.status(), 202);
}

#[tokio::test]
async fn an_event_is_kept_when_its_client_hangs_up_and_its_bytes_stay_counted_until_stored() {
    let (ingest, script) = ingest(ingest_config(), 8);
    script.hold(true);
    let posting = ingest.event("acme", post("/", JSON, PAYLOAD));
    let hung_up = tokio::time::timeout(std::time::Duration::from_millis(50), posting).await;
    assert!(hung_up.is_err());
    assert_eq!(ingest.pending_bytes(), PAYLOAD.len());
    script.hold(false);
    until(|| script.count() == 1).await;
    until(|| ingest.pending_bytes() == 0).await;
}

#[tokio::test]
async fn a_tenant_deleted_meanwhile_is_not_found() {
    let table = std::sync::Arc::new(Table::default());
    let (store, script) = scripted_store(8);
    let ingest = senderz_gateway::ingest::Ingest::new(ingest_config(), STUCK, table.clone(), store);
    table.acme_is_gone.store(true, std::sync::atomic::Ordering::Relaxed);
    let answer = Answer::of(ingest.event("acme", post("/", JSON, PAYLOAD)).await).await;
    assert_eq!((answer.status, script.count()), (404, 0));
}

#[tokio::test]
async fn an_event_is_not_given_to_another_tenant_that_took_the_name_while_its_body_came_in() {
    let table = std::sync::Arc::new(Table::default());
    let (store, script) = scripted_store(8);
    let ingest = senderz_gateway::ingest::Ingest::new(ingest_config(), STUCK, table.clone(), store);
    let (mut send, body) = http_body_util::channel::Channel::<bytes::Bytes>::new(1);
    let posting = ingest.event("acme", post("/", JSON, "").map(|_| body));
    let renaming = async {
        // The request waits for its body by now: it was polled first.
        table.acme_is_another.store(true, std::sync::atomic::Ordering::Relaxed);
        send.send_data(PAYLOAD.into()).await.unwrap();
        drop(send);
    };
    let (answer, ()) = tokio::join!(biased; posting, renaming);
    assert_eq!((Answer::of(answer).await.status, script.count()), (404, 0));
    let answer = Answer::of(ingest.event("acme", post("/", JSON, PAYLOAD)).await).await;
    assert_eq!((answer.status, script.count()), (202, 1), "the new one gets its own");
}

#[tokio::test]
async fn each_of_the_stores_refusals_has_its_answer() {
    let (ingest, script) = ingest(ingest_config(), 8);
    for (mood, status, code) in [
        (Mood::Refuses(AppendError::Full), 507, "storage_full"),
        (Mood::Refuses(AppendError::Poisoned), 503, "unavailable"),
        (Mood::Refuses(AppendError::KeyReused(vec![0])), 422, "idempotency_key_reused"),
        (Mood::Dies, 503, "unavailable"),
    ] {
        script.feel(mood);
        let answer = Answer::of(ingest.event("acme", post("/", JSON, PAYLOAD)).await).await;
        assert_eq!((answer.status, answer.code()), (status, code));
        assert_eq!(answer.header("retry-after"), if status == 422 { "" } else { "3" });
    }
    assert_eq!(script.count(), 0);
    script.feel(Mood::Works);
    assert_eq!(ingest.event("acme", post("/", JSON, PAYLOAD)).await.status(), 202);
}
