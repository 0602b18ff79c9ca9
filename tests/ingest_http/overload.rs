//! Too much: every refusal comes before anything is accepted, and says when to come back.

use metrics_exporter_prometheus::PrometheusBuilder;
use senderz_gateway::{config, store::AppendError};

use crate::fixture::*;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

#[tokio::test]
async fn a_full_queue_is_a_503_and_heals() {
    let (ingest, script) = ingest(ingest_config(), 1);
    script.hold(true);
    // One waits in the actor's hand or in the queue, one more may fit.
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let ingest = ingest.clone();
            tokio::spawn(async move { ingest.event("acme", post("/", JSON, PAYLOAD)).await })
        })
        .collect();
    until(|| ingest.pending_bytes() >= 2 * PAYLOAD.len()).await;
    let refused = async || Answer::of(ingest.event("acme", post("/", JSON, PAYLOAD)).await).await;
    // The actor takes nothing more, so after at most two the queue is full for good.
    let answer = tokio::time::timeout(STUCK, refused()).await.expect("refused in time");
    assert_eq!((answer.status, answer.code()), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), "3");
    script.hold(false);
    let mut accepted = 0;
    for post in waiting {
        accepted += usize::from(post.await.unwrap().status() == 202);
    }
    assert_eq!(script.count(), accepted);
    assert_eq!(refused().await.status, 202);
}

#[tokio::test]
async fn too_many_pending_bytes_are_a_503_and_heal() {
    let room = 3 * PAYLOAD.len();
    let settings = config::Ingest { max_pending: room, ..ingest_config() };
    let (ingest, script) = ingest(settings, 64);
    script.hold(true);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let ingest = ingest.clone();
            tokio::spawn(async move { ingest.event("acme", post("/", JSON, PAYLOAD)).await })
        })
        .collect();
    until(|| ingest.pending_bytes() == room).await;
    let answer = Answer::of(ingest.event("acme", post("/", JSON, PAYLOAD)).await).await;
    assert_eq!((answer.status, answer.code()), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), "3");
    assert!(ingest.pending_bytes() <= room);
    script.hold(false);
    for post in waiting {
        assert_eq!(post.await.unwrap().status(), 202);
    }
    until(|| ingest.pending_bytes() == 0).await;
    assert_eq!(ingest.event("acme", post("/", JSON, PAYLOAD)).await.status(), 202);
    assert_eq!(script.count(), 4);
}

#[tokio::test]
async fn a_tenant_beyond_its_rate_gets_429_and_others_do_not() {
    let settings = config::Ingest { tenant_rate: Some(2), ..ingest_config() };
    let (ingest, script) = ingest(settings, 64);
    let send =
        async |tenant: &str| Answer::of(ingest.event(tenant, post("/", JSON, PAYLOAD)).await).await;
    assert_eq!(send("acme").await.status, 202);
    assert_eq!(send("acme").await.status, 202);
    let refused = send("acme").await;
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    assert_eq!(refused.header("retry-after"), "3");
    assert_eq!(refused.header("ratelimit-policy"), r#""ingest.tenant_rate";q=2;w=1"#);
    assert_eq!(refused.header("ratelimit"), r#""ingest.tenant_rate";r=0;t=3"#);
    assert_eq!(send("beta").await.status, 202);
    // A batch is judged whole: acme's line refuses beta's.
    let line = |tenant| format!(r#"{{"tenant":"{tenant}","payload":{PAYLOAD}}}"#);
    let body = format!("{}\n{}", line("beta"), line("acme"));
    let batch = Answer::of(ingest.batch(post("/", NDJSON, body)).await).await;
    assert_eq!((batch.status, script.count()), (429, 3));
    assert_eq!(send("beta").await.status, 202);
}

#[tokio::test]
async fn what_was_accepted_and_refused_is_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    let (ingest, script) = metrics::with_local_recorder(&recorder, || ingest(ingest_config(), 8));
    let line =
        |tenant| format!(r#"{{"tenant":"{tenant}","idempotency_key":"k","payload":{PAYLOAD}}}"#);
    let body = format!("{}\n{}", line("acme"), line("beta"));
    for _ in 0..2 {
        assert_eq!(ingest.batch(post("/", NDJSON, body.clone())).await.status(), 202);
    }
    ingest.batch(post("/", NDJSON, format!("{body}\nx"))).await;
    ingest.event("gone", post("/", JSON, PAYLOAD)).await;
    script.feel(Mood::Refuses(AppendError::Full));
    ingest.batch(post("/", NDJSON, body)).await;
    let text = rendered.render();
    for expected in [
        // The second batch was replays: nothing new.
        r#"senderz_events_accepted_total{type="message.sent"} 2"#,
        r#"senderz_events_rejected_total{reason="invalid_batch"} 3"#,
        r#"senderz_events_rejected_total{reason="not_found"} 1"#,
        r#"senderz_events_rejected_total{reason="storage_full"} 2"#,
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}
