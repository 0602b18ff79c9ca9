//! Canaries: every kind of secret goes through the running gateway, and is then searched for
//! wherever it must not be: in the data directory, the logs at the level `debug`, the metrics, the
//! spans that are exported, and every answer that has no business to show it.

mod support;

use std::{fs::File, path::Path, time::Duration};

use serde_json::json;
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::{Connection, Response},
    payload,
    receiver::{Answer, Receiver},
};

/// 32 bytes in base64.
const ENCRYPTION_KEY: &str = "Y2FuYXJ5LUVOQ1JZUFRJT04ta2V5LTAxMjM0NTY3ODk=";
const HEADER_VALUE: &str = "Bearer canary-HEADER-value-7f3a";
const PATH: &str = "/canary-PATH-91c2";
const QUERY: &str = "canary-QUERY-55d0";
const IDEMPOTENCY_KEY: &str = "canary-IDEMPOTENCY-key-3b1d";
const COLLECTORS_KEY: &str = "canary-COLLECTOR-8e21";

/// What is searched for, each with a name to be told by.
struct Canaries(Vec<(&'static str, Vec<u8>)>);

impl Canaries {
    fn add(&mut self, name: &'static str, secret: &str) {
        self.0.push((name, secret.as_bytes().to_vec()));
    }

    /// The part of a key that is secret: its last 32 characters.
    fn add_key(&mut self, name: &'static str, key: &str) {
        self.add(name, &key[key.len() - 32..]);
    }

    /// The whole and what it encodes.
    fn add_secret(&mut self, name: &'static str, secret: &str) {
        self.add(name, &secret["whsec_".len()..]);
    }

    fn in_bytes(&self, bytes: &[u8]) -> Vec<&'static str> {
        let has = |canary: &[u8]| bytes.windows(canary.len()).any(|part| part == canary);
        self.0.iter().filter(|(_, canary)| has(canary)).map(|(name, _)| *name).collect()
    }

    /// The number of bytes searched; none of them is a canary's.
    #[track_caller]
    fn none_in(&self, place: &str, bytes: &[u8]) -> usize {
        let found = self.in_bytes(bytes);
        assert!(found.is_empty(), "{place} has {found:?}");
        bytes.len()
    }

    /// All files below a directory but the two that keep keys.
    fn none_in_files(&self, dir: &Path) -> usize {
        let mut searched = 0;
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                searched += self.none_in_files(&path);
            } else if !["operator.key", "encryption.key"].contains(&name) {
                let bytes = std::fs::read(&path).expect("readable");
                searched += self.none_in(&path.display().to_string(), &bytes);
            }
        }
        searched
    }
}

/// A request that is to be refused; its whole answer as bytes.
fn refused(gateway: &Gateway, method: &str, path: &str, key: &str, body: &str) -> Vec<u8> {
    let headers = [("authorization", key), ("content-type", "application/json")];
    let answer: Response = Connection::open(gateway.api)
        .and_then(|mut c| c.request(method, path, &headers, body.as_bytes()))
        .expect("the gateway answers");
    assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.status);
    let mut seen = format!("{:?}", answer.headers).into_bytes();
    seen.extend(answer.body);
    seen
}

/// What a request with an idempotency key is answered.
fn kept_answer(gateway: &Gateway, path: &str, body: &str) -> serde_json::Value {
    let key = format!("Bearer {OPERATOR_KEY}");
    let headers = [
        ("authorization", key.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", IDEMPOTENCY_KEY),
    ];
    let answer = Connection::open(gateway.api)
        .and_then(|mut c| c.request("POST", path, &headers, body.as_bytes()));
    answer.expect("the gateway answers").json()
}

/// Looks at a one-time link and uses it: the link's token, and the session's.
fn enter(gateway: &Gateway, url: &str) -> (String, String) {
    let path = &url[url.find("/portal/").expect("a link to the portal")..];
    let token = path.rsplit('/').next().expect("a token").to_owned();
    let host = gateway.api.to_string();
    let origin = format!("http://{host}");
    let headers = [
        ("host", host.as_str()),
        ("origin", origin.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let ask = |method, path: &str, body: String| {
        Connection::open(gateway.api)
            .and_then(|mut c| c.request(method, path, &headers, body.as_bytes()))
            .expect("the gateway answers")
    };
    assert_eq!(ask("GET", path, String::new()).status, 200);
    let entered = ask("POST", "/portal/link", format!("token={token}"));
    let cookie = entered.header("set-cookie").expect("a session");
    let pair = cookie.split(';').next().expect("a cookie");
    let session = pair.split_once('=').expect("a cookie").1.to_owned();
    let cookie = [("host", host.as_str()), ("cookie", pair)];
    let page = Connection::open(gateway.api)
        .and_then(|mut c| c.request("GET", "/portal/t/acme/", &cookie, b""));
    assert_eq!(page.expect("the gateway answers").status, 200);
    (token, session)
}

/// How many attempts an export tells of: each span has this name once.
fn attempts_in(export: &[u8]) -> usize {
    let name = b"senderz.attempt.number";
    export.windows(name.len()).filter(|part| part == name).count()
}

fn metrics(gateway: &Gateway) -> Vec<u8> {
    let asked =
        Connection::open(gateway.ops).and_then(|mut c| c.request("GET", "/metrics", &[], b""));
    asked.expect("metrics answer").body
}

#[test]
fn no_secret_is_found_where_none_may_be() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (data_dir, log) = (dir.path().join("data"), dir.path().join("log"));
    let collector = Receiver::start(|_| Answer::Status(200));
    let endpoint = format!("http://{}/v1/traces", collector.addr);
    let header = format!("x-key: {COLLECTORS_KEY}");
    let env = [
        ("SENDERZ_LOG__LEVEL", "debug"),
        ("SENDERZ_ENCRYPTION_KEY", ENCRYPTION_KEY),
        ("SENDERZ_TRACING__ENDPOINT", &*endpoint),
        ("SENDERZ_TRACING_HEADERS", &*header),
    ];
    let start = || {
        let mut command = Gateway::command(&data_dir, &env);
        let file = File::options().create(true).append(true).open(&log).expect("ours");
        command.stderr(file);
        let gateway = Gateway::run(command).expect("it starts");
        gateway.wait_ready();
        gateway
    };
    let receiver =
        Receiver::start(|request| Answer::Status(if request.path == "/no" { 500 } else { 200 }));
    let mut canaries = Canaries(Vec::new());
    canaries.add("the operator's key", &OPERATOR_KEY["szk_operator_".len()..]);
    canaries.add("the encryption key", ENCRYPTION_KEY);
    canaries.add("the encryption key's bytes", "canary-ENCRYPTION-key-0123456789");
    canaries.add("a header's value", HEADER_VALUE);
    canaries.add("a URL's path", PATH);
    canaries.add("a URL's query", QUERY);

    let gateway = start();
    let made = gateway.post("/v1/tenants", None, &json!({"id": "acme"}));
    let text = |value: &serde_json::Value| value.as_str().expect("shown once").to_owned();
    let tenant_key = text(&made["api_key"]);
    canaries.add_key("a tenant's key", &tenant_key);
    canaries.add_secret("the first signing secret", &text(&made["signing_secret"]));
    let rotated =
        gateway.post("/v1/signing-secret/rotate", Some("acme"), &json!({"overlap": "1h"}));
    canaries.add_secret("the rotated signing secret", &text(&rotated["secret"]));
    let producer = gateway.post("/v1/keys", None, &json!({"kind": "producer"}));
    canaries.add_key("a producer's key", &text(&producer["api_key"]));
    // An answer that is kept, so that a repetition gets it: on disk, sealed.
    let kept = || kept_answer(&gateway, "/v1/keys", r#"{"kind":"producer"}"#);
    let key = text(&kept()["api_key"]);
    assert_eq!(key, text(&kept()["api_key"]), "it was kept");
    canaries.add_key("a key in a kept answer", &key);
    canaries.add("an idempotency key", IDEMPOTENCY_KEY);
    let link = gateway.post("/v1/portal/sessions", Some("acme"), &json!({}));
    let (token, session) = enter(&gateway, &text(&link["url"]));
    canaries.add("a link's token", &token);
    canaries.add("a session", &session);

    for path in [format!("{PATH}?token={QUERY}"), "/no".to_owned()] {
        let url = format!("http://{}{path}", receiver.addr);
        let body = json!({"url": url, "events": ["*"], "headers": {"X-Token": HEADER_VALUE}});
        gateway.post("/v1/webhooks", Some("acme"), &body);
    }
    // A receiver that nobody is at, and one that the guard refuses.
    for url in [format!("http://127.0.0.1:1{PATH}"), format!("https://{QUERY}.invalid{PATH}")] {
        let body = json!({"url": url, "events": ["*"], "headers": {"X-Token": HEADER_VALUE}});
        gateway.post("/v1/webhooks", Some("acme"), &body);
    }
    gateway.event("acme", &payload("message.sent", "m"));
    eventually("both receivers were asked", Duration::from_secs(20), || {
        (receiver.requests().len() >= 2).then_some(())
    });
    // The canaries are alive: what was sent carries them.
    let sent = receiver.requests();
    assert!(sent.iter().all(|request| request.header("x-token") == HEADER_VALUE));
    assert!(sent.iter().any(|request| request.path.contains(PATH)));
    eventually("every webhook was tried", Duration::from_secs(20), || {
        let page = gateway.get("/v1/deliveries?status=retrying,delivered", "acme");
        (page["data"].as_array().expect("a list").len() == 4).then_some(())
    });

    canaries.add("the collector's key", COLLECTORS_KEY);
    let mut searched = canaries.none_in("/metrics", &metrics(&gateway));
    let exports =
        eventually("the spans of all four were exported", Duration::from_secs(20), || {
            let exports = collector.requests();
            let spans = exports.iter().map(|export| attempts_in(&export.body)).sum::<usize>();
            (spans >= 4).then_some(exports)
        });
    assert!(exports.iter().all(|export| export.header("x-key") == COLLECTORS_KEY));
    // As bytes: whatever field of a span a word stands in, it stands there as it is.
    searched +=
        exports.iter().map(|export| canaries.none_in("a span", &export.body)).sum::<usize>();
    let bearer = format!("Bearer {tenant_key}");
    let webhook = |header: &str| format!(r#"{{"url":"x","events":["*"],"headers":{{{header}}}}}"#);
    for (method, path, key, body) in [
        ("GET", "/v1/webhooks".to_owned(), format!("{bearer}x"), String::new()),
        ("GET", "/v1/webhooks".to_owned(), tenant_key.clone(), String::new()),
        ("GET", format!("/v1/webhooks?key={tenant_key}"), bearer.clone(), String::new()),
        ("GET", "/v1/tenants".to_owned(), bearer.clone(), String::new()),
        ("POST", "/v1/webhooks".to_owned(), bearer.clone(), format!("{{\"{HEADER_VALUE}\":")),
        ("POST", "/v1/webhooks".to_owned(), bearer.clone(), {
            webhook(&format!(r#""X-Token":"{HEADER_VALUE}\u0001""#))
        }),
        ("POST", "/v1/webhooks".to_owned(), bearer.clone(), {
            webhook(&format!(r#""X-Token":" {HEADER_VALUE}""#))
        }),
        ("POST", "/v1/webhooks".to_owned(), bearer.clone(), {
            webhook(&format!(r#""Host":"{HEADER_VALUE}""#))
        }),
        ("POST", "/v1/keys".to_owned(), bearer.clone(), {
            format!(r#"{{"kind":"operator","tenant":"{OPERATOR_KEY}"}}"#)
        }),
    ] {
        let answer = refused(&gateway, method, &path, &key, &body);
        searched += canaries.none_in(&format!("the refusal of {method} {path}"), &answer);
    }
    for path in ["/v1/tenants", "/v1/keys", "/v1/events", "/v1/deliveries"] {
        let answer = gateway.ask("GET", path, (path > "/v1/d").then_some("acme"), b"");
        let known = canaries.in_bytes(&answer.body);
        assert!(known.is_empty(), "{path} has {known:?}");
    }

    // Killed, so that nothing is tidied up; and once more over what recovery rewrote.
    gateway.kill();
    searched += canaries.none_in_files(&data_dir);
    let gateway = start();
    // The search finds what is there: the owner is still shown the URL and the header's name.
    let webhooks = gateway.ask("GET", "/v1/webhooks", Some("acme"), b"").body;
    assert!(canaries.in_bytes(&webhooks).contains(&"a URL's path"));
    assert_eq!(gateway.stop(), 0);
    searched += canaries.none_in_files(&data_dir);

    let log = std::fs::read(&log).expect("it logged");
    assert!(log.windows(5).any(|part| part == b"DEBUG"), "it logged at the level debug");
    searched += canaries.none_in("the log", &log);
    println!("{} canaries, {searched} bytes, 0 hits", canaries.0.len());
}

#[test]
fn a_start_that_refuses_a_key_does_not_print_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    for (name, value) in [
        ("SENDERZ_ENCRYPTION_KEY", "canary-not-a-key"),
        ("SENDERZ_OPERATOR_KEY", "szk_operator_canary with a space 0123456789"),
    ] {
        let mut command = Gateway::command(dir.path(), &[(name, value)]);
        let output = command.output().expect("the binary was built with the tests");
        assert_eq!(output.status.code(), Some(78));
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(name) && !told.contains("canary"), "{told}");
    }
}
