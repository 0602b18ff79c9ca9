//! What the store takes on disk while it keeps a few mebibytes: under steady load, and where the
//! process is killed under load again and again.
//!
//! `SPACE_SECONDS` sets how long the load is steady, `SPACE_KILLS` the number of kills;
//! `scripts/test space` runs minutes of it.

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use support::{
    disk::taken_mib,
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    now, payload,
    receiver::{Answer, Receiver},
    setting,
};

/// `store.retention_bytes`.
const KEPT_MIB: u64 = 24;
/// What it may take: twice what it keeps, and the segments that sled works with.
const LIMIT_MIB: u64 = 2 * KEPT_MIB + 128;
/// What each producer sends: events of one request, and about the bytes of each.
const PRODUCERS: [(usize, usize); 2] = [(200, 450), (4, 64 * 1024)];
/// A producer waits while so much more was accepted than has arrived: what waits is kept, whatever
/// retention says.
const MOST_WAITING: u64 = 4 << 20;
/// How long the load lasts before each kill.
const LIFE: Duration = Duration::from_millis(1500);

#[test]
fn what_the_store_takes_on_disk_stays_near_what_it_keeps() {
    let steady = Duration::from_secs(setting("SPACE_SECONDS").unwrap_or(4));
    let kills = setting("SPACE_KILLS").unwrap_or(2);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let load = Load::start();
    let start = || {
        let kept = format!("{KEPT_MIB}MiB");
        Gateway::start(dir.path(), &[("SENDERZ_STORE__RETENTION_BYTES", &kept)])
    };
    let mut most = 0;
    let mut look = |what: String| {
        let (mib, long) = taken_mib(dir.path());
        most = most.max(mib);
        let delivered = load.delivered.load(Ordering::Relaxed) >> 20;
        println!("{what}: {mib} MiB on disk in files of {long} MiB, {delivered} MiB delivered");
    };

    let gateway = start();
    gateway.tenant("acme");
    gateway.webhook("acme", &load.receiver.url());
    load.run(gateway, |_| {
        let (since, every) = (now(), (steady / 12).max(Duration::from_secs(1)));
        for n in 1.. {
            eventually("time passes", 2 * every, || (since.elapsed() >= n * every).then_some(()));
            look(format!("steady for {} s", since.elapsed().as_secs()));
            if since.elapsed() >= steady {
                return;
            }
        }
    });
    for kill in 1..=kills {
        load.run(start(), |_| {
            let since = now();
            eventually("time passes", 2 * LIFE, || (since.elapsed() >= LIFE).then_some(()));
        });
        look(format!("kill {kill}"));
    }
    assert!(most <= LIMIT_MIB, "{most} MiB, the most is {LIMIT_MIB}");
}

/// Producers and the receiver, over the lives of many gateways. Counts payload bytes.
struct Load {
    receiver: Receiver,
    delivered: Arc<AtomicU64>,
    accepted: AtomicU64,
}

impl Load {
    fn start() -> Self {
        let delivered = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&delivered);
        let receiver = Receiver::start_counting(move |request| {
            counter.fetch_add(request.body.len() as u64, Ordering::Relaxed);
            Answer::Status(200)
        });
        Self { receiver, delivered, accepted: AtomicU64::new(0) }
    }

    /// Kills the gateway under load, once `until` has returned.
    fn run(&self, gateway: Gateway, until: impl FnOnce(&Gateway)) {
        let (api, stop) = (gateway.api, AtomicBool::new(false));
        // What the kill before it left over would not be counted as waiting.
        eventually("nothing waits", Duration::from_secs(60), || {
            let waiting = "/v1/deliveries?status=pending,retrying&limit=1";
            (gateway.get(waiting, "acme")["data"].as_array()?.is_empty()).then_some(())
        });
        self.accepted.store(self.delivered.load(Ordering::Relaxed), Ordering::Relaxed);
        std::thread::scope(|scope| {
            for (batch, size) in PRODUCERS {
                let stop = &stop;
                // None where its connection ended with the gateway.
                scope.spawn(move || self.produce(api, batch, size, stop));
            }
            until(&gateway);
            gateway.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }

    fn produce(&self, api: SocketAddr, batch: usize, size: usize, stop: &AtomicBool) -> Option<()> {
        let key = format!("Bearer {OPERATOR_KEY}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/x-ndjson")];
        let text = format!("\"text\":\"{}\",\"channel\"", "m".repeat(size - 200));
        let body = payload("message.inbound", "msg_1").replace("\"channel\"", &text);
        let lines = format!("{{\"tenant\":\"acme\",\"payload\":{body}}}\n").repeat(batch);
        let mut connection = Connection::open(api).ok()?;
        while !stop.load(Ordering::Relaxed) {
            let path = "/v1/events?ids=false";
            let answer = connection.request("POST", path, &headers, lines.as_bytes()).ok()?;
            if answer.status == 202 {
                self.accepted.fetch_add((batch * body.len()) as u64, Ordering::Relaxed);
            }
            eventually("deliveries follow", Duration::from_secs(60), || {
                let delivered = self.delivered.load(Ordering::Relaxed);
                let waiting = self.accepted.load(Ordering::Relaxed).saturating_sub(delivered);
                (waiting < MOST_WAITING || stop.load(Ordering::Relaxed)).then_some(())
            });
        }
        Some(())
    }
}
