//! Replays of many: what they send again, what they leave, and who may have them.

use std::time::Duration;

use senderz_gateway::{
    delivery::{FailReason, Verdict},
    directory::WebhookPatch,
    event::EventType,
    id::DeliveryKey,
};
use serde_json::{Value, json};

use crate::{
    shard::Told,
    support::{TestTenant, World, attempt},
};

/// A tenant with a webhook, and failed deliveries to it.
async fn failed(world: &World, count: usize) -> (TestTenant, String, Vec<DeliveryKey>) {
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let no = world.webhook_no(&acme, &webhook);
    let mut keys = Vec::new();
    for _ in 0..count {
        let place = world.event(&acme, EventType::Sent, "{}").await.place;
        let key = DeliveryKey { place, webhook: no };
        let reason = Verdict::Failed(FailReason::AttemptsExhausted);
        world.attempted(key, reason, attempt(6)).await;
        keys.push(key);
    }
    (acme, webhook, keys)
}

async fn create(world: &World, tenant: &TestTenant, body: Value) -> Value {
    world.post(&tenant.key, "/v1/replays", body).await.expect(202).json()
}

/// The job once it is as wanted.
async fn until(
    world: &World,
    tenant: &TestTenant,
    job: &Value,
    is_it: fn(&Value) -> bool,
) -> Value {
    let path = format!("/v1/replays/{}", job["id"].as_str().expect("an id"));
    let looking = async {
        loop {
            let job = world.get(&tenant.key, &path).await.expect(200).json();
            if is_it(&job) {
                return job;
            }
            // The shard answers what the job asks.
            world.shard.len();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it is so in the end")
}

fn is_done(job: &Value) -> bool {
    job["state"] == "done"
}

fn told(world: &World) -> Vec<DeliveryKey> {
    std::iter::from_fn(|| world.shard.told())
        .map(|told| match told {
            Told::Later { key, attempts: 6 } => key,
            other => panic!("{other:?} is not told by a job"),
        })
        .collect()
}

#[tokio::test]
async fn what_failed_is_sent_again_in_order_once_and_recorded_first() {
    let world = World::start().await;
    let (acme, webhook, keys) = failed(&world, 7).await;
    // Of these nothing is to be sent: it waits, it was delivered, it is another tenant's.
    world.event(&acme, EventType::Sent, "{}").await;
    let delivered = world.event(&acme, EventType::Sent, "{}").await.place;
    let delivered = DeliveryKey { place: delivered, ..keys[0] };
    world.attempted(delivered, Verdict::Delivered, attempt(1)).await;
    let other = world.tenant("other").await;
    world.webhook(&other).await;
    world.event(&other, EventType::Sent, "{}").await;

    let made = create(&world, &acme, json!({"webhook": webhook, "rate": 1000})).await;
    assert_eq!((&made["state"], &made["status"]), (&json!("running"), &json!(["failed"])));
    let done = until(&world, &acme, &made, is_done).await;
    assert_eq!(
        (&done["matched"], &done["replayed"], &done["skipped"], &done["progress"]),
        (&json!(7), &json!(7), &json!(0), &json!(1.0))
    );
    assert_eq!(told(&world), keys);
    for key in keys {
        let entries = world.store.entries(key.place, Some(key.webhook)).await.expect("it reads");
        assert_eq!(entries.last().map(|entry| entry.verdict), Some(Verdict::Reopened));
        assert_eq!(entries.len(), 2);
    }
}

#[tokio::test]
async fn a_dry_run_counts_and_touches_nothing() {
    let world = World::start().await;
    let (acme, _, keys) = failed(&world, 5).await;
    let made = create(&world, &acme, json!({"dry_run": true})).await;
    let done = until(&world, &acme, &made, is_done).await;
    assert_eq!((&done["matched"], &done["replayed"]), (&json!(5), &json!(0)));
    assert!(world.shard.told().is_none());
    let entries = world.store.entries(keys[0].place, None).await.expect("it reads");
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn what_a_webhook_missed_while_it_was_disabled_becomes_a_delivery() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let path = format!("/v1/webhooks/{webhook}");
    world.patch(&acme.key, &path, json!({"enabled": false})).await.expect(200);
    let missed = world.event(&acme, EventType::Sent, "{}").await.place;
    let body = json!({"webhook": webhook, "status": "missed"});
    let refused = world.post(&acme.key, "/v1/replays", body.clone()).await.expect(409);
    assert_eq!(refused.problem(), "webhook_disabled");
    world.patch(&acme.key, &path, json!({"enabled": true})).await.expect(200);

    let none = create(&world, &acme, json!({"webhook": webhook})).await;
    assert_eq!(until(&world, &acme, &none, is_done).await["matched"], 0);
    let made = create(&world, &acme, body).await;
    assert_eq!(until(&world, &acme, &made, is_done).await["replayed"], 1);
    let key = DeliveryKey { place: missed, webhook: world.webhook_no(&acme, &webhook) };
    assert_eq!(world.shard.told(), Some(Told::Later { key, attempts: 0 }));
    let delivery = format!("/v1/deliveries/{}", world.delivery_id(key));
    assert_eq!(world.get(&acme.key, &delivery).await.expect(200).json()["status"], "pending");
}

#[tokio::test]
async fn without_room_a_job_waits_and_holds_nothing() {
    let world = World::start().await;
    let (acme, _, keys) = failed(&world, 3).await;
    world.shard.later_room.set(0);
    let made = create(&world, &acme, json!({"rate": 1000})).await;
    for _ in 0..200 {
        until(&world, &acme, &made, |job| job["state"] == "running").await;
    }
    assert!(world.shard.told().is_none());
    world.shard.later_room.set(1);
    until(&world, &acme, &made, is_done).await;
    assert_eq!(told(&world), keys);
}

#[tokio::test]
async fn a_job_is_paused_resumed_and_canceled_and_an_ended_one_is_not() {
    let world = World::start().await;
    let (acme, _, keys) = failed(&world, 4).await;
    world.shard.later_room.set(0);
    let made = create(&world, &acme, json!({})).await;
    let path = format!("/v1/replays/{}", made["id"].as_str().expect("an id"));
    let act = async |what: &str| world.post(&acme.key, &format!("{path}/{what}"), json!({})).await;
    assert_eq!(act("pause").await.expect(200).json()["state"], "paused");
    world.shard.later_room.set(100);
    assert_eq!(act("pause").await.expect(200).json()["state"], "paused");
    assert!(world.shard.told().is_none(), "a paused job sends nothing");
    assert_eq!(act("resume").await.expect(200).json()["state"], "running");
    until(&world, &acme, &made, is_done).await;
    assert_eq!(told(&world), keys);
    for what in ["pause", "resume", "cancel"] {
        assert_eq!(act(what).await.expect(409).problem(), "replay_ended");
    }
    world.shard.later_room.set(0);
    let again = Verdict::Failed(FailReason::AttemptsExhausted);
    world.attempted(keys[0], again, attempt(7)).await;
    let body = json!({"status": ["failed", "canceled"]});
    let made = create(&world, &acme, body).await;
    let cancel = format!("/v1/replays/{}/cancel", made["id"].as_str().expect("an id"));
    let canceled = world.post(&acme.key, &cancel, json!({})).await.expect(200).json();
    assert_eq!(canceled["state"], "canceled");
    assert!(world.shard.told().is_none());
}

#[tokio::test]
async fn a_webhook_that_is_disabled_or_deleted_stops_its_job() {
    let world = World::start().await;
    let (acme, webhook, keys) = failed(&world, 2).await;
    world.shard.later_room.set(0);
    let made = create(&world, &acme, json!({"webhook": webhook})).await;
    let tenant = world.directory.tenant("acme").expect("it exists").tenant.no;
    let disable = WebhookPatch { enabled: Some(false), ..WebhookPatch::default() };
    world
        .directory
        .update_webhook(tenant, keys[0].webhook, None, disable)
        .await
        .expect("it exists");
    let paused = until(&world, &acme, &made, |job| job["state"] == "paused").await;
    assert_eq!(paused["reason"], "webhook_disabled");
    world.directory.delete_webhook(tenant, keys[0].webhook, None).await.expect("it exists");
    let resume = format!("/v1/replays/{}/resume", made["id"].as_str().expect("an id"));
    world.post(&acme.key, &resume, json!({})).await.expect(200);
    let failed = until(&world, &acme, &made, |job| job["state"] == "failed").await;
    assert_eq!(failed["reason"], "webhook_deleted");
    assert!(world.shard.told().is_none());
}

#[tokio::test]
async fn another_tenants_job_is_a_missing_one_and_the_operator_acts_for_a_tenant() {
    let world = World::start().await;
    let (acme, _, _) = failed(&world, 1).await;
    let other = world.tenant("other").await;
    let made = create(&world, &acme, json!({"dry_run": true})).await;
    let path = format!("/v1/replays/{}", made["id"].as_str().expect("an id"));
    world.get(&other.key, &path).await.expect(404);
    for what in ["pause", "resume", "cancel"] {
        let answer = world.post(&other.key, &format!("{path}/{what}"), json!({})).await;
        assert_eq!(answer.expect(404).problem(), "not_found");
    }
    world.get(&acme.key, "/v1/replays/rpl_1").await.expect(404);
    let list = world.get(&other.key, "/v1/replays").await.expect(200).json();
    assert_eq!(list["data"], json!([]));
    let alone = world.get(&world.operator, "/v1/replays").await.expect(400);
    assert_eq!(alone.problem(), "tenant_required");
    let request = http::Request::builder()
        .uri(&path)
        .header("authorization", format!("Bearer {}", world.operator))
        .header("senderz-tenant", "acme");
    world.send(request.body(axum::body::Body::empty()).expect("valid")).await.expect(200);
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_said_at_once_and_nothing_is_made() {
    let world = World::start().await;
    let (acme, _, _) = failed(&world, 1).await;
    let check = async |body: Value, pointers: &[&str]| {
        let refused = world.post(&acme.key, "/v1/replays", body).await.expect(400);
        assert_eq!(refused.pointers(), pointers);
    };
    check(json!({"status": ["failed", "pending"]}), &["/status"]).await;
    check(json!({"status": []}), &["/status"]).await;
    check(json!({"webhook": "evt_1", "rate": 0}), &["/webhook", "/rate"]).await;
    check(json!({"rate": 1001}), &["/rate"]).await;
    check(json!({"event_type": "message.gone", "since": "yesterday"}), &["/event_type", "/since"])
        .await;
    let (late, early) = ("2026-11-23T00:00:00Z", "2026-11-22T00:00:00Z");
    check(json!({"since": late, "until": early}), &["/since"]).await;
    check(json!({"dryrun": true}), &["/dryrun"]).await;
    let missing = json!({"webhook": "wh_00000000000000000000000000"});
    world.post(&acme.key, "/v1/replays", missing).await.expect(404);
    let list = world.get(&acme.key, "/v1/replays").await.expect(200).json();
    assert_eq!(list["data"], json!([]));
}

#[tokio::test]
async fn jobs_are_limited_listed_in_pages_and_the_oldest_ended_ones_forgotten() {
    let world = World::start().await;
    let (acme, _, _) = failed(&world, 1).await;
    world.shard.later_room.set(0);
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(create(&world, &acme, json!({})).await);
    }
    let refused = world.post(&acme.key, "/v1/replays", json!({})).await.expect(409);
    assert_eq!(refused.problem(), "limit_reached");
    for job in &open {
        let cancel = format!("/v1/replays/{}/cancel", job["id"].as_str().expect("an id"));
        world.post(&acme.key, &cancel, json!({})).await.expect(200);
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        let made = create(&world, &acme, json!({"dry_run": true})).await;
        until(&world, &acme, &made, is_done).await;
        ids.insert(0, made["id"].clone());
    }
    let first = world.get(&acme.key, "/v1/replays?limit=2").await.expect(200).json();
    let cursor = first["next_cursor"].as_str().expect("there are more").to_owned();
    let second = format!("/v1/replays?limit=2&cursor={cursor}");
    let second = world.get(&acme.key, &second).await.expect(200).json();
    let pages = [&first, &second].into_iter().flat_map(|page| page["data"].as_array());
    let listed: Vec<_> = pages.flatten().map(|job| job["id"].clone()).collect();
    assert_eq!(listed, ids, "two ended ones are kept beside a new one");
}
