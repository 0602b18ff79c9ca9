//! A receiver that hangs, and a backlog of deliveries behind it: resident memory stays bounded.
//!
//! `MEMORY_DELIVERIES` sets the backlog; the figure is 1,000,000, run with
//! `--release` by `scripts/test memory`.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    payload,
    process::resident_mib,
    receiver::{Answer, Receiver},
    setting,
};

const LIMIT_MIB: f64 = 512.0;
const BATCH: usize = 1000;

#[test]
fn a_backlog_behind_a_hanging_receiver_stays_within_the_memory_limit() {
    let deliveries = setting("MEMORY_DELIVERIES").unwrap_or(50_000);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let receiver = Receiver::start_counting(|_| Answer::Hang);
    let gateway = Gateway::start(dir.path(), &[]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());

    let key = format!("Bearer {OPERATOR_KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", "application/x-ndjson")];
    let mut connection = Connection::open(gateway.api).expect("it listens");
    let mut peak: f64 = 0.0;
    for batch in 0..deliveries / BATCH {
        let lines: String = (0..BATCH)
            .map(|n| {
                // About the mean size of the example events.
                let body =
                    payload("message.delivered", &format!("msg_{batch:08}_{n:08}_{:0>120}", n));
                format!("{{\"tenant\":\"acme\",\"payload\":{body}}}\n")
            })
            .collect();
        loop {
            let path = "/v1/events?ids=false";
            let answer =
                connection.request("POST", path, &headers, lines.as_bytes()).expect("answers");
            match answer.status {
                202 => break,
                429 | 503 => std::thread::sleep(Duration::from_millis(50)),
                other => panic!("{other}: {}", String::from_utf8_lossy(&answer.body)),
            }
        }
        peak = peak.max(resident_mib(gateway.pid()));
    }
    let waiting = eventually("all of it waits", Duration::from_secs(60), || {
        let waiting: f64 = ["pending", "retrying", "in_flight"]
            .map(|state| gateway.metric(&format!("senderz_deliveries{{state=\"{state}\"}}")))
            .iter()
            .sum();
        (waiting as usize >= deliveries).then_some(waiting)
    });
    peak = peak.max(resident_mib(gateway.pid()));
    println!(
        "{waiting} deliveries wait; resident memory {:.0} MiB, peak {peak:.0} MiB",
        resident_mib(gateway.pid())
    );
    assert!(peak <= LIMIT_MIB, "{peak} MiB");

    // A restart reads the same backlog back, within the same limit.
    gateway.kill();
    let started = support::now();
    let gateway = Gateway::start(dir.path(), &[]);
    let took = started.elapsed();
    let after = resident_mib(gateway.pid());
    println!(
        "restart with {waiting} pending: ready after {took:?}, resident memory {after:.0} MiB"
    );
    assert!(after <= LIMIT_MIB, "{after} MiB after the restart");
    gateway.kill();
}

#[test]
fn many_large_payloads_under_way_at_once_stay_within_the_memory_limit() {
    const TENANTS: usize = 30;
    const EVENTS: usize = 30;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let receiver = Receiver::start_counting(|_| Answer::Hang);
    let gateway = Gateway::start(dir.path(), &[("SENDERZ_DELIVERY__TIMEOUT", "60s")]);
    let filler = "x".repeat(250 * 1024);
    let body = payload("message.inbound", "msg_1")
        .replace("\"channel\"", &format!("\"text\":\"{filler}\",\"channel\""));
    let mut peak: f64 = 0.0;
    for tenant in (0..TENANTS).map(|n| format!("t{n}")) {
        gateway.tenant(&tenant);
        gateway.webhook(&tenant, &receiver.url());
        for _ in 0..EVENTS {
            gateway.event(&tenant, &body);
            peak = peak.max(resident_mib(gateway.pid()));
        }
    }
    eventually("attempts are under way", Duration::from_secs(20), || {
        peak = peak.max(resident_mib(gateway.pid()));
        (receiver.count() >= 300).then_some(())
    });
    // None of them ends, so what is let through now is all that ever is under way at once.
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(50));
        peak = peak.max(resident_mib(gateway.pid()));
    }
    let under_way = receiver.count();
    assert!(under_way <= 96 * 1024 / 250, "{under_way} exceed runtime.payload_in_flight");
    println!("{} payloads of 250 KiB wait or are under way; peak {peak:.0} MiB", TENANTS * EVENTS);
    assert!(peak <= LIMIT_MIB, "{peak} MiB");
    gateway.kill();
}

#[test]
fn five_hundred_endless_bodies_at_once_take_little_memory() {
    const WEBHOOKS: u64 = 10;
    const EVENTS: u64 = 50;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let arrived = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&arrived);
    let receiver = Receiver::start_counting(move |_| {
        // All begin at once.
        counter.fetch_add(1, Ordering::SeqCst);
        eventually("all requests are there", Duration::from_secs(30), || {
            (counter.load(Ordering::SeqCst) >= WEBHOOKS * EVENTS).then_some(())
        });
        Answer::Endless
    });
    let gateway = Gateway::start(dir.path(), &[("SENDERZ_DELIVERY__TIMEOUT", "60s")]);
    gateway.tenant("acme");
    for _ in 0..WEBHOOKS {
        gateway.webhook("acme", &receiver.url());
    }
    let idle = resident_mib(gateway.pid());
    for n in 0..EVENTS {
        gateway.event("acme", &payload("message.sent", &format!("msg_{n}")));
    }
    let mut peak = idle;
    eventually("each is cut off and counts as delivered", Duration::from_secs(60), || {
        peak = peak.max(resident_mib(gateway.pid()));
        let ended = gateway.metric("senderz_deliveries_ended_total{outcome=\"delivered\"}");
        (ended as u64 == WEBHOOKS * EVENTS).then_some(())
    });
    let all = WEBHOOKS * EVENTS;
    println!(
        "{all} endless bodies at once: resident memory {idle:.0} MiB before, peak {peak:.0} MiB"
    );
    assert!(peak <= idle + 100.0, "{peak} MiB, {idle} before");
    assert_eq!(receiver.count(), all, "each was asked once");
    gateway.kill();
}
