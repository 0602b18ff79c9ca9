//! `replay` of many as a person runs it: at a terminal with a bar, elsewhere without one.

mod support;

use std::{
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    payload,
    receiver::{Answer, Receiver},
};

const LIMIT: Duration = Duration::from_secs(120);
/// What bars are drawn with, and how they are coloured.
const BAR: char = '━';
const CYAN: &str = "\u{1b}[36m";

struct Scene {
    _dir: tempfile::TempDir,
    works: Arc<AtomicBool>,
    receiver: Receiver,
    gateway: Gateway,
    webhook: String,
}

/// Three deliveries that have failed.
fn scene() -> Scene {
    let works = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&works);
    let receiver = Receiver::start(move |_| {
        Answer::Status(if answers.load(Ordering::SeqCst) { 200 } else { 500 })
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(dir.path(), &[("SENDERZ_RETRY__SCHEDULE", "1ms")]);
    gateway.tenant("acme");
    let webhook = gateway.webhook("acme", &receiver.url());
    for number in 0..3 {
        gateway.event("acme", &payload("message.sent", &format!("msg_{number}")));
    }
    eventually("all have failed", LIMIT, || {
        let failed = gateway.get("/v1/deliveries?status=failed", "acme");
        (failed["data"].as_array().expect("a list").len() == 3).then_some(())
    });
    Scene { _dir: dir, works, receiver, gateway, webhook }
}

impl Scene {
    fn words(&self, more: &[&str]) -> Vec<String> {
        let url = format!("http://{}", self.gateway.api);
        let webhook = self.webhook.as_str();
        let words = ["replay", "--tenant", "acme", "--url", &url, "--webhook", webhook];
        words.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    fn run(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        command.env("SENDERZ_API_KEY", OPERATOR_KEY);
        command.args(self.words(more)).output().expect("the binary runs")
    }

    /// The same at a terminal: what was seen there, and how it ended.
    fn at_a_terminal(&self, more: &[&str], env: &[(&str, &str)]) -> (String, Option<i32>) {
        let line = [&[env!("CARGO_BIN_EXE_senderz-gateway").to_owned()], &*self.words(more)];
        let mut command = Command::new("script");
        command.args(["-qec", &line.concat().join(" "), "/dev/null"]);
        command.env("SENDERZ_API_KEY", OPERATOR_KEY).env("TERM", "xterm").env_remove("NO_COLOR");
        let seen = command.envs(env.iter().copied()).output();
        let seen = seen.expect("`script` is part of util-linux (Debian: bsdutils)");
        (String::from_utf8_lossy(&seen.stdout).into_owned(), seen.status.code())
    }
}

#[test]
fn a_replay_shows_a_bar_where_a_person_looks_and_only_there() {
    let scene = scene();
    let counted = scene.run(&["--dry-run", "--output", "json"]);
    let job: Value = serde_json::from_slice(&counted.stdout).expect("JSON and nothing else");
    assert_eq!((&job["matched"], &job["state"]), (&3.into(), &"done".into()));
    assert_eq!((counted.stderr.as_slice(), counted.status.code()), (&b""[..], Some(0)));
    assert_eq!(scene.receiver.requests().len(), 6, "it sent nothing");

    let (seen, code) = scene.at_a_terminal(&["--dry-run"], &[]);
    assert!(seen.contains(BAR) && seen.contains(CYAN) && seen.contains("found"), "{seen:?}");
    assert_eq!(code, Some(0));
    let (seen, _) = scene.at_a_terminal(&["--dry-run"], &[("NO_COLOR", "1")]);
    assert!(seen.contains(BAR) && !seen.contains(CYAN), "{seen:?}");

    scene.works.store(true, Ordering::SeqCst);
    let (seen, code) = scene.at_a_terminal(&["--wait", "--rate", "1000"], &[]);
    assert!(seen.contains("3 sent again, 0 skipped"), "{seen:?}");
    assert_eq!(code, Some(0));
    eventually("all are delivered", LIMIT, || {
        let delivered = scene.gateway.get("/v1/deliveries?status=delivered", "acme");
        (delivered["data"].as_array().expect("a list").len() == 3).then_some(())
    });
    assert_eq!(scene.gateway.stop(), 0);
}

#[test]
fn a_replay_that_rests_is_waited_for_no_longer_and_is_no_success() {
    let scene = scene();
    let path = format!("/v1/webhooks/{}", scene.webhook);
    // It takes long enough to be caught: a delivery a second.
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| scene.run(&["--wait", "--rate", "1"]));
        eventually("a job runs", LIMIT, || {
            let jobs = scene.gateway.get("/v1/replays", "acme");
            (jobs["data"][0]["state"] == "running").then_some(())
        });
        let off = br#"{"enabled":false}"#;
        assert_eq!(scene.gateway.ask("PATCH", &path, Some("acme"), off).status, 200);
        waiting.join().expect("it ends")
    });
    assert_eq!(waiting.status.code(), Some(1));
    let said = String::from_utf8_lossy(&waiting.stdout);
    assert!(said.contains("webhook_disabled"), "{said}");
    assert_eq!(scene.gateway.stop(), 0);
}
