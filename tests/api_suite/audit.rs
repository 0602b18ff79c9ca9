//! What was changed, and by whom: recorded with the change, shown to whom it concerns.

use http::Method;
use senderz_gateway::{
    audit::Audit,
    event::EventType,
    id::DeliveryKey,
    store::{Bundle, Row, StoreError, Write},
};
use serde_json::{Value, json};

use crate::support::{REQUEST, TestTenant, World, attempt};

/// All records that a caller sees, oldest first.
async fn records(world: &World, key: &str, query: &str) -> Vec<Value> {
    let page = world.get(key, &format!("/v1/audit{query}")).await.expect(200).json();
    assert_eq!(page["next_cursor"], Value::Null);
    let mut records = page["data"].as_array().expect("a list").clone();
    records.reverse();
    records
}

fn actions(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["action"].as_str().expect("a name")).collect()
}

/// The id of the key that somebody holds.
async fn key_id(world: &World, tenant: &TestTenant) -> String {
    let keys = world.get(&tenant.key, "/v1/keys").await.json();
    keys["data"][0]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn every_change_is_recorded_with_who_made_it_and_the_request() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let own = key_id(&world, &acme).await;
    let webhook = world.webhook(&acme).await;
    let at = format!("/v1/webhooks/{webhook}");
    let secret = "https://hooks.example.com/in?token=of-the-url";
    let patch = json!({"url": secret, "description": "of a customer", "enabled": false});
    world.call(&acme.key, Method::PATCH, &at, Some(patch)).await.expect(200);
    world.call(&acme.key, Method::DELETE, &at, None).await.expect(204);
    let made =
        world.post(&acme.key, "/v1/keys", json!({"kind": "tenant"})).await.expect(201).json();
    let made = made["id"].as_str().expect("an id").to_owned();
    world.call(&acme.key, Method::DELETE, &format!("/v1/keys/{made}"), None).await.expect(204);
    world.get(&acme.key, "/v1/signing-secret").await.expect(200);
    world.post(&acme.key, "/v1/signing-secret/rotate", json!({})).await.expect(200);
    let job = world.post(&acme.key, "/v1/replays", json!({})).await.expect(202).json();
    let job = job["id"].as_str().expect("an id").to_owned();
    world.post(&acme.key, "/v1/replays", json!({"dry_run": true})).await.expect(202);
    let erased = world.call(&acme.key, Method::DELETE, "/v1/events?recipient=him", None).await;
    let erasure = erased.expect(202).json()["id"].as_str().expect("an id").to_owned();
    world.post(&acme.key, "/v1/portal/sessions", json!({})).await.expect(201);

    let records = records(&world, &acme.key, "").await;
    let expected = [
        ("tenant.created", Some("acme")),
        ("key.created", Some(own.as_str())),
        ("webhook.created", Some(webhook.as_str())),
        ("webhook.updated", Some(webhook.as_str())),
        ("webhook.deleted", Some(webhook.as_str())),
        ("key.created", Some(made.as_str())),
        ("key.revoked", Some(made.as_str())),
        ("secret.shown", None),
        ("secret.rotated", None),
        ("replay.created", Some(job.as_str())),
        ("erasure.created", Some(erasure.as_str())),
        ("portal_link.created", None),
    ];
    let found: Vec<_> = records
        .iter()
        .map(|one| (one["action"].as_str().expect("a name"), one["object_id"].as_str()))
        .collect();
    assert_eq!(found, expected);
    for (nth, record) in records.iter().enumerate() {
        assert_eq!((&record["sequence"], &record["tenant"]), (&json!(nth + 1), &json!("acme")));
        let actor = match nth {
            // The operator's key has no id.
            0 | 1 => json!({"kind": "operator", "key_id": null, "session_id": null}),
            _ => json!({"kind": "tenant", "key_id": own, "session_id": null}),
        };
        assert_eq!(record["actor"], actor, "{record}");
    }
    assert_eq!(records[3]["changed"], json!(["url", "description", "enabled"]));
    assert_eq!(records[3]["request_id"], REQUEST);
    let all = serde_json::to_string(&records).expect("text");
    for hidden in ["of-the-url", "of a customer", "him", "whsec_", "szk_", "hooks.example.com"] {
        assert!(!all.contains(hidden), "{hidden} stands in the log");
    }
}

#[tokio::test]
async fn what_becomes_of_a_delivery_by_request_is_recorded() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let event = world.event(&acme, EventType::Sent, "{}").await;
    let key = DeliveryKey { place: event.place, webhook: world.webhook_no(&acme, &webhook) };
    let id = world.delivery_id(key);
    let path = format!("/v1/deliveries/{id}");
    // What is refused is not recorded.
    world.post(&acme.key, &format!("{path}/replay"), json!({})).await.expect(409);
    world.post(&acme.key, &format!("{path}/cancel"), json!({})).await.expect(202);
    let failed = senderz_gateway::delivery::Verdict::Delivered;
    world.attempted(key, failed, attempt(1)).await;
    world.post(&acme.key, &format!("{path}/replay"), json!({})).await.expect(202);
    world.post(&acme.key, &format!("{path}/replay"), json!({})).await.expect(409);
    let records = records(&world, &acme.key, &format!("?object={id}")).await;
    assert_eq!(actions(&records), ["delivery.canceled", "delivery.replayed"]);
}

#[tokio::test]
async fn a_record_is_in_the_commit_of_its_change() {
    let mut world = World::start().await;
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let event = world.event(&acme, EventType::Sent, "{}").await;
    let key = DeliveryKey { place: event.place, webhook: world.webhook_no(&acme, &webhook) };
    world.attempted(key, senderz_gateway::delivery::Verdict::Delivered, attempt(1)).await;
    let path = format!("/v1/deliveries/{}/replay", world.delivery_id(key));
    let mut held = world.hold_writes();
    let counted = async |bundle: &Bundle| {
        let mut rows: Vec<Row> = bundle.rows.clone();
        (Audit::take_rows(&mut rows).len(), rows.len(), bundle.entries.len())
    };
    let erase = "/v1/events?recipient=him";
    let (replay, job) = (json!({}), json!({}));
    for (call, expected) in [
        (world.call(&acme.key, Method::POST, &path, Some(replay)), (1, 0, 1)),
        (world.call(&acme.key, Method::POST, "/v1/replays", Some(job)), (1, 1, 0)),
        (world.call(&acme.key, Method::DELETE, erase, None), (1, 1, 0)),
    ] {
        let written = async {
            let Some(Write::Rows { bundle, reply }) = held.recv().await else { panic!("rows") };
            reply.send(Err(StoreError::Full)).expect("somebody waits");
            counted(&bundle).await
        };
        let (answer, written) = tokio::join!(call, written);
        answer.expect(507);
        assert_eq!(written, expected);
    }
    let kept = records(&world, &acme.key, "").await;
    assert!(!actions(&kept).contains(&"delivery.replayed"), "it was not written");
}

#[tokio::test]
async fn a_tenant_sees_its_own_and_the_operator_all() {
    let world = World::start().await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    let second = world.post(&world.operator, "/v1/keys", json!({"kind": "operator"})).await.json();
    let second_key = second["api_key"].as_str().expect("shown once");
    world
        .post(second_key, "/v1/keys", json!({"kind": "tenant", "tenant": "beta"}))
        .await
        .expect(201);
    world.post(&beta.key, "/v1/signing-secret/rotate", json!({})).await.expect(200);

    let own = records(&world, &acme.key, "").await;
    assert_eq!(actions(&own), ["tenant.created", "key.created"]);
    let theirs = records(&world, &beta.key, "").await;
    let expected = ["tenant.created", "key.created", "key.created", "secret.rotated"];
    assert_eq!(actions(&theirs), expected);
    // Which of the operator's keys it was, the tenant does not learn.
    let hidden = json!({"kind": "operator", "key_id": null, "session_id": null});
    assert_eq!(theirs[2]["actor"], hidden);
    let by_key = format!("?actor={}", second["id"].as_str().expect("an id"));
    assert_eq!(records(&world, &beta.key, &by_key).await, Vec::<Value>::new());

    let all = records(&world, &world.operator, "").await;
    assert_eq!(all.len(), 7);
    assert_eq!((&all[4]["tenant"], &all[4]["action"]), (&Value::Null, &json!("key.created")));
    assert_eq!(all[5]["actor"]["key_id"], second["id"]);
    assert_eq!(records(&world, &world.operator, &by_key).await.len(), 1);
    let of_beta = world.get_for(&world.operator, "beta", "/v1/audit").await.expect(200).json();
    assert_eq!(of_beta["data"].as_array().map(Vec::len), Some(4));

    // What was recorded of a tenant outlives it.
    world.call(&world.operator, Method::DELETE, "/v1/tenants/beta", None).await.expect(204);
    let all = records(&world, &world.operator, "").await;
    assert_eq!((&all[7]["tenant"], &all[7]["action"]), (&json!("beta"), &json!("tenant.deleted")));
    let again = world.tenant("beta").await;
    let fresh = records(&world, &again.key, "").await;
    assert_eq!(actions(&fresh), ["tenant.created", "key.created"], "another tenant, another chain");
}

#[tokio::test]
async fn it_is_filtered_and_paged_as_other_lists_are() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    for _ in 0..3 {
        world.post(&acme.key, "/v1/signing-secret/rotate", json!({"overlap": "0s"})).await;
    }
    let rotated = records(&world, &acme.key, "?action=secret.rotated,secret.shown").await;
    assert_eq!(actions(&rotated), ["secret.rotated"; 3]);
    assert_eq!(records(&world, &acme.key, "?actor=tenant").await.len(), 3);
    assert_eq!(records(&world, &acme.key, "?actor=gateway").await.len(), 0);
    let future = "?since=2100-01-01T00:00:00Z";
    assert_eq!(records(&world, &acme.key, future).await.len(), 0);
    let first = world.get(&acme.key, "/v1/audit?limit=3").await.expect(200).json();
    let cursor = first["next_cursor"].as_str().expect("there is more");
    let next = world.get(&acme.key, &format!("/v1/audit?limit=3&cursor={cursor}")).await;
    let next = next.expect(200).json();
    assert_eq!(next["data"].as_array().map(Vec::len), Some(2));
    assert_eq!((&next["data"][0]["sequence"], &next["next_cursor"]), (&json!(2), &Value::Null));
    let other = format!("/v1/audit?limit=3&actor=tenant&cursor={cursor}");
    assert_eq!(world.get(&acme.key, &other).await.expect(400).problem(), "invalid_cursor");
    for (query, pointer) in [
        ("?action=webhook.eaten", "?action"),
        ("?actor=nobody", "?actor"),
        ("?actor=wh_0123456789abcdefghjkmnpqrs", "?actor"),
        ("?object=", "?object"),
        ("?webhook=x", "?webhook"),
    ] {
        let refused = world.get(&acme.key, &format!("/v1/audit{query}")).await.expect(400);
        assert_eq!(refused.pointers(), [pointer], "{query}");
    }
}
