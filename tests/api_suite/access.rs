//! Who may call what, and that nobody learns of another tenant's objects.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request, header};
use senderz_gateway::{api::routes, event::EventType, id::DeliveryKey};
use serde_json::json;

use crate::support::{Answer, World};

/// What the published interface says: A anyone, O operator only, T a tenant or the operator for one, B both
/// with and without a tenant. A route that is missing here fails the test.
const MATRIX: &[(&str, &str, char)] = &[
    ("GET", "/openapi.json", 'A'),
    ("POST", "/v1/tenants", 'O'),
    ("GET", "/v1/tenants", 'O'),
    ("GET", "/v1/tenants/{id}", 'O'),
    ("DELETE", "/v1/tenants/{id}", 'O'),
    ("POST", "/v1/keys", 'B'),
    ("GET", "/v1/keys", 'B'),
    ("DELETE", "/v1/keys/{id}", 'B'),
    ("GET", "/v1/signing-secret", 'T'),
    ("POST", "/v1/signing-secret/rotate", 'T'),
    ("POST", "/v1/webhooks", 'T'),
    ("GET", "/v1/webhooks", 'T'),
    ("GET", "/v1/webhooks/{id}", 'T'),
    ("PATCH", "/v1/webhooks/{id}", 'T'),
    ("DELETE", "/v1/webhooks/{id}", 'T'),
    ("POST", "/v1/webhooks/{id}/test", 'T'),
    ("GET", "/v1/webhooks/{id}/stats", 'T'),
    ("GET", "/v1/stats", 'B'),
    ("GET", "/v1/events", 'T'),
    ("DELETE", "/v1/events", 'T'),
    ("GET", "/v1/events/{id}", 'T'),
    ("GET", "/v1/erasures", 'T'),
    ("GET", "/v1/erasures/{id}", 'T'),
    ("POST", "/v1/backups", 'O'),
    ("GET", "/v1/backups", 'O'),
    ("GET", "/v1/backups/{id}", 'O'),
    ("GET", "/v1/deliveries", 'T'),
    ("GET", "/v1/deliveries/{id}", 'T'),
    ("POST", "/v1/deliveries/{id}/replay", 'T'),
    ("POST", "/v1/deliveries/{id}/cancel", 'T'),
    ("POST", "/v1/replays", 'T'),
    ("GET", "/v1/replays", 'T'),
    ("GET", "/v1/replays/{id}", 'T'),
    ("POST", "/v1/replays/{id}/pause", 'T'),
    ("POST", "/v1/replays/{id}/resume", 'T'),
    ("POST", "/v1/replays/{id}/cancel", 'T'),
    ("GET", "/v1/stream", 'B'),
    ("GET", "/v1/audit", 'B'),
    ("POST", "/v1/portal/sessions", 'T'),
];

#[tokio::test]
async fn every_route_lets_in_whom_the_interface_says_and_nobody_else() {
    let listed: BTreeSet<_> = MATRIX.iter().map(|(method, path, _)| (*method, *path)).collect();
    let all = routes::all();
    let built: BTreeSet<_> = all.iter().map(|route| (route.method.as_str(), route.path)).collect();
    assert_eq!(listed, built, "every route needs a line in the matrix");
    assert_eq!(MATRIX.len(), all.len());

    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let producer = world.post(&world.operator, "/v1/keys", json!({"kind": "producer"})).await;
    let producer = producer.json()["api_key"].as_str().expect("shown once").to_owned();
    // An empty body and an id of nothing: a request that is let in is refused for that, later.
    let nothing = "xx_00000000000000000000000000";
    for (method, path, class) in MATRIX {
        if *class == 'A' {
            world.bare(method.parse().expect("a method"), path).await.expect(200);
            continue;
        }
        let call = async |key: Option<&str>, tenant: Option<&str>| {
            let mut request = Request::builder().method(*method).uri(path.replace("{id}", nothing));
            if let Some(key) = key {
                request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
            }
            if let Some(tenant) = tenant {
                request = request.header("senderz-tenant", tenant);
            }
            let body = if *method == "GET" { "" } else { r#"{"none":1}"# };
            let request = request.header(header::CONTENT_TYPE, "application/json");
            let answer = world.send(request.body(Body::from(body)).expect("valid")).await;
            let refusals = ["unauthorized", "forbidden", "tenant_required"];
            match answer.status.is_success() {
                true => "in".to_owned(),
                false => match answer.problem() {
                    code if refusals.contains(&code.as_str()) => code,
                    _ if answer.json()["detail"] == "Senderz-Tenant names no tenant" => {
                        "no tenant".to_owned()
                    }
                    _ => "in".to_owned(),
                },
            }
        };
        let of = |operator, as_tenant, tenant| match class {
            'O' => operator,
            'T' => as_tenant,
            'B' => tenant,
            other => panic!("no such class {other}"),
        };
        let operator = Some(world.operator.as_str());
        let tenant = Some(acme.key.as_str());
        let checks = [
            (call(None, None).await, "unauthorized"),
            (call(None, Some("acme")).await, "unauthorized"),
            (call(Some("szk_tenant_x"), None).await, "unauthorized"),
            (call(Some(&producer), None).await, "forbidden"),
            (call(Some(&producer), Some("acme")).await, "forbidden"),
            (call(tenant, None).await, of("forbidden", "in", "in")),
            (call(tenant, Some("acme")).await, of("forbidden", "in", "in")),
            (call(tenant, Some("nobody")).await, "forbidden"),
            (call(operator, None).await, of("in", "tenant_required", "in")),
            (call(operator, Some("acme")).await, "in"),
            (call(operator, Some("nobody")).await, "no tenant"),
        ];
        for (at, (found, expected)) in checks.iter().enumerate() {
            // The tenant's secret is rotated, its keys are made: nothing of it changes who gets in.
            assert_eq!(found, expected, "{method} {path}, check {at}");
        }
    }
}

/// Everything that a caller can see of an answer.
fn seen(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect();
    (answer.status.as_u16(), headers, String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn another_tenants_object_answers_exactly_as_a_missing_one() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let beta = world.tenant("beta").await;
    let webhook = world.webhook(&beta).await;
    let no = world.webhook_no(&beta, &webhook);
    let event = world.event(&beta, EventType::Sent, "{}").await;
    let delivery = world.delivery_id(DeliveryKey { place: event.place, webhook: no });
    let key = world.post(&beta.key, "/v1/keys", json!({"kind": "tenant"})).await.json();
    let replay = world.post(&beta.key, "/v1/replays", json!({"dry_run": true})).await.json();
    let asked = world.call(&beta.key, Method::DELETE, "/v1/events?recipient=x", None).await;
    let erasure = asked.expect(202).json();
    let objects = [
        (
            "/v1/erasures/",
            erasure["id"].as_str().expect("an id").to_owned(),
            "ers_0123456789abcdefghjkmnpqrs".to_owned(),
        ),
        (
            "/v1/replays/",
            replay["id"].as_str().expect("an id").to_owned(),
            "rpl_0123456789abcdefghjkmnpqrs".to_owned(),
        ),
        ("/v1/webhooks/", webhook, "wh_0123456789abcdefghjkmnpqrs".to_owned()),
        ("/v1/events/", event.to_string(), "evt_0123456789abcdefghjkmnpqrs".to_owned()),
        ("/v1/deliveries/", delivery, {
            let place = senderz_gateway::id::Place::new(77, 0);
            world.delivery_id(DeliveryKey { place, webhook: no })
        }),
        (
            "/v1/keys/",
            key["id"].as_str().expect("an id").to_owned(),
            "key_0123456789abcdefghjkmnpqrs".to_owned(),
        ),
    ];
    let mut compared = 0;
    for route in routes::all() {
        if !route.path.contains("{id}") || route.access == routes::Access::Operator {
            continue;
        }
        let (_, foreign, missing) = objects
            .iter()
            .find(|(prefix, ..)| route.path.starts_with(prefix))
            .unwrap_or_else(|| panic!("no foreign object for {}", route.path));
        let with_body = matches!(route.method, Method::PATCH) || route.path.ends_with("/test");
        let body = with_body.then(|| json!({}));
        let mut answers = Vec::new();
        for id in [foreign.as_str(), missing, "nonsense", "%FF", "..%2f..%2fetc"] {
            let path = route.path.replace("{id}", id);
            let answer = world.call(&acme.key, route.method.clone(), &path, body.clone()).await;
            assert_eq!(answer.status, 404, "{} {path}", route.method);
            answers.push(seen(&answer));
        }
        for answer in &answers[1..] {
            assert_eq!(answer, &answers[0], "{} {}", route.method, route.path);
        }
        // The same request is no 404 for the owner, so the comparison means something.
        if route.method == Method::GET {
            let path = route.path.replace("{id}", foreign);
            world.get(&beta.key, &path).await.expect(200);
        }
        compared += 1;
    }
    assert_eq!(compared, 15);
    // Nothing of beta's was harmed.
    assert_eq!(world.directory.webhook_counts(), (1, 0));
    assert_eq!(
        world.get(&beta.key, "/v1/keys").await.json()["data"].as_array().map(Vec::len),
        Some(2)
    );
}

#[tokio::test]
async fn what_is_missing_says_which_id_is_wanted_and_where_it_stands() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let event = world.event(&acme, EventType::Sent, "{}").await;
    for (list, wanted) in [
        ("/v1/webhooks", "`wh_…`"),
        ("/v1/events", "`evt_…`"),
        ("/v1/deliveries", "`dlv_…`"),
        ("/v1/replays", "`rpl_…`"),
        ("/v1/erasures", "`ers_…`"),
        ("/v1/keys", "`key_…`"),
    ] {
        let id = if list == "/v1/events" { "dlv_1".to_owned() } else { event.to_string() };
        let method = if list == "/v1/keys" { Method::DELETE } else { Method::GET };
        let path = format!("{list}/{id}");
        let missing = world.call(&acme.key, method, &path, None).await.expect(404);
        let detail = missing.json()["detail"].as_str().expect("text").to_owned();
        let expected = format!("its id is the {wanted} that GET {list} shows");
        assert!(detail.ends_with(&expected), "{detail}");
        let what = if list == "/v1/events" { "a delivery" } else { "an event" };
        assert!(detail.starts_with(&format!("this is the id of {what}; ")), "{detail}");
    }
    // Of the right kind, or of none, it is missing and nothing more.
    for id in ["wh_1", "wh_0qxgvf3nt4d9gh7vcds0tkr8hf", "x", "whx_1"] {
        let missing = world.get(&acme.key, &format!("/v1/webhooks/{id}")).await.expect(404);
        let detail = missing.json()["detail"].as_str().expect("text").to_owned();
        assert!(detail.starts_with("there is no such webhook; "), "{detail}");
    }
    let missing = world.get(&world.operator, "/v1/tenants/nobody").await.expect(404);
    let detail = "there is no such tenant; GET /v1/tenants shows their ids";
    assert_eq!(missing.json()["detail"], detail);
}

#[tokio::test]
async fn lists_show_only_the_callers_own() {
    let world = World::start().await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    world.webhook(&beta).await;
    world.event(&beta, EventType::Sent, "{}").await;
    for path in ["/v1/webhooks", "/v1/events", "/v1/deliveries"] {
        let empty = world.get(&acme.key, path).await.expect(200).json();
        assert_eq!(empty, json!({"data": [], "next_cursor": null}), "{path}");
        let own = world.get(&beta.key, path).await.expect(200).json();
        assert_eq!(own["data"].as_array().map(Vec::len), Some(1), "{path}");
    }
    let keys = world.get(&acme.key, "/v1/keys").await.json();
    let owners: Vec<_> =
        keys["data"].as_array().expect("a list").iter().map(|k| &k["tenant"]).collect();
    assert_eq!(owners, ["acme"]);
}

#[tokio::test]
async fn a_key_is_taken_from_its_header_only_and_in_one_form_only() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let key = &acme.key;
    let get = async |path: String, authorization: &[String]| {
        let mut request = Request::builder().uri(path);
        for value in authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        world.send(request.body(Body::empty()).expect("valid")).await
    };
    let good = [format!("Bearer {key}")];
    for form in [format!("Bearer {key}"), format!("bearer {key}"), format!("BEARER {key}")] {
        get("/v1/webhooks".to_owned(), &[form]).await.expect(200);
    }
    let bad: Vec<Vec<String>> = vec![
        vec![key.clone()],
        vec![format!("Basic {key}")],
        vec![format!("Bearer  {key}")],
        vec![format!("Bearer {key} ")],
        vec![format!("Bearer {key} x")],
        vec![format!("Bearer\t{key}")],
        vec!["Bearer".to_owned()],
        vec!["Bearer ".to_owned()],
        vec![format!("Bearer {}", key.to_uppercase())],
        vec![format!("Bearer {}", "a".repeat(1 << 20))],
        vec![format!("Bearer {key}"), format!("Bearer {key}")],
    ];
    for values in bad {
        let answer = get("/v1/webhooks".to_owned(), &values).await.expect(401);
        assert_eq!(answer.problem(), "unauthorized");
        assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
        assert!(!String::from_utf8_lossy(&answer.body).contains(key.as_str()));
    }
    for query in [
        format!("?key={key}"),
        "?access_token=x".to_owned(),
        format!("?limit={key}"),
        format!("?{key}"),
        format!("?limit={}", key.replacen("szk_", "szk%5f", 1)),
    ] {
        for authorization in [&good[..], &[]] {
            let answer = get(format!("/v1/webhooks{query}"), authorization).await.expect(400);
            assert_eq!(answer.problem(), "key_in_url", "{query}");
            assert!(!String::from_utf8_lossy(&answer.body).contains(key.as_str()));
        }
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_problems_too() {
    let world = World::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/webhooks/",
        "//v1/webhooks",
        "/v1//webhooks",
        "/v1/%77ebhooks",
        "/v1/webhooks/%2e%2e/tenants",
        "/v1/webhooks/../tenants",
        "/V1/webhooks",
    ] {
        let answer = world.get(&world.operator, path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (404, "not_found"),
            "{path}"
        );
    }
    let long = format!("/v1/{}", "a".repeat(60_000));
    world.get(&world.operator, &long).await.expect(404);
    let answer = world.call(&world.operator, Method::PUT, "/v1/webhooks", None).await.expect(405);
    assert_eq!(answer.problem(), "method_not_allowed");
    let allow = answer.headers[header::ALLOW].to_str().expect("ASCII").to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    // No CORS: a browser's preflight gets nothing.
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/v1/webhooks")
        .header(header::ORIGIN, "https://evil.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET");
    let answer = world.send(preflight.body(Body::empty()).expect("valid")).await.expect(405);
    assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")));
    // A method in a header is only a header.
    let overridden = Request::builder()
        .uri("/v1/tenants")
        .header(header::AUTHORIZATION, format!("Bearer {}", world.operator))
        .header("x-http-method-override", "DELETE");
    world.send(overridden.body(Body::empty()).expect("valid")).await.expect(200);
}
