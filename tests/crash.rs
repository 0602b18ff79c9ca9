//! SIGKILL at random moments under load, with a ledger kept outside the process that dies.
//!
//! Checked: nothing acknowledged is lost; nothing arrives that was not offered; of a batch all
//! arrives or nothing, whether it was acknowledged or not; bodies come byte for byte; an event that
//! comes twice had its first attempt in flight at a kill, or finished within the commit interval
//! before it. A probe beside the gateway writes and syncs as it does, so that what a busy machine
//! or its disk kept everybody waiting before a kill is not taken for the gateway's.
//!
//! `CRASH_CYCLES` sets the number of kills, `CRASH_SEED` the moments.

mod support;

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    now, payload,
    receiver::{Answer, Receiver},
};

/// An attempt that ended longer than this before the kill must not be made again … The figure is
/// that of the product as it ships; a debug build is several times slower.
const COMMIT_INTERVAL: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 250 } else { 50 });
/// … in 99 of 100 cases: a sync that the disk keeps waiting holds the commit up with it. What is
/// older than this was forgotten, not late.
const SLOWEST_COMMIT: Duration = Duration::from_millis(500);
const PRODUCERS: usize = 3;
/// Between two writes of the probe.
const PROBE_EVERY: Duration = Duration::from_millis(10);
/// A stall of the machine counts for a kill if it ended so shortly before it, or later.
const PROBE_SPAN: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Ledger {
    /// Message ids that were offered, whatever became of them.
    offered: Mutex<HashMap<String, String>>,
    /// Message ids whose 202 arrived.
    accepted: Mutex<Vec<String>>,
    /// The message ids of each request with several events, whatever became of it.
    batches: Mutex<Vec<Vec<String>>>,
    next: AtomicU64,
}

#[test]
fn nothing_accepted_is_lost_when_the_process_is_killed_at_random_moments() {
    let cycles: u32 = setting("CRASH_CYCLES").unwrap_or(10);
    let seed = setting("CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("cycles {cycles}, seed {seed}");
    let mut random = Random(seed | 1);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let flaky = AtomicU64::new(0);
    // One request in ten fails once, so that kills find deliveries that wait for a retry, too.
    let receiver = Receiver::start(move |_| {
        let nth = flaky.fetch_add(1, Ordering::Relaxed);
        Answer::Status(if nth % 10 == 9 { 500 } else { 200 })
    });
    let ledger = Arc::new(Ledger::default());
    let probe = Probe::start(dir.path());
    let mut kills: Vec<Kill> = Vec::new();
    let mut kills_at_start = 0;

    let first = Gateway::start(dir.path(), &[]);
    for tenant in ["a", "b"] {
        first.tenant(tenant);
        first.webhook(tenant, &receiver.url());
    }
    assert_eq!(first.stop(), 0);

    for cycle in 0..cycles {
        if cycle % 4 == 3 {
            // During start-up: recovery, binding, first commits.
            let mut child = Gateway::command(dir.path(), &[])
                .stdout(std::process::Stdio::null())
                .spawn()
                .expect("starts");
            std::thread::sleep(Duration::from_millis(random.below(120)));
            child.kill().expect("it runs");
            child.wait().expect("it was killed");
            kills.push(Kill::noted(&receiver, &probe));
            kills_at_start += 1;
            continue;
        }
        let gateway = Gateway::start(dir.path(), &[]);
        let stop = Arc::new(AtomicBool::new(false));
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|n| {
                let (ledger, stop, api) = (Arc::clone(&ledger), Arc::clone(&stop), gateway.api);
                std::thread::spawn(move || produce(n, api, &ledger, &stop))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50 + random.below(450)));
        gateway.kill();
        kills.push(Kill::noted(&receiver, &probe));
        stop.store(true, Ordering::Relaxed);
        for producer in producers {
            // None where its connection ended with the gateway.
            let _ = producer.join().expect("producers do not panic");
        }
    }

    let gateway = Gateway::start(dir.path(), &[]);
    let accepted = ledger.accepted.lock().expect("no panic").clone();
    eventually("every accepted event arrives", Duration::from_secs(90), || {
        let arrived = arrivals(&receiver);
        accepted.iter().all(|id| arrived.contains_key(id)).then_some(())
    });
    for tenant in ["a", "b"] {
        eventually("the backlog drains", Duration::from_secs(90), || {
            (gateway.waiting(tenant) == 0).then_some(())
        });
    }

    let arrived = arrivals(&receiver);
    for batch in &*ledger.batches.lock().expect("no panic") {
        let there = batch.iter().filter(|id| arrived.contains_key(*id)).count();
        assert!(there == 0 || there == batch.len(), "{there} of a batch of {}", batch.len());
    }

    let offered = ledger.offered.lock().expect("no panic");
    // How long before its kill each attempt that was made again had ended.
    let mut repeated: Vec<Duration> = Vec::new();
    for (id, receipts) in arrived {
        let body = offered.get(&id).unwrap_or_else(|| panic!("{id} arrived but was never offered"));
        for receipt in &receipts {
            assert_eq!(&receipt.body, body, "the body of {id} is what was offered");
        }
        for pair in receipts.windows(2) {
            // A failed attempt is rightly made again.
            if pair[0].number != pair[1].number {
                continue;
            }
            let kill = kills.iter().find(|kill| kill.read >= pair[0].at).unwrap_or_else(|| {
                panic!("attempt {} of {id} was made twice without a crash", pair[0].number)
            });
            assert!(kill.read < pair[1].at, "{id} was attempted twice between two kills");
            let ended_before = kill.at.saturating_duration_since(pair[0].at);
            // It waits for the commit that is under way, and then for its own.
            repeated.push(ended_before.saturating_sub(2 * kill.stall));
        }
    }
    repeated.sort_unstable();
    let share = |percent: usize| {
        let at = (repeated.len() * percent / 100).min(repeated.len().saturating_sub(1));
        repeated.get(at).copied().unwrap_or_default()
    };
    println!(
        "kills {} ({kills_at_start} during start-up), accepted {}, lost 0, attempts repeated {}, \
         ended before their kill: half within {:?}, 99 % within {:?}, all within {:?}, not counting \
         twice what the machine kept a probe waiting (at most {:?}); loss per crash below {:.3} at 95 %",
        kills.len(),
        accepted.len(),
        repeated.len(),
        share(50),
        share(99),
        share(100),
        kills.iter().map(|kill| kill.stall).max().unwrap_or_default(),
        3.0 / kills.len() as f64,
    );
    assert!(share(99) <= COMMIT_INTERVAL, "settled attempts were made again");
    assert!(share(100) <= SLOWEST_COMMIT, "a settled attempt was forgotten");
    assert_eq!(gateway.stop(), 0);
}

struct Kill {
    /// The process is dead.
    at: Instant,
    /// What it had sent has been read: requests until here are of this life, later ones are not.
    read: Instant,
    /// How long the machine kept a small write with its sync waiting shortly before.
    stall: Duration,
}

impl Kill {
    fn noted(receiver: &Receiver, probe: &Probe) -> Self {
        let at = now();
        receiver.settle();
        Self { at, read: now(), stall: probe.stall(at) }
    }
}

/// Sleeps, writes and syncs in turns, as the gateway's store does, and notes what took long. Ends
/// with its handle.
struct Probe(Arc<Mutex<Vec<(Instant, Duration)>>>);

impl Probe {
    fn start(dir: &Path) -> Self {
        let mut file = File::create(dir.join("probe")).expect("it can be written");
        let turns = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::downgrade(&turns);
        std::thread::spawn(move || {
            while let Some(turns) = told.upgrade() {
                let began = now();
                std::thread::sleep(PROBE_EVERY);
                file.write_all(&[7; 4096]).expect("there is room");
                file.sync_data().expect("the disk works");
                let took = began.elapsed().saturating_sub(PROBE_EVERY);
                turns.lock().expect("no panic").push((now(), took));
            }
        });
        Self(turns)
    }

    /// The longest that ended within [`PROBE_SPAN`] before `at` or was under way then.
    fn stall(&self, at: Instant) -> Duration {
        eventually("the probe's next turn", Duration::from_secs(60), || {
            let turns = self.0.lock().expect("no panic");
            let under_way = turns.iter().position(|(ended, _)| *ended > at)?;
            let until = turns[..=under_way].iter().rev();
            let near = until.take_while(|(ended, _)| *ended + PROBE_SPAN >= at);
            near.map(|(_, took)| *took).max()
        })
    }
}

/// Sends single events and batches until the gateway dies.
fn produce(n: usize, api: std::net::SocketAddr, ledger: &Ledger, stop: &AtomicBool) -> Option<()> {
    let key = format!("Bearer {OPERATOR_KEY}");
    let mut connection = Connection::open(api).ok()?;
    let tenant = ["a", "b"][n % 2];
    while !stop.load(Ordering::Relaxed) {
        let size = [1, 20, 100][n % 3];
        let mut events = Vec::new();
        for _ in 0..size {
            let id = format!("msg_{}", ledger.next.fetch_add(1, Ordering::Relaxed));
            let body = payload("message.sent", &id);
            ledger.offered.lock().ok()?.insert(id.clone(), body.clone());
            events.push((id, body));
        }
        let (path, kind, body) = if n == 0 {
            (format!("/v1/tenants/{tenant}/events"), "application/json", events[0].1.clone())
        } else {
            let line = |body: &String| format!("{{\"tenant\":\"{tenant}\",\"payload\":{body}}}\n");
            let lines = events.iter().map(|(_, body)| line(body)).collect();
            ("/v1/events".to_owned(), "application/x-ndjson", lines)
        };
        if n > 0 {
            let ids = events.iter().map(|(id, _)| id.clone()).collect();
            ledger.batches.lock().ok()?.push(ids);
        }
        let headers = [("authorization", key.as_str()), ("content-type", kind)];
        let answer = connection.request("POST", &path, &headers, body.as_bytes()).ok()?;
        if answer.status == 202 {
            ledger.accepted.lock().ok()?.extend(events.into_iter().map(|(id, _)| id));
        }
    }
    Some(())
}

struct Receipt {
    at: Instant,
    number: String,
    body: String,
}

/// What arrived, by message id, in order of arrival.
fn arrivals(receiver: &Receiver) -> HashMap<String, Vec<Receipt>> {
    let mut arrived: HashMap<String, Vec<Receipt>> = HashMap::new();
    for request in receiver.requests() {
        let body = String::from_utf8(request.body.clone()).expect("what was sent is text");
        let value: serde_json::Value = serde_json::from_str(&body).expect("what was sent is JSON");
        let id = value["data"]["id"].as_str().expect("has an id").to_owned();
        let number = request.header("x-senderz-attempt").to_owned();
        arrived.entry(id).or_default().push(Receipt { at: request.at, number, body });
    }
    arrived
}

#[expect(clippy::disallowed_methods, reason = "a test's own settings")]
fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// xorshift: the moments need no better.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
