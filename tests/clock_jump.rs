//! Somebody sets the machine's clock, by a year, forwards or back, while deliveries wait for their
//! retries; and a start finds the clock set.
//!
//! The clock is that of the real binary alone: libfaketime answers it in the kernel's place when it
//! asks for the wall clock, and only then; the monotonic clock goes on as it does on a machine whose
//! clock is set.

mod support;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use support::{
    eventually,
    gateway::Gateway,
    payload,
    receiver::{Answer, Receiver},
};

const EVENTS: usize = 20;
const LIMIT: Duration = Duration::from_secs(30);
/// What is between the attempts of a delivery …
const DELAYS: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(1500),
    Duration::from_millis(2000),
];
/// … and how much later they may come on a busy machine.
const LATE: Duration = Duration::from_millis(800);
const SCHEDULE: (&str, &str) = ("SENDERZ_RETRY__SCHEDULE", "500ms,1s,1500ms,2s,3s,3s");
/// So long a start by a clock that went back may wait at the most.
const LONGEST: (&str, &str) = ("SENDERZ_RETRY__MAX_RETRY_AFTER", "3s");
const YEAR: f64 = 365.0 * 24.0 * 60.0 * 60.0;

/// The wall clock of the gateways of one test.
struct Wall {
    directory: tempfile::TempDir,
}

impl Wall {
    fn new() -> Self {
        let wall = Self { directory: tempfile::tempdir().expect("a directory") };
        wall.set("+0");
        wall
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    /// Whole or not at all: it is read whenever the time is.
    fn set(&self, offset: &str) {
        let beside = self.directory.path().join("new");
        std::fs::write(&beside, offset).expect("ours");
        std::fs::rename(beside, self.file()).expect("ours");
    }

    fn command(&self, data_dir: &Path) -> Command {
        let mut command = Gateway::command(data_dir, &[SCHEDULE, LONGEST]);
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
        command
    }

    fn start(&self, data_dir: &Path) -> Gateway {
        let gateway = Gateway::run(self.command(data_dir)).expect("it starts");
        gateway.wait_ready();
        gateway
    }
}

/// Where the package is installed, or where `scripts/test` has unpacked it.
fn library() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/libfaketime/usr/lib");
    let folders = ["/usr/lib".into(), unpacked].map(|folder: PathBuf| std::fs::read_dir(folder));
    let machines = folders.into_iter().flatten().flatten().flatten();
    let files = machines.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = files.into_iter().find(|file| file.is_file());
    found.expect("this test needs libfaketime: install the package of that name")
}

/// A receiver that refuses until it is told to accept.
fn receiver() -> (Receiver, Arc<AtomicBool>) {
    let accepts = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&accepts);
    let receiver = Receiver::start(move |_| {
        Answer::Status(if answer.load(Ordering::SeqCst) { 200 } else { 500 })
    });
    (receiver, accepts)
}

fn deliveries(gateway: &Gateway) -> Vec<Value> {
    let page = gateway.get("/v1/deliveries?limit=100", "acme");
    page["data"].as_array().expect("a list").clone()
}

/// The time that the last request was stamped with, in seconds.
fn stamp(receiver: &Receiver) -> f64 {
    let requests = receiver.requests();
    let last = requests.last().expect("there is one");
    last.header("webhook-timestamp").parse().expect("a number")
}

fn jump_while_it_runs(offset: &str, years: f64) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let wall = Wall::new();
    let (receiver, accepts) = receiver();
    let gateway = wall.start(dir.path());
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    for n in 0..EVENTS {
        gateway.event("acme", &payload("message.sent", &format!("msg_{n}")));
    }
    eventually("all were tried", LIMIT, || (receiver.count() as usize >= EVENTS).then_some(()));
    let before = stamp(&receiver);
    wall.set(offset);
    eventually("all were tried four times", LIMIT, || {
        (receiver.count() as usize >= 4 * EVENTS).then_some(())
    });
    let moved = stamp(&receiver) - before;
    assert!((moved - years * YEAR).abs() < 60.0, "the clock was not set: it moved by {moved} s");
    accepts.store(true, Ordering::SeqCst);
    gateway.event("acme", &payload("message.sent", "msg_later"));
    eventually("all are delivered", LIMIT, || {
        let all = deliveries(&gateway);
        let is_delivered = |delivery: &Value| delivery["status"] == "delivered";
        (all.len() == EVENTS + 1 && all.iter().all(is_delivered)).then_some(())
    });
    assert_on_schedule(&receiver);
    println!("the clock set by {offset}: {EVENTS} deliveries kept their schedule");
    assert_eq!(gateway.stop(), 0);
}

/// No attempt came early, none was late, none was left out.
fn assert_on_schedule(receiver: &Receiver) {
    let mut attempts: HashMap<String, Vec<_>> = HashMap::new();
    for request in receiver.requests() {
        let number: usize = request.header("x-senderz-attempt").parse().expect("a number");
        let of = attempts.entry(request.header("webhook-id").to_owned()).or_default();
        of.push(request.at);
        assert_eq!(of.len(), number, "attempts come in order, and none twice");
    }
    for of in attempts.values() {
        for (pair, delay) in of.windows(2).zip(DELAYS) {
            let waited = pair[1].duration_since(pair[0]);
            assert!(delay <= waited && waited <= delay + LATE, "{waited:?} instead of {delay:?}");
        }
    }
}

#[test]
fn a_clock_set_forwards_by_a_year_fires_and_expires_nothing() {
    jump_while_it_runs("+365d", 1.0);
}

#[test]
fn a_clock_set_back_by_a_year_holds_up_nothing() {
    jump_while_it_runs("-365d", -1.0);
}

/// What waits for a retry, and then a start by a clock that was set. Gives too how many attempts
/// were made before.
fn start_after(offset: &str) -> (tempfile::TempDir, Receiver, Gateway, u64) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let wall = Wall::new();
    let (receiver, accepts) = receiver();
    let gateway = wall.start(dir.path());
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    for n in 0..EVENTS {
        gateway.event("acme", &payload("message.sent", &format!("msg_{n}")));
    }
    eventually("all were tried", LIMIT, || (receiver.count() as usize >= EVENTS).then_some(()));
    assert_eq!(gateway.stop(), 0);
    let made = receiver.count();
    wall.set(offset);
    accepts.store(true, Ordering::SeqCst);
    let gateway = wall.start(dir.path());
    eventually("nothing waits", LIMIT, || (gateway.waiting("acme") == 0).then_some(()));
    (dir, receiver, gateway, made)
}

#[test]
fn a_start_whose_clock_went_back_a_year_delivers_what_waits_without_waiting_for_that_year() {
    let (_dir, receiver, gateway, _) = start_after("-365d");
    assert!(deliveries(&gateway).iter().all(|delivery| delivery["status"] == "delivered"));
    assert_next_attempts_only(&receiver);
    assert_eq!(gateway.stop(), 0);
}

/// Each is delivered once, by the attempt that was next.
fn assert_next_attempts_only(receiver: &Receiver) {
    let mut last: HashMap<String, usize> = HashMap::new();
    for request in receiver.requests() {
        let number: usize = request.header("x-senderz-attempt").parse().expect("a number");
        let before = last.insert(request.header("webhook-id").to_owned(), number);
        assert_eq!(number, before.unwrap_or(0) + 1);
    }
    assert_eq!(last.len(), EVENTS);
}

/// For such a start a year has passed: what waited is older than `delivery.max_age`. It is ended,
/// on record, and can be replayed; nothing is dropped in silence.
#[test]
fn a_start_whose_clock_went_on_a_year_ends_what_waits_as_expired_and_says_so() {
    let (_dir, receiver, gateway, made) = start_after("+365d");
    let all = deliveries(&gateway);
    assert_eq!(all.len(), EVENTS);
    for delivery in &all {
        assert_eq!(delivery["status"], "failed", "{delivery}");
    }
    assert_eq!(receiver.count(), made, "no attempt was made");
    let id = all[0]["id"].as_str().expect("an id");
    gateway.post(&format!("/v1/deliveries/{id}/replay"), Some("acme"), &serde_json::json!({}));
    eventually("it can be replayed", LIMIT, || (receiver.count() == made + 1).then_some(()));
    assert_eq!(gateway.stop(), 0);
}
