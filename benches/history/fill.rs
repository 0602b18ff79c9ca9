//! Months of attempts, in a minute.
//!
//! Events come as if ten thousand were accepted in a second, each for one webhook. A third is the
//! first tenant's, and of those half its first webhook's; one webhook has three in all. Of a hundred
//! deliveries four succeed at the second attempt and one fails six times, with the published
//! schedule between: so entries about an event lie as far apart as they would.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use senderz_gateway::{
    clock::{Millis, wall_ms},
    delivery::{
        Attempt, AttemptError, Entry, ErrorCode, FailReason, KeptResponse, Phases, Protocol,
        Verdict,
    },
    event::EventType,
    id::{DeliveryId, DeliveryKey, EventId, TenantNo, WebhookNo},
    store::{NewEvent, Route, Write},
};

use crate::world::World;

/// Events of a commit; a fifth of a second.
const BATCH: usize = 2000;
/// Batches until the next attempt, after each that fails.
const SCHEDULE: [usize; 5] = [5, 10, 20, 40, 80];
const AHEAD: usize = 81;

/// Whose deliveries the pages ask for.
pub(crate) const HOT: usize = 0;
pub(crate) const USUAL: usize = 7;
/// The last webhook of this tenant has three deliveries, two of them failed.
pub(crate) const RARE: usize = 11;

pub(crate) struct Filling {
    routes: Vec<Vec<Arc<[Route]>>>,
    /// A reproducible choice for each event.
    random: u64,
    /// What falls due in the batches to come: a delivery and the number of its next attempt.
    due: Vec<Vec<(DeliveryKey, u16)>>,
    batch: usize,
    pub(crate) attempts: u64,
    /// When the first half of the attempts, and six tenths of them, had been made.
    pub(crate) middle: (Millis, Millis),
    /// A delivery of the usual tenant that failed six times, long ago.
    pub(crate) failed: Option<DeliveryId>,
    /// One of the rare webhook's tenant's first events.
    pub(crate) early: Option<EventId>,
}

impl Filling {
    pub(crate) fn new(world: &World) -> Self {
        let route = |webhook: &(WebhookNo, _)| {
            Arc::from([Route { webhook: webhook.0, enabled: true }].as_slice())
        };
        let routes = world.webhooks.iter().map(|of| of.iter().map(route).collect()).collect();
        Self {
            routes,
            random: 0x2545_f491_4f6c_dd1d,
            due: vec![Vec::new(); AHEAD],
            batch: 0,
            attempts: 0,
            middle: (0, 0),
            failed: None,
            early: None,
        }
    }

    /// Until there are so many attempts.
    pub(crate) async fn fill(&mut self, world: &World, attempts: u64) -> anyhow::Result<()> {
        let (half, more) = (attempts / 2, attempts * 6 / 10);
        self.middle = (wall_ms(), wall_ms());
        while self.attempts < attempts {
            self.fill_batch(world).await?;
            if self.attempts < half {
                self.middle.0 = wall_ms();
            }
            if self.attempts < more {
                self.middle.1 = wall_ms();
            }
        }
        world.store.put_entries(Vec::new()).await?;
        Ok(())
    }

    async fn fill_batch(&mut self, world: &World) -> anyhow::Result<()> {
        let events: Vec<NewEvent> = (0..BATCH).map(|n| self.event(n)).collect();
        let webhooks: Vec<WebhookNo> = events.iter().map(|event| event.routes[0].webhook).collect();
        let tenants: Vec<TenantNo> = events.iter().map(|event| event.tenant).collect();
        let appended = world.store.append(events).await?;
        let mut entries = Vec::with_capacity(BATCH + BATCH / 3);
        let slot = self.batch % AHEAD;
        for (key, number) in std::mem::take(&mut self.due[slot]) {
            entries.push(self.attempt(key, number));
        }
        for ((appended, webhook), tenant) in appended.iter().zip(webhooks).zip(tenants) {
            let key = DeliveryKey { place: appended.id.place, webhook };
            entries.push(self.attempt(key, 1));
            if self.early.is_none() && tenant.0 as usize == RARE + 1 {
                self.early = Some(appended.id);
            }
            if self.failed.is_none() && tenant.0 as usize == USUAL + 1 && fate(key) == Fate::Fails {
                self.failed = Some(DeliveryId { node: world.store.node, key });
            }
        }
        self.attempts += entries.len() as u64;
        self.batch += 1;
        let write = Write::Entries { entries, reply: None };
        world.store.writes.send(write).await.ok().context("the store has closed")
    }

    fn event(&mut self, n: usize) -> NewEvent {
        let tenants = self.routes.len();
        let is_rare = n == 17 && [0, 1, 2].contains(&self.batch);
        let (tenant, webhook) = match self.next(6) {
            _ if is_rare => (RARE, self.routes[RARE].len() - 1),
            0 => (HOT, 0),
            1 => (HOT, self.next(self.routes[HOT].len())),
            _ => {
                let tenant = 1 + self.next(tenants - 1);
                (tenant, self.next(self.routes[tenant].len() - 1))
            }
        };
        NewEvent {
            tenant: TenantNo(tenant as u32 + 1),
            event_type: EventType::ALL[self.next(6)],
            payload: Bytes::from_static(PAYLOAD),
            key: None,
            trace: None,
            routes: Arc::clone(&self.routes[tenant][webhook]),
        }
    }

    /// Makes an attempt, and sees to the next one.
    fn attempt(&mut self, key: DeliveryKey, number: u16) -> Entry {
        let now = wall_ms();
        let fails = match fate(key) {
            Fate::Succeeds => false,
            Fate::SucceedsLater => number == 1,
            Fate::Fails => true,
        };
        let wait = SCHEDULE.get(usize::from(number) - 1);
        let verdict = match wait {
            _ if !fails => Verdict::Delivered,
            Some(_) => Verdict::RetryAt(now + 1000),
            None => Verdict::Failed(FailReason::AttemptsExhausted),
        };
        if let Some(wait) = wait.filter(|_| fails) {
            let slot = (self.batch + wait) % AHEAD;
            self.due[slot].push((key, number + 1));
        }
        let timed_out = fails && key.place.index().is_multiple_of(4);
        let error = |code, detail: &str| AttemptError { code, detail: detail.to_owned() };
        let attempt = Attempt {
            number,
            at: now,
            status: if timed_out { None } else { Some(if fails { 503 } else { 200 }) },
            error: match (fails, timed_out) {
                (_, true) => Some(error(ErrorCode::Timeout, "no answer within 15 s")),
                (true, _) => Some(error(ErrorCode::Status, "answered 503")),
                _ => None,
            },
            latency: 23_456,
            phases: Phases { queue: 12, first_byte: 23_000, ..Phases::default() },
            response: KeptResponse {
                headers: Bytes::from_static(b"content-length: 2\r\nserver: nginx\r\n"),
                body: Bytes::from_static(b"ok"),
                truncated: false,
            },
            peer: Some(([192, 0, 2, 1], 443).into()),
            protocol: Protocol::Http1,
            reused_connection: true,
        };
        Entry { key, at: now + 23, verdict, attempt: Some(attempt) }
    }

    fn next(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % below
    }
}

const PAYLOAD: &[u8] = br#"{"type":"message.delivered","timestamp":"2026-11-23T04:20:00.123Z","data":{"id":"msg_b4fe0a0991f035bc5023","channel":"whatsapp","recipient":"+15555550100","status_reason":null,"cost":"0.0042"}}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Succeeds,
    SucceedsLater,
    Fails,
}

/// Decided by the delivery's name, so that nobody has to remember it.
fn fate(key: DeliveryKey) -> Fate {
    let name = key.place.as_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    match name % 100 {
        0 => Fate::Fails,
        1..=4 => Fate::SucceedsLater,
        _ => Fate::Succeeds,
    }
}
