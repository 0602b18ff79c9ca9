//! A long run at 60 % of what this machine takes, with 5 % of faults: memory, file descriptors and
//! the disk must come to rest, and deliveries must not grow slower.
//!
//! `SOAK_SECONDS` sets how long. The default is a look; a leak shows in hours
//! (`scripts/test soak --minutes 240`).

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use support::{
    disk::taken_mib,
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    now, payload,
    process::{descriptors, resident_mib},
    receiver::{Answer, Receiver},
    setting,
};

/// `store.retention_bytes`.
const KEPT_MIB: u64 = 64;
/// Twice what it keeps, and the segments that sled works with.
const DISK_LIMIT_MIB: u64 = 2 * KEPT_MIB + 128;
const SHARE: f64 = 0.6;
const BATCH: usize = 50;
/// While it is found out what the machine takes, no more than this waits.
const MOST_WAITING: u64 = 2_000;
const CALIBRATION: Duration = Duration::from_secs(5);
/// Between two looks, at most.
const LOOK: Duration = Duration::from_secs(5);
/// Between two events whose way is timed.
const TIMED: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(120);

/// What was seen of the gateway at one moment.
struct Look {
    at: Duration,
    memory_mib: f64,
    descriptors: usize,
    disk_mib: u64,
    /// From the request of an event to its delivery, in the middle of those since the last look.
    latency: Duration,
}

/// Counts what the customers get.
struct Customers {
    faulty: Receiver,
    delivered: Arc<AtomicU64>,
    /// Gets what is timed, and never fails.
    timed: Receiver,
    arrivals: Mutex<mpsc::Receiver<Instant>>,
}

impl Customers {
    fn start() -> Self {
        let (nth, delivered) = (AtomicU64::new(0), Arc::<AtomicU64>::default());
        let counter = Arc::clone(&delivered);
        let faulty = Receiver::start_counting(move |_| {
            // Of a hundred requests two are refused, two cut off and one is left without an answer.
            match nth.fetch_add(1, Ordering::Relaxed) % 100 {
                13 | 59 => Answer::Status(500),
                31 | 83 => Answer::Close,
                71 => Answer::Hang,
                _ => {
                    counter.fetch_add(1, Ordering::Relaxed);
                    Answer::Status(200)
                }
            }
        });
        let (tell, arrivals) = mpsc::channel();
        let timed = Receiver::start_counting(move |request| {
            // Nobody hears of it once the test is over.
            let _ = tell.send(request.at);
            Answer::Status(200)
        });
        Self { faulty, delivered, timed, arrivals: Mutex::new(arrivals) }
    }
}

/// A producer of batches, as fast as `wait` lets it.
fn produce(api: SocketAddr, accepted: &AtomicU64, mut wait: impl FnMut() -> bool) {
    let key = format!("Bearer {OPERATOR_KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", "application/x-ndjson")];
    let body = payload("message.delivered", &format!("msg_{:0>160}", 1));
    let lines = format!("{{\"tenant\":\"acme\",\"payload\":{body}}}\n").repeat(BATCH);
    let mut connection = Connection::open(api).expect("it listens");
    while wait() {
        let path = "/v1/events?ids=false";
        let answer = connection.request("POST", path, &headers, lines.as_bytes());
        assert_eq!(answer.expect("it answers").status, 202);
        accepted.fetch_add(BATCH as u64, Ordering::Relaxed);
    }
}

/// Events a second that are accepted and delivered, with everybody in a hurry.
fn capacity(gateway: &Gateway, customers: &Customers, accepted: &AtomicU64) -> f64 {
    let (began, before) = (now(), customers.delivered.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                produce(gateway.api, accepted, || {
                    eventually("deliveries follow", LIMIT, || {
                        let delivered = customers.delivered.load(Ordering::Relaxed);
                        let waiting = accepted.load(Ordering::Relaxed).saturating_sub(delivered);
                        (waiting < MOST_WAITING || began.elapsed() >= CALIBRATION).then_some(())
                    });
                    began.elapsed() < CALIBRATION
                });
            });
        }
    });
    let delivered = customers.delivered.load(Ordering::Relaxed) - before;
    delivered as f64 / began.elapsed().as_secs_f64()
}

/// The median of the ways of events that were sent until `until`.
fn latency(gateway: &Gateway, customers: &Customers, until: Instant) -> Duration {
    let arrivals = customers.arrivals.lock().expect("no panic holds it");
    let mut took = Vec::new();
    while took.is_empty() || now() < until {
        let sent = now();
        gateway.event("timed", &payload("message.sent", "msg_timed"));
        let arrived = arrivals.recv_timeout(LIMIT).expect("it is delivered");
        took.push(arrived.saturating_duration_since(sent));
        std::thread::sleep(TIMED);
    }
    took.sort_unstable();
    took[took.len() / 2]
}

#[test]
fn memory_descriptors_disk_and_latency_come_to_rest_in_a_long_run_with_faults() {
    let length = Duration::from_secs(setting("SOAK_SECONDS").unwrap_or(30));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let customers = Customers::start();
    let kept = format!("{KEPT_MIB}MiB");
    let settings =
        [("SENDERZ_STORE__RETENTION_BYTES", kept.as_str()), ("SENDERZ_DELIVERY__TIMEOUT", "2s")];
    let gateway = Gateway::start(dir.path(), &settings);
    for (tenant, receiver) in [("acme", &customers.faulty), ("timed", &customers.timed)] {
        gateway.tenant(tenant);
        gateway.webhook(tenant, &receiver.url());
    }
    let accepted = AtomicU64::new(0);
    let capacity = capacity(&gateway, &customers, &accepted);
    let rate = SHARE * capacity;
    println!("soak: {capacity:.0} events/s are delivered, so {rate:.0} are sent for {length:?}");

    let (began, stop) = (now(), AtomicBool::new(false));
    let mut looks: Vec<Look> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = 0;
            produce(gateway.api, &accepted, || {
                let due = Duration::from_secs_f64(f64::from(sent) / rate);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
                sent += u32::try_from(BATCH).expect("it is small");
                !stop.load(Ordering::Relaxed)
            });
        });
        let every = LOOK.min(length / 10);
        for n in 1.. {
            let latency = latency(&gateway, &customers, began + n * every);
            looks.push(Look {
                at: began.elapsed(),
                memory_mib: resident_mib(gateway.pid()),
                descriptors: descriptors(gateway.pid()).len(),
                disk_mib: taken_mib(dir.path()).0,
                latency,
            });
            if began.elapsed() >= length {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    report(&looks);

    let accepted = accepted.into_inner();
    eventually("all is delivered", LIMIT, || {
        let delivered = customers.delivered.load(Ordering::Relaxed);
        (delivered >= accepted).then_some(())
    });
    eventually("nothing waits", LIMIT, || (gateway.waiting("acme") == 0).then_some(()));
    let delivered = customers.delivered.load(Ordering::Relaxed);
    println!("soak: accepted {accepted}, delivered {delivered}, faults answered by retries");
    assert_eq!(delivered, accepted, "each is taken once");
    assert_eq!(gateway.stop(), 0);
}

/// Prints and judges. The first half is for warming up: caches fill, the store reaches its size.
fn report(looks: &[Look]) {
    let settled = &looks[looks.len() / 2..];
    let slope = slope(settled);
    let (first, last) = (&settled[0], settled.last().expect("there are some"));
    let third = (looks.len() / 3).max(1);
    let median = |looks: &[Look]| {
        let mut all: Vec<_> = looks.iter().map(|look| look.latency).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let (early, late) = (median(&looks[..third]), median(&looks[looks.len() - third..]));
    let most = |what: fn(&Look) -> u64| looks.iter().map(what).max().unwrap_or_default();
    let disk = most(|look| look.disk_mib);
    println!(
        "soak: resident memory {:.0} MiB half way, {:.0} MiB at the end ({slope:+.2} MiB a minute); \
         descriptors {} and {}, {} at most; disk {disk} MiB at most ({DISK_LIMIT_MIB} allowed); a \
         delivery takes {early:?} in the first third and {late:?} in the last",
        first.memory_mib,
        last.memory_mib,
        first.descriptors,
        last.descriptors,
        most(|look| look.descriptors as u64),
    );
    assert!(disk <= DISK_LIMIT_MIB, "{disk} MiB on disk");
    // A few connections more or less are open at any moment.
    assert!(last.descriptors <= first.descriptors + 100, "descriptors leak");
    // What is left of warming up may grow; in an hour it is less than the tenth part of this.
    let grown = last.memory_mib - first.memory_mib;
    assert!(grown <= 64.0, "{grown} MiB more in the second half");
    assert!(late <= 3 * early + Duration::from_millis(20), "{early:?} became {late:?}");
}

/// Of resident memory, in MiB a minute: least squares.
fn slope(looks: &[Look]) -> f64 {
    let count = looks.len() as f64;
    let minutes = |look: &Look| look.at.as_secs_f64() / 60.0;
    let mean_at = looks.iter().map(minutes).sum::<f64>() / count;
    let mean = looks.iter().map(|look| look.memory_mib).sum::<f64>() / count;
    let both = looks.iter().map(|look| (minutes(look) - mean_at) * (look.memory_mib - mean));
    let square = looks.iter().map(|look| (minutes(look) - mean_at).powi(2));
    both.sum::<f64>() / square.sum::<f64>().max(f64::MIN_POSITIVE)
}
