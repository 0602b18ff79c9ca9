//! A replay of many goes on where it was after SIGKILL: nothing is left out, and what was sent is
//! not sent again.

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use support::{
    eventually,
    gateway::Gateway,
    payload,
    receiver::{Answer, Receiver},
};

const EVENTS: usize = 150;
/// Of a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_replay_of_many_goes_on_after_a_kill_and_sends_each_once() {
    let works = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&works);
    let receiver = Receiver::start(move |_| {
        Answer::Status(if answers.load(Ordering::SeqCst) { 200 } else { 500 })
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let env = [("SENDERZ_RETRY__SCHEDULE", "1ms"), ("SENDERZ_LIMITS__PAGE", "1000")];
    let gateway = Gateway::start(dir.path(), &env);
    gateway.tenant("acme");
    let webhook = gateway.webhook("acme", &receiver.url());
    for number in 0..EVENTS {
        gateway.event("acme", &payload("message.sent", &format!("msg_{number}")));
    }
    eventually("all have failed", LIMIT, || {
        let failed = gateway.get("/v1/deliveries?status=failed&limit=1000", "acme");
        (failed["data"].as_array().expect("a list").len() == EVENTS).then_some(())
    });
    let before = receiver.requests().len();
    assert_eq!(before, 2 * EVENTS, "two attempts each");
    works.store(true, Ordering::SeqCst);

    let body = json!({"webhook": webhook, "rate": 50});
    let job = gateway.post("/v1/replays", Some("acme"), &body);
    let path = format!("/v1/replays/{}", job["id"].as_str().expect("an id"));
    eventually("a third has been sent again", LIMIT, || {
        (receiver.requests().len() >= before + EVENTS / 3).then_some(())
    });
    gateway.kill();
    receiver.settle();
    let sent = receiver.requests().len() - before;
    assert!(sent < EVENTS, "it was killed half-way");

    let gateway = Gateway::start(dir.path(), &env);
    let job = eventually("the job is done", LIMIT, || {
        let job = gateway.get(&path, "acme");
        (job["state"] == "done").then_some(job)
    });
    assert_eq!((&job["matched"], &job["replayed"]), (&json!(EVENTS), &json!(EVENTS)), "{job}");
    eventually("all are delivered", LIMIT, || {
        let delivered = gateway.get("/v1/deliveries?status=delivered&limit=1000", "acme");
        (delivered["data"].as_array().expect("a list").len() == EVENTS).then_some(())
    });
    let mut numbers: HashMap<String, Vec<String>> = HashMap::new();
    for request in receiver.requests() {
        let attempts = numbers.entry(request.header("webhook-id").to_owned()).or_default();
        attempts.push(request.header("x-senderz-attempt").to_owned());
    }
    assert_eq!(numbers.len(), EVENTS, "a replay keeps the event's id");
    let mut again = 0;
    for (id, attempts) in numbers {
        assert_eq!(attempts[..3], ["1", "2", "3"], "{id}: numbers go on");
        // What was under way at the kill, or had not been recorded yet, is made once more.
        assert!(attempts[3..].iter().all(|number| number == "3"), "{id}: {attempts:?}");
        again += attempts.len() - 3;
    }
    assert!(again <= 64, "{again} were sent again; no more are under way at once");
    assert_eq!(gateway.stop(), 0);
}
