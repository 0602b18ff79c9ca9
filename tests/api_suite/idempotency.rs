//! POSTs that are repeated with their `Idempotency-Key`.

use http::{Method, header};
use senderz_gateway::store::{Row, StoreError, Write};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Answer, World, join_all};

fn webhook() -> Value {
    json!({"url": "https://hooks.example.com/in", "events": ["*"]})
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

async fn webhooks(world: &World, key: &str) -> usize {
    world.get(key, "/v1/webhooks").await.expect(200).json()["data"].as_array().expect("rows").len()
}

#[tokio::test]
async fn a_repetition_does_nothing_again_and_gets_the_first_answer() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let post = |key: &'static str| world.post_once(&acme.key, key, "/v1/webhooks", webhook());
    let first = post("order-1").await.expect(201);
    assert!(!is_replayed(&first));
    for _ in 0..3 {
        let again = post("order-1").await.expect(201);
        assert!(is_replayed(&again));
        assert_eq!(again.body, first.body);
        for name in [header::LOCATION, header::ETAG, header::CONTENT_TYPE, header::CACHE_CONTROL] {
            assert_eq!(again.headers[&name], first.headers[&name]);
        }
    }
    assert_eq!(webhooks(&world, &acme.key).await, 1);
    post("order-2").await.expect(201);
    assert_eq!(webhooks(&world, &acme.key).await, 2);
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_api_key() {
    let world = World::start().await;
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let made = world.post_once(&acme.key, "k", "/v1/webhooks", webhook()).await.expect(201);
    // Another tenant's same key is its own.
    let other = world.post_once(&umbrella.key, "k", "/v1/webhooks", webhook()).await.expect(201);
    assert!(!is_replayed(&other));
    // Another body, another path.
    let mut changed = webhook();
    changed["enabled"] = json!(false);
    let path = format!("{}/test", made.headers["location"].to_str().expect("ASCII"));
    for (path, body) in
        [("/v1/webhooks", changed), (path.as_str(), json!({"type": "message.sent"}))]
    {
        let refused = world.post_once(&acme.key, "k", path, body).await.expect(422);
        assert_eq!(refused.problem(), "idempotency_key_reused");
    }
    assert_eq!(webhooks(&world, &acme.key).await, 1);
    for unusable in ["", "two words", &"k".repeat(41)] {
        let refused = world.post_once(&acme.key, unusable, "/v1/webhooks", webhook()).await;
        assert_eq!(refused.expect(400).problem(), "invalid_idempotency_key", "{unusable:?}");
    }
}

#[tokio::test]
async fn what_was_refused_may_be_mended_under_the_same_key() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let wrong = json!({"url": "https://hooks.example.com/in"});
    for _ in 0..2 {
        let refused = world.post_once(&acme.key, "k", "/v1/webhooks", wrong.clone()).await;
        assert_eq!(refused.expect(400).problem(), "invalid_body");
    }
    let made = world.post_once(&acme.key, "k", "/v1/webhooks", webhook()).await.expect(201);
    assert!(!is_replayed(&made));
}

#[tokio::test]
async fn of_many_at_once_one_is_done() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let calls = (0..20).map(|_| world.post_once(&acme.key, "k", "/v1/webhooks", webhook()));
    let statuses = join_all(calls).await;
    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&201));
    assert_eq!(webhooks(&world, &acme.key).await, 1);
}

#[tokio::test]
async fn a_get_takes_no_notice_of_a_key() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let request = http::Request::builder()
        .method(Method::GET)
        .uri("/v1/webhooks")
        .header(header::AUTHORIZATION, format!("Bearer {}", acme.key))
        .header("idempotency-key", "not usable at all");
    let request = request.body(axum::body::Body::empty()).expect("a valid request");
    world.send(request).await.expect(200);
}

/// The next rows that the API writes, answered with `reply`.
async fn rows(held: &mut mpsc::Receiver<Write>, answer: Result<(), StoreError>) -> Vec<Row> {
    match held.recv().await {
        Some(Write::Rows { bundle, reply }) => {
            reply.send(answer).expect("somebody waits");
            bundle.rows
        }
        other => panic!("rows of kept answers: {other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_done_before_its_beginning_is_durable_and_all_of_it_outlives_a_restart() {
    let mut world = World::start().await;
    let acme = world.tenant("acme").await;
    let mut held = world.hold_writes();
    let (refused, _) = tokio::join!(
        world.post_once(&acme.key, "k", "/v1/webhooks", webhook()),
        rows(&mut held, Err(StoreError::Full))
    );
    assert_eq!(refused.expect(507).problem(), "storage_full");
    assert_eq!(webhooks(&world, &acme.key).await, 0);

    let (made, (begun, done)) =
        tokio::join!(world.post_once(&acme.key, "k", "/v1/webhooks", webhook()), async {
            let begun = rows(&mut held, Ok(())).await;
            (begun, rows(&mut held, Ok(())).await)
        });
    let made = made.expect(201);
    let secret_part = made.json()["id"].as_str().expect("an id").to_owned().into_bytes();
    let kept = done[0].value.as_deref().expect("a row");
    assert!(!kept.windows(secret_part.len()).any(|part| part == secret_part), "it is sealed");

    // Killed after it was done and before that was written: nobody knows.
    world.restarted_with(&begun);
    for _ in 0..2 {
        let unknown = world.post_once(&acme.key, "k", "/v1/webhooks", webhook()).await;
        assert_eq!(unknown.expect(409).problem(), "idempotency_key_in_use");
    }
    // Killed after it was written.
    world.restarted_with(&done);
    let again = world.post_once(&acme.key, "k", "/v1/webhooks", webhook()).await.expect(201);
    assert!(is_replayed(&again));
    assert_eq!(again.body, made.body);
    assert_eq!(webhooks(&world, &acme.key).await, 1);
}

#[tokio::test]
async fn what_a_tenant_and_all_may_keep_is_bounded() {
    let world = World::start().await;
    let mut made = 0;
    let refused = loop {
        // Each tenant rotates until its 4 KiB are full.
        let tenant = world.tenant(&format!("t{made}")).await;
        let path = "/v1/signing-secret/rotate";
        let mut own = 0;
        let refused = loop {
            let body = json!({"overlap": "0s"});
            let key = format!("k{own}");
            let answer = world.post_once(&tenant.key, &key, path, body).await;
            if !answer.status.is_success() {
                break answer;
            }
            own += 1;
            assert!(own < 20, "no bound");
        };
        assert!(refused.headers.contains_key("retry-after"));
        if refused.status == 503 {
            break refused;
        }
        assert_eq!(refused.expect(429).problem(), "rate_limited");
        assert!(own > 5, "{own}");
        // The operator's are not a tenant's.
        made += 1;
        assert!(made < 10, "no bound");
    };
    assert_eq!(refused.problem(), "unavailable");
    assert!(made >= 3, "{made}");
    // Without a key everything goes on.
    world.tenant("another").await;
}
