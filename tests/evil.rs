//! Everything that a receiver can do wrong with an answer (`sender_attempts/answers.rs`), done by one
//! tenant's receivers to the running gateway, all at once and beside another tenant: each attempt
//! becomes what it should, by its deadline; what it held is given back; memory stays flat; and the
//! other tenant's deliveries are as fast as before.
//!
//! The sender alone is shown the same, and what can go wrong below and beside HTTP/1.1, in
//! `tests/sender_attempts`.

#[path = "sender_attempts/answers.rs"]
mod answers;
mod support;

use std::{
    io::{BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use answers::{Expect, Table, Then};
use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;
use support::{
    eventually,
    gateway::Gateway,
    now, payload,
    process::{descriptors, resident_mib},
    receiver::{Answer, Receiver, read_request},
};

/// `delivery.timeout`, in milliseconds: short enough for those that run into it, long enough for the
/// others on a busy machine …
const TIMEOUT: u64 = 4_000;
/// … where it may pass unnoticed for so long.
const BUSY: u64 = 2_000;
const ATTEMPTS: usize = 2;
const SETTINGS: [(&str, &str); 2] =
    [("SENDERZ_DELIVERY__TIMEOUT", "4s"), ("SENDERZ_RETRY__SCHEDULE", "100ms")];
const LIMIT: Duration = Duration::from_secs(90);
/// Deliveries of the other tenant that are timed before.
const ALONE: usize = 100;
/// More memory than before, at the most, MiB.
const FLAT: f64 = 100.0;

fn everything() -> Table {
    [
        answers::of_all_kinds(),
        answers::with_doubtful_framing(),
        answers::that_break_or_hang(),
        answers::of_every_status(),
    ]
    .concat()
}

/// A receiver whose path says which line of the table it plays.
fn start(table: Table) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let table = Arc::new(table);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let table = Arc::clone(&table);
            std::thread::spawn(move || play(stream, &table));
        }
    });
    address
}

/// One connection. None where the gateway hung up.
fn play(stream: TcpStream, table: &Table) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let request = read_request(&mut reader)?;
        let line: usize = request.path.strip_prefix('/')?.parse().ok()?;
        let (bytes, then, _) = &table[line];
        let stream = reader.get_mut();
        stream.write_all(bytes).ok()?;
        let last = *bytes.last().unwrap_or(&0);
        match then {
            Then::Close => return Some(()),
            Then::Reset => return set_socket_linger(&*stream, Some(Duration::ZERO)).ok(),
            // Until the gateway hangs up, or asks for something else.
            Then::Hold => {}
            Then::Flood => loop {
                stream.write_all(&[last; 4096]).ok()?;
            },
            Then::Drip => loop {
                stream.write_all(&[last]).ok()?;
                std::thread::sleep(Duration::from_millis(20));
            },
        }
    }
}

/// The other tenant: one event after the other, from its request to its arrival.
struct Other {
    receiver: Receiver,
    arrivals: Mutex<mpsc::Receiver<Instant>>,
}

impl Other {
    fn start(gateway: &Gateway) -> Self {
        let (tell, arrivals) = mpsc::channel();
        let receiver = Receiver::start_counting(move |request| {
            // Nobody hears of it once the test is over.
            let _ = tell.send(request.at);
            Answer::Status(200)
        });
        gateway.tenant("other");
        gateway.webhook("other", &receiver.url());
        Self { receiver, arrivals: Mutex::new(arrivals) }
    }

    fn delivery(&self, gateway: &Gateway) -> Duration {
        let sent = now();
        gateway.event("other", &payload("message.sent", "msg_other"));
        let arrivals = self.arrivals.lock().expect("no panic holds it");
        let arrived = arrivals.recv_timeout(LIMIT).expect("it is delivered");
        arrived.saturating_duration_since(sent)
    }
}

/// The middle one, and the one that 99 of 100 are below.
fn quantiles(mut took: Vec<Duration>) -> (Duration, Duration) {
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

/// What an attempt came to.
#[derive(Debug, PartialEq)]
struct Found {
    code: Option<String>,
    status: Option<u64>,
    truncated: bool,
}

impl Found {
    fn of(attempt: &Value) -> Self {
        let took = attempt["latency_ms"].as_f64().expect("a number");
        assert!(took < (TIMEOUT + BUSY) as f64, "an attempt took {took} ms");
        Self {
            code: attempt["error"]["code"].as_str().map(str::to_owned),
            status: attempt["status"].as_u64(),
            truncated: attempt["response"]["truncated"] == true,
        }
    }
}

fn found(delivery: &Value) -> Vec<Found> {
    delivery["attempts"].as_array().expect("a list").iter().map(Found::of).collect()
}

fn is_expected(expected: Expect, delivery: &Value) -> bool {
    let found = found(delivery);
    let delivered = |truncated| Found { code: None, status: Some(200), truncated };
    match expected {
        Expect::Delivered => found == [delivered(false)],
        Expect::Truncated => found == [delivered(true)],
        Expect::Fails(code, status) => {
            let (code, status) = (Some(code.as_str()), status.map(u64::from));
            found.len() == ATTEMPTS
                && delivery["status"] == "failed"
                && found.iter().all(|one| one.code.as_deref() == code && one.status == status)
        }
    }
}

#[test]
fn whatever_a_tenants_receivers_do_another_tenant_notices_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let gateway = Gateway::start(dir.path(), &SETTINGS);
    let other = Other::start(&gateway);
    let table = everything();
    let evil = start(table.clone());
    gateway.tenant("evil");
    let webhook = |line| gateway.webhook("evil", &format!("http://{evil}/{line}"));
    let webhooks: Vec<String> = (0..table.len()).map(webhook).collect();

    let alone = quantiles((0..ALONE).map(|_| other.delivery(&gateway)).collect());
    let (memory, open) = (resident_mib(gateway.pid()), descriptors(gateway.pid()).len());
    gateway.event("evil", &payload("message.sent", "msg_evil"));
    let (mut peak, mut beside) = (memory, Vec::new());
    eventually("every delivery ends", LIMIT, || {
        beside.push(other.delivery(&gateway));
        peak = peak.max(resident_mib(gateway.pid()));
        (gateway.waiting("evil") == 0).then_some(())
    });
    let (deliveries, beside) = (beside.len(), quantiles(beside));
    println!(
        "evil: {} behaviours at once; beside them {deliveries} deliveries of another tenant took \
         {:?} (99 %: {:?}), {:?} ({:?}) before; resident memory {memory:.0} MiB before, {peak:.0} \
         MiB at the most",
        table.len(),
        beside.0,
        beside.1,
        alone.0,
        alone.1,
    );

    let mut wrong = Vec::new();
    for ((bytes, _, expected), webhook) in table.iter().zip(&webhooks) {
        let page = gateway.get(&format!("/v1/deliveries?webhook={webhook}"), "evil");
        let id = page["data"][0]["id"].as_str().expect("each has one");
        let delivery = gateway.get(&format!("/v1/deliveries/{id}"), "evil");
        if !is_expected(*expected, &delivery) {
            let said = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
            wrong.push(format!("{said:?}: {:?} instead of {expected:?}", found(&delivery)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    eventually("what they held is given back", LIMIT, || {
        let used = gateway.metric("senderz_connections{state=\"active\"}");
        (used == 0.0 && descriptors(gateway.pid()).len() <= open + 70).then_some(())
    });
    assert!(peak <= memory + FLAT, "{peak} MiB, {memory} before");
    assert!(beside.0 <= 2 * alone.0 + Duration::from_millis(50), "{:?}", beside.0);
    assert_eq!(other.receiver.count() as usize, ALONE + deliveries, "each once");
    assert_eq!(gateway.stop(), 0);
}
