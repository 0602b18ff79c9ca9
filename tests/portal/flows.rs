//! Everything that the portal does, by plain forms.

use std::time::Duration;

use serde_json::Value;

use crate::{
    support::{
        eventually,
        gateway::OPERATOR_KEY,
        payload,
        receiver::{Answer, Receiver},
    },
    visitor::{House, Visitor, text},
};

const SOON: Duration = Duration::from_secs(30);

const FAST: [(&str, &str); 1] = [("SENDERZ_RETRY__SCHEDULE", "50ms")];

/// Waits until every delivery of the tenant has ended; answers them, the newest first.
fn ended(house: &House, count: usize) -> Vec<Value> {
    eventually("all have ended", SOON, || {
        let page = house.gateway.get("/v1/deliveries?limit=100", "acme");
        let rows = page["data"].as_array().expect("a list").clone();
        let has_ended = |row: &Value| row["status"] != "pending" && row["status"] != "retrying";
        (rows.len() == count && rows.iter().all(has_ended)).then_some(rows)
    })
}

fn id(row: &Value) -> &str {
    row["id"].as_str().expect("an id")
}

/// What stands between two pieces of a page.
fn between<'a>(page: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = page.split_once(before).unwrap_or_else(|| panic!("no {before} in {page}"));
    rest.split(after).next().expect("at least one part")
}

fn new_webhook(visitor: &mut Visitor, url: &str) -> String {
    let fields = [
        ("url", url),
        ("description", "Orders & returns"),
        ("events", "message.sent"),
        ("events", "message.failed"),
        ("headers", "X-Team: blue\r\nX-Region: eu\r\n"),
        ("success", "2xx"),
        ("timeout", "3s"),
        ("max_in_flight", "7"),
        ("enabled", "true"),
        ("do", "save"),
    ];
    let saved = visitor.post("/portal/t/acme/webhooks/new", &fields);
    assert_eq!(saved.status, 303, "{}", text(&saved));
    let to = saved.header("location").expect("its page").to_owned();
    to.split(['/', '?']).find(|part| part.starts_with("wh_")).expect("its id").to_owned()
}

#[test]
fn a_webhook_is_made_tried_changed_and_deleted() {
    let house = House::open(&FAST);
    let key = house.tenant("acme");
    let receiver = Receiver::start(|_| Answer::Status(204));
    let mut visitor = house.logged_in(&key);
    let url = format!("http://{}/hook", receiver.addr);
    let tried = visitor.post(
        "/portal/t/acme/webhooks/new",
        &[("url", &url), ("do", "check"), ("enabled", "true")],
    );
    assert!(text(&tried).contains("It does not work yet"), "200 alone counts by default");
    assert!(text(&tried).contains(&format!("value=\"{url}\"")), "the form is still filled in");

    let webhook = new_webhook(&mut visitor, &url);
    let path = format!("/v1/webhooks/{webhook}");
    let made = house.gateway.get(&path, "acme");
    assert_eq!(made["events"], serde_json::json!(["message.sent", "message.failed"]));
    assert_eq!(made["headers"], serde_json::json!({"x-team": "blue", "x-region": "eu"}));
    assert_eq!((&made["timeout"], &made["max_in_flight"]), (&"3s".into(), &7.into()));

    let page = format!("/portal/t/acme/webhooks/{webhook}");
    let changed = visitor.submit(
        &page,
        &[("url", &url), ("headers", "X-Region: us"), ("timeout", ""), ("do", "save")],
    );
    assert!(changed.contains("The changes are saved"));
    let made = house.gateway.get(&path, "acme");
    assert_eq!(made["headers"], serde_json::json!({"x-region": "us"}), "the other was removed");
    assert_eq!(made["events"], serde_json::json!(["*"]));
    assert_eq!((&made["timeout"], &made["enabled"]), (&Value::Null, &false.into()));

    let wrong = visitor.post(
        &page,
        &[("url", "ftp://x"), ("timeout", "soon"), ("max_in_flight", "many"), ("do", "save")],
    );
    assert_eq!(wrong.status, 400);
    for field in ["url: ", "timeout: ", "max_in_flight: "] {
        assert!(text(&wrong).contains(&format!("<li>{field}")), "{field}");
    }
    assert!(text(&wrong).contains("value=\"ftp://x\""), "what was typed is still there");
    assert!(visitor.submit(&format!("{page}/delete"), &[]).contains("The webhook is deleted"));
    assert_eq!(visitor.get(&page).status, 404);
}

#[test]
fn a_failed_delivery_is_explained_and_replayed() {
    let house = House::open(&FAST);
    let key = house.tenant("acme");
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let script = std::sync::Arc::clone(&fails);
    let receiver = Receiver::start(move |_| {
        let fails = script.load(std::sync::atomic::Ordering::SeqCst);
        Answer::Status(if fails { 503 } else { 200 })
    });
    let mut visitor = house.logged_in(&key);
    let webhook = house.gateway.webhook("acme", &format!("http://{}/hook", receiver.addr));
    house.gateway.event("acme", &payload("message.failed", "msg_1"));
    let row = ended(&house, 1).remove(0);

    let overview = visitor.page("/portal/t/acme/");
    assert!(overview.contains("the receiver answered 503"), "{overview}");
    let page = format!("/portal/t/acme/deliveries/{}", id(&row));
    assert!(overview.contains(&page), "it leads to the newest");
    let shown = visitor.page(&page);
    for part in [
        "Why it is not delivered",
        "Attempt 2: answered 503",
        "Attempt 1: answered 503",
        "&#34;carrier_rejected&#34;",
        "X-Senderz-Event",
        "openssl dgst -sha256 -hmac &#34;$WEBHOOK_SECRET&#34;",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    fails.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(visitor.submit(&format!("{page}/replay"), &[]).contains("is being sent again"));
    let row = eventually("it is delivered", SOON, || {
        let row = house.gateway.get(&format!("/v1/deliveries/{}", id(&row)), "acme");
        (row["status"] == "delivered").then_some(row)
    });
    let again = visitor.post(&format!("{page}/cancel"), &[]);
    assert_eq!(again.status, 409, "it has ended: {}", text(&again));
    let done = visitor.submit("/portal/t/acme/deliveries/replay", &[("id", id(&row))]);
    assert!(done.contains("The selected deliveries are being sent again"), "{done}");
    let none =
        visitor.post("/portal/t/acme/deliveries/replay", &[("id", "dlv_0"), ("id", id(&row))]);
    assert!(text(&none).contains("no such delivery"), "{}", text(&none));

    let tested = visitor
        .submit(&format!("/portal/t/acme/webhooks/{webhook}/test"), &[("type", "message.inbound")]);
    assert!(tested.contains("An example event is on its way"), "{tested}");
}

#[test]
fn lists_are_filtered_by_line_and_by_controls_and_go_on() {
    let house = House::open(&FAST);
    let key = house.tenant("acme");
    let receiver = Receiver::start(|request| {
        Answer::Status(if request.header("x-senderz-event") == "message.failed" {
            500
        } else {
            200
        })
    });
    house.gateway.webhook("acme", &format!("http://{}/hook", receiver.addr));
    for nth in 0..60 {
        let kind = if nth % 20 == 0 { "message.failed" } else { "message.sent" };
        house.gateway.event("acme", &payload(kind, &format!("msg_{nth}")));
    }
    ended(&house, 60);
    let mut visitor = house.logged_in(&key);
    let rows = |page: &str| page.matches("<tr data-delivery=").count();
    let first = visitor.page("/portal/t/acme/deliveries");
    assert_eq!(rows(&first), 50);
    let older =
        between(&first, "<a class=\"button\" href=\"/portal/t/acme/deliveries?cursor=", "\"");
    let second = visitor.page(&format!("/portal/t/acme/deliveries?cursor={older}"));
    assert_eq!(rows(&second), 10);

    let typed = visitor.get("/portal/t/acme/deliveries?q=status:failed+code:5xx");
    assert_eq!(typed.header("location"), Some("/portal/t/acme/deliveries?status=failed&code=5xx"));
    let failed = visitor.page("/portal/t/acme/deliveries?status=failed&code=5xx");
    assert_eq!(rows(&failed), 3);
    assert!(failed.contains("value=\"status:failed code:5xx\""), "the line says what is shown");
    let aged = visitor.get("/portal/t/acme/deliveries?since=1h");
    assert!(aged.header("location").is_some_and(|to| to.contains("since=20")), "{aged:?}");
    for (query, said) in [
        ("status=broken", "status: "),
        ("code=99", "code: "),
        ("webhook=evt_1", "webhook: "),
        ("cursor=garbage", "cursor"),
        ("q=colour:red", "colour is no filter"),
    ] {
        let wrong = visitor.page(&format!("/portal/t/acme/deliveries?{query}"));
        assert!(wrong.contains("role=\"alert\"") && wrong.contains(said), "{query}: {wrong}");
        assert_eq!(rows(&wrong), 0);
    }
    assert_eq!(visitor.page("/portal/t/acme/events").matches("data-label=\"Size\"").count(), 50);
}

#[test]
fn many_are_counted_confirmed_and_replayed() {
    let house = House::open(&FAST);
    let key = house.tenant("acme");
    let receiver = Receiver::start(|_| Answer::Status(500));
    let webhook = house.gateway.webhook("acme", &format!("http://{}/hook", receiver.addr));
    for nth in 0..3 {
        house.gateway.event("acme", &payload("message.failed", &format!("msg_{nth}")));
    }
    ended(&house, 3);
    let mut visitor = house.logged_in(&key);
    let blank =
        visitor.page(&format!("/portal/t/acme/replays/new?webhook={webhook}&status=failed"));
    assert!(blank.contains(&format!("value=\"{webhook}\" selected")), "{blank}");
    let counting = visitor.post(
        "/portal/t/acme/replays",
        &[("webhook", &webhook), ("status", "failed"), ("since", "24h"), ("do", "count")],
    );
    let job = counting.header("location").expect("its page").to_owned();
    let page = eventually("it has counted", SOON, || {
        let page = visitor.page(&job);
        page.contains("Send 3 again").then_some(page)
    });
    let value = |name: &str| {
        let before = format!("name=\"{name}\" value=\"");
        between(&page, &before, "\"").to_owned()
    };
    let fields: Vec<_> = ["webhook", "status", "event_type", "since", "until"]
        .map(|name| (name, value(name)))
        .into();
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain([("do", "send")])
        .collect();
    assert!(visitor.submit("/portal/t/acme/replays", &fields).contains("The replay has begun"));
    eventually("three more attempts were made", SOON, || {
        let rows = ended(&house, 3);
        rows.iter().all(|row| row["attempts_made"] == 4).then_some(())
    });
    assert!(visitor.page("/portal/t/acme/replays").contains("count of failed"));
    let ended = visitor.post(&format!("{}/cancel", job.split('?').next().expect("a path")), &[]);
    assert_eq!(ended.status, 409);
    let nonsense = visitor.post("/portal/t/acme/replays", &[("since", "soon"), ("do", "send")]);
    assert_eq!(nonsense.status, 400);
}

#[test]
fn keys_and_the_secret_are_shown_where_somebody_asks() {
    let house = House::open(&FAST);
    let key = house.tenant("acme");
    let mut visitor = house.logged_in(&key);
    assert!(!visitor.page("/portal/t/acme/keys").contains("whsec_"));
    let made = text(&visitor.post("/portal/t/acme/keys", &[]));
    let new = between(&made, "id=\"new-key\">", "<").to_owned();
    assert!(new.starts_with("szk_tenant_"), "{made}");
    assert!(!visitor.page("/portal/t/acme/keys").contains(&new), "shown once");
    house.logged_in(&new).page("/portal/t/acme/");
    let id = between(&made, "<p class=\"mute\"><code>", "<").to_owned();
    let revoked = visitor.submit(&format!("/portal/t/acme/keys/{id}/revoke"), &[]);
    assert!(revoked.contains("The key is revoked"));
    assert_eq!(house.visitor().post("/portal/login", &[("key", &new)]).status, 403);

    let shown = text(&visitor.post("/portal/t/acme/secret", &[]));
    let before = between(&shown, "id=\"the-secret\">", "<").to_owned();
    let rotated = text(&visitor.post("/portal/t/acme/secret/rotate", &[("overlap", "1h")]));
    assert_ne!(between(&rotated, "id=\"the-secret\">", "<"), before);
    assert!(rotated.contains(&before), "it signs for an hour");
    assert!(visitor.page("/portal/t/acme/keys").contains("An older secret signs as well"));
    let wrong = visitor.post("/portal/t/acme/secret/rotate", &[("overlap", "for ever")]);
    assert_eq!(wrong.status, 400);
}

#[test]
fn what_others_write_is_text_on_every_page() {
    let house = House::open(&FAST);
    let name = "\"><script>alert(1)</script>";
    let made =
        house.gateway.post("/v1/tenants", None, &serde_json::json!({"id": "acme", "name": name}));
    let mut visitor = house.logged_in(made["api_key"].as_str().expect("a key"));
    let receiver = Receiver::start(|_| Answer::Status(500));
    let url = format!("http://{}/'%22%3E%3Cimg", receiver.addr);
    let webhook = serde_json::json!({
        "url": url, "events": ["*"], "description": "</textarea><img src=x onerror=alert(1)>",
        "headers": {"X-A": "\"><svg onload=alert(1)>"},
    });
    let webhook = house.gateway.post("/v1/webhooks", Some("acme"), &webhook);
    let hostile = payload("message.failed", "</pre><script>alert(2)</script>");
    let event = house.gateway.event("acme", &hostile);
    let row = ended(&house, 1).remove(0);
    let mut operator = house.logged_in(OPERATOR_KEY);
    let pages = [
        "/".to_owned(),
        "/deliveries?q=%22%3E%3Cscript%3Ealert(3)%3C/script%3E:x".to_owned(),
        format!("/deliveries/{}", id(&row)),
        "/webhooks".to_owned(),
        format!("/webhooks/{}", id(&webhook)),
        format!("/events/{event}"),
        "/live?webhook=%3Cscript%3E".to_owned(),
        "/replays/new?since=%22%3E%3Cscript%3Ealert(4)%3C/script%3E".to_owned(),
    ];
    for page in pages.iter().map(|page| format!("/portal/t/acme{page}")) {
        let shown = visitor.page(&page);
        for tag in ["<script>alert", "<img src=x", "<svg onload", "</textarea><img"] {
            assert!(!shown.contains(tag), "{page} has {tag}");
        }
        assert!(shown.contains("&#60;") || shown.contains("&lt;"), "{page} shows it as text");
    }
    assert!(!operator.page("/portal/tenants").contains("<script>alert"));
}

#[test]
fn the_operator_sees_the_gateway() {
    let house = House::open(&FAST);
    house.tenant("acme");
    let mut operator = house.logged_in(OPERATOR_KEY);
    let front = operator.get("/portal/");
    assert_eq!(front.header("location"), Some("/portal/tenants"));
    let made = text(&operator.post("/portal/tenants", &[("id", "bolt"), ("name", "Bolt & Co")]));
    assert!(made.contains("szk_tenant_") && made.contains("whsec_"), "{made}");
    assert!(operator.page("/portal/t/bolt/").contains("Bolt &#38; Co"));
    let taken = operator.post("/portal/tenants", &[("id", "bolt")]);
    assert_eq!(taken.status, 409);
    let system = operator.page("/portal/system");
    for part in ["The gateway is ready", "senderz_store_bytes", "[portal]"] {
        assert!(system.contains(part), "{part} in {system}");
    }
    assert!(!system.contains(OPERATOR_KEY), "no key is shown");
}
