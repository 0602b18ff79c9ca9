//! What was offered, what was acknowledged and what arrived, kept outside of the process that dies,
//! and the judgement over it.
//!
//! Nothing acknowledged is lost; nothing arrives that was not offered, or at another tenant's
//! webhook; of a batch all arrives or nothing, whether it was acknowledged or not; bodies come byte
//! for byte and rightly signed; an event has the id that was acknowledged, and keeps it and its
//! delivery's, through every attempt and every death; what comes twice had its first attempt under
//! way at a death, or not yet recorded.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::{Connection, Response},
    now, payload,
    probe::Probe,
    receiver::Receiver,
    signed::Signers,
};

/// Whose events they are.
pub const TENANTS: [&str; 2] = ["a", "b"];
/// How many events a producer sends at once. Those that send one use the route for one.
pub const MIXED: &[usize] = &[1, 20, 100];
/// How long a refused producer waits: a hundredth of what it is asked to.
const IMPATIENCE: Duration = Duration::from_millis(10);
/// An attempt that ended longer than this before the death must not be made again … The figure is
/// that of the product as it ships; a debug build is several times slower.
const COMMIT_INTERVAL: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 250 } else { 50 });
/// … in 99 of 100 cases: a sync that the disk keeps waiting holds the commit up with it. What is
/// older than this was forgotten, not late.
const SLOWEST_COMMIT: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(90);

#[derive(Default)]
pub struct Ledger {
    /// Message ids that were offered, whatever became of them.
    offered: Mutex<HashMap<String, Offer>>,
    /// Message ids whose 202 arrived, with the event ids in it.
    accepted: Mutex<HashMap<String, String>>,
    /// The message ids of each request with several events, whatever became of it.
    batches: Mutex<Vec<Vec<String>>>,
    /// Requests that were refused because there was too much to do.
    refused: AtomicU64,
    next: AtomicU64,
    signers: Mutex<Signers>,
}

struct Offer {
    tenant: &'static str,
    payload: String,
}

impl Ledger {
    /// The tenants, each with a webhook of a path of its own.
    pub fn prepare(&self, gateway: &Gateway, receiver: &Receiver) {
        for tenant in TENANTS {
            let secret = gateway.tenant(tenant);
            self.know(tenant, &secret);
            gateway.webhook(tenant, &format!("http://{}{}", receiver.addr, path_of(tenant)));
        }
    }

    /// A secret that signs this tenant's requests from some moment on.
    pub fn know(&self, tenant: &'static str, secret: &str) {
        self.signers.lock().expect("no panic holds it").know(tenant, secret);
    }

    pub fn accepted(&self) -> usize {
        self.accepted.lock().expect("no panic holds it").len()
    }

    /// An event that was sent and acknowledged by other means, with [`payload`]'s body.
    pub fn take_in(&self, tenant: &'static str, message: &str, event: &str) {
        let offer = Offer { tenant, payload: payload("message.sent", message) };
        self.offered.lock().expect("no panic holds it").insert(message.to_owned(), offer);
        let mut accepted = self.accepted.lock().expect("no panic holds it");
        accepted.insert(message.to_owned(), event.to_owned());
    }

    /// Requests that were answered 429, 503 or 507.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Runs producers for as long as `until` takes, which may end the gateway.
    pub fn load(&self, api: SocketAddr, until: impl FnOnce()) {
        self.load_of(api, MIXED, until);
    }

    /// The same with a producer for each of these sizes.
    pub fn load_of(&self, api: SocketAddr, sizes: &[usize], until: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (n, size) in sizes.iter().enumerate() {
                let (stop, tenant) = (&stop, TENANTS[n % TENANTS.len()]);
                // None where nobody listens any more.
                scope.spawn(move || self.produce(tenant, *size, api, stop));
            }
            until();
            stop.store(true, Ordering::Relaxed);
        });
    }

    fn produce(
        &self,
        tenant: &'static str,
        size: usize,
        api: SocketAddr,
        stop: &AtomicBool,
    ) -> Option<()> {
        let key = format!("Bearer {OPERATOR_KEY}");
        let mut connection = Connection::open(api).ok()?;
        while !stop.load(Ordering::Relaxed) {
            let events = self.offer(tenant, size);
            let (path, kind, body) = if let [(_, body)] = &events[..] {
                (format!("/v1/tenants/{tenant}/events"), "application/json", body.clone())
            } else {
                let line =
                    |body: &String| format!("{{\"tenant\":\"{tenant}\",\"payload\":{body}}}\n");
                let lines = events.iter().map(|(_, body)| line(body)).collect();
                ("/v1/events".to_owned(), "application/x-ndjson", lines)
            };
            let headers = [("authorization", key.as_str()), ("content-type", kind)];
            while !stop.load(Ordering::Relaxed) {
                match connection.request("POST", &path, &headers, body.as_bytes()) {
                    Ok(answer) if self.is_refused(&answer) => {
                        std::thread::sleep(IMPATIENCE);
                        if answer.header("connection") == Some("close") {
                            connection = Connection::open(api).ok()?;
                        }
                    }
                    Ok(answer) => {
                        self.accept(events, &answer);
                        break;
                    }
                    // Whether it was accepted nobody knows; whether somebody listens, the next one
                    // tells.
                    Err(_) => {
                        connection = Connection::open(api).ok()?;
                        break;
                    }
                }
            }
        }
        Some(())
    }

    /// Message ids and payloads of a request to come.
    fn offer(&self, tenant: &'static str, size: usize) -> Vec<(String, String)> {
        let mut events = Vec::new();
        for _ in 0..size {
            let id = format!("msg_{}", self.next.fetch_add(1, Ordering::Relaxed));
            let body = payload("message.sent", &id);
            let mut offered = self.offered.lock().expect("no panic holds it");
            offered.insert(id.clone(), Offer { tenant, payload: body.clone() });
            events.push((id, body));
        }
        let ids = events.iter().map(|(id, _)| id.clone()).collect();
        self.batches.lock().expect("no panic holds it").push(ids);
        events
    }

    fn is_refused(&self, answer: &Response) -> bool {
        if answer.status == 202 {
            return false;
        }
        let said = String::from_utf8_lossy(&answer.body);
        assert!(matches!(answer.status, 429 | 503 | 507), "{}: {said}", answer.status);
        assert!(answer.header("retry-after").is_some(), "{}: {said}", answer.status);
        self.refused.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn accept(&self, events: Vec<(String, String)>, answer: &Response) {
        let answer = answer.json();
        let one = answer["id"].as_str().into_iter();
        let many = answer["ids"].as_array().into_iter().flatten();
        let given = one.chain(many.filter_map(|id| id.as_str())).map(str::to_owned);
        let messages = events.into_iter().map(|(id, _)| id);
        self.accepted.lock().expect("no panic holds it").extend(messages.zip(given));
    }

    /// The acknowledged events that are not in the gateway's event log, which keeps all of them.
    pub fn missing(&self, gateway: &Gateway) -> Vec<String> {
        let mut kept = HashSet::new();
        for tenant in TENANTS {
            let first = "/v1/events?after=start&limit=100".to_owned();
            let mut path = first.clone();
            loop {
                let page = gateway.get(&path, tenant);
                let rows = page["data"].as_array().expect("a list").iter();
                kept.extend(rows.map(|row| row["id"].as_str().expect("an id").to_owned()));
                let Some(next) = page["next_cursor"].as_str() else { break };
                path = format!("{first}&cursor={next}");
            }
        }
        let accepted = self.accepted.lock().expect("no panic holds it");
        accepted.values().filter(|id| !kept.contains(*id)).cloned().collect()
    }

    /// Waits until all that was acknowledged has arrived and nothing waits any more, then judges.
    pub fn judge(&self, gateway: &Gateway, receiver: &Receiver, deaths: &[Death]) -> Verdict {
        // Cheap to ask, and a second old at most; what follows asks those who know.
        eventually("the gateway counts nothing that waits", LIMIT, || {
            let state = |state| gateway.metric(&format!("senderz_deliveries{{state=\"{state}\"}}"));
            (["pending", "retrying", "in_flight"].map(state).iter().sum::<f64>() == 0.0)
                .then_some(())
        });
        let accepted = self.accepted.lock().expect("no panic holds it");
        eventually("every accepted event arrives", LIMIT, || {
            let arrived = arrivals(receiver);
            accepted.keys().all(|id| arrived.contains_key(id)).then_some(())
        });
        for tenant in TENANTS {
            eventually("the backlog drains", LIMIT, || {
                (gateway.waiting(tenant) == 0).then_some(())
            });
        }
        let arrived = arrivals(receiver);
        for batch in &*self.batches.lock().expect("no panic holds it") {
            let there = batch.iter().filter(|id| arrived.contains_key(*id)).count();
            assert!(there == 0 || there == batch.len(), "{there} of a batch of {}", batch.len());
        }
        self.signers.lock().expect("no panic holds it").judge(&receiver.requests());
        let offered = self.offered.lock().expect("no panic holds it");
        let mut late: Vec<Duration> = Vec::new();
        for (id, receipts) in arrived {
            let offer =
                offered.get(&id).unwrap_or_else(|| panic!("{id} arrived but was never offered"));
            let event = accepted.get(&id).unwrap_or(&receipts[0].event);
            for receipt in &receipts {
                assert_eq!(receipt.body, offer.payload, "the body of {id} is what was offered");
                assert_eq!(receipt.path, path_of(offer.tenant), "{id} is {}'s", offer.tenant);
                assert_eq!(&receipt.event, event, "{id} has one id as an event, for ever");
                assert_eq!(receipt.delivery, receipts[0].delivery, "and one for its delivery");
            }
            // A failed attempt is rightly made again.
            let twice = receipts.windows(2).filter(|pair| pair[0].number == pair[1].number);
            late.extend(twice.map(|pair| forgotten(&id, pair, deaths)));
        }
        late.sort_unstable();
        Verdict { accepted: accepted.len(), late }
    }
}

/// How long before the death that made it forgotten an attempt had ended.
fn forgotten(id: &str, pair: &[Receipt], deaths: &[Death]) -> Duration {
    let number = &pair[0].number;
    let death = deaths.iter().find(|death| death.read >= pair[0].at);
    let death =
        death.unwrap_or_else(|| panic!("attempt {number} of {id} was made twice without a crash"));
    assert!(death.read < pair[1].at, "{id} was attempted twice between two deaths");
    // It waits for the commit that is under way, and then for its own.
    death.at.saturating_duration_since(pair[0].at).saturating_sub(2 * death.stall)
}

/// The end of a process that could not prepare for it.
pub struct Death {
    /// The process is dead, or what it writes is no longer kept.
    pub at: Instant,
    /// What it had sent has been read: requests until here are of this life, later ones are not.
    pub read: Instant,
    /// How long the machine kept a small write with its sync waiting shortly before.
    pub stall: Duration,
}

impl Death {
    /// Of a process that died just now.
    pub fn noted(receiver: &Receiver, probe: &Probe) -> Self {
        Self::noted_at(now(), receiver, probe)
    }

    pub fn noted_at(at: Instant, receiver: &Receiver, probe: &Probe) -> Self {
        receiver.settle();
        Self { at, read: now(), stall: probe.stall(at) }
    }
}

/// What was not lost, and what was done twice.
pub struct Verdict {
    accepted: usize,
    /// How long before its death each attempt that was made again had ended.
    late: Vec<Duration>,
}

impl Verdict {
    /// Where nobody died, nothing may be made twice, and [`Ledger::judge`] has seen to that.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// One line of figures, after it was made sure that nothing settled was made again.
    pub fn report(&self, deaths: &[Death], what: &str) {
        let share = |percent: usize| {
            let at = (self.late.len() * percent / 100).min(self.late.len().saturating_sub(1));
            self.late.get(at).copied().unwrap_or_default()
        };
        println!(
            "{what}, accepted {}, lost 0, attempts repeated {}, ended before it: half within {:?}, \
             99 % within {:?}, all within {:?}, not counting twice what the machine kept a probe \
             waiting (at most {:?}); loss for each below {:.3} at 95 %",
            self.accepted,
            self.late.len(),
            share(50),
            share(99),
            share(100),
            deaths.iter().map(|death| death.stall).max().unwrap_or_default(),
            3.0 / deaths.len() as f64,
        );
        assert!(share(99) <= COMMIT_INTERVAL, "settled attempts were made again");
        assert!(share(100) <= SLOWEST_COMMIT, "a settled attempt was forgotten");
    }
}

struct Receipt {
    at: Instant,
    path: String,
    event: String,
    delivery: String,
    number: String,
    body: String,
}

fn path_of(tenant: &str) -> String {
    format!("/of/{tenant}")
}

/// What arrived, by message id, in order of arrival.
fn arrivals(receiver: &Receiver) -> HashMap<String, Vec<Receipt>> {
    let mut arrived: HashMap<String, Vec<Receipt>> = HashMap::new();
    for request in receiver.requests() {
        let body = String::from_utf8(request.body.clone()).expect("what was sent is text");
        let value: serde_json::Value = serde_json::from_str(&body).expect("what was sent is JSON");
        let id = value["data"]["id"].as_str().expect("has an id").to_owned();
        let said = |name| request.header(name).to_owned();
        let (event, delivery) = (said("webhook-id"), said("x-senderz-delivery"));
        let (at, path, number) = (request.at, request.path.clone(), said("x-senderz-attempt"));
        let receipt = Receipt { at, path, event, delivery, number, body };
        arrived.entry(id).or_default().push(receipt);
    }
    arrived
}
