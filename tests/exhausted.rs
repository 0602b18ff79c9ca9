//! The kernel has no file descriptor or no local port left: a fault of the gateway's own. Attempts
//! are put off and not counted, nobody's breaker hears of it, and all goes on when it ends.

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY, value_of},
    http::Connection,
    namespace::{is_inside, must},
    payload,
    process::{cpu_seconds, descriptors, limit_descriptors},
    receiver::{Answer, Receiver},
};

const LIMIT: Duration = Duration::from_secs(30);
/// Two attempts in all, a moment apart: were one of ours to count, the delivery would soon fail.
const IMPATIENT: (&str, &str) = ("SENDERZ_RETRY__SCHEDULE", "10ms");
const DEFERRED: &str = "senderz_attempts_deferred_total";
/// Events in a batch, and bytes in each: enough in all that the store fills one part of its file
/// after the other, and cleans up behind itself, while no descriptor is left.
const BATCH: usize = 50;
const BATCHES: usize = 80;
const TEXT: usize = 2000;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// A connection that was open before everything ran out.
struct Kept(Connection);

impl Kept {
    fn open(to: SocketAddr) -> Self {
        let mut kept = Self(Connection::open(to).expect("it listens"));
        // Answered once, it is accepted for certain.
        kept.ask("GET", "/", b"");
        kept
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> support::http::Response {
        let key = format!("Bearer {OPERATOR_KEY}");
        let lines = path == "/v1/events";
        let content = if lines { "application/x-ndjson" } else { "application/json" };
        let headers = [
            ("authorization", key.as_str()),
            ("content-type", content),
            ("senderz-tenant", "acme"),
        ];
        self.0.request(method, path, &headers, body).expect("it answers")
    }

    fn event(&mut self, id: &str) {
        let body = payload("message.sent", id);
        let answer = self.ask("POST", "/v1/tenants/acme/events", body.as_bytes());
        assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    }

    fn batch(&mut self, number: usize) {
        let data = format!("\"data\":{{\"text\":\"{}\",", "x".repeat(TEXT));
        let lines: String = (0..BATCH)
            .map(|n| {
                let payload = payload("message.sent", &format!("msg_{number}_{n}"));
                let payload = payload.replacen("\"data\":{", &data, 1);
                format!("{{\"tenant\":\"acme\",\"payload\":{payload}}}\n")
            })
            .collect();
        let answer = self.ask("POST", "/v1/events", lines.as_bytes());
        assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    }

    fn metric(&mut self, line: &str) -> f64 {
        let text = self.ask("GET", "/metrics", b"").body;
        value_of(&String::from_utf8(text).expect("text"), line)
    }
}

/// Every delivery with its attempts.
fn deliveries(api: &mut Kept) -> Vec<Value> {
    let page = api.ask("GET", "/v1/deliveries?limit=100", b"").json();
    let ids = page["data"].as_array().expect("a list").iter();
    let paths: Vec<_> =
        ids.map(|d| format!("/v1/deliveries/{}", d["id"].as_str().expect("an id"))).collect();
    paths.iter().map(|path| api.ask("GET", path, b"").json()).collect()
}

/// All of them were delivered by the first attempt that counts, and no breaker moved.
fn assert_unharmed(api: &mut Kept, ops: &mut Kept, events: usize) {
    eventually("all is recorded", LIMIT, || {
        let all = deliveries(api);
        (all.len() == events && all.iter().all(|d| d["status"] == "delivered")).then_some(())
    });
    for delivery in deliveries(api) {
        let attempts = delivery["attempts"].as_array().expect("a list");
        assert_eq!(attempts.len(), 1, "{delivery}");
        assert_eq!(attempts[0]["number"], 1, "{delivery}");
    }
    for state in ["open", "half_open", "closed"] {
        let line = format!("senderz_breaker_transitions_total{{to=\"{state}\"}}");
        assert_eq!(ops.metric(&line), 0.0, "{line}");
    }
}

#[test]
fn without_file_descriptors_attempts_are_put_off_and_the_listener_lives_on() {
    let dir = directory();
    let receiver = Receiver::start(|_| Answer::Status(200));
    let gateway = Gateway::start(dir.path(), &[IMPATIENT]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    let (mut api, mut ops) = (Kept::open(gateway.api), Kept::open(gateway.ops));

    // A few are left, and strangers take them.
    let limit = descriptors(gateway.pid()).into_iter().max().expect("some are open") + 5;
    limit_descriptors(gateway.pid(), limit);
    let strangers: Vec<_> =
        (0..limit).map(|_| Connection::open(gateway.api).expect("the kernel takes it")).collect();
    eventually("none is left", LIMIT, || (descriptors(gateway.pid()).len() == limit).then_some(()));

    for n in 0..5 {
        api.event(&format!("msg_{n}"));
    }
    let (began, cpu) = (support::now(), cpu_seconds(gateway.pid()));
    eventually("attempts are put off, again and again", LIMIT, || {
        (ops.metric(DEFERRED) >= 15.0).then_some(())
    });
    let used = cpu_seconds(gateway.pid()) - cpu;
    assert!(used < began.elapsed().as_secs_f64() / 4.0, "{used} s of CPU: something spins");
    assert_eq!(receiver.connections(), 0);
    for delivery in deliveries(&mut api) {
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&"pending".into(), &Value::Array(vec![]))
        );
    }

    drop(strangers);
    assert_unharmed(&mut api, &mut ops, 5);
    // The listener takes whoever comes.
    gateway.event("acme", &payload("message.sent", "msg_5"));
    assert_unharmed(&mut api, &mut ops, 6);
    assert_eq!(gateway.stop(), 0);
}

/// The store holds the descriptors that it needs. (sled opens files while it starts and for values
/// larger than any of ours; of what it could not do later, a thread of its own would only log.)
#[test]
fn without_file_descriptors_the_store_takes_a_load_and_nothing_is_lost_or_sent_twice() {
    let dir = directory();
    let receiver = Receiver::start(|_| Answer::Status(200));
    let log = dir.path().join("log");
    let mut command = Gateway::command(&dir.path().join("data"), &[IMPATIENT]);
    command.stderr(std::fs::File::create(&log).expect("ours"));
    let mut gateway = Gateway::run(command).expect("it starts");
    gateway.wait_ready();
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    let (mut api, mut ops) = (Kept::open(gateway.api), Kept::open(gateway.ops));
    // Those that are open stay, and there is no number for another one.
    limit_descriptors(gateway.pid(), 0);

    for number in 0..BATCHES {
        api.batch(number);
    }
    let deferred = ops.metric(DEFERRED);
    eventually("attempts are put off, again and again", LIMIT, || {
        (ops.metric(DEFERRED) >= deferred + 1000.0).then_some(())
    });
    assert_eq!((gateway.ended(), receiver.connections()), (None, 0));
    assert_eq!(ops.metric("senderz_store_errors_total{op=\"write\"}"), 0.0);

    limit_descriptors(gateway.pid(), 1024);
    let all = (BATCH * BATCHES) as u64;
    eventually("all arrive", 2 * LIMIT, || (receiver.count() >= all).then_some(()));
    eventually("nothing waits", LIMIT, || {
        let ended = ops.metric("senderz_deliveries_ended_total{outcome=\"delivered\"}");
        (ended == all as f64).then_some(())
    });
    let arrived: std::collections::HashSet<_> =
        receiver.requests().iter().map(|r| r.header("webhook-id").to_owned()).collect();
    assert_eq!((receiver.count(), arrived.len() as u64), (all, all), "each once");
    let said = std::fs::read_to_string(&log).expect("ours");
    assert!(!said.contains("panicked") && !said.contains("ERROR"), "{said}");
    assert_eq!(gateway.stop(), 0);

    let again = Gateway::start(&dir.path().join("data"), &[]);
    assert_eq!(again.waiting("acme"), 0, "the store is whole");
    assert_eq!(receiver.count(), all);
    assert_eq!(again.stop(), 0);
}

#[test]
fn without_local_ports_attempts_are_put_off_until_one_is_free() {
    let name = "without_local_ports_attempts_are_put_off_until_one_is_free";
    if !is_inside(name, &["--net"]) {
        return;
    }
    must("ip", &["link", "set", "lo", "up"]);
    let dir = directory();
    let free = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&free);
    let receiver = Receiver::start(move |_| {
        // Holds its connection, and so its port.
        while !released.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Answer::Status(200)
    });
    let gateway = Gateway::start(dir.path(), &[IMPATIENT, ("SENDERZ_DELIVERY__TIMEOUT", "60s")]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    let (mut api, mut ops) = (Kept::open(gateway.api), Kept::open(gateway.ops));
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61001 61004")
        .expect("root may set the ports of its own network");

    for n in 0..10 {
        api.event(&format!("msg_{n}"));
    }
    eventually("attempts are put off, again and again", LIMIT, || {
        (ops.metric(DEFERRED) >= 18.0).then_some(())
    });
    assert_eq!(receiver.connections(), 4, "each port has its connection");
    let all = deliveries(&mut api);
    assert_eq!(all.len(), 10);
    for delivery in all {
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&"pending".into(), &Value::Array(vec![]))
        );
    }
    // From here to the listener ports are free: it is another destination.
    gateway.event("acme", &payload("message.sent", "msg_10"));

    free.store(true, Ordering::SeqCst);
    assert_unharmed(&mut api, &mut ops, 11);
    assert_eq!(receiver.count(), 11);
    assert_eq!(gateway.stop(), 0);
}

/// Shells allow a process a few of those that it may ask for.
#[test]
fn all_file_descriptors_that_may_be_had_are_taken_and_too_few_are_told() {
    let dir = directory();
    let template = Gateway::command(dir.path(), &[]);
    let mut command = std::process::Command::new("prlimit");
    let log = dir.path().join("log");
    command
        .args(["--nofile=64:2048"])
        .arg(template.get_program())
        .args(template.get_args())
        .envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stderr(std::fs::File::create(&log).expect("ours"));
    let gateway = Gateway::run(command).expect("it starts");
    gateway.wait_ready();
    assert_eq!(gateway.metric("process_max_fds"), 2048.0);
    let said = std::fs::read_to_string(&log).expect("ours");
    assert!(said.contains("allowed=2048") && said.contains("wanted=18492"), "{said}");
    assert_eq!(gateway.stop(), 0);
}

/// As many as a process has that nobody thought of.
#[test]
fn with_256_file_descriptors_it_serves_a_crowd_and_delivers_everything_once() {
    const LIMIT_OF_ALL: usize = 256;
    const STRANGERS: usize = 400;
    const EVENTS: usize = 50;
    let dir = directory();
    let receiver = Receiver::start(|_| Answer::Status(200));
    let gateway = Gateway::start(dir.path(), &[]);
    limit_descriptors(gateway.pid(), LIMIT_OF_ALL);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    for n in 0..EVENTS {
        gateway.event("acme", &payload("message.sent", &format!("msg_before_{n}")));
    }
    let mut kept = Kept::open(gateway.api);
    let strangers: Vec<_> = (0..STRANGERS)
        .map(|_| Connection::open(gateway.api).expect("the kernel takes it"))
        .collect();
    let (began, cpu) = (support::now(), cpu_seconds(gateway.pid()));
    for n in 0..EVENTS {
        kept.event(&format!("msg_amid_{n}"));
    }
    eventually("time passes", LIMIT, || (began.elapsed() >= Duration::from_secs(2)).then_some(()));
    let used = cpu_seconds(gateway.pid()) - cpu;
    assert!(used < began.elapsed().as_secs_f64() / 4.0, "{used} s of CPU: something spins");
    assert!(descriptors(gateway.pid()).len() <= LIMIT_OF_ALL);
    drop(strangers);
    eventually("all is delivered", LIMIT, || (gateway.waiting("acme") == 0).then_some(()));
    assert_eq!(receiver.count() as usize, 2 * EVENTS, "each once");
    println!("256 descriptors, {STRANGERS} strangers: {used:.2} s of CPU in {:?}", began.elapsed());
    assert_eq!(gateway.stop(), 0);
}
