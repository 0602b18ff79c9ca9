//! What comes from elsewhere, under another name, or for somebody else's objects.

use serde_json::json;

use crate::{
    support::{gateway::OPERATOR_KEY, payload},
    visitor::{House, ORIGIN, Visitor, text},
};

/// Every form of the portal, with ids of nothing.
const FORMS: [&str; 20] = [
    "/portal/login",
    "/portal/logout",
    "/portal/link",
    "/portal/tenants",
    "/portal/t/acme/deliveries/replay",
    "/portal/t/acme/deliveries/dlv_x/replay",
    "/portal/t/acme/deliveries/dlv_x/cancel",
    "/portal/t/acme/webhooks/new",
    "/portal/t/acme/webhooks/wh_x",
    "/portal/t/acme/webhooks/wh_x/test",
    "/portal/t/acme/webhooks/wh_x/delete",
    "/portal/t/acme/verify",
    "/portal/t/acme/keys",
    "/portal/t/acme/keys/key_x/revoke",
    "/portal/t/acme/secret",
    "/portal/t/acme/secret/rotate",
    "/portal/t/acme/replays",
    "/portal/t/acme/replays/rpl_x/pause",
    "/portal/t/acme/replays/rpl_x/cancel",
    "/portal/t/acme/link",
];

#[test]
fn what_changes_something_comes_from_our_own_page() {
    let house = House::open(&[]);
    house.tenant("acme");
    let mut visitor = house.logged_in(OPERATOR_KEY);
    let elsewhere: [&[(&str, &str)]; 9] = [
        &[],
        &[("origin", "null")],
        &[("origin", "http://evil.example")],
        &[("origin", "http://127.0.0.1:8081")],
        &[("origin", "http://127.0.0.1")],
        &[("origin", "http://127.0.0.1:8080.evil.example")],
        &[("origin", ORIGIN), ("origin", "http://evil.example")],
        &[("origin", ORIGIN), ("sec-fetch-site", "cross-site")],
        &[("origin", ORIGIN), ("sec-fetch-site", "same-site")],
    ];
    for path in FORMS {
        for headers in elsewhere {
            let refused = visitor.post_from(path, &[("id", "made-by-another-site")], headers);
            assert_eq!(refused.status, 403, "{path} {headers:?}");
            assert!(text(&refused).contains("does not come from a page of the portal"), "{path}");
        }
    }
    visitor.page("/portal/tenants");
    let tenants = house.gateway.ask("GET", "/v1/tenants", None, b"").json();
    assert_eq!(tenants["data"].as_array().map(Vec::len), Some(1), "nothing was made");
    let ours = [("origin", ORIGIN), ("sec-fetch-site", "same-origin")];
    let made = visitor.post_from("/portal/tenants", &[("id", "bolt")], &ours);
    assert_eq!(made.status, 200, "{}", text(&made));
}

#[test]
fn only_forms_change_something() {
    let house = House::open(&[]);
    house.tenant("acme");
    let mut visitor = house.logged_in(OPERATOR_KEY);
    for kind in ["application/json", "text/plain", "multipart/form-data; boundary=x"] {
        let headers = [("origin", ORIGIN), ("content-type", kind)];
        let refused = visitor.ask("POST", "/portal/tenants", &headers, b"id=bolt");
        assert_eq!(refused.status, 415, "{kind}");
    }
    for path in FORMS {
        let shown = visitor.get(path).status;
        assert!(![201, 202, 204].contains(&shown), "{path}: looking does nothing");
    }
    assert_eq!(house.gateway.ask("GET", "/v1/tenants/bolt", None, b"").status, 404);
}

#[test]
fn other_names_for_this_machine_show_nothing() {
    let house = House::open(&[
        ("SENDERZ_PORTAL__URL", "https://hooks.example.com"),
        ("SENDERZ_PORTAL__HOSTS", "hooks.internal"),
    ]);
    let mut visitor = house.visitor();
    for (host, status) in [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST:9", 200),
        ("[::1]:8080", 200),
        ("192.0.2.7", 200),
        ("hooks.example.com", 200),
        ("hooks.internal:8443", 200),
        ("evil.example", 421),
        ("hooks.example.com.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("x@127.0.0.1", 421),
    ] {
        let shown = visitor.ask("GET", "/portal/login", &[("host", host)], b"");
        assert_eq!(shown.status, status, "{host}");
        assert_eq!(text(&shown).contains("API key"), status == 200, "{host}");
    }
}

fn has_its_policy(visitor: &mut Visitor, path: &str) {
    let shown = visitor.get(path);
    let policy = shown.header("content-security-policy").unwrap_or_default();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{path}: {part} in {policy:?}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(shown.header(name), Some(value), "{path}");
    }
    let is_asset = path.contains("/static/") && shown.status == 200;
    let cache = shown.header("cache-control").unwrap_or_default();
    assert_eq!(cache == "no-store", !is_asset, "{path}: {cache}");
    let page = text(&shown);
    if shown.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        for inline in ["<style", " style=", " onclick=", "javascript:", "<script>"] {
            assert!(!page.contains(inline), "{path} has {inline}");
        }
    }
}

#[test]
fn every_answer_has_the_policy_and_nothing_is_inline() {
    let house = House::open(&[]);
    house.tenant("acme");
    let hook = house.gateway.webhook("acme", "http://127.0.0.1:9/hook");
    let event = house.gateway.event("acme", &payload("message.sent", "msg_1"));
    let deliveries = house.gateway.get("/v1/deliveries", "acme");
    let delivery = deliveries["data"][0]["id"].as_str().expect("an id").to_owned();
    let mut visitor = house.logged_in(OPERATOR_KEY);
    let front = visitor.page("/portal/tenants");
    let at = front.find("/portal/static/").expect("assets");
    let version = front[at..].split('/').nth(3).expect("a version").to_owned();
    let of = |page: &str| format!("/portal/t/acme{page}");
    let mut paths: Vec<String> = ["portal.css", "portal.js", "icon.svg", "other.js"]
        .map(|name| format!("/portal/static/{version}/{name}"))
        .into();
    paths.extend(["/portal", "/portal/", "/portal/login", "/portal/tenants"].map(str::to_owned));
    paths.extend(["/portal/system", "/portal/nothing", "/portal/link/x"].map(str::to_owned));
    paths.extend(
        ["/", "/deliveries", "/webhooks", "/webhooks/new", "/events", "/live", "/verify", "/keys"]
            .map(of),
    );
    paths.extend(["/replays", "/replays/new", "/deliveries/nothing", "/no"].map(of));
    paths.push(of(&format!("/webhooks/{hook}")));
    paths.push(of(&format!("/events/{event}")));
    paths.push(of(&format!("/deliveries/{delivery}")));
    for path in paths {
        has_its_policy(&mut visitor, &path);
    }
}

#[test]
fn pages_that_may_be_framed_say_by_whom() {
    let house = House::open(&[("SENDERZ_PORTAL__FRAME_ANCESTORS", "https://app.example.com")]);
    let shown = house.visitor().get("/portal/login");
    let policy = shown.header("content-security-policy").expect("a policy");
    assert!(policy.contains("frame-ancestors https://app.example.com;"), "{policy}");
    assert_eq!(shown.header("x-frame-options"), None, "it knows no hosts");
}

/// Whatever is asked of another tenant's is answered as what is not there at all.
#[test]
fn another_tenants_objects_do_not_exist() {
    let house = House::open(&[]);
    let key = house.tenant("acme");
    house.tenant("bolt");
    let hook = house.gateway.webhook("bolt", "http://127.0.0.1:9/hook");
    let event = house.gateway.event("bolt", &payload("message.sent", "msg_1"));
    let deliveries = house.gateway.get("/v1/deliveries", "bolt");
    let delivery = deliveries["data"][0]["id"].as_str().expect("an id").to_owned();
    let keys = house.gateway.get("/v1/keys", "bolt");
    let their_key = keys["data"][0]["id"].as_str().expect("an id").to_owned();
    let job = house.gateway.post("/v1/replays", Some("bolt"), &json!({"dry_run": true}));
    let job = job["id"].as_str().expect("an id").to_owned();
    let mut visitor = house.logged_in(&key);

    let nothing = text(&visitor.get("/portal/t/nobody/deliveries"));
    for page in ["/", "/deliveries", "/webhooks", "/events", "/live", "/keys", "/stream"] {
        let answer = visitor.get(&format!("/portal/t/bolt{page}"));
        assert_eq!((answer.status, text(&answer)), (404, nothing.clone()), "{page}");
    }
    for (theirs, missing) in [
        (format!("/webhooks/{hook}"), "/webhooks/wh_00000000000000000000000000"),
        (format!("/events/{event}"), "/events/evt_0"),
        (format!("/deliveries/{delivery}"), "/deliveries/dlv_0"),
        (format!("/replays/{job}"), "/replays/rpl_00000000000000000000000000"),
    ] {
        let own = |path: &str| format!("/portal/t/acme{path}");
        let (found, none) = (visitor.get(&own(&theirs)), visitor.get(&own(missing)));
        assert_eq!(found.status, 404, "{theirs}");
        assert_eq!(text(&found), text(&none), "{theirs}");
        let through = visitor.get(&format!("/portal/t/bolt{theirs}"));
        assert_eq!(through.status, 404, "{theirs}");
    }
    for form in [
        format!("/deliveries/{delivery}/replay"),
        format!("/deliveries/{delivery}/cancel"),
        format!("/webhooks/{hook}/delete"),
        format!("/webhooks/{hook}"),
        format!("/keys/{their_key}/revoke"),
        format!("/replays/{job}/cancel"),
    ] {
        for tenant in ["acme", "bolt"] {
            let path = format!("/portal/t/{tenant}{form}");
            let refused = visitor.post(&path, &[("url", "https://evil.example/")]);
            assert_eq!(refused.status, 404, "{path}: {}", text(&refused));
        }
    }
    let webhook = house.gateway.get(&format!("/v1/webhooks/{hook}"), "bolt");
    assert_eq!(webhook["url"], "http://127.0.0.1:9/hook", "nothing was changed");
    assert_eq!(house.gateway.get("/v1/keys", "bolt")["data"][0]["id"], their_key.as_str());
    for page in ["/portal/tenants", "/portal/system"] {
        assert_eq!(visitor.get(page).status, 404, "{page}");
    }
}

/// An address that tries to be more than a part of a path.
#[test]
fn ids_lead_nowhere_else() {
    let house = House::open(&[]);
    let key = house.tenant("acme");
    let mut visitor = house.logged_in(&key);
    for id in [
        "..%2F..%2Fv1%2Ftenants",
        "%2e%2e",
        "x%3Fdry_run%3Dtrue",
        "%00",
        "%0d%0aHost:x",
        "a%20b",
        "%E2%80%AE",
    ] {
        for page in ["deliveries", "webhooks", "events", "replays"] {
            let answer = visitor.get(&format!("/portal/t/acme/{page}/{id}"));
            assert_eq!(answer.status, 404, "{page}/{id}: {}", text(&answer));
        }
    }
}
