//! Lists: pages that add up, cursors that cannot be bent, parameters that mean one thing.

use senderz_gateway::{api::routes, event::EventType};
use serde_json::{Value, json};

use crate::support::{TestTenant, World};

/// Walks all pages; returns the ids in order.
async fn walk(world: &World, key: &str, path: &str, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    for _ in 0..100 {
        let joint = if path.contains('?') { '&' } else { '?' };
        let page = world.get(key, &format!("{path}{joint}limit={limit}{cursor}")).await.expect(200);
        let page = page.json();
        let data = page["data"].as_array().expect("a list");
        assert!(data.len() <= limit);
        ids.extend(data.iter().map(|row| row["id"].as_str().expect("an id").to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
    panic!("{path} does not end");
}

async fn filled(world: &World) -> TestTenant {
    let acme = world.tenant("acme").await;
    for _ in 0..3 {
        world.webhook(&acme).await;
    }
    for _ in 0..3 {
        world.post(&acme.key, "/v1/keys", json!({"kind": "tenant"})).await.expect(201);
    }
    for at in 0..4 {
        let event_type = if at % 2 == 0 { EventType::Sent } else { EventType::Failed };
        world.event(&acme, event_type, "{}").await;
    }
    for id in ["b", "c", "d", "e"] {
        world.tenant(id).await;
    }
    acme
}

#[tokio::test]
async fn pages_of_any_size_add_up_to_the_same_list() {
    let world = World::start().await;
    let acme = filled(&world).await;
    let lists = [
        (acme.key.as_str(), "/v1/webhooks", 3),
        (&acme.key, "/v1/keys", 4),
        (&acme.key, "/v1/events", 4),
        (&acme.key, "/v1/events?event_type=message.sent", 2),
        (&acme.key, "/v1/deliveries", 12),
        (&acme.key, "/v1/deliveries?status=pending,failed&event_type=message.failed", 6),
        (&world.operator, "/v1/tenants", 5),
        (&world.operator, "/v1/keys", 8),
    ];
    for (key, path, count) in lists {
        let whole = walk(&world, key, path, 20).await;
        assert_eq!(whole.len(), count, "{path}");
        let distinct: std::collections::BTreeSet<_> = whole.iter().collect();
        assert_eq!(distinct.len(), count, "{path}");
        for limit in 1..=5 {
            assert_eq!(walk(&world, key, path, limit).await, whole, "{path} by {limit}");
        }
    }
    let tenants = walk(&world, &world.operator, "/v1/tenants", 20).await;
    assert_eq!(tenants, ["e", "d", "c", "b", "acme"], "newest first");
}

#[tokio::test]
async fn a_cursor_works_only_for_the_list_that_gave_it() {
    let world = World::start().await;
    let acme = filled(&world).await;
    let beta = world.tenant("beta").await;
    for _ in 0..2 {
        world.webhook(&beta).await;
    }
    let cursor_of = async |key: &str, path: &str| {
        let page = world.get(key, path).await.expect(200).json();
        page["next_cursor"].as_str().expect("there is more").to_owned()
    };
    let check = async |key: &str, path: String| {
        let refused = world.get(key, &path).await;
        assert_eq!(
            (refused.status.as_u16(), refused.problem().as_str()),
            (400, "invalid_cursor"),
            "{path}"
        );
    };
    let cursor = cursor_of(&acme.key, "/v1/webhooks?limit=1").await;
    world.get(&acme.key, &format!("/v1/webhooks?limit=2&cursor={cursor}")).await.expect(200);
    check(&beta.key, format!("/v1/webhooks?limit=1&cursor={cursor}")).await;
    for path in ["events", "deliveries", "keys"] {
        check(&acme.key, format!("/v1/{path}?cursor={cursor}")).await;
    }
    for at in 0..cursor.len() {
        let other = if cursor.as_bytes()[at] == b'A' { 'B' } else { 'A' };
        let bent = format!("{}{other}{}", &cursor[..at], &cursor[at + 1..]);
        check(&acme.key, format!("/v1/webhooks?cursor={bent}")).await;
        check(&acme.key, format!("/v1/webhooks?cursor={}", &cursor[..at])).await;
    }
    for odd in ["%00", "%FF", "A%3D%3D", &"A".repeat(5000), &format!("{cursor}AAAA")] {
        check(&acme.key, format!("/v1/webhooks?cursor={odd}")).await;
    }
    let sent = cursor_of(&acme.key, "/v1/events?limit=1&event_type=message.sent").await;
    check(&acme.key, format!("/v1/events?limit=1&cursor={sent}")).await;
    check(&acme.key, format!("/v1/events?event_type=message.failed&cursor={sent}")).await;
}

#[tokio::test]
async fn parameters_are_refused_with_what_they_should_be() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let check = async |path: &str, pointer: &str, says: &str| {
        let refused = world.get(&acme.key, path).await;
        assert_eq!(
            (refused.status.as_u16(), refused.problem().as_str()),
            (400, "invalid_parameter"),
            "{path}"
        );
        let error = &refused.json()["errors"][0];
        assert_eq!(error["pointer"], pointer, "{path}");
        let detail = error["detail"].as_str().expect("text").to_owned();
        assert!(detail.contains(says), "{path}: {detail}");
    };
    for limit in ["0", "21", "-1", "x", "1.0", "", "99999999999999999999"] {
        check(&format!("/v1/deliveries?limit={limit}"), "?limit", "from 1 to 20").await;
    }
    check("/v1/deliveries?stauts=failed", "?stauts", "`status`").await;
    check("/v1/deliveries?limit=1&limit=2", "?limit", "once").await;
    check("/v1/webhooks?status=failed", "?status", "limit, cursor").await;
    check("/v1/signing-secret?x=1", "?x", "no parameters").await;
    check(&format!("/v1/deliveries?{}=1", "x".repeat(9000)), &format!("?{}", "x".repeat(9000)), "")
        .await;
    check("/v1/deliveries?status=done", "?status", "canceled").await;
    check("/v1/deliveries?status=failed,", "?status", "canceled").await;
    check("/v1/deliveries?event_type=sent", "?event_type", "message.sent").await;
    for code in ["99", "600", "6xx", "5x", "5xxx", "abc", "", "-5", "%2B50"] {
        check(&format!("/v1/deliveries?code={code}"), "?code", "5xx").await;
    }
    check("/v1/deliveries?error=boom", "?error", "timeout").await;
    for time in ["yesterday", "2026-11-23", "1795407600", "", "1969-12-31T23:59:59Z"] {
        check(&format!("/v1/deliveries?since={time}"), "?since", "2026-11-23T04:20:00Z").await;
    }
    check("/v1/events?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "?since", "later")
        .await;
    check("/v1/deliveries?webhook=x", "?webhook", "wh_").await;
    let foreign = "/v1/deliveries?webhook=wh_0123456789abcdefghjkmnpqrs";
    assert_eq!(world.get(&acme.key, foreign).await.expect(404).problem(), "not_found");
    let empty: Value = world
        .get(&acme.key, "/v1/deliveries?since=2026-01-01T00:00:00%2B01:00")
        .await
        .expect(200)
        .json();
    assert_eq!(empty["data"], json!([]));
}

#[tokio::test]
async fn everything_wrong_with_the_parameters_is_said_at_once() {
    let world = World::start().await;
    let acme = filled(&world).await;
    let check = async |path: &str, pointers: &[&str]| {
        let refused = world.get(&acme.key, path).await.expect(400);
        assert_eq!(refused.problem(), "invalid_parameter", "{path}");
        assert_eq!(refused.pointers(), pointers, "{path}");
    };
    check(
        "/v1/deliveries?stauts=failed&limit=0&code=x&error=x&status=x&event_type=x&webhook=x\
         &since=x&until=x&cursor=%00",
        &[
            "?stauts",
            "?webhook",
            "?since",
            "?until",
            "?status",
            "?event_type",
            "?code",
            "?error",
            "?limit",
            "?cursor",
        ],
    )
    .await;
    check("/v1/events?limit=0&limit=0&limit=0&x=&since=y", &["?limit", "?x", "?since", "?limit"])
        .await;
    check("/v1/webhooks?limit=x&status=x", &["?status", "?limit"]).await;
    check("/v1/signing-secret?a=1&b=2", &["?a", "?b"]).await;
    // A mistyped filter makes a good cursor look foreign: the one mistake is told, not a second.
    let page = world.get(&acme.key, "/v1/events?limit=1&event_type=message.sent").await.json();
    let cursor = page["next_cursor"].as_str().expect("there is more");
    check(&format!("/v1/events?event_typ=message.sent&cursor={cursor}"), &["?event_typ"]).await;
    // However many there are, the answer stays short.
    let many: String = (0..1000).map(|n| format!("&p{n}=1")).collect();
    let refused = world.get(&acme.key, &format!("/v1/keys?limit=0{many}")).await.expect(400);
    assert_eq!(refused.pointers().len(), 20);
}

#[tokio::test]
async fn no_route_takes_a_parameter_that_it_does_not_know() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    for route in routes::all() {
        let key =
            if route.access == routes::Access::Operator { &world.operator } else { &acme.key };
        // One that has to be there is no part of what is wrong.
        let whose = if route.params.contains(&"recipient") { "&recipient=x" } else { "" };
        let path = format!("{}?nonsense=1{whose}", route.path.replace("{id}", "x"));
        let refused = world.call(key, route.method.clone(), &path, None).await;
        assert_eq!(refused.status, 400, "{} {path}", route.method);
        assert_eq!(refused.pointers(), ["?nonsense"], "{} {path}", route.method);
    }
}
