//! What was done in the portal stands in the audit log, on its page too, and outlives the gateway.

use serde_json::{Value, json};

use crate::{
    support::gateway::{Gateway, OPERATOR_KEY},
    visitor::{House, Visitor, text},
};

fn records(gateway: &Gateway, tenant: &str, query: &str) -> Vec<Value> {
    let page = gateway.get(&format!("/v1/audit{query}"), tenant);
    let mut records = page["data"].as_array().expect("a list").clone();
    records.reverse();
    records
}

fn actions(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["action"].as_str().expect("a name")).collect()
}

#[test]
fn who_comes_and_goes_and_what_is_done_inside_is_recorded() {
    let house = House::open(&[]);
    let key = house.tenant("acme");
    let mut by_key = house.logged_in(&key);
    by_key.submit(
        "/portal/t/acme/webhooks/new",
        &[("url", "http://127.0.0.1:9/"), ("enabled", "true")],
    );
    by_key.post("/portal/t/acme/secret", &[]);
    // Comparing shows nothing.
    by_key.post("/portal/t/acme/verify", &[("signature", "00"), ("body", "{}")]);
    assert_eq!(by_key.post("/portal/logout", &[]).status, 303);
    assert_eq!(by_key.post("/portal/logout", &[]).status, 303, "and nobody is there any more");

    let link = house.gateway.post("/v1/portal/sessions", Some("acme"), &json!({}));
    let token = link["url"].as_str().and_then(|url| url.rsplit('/').next()).expect("a token");
    let mut by_link = house.visitor();
    assert_eq!(by_link.post("/portal/link", &[("token", token)]).status, 303);
    assert_eq!(by_link.post("/portal/login", &[("key", "szk_tenant_wrong")]).status, 403);
    // Another login ends the one before it.
    assert_eq!(by_link.post("/portal/login", &[("key", &key)]).status, 303);

    let found = records(&house.gateway, "acme", "");
    let expected = [
        "tenant.created",
        "key.created",
        "session.started",
        "webhook.created",
        "secret.shown",
        "session.ended",
        "portal_link.created",
        "session.started",
        "session.ended",
        "session.started",
    ];
    let mut sorted = actions(&found);
    // The login that replaces a session starts before it ends the other.
    sorted[8..].sort_unstable();
    assert_eq!(sorted, expected);
    let own = house.gateway.get("/v1/keys", "acme")["data"][0]["id"].clone();
    let session = &found[2]["object_id"];
    assert!(session.as_str().is_some_and(|id| id.starts_with("ses_")), "{session}");
    for done in &found[2..6] {
        assert_eq!(done["actor"], json!({"kind": "tenant", "key_id": own, "session_id": session}));
    }
    let guest = &found[7]["actor"];
    assert_eq!((&guest["kind"], &guest["key_id"]), (&json!("tenant"), &Value::Null));
    let all = serde_json::to_string(&found).expect("text");
    for secret in [key.as_str(), token, "whsec_"] {
        assert!(!all.contains(secret));
    }
}

#[test]
fn the_page_shows_what_was_done_by_whom_and_narrows_it_down() {
    let house = House::open(&[]);
    let key = house.tenant("acme");
    house.tenant("bolt");
    let mut visitor = house.logged_in(&key);
    visitor.post("/portal/t/acme/secret/rotate", &[("overlap", "1h")]);
    let page = visitor.page("/portal/t/acme/audit");
    let cells = |page: &str, what: &str| page.matches(&format!("\"What\">{what}")).count();
    for action in ["tenant.created", "key.created", "session.started", "secret.rotated"] {
        assert_eq!(cells(&page, action), 1, "{action}");
    }
    assert!(!page.contains("whsec_") && !page.contains("bolt"));
    let rotated = visitor.page("/portal/t/acme/audit?action=secret.rotated");
    assert_eq!((cells(&rotated, "secret.rotated"), cells(&rotated, "session.started")), (1, 0));
    let wrong = visitor.page("/portal/t/acme/audit?actor=nobody");
    assert!(wrong.contains("That cannot be done as it stands"), "{wrong}");
    let none = visitor.page("/portal/t/acme/audit?object=wh_none");
    assert!(none.contains("No record is like that"));
    let relative = visitor.get("/portal/t/acme/audit?since=2h");
    assert_eq!(relative.status, 303, "an age becomes a time");
    assert_eq!(visitor.get("/portal/t/bolt/audit").status, 404);
    assert_eq!(visitor.get("/portal/audit").status, 404, "to a tenant it is not there");

    let mut operator: Visitor = house.logged_in(OPERATOR_KEY);
    let all = operator.page("/portal/audit");
    assert_eq!(cells(&all, "tenant.created"), 2);
    assert_eq!(cells(&all, "session.started"), 2);
    assert!(all.contains("the gateway"), "the operator's login belongs to no tenant");
    let hostile = operator.get("/portal/audit?object=%22%3E%3Cscript%3Ealert(1)%3C/script%3E");
    assert!(!text(&hostile).contains("<script>alert"));
}

#[test]
fn what_was_recorded_outlives_the_gateway_and_its_death() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(data.path(), &[]);
    gateway.tenant("acme");
    let hook = gateway.webhook("acme", "http://127.0.0.1:9/hook");
    let before = records(&gateway, "acme", "");
    gateway.kill();
    let gateway = Gateway::start(data.path(), &[]);
    assert_eq!(records(&gateway, "acme", ""), before);
    let path = format!("/v1/webhooks/{hook}");
    assert_eq!(gateway.ask("DELETE", &path, Some("acme"), b"").status, 204);
    let after = records(&gateway, "acme", "");
    assert_eq!(after.last().expect("one more")["sequence"], json!(before.len() + 1));
    assert_eq!(actions(&after)[before.len()..], ["webhook.deleted"]);
}

#[test]
fn the_gateways_own_doing_is_recorded_as_its_own() {
    let house = House::open(&[
        ("SENDERZ_DELIVERY__DISABLE_ON_GONE", "true"),
        ("SENDERZ_RETRY__SCHEDULE", "100ms"),
    ]);
    house.tenant("acme");
    let receiver = crate::support::receiver::Receiver::start(|_| {
        crate::support::receiver::Answer::Status(410)
    });
    let hook = house.gateway.webhook("acme", &format!("http://{}/", receiver.addr));
    house.gateway.event("acme", &crate::support::payload("message.sent", "m"));
    let found = crate::support::eventually("disabled", std::time::Duration::from_secs(30), || {
        let found = records(&house.gateway, "acme", "?actor=gateway");
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(actions(&found), ["webhook.disabled"]);
    assert_eq!((&found[0]["object_id"], &found[0]["request_id"]), (&json!(hook), &Value::Null));
}
