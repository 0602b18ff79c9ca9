//! What an operator types, against a running gateway: each answer is the gateway's own. And what the
//! gateway's log says of who asked.

mod support;

use std::{path::Path, process::Command, time::Duration};

use serde_json::Value;
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    payload,
    receiver::{Answer, Receiver},
};

const LIMIT: Duration = Duration::from_secs(60);

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// What `--output json` printed.
    fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).expect("one JSON value")
    }

    fn holds(&self, line: &str) {
        // However wide the columns are.
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let has = self.stdout.lines().any(|one| squeezed(one) == squeezed(line));
        assert!(has, "{line:?} is missing in:\n{}\n{}", self.stdout, self.stderr);
    }
}

/// The command line with a key in a file.
struct Typed<'a> {
    gateway: &'a Gateway,
    key_file: &'a Path,
}

impl Typed<'_> {
    fn run(&self, words: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        command.args(words.split_whitespace()).env_clear();
        command.arg("--url").arg(format!("http://{}", self.gateway.api));
        let output = command.arg("--key-file").arg(self.key_file).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn json(&self, words: &str) -> Value {
        self.run(&format!("{words} --output json")).json()
    }
}

#[test]
fn keys_are_made_and_revoked_and_the_secret_is_rotated() {
    let dir = tempfile::tempdir().expect("a directory");
    let gateway = Gateway::start(&dir.path().join("data"), &[]);
    gateway.tenant("acme");
    let file = |name: &str, key: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, key).expect("ours");
        path
    };
    let operators = file("operator", OPERATOR_KEY);
    let operator = Typed { gateway: &gateway, key_file: &operators };
    let made = operator.json("keys create tenant --tenant acme");
    let tenants = file("tenant", made["api_key"].as_str().expect("shown once"));
    let tenant = Typed { gateway: &gateway, key_file: &tenants };

    // With its own key a tenant need not say who it is.
    let before = tenant.json("signing-secret show")["secret"].clone();
    let rotated = tenant.json("signing-secret rotate --overlap 1h");
    assert_ne!(rotated["secret"], before);
    assert_eq!(rotated["previous"][0]["secret"], before);
    assert_eq!(tenant.json("signing-secret rotate --overlap 0s")["previous"], Value::Array(vec![]));

    let id = made["id"].as_str().expect("an id");
    let listed = operator.run("keys list --tenant acme");
    assert!(listed.stdout.contains(id) && !listed.stdout.contains("szk_"), "{}", listed.stdout);
    let revoked = operator.run(&format!("keys revoke {id}"));
    assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
    let refused = tenant.run("signing-secret show");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("401, unauthorized"), "{}", refused.stderr);
}

#[test]
fn an_event_says_who_missed_it_and_a_replay_is_watched_paused_and_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let key_file = dir.path().join("operator");
    std::fs::write(&key_file, OPERATOR_KEY).expect("ours");
    let receiver = Receiver::start(|_| Answer::Status(200));
    let gateway = Gateway::start(&dir.path().join("data"), &[]);
    gateway.tenant("acme");
    let typed = Typed { gateway: &gateway, key_file: &key_file };
    let made = format!("webhooks create {} --tenant acme --enabled false", receiver.url());
    let webhook = typed.json(&made)["id"].as_str().expect("an id").to_owned();
    let events = (0..20).map(|n| gateway.event("acme", &payload("message.sent", &n.to_string())));
    let first = events.collect::<Vec<_>>().swap_remove(0);

    let shown = typed.run(&format!("events show --tenant acme {first}"));
    shown.holds(&format!("id {first}"));
    shown.holds("no deliveries");
    let reason =
        "it was disabled when the event came; once it is enabled, the delivery can be replayed";
    let missed = typed.json(&format!("events show --tenant acme {first}"));
    let delivery = missed["skipped"][0]["delivery_id"].as_str().expect("it can be replayed");
    shown.holds(&format!("{webhook} disabled {reason} {delivery}"));
    let listed = typed.json("events list --tenant acme --found-disabled --limit 100");
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(20));
    let after = typed.json(&format!("events list --tenant acme --after {first} --limit 100"));
    assert_eq!(after["data"].as_array().map(Vec::len), Some(19));
    let mistaken = typed.run(&format!("deliveries show --tenant acme {first}"));
    assert_eq!(mistaken.code, Some(1));
    assert!(mistaken.stderr.contains("this is the id of an event"), "{}", mistaken.stderr);

    typed.json(&format!("webhooks update {webhook} --tenant acme --enabled true"));
    let replay = format!("replay --tenant acme --webhook {webhook} --status missed --rate 1");
    let job = typed.json(&replay)["id"].as_str().expect("an id").to_owned();
    let told = |order: &str| typed.run(&format!("replays {order} --tenant acme {job}"));
    told("pause").holds("state paused");
    told("resume").holds("state running");
    eventually("some of it was sent", LIMIT, || {
        let job = typed.json(&format!("replays show --tenant acme {job}"));
        (job["replayed"].as_u64() > Some(0)).then_some(())
    });
    told("cancel").holds("state canceled");
    let listed = typed.run("replays list --tenant acme");
    assert!(
        listed.stdout.contains(&job) && listed.stdout.contains("canceled"),
        "{}",
        listed.stdout
    );
    assert_eq!(told("resume").code, Some(1), "what has ended does not go on");
}

#[test]
fn what_the_log_and_the_audit_log_say_of_a_request_has_its_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    for (level, expected) in [("info", "tenant created"), ("debug", "request answered")] {
        let env = [("SENDERZ_LOG__LEVEL", level)];
        let mut command = Gateway::command(&dir.path().join("data"), &env);
        command.stderr(std::fs::File::create(&log).expect("ours"));
        let gateway = Gateway::run(command).expect("it starts");
        gateway.wait_ready();
        let key = format!("Bearer {OPERATOR_KEY}");
        let name = format!("asked-{level}");
        let headers = [
            ("authorization", key.as_str()),
            ("content-type", "application/json"),
            ("x-request-id", name.as_str()),
            // Then it is answered by a task of its own.
            ("idempotency-key", level),
        ];
        let body = format!(r#"{{"id":"of-{level}","name":"x"}}"#);
        let mut connection = Connection::open(gateway.api).expect("it listens");
        let answer = connection.request("POST", "/v1/tenants", &headers, body.as_bytes());
        let answer = answer.expect("it answers");
        assert_eq!((answer.status, answer.header("x-request-id")), (201, Some(name.as_str())));
        let audit = gateway.ask("GET", "/v1/audit?action=tenant.created&limit=1", None, b"");
        let audit: Value = serde_json::from_slice(&audit.body).expect("JSON");
        assert_eq!(audit["data"][0]["request_id"], name.as_str(), "{audit}");
        assert_eq!(gateway.stop(), 0);
        let log = std::fs::read_to_string(&log).expect("ours");
        let told = log.lines().any(|line| line.contains(expected) && line.contains(&name));
        assert!(told, "{expected} of {name} is missing in:\n{log}");
    }
}
