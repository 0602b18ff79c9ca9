//! `senderz-gateway backup` of a gateway under load: a second gateway on the copy has all that was
//! acknowledged before, and goes on with what waits.

mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    payload,
    receiver::{Answer, Receiver},
};

const PRODUCERS: usize = 3;
/// Of each producer before the backup.
const BEFORE: usize = 60;
/// Of a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The command beside a gateway.
fn command(gateway: Option<&Gateway>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
    command.args(arguments).env("SENDERZ_API_KEY", OPERATOR_KEY);
    if let Some(gateway) = gateway {
        command.env("SENDERZ_URL", format!("http://{}", gateway.api));
    }
    command.output().expect("the binary was built with the tests")
}

fn told(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn made(output: &Output) -> (Value, PathBuf) {
    assert!(output.status.success(), "{}", told(output));
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let path = PathBuf::from(made["path"].as_str().expect("a path"));
    (made, path)
}

fn key_of(data: &Path) -> String {
    std::fs::read_to_string(data.join("encryption.key")).expect("it was made").trim().to_owned()
}

#[test]
fn a_second_gateway_on_a_copy_of_one_under_load_has_what_was_accepted_and_goes_on() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (data, backups) = (dir.path().join("data"), dir.path().join("backups"));
    let works = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&works);
    let receiver = Receiver::start(move |_| {
        Answer::Status(if answers.load(Ordering::SeqCst) { 200 } else { 503 })
    });
    let in_backups = backups.display().to_string();
    let schedule = ["2s"; 40].join(",");
    let env = [
        ("SENDERZ_RETRY__SCHEDULE", schedule.as_str()),
        ("SENDERZ_BACKUP__DIR", in_backups.as_str()),
    ];
    let gateway = Gateway::start(&data, &env);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    let accepted = Mutex::new(Vec::new());
    let ending = AtomicBool::new(false);
    let (ledger, first, nightly) = std::thread::scope(|threads| {
        for producer in 0..PRODUCERS {
            let (gateway, accepted, ending) = (&gateway, &accepted, &ending);
            threads.spawn(move || {
                for number in 0.. {
                    if ending.load(Ordering::SeqCst) {
                        return;
                    }
                    let body = payload("message.sent", &format!("msg_{producer}_{number}"));
                    let id = gateway.event("acme", &body);
                    accepted.lock().expect("no panic holds it").push(id);
                }
            });
        }
        eventually("there is something to copy", LIMIT, || {
            let count = accepted.lock().expect("no panic holds it").len();
            (count >= PRODUCERS * BEFORE).then_some(())
        });
        let ledger = accepted.lock().expect("no panic holds it").clone();
        let output = command(Some(&gateway), &["backup", "nightly", "--output", "json"]);
        let (first, nightly) = made(&output);
        let taken = command(Some(&gateway), &["backup", "nightly"]);
        assert_eq!(taken.status.code(), Some(1));
        assert!(told(&taken).contains("there is a backup of this name"), "{}", told(&taken));
        ending.store(true, Ordering::SeqCst);
        (ledger, first, nightly)
    });
    assert_eq!(nightly, backups.join("nightly"));
    assert_eq!((&first["state"], &first["with_keys"]), (&json!("done"), &json!(false)));
    let verified = command(None, &["backup", "--verify", &nightly.display().to_string()]);
    assert!(verified.status.success(), "{}", told(&verified));
    for name in ["encryption.key", "operator.key"] {
        assert!(!nightly.join(name).exists(), "{name} is not copied unless that is asked for");
    }
    let output = command(Some(&gateway), &["backup", "whole", "--with-keys", "--output", "json"]);
    let (_, whole) = made(&output);
    assert_eq!(key_of(&whole), key_of(&data));
    let key = key_of(&data);
    // Nothing of the original delivers beside its copy.
    gateway.kill();
    receiver.settle();
    works.store(true, Ordering::SeqCst);

    let set = format!("data_dir={}", nightly.display());
    let checked = command(None, &["check", "--set", &set]);
    assert_eq!(checked.status.code(), Some(78), "without the key it is of no use");
    assert!(told(&checked).contains("encryption key"), "{}", told(&checked));
    let env = [env[0], env[1], ("SENDERZ_ENCRYPTION_KEY", key.as_str())];
    let restored = Gateway::start(&nightly, &env);
    for id in &ledger {
        let event = restored.get(&format!("/v1/events/{id}"), "acme");
        assert!(event["payload"]["data"]["id"].is_string(), "{event}");
    }
    eventually("what waited is delivered", LIMIT, || {
        let delivered = |id: &String| {
            let event = restored.get(&format!("/v1/events/{id}"), "acme");
            event["deliveries"][0]["status"] == "delivered"
        };
        ledger.iter().take(PRODUCERS * 5).all(delivered).then_some(())
    });
    assert_eq!(restored.stop(), 0);
    let used = command(None, &["backup", "--verify", &nightly.display().to_string()]);
    assert_eq!(used.status.code(), Some(1), "it is a data directory in use: {}", told(&used));
}
