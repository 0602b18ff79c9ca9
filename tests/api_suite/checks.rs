//! `?dry_run=true`: a webhook is tried before it is saved.

use http::{Method, header};
use serde_json::{Value, json};

use crate::support::{TestTenant, World};

const CREATE: &str = "/v1/webhooks?dry_run=true";

fn webhook(success: &str) -> Value {
    json!({
        "url": "https://hooks.example.com/in", "events": ["message.read"], "success": success,
        "headers": {"x-token": "geheim"},
    })
}

async fn count(world: &World, tenant: &TestTenant) -> usize {
    let listed = world.get(&tenant.key, "/v1/webhooks").await.expect(200).json();
    listed["data"].as_array().expect("rows").len()
}

#[tokio::test]
async fn what_is_tried_is_as_it_would_be_saved_and_nothing_is() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    for (success, ok) in [("2xx", true), ("200", false)] {
        let tried = world.post(&acme.key, CREATE, webhook(success)).await.expect(200);
        assert!(!tried.headers.contains_key(header::LOCATION));
        let tried = tried.json();
        assert_eq!((&tried["ok"], &tried["status"]), (&json!(ok), &json!(200)));
        assert_eq!(tried["url"], "https://hooks.example.com/in");
    }
    assert_eq!(count(&world, &acme).await, 0);
    let check = world.shard.checked.borrow_mut().pop().expect("it was tried");
    assert_eq!((check.tenant.id.as_str(), check.event_type.as_str()), ("acme", "message.read"));
    let payload: Value = serde_json::from_slice(&check.payload).expect("an event");
    assert_eq!(
        (&payload["type"], &payload["data"]["test"]),
        (&json!("message.read"), &json!(true))
    );
    assert_eq!(check.webhook.headers.iter().count(), 1);
}

#[tokio::test]
async fn a_change_is_tried_without_being_made() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let path = format!("/v1/webhooks/{}", world.webhook(&acme).await);
    let before = world.get(&acme.key, &path).await.expect(200).json();
    let patch = json!({"url": "https://new.example.com/", "success": "2xx"});
    let tried = world.patch(&acme.key, &format!("{path}?dry_run=true"), patch).await.expect(200);
    assert_eq!(
        (&tried.json()["ok"], &tried.json()["url"]),
        (&json!(true), &json!("https://new.example.com/"))
    );
    assert_eq!(world.get(&acme.key, &path).await.json(), before);
}

#[tokio::test]
async fn what_would_be_refused_is_refused_and_nothing_is_tried() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let refused = world.post(&acme.key, CREATE, json!({"url": "http://10.0.0.1/"})).await;
    assert_eq!(refused.expect(400).pointers(), ["/url", "/events"]);
    for wrong in ["dry_run=1", "dry_run=false", "dry_run=", "dryrun=true"] {
        let path = format!("/v1/webhooks?{wrong}");
        let refused = world.post(&acme.key, &path, webhook("200")).await.expect(400);
        assert_eq!(refused.problem(), "invalid_parameter", "{wrong}");
    }
    let umbrella = world.tenant("umbrella").await;
    let path = format!("/v1/webhooks/{}?dry_run=true", world.webhook(&acme).await);
    world.patch(&umbrella.key, &path, json!({})).await.expect(404);
    for _ in count(&world, &acme).await..8 {
        world.webhook(&acme).await;
    }
    let full = world.post(&acme.key, CREATE, webhook("200")).await.expect(409);
    assert_eq!(full.problem(), "limit_reached");
    assert!(world.shard.checked.borrow().is_empty());
}

#[tokio::test]
async fn trying_counts_as_testing() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    for _ in 0..10 {
        world.post(&acme.key, CREATE, webhook("200")).await.expect(200);
    }
    let refused = world.post(&acme.key, CREATE, webhook("200")).await.expect(429);
    assert_eq!(refused.headers["ratelimit-policy"], r#""limits.tenant_tests";q=10;w=60"#);
    // Another method of the same path takes no such parameter.
    let list = world.call(&acme.key, Method::GET, CREATE, None).await.expect(400);
    assert_eq!(list.problem(), "invalid_parameter");
}
