//! Erasures: what they take, what they leave, and how it is shown.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, header};
use senderz_gateway::{
    delivery::{CancelReason, FailReason, Verdict},
    event::EventType,
    id::DeliveryKey,
};
use serde_json::{Value, json};

use crate::{
    shard::Told,
    support::{Answer, TestTenant, World, attempt},
};

const PATH: &str = "/v1/events?recipient=%2B15555550100";

fn payload(recipient: &str) -> String {
    let data = json!({"id": "m", "channel": "sms", "recipient": recipient});
    json!({"type": "message.sent", "timestamp": "2026-11-23T04:20:00Z", "data": data}).to_string()
}

async fn erase(world: &World, tenant: &TestTenant) -> Value {
    let asked = world.call(&tenant.key, Method::DELETE, PATH, None).await.expect(202);
    let location = asked.headers["location"].to_str().expect("text").to_owned();
    let looking = async {
        loop {
            let job = world.get(&tenant.key, &location).await.expect(200).json();
            if job["state"] == "done" {
                return job;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it ends")
}

/// Always with the same idempotency key.
async fn once(world: &World, tenant: &TestTenant, path: &str) -> Answer {
    let request = Request::delete(path)
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .header("idempotency-key", "a")
        .body(Body::empty());
    world.send(request.expect("a valid request")).await
}

#[tokio::test]
async fn whose_events_has_to_be_said_and_said_right() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let long = format!("/v1/events?recipient={}", "x".repeat(513));
    for (path, told) in [
        ("/v1/events", "it is required"),
        ("/v1/events?recipient=", "it has 1 to 512 bytes"),
        ("/v1/events?recipient=+1555", "a + is written %2B"),
        ("/v1/events?recipent=x", "did you mean `recipient`?"),
        ("/v1/events?recipient=x&recipient=y", "it may appear once"),
        (long.as_str(), "it has 1 to 512 bytes"),
    ] {
        let refused = world.call(&acme.key, Method::DELETE, path, None).await.expect(400);
        assert!(refused.json()["detail"].as_str().expect("text").contains(told), "{path}");
    }
    let none = world.get(&acme.key, "/v1/erasures").await.json();
    assert_eq!(none["data"], json!([]));
}

#[tokio::test]
async fn one_persons_events_of_one_tenant_are_erased_and_say_so() {
    let world = World::start().await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    let webhook = world.webhook(&acme).await;
    let no = world.webhook_no(&acme, &webhook);
    let person = payload("+15555550100");
    let ended = world.event(&acme, EventType::Sent, &person).await;
    let waiting = world.event(&acme, EventType::Sent, &person.replace('+', "\\u002b")).await;
    let other = world.event(&acme, EventType::Sent, &payload("+15555550101")).await;
    let foreign = world.event(&beta, EventType::Sent, &person).await;
    let key = |place| DeliveryKey { place, webhook: no };
    let reason = Verdict::Failed(FailReason::AttemptsExhausted);
    world.attempted(key(ended.place), reason, attempt(6)).await;

    let job = erase(&world, &acme).await;
    assert_eq!((&job["events"], &job["deliveries_canceled"]), (&json!(2), &json!(1)), "{job}");
    let reason = CancelReason::EventErased;
    let canceled = Told::Cancel { key: key(waiting.place), reason };
    assert_eq!((world.shard.told(), world.shard.told()), (Some(canceled), None));

    let shown = |event: String, tenant: &TestTenant| {
        let (world, key) = (&world, tenant.key.clone());
        async move { world.get(&key, &format!("/v1/events/{event}")).await.expect(200).json() }
    };
    for event in [ended, waiting] {
        let event = shown(event.to_string(), &acme).await;
        assert_eq!((&event["payload"], &event["erased_at"]), (&Value::Null, &job["created_at"]));
    }
    for (event, tenant) in [(other, &acme), (foreign, &beta)] {
        let event = shown(event.to_string(), tenant).await;
        assert_eq!((event["payload"].is_object(), &event["erased_at"]), (true, &Value::Null));
    }
    let list = world.get(&acme.key, "/v1/events").await.expect(200).json();
    let sizes: Vec<_> = list["data"].as_array().expect("a list").iter().collect();
    assert_eq!(sizes.iter().filter(|event| event["payload_size"] == 0).count(), 2);

    let path = format!("/v1/deliveries/{}", world.delivery_id(key(ended.place)));
    let delivery = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!((&delivery["payload"], &delivery["erased_at"]), (&Value::Null, &job["created_at"]));
    assert_eq!(delivery["attempts"].as_array().map(Vec::len), Some(1), "what was tried is kept");
    let refused = world.post(&acme.key, &format!("{path}/replay"), json!({})).await.expect(409);
    assert_eq!(refused.problem(), "event_erased");
    assert_eq!(world.shard.told(), None);
}

#[tokio::test]
async fn erasing_again_with_the_same_key_is_one_erasure_and_lists_are_the_tenants_own() {
    let world = World::start().await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    let first = once(&world, &acme, PATH).await.expect(202);
    let again = once(&world, &acme, PATH).await.expect(202);
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = PATH.replace("0100", "0101");
    once(&world, &acme, &other).await.expect(422);
    let second = erase(&world, &acme).await;
    let page = world.get(&acme.key, "/v1/erasures?limit=1").await.expect(200).json();
    assert_eq!(page["data"][0]["id"], second["id"], "the newest first");
    let cursor = page["next_cursor"].as_str().expect("there is one more");
    let path = format!("/v1/erasures?limit=1&cursor={cursor}");
    let page = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!(page["data"][0]["id"], first.json()["id"]);
    assert_eq!(page["next_cursor"], Value::Null);
    let none = world.get(&beta.key, "/v1/erasures").await.expect(200).json();
    assert_eq!(none["data"], json!([]));
}
