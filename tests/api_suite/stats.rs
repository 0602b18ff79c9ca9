//! Statistics of webhooks, of tenants and of all.

use senderz_gateway::{
    delivery::{AttemptError, ErrorCode, Verdict},
    engine::Gauges,
};
use serde_json::json;

use crate::{
    shard::NOW,
    support::{TestTenant, World, attempt},
};

/// As a shard counts an attempt that it records.
fn record(world: &World, tenant: &TestTenant, webhook: &str, error: Option<ErrorCode>) {
    let no = world.directory.tenant(&tenant.id).expect("it exists").tenant.no;
    let mut attempt = attempt(1);
    attempt.error = error.map(|code| AttemptError { code, detail: String::new() });
    let verdict = if error.is_some() { Verdict::RetryAt(NOW) } else { Verdict::Delivered };
    let webhook = world.webhook_no(tenant, webhook);
    world.shard.stats.borrow_mut().record(NOW, webhook, || Some(no), verdict, Some(&attempt));
}

#[tokio::test]
async fn a_webhooks_attempts_are_counted_and_what_waits_is_told() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let path = format!("/v1/webhooks/{webhook}/stats");
    let none = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!((&none["attempts"], &none["success_rate"]), (&json!(0), &json!(null)));
    assert_eq!((&none["latency_ms"], &none["breaker"]), (&json!(null), &json!("closed")));
    assert_eq!(none["period"], "24h");

    for error in [None, None, None, Some(ErrorCode::Timeout)] {
        record(&world, &acme, &webhook, error);
    }
    world.shard.gauges.set(Gauges {
        pending: 2,
        spilled: 40,
        retrying: 1,
        in_flight: 3,
        breakers_half_open: 1,
        oldest_accepted_at: Some(NOW),
        ..Gauges::default()
    });
    let stats = world.get(&acme.key, &format!("{path}?period=1h")).await.expect(200).json();
    assert_eq!(stats["webhook_id"], webhook);
    assert_eq!((&stats["attempts"], &stats["success_rate"]), (&json!(4), &json!(0.75)));
    assert_eq!(stats["errors"], json!({"timeout": 1}));
    assert_eq!(stats["deliveries"], json!({"delivered": 3, "failed": 0, "canceled": 0}));
    let p50 = stats["latency_ms"]["p50"].as_f64().expect("a number");
    assert!((8.0..17.0).contains(&p50), "{p50} for 12.345 ms");
    assert_eq!(stats["breaker"], "half_open");
    let oldest = "2026-11-23T04:20:00.123Z";
    let backlog = json!({"pending": 42, "retrying": 1, "in_flight": 3, "oldest_at": oldest});
    assert_eq!(stats["backlog"], backlog);
    // Counting began long ago: every point is told.
    assert_eq!((&stats["complete"], &stats["step"]), (&json!(true), &json!("5m")));
    assert_eq!((&stats["since"], &stats["until"]), (&stats["points"][0]["at"], &json!(oldest)));
    let points = stats["points"].as_array().expect("points");
    let counts: Vec<_> = points.iter().map(|p| p["attempts"].as_u64().expect("a count")).collect();
    assert_eq!(counts, [[0; 11].as_slice(), &[4]].concat());

    let refused = world.get(&acme.key, &format!("{path}?period=2h")).await.expect(400);
    assert_eq!(refused.pointers(), ["?period"]);
    let other = world.tenant("other").await;
    assert_eq!(world.get(&other.key, &path).await.expect(404).problem(), "not_found");
}

#[tokio::test]
async fn a_tenant_sees_its_own_and_an_operator_all() {
    let world = World::start().await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    let [first, second] = [world.webhook(&acme).await, world.webhook(&acme).await];
    let foreign = world.webhook(&other).await;
    let off = json!({"enabled": false});
    world.patch(&acme.key, &format!("/v1/webhooks/{second}"), off).await.expect(200);
    for webhook in [&first, &second] {
        record(&world, &acme, webhook, None);
    }
    record(&world, &other, &foreign, Some(ErrorCode::Dns));
    world.shard.gauges.set(Gauges { breakers_open: 1, ..Gauges::default() });

    let own = world.get(&acme.key, "/v1/stats").await.expect(200).json();
    assert_eq!((&own["attempts"], &own["success_rate"]), (&json!(2), &json!(1.0)));
    let states = json!({
        "enabled": 1, "disabled": 1, "breaker_open": 1, "breaker_half_open": 0, "held_back": 0,
    });
    assert_eq!(own["webhooks"], states);
    let all = world.get(&world.operator, "/v1/stats?period=3d").await.expect(200).json();
    assert_eq!((&all["attempts"], &all["errors"]), (&json!(3), &json!({"dns": 1})));
    assert_eq!(all["webhooks"]["enabled"], 2);
    assert_eq!(all["points"].as_array().map(Vec::len), Some(72));
}
