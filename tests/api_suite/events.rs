//! Events: the payload as it came, its deliveries, and why a webhook got none.

use senderz_gateway::{event::EventType, id::DeliveryKey, store::NewEvent};
use serde_json::json;

use crate::support::World;

#[tokio::test]
async fn a_payload_is_shown_byte_for_byte() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    world.webhook(&acme).await;
    let payload =
        "{\"z\": 1.0, \"a\":1e2,\t\"a\" : \"\\u00e4 \u{e4}\", \"n\": 12345678901234567890123}";
    let id = world.event(&acme, EventType::Sent, payload).await;
    let no = world.directory.webhooks(
        world.directory.tenant("acme").expect("it exists").tenant.no,
        None,
        1,
    )[0]
    .no;
    let delivery = world.delivery_id(DeliveryKey { place: id.place, webhook: no });
    for path in [format!("/v1/events/{id}"), format!("/v1/deliveries/{delivery}")] {
        let answer = world.get(&acme.key, &path).await.expect(200);
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(body.contains(&format!("\"payload\":{payload}")), "{body}");
    }
    let listed = world.get(&acme.key, "/v1/events").await.expect(200).json();
    let row = &listed["data"][0];
    assert_eq!(row["id"], id.to_string());
    assert_eq!((&row["type"], &row["deliveries"]), (&json!("message.sent"), &json!(1)));
    assert_eq!(row["payload_size"], payload.len());
}

#[tokio::test]
async fn an_event_shows_the_trace_that_it_belongs_to() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for trace in [None, Some(parent)] {
        let entry = world.directory.tenant(&acme.id).expect("it exists");
        let event = NewEvent {
            tenant: entry.tenant.no,
            event_type: EventType::Sent,
            payload: "{}".into(),
            key: None,
            trace: trace.map(|text| Box::new(text.parse().expect("a traceparent"))),
            routes: entry.routes(EventType::Sent),
        };
        let id = world.store.append(vec![event]).await.expect("there is room")[0].id;
        let shown = world.get(&acme.key, &format!("/v1/events/{id}")).await.expect(200).json();
        assert_eq!(shown["traceparent"].as_str(), trace);
    }
}

#[tokio::test]
async fn an_event_says_who_got_it_and_why_others_did_not() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let make = async |events: serde_json::Value, enabled: bool| {
        let body = json!({"url": "https://a.example.com", "events": events, "enabled": enabled});
        let made = world.post(&acme.key, "/v1/webhooks", body).await.expect(201).json();
        made["id"].as_str().expect("an id").to_owned()
    };
    let gets = make(json!(["*"]), true).await;
    let disabled = make(json!(["*"]), false).await;
    let other = make(json!(["message.read"]), true).await;
    let id = world.event(&acme, EventType::Sent, "{}").await;
    // Later than the event to the millisecond.
    while senderz_gateway::clock::wall_ms() <= id.accepted_at {
        tokio::task::yield_now().await;
    }
    let later = make(json!(["*"]), true).await;
    let shown = world.get(&acme.key, &format!("/v1/events/{id}")).await.expect(200).json();
    let deliveries = shown["deliveries"].as_array().expect("a list");
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0]["webhook_id"], gets);
    assert_eq!(deliveries[0]["status"], "pending");
    let skipped: std::collections::BTreeMap<_, _> = shown["skipped"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| (s["webhook_id"].as_str().expect("an id").to_owned(), s["reason"].clone()))
        .collect();
    let expected = [
        (disabled.clone(), json!("disabled")),
        (other, json!("not_subscribed")),
        (later, json!("created_later")),
    ];
    assert_eq!(skipped, expected.into_iter().collect());
    for row in shown["skipped"].as_array().expect("a list") {
        assert!(row["detail"].is_string() && row["webhook_deleted"] == false, "{row}");
    }

    // What was skipped because it was disabled can be replayed once it is enabled, and then is a
    // delivery.
    let key = DeliveryKey { place: id.place, webhook: world.webhook_no(&acme, &disabled) };
    let path = format!("/v1/deliveries/{}", world.delivery_id(key));
    let delivery = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!(
        (&delivery["status"], &delivery["reason"]),
        (&json!("canceled"), &json!("webhook_disabled"))
    );
    let replay = format!("{path}/replay");
    let refused = world.post(&acme.key, &replay, json!({})).await.expect(409);
    assert_eq!(refused.problem(), "webhook_disabled");
    let enable = json!({"enabled": true});
    world.patch(&acme.key, &format!("/v1/webhooks/{disabled}"), enable).await.expect(200);
    world.post(&acme.key, &replay, json!({})).await.expect(202);
    let shown = world.get(&acme.key, &format!("/v1/events/{id}")).await.expect(200).json();
    assert_eq!(shown["deliveries"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["skipped"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn an_event_id_that_was_tampered_with_names_nothing() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let id = world.event(&acme, EventType::Sent, "{}").await;
    world.get(&acme.key, &format!("/v1/events/{id}")).await.expect(200);
    let mut tampered = [id; 3];
    tampered[0].accepted_at += 1;
    tampered[1].node.0 ^= 1;
    tampered[2].place = senderz_gateway::id::Place::new(id.place.block(), id.place.index() + 1);
    for id in tampered {
        world.get(&acme.key, &format!("/v1/events/{id}")).await.expect(404);
    }
}

#[tokio::test]
async fn what_is_known_of_deleted_webhooks_and_of_tests_is_told() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let (one, two) = (world.webhook(&acme).await, world.webhook(&acme).await);
    let path = |id: &str| format!("/v1/webhooks/{id}");
    world.patch(&acme.key, &path(&two), json!({"enabled": false})).await.expect(200);
    let id = world.event(&acme, EventType::Sent, "{}").await;
    for id in [&one, &two] {
        world.call(&acme.key, http::Method::DELETE, &path(id), None).await.expect(204);
    }
    let shown = world.get(&acme.key, &format!("/v1/events/{id}")).await.expect(200).json();
    let (delivery, skipped) = (&shown["deliveries"][0], &shown["skipped"][0]);
    assert_eq!(
        (&delivery["webhook_id"], &delivery["webhook_deleted"]),
        (&json!(one), &json!(true))
    );
    assert_eq!((&skipped["webhook_id"], &skipped["webhook_deleted"]), (&json!(two), &json!(true)));
    assert_eq!(skipped["reason"], "disabled");

    // Both subscribe to everything, and the test went to one.
    let (tested, other) = (world.webhook(&acme).await, world.webhook(&acme).await);
    let test = json!({"type": "message.failed"});
    let sent = world.post(&acme.key, &format!("{}/test", path(&tested)), test).await.expect(202);
    let event = sent.json()["event_id"].as_str().expect("an id").to_owned();
    let shown = world.get(&acme.key, &format!("/v1/events/{event}")).await.expect(200).json();
    assert_eq!(shown["payload"]["data"]["test"], true);
    assert_eq!(shown["deliveries"][0]["webhook_id"], tested);
    let skipped = &shown["skipped"][0];
    assert_eq!((&skipped["webhook_id"], &skipped["reason"]), (&json!(other), &json!("test")));
}
