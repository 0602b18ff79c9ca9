//! Webhooks: made, shown, patched, tested, removed.

use http::Method;
use senderz_gateway::{directory::Change, store::EventQuery, webhook::DisabledReason};
use serde_json::{Value, json};

use crate::support::World;

#[tokio::test]
async fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let path = format!("/v1/webhooks/{}", world.webhook(&acme).await);
    let changed = world.patch(&acme.key, &path, json!({"rate_limit": 50.0})).await.expect(200);
    assert_eq!(changed.json()["rate_limit"], 50);
    for wrong in [json!(50.5), json!(-1.0), json!(0.0), json!(1e300), json!("50")] {
        let refused = world.patch(&acme.key, &path, json!({"rate_limit": wrong})).await.expect(400);
        assert_eq!(refused.pointers(), ["/rate_limit"], "{wrong}");
    }
}

#[tokio::test]
async fn a_webhook_is_shown_as_it_was_made() {
    let mut world = World::start().await;
    let acme = world.tenant("acme").await;
    let body = json!({
        "url": "https://hooks.example.com:8443/in?a=b", "events": ["message.failed", "message.sent"],
        "description": "ä", "headers": {"X-Token": "geheim", "X-Other": "2"}, "enabled": false,
        "success": "2xx", "timeout": "2500ms", "max_in_flight": 7, "rate_limit": 9,
    });
    let made = world.post(&acme.key, "/v1/webhooks", body).await.expect(201);
    let location = made.headers["location"].to_str().expect("ASCII").to_owned();
    let made = made.json();
    assert!(
        matches!(world.changes.try_recv(), Ok(Change::WebhookSet { .. })),
        "told, then answered"
    );
    let shown = world.get(&acme.key, &location).await.expect(200).json();
    assert_eq!(shown, made);
    assert_eq!(shown["events"], json!(["message.sent", "message.failed"]));
    assert_eq!(shown["headers"], json!({"x-token": "geheim", "x-other": "2"}));
    assert_eq!(shown["timeout"], "2500ms");
    assert_eq!(shown["enabled"], false);
    let least = json!({"url": "https://hooks.example.com", "events": ["*"]});
    let least = world.post(&acme.key, "/v1/webhooks", least).await.expect(201).json();
    for unset in ["success", "timeout", "max_in_flight", "rate_limit"] {
        assert_eq!(least[unset], Value::Null);
    }
    assert_eq!((&least["events"], &least["enabled"]), (&json!(["*"]), &json!(true)));
    assert_eq!(least["url"], "https://hooks.example.com/");
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_null_resets() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let body = json!({
        "url": "https://hooks.example.com/in", "events": ["message.sent"], "description": "d",
        "headers": {"x-a": "1", "x-b": "2"}, "success": "2xx", "timeout": "5s",
        "max_in_flight": 7, "rate_limit": 9,
    });
    let made = world.post(&acme.key, "/v1/webhooks", body).await.expect(201).json();
    let path = format!("/v1/webhooks/{}", made["id"].as_str().expect("an id"));
    let check = async |patch: Value, changed: &[(&str, Value)]| {
        let before = world.get(&acme.key, &path).await.json();
        let after = world.patch(&acme.key, &path, patch.clone()).await.expect(200).json();
        assert_eq!(world.get(&acme.key, &path).await.json(), after);
        let mut expected = before.clone();
        for (name, value) in changed {
            expected[*name] = value.clone();
        }
        expected["updated_at"] = after["updated_at"].clone();
        if before["enabled"] != after["enabled"] {
            let is_off = after["enabled"] == false;
            expected["disabled_reason"] = if is_off { json!("requested") } else { json!(null) };
            let at = &after["updated_at"];
            expected["disabled_at"] = if is_off { at.clone() } else { json!(null) };
        }
        assert_eq!(after, expected, "{patch}");
    };
    check(json!({}), &[]).await;
    check(json!({"enabled": false}), &[("enabled", json!(false))]).await;
    // A merge inside headers too: what is not named stays, null removes.
    let headers = |headers: Value| [("headers", headers)];
    check(json!({"headers": {}}), &[]).await;
    check(
        json!({"headers": {"X-C": "3", "X-A": "9"}}),
        &headers(json!({"x-a": "9", "x-b": "2", "x-c": "3"})),
    )
    .await;
    check(
        json!({"headers": {"X-B": null, "x-none": null}}),
        &headers(json!({"x-a": "9", "x-c": "3"})),
    )
    .await;
    check(
        json!({"headers": {"x-a": null, "x-d": "4", "x-e": "5"}}),
        &headers(json!({"x-c": "3", "x-d": "4", "x-e": "5"})),
    )
    .await;
    // The limit of 3 is on what there would be in all; of what is refused nothing happens.
    for (patch, at, says) in [
        (json!({"headers": {"x-f": "6"}, "description": "new"}), "", "3 custom headers"),
        (json!({"headers": {"x-c": "v".repeat(190)}, "description": "new"}), "", "200 bytes"),
        (json!({"headers": {"x-c": null, "X-C": "1"}}), "/x-c", "twice"),
        (json!({"headers": {"x c": null}}), "/x c", "not valid"),
        (json!({"headers": {"Host": null}}), "/Host", "set by the gateway"),
    ] {
        let before = world.get(&acme.key, &path).await.json();
        let refused = world.patch(&acme.key, &path, patch).await.expect(400);
        assert_eq!(
            (refused.problem().as_str(), refused.pointers()),
            ("invalid_body", vec![format!("/headers{at}")])
        );
        let detail = refused.json()["errors"][0]["detail"].as_str().expect("text").to_owned();
        assert!(detail.contains(says), "{detail}");
        assert_eq!(world.get(&acme.key, &path).await.json(), before);
    }
    check(
        json!({"events": ["*"], "url": "https://b.example.com/x"}),
        &[("events", json!(["*"])), ("url", json!("https://b.example.com/x"))],
    )
    .await;
    for (name, default) in [
        ("description", json!("")),
        ("headers", json!({})),
        ("enabled", json!(true)),
        ("success", json!(null)),
        ("timeout", json!(null)),
        ("max_in_flight", json!(null)),
        ("rate_limit", json!(null)),
    ] {
        check(json!({name: null}), &[(name, default)]).await;
    }
    for name in ["url", "events"] {
        let refused = world.patch(&acme.key, &path, json!({name: null})).await.expect(400);
        assert_eq!(refused.pointers(), [format!("/{name}")]);
    }
    let before = world.get(&acme.key, &path).await.json();
    let half = world.patch(&acme.key, &path, json!({"description": "new", "timeout": "2h"})).await;
    assert_eq!(half.expect(400).pointers(), ["/timeout"]);
    assert_eq!(world.get(&acme.key, &path).await.json(), before, "all of it or none of it");
}

#[tokio::test]
async fn everything_wrong_with_a_body_is_said_at_once_with_its_place() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let good = json!({"url": "https://hooks.example.com", "events": ["*"]});
    let check = async |changes: Value, pointers: &[&str]| {
        let mut body = good.clone();
        for (name, value) in changes.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let refused = world.post(&acme.key, "/v1/webhooks", body).await.expect(400);
        assert_eq!(refused.problem(), "invalid_body", "{changes}");
        assert_eq!(refused.pointers(), pointers, "{changes}");
        refused.json()
    };
    check(json!({"url": "https://127.0.0.1/"}), &["/url"]).await;
    let blocked = check(json!({"url": "https://169.254.169.254/"}), &["/url"]).await;
    assert_eq!(blocked["errors"][0]["code"], "blocked_target");
    let plain = check(json!({"url": "http://hooks.example.com/"}), &["/url"]).await;
    assert_eq!(plain["errors"][0]["code"], "https_required");
    check(json!({"url": 7}), &["/url"]).await;
    check(json!({"events": "message.sent"}), &["/events"]).await;
    check(json!({"events": []}), &["/events"]).await;
    check(json!({"events": ["message.sent", "message.lost"]}), &["/events/1"]).await;
    check(json!({"events": ["*", "message.lost"]}), &["/events/1"]).await;
    check(json!({"events": ["x", "*", "message.sent"]}), &["/events/0", "/events"]).await;
    let first: Vec<String> = (0..20).map(|index| format!("/events/{index}")).collect();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    check(json!({"events": vec!["x"; 1000]}), &first).await;
    check(json!({"events": ["message.sent", 1]}), &["/events"]).await;
    check(json!({"headers": ["x"]}), &["/headers"]).await;
    check(json!({"headers": {"x-a": 1, "x/b": null}}), &["/headers/x-a", "/headers/x~1b"]).await;
    check(json!({"headers": {"Host": "x"}}), &["/headers/Host"]).await;
    let each = json!({"headers": {"X-Good": "1", "a/b~c": "2", "te": "3", "x-pad": " 4"}});
    check(each, &["/headers/a~1b~0c", "/headers/te", "/headers"]).await;
    let mixed = json!({"headers": {"a": 1, "b/": "2", "x-c": "3\n"}});
    check(mixed, &["/headers/a", "/headers/b~1", "/headers/x-c"]).await;
    check(json!({"headers": {"a": "1", "b": "2", "c": "3", "d": "4"}}), &["/headers"]).await;
    let secret = check(json!({"headers": {"x-a": "gehe\nim"}}), &["/headers/x-a"]).await;
    assert!(!secret.to_string().contains("gehe"), "a value may be a credential");
    // Larger than may be, and larger than the API reads.
    let large = |bytes: usize| json!({"headers": {"x-a": "1", "x-big": "v".repeat(bytes)}});
    for bytes in [60_000, 64 * 1024, 200_000] {
        check(large(bytes), &["/headers/x-big"]).await;
    }
    let mut body = large(senderz_gateway::api::MAX_BODY);
    body["url"] = json!("https://hooks.example.com/");
    body["events"] = json!(["*"]);
    let refused = world.post(&acme.key, "/v1/webhooks", body).await.expect(413).json();
    assert_eq!(refused["detail"], "a body may have 262144 bytes");
    check(json!({"description": "x".repeat(51)}), &["/description"]).await;
    check(json!({"enabled": "yes"}), &["/enabled"]).await;
    check(json!({"success": "201"}), &["/success"]).await;
    for timeout in [json!("61s"), json!("1ms"), json!("5"), json!(5), json!("5 minutes")] {
        check(json!({"timeout": timeout}), &["/timeout"]).await;
    }
    for number in [json!(0), json!(101), json!(-1), json!(1.5), json!("7"), json!(1e300)] {
        check(json!({"max_in_flight": number}), &["/max_in_flight"]).await;
    }
    let nearest = check(json!({"time_out": "5s"}), &["/time_out"]).await;
    let detail = nearest["errors"][0]["detail"].as_str().expect("text");
    assert!(detail.contains("`timeout`"), "{detail}");
    check(
        json!({"id": "wh_x", "url": "", "enabled": 1, "timeout": "x"}),
        &["/url", "/enabled", "/timeout", "/id"],
    )
    .await;
    let none = world.post(&acme.key, "/v1/webhooks", json!({})).await.expect(400);
    assert_eq!(none.pointers(), ["/url", "/events"]);
    assert_eq!(world.directory.webhook_counts(), (0, 0), "nothing of it was made");
}

#[tokio::test]
async fn a_refusal_looks_as_the_readme_shows_it() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let body = json!({"events": ["*"], "timeout": "90s"});
    let refused = world.post(&acme.key, "/v1/webhooks", body).await.expect(400).json();
    let readme = include_str!("../../README.md");
    let shown = readme.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown: Value = serde_json::from_str(shown.expect("an example")).expect("JSON");
    assert_eq!(shown, refused);
}

#[tokio::test]
async fn the_limit_is_named_and_room_comes_back() {
    let mut world = World::start().await;
    let acme = world.tenant("acme").await;
    let mut last = String::new();
    for _ in 0..8 {
        last = world.webhook(&acme).await;
    }
    let body = json!({"url": "https://hooks.example.com", "events": ["*"]});
    let full = world.post(&acme.key, "/v1/webhooks", body).await.expect(409);
    assert_eq!(full.problem(), "limit_reached");
    assert!(
        full.json()["detail"].as_str().expect("text").contains("limits.webhooks_per_tenant = 8")
    );
    while world.changes.try_recv().is_ok() {}
    let path = format!("/v1/webhooks/{last}");
    world.call(&acme.key, Method::DELETE, &path, None).await.expect(204);
    assert!(matches!(world.changes.try_recv(), Ok(Change::WebhookRemoved { .. })));
    world.get(&acme.key, &path).await.expect(404);
    world.call(&acme.key, Method::DELETE, &path, None).await.expect(404);
    world.webhook(&acme).await;
}

#[tokio::test]
async fn a_test_goes_to_the_one_webhook_whatever_its_filter() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    world.webhook(&acme).await;
    let body = json!({"url": "https://b.example.com", "events": ["message.read"]});
    let made = world.post(&acme.key, "/v1/webhooks", body).await.expect(201).json();
    let id = made["id"].as_str().expect("an id");
    let path = format!("/v1/webhooks/{id}/test");
    let types = ["sent", "delivered", "failed", "inbound", "read", "blocked"]
        .map(|t| format!("message.{t}"));
    for event_type in &types {
        let sent =
            world.post(&acme.key, &path, json!({"type": event_type})).await.expect(202).json();
        let delivery = format!("/v1/deliveries/{}", sent["delivery_id"].as_str().expect("an id"));
        let delivery = world.get(&acme.key, &delivery).await.expect(200).json();
        assert_eq!((&delivery["webhook_id"], &delivery["status"]), (&json!(id), &json!("pending")));
        assert_eq!(delivery["event_id"], sent["event_id"]);
        let payload = &delivery["payload"];
        assert_eq!(payload["type"], event_type.as_str());
        let data = &payload["data"];
        assert!(
            data["id"].is_string() && data["channel"].is_string() && data["recipient"].is_string()
        );
        let has_reason = matches!(event_type.as_str(), "message.failed" | "message.blocked");
        assert_eq!(data["status_reason"].is_string(), has_reason, "{event_type}");
    }
    let tenant = world.directory.tenant("acme").expect("it exists").tenant.no;
    let query = EventQuery {
        tenant,
        event_types: senderz_gateway::event::EventTypes::ALL,
        webhook: None,
        found_disabled: false,
        since: None,
        until: None,
        before: None,
        limit: 100,
    };
    let events = world.store.events(query).await.expect("it reads").events;
    assert!(events.len() == 6 && events.iter().all(|event| event.routes.len() == 1));
    let refused = world.post(&acme.key, &path, json!({"type": "message.lost"})).await.expect(400);
    assert_eq!(refused.pointers(), ["/type"]);
    let odd = json!({"type": "message.sent", "count": 7});
    let refused = world.post(&acme.key, &path, odd).await.expect(400);
    let detail = &refused.json()["errors"][0]["detail"];
    assert_eq!(detail, "there is no such field; there is only `type`");
    world
        .patch(&acme.key, &format!("/v1/webhooks/{id}"), json!({"enabled": false}))
        .await
        .expect(200);
    let disabled = world.post(&acme.key, &path, json!({"type": "message.sent"})).await.expect(409);
    assert_eq!(disabled.problem(), "webhook_disabled");
}

#[tokio::test]
async fn tests_are_limited_for_a_webhook_and_for_its_tenant() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let path = |id: &str| format!("/v1/webhooks/{id}/test");
    let (first, second) = (world.webhook(&acme).await, world.webhook(&acme).await);
    let test = json!({"type": "message.sent"});
    let refused = async |id: &str, limit: &str, waits: std::ops::RangeInclusive<u64>| {
        let refused = world.post(&acme.key, &path(id), test.clone()).await.expect(429);
        assert_eq!(refused.problem(), "rate_limited");
        let detail = refused.json()["detail"].as_str().expect("text").to_owned();
        assert!(detail.contains(limit), "{detail}");
        let wait = refused.headers["retry-after"].to_str().expect("ASCII").parse().expect("number");
        assert!(waits.contains(&wait), "{wait} of {waits:?}");
        let (key, of) = match limit.contains("webhook") {
            true => ("limits.webhook_tests", 6),
            false => ("limits.tenant_tests", 10),
        };
        assert_eq!(refused.headers["ratelimit-policy"], format!("\"{key}\";q={of};w=60"));
        assert_eq!(refused.headers["ratelimit"], format!("\"{key}\";r=0;t={wait}"));
    };
    let send = async |key: &str, id: &str, times: usize| {
        for _ in 0..times {
            world.post(key, &path(id), test.clone()).await.expect(202);
        }
    };
    // What is not sent does not count.
    for _ in 0..20 {
        world.post(&acme.key, &path(&first), json!({"type": "message.lost"})).await.expect(400);
    }
    send(&acme.key, &first, 6).await;
    refused(&first, "a webhook may have 6 test events in a minute", 1..=10).await;
    // The other has a bucket of its own, until the tenant's is empty too.
    send(&acme.key, &second, 4).await;
    refused(&second, "a tenant may have 10 test events in a minute", 1..=6).await;
    // An operator who acts for the tenant is no way round it, and another tenant is not held up.
    let as_operator = http::Request::post(path(&second))
        .header("authorization", format!("Bearer {}", world.operator))
        .header("senderz-tenant", "acme")
        .header("content-type", "application/json")
        .body(test.to_string().into());
    world.send(as_operator.expect("a valid request")).await.expect(429);
    let other = world.tenant("other").await;
    let third = world.webhook(&other).await;
    send(&other.key, &third, 6).await;
}

#[tokio::test]
async fn why_a_webhook_is_disabled_is_shown_and_no_request_sets_it() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let path = format!("/v1/webhooks/{webhook}");
    let why = |shown: &Value| {
        let [reason, at, since] = ["disabled_reason", "disabled_at", "failing_since"];
        (shown[reason].clone(), shown[at].is_string(), shown[since].clone())
    };
    let shown = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!(why(&shown), (json!(null), false, json!(null)));
    let off = json!({"enabled": false});
    let shown = world.patch(&acme.key, &path, off.clone()).await.expect(200).json();
    assert_eq!(why(&shown), (json!("requested"), true, json!(null)));
    let on = json!({"enabled": true});
    let enabled = world.patch(&acme.key, &path, on.clone()).await.expect(200);

    // As a shard does it.
    let no = world.webhook_no(&acme, &webhook);
    let since = 1_795_407_600_123;
    world.directory.note_failing(vec![(no, Some(since))]).await.expect("it is written down");
    let seen = world.get(&acme.key, &path).await.expect(200);
    assert_eq!(seen.headers["etag"], enabled.headers["etag"], "nothing that can be set changed");
    assert_eq!(seen.json(), enabled.json());
    let reason = DisabledReason::Failing;
    let disabled = world.directory.disable_webhook(no, reason, Some(since)).await;
    assert_eq!(disabled, Ok(true));
    let shown = world.get(&acme.key, &path).await.expect(200);
    assert_ne!(shown.headers["etag"], seen.headers["etag"]);
    let expected = (json!("failing"), true, json!("2026-11-23T04:20:00.123Z"));
    assert_eq!(why(&shown.json()), expected);
    for name in ["disabled_reason", "disabled_at", "failing_since"] {
        let refused = world.patch(&acme.key, &path, json!({name: null})).await.expect(400);
        assert_eq!(refused.pointers(), [format!("/{name}")]);
    }
    let shown = world.patch(&acme.key, &path, on).await.expect(200).json();
    assert_eq!(why(&shown), (json!(null), false, json!(null)));
}

#[tokio::test]
async fn only_the_operators_own_tenant_may_ask_for_what_the_gateway_tells() {
    let world = World::start().await;
    let (acme, operations) = (world.tenant("acme").await, world.tenant("operations").await);
    let url = "https://hooks.example.com/in";
    let body = json!({"url": url, "events": ["message.sent", "webhook.disabled"]});
    for tenant in [&acme, &operations] {
        let refused = world.post(&tenant.key, "/v1/webhooks", body.clone()).await.expect(400);
        assert_eq!(refused.pointers(), ["/events/1"]);
    }
    world.directory.set_operations(Some("operations".parse().expect("an id")));
    world.post(&acme.key, "/v1/webhooks", body.clone()).await.expect(400);
    let made = world.post(&operations.key, "/v1/webhooks", body.clone()).await.expect(201).json();
    assert_eq!(made["events"], body["events"]);
    let all = world.webhook(&operations).await;
    let all = world.get(&operations.key, &format!("/v1/webhooks/{all}")).await.json();
    assert_eq!(all["events"], json!(["*"]), "the six, and no more");

    let webhook = world.webhook(&acme).await;
    let no = world.webhook_no(&acme, &webhook);
    let done = world.directory.disable_webhook(no, DisabledReason::Gone, None).await;
    assert_eq!(done, Ok(true));
    let path = "/v1/events?event_type=webhook.disabled";
    let events = world.get(&operations.key, path).await.expect(200).json();
    let id = events["data"][0]["id"].as_str().expect("one").to_owned();
    assert_eq!((&events["data"][0]["deliveries"], &events["data"][1]), (&json!(1), &json!(null)));
    let event = world.get(&operations.key, &format!("/v1/events/{id}")).await.expect(200).json();
    assert_eq!(event["payload"]["data"]["id"], webhook);
    let none = world.get(&acme.key, path).await.expect(200).json();
    assert_eq!(none["data"], json!([]), "the tenant itself is shown it in its webhook");

    // As an example it goes to the operator's webhooks only, and looks like the real one.
    let test = json!({"type": "webhook.disabled"});
    let path = |id: &str| format!("/v1/webhooks/{id}/test");
    let enabled = world.webhook(&acme).await;
    let refused = world.post(&acme.key, &path(&enabled), test.clone()).await.expect(400);
    assert_eq!(refused.pointers(), ["/type"]);
    let made = made["id"].as_str().expect("an id");
    let sent = world.post(&operations.key, &path(made), test).await.expect(202).json();
    let sent = format!("/v1/events/{}", sent["event_id"].as_str().expect("an id"));
    let example = world.get(&operations.key, &sent).await.expect(200).json();
    let (example, real) = (&example["payload"], &event["payload"]);
    assert_eq!(
        (&example["type"], &example["data"]["test"]),
        (&json!("webhook.disabled"), &json!(true))
    );
    assert_eq!(real["data"]["test"], json!(null));
    for name in real["data"].as_object().expect("members").keys() {
        assert!(example["data"][name].is_string(), "an example has {name} too");
    }
    let mistyped = json!({"type": "webhook.disable"});
    let refused = world.post(&operations.key, &path(made), mistyped).await.expect(400);
    let detail = refused.json()["errors"][0]["detail"].as_str().expect("text").to_owned();
    assert!(detail.contains("webhook.disabled"), "{detail}");
}
