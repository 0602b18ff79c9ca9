//! Tenants, keys and secrets: shown once, revoked at once, rotated with an overlap.

use http::Method;
use senderz_gateway::directory::Change;
use serde_json::json;

use crate::support::World;

#[tokio::test]
async fn a_tenants_key_and_secret_are_in_the_first_answer_and_no_key_in_any_other() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    assert!(acme.key.starts_with("szk_tenant_") && acme.secret.starts_with("whsec_"));
    let producer = world.post(&world.operator, "/v1/keys", json!({"kind": "producer"})).await;
    let producer = producer.expect(201).json();
    let text = producer["api_key"].as_str().expect("shown once").to_owned();
    assert!(text.starts_with("szk_producer_"));
    let paths = ["/v1/tenants", "/v1/tenants/acme", "/v1/keys"];
    for path in paths {
        let answer = world.get(&world.operator, path).await.expect(200);
        let body = String::from_utf8_lossy(&answer.body);
        assert!(!body.contains("szk_") && !body.contains("whsec_"), "{path}: {body}");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let listed = world.get(&world.operator, "/v1/keys").await.json();
    let kinds: Vec<_> =
        listed["data"].as_array().expect("a list").iter().map(|k| &k["kind"]).collect();
    assert_eq!(kinds, ["producer", "tenant"], "newest first");
    let state = format!("{:?}", world.directory);
    assert!(!state.contains("whsec_") && !state.contains(&text[13..]));
}

#[tokio::test]
async fn a_taken_or_bad_tenant_id_is_refused_and_a_deleted_one_is_gone() {
    let mut world = World::start().await;
    let acme = world.tenant("acme").await;
    world.webhook(&acme).await;
    let again = world.post(&world.operator, "/v1/tenants", json!({"id": "acme"})).await.expect(409);
    assert_eq!(again.problem(), "tenant_exists");
    for id in ["", "a b", "ä", &"x".repeat(65), "../x"] {
        let bad = world.post(&world.operator, "/v1/tenants", json!({"id": id})).await.expect(400);
        assert_eq!(
            (bad.problem().as_str(), bad.pointers()),
            ("invalid_body", vec!["/id".to_owned()])
        );
    }
    let unnamed =
        world.post(&world.operator, "/v1/tenants", json!({"id": "beta"})).await.expect(201);
    assert_eq!(unnamed.json()["name"], "beta");
    assert_eq!(unnamed.headers["location"], "/v1/tenants/beta");
    while world.changes.try_recv().is_ok() {}

    world.call(&world.operator, Method::DELETE, "/v1/tenants/acme", None).await.expect(204);
    assert!(matches!(world.changes.try_recv(), Ok(Change::WebhookRemoved { .. })));
    world.get(&acme.key, "/v1/webhooks").await.expect(401);
    world.get(&world.operator, "/v1/tenants/acme").await.expect(404);
    world.call(&world.operator, Method::DELETE, "/v1/tenants/acme", None).await.expect(404);
    for at in 0..9 {
        world.tenant(&format!("t{at}")).await;
    }
    let full =
        world.post(&world.operator, "/v1/tenants", json!({"id": "one_more"})).await.expect(409);
    assert_eq!(full.problem(), "limit_reached");
    assert!(full.json()["detail"].as_str().expect("text").contains("limits.tenants"));
}

#[tokio::test]
async fn a_tenant_makes_keys_for_itself_only_and_a_revoked_one_is_refused_at_once() {
    let world = World::start().await;
    let (acme, _) = (world.tenant("acme").await, world.tenant("beta").await);
    let made =
        world.post(&acme.key, "/v1/keys", json!({"kind": "tenant"})).await.expect(201).json();
    assert_eq!(made["tenant"], "acme");
    let second = made["api_key"].as_str().expect("shown once");
    for body in [
        json!({"kind": "operator"}),
        json!({"kind": "producer"}),
        json!({"kind": "tenant", "tenant": "beta"}),
        json!({"kind": "tenant", "tenant": "nobody"}),
    ] {
        let refused = world.post(&acme.key, "/v1/keys", body).await.expect(403);
        assert_eq!(refused.problem(), "forbidden");
    }
    world.get(second, "/v1/webhooks").await.expect(200);
    let path = format!("/v1/keys/{}", made["id"].as_str().expect("an id"));
    world.call(&acme.key, Method::DELETE, &path, None).await.expect(204);
    world.get(second, "/v1/webhooks").await.expect(401);
    world.call(&acme.key, Method::DELETE, &path, None).await.expect(404);

    for (body, pointer) in [
        (json!({"kind": "tenant"}), "/tenant"),
        (json!({"kind": "tenant", "tenant": "nobody"}), "/tenant"),
        (json!({"kind": "producer", "tenant": "acme"}), "/tenant"),
        (json!({"kind": "root"}), "/kind"),
        (json!({}), "/kind"),
        (json!({"kind": "producer", "knid": 1}), "/knid"),
    ] {
        let refused = world.post(&world.operator, "/v1/keys", body).await.expect(400);
        assert_eq!(refused.pointers(), [pointer]);
    }
    let own = json!({"kind": "tenant", "tenant": "acme"});
    for _ in 0..3 {
        world.post(&world.operator, "/v1/keys", own.clone()).await.expect(201);
    }
    let full = world.post(&world.operator, "/v1/keys", own).await.expect(409);
    assert_eq!(full.problem(), "limit_reached");
}

#[tokio::test]
async fn a_rotated_secret_overlaps_as_asked_and_reaches_the_shards() {
    let mut world = World::start().await;
    let acme = world.tenant("acme").await;
    world.webhook(&acme).await;
    while world.changes.try_recv().is_ok() {}
    let shown = world.get(&acme.key, "/v1/signing-secret").await.expect(200).json();
    assert_eq!(shown, json!({"secret": acme.secret, "previous": []}));

    let rotate = "/v1/signing-secret/rotate";
    let before = senderz_gateway::clock::wall_ms();
    let first = world.post(&acme.key, rotate, json!({"overlap": "2h"})).await.expect(200).json();
    assert_ne!(first["secret"], acme.secret.as_str());
    assert_eq!(first["previous"][0]["secret"], acme.secret.as_str());
    let until = first["previous"][0]["valid_until"].as_str().expect("a time");
    let until = until.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond() as u64;
    assert!((before + 7_200_000..before + 7_260_000).contains(&until), "{until}");
    match world.changes.try_recv() {
        Ok(Change::WebhookSet { tenant, .. }) => {
            assert_eq!(tenant.secrets.current.expose(), first["secret"]);
            assert_eq!(tenant.secrets.previous.len(), 1);
        }
        other => panic!("the shards were not told before the answer: {other:?}"),
    }
    // For the operator it is the same secret.
    let request = http::Request::builder()
        .uri("/v1/signing-secret")
        .header("authorization", format!("Bearer {}", world.operator))
        .header("senderz-tenant", "acme");
    let body = axum::body::Body::empty();
    assert_eq!(world.send(request.body(body).expect("valid")).await.expect(200).json(), first);

    // Another rotation cuts nothing short, whatever its own overlap.
    let second = world.post(&acme.key, rotate, json!({"overlap": "1h"})).await.expect(200).json();
    assert_eq!(second["previous"][0]["secret"], first["secret"]);
    assert_eq!(second["previous"][1], first["previous"][0]);
    for _ in 0..2 {
        world.post(&acme.key, rotate, json!({})).await.expect(200);
    }
    let shown = world.get(&acme.key, "/v1/signing-secret").await.json();
    let refused = world.post(&acme.key, rotate, json!({})).await.expect(409);
    assert_eq!(refused.problem(), "limit_reached");
    let detail = refused.json()["detail"].as_str().expect("text").to_owned();
    // It is the second one that ends first.
    let soonest = second["previous"][0]["valid_until"].as_str().expect("a time");
    assert!(detail.contains(soonest) && detail.contains("\"overlap\":\"0s\""), "{detail}");
    assert_eq!(world.get(&acme.key, "/v1/signing-secret").await.json(), shown);

    let last = world.post(&acme.key, rotate, json!({"overlap": "0s"})).await.expect(200).json();
    assert_eq!(last["previous"], json!([]), "no overlap: all that came before ends now");
    // No body at all is the default overlap of a day.
    let day = world.call(&acme.key, Method::POST, rotate, None).await.expect(200).json();
    assert_eq!(day["previous"][0]["secret"], last["secret"]);
    for overlap in [json!("8d"), json!("1w"), json!(3600), json!("-1h")] {
        let refused = world.post(&acme.key, rotate, json!({"overlap": overlap})).await.expect(400);
        assert_eq!(refused.pointers(), ["/overlap"]);
    }
}
