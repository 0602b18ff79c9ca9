//! One person's events are forgotten while the gateway runs, over a SIGKILL half-way: nothing of them
//! is left in any file, everything else is as it was.

mod support;

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    receiver::{Answer, Receiver},
};

const BATCHES: usize = 40;
/// Half of them about each of two people.
const LINES: usize = 100;
const FORGOTTEN: &str = "+15557770001";
const OTHER: &str = "+15557770002";
/// Stands in everything that was said to the first.
const CANARY: &str = "canary-4711-";
/// Of a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

fn payload(recipient: &str, number: usize) -> Value {
    let text = if recipient == FORGOTTEN { CANARY } else { "something else" };
    let data = json!({
        "id": format!("msg_{number}"), "channel": "sms", "recipient": recipient,
        "text": format!("{text}{number} {}", "x".repeat(200)),
    });
    json!({"type": "message.sent", "timestamp": "2026-11-23T04:20:00.123Z", "data": data})
}

/// Sends a batch; gives the ids of its events.
fn send(gateway: &Gateway, batch: usize) -> Vec<String> {
    let line = |n: usize| {
        let number = batch * LINES + n;
        let recipient = [FORGOTTEN, OTHER][n % 2];
        let payload = payload(recipient, number);
        json!({"tenant": "acme", "idempotency_key": format!("k{number}"), "payload": payload})
    };
    let body: String = (0..LINES).map(|n| format!("{}\n", line(n))).collect();
    let key = format!("Bearer {OPERATOR_KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", "application/x-ndjson")];
    let mut connection = Connection::open(gateway.api).expect("it listens");
    let answer = connection.request("POST", "/v1/events", &headers, body.as_bytes());
    let answer = answer.expect("it answers");
    assert_eq!(answer.status, 202);
    let ids = answer.json()["ids"].as_array().expect("ids").clone();
    ids.iter().map(|id| id.as_str().expect("text").to_owned()).collect()
}

/// In which files something stands that must not.
fn found(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir).expect("a directory").map(|file| file.expect("a file")) {
        if file.file_type().expect("its type").is_dir() {
            found.extend(self::found(&file.path()));
            continue;
        }
        let bytes = fs::read(file.path()).expect("readable");
        let holds = |text: &str| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
        if holds(CANARY) || holds(FORGOTTEN) {
            found.push(file.path().display().to_string());
        }
    }
    found
}

fn erase(gateway: &Gateway, key: Option<&str>) -> (Value, bool) {
    let authorization = format!("Bearer {OPERATOR_KEY}");
    let mut headers = vec![("authorization", authorization.as_str()), ("senderz-tenant", "acme")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let path = "/v1/events?recipient=%2B15557770001";
    let mut connection = Connection::open(gateway.api).expect("it listens");
    let answer = connection.request("DELETE", path, &headers, b"").expect("it answers");
    assert_eq!(answer.status, 202, "{}", answer.json());
    let location = format!("/v1/erasures/{}", answer.json()["id"].as_str().expect("an id"));
    assert_eq!(answer.header("location"), Some(location.as_str()));
    (answer.json(), answer.header("idempotent-replayed").is_some())
}

fn done(gateway: &Gateway, job: &Value) -> Value {
    let path = format!("/v1/erasures/{}", job["id"].as_str().expect("an id"));
    eventually("the erasure is done", LIMIT, || {
        let job = gateway.get(&path, "acme");
        (job["state"] == "done").then_some(job)
    })
}

#[test]
fn what_was_said_to_one_person_is_gone_from_every_file_after_a_kill_half_way() {
    let echoes = Receiver::start(|_| Answer::Echo(200));
    let fails = Receiver::start(|_| Answer::Echo(500));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let env = [("SENDERZ_RETRY__SCHEDULE", "1h"), ("SENDERZ_LIMITS__PAGE", "1000")];
    let gateway = Gateway::start(dir.path(), &env);
    gateway.tenant("acme");
    gateway.webhook("acme", &echoes.url());
    let failing = gateway.webhook("acme", &fails.url());
    let ids: Vec<String> = (0..BATCHES).flat_map(|batch| send(&gateway, batch)).collect();
    eventually("all have been attempted", LIMIT, || {
        let all = |receiver: &Receiver| receiver.count() >= (BATCHES * LINES) as u64;
        (all(&echoes) && all(&fails)).then_some(())
    });
    assert!(!found(dir.path()).is_empty(), "the search finds what is there");

    let (job, again) = erase(&gateway, Some("once"));
    assert!(!again);
    let path = format!("/v1/erasures/{}", job["id"].as_str().expect("an id"));
    let at = eventually("some of it is erased", LIMIT, || {
        let job = gateway.get(&path, "acme");
        (job["events"].as_u64() > Some(0)).then_some(job)
    });
    gateway.kill();
    assert_eq!(at["state"], "erasing", "it was killed half-way: {at}");

    let gateway = Gateway::start(dir.path(), &env);
    let job = done(&gateway, &job);
    assert_eq!(job["events"], json!(BATCHES * LINES / 2), "{job}");
    assert_eq!(found(dir.path()), Vec::<String>::new());
    // The first answer again, and no second erasure.
    assert!(erase(&gateway, Some("once")).1);
    assert_eq!(gateway.get("/v1/erasures", "acme")["data"].as_array().map(Vec::len), Some(1));

    for (n, id) in ids.iter().enumerate().step_by(LINES / 2 - 1) {
        let event = gateway.get(&format!("/v1/events/{id}"), "acme");
        let is_forgotten = n % 2 == 0;
        let delivery = event["deliveries"].as_array().expect("a list").iter();
        let mut delivery = delivery.filter(|one| one["webhook_id"] == *failing);
        let delivery = delivery.next().expect("it had one").clone();
        let shown = format!("/v1/deliveries/{}", delivery["id"].as_str().expect("an id"));
        if !is_forgotten {
            assert_eq!(event["payload"], payload(OTHER, n), "others are as they were");
            assert_eq!(
                (&event["erased_at"], &delivery["status"]),
                (&Value::Null, &json!("retrying"))
            );
            continue;
        }
        assert_eq!((&event["payload"], &event["erased_at"]), (&Value::Null, &job["created_at"]));
        // One that the kill left waiting ends when it falls due.
        if delivery["status"] != "retrying" {
            assert_eq!(delivery["status"], "canceled", "{delivery}");
            assert_eq!(delivery["reason"], "event_erased", "{delivery}");
        }
        let delivery = gateway.get(&shown, "acme");
        assert_eq!(
            (&delivery["payload"], &delivery["erased_at"]),
            (&Value::Null, &job["created_at"])
        );
        let attempt = &delivery["attempts"][0];
        assert_eq!((&attempt["status"], &attempt["response"]["body"]), (&json!(500), &json!("")));
        if delivery["status"] == "canceled" {
            let refused = gateway.ask("POST", &format!("{shown}/replay"), Some("acme"), b"");
            assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("event_erased")));
        }
    }
    // Their keys still know them.
    assert_eq!(send(&gateway, 0), ids[..LINES]);
    assert_eq!(echoes.count(), (BATCHES * LINES) as u64, "and nothing was sent again");

    // Nothing is left to be erased.
    let nothing = done(&gateway, &erase(&gateway, None).0);
    assert_eq!((&nothing["events"], &nothing["incomplete"]), (&json!(0), &json!(false)));
    assert_eq!(gateway.stop(), 0);
    assert_eq!(found(dir.path()), Vec::<String>::new());
}
