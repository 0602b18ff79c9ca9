//! Carrying out what the engine asks for.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    attempt::{self, Ended, Finished},
    mailbox::Owed,
    turn::{ENTRIES_BATCH, ENTRIES_WAIT, Shard},
};
use crate::{
    clock::{self, Millis},
    command::{Check, Checked},
    delivery::{
        Attempt, AttemptError, Entry, ErrorCode, FailReason, KeptResponse, Phases, Protocol,
        Verdict,
    },
    directory::WebhookPatch,
    engine::{BreakerState, Effect, Gauges, Input, Ticket},
    id::{DeliveryId, DeliveryKey, EventId, Place, WebhookNo},
    sender::{Attempted, Outgoing, target::Target},
    store::Write,
};

/// How long a failed read-back waits before it is asked again.
pub(super) const READ_PAUSE: Duration = Duration::from_secs(1);
/// How often gauges and counters go out.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The place in the ids of what stands nowhere in the log.
const NOWHERE: Place = Place::MAX;

/// When a step's effects are carried out: in the engine's time, and for the record.
#[derive(Clone, Copy)]
struct Times {
    now: Millis,
    wall: Millis,
}

impl Shard {
    pub(super) fn carry_out(&mut self, now: Millis) {
        let wall = clock::wall_ms();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { ticket, key, number, due } => {
                    self.send(ticket, key, number, now.saturating_sub(due));
                }
                Effect::Record { ticket, key, number, verdict } => {
                    self.record(ticket, key, number, verdict, Times { now, wall });
                }
                Effect::Forget { ticket } => self.defer(ticket),
                Effect::Refill { webhook, from, until, limit } => {
                    self.refill(webhook, from, until, limit);
                }
                Effect::Breaker { webhook, to } => {
                    self.metrics.breaker(to);
                    self.tell_breaker(webhook, to);
                }
            }
        }
        self.effects = effects;
    }

    fn send(&mut self, ticket: Ticket, key: DeliveryKey, number: u16, lag: Millis) {
        if number > 1 {
            self.metrics.retry_lag(lag);
        }
        let Some(target) = self.targets.get(&key.webhook) else {
            // Removed in this very step; the engine hears of it and cancels.
            self.mailbox.finish(Finished { ticket, ended: Ended::Own });
            return;
        };
        self.report.attempts += 1;
        let making = attempt::Making {
            ticket,
            key,
            number,
            queued: Duration::from_millis(lag),
            handed_out: self.mailbox.probe.hand_out(),
            target: Arc::clone(target),
            block: self.payloads.get(key.place.block()).cloned(),
        };
        self.workers.start(making);
    }

    /// Beside the engine: it takes no slot, and nothing follows from it. The asker bounds how many
    /// there are at once.
    pub(super) fn check(&self, check: Check, reply: oneshot::Sender<Checked>) {
        let Check { webhook, tenant, event_type, payload } = check;
        let outgoing = Outgoing {
            target: Arc::new(Target::new(&webhook, &tenant, &self.settings.sender)),
            event: EventId { node: self.store.node, place: NOWHERE, accepted_at: clock::wall_ms() },
            event_type,
            delivery: DeliveryId {
                node: self.store.node,
                key: DeliveryKey { place: NOWHERE, webhook: webhook.no },
            },
            number: 1,
            payload,
            queued: 0,
        };
        let sender = self.workers.sender_handle();
        tokio::task::spawn_local(async move {
            let Attempted { attempt, outcome, .. } = sender.attempt(outgoing).await;
            // Whoever asked may have gone away.
            let _ = reply.send(Checked { attempt, outcome });
        });
    }

    fn record(
        &mut self,
        ticket: Option<Ticket>,
        key: DeliveryKey,
        number: u16,
        verdict: Verdict,
        Times { now, wall }: Times,
    ) {
        let ended = ticket.and_then(|ticket| self.take_ended(ticket));
        let mut age = 0;
        let (verdict, attempt) = match ended {
            None | Some(Ended::Own) => (verdict, None),
            Some(Ended::Unreadable) => (Verdict::Failed(FailReason::Unreadable), None),
            Some(Ended::Broken { number }) => {
                let attempt = broken(number);
                self.metrics.attempt(verdict, &attempt);
                (verdict, Some(attempt))
            }
            Some(Ended::Attempted { attempted, accepted_at }) => {
                self.metrics.attempt(verdict, &attempted.attempt);
                age = now.saturating_sub(accepted_at);
                if attempted.gone && self.settings.disable_on_gone {
                    self.disable(key.webhook);
                }
                (verdict, Some(attempted.attempt))
            }
        };
        debug_assert!(attempt.as_ref().is_none_or(|a| a.number == number), "the ticket's attempt");
        self.metrics.ended(verdict, age);
        let tenant = || self.targets.get(&key.webhook).map(|target| target.tenant());
        self.stats.record(now, key.webhook, tenant, verdict, attempt.as_ref());
        self.entries.push(Entry { key, at: wall, verdict, attempt });
        self.entries_due.get_or_insert(now + ENTRIES_WAIT.as_millis() as u64);
    }

    /// An attempt that a fault of ours kept from being made leaves no record with its delivery; the
    /// operator hears of it.
    fn defer(&mut self, ticket: Ticket) {
        self.metrics.deferred();
        if let Some(Ended::Attempted { attempted, .. }) = self.take_ended(ticket) {
            self.own_fault = attempted.attempt.error.map(|error| error.detail);
        }
    }

    pub(super) fn take_ended(&mut self, ticket: Ticket) -> Option<Ended> {
        self.ended.get_mut(ticket.0 as usize)?.take()
    }

    fn tell_breaker(&self, webhook: WebhookNo, to: BreakerState) {
        let known = self.directory.webhook_by_no(webhook);
        let tenant = known.as_ref().and_then(|known| self.directory.tenant_by_no(known.tenant));
        // Deleted meanwhile: nobody asks any more.
        let (Some(known), Some(tenant)) = (known, tenant) else { return };
        tracing::info!(tenant = %tenant.tenant.id, webhook = %known.id, ?to, "breaker changed");
    }

    /// The receiver said 410 and the operator wants that to disable the webhook.
    fn disable(&self, webhook: WebhookNo) {
        let directory = self.directory.clone();
        tokio::task::spawn_local(async move {
            let Some(known) = directory.webhook_by_no(webhook) else { return };
            let patch = WebhookPatch { enabled: Some(false), ..WebhookPatch::default() };
            match directory.update_webhook(known.tenant, webhook, None, patch).await {
                Ok(_) => tracing::info!(webhook = %known.id, "webhook disabled: answered 410"),
                Err(error) => {
                    tracing::warn!(webhook = %known.id, %error, "webhook not disabled");
                }
            }
        });
    }

    fn refill(&self, webhook: WebhookNo, from: Place, until: Place, limit: usize) {
        let store = Rc::clone(&self.store);
        let owed = Owed::new(&self.mailbox, "reading the log back");
        tokio::task::spawn_local(async move {
            let found = loop {
                match store.places(webhook, from, until, limit).await {
                    Ok(found) => break found,
                    Err(error) => {
                        tracing::warn!(%error, "reading the log back failed; asking again");
                        tokio::time::sleep(READ_PAUSE).await;
                    }
                }
            };
            owed.give(Input::Refilled { webhook, places: found.places, next: found.next });
        });
    }

    /// Hands waiting entries to the store if they are due and it has room now.
    pub(super) fn offer_entries(&mut self, now: Millis) {
        let due = self.entries_due.is_some_and(|due| now >= due);
        if self.entries.is_empty() || !(due || self.entries.len() >= ENTRIES_BATCH) {
            return;
        }
        match self.store.writes.try_reserve() {
            Ok(permit) => {
                permit.send(message(&mut self.entries));
                self.entries_due = None;
            }
            // Full: asked again shortly. Closed: the store is poisoned and the process is ending.
            Err(_) => self.entries_due = Some(now + ENTRIES_WAIT.as_millis() as u64),
        }
    }

    /// At the end: waits for room, and goes on taking from the feed so that the store can make it.
    pub(super) async fn hand_over_entries(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let entries = std::mem::take(&mut self.entries);
        let writes = self.store.writes.clone();
        let send = writes.send(Write::Entries { entries, reply: None });
        tokio::pin!(send);
        loop {
            tokio::select! {
                _ = &mut send => return,
                Some(_) = self.inlets.feed.recv() => {}
            }
        }
    }

    pub(super) fn publish(&mut self, now: Millis) {
        self.report_at = now + REPORT_EVERY.as_millis() as u64;
        if let Some(why) = self.own_fault.take() {
            tracing::warn!(why, "attempts are put off by a fault of the gateway's own");
        }
        let gauges = self.engine.gauges(now);
        if gauges.crowded != self.crowded {
            self.crowded = gauges.crowded;
            self.tell_crowd(gauges);
        }
        self.metrics.gauges(gauges);
        self.gauges = gauges;
        self.metrics.flush();
    }

    fn tell_crowd(&self, Gauges { crowded, retrying, webhooks_held_back, .. }: Gauges) {
        let limit = self.settings.engine.max_retrying;
        if crowded {
            tracing::warn!(
                retrying,
                limit,
                webhooks_held_back,
                "too many deliveries wait for a retry; webhooks that fail make no first attempts"
            );
        } else {
            tracing::info!(retrying, limit, "there is room again for deliveries to be retried");
        }
    }
}

/// The waiting entries, for the store. The next ones get their room at once: they would grow into
/// it in steps, and each step would copy them.
pub(super) fn message(entries: &mut Vec<Entry>) -> Write {
    let room = entries.len().min(2 * ENTRIES_BATCH);
    let entries = std::mem::replace(entries, Vec::with_capacity(room));
    Write::Entries { entries, reply: None }
}

/// The record of an attempt whose task panicked.
fn broken(number: u16) -> Attempt {
    Attempt {
        number,
        at: clock::wall_ms(),
        status: None,
        error: Some(AttemptError {
            code: ErrorCode::Canceled,
            detail: "the attempt was cut short by a fault of the gateway".to_owned(),
        }),
        latency: 0,
        phases: Phases::default(),
        response: KeptResponse::default(),
        peer: None,
        protocol: Protocol::default(),
        reused_connection: false,
    }
}
