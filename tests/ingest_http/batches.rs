//! `POST /v1/events`, without a socket.

use http::HeaderValue;
use senderz_gateway::{config, id::TenantNo, ingest::Ingest};

use crate::fixture::*;

const NDJSON: &str = "application/x-ndjson";

fn line(tenant: &str, key: &str) -> String {
    let key = if key.is_empty() { String::new() } else { format!(r#""idempotency_key":"{key}","#) };
    format!(r#"{{"tenant":"{tenant}",{key}"payload":{PAYLOAD}}}"#)
}

async fn send(ingest: &Ingest, uri: &str, lines: &[String]) -> Answer {
    Answer::of(ingest.batch(post(uri, NDJSON, lines.join("\n"))).await).await
}

#[tokio::test]
async fn a_batch_is_stored_in_order_with_an_id_per_line() {
    let (ingest, script) = ingest(ingest_config(), 8);
    let answer = send(&ingest, "/v1/events", &[line("acme", ""), line("beta", "k")]).await;
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &2.into()));
    let ids = answer.body["ids"].as_array().unwrap();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    let events = script.events.lock().unwrap().clone();
    let payload = PAYLOAD.as_bytes().to_vec();
    assert_eq!(events, [(TenantNo(1), payload.clone()), (TenantNo(2), payload)]);
}

#[tokio::test]
async fn ids_can_be_left_out() {
    let (ingest, _) = ingest(ingest_config(), 8);
    let answer = send(&ingest, "/v1/events?ids=false", &[line("acme", "")]).await;
    assert_eq!(answer.body, serde_json::json!({"accepted": 1}));
    for uri in ["/v1/events?ids=maybe", "/v1/events?ids=false&x=1", "/v1/events?wait"] {
        let answer = send(&ingest, uri, &[line("acme", "")]).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_parameter"));
    }
}

#[tokio::test]
async fn a_repeated_batch_gets_its_first_answer_and_is_not_stored_again() {
    let (ingest, script) = ingest(ingest_config(), 8);
    let first = send(&ingest, "/", &[line("acme", "a"), line("acme", "b")]).await;
    assert_eq!((&first.body["accepted"], first.header("idempotent-replayed")), (&2.into(), ""));
    let mixed = send(&ingest, "/", &[line("acme", "c"), line("acme", "b")]).await;
    assert_eq!(mixed.body["accepted"], 2);
    assert_eq!(mixed.body["ids"][1], first.body["ids"][1]);
    assert_eq!(mixed.header("idempotent-replayed"), "");
    let all = send(&ingest, "/", &[line("acme", "a"), line("acme", "b")]).await;
    assert_eq!((all.status, &all.body), (first.status, &first.body));
    assert_eq!(all.header("idempotent-replayed"), "true");
    assert_eq!(script.count(), 3);
}

#[tokio::test]
async fn a_reused_key_names_its_lines_and_refuses_all() {
    let (ingest, script) = ingest(ingest_config(), 8);
    send(&ingest, "/", &[line("acme", "k")]).await;
    let other = line("acme", "k").replace("+1", "+2");
    let answer = send(&ingest, "/", &[line("acme", ""), other.clone(), line("acme", "x")]).await;
    assert_eq!((answer.status, answer.code()), (422, "idempotency_key_reused"));
    assert_eq!(answer.pointers(), ["/lines/2/idempotency_key"]);
    assert_eq!(answer.body["errors"][0]["line"], 2);
    let alone = send(&ingest, "/", &[other]).await;
    assert_eq!(alone.pointers(), ["/lines/1/idempotency_key"]);
    assert_eq!(script.count(), 1);
}

#[tokio::test]
async fn one_bad_line_in_a_thousand_refuses_all_and_is_named() {
    let (ingest, script) = ingest(ingest_config(), 8);
    for bad in [1, 500, 1_000] {
        let mut lines = vec![line("acme", ""); 1_000];
        lines[bad - 1] = line("acme", "").replace("+1", "");
        let answer = send(&ingest, "/", &lines).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_batch"));
        assert_eq!(answer.pointers(), [format!("/lines/{bad}/payload/data/recipient")]);
        assert!(answer.body["detail"].as_str().unwrap().starts_with("1 of 1000 lines are bad"));
    }
    assert_eq!(script.count(), 0);
    assert_eq!(send(&ingest, "/", &vec![line("acme", ""); 1_000]).await.body["accepted"], 1_000);
}

#[tokio::test]
async fn another_tenants_line_is_bad_like_a_missing_tenants() {
    let (ingest, script) = ingest(ingest_config(), 8);
    let ask = async |tenant| {
        let mut request = post("/", NDJSON, line(tenant, ""));
        let key = HeaderValue::from_static("Bearer szk_tenant_acme");
        request.headers_mut().insert("authorization", key);
        Answer::of(ingest.batch(request).await).await
    };
    let others = ask("beta").await;
    assert_eq!((others.status, others.pointers()), (400, vec!["/lines/1/tenant"]));
    assert_eq!(others, ask("gone").await);
    assert_eq!(script.count(), 0);
    assert_eq!(ask("acme").await.status, 202);
}

#[tokio::test]
async fn limits_and_formats_of_a_batch() {
    let (ingest, script) = ingest(ingest_config(), 8);
    let too_many = send(&ingest, "/", &vec![line("acme", ""); 1_001]).await;
    assert_eq!((too_many.status, too_many.code()), (413, "payload_too_large"));
    assert!(too_many.body["detail"].as_str().unwrap().contains("ingest.max_batch_lines"));
    let too_large = Answer::of(ingest.batch(post("/", NDJSON, vec![b' '; 1024 * 1024 + 1])).await);
    assert_eq!(too_large.await.code(), "payload_too_large");
    let empty = send(&ingest, "/", &[]).await;
    assert_eq!((empty.status, empty.code()), (400, "invalid_batch"));
    let json = Answer::of(ingest.batch(post("/", "application/json", line("acme", ""))).await);
    assert_eq!(json.await.status, 415);
    let mut keyed = post("/", NDJSON, line("acme", ""));
    keyed.headers_mut().insert("idempotency-key", HeaderValue::from_static("k"));
    let answer = Answer::of(ingest.batch(keyed).await).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_idempotency_key"));
    assert_eq!(script.count(), 0);
}

#[tokio::test]
async fn a_batch_that_leads_to_too_many_deliveries_is_refused_before_it_is_stored() {
    let settings = config::Ingest { max_batch_deliveries: 3, ..ingest_config() };
    let (ingest, script) = ingest(settings, 8);
    // One delivery each: acme's second webhook is disabled.
    let lines = [line("acme", ""), line("beta", ""), line("acme", ""), line("acme", "")];
    let refused = send(&ingest, "/v1/events", &lines).await;
    assert_eq!((refused.status, refused.code()), (413, "too_many_deliveries"));
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("4 deliveries") && detail.contains("at most 3"), "{detail}");
    assert_eq!(script.count(), 0);
    assert_eq!(send(&ingest, "/v1/events", &lines[..3]).await.status, 202);
}
