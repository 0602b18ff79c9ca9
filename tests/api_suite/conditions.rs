//! Changes that hold only for what their asker has seen: `ETag` and `If-Match`.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::support::{Answer, TestTenant, World, join_all};

async fn call(
    world: &World,
    tenant: &TestTenant,
    method: Method,
    path: &str,
    if_match: &str,
    body: Option<Value>,
) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::IF_MATCH, if_match)
        .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())));
    world.send(request.expect("a valid request")).await
}

fn tag(answer: &Answer) -> String {
    answer.headers[header::ETAG].to_str().expect("ASCII").to_owned()
}

#[tokio::test]
async fn a_change_is_made_only_to_what_was_seen() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let body = json!({"url": "https://hooks.example.com/in", "events": ["*"]});
    let made = world.post(&acme.key, "/v1/webhooks", body).await.expect(201);
    let path = made.headers[header::LOCATION].to_str().expect("ASCII").to_owned();
    let first = tag(&made);
    assert_eq!(tag(&world.get(&acme.key, &path).await), first, "shown as it was made");

    let patch = |if_match: &str, text: &str| {
        let (if_match, body) = (if_match.to_owned(), json!({"description": text}));
        let (world, acme, path) = (&world, &acme, &path);
        async move { call(world, acme, Method::PATCH, path, &if_match, Some(body)).await }
    };
    let changed = patch(&first, "mine").await.expect(200);
    let second = tag(&changed);
    assert_ne!(second, first);
    // Someone who saw the first one.
    for stale in [first.as_str(), &format!("W/{second}"), second.trim_matches('"'), ""] {
        let refused = patch(stale, "theirs").await.expect(412);
        assert_eq!(refused.problem(), "precondition_failed", "{stale}");
    }
    let shown = world.get(&acme.key, &path).await;
    assert_eq!((tag(&shown), &shown.json()["description"]), (second.clone(), &json!("mine")));
    // One of several, and any.
    let third = tag(&patch(&format!("{first}, {second}"), "third").await.expect(200));
    let fourth = tag(&patch("*", "fourth").await.expect(200));
    assert_ne!(third, fourth);
    // What is wrong with the body comes first: the condition is about a change that can be made.
    let wrong = json!({"description": 7});
    let wrong = call(&world, &acme, Method::PATCH, &path, &first, Some(wrong)).await;
    assert_eq!(wrong.expect(400).problem(), "invalid_body");

    call(&world, &acme, Method::DELETE, &path, &third, None).await.expect(412);
    call(&world, &acme, Method::DELETE, &path, &fourth, None).await.expect(204);
    call(&world, &acme, Method::DELETE, &path, &fourth, None).await.expect(404);
}

#[tokio::test]
async fn of_many_changes_to_what_all_have_seen_one_is_made() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let path = format!("/v1/webhooks/{}", world.webhook(&acme).await);
    let seen = tag(&world.get(&acme.key, &path).await);
    let (world, acme, path, seen) = (&world, &acme, &path, &seen);
    let changes = (0..8).map(|n| {
        let body = json!({"description": n.to_string()});
        call(world, acme, Method::PATCH, path, seen, Some(body))
    });
    let mut statuses = join_all(changes).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
}
