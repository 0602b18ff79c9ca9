//! Deliveries: their attempts, filters, replay and cancel.

use std::task::Poll;

use http::Method;
use senderz_gateway::{
    delivery::{
        Attempt, AttemptError, CancelReason, ErrorCode, FailReason, KeptResponse, Phases, Protocol,
        Verdict, cause::unanswered,
    },
    event::EventType,
    id::DeliveryKey,
    store::{StoreError, Write},
};
use serde_json::{Value, json};

use crate::{
    shard::Told,
    support::{TestTenant, World, attempt, join_all},
};

/// A tenant with one webhook and one event for it.
async fn one_delivery(world: &World) -> (TestTenant, DeliveryKey, String) {
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let event = world.event(&acme, EventType::Sent, r#"{"a":1}"#).await;
    let key = DeliveryKey { place: event.place, webhook: world.webhook_no(&acme, &webhook) };
    let path = format!("/v1/deliveries/{}", world.delivery_id(key));
    (acme, key, path)
}

fn failed(number: u16, code: ErrorCode, status: Option<u16>) -> Attempt {
    let detail = "the receiver did not answer in time".to_owned();
    Attempt {
        status,
        error: Some(AttemptError { code, detail }),
        protocol: Protocol::Http2,
        ..attempt(number)
    }
}

#[tokio::test]
async fn a_delivery_is_shown_with_all_its_attempts() {
    let world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    let fresh = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!((&fresh["status"], &fresh["attempts_made"]), (&json!("pending"), &json!(0)));
    assert_eq!((&fresh["attempts"], &fresh["payload"]), (&json!([]), &json!({"a": 1})));

    let timed_out = Attempt {
        status: None,
        response: KeptResponse::default(),
        peer: None,
        phases: Phases::default(),
        ..failed(1, ErrorCode::Timeout, None)
    };
    world.attempted(key, Verdict::RetryAt(1_795_407_601_500), timed_out).await;
    let retrying = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!(retrying["status"], "retrying");
    assert_eq!(retrying["next_attempt_at"], "2026-11-23T04:20:01.500Z");
    world.attempted(key, Verdict::Delivered, attempt(2)).await;

    let done = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!((&done["status"], &done["attempts_made"]), (&json!("delivered"), &json!(2)));
    assert_eq!(done["next_attempt_at"], Value::Null);
    let ids: Vec<_> = done["attempts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|a| a["id"].as_str().expect("an id").to_owned())
        .collect();
    assert!(ids.iter().all(|id| id.starts_with("att_")) && ids[0] != ids[1]);
    let hint = unanswered(ErrorCode::Timeout, "").hint;
    assert_eq!(
        done["attempts"],
        json!([
            {
                "id": ids[0], "number": 1, "at": "2026-11-23T04:20:00.123Z", "status": null,
                "latency_ms": 12.345,
                "phases": {"queue": 0.0, "dns": 0.0, "connect": 0.0, "tls": 0.0, "first_byte": 0.0, "body": 0.0},
                "error": {
                    "code": "timeout", "detail": "the receiver did not answer in time",
                    "cause": "the connection stopped answering", "hint": hint,
                },
                "response": null, "peer": null, "protocol": "h2", "reused_connection": true,
                "next_attempt_at": "2026-11-23T04:20:01.500Z",
            },
            {
                "id": ids[1], "number": 2, "at": "2026-11-23T04:20:00.123Z", "status": 200,
                "latency_ms": 12.345,
                "phases": {"queue": 0.001, "dns": 0.02, "connect": 0.3, "tls": 4.0, "first_byte": 50.0, "body": 0.006},
                "error": null,
                "response": {
                    "headers": {"content-type": "text/plain", "x-a": "1, 2"}, "body": "ok \u{fffd}",
                    "truncated": true,
                },
                "peer": "1.1.1.1:443", "protocol": "http/1.1", "reused_connection": true,
                "next_attempt_at": null,
            },
        ])
    );
}

#[tokio::test]
async fn an_address_behind_the_gateway_is_shown_to_the_operator_only() {
    let world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    let peers = [
        "10.0.0.7:80",
        "127.0.0.1:80",
        "169.254.169.254:80",
        "[fd00::1]:80",
        "100.64.0.1:1",
        "[::ffff:10.0.0.7]:80",
        "8.8.8.8:443",
        "[2606:4700::1]:443",
    ];
    for (number, peer) in (1..).zip(peers) {
        let attempt = Attempt { peer: Some(peer.parse().expect("an address")), ..attempt(number) };
        world.attempted(key, Verdict::RetryAt(1), attempt).await;
    }
    let shown = |answer: Value| {
        let attempts = answer["attempts"].as_array().expect("a list").clone();
        attempts.into_iter().map(|a| a["peer"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let to_tenant = shown(world.get(&acme.key, &path).await.expect(200).json());
    let expected: Vec<_> =
        peers.iter().enumerate().map(|(at, peer)| (at >= 6).then(|| (*peer).to_owned())).collect();
    assert_eq!(to_tenant, expected);
    let request = http::Request::builder()
        .uri(&path)
        .header("authorization", format!("Bearer {}", world.operator))
        .header("senderz-tenant", "acme");
    let body = axum::body::Body::empty();
    let to_operator = world.send(request.body(body).expect("valid")).await.expect(200).json();
    assert!(shown(to_operator).iter().all(Option::is_some));
}

#[tokio::test]
async fn filters_reach_the_store() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let (one, two) = (world.webhook(&acme).await, world.webhook(&acme).await);
    let (no_one, no_two) = (world.webhook_no(&acme, &one), world.webhook_no(&acme, &two));
    let first = world.event(&acme, EventType::Sent, "{}").await.place;
    let second = world.event(&acme, EventType::Failed, "{}").await.place;
    let key = |place, webhook| DeliveryKey { place, webhook };
    world.attempted(key(first, no_one), Verdict::Delivered, attempt(1)).await;
    let status = failed(1, ErrorCode::Status, Some(503));
    world.attempted(key(first, no_two), Verdict::RetryAt(9), status).await;
    let reason = Verdict::Failed(FailReason::AttemptsExhausted);
    world.attempted(key(second, no_one), reason, failed(6, ErrorCode::Timeout, None)).await;
    let check = async |filter: &str, expected: &[DeliveryKey]| {
        let path = format!("/v1/deliveries?{filter}");
        let rows = world.get(&acme.key, &path).await.expect(200).json()["data"].clone();
        let ids: Vec<_> =
            rows.as_array().expect("a list").iter().map(|row| row["id"].clone()).collect();
        let expected: Vec<_> = expected.iter().map(|key| json!(world.delivery_id(*key))).collect();
        assert_eq!(ids, expected, "{filter}");
        rows
    };
    let all = [key(second, no_two), key(second, no_one), key(first, no_two), key(first, no_one)];
    let rows = check("", &all).await;
    assert_eq!(rows[1]["reason"], "attempts_exhausted");
    assert_eq!(rows[1]["last_attempt"]["error"]["code"], "timeout");
    assert_eq!(
        (&rows[2]["last_attempt"]["status"], &rows[2]["webhook_id"]),
        (&json!(503), &json!(two))
    );
    check("status=pending", &all[..1]).await;
    check("status=failed,delivered", &[all[1], all[3]]).await;
    check(&format!("webhook={two}"), &[all[0], all[2]]).await;
    check("event_type=message.sent", &all[2..]).await;
    check("code=503", &all[2..3]).await;
    check("code=5xx", &all[2..3]).await;
    check("code=200", &all[3..]).await;
    check("code=4xx", &[]).await;
    check("error=timeout", &all[1..2]).await;
    check("since=2999-01-01T00:00:00Z", &[]).await;
    check("until=2001-01-01T00:00:00Z", &[]).await;
    check("since=2001-01-01T00:00:00Z&until=2999-01-01T00:00:00Z", &all).await;
    // A deleted webhook's deliveries stay, and it can still be asked for by its id.
    world.call(&acme.key, Method::DELETE, &format!("/v1/webhooks/{two}"), None).await.expect(204);
    let rows = check(&format!("webhook={two}"), &[all[0], all[2]]).await;
    assert_eq!(rows[0]["webhook_id"], two.as_str());
}

#[tokio::test]
async fn only_an_ended_delivery_is_replayed_and_the_record_comes_first() {
    let world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    let replay = format!("{path}/replay");
    let refused = world.post(&acme.key, &replay, json!({})).await.expect(409);
    assert_eq!(refused.problem(), "delivery_not_ended");
    world.attempted(key, Verdict::RetryAt(9), failed(1, ErrorCode::Status, Some(500))).await;
    world.post(&acme.key, &replay, json!({})).await.expect(409);
    let reason = Verdict::Failed(FailReason::AttemptsExhausted);
    world.attempted(key, reason, failed(2, ErrorCode::Status, Some(500))).await;
    assert!(world.shard.told().is_none(), "a refused replay tells no shard");

    // Without a body, too.
    let accepted = world.call(&acme.key, Method::POST, &replay, None).await.expect(202).json();
    assert_eq!((&accepted["status"], &accepted["attempts_made"]), (&json!("pending"), &json!(2)));
    assert_eq!(world.shard.told(), Some(Told::Replay { key, attempts: 2 }));
    let entries = world.store.entries(key.place, Some(key.webhook)).await.expect("it reads");
    assert_eq!(entries.last().map(|entry| entry.verdict), Some(Verdict::Reopened));
    world.post(&acme.key, &replay, json!({})).await.expect(409);
    assert!(world.shard.told().is_none());

    world.attempted(key, Verdict::Delivered, attempt(3)).await;
    world.post(&acme.key, &replay, json!({})).await.expect(202);
    assert_eq!(world.shard.told(), Some(Told::Replay { key, attempts: 3 }));
}

#[tokio::test]
async fn a_replay_for_which_the_shard_has_no_room_is_refused_before_it_is_recorded() {
    let world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    world.attempted(key, Verdict::Delivered, attempt(1)).await;
    world.shard.has_room.set(false);
    let replay = format!("{path}/replay");
    let refused = world.post(&acme.key, &replay, json!({})).await.expect(429);
    assert_eq!(
        (refused.problem().as_str(), &refused.headers["retry-after"]),
        ("rate_limited", &http::HeaderValue::from_static("10"))
    );
    assert_eq!(world.shard.told(), None);
    let entries = world.store.entries(key.place, None).await.expect("it reads");
    assert_eq!(entries.len(), 1, "nothing was recorded");
    let shown = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!(shown["status"], "delivered");
    // It can be asked for again.
    world.shard.has_room.set(true);
    world.post(&acme.key, &replay, json!({})).await.expect(202);
    assert_eq!(world.shard.told(), Some(Told::Replay { key, attempts: 1 }));
}

#[tokio::test]
async fn a_shard_hears_of_a_replay_only_after_it_is_durable() {
    let mut world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    world.attempted(key, Verdict::Delivered, attempt(1)).await;
    let mut held = world.hold_writes();
    let replay = format!("{path}/replay");
    for answer in [Err(StoreError::Full), Ok(())] {
        let (call, ()) = tokio::join!(world.post(&acme.key, &replay, json!({})), async {
            match held.recv().await {
                Some(Write::Rows { bundle, reply }) => {
                    let entry = &bundle.entries[0];
                    assert_eq!((entry.key, entry.verdict), (key, Verdict::Reopened));
                    assert!(world.shard.len() == 0, "not durable yet");
                    reply.send(answer.clone()).expect("somebody waits");
                }
                other => panic!("a replay is recorded with an answer: {other:?}"),
            }
        });
        assert_eq!(call.status.as_u16(), if answer.is_ok() { 202 } else { 507 });
        assert_eq!(world.shard.len(), usize::from(answer.is_ok()));
    }
    assert_eq!(world.shard.told(), Some(Told::Replay { key, attempts: 1 }));
}

#[tokio::test]
async fn of_many_replays_at_once_one_is_taken() {
    let world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    world.attempted(key, Verdict::Delivered, attempt(1)).await;
    let replay = format!("{path}/replay");
    let calls = (0..20).map(|_| world.post(&acme.key, &replay, json!({})));
    let statuses = join_all(calls).await;
    let taken = statuses.iter().filter(|status| **status == 202).count();
    assert_eq!((taken, statuses.len()), (1, 20), "{statuses:?}");
    assert!(statuses.iter().all(|status| [202, 409].contains(status)));
    assert!(world.shard.told().is_some() && world.shard.told().is_none());
}

#[tokio::test]
async fn a_replay_whose_caller_goes_away_is_sent_all_the_same() {
    let world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    world.attempted(key, Verdict::Delivered, attempt(1)).await;
    let replay = format!("{path}/replay");
    // Dropped after its first step, its second, …, until one gets to its end.
    let mut ended = None;
    for steps in 1..100 {
        let call = world.post(&acme.key, &replay, json!({}));
        ended = at_most(steps, call).await.map(|answer| answer.status.as_u16());
        if ended.is_some() {
            break;
        }
    }
    // Whichever of the calls recorded it, exactly one record and one command came of it.
    assert!(matches!(ended, Some(202 | 409)));
    let told = tokio::time::timeout(std::time::Duration::from_secs(5), world.shard.tell()).await;
    assert_eq!(told, Ok(Told::Replay { key, attempts: 1 }));
    let entries = world.store.entries(key.place, None).await.expect("it reads");
    let reopened = entries.iter().filter(|entry| entry.verdict == Verdict::Reopened).count();
    assert_eq!(reopened, 1);
    assert!(world.shard.told().is_none());
}

/// What comes of a future that is dropped after so many polls.
async fn at_most<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_delivery_of_a_deleted_webhook_is_not_replayed() {
    let world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    world.attempted(key, Verdict::Delivered, attempt(1)).await;
    let webhook = world.directory.webhook_id(key.webhook).expect("it exists");
    world
        .call(&acme.key, Method::DELETE, &format!("/v1/webhooks/{webhook}"), None)
        .await
        .expect(204);
    let refused = world.post(&acme.key, &format!("{path}/replay"), json!({})).await.expect(409);
    assert_eq!(refused.problem(), "webhook_deleted");
    assert!(world.shard.told().is_none());
    let entries = world.store.entries(key.place, None).await.expect("it reads");
    assert_eq!(entries.len(), 1, "nothing was recorded");
}

#[tokio::test]
async fn a_waiting_delivery_is_canceled_by_its_shard() {
    let world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    let cancel = format!("{path}/cancel");
    let canceled = Told::Cancel { key, reason: CancelReason::Requested };
    world.call(&acme.key, Method::POST, &cancel, None).await.expect(202);
    assert_eq!(world.shard.told(), Some(canceled));
    world.attempted(key, Verdict::RetryAt(9), failed(1, ErrorCode::Status, Some(500))).await;
    world.post(&acme.key, &cancel, json!({})).await.expect(202);
    assert_eq!(world.shard.told(), Some(canceled));
    world.attempted(key, Verdict::Delivered, attempt(2)).await;
    let refused = world.post(&acme.key, &cancel, json!({})).await.expect(409);
    assert_eq!(refused.problem(), "delivery_ended");
    let unknown = world.post(&acme.key, &cancel, json!({"force": true})).await.expect(400);
    assert_eq!(unknown.pointers(), ["/force"]);
    assert!(world.shard.told().is_none());
}

#[tokio::test]
async fn a_stopped_store_or_shard_is_unavailable_and_says_when_to_come_back() {
    let world = World::start().await;
    let (acme, key, path) = one_delivery(&world).await;
    world.shard.stop();
    let gone = world.post(&acme.key, &format!("{path}/cancel"), json!({})).await.expect(503);
    assert_eq!(
        (gone.problem().as_str(), &gone.headers["retry-after"]),
        ("unavailable", &http::HeaderValue::from_static("1"))
    );
    world.attempted(key, Verdict::Delivered, attempt(1)).await;
    world.store.close().await.expect("it closes");
    let body = json!({"url": "https://hooks.example.com", "events": ["*"]});
    assert_eq!(
        world.post(&acme.key, "/v1/webhooks", body).await.expect(503).problem(),
        "unavailable"
    );
    assert_eq!(world.directory.webhook_counts(), (1, 0), "what is not durable is not visible");
}
