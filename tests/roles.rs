//! Every route of the running gateway, asked by everybody: with the status that each of them is to
//! get. The routes are those of the served OpenAPI document, so that one that is added needs a line
//! here before anything passes.

mod support;

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    payload,
    receiver::{Answer, Receiver},
};

/// Who may call a route, in the words of the published interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Anyone,
    Operator,
    /// A tenant for itself; the operator has to say for whom.
    Tenant,
    /// A tenant for itself; the operator with and without a tenant.
    TenantOrOperator,
    /// As above; the body says for whom the key is.
    KeyMaker,
    /// The tenant is in the path.
    SenderTo,
    /// The tenants are in the lines.
    Sender,
}

/// What the `{id}` of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    None,
    Tenant,
    Key,
    Webhook,
    Event,
    /// A delivery that has ended.
    Ended,
    /// A delivery that waits for a retry.
    Waiting,
    /// A replay of many that takes ten seconds.
    Replay,
    Erasure,
    Backup,
}

struct Line {
    method: &'static str,
    path: &'static str,
    who: Who,
    object: Object,
    /// For whoever may.
    success: u16,
    body: fn(&Owner) -> Value,
}

fn nothing(_: &Owner) -> Value {
    Value::Null
}

const fn line(
    method: &'static str,
    path: &'static str,
    who: Who,
    object: Object,
    success: u16,
    body: fn(&Owner) -> Value,
) -> Line {
    Line { method, path, who, object, success, body }
}

const ROUTES: [Line; 41] = [
    line("GET", "/openapi.json", Who::Anyone, Object::None, 200, nothing),
    line(
        "POST",
        "/v1/tenants",
        Who::Operator,
        Object::None,
        201,
        |owner| json!({"id": format!("{}-made", owner.id)}),
    ),
    line("GET", "/v1/tenants", Who::Operator, Object::None, 200, nothing),
    line("GET", "/v1/tenants/{id}", Who::Operator, Object::Tenant, 200, nothing),
    line("DELETE", "/v1/tenants/{id}", Who::Operator, Object::Tenant, 204, nothing),
    line(
        "POST",
        "/v1/keys",
        Who::KeyMaker,
        Object::None,
        201,
        |owner| json!({"kind": "tenant", "tenant": owner.id}),
    ),
    line("GET", "/v1/keys", Who::TenantOrOperator, Object::None, 200, nothing),
    line("DELETE", "/v1/keys/{id}", Who::TenantOrOperator, Object::Key, 204, nothing),
    line("GET", "/v1/signing-secret", Who::Tenant, Object::None, 200, nothing),
    line(
        "POST",
        "/v1/signing-secret/rotate",
        Who::Tenant,
        Object::None,
        200,
        |_| json!({"overlap": "0s"}),
    ),
    line(
        "POST",
        "/v1/webhooks",
        Who::Tenant,
        Object::None,
        201,
        |owner| json!({"url": owner.url, "events": ["message.read"]}),
    ),
    line("GET", "/v1/webhooks", Who::Tenant, Object::None, 200, nothing),
    line("GET", "/v1/webhooks/{id}", Who::Tenant, Object::Webhook, 200, nothing),
    line(
        "PATCH",
        "/v1/webhooks/{id}",
        Who::Tenant,
        Object::Webhook,
        200,
        |_| json!({"description": "changed"}),
    ),
    line("DELETE", "/v1/webhooks/{id}", Who::Tenant, Object::Webhook, 204, nothing),
    line(
        "POST",
        "/v1/webhooks/{id}/test",
        Who::Tenant,
        Object::Webhook,
        202,
        |_| json!({"type": "message.sent"}),
    ),
    line("GET", "/v1/webhooks/{id}/stats", Who::Tenant, Object::Webhook, 200, nothing),
    line("GET", "/v1/stats", Who::TenantOrOperator, Object::None, 200, nothing),
    line("GET", "/v1/events", Who::Tenant, Object::None, 200, nothing),
    line("POST", "/v1/events", Who::Sender, Object::None, 202, |owner| {
        let payload: Value = serde_json::from_str(&payload("message.blocked", "m")).expect("JSON");
        json!({"tenant": owner.id, "payload": payload})
    }),
    line("GET", "/v1/events/{id}", Who::Tenant, Object::Event, 200, nothing),
    line("DELETE", "/v1/events", Who::Tenant, Object::None, 202, nothing),
    line("GET", "/v1/erasures", Who::Tenant, Object::None, 200, nothing),
    line("GET", "/v1/erasures/{id}", Who::Tenant, Object::Erasure, 200, nothing),
    line("POST", "/v1/backups", Who::Operator, Object::None, 202, |_| json!({})),
    line("GET", "/v1/backups", Who::Operator, Object::None, 200, nothing),
    line("GET", "/v1/backups/{id}", Who::Operator, Object::Backup, 200, nothing),
    line("POST", "/v1/tenants/{tenant}/events", Who::SenderTo, Object::Tenant, 202, |_| {
        serde_json::from_str(&payload("message.blocked", "m")).expect("JSON")
    }),
    line("GET", "/v1/audit", Who::TenantOrOperator, Object::None, 200, nothing),
    line("GET", "/v1/deliveries", Who::Tenant, Object::None, 200, nothing),
    line("GET", "/v1/deliveries/{id}", Who::Tenant, Object::Ended, 200, nothing),
    line("POST", "/v1/deliveries/{id}/replay", Who::Tenant, Object::Ended, 202, nothing),
    line("POST", "/v1/deliveries/{id}/cancel", Who::Tenant, Object::Waiting, 202, nothing),
    line("POST", "/v1/replays", Who::Tenant, Object::None, 202, |_| json!({"dry_run": true})),
    line("GET", "/v1/replays", Who::Tenant, Object::None, 200, nothing),
    line("GET", "/v1/replays/{id}", Who::Tenant, Object::Replay, 200, nothing),
    line("POST", "/v1/replays/{id}/pause", Who::Tenant, Object::Replay, 200, nothing),
    line("POST", "/v1/replays/{id}/resume", Who::Tenant, Object::Replay, 200, nothing),
    line("POST", "/v1/replays/{id}/cancel", Who::Tenant, Object::Replay, 200, nothing),
    line("GET", "/v1/stream", Who::TenantOrOperator, Object::None, 200, nothing),
    line("POST", "/v1/portal/sessions", Who::Tenant, Object::None, 201, nothing),
];

/// Who asks, and for whose object.
const CALLERS: [&str; 8] = [
    "nobody",
    "a garbage key",
    "the operator",
    "the operator acting for the owner",
    "a producer",
    "the owner",
    "another tenant",
    "another tenant that names the owner",
];

/// The statuses in the order of [`CALLERS`].
fn expected(line: &Line) -> [u16; 8] {
    let ok = line.success;
    // A tenant without a right to the object learns no more than of a missing one; where the route
    // has no object it sees its own.
    let foreign = if line.object == Object::None { ok } else { 404 };
    match line.who {
        Who::Anyone => [ok; 8],
        Who::Operator => [401, 401, ok, ok, 403, 403, 403, 403],
        Who::Tenant => [401, 401, 400, ok, 403, ok, foreign, 403],
        Who::TenantOrOperator => [401, 401, ok, ok, 403, ok, foreign, 403],
        Who::KeyMaker => [401, 401, ok, ok, 403, ok, 403, 403],
        Who::SenderTo => [401, 401, ok, ok, ok, ok, 404, 404],
        Who::Sender => [401, 401, ok, ok, ok, ok, 400, 400],
    }
}

struct Owner {
    id: String,
    key: String,
    url: String,
}

struct Stage {
    gateway: Gateway,
    good: Receiver,
    bad: Receiver,
    producer: String,
}

impl Stage {
    fn tenant(&self, id: &str) -> Owner {
        let made = self.gateway.post("/v1/tenants", None, &json!({"id": id}));
        let key = made["api_key"].as_str().expect("shown once").to_owned();
        Owner { id: id.to_owned(), key, url: self.good.url() }
    }

    /// A fresh object of the owner's: its id.
    fn make(&self, object: Object, owner: &Owner) -> String {
        let webhook = |receiver: &Receiver| {
            let body = json!({"url": receiver.url(), "events": ["message.sent"]});
            let made = self.gateway.post("/v1/webhooks", Some(&owner.id), &body);
            made["id"].as_str().expect("an id").to_owned()
        };
        let delivery = |receiver: &Receiver, status: &str| {
            let webhook = webhook(receiver);
            self.gateway.event(&owner.id, &payload("message.sent", "m"));
            let path = format!("/v1/deliveries?webhook={webhook}&status={status}");
            let found = eventually("its first attempt", Duration::from_secs(20), || {
                self.gateway.get(&path, &owner.id)["data"][0]["id"].as_str().map(str::to_owned)
            });
            // The next one's event goes to its own webhook only.
            let path = format!("/v1/webhooks/{webhook}");
            let body = br#"{"events":["message.read"]}"#;
            assert_eq!(self.gateway.ask("PATCH", &path, Some(&owner.id), body).status, 200);
            found
        };
        match object {
            Object::None => String::new(),
            Object::Tenant => owner.id.clone(),
            Object::Key => {
                let body = json!({"kind": "tenant"});
                let made = self.gateway.post("/v1/keys", Some(&owner.id), &body);
                made["id"].as_str().expect("an id").to_owned()
            }
            Object::Webhook => webhook(&self.good),
            Object::Event => self.gateway.event(&owner.id, &payload("message.failed", "m")),
            Object::Ended => delivery(&self.good, "delivered"),
            Object::Waiting => delivery(&self.bad, "retrying"),
            Object::Erasure => {
                let tenant = Some(owner.id.as_str());
                let made = self.gateway.ask("DELETE", "/v1/events?recipient=x", tenant, b"");
                made.json()["id"].as_str().expect("an id").to_owned()
            }
            Object::Backup => {
                self.wait_for_backup();
                let made = self.gateway.post("/v1/backups", None, &json!({}));
                made["name"].as_str().expect("a name").to_owned()
            }
            Object::Replay => {
                let webhook = webhook(&self.good);
                let path = format!("/v1/webhooks/{webhook}");
                let enable = |enabled: bool| {
                    let body = json!({"enabled": enabled}).to_string();
                    let answer = self.gateway.ask("PATCH", &path, Some(&owner.id), body.as_bytes());
                    assert_eq!(answer.status, 200);
                };
                enable(false);
                for _ in 0..10 {
                    self.gateway.event(&owner.id, &payload("message.sent", "m"));
                }
                enable(true);
                let body = json!({"webhook": webhook, "status": ["missed"], "rate": 1});
                let made = self.gateway.post("/v1/replays", Some(&owner.id), &body);
                made["id"].as_str().expect("an id").to_owned()
            }
        }
    }

    /// One is made at a time.
    fn wait_for_backup(&self) {
        eventually("no backup is being made", Duration::from_secs(60), || {
            let list = self.gateway.ask("GET", "/v1/backups", None, b"").json();
            let last = &list["data"][0]["state"];
            (*last != "running").then_some(())
        });
    }

    fn ask(&self, line: &Line, owner: &Owner, key: Option<&str>, named: Option<&str>) -> u16 {
        let object = self.make(line.object, owner);
        let mut path = line.path.replace("{id}", &object).replace("{tenant}", &object);
        match (line.method, line.path) {
            ("DELETE", "/v1/events") => path.push_str("?recipient=nobody"),
            ("POST", "/v1/backups") => self.wait_for_backup(),
            _ => {}
        }
        let authorization = key.map(|key| format!("Bearer {key}"));
        let kind = match line.who {
            Who::Sender => "application/x-ndjson",
            _ => "application/json",
        };
        let mut headers = vec![("content-type", kind)];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        headers.extend(named.map(|tenant| ("senderz-tenant", tenant)));
        let body = match (line.body)(owner) {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        Connection::open(self.gateway.api)
            .and_then(|c| c.status(line.method, &path, &headers, body.as_bytes()))
            .expect("the gateway answers")
    }
}

#[test]
fn every_route_answers_everybody_as_published() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let good = Receiver::start(|_| Answer::Status(200));
    let bad = Receiver::start(|_| Answer::Status(500));
    let backups = dir.path().join("backups").display().to_string();
    let env = [("SENDERZ_RETRY__SCHEDULE", "1h"), ("SENDERZ_BACKUP__DIR", &backups)];
    let gateway = Gateway::start(&dir.path().join("data"), &env);
    let body = json!({"kind": "producer"});
    let producer = gateway.post("/v1/keys", None, &body)["api_key"].as_str().expect("text").into();
    let stage = Stage { gateway, good, bad, producer };

    let document = stage.gateway.ask("GET", "/openapi.json", None, b"").json();
    let served: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("an item").keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        })
        .filter(|(method, _)| ["GET", "POST", "PATCH", "DELETE", "PUT"].contains(&method.as_str()))
        .collect();
    let listed: BTreeSet<_> =
        ROUTES.iter().map(|l| (l.method.to_owned(), l.path.to_owned())).collect();
    assert_eq!(listed, served, "every route needs a line here");

    let other = stage.tenant("other");
    for (at, line) in ROUTES.iter().enumerate() {
        for (caller, expected) in CALLERS.iter().zip(expected(line)) {
            // A tenant that a call before may have deleted is no owner.
            let owner = stage.tenant(&format!("owner-{at}-{}", caller.replace(' ', "-")));
            let operator = Some(OPERATOR_KEY);
            let foreign = Some(other.key.as_str());
            let (key, named) = match *caller {
                "nobody" => (None, None),
                "a garbage key" => (Some("szk_tenant_garbage"), None),
                "the operator" => (operator, None),
                "the operator acting for the owner" => (operator, Some(owner.id.as_str())),
                "a producer" => (Some(stage.producer.as_str()), None),
                "the owner" => (Some(owner.key.as_str()), None),
                "another tenant" => (foreign, None),
                _ => (foreign, Some(owner.id.as_str())),
            };
            let found = stage.ask(line, &owner, key, named);
            assert_eq!(found, expected, "{} {}: {caller}", line.method, line.path);
        }
    }
}
