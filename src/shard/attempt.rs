//! One attempt in its shard: find the payload, send, leave the result in the mailbox.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{effects::READ_PAUSE, mailbox::Mailbox, span::Traced};
use crate::{
    clock::{self, Millis},
    delivery::Outcome,
    engine::{Blame, Ticket},
    id::{DeliveryId, DeliveryKey},
    sender::{Attempted, Outgoing, Sender, target::Target},
    spans::{Begun, Tracer},
    store::{EventBlock, Store, StoreError},
};

/// An attempt about to be made.
pub(super) struct Making {
    pub(super) ticket: Ticket,
    pub(super) key: DeliveryKey,
    pub(super) number: u16,
    pub(super) queued: Duration,
    /// See [`Probe`](super::mailbox::Probe).
    pub(super) handed_out: Option<Instant>,
    pub(super) target: Arc<Target>,
    /// None where the block must be read back.
    pub(super) block: Option<Arc<EventBlock>>,
}

pub(super) struct Finished {
    pub(super) ticket: Ticket,
    pub(super) ended: Ended,
}

/// How an attempt's task ended.
pub(super) enum Ended {
    Attempted {
        attempted: Box<Attempted>,
        accepted_at: Millis,
        /// None where it has no span.
        traced: Option<Box<Traced>>,
    },
    /// The event's block is damaged or gone: there is nothing to send, now or later.
    Unreadable,
    /// What it said was erased.
    Erased,
    /// Nothing was sent for a reason of ours; worth another go.
    Own,
    /// The attempt's task panicked. It counts like any that failed, so that an event which does
    /// this every time ends after its last attempt.
    Broken { number: u16 },
}

impl Ended {
    pub(super) fn meaning(&self) -> (Outcome, Blame) {
        match self {
            Ended::Attempted { attempted, .. } => (attempted.outcome, attempted.blame),
            Ended::Unreadable | Ended::Erased => (Outcome::Failed, Blame::Receiver),
            Ended::Own => (Outcome::Retry { not_before: None }, Blame::Own),
            Ended::Broken { .. } => (Outcome::Retry { not_before: None }, Blame::Receiver),
        }
    }
}

/// Leaves a result behind even where the task panics or is dropped: a ticket that never came back
/// would hold its slot for ever.
struct Promise<'m> {
    ticket: Ticket,
    number: u16,
    mailbox: &'m Mailbox,
    kept: bool,
}

impl Promise<'_> {
    fn keep(mut self, ended: Ended) {
        self.kept = true;
        self.mailbox.finish(Finished { ticket: self.ticket, ended });
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // One that is dropped with its shard, at the end of the drain, is no fault: the drain
            // counts it as abandoned.
            if std::thread::panicking() {
                tracing::error!("an attempt's task did not come to its end");
            }
            let ended = Ended::Broken { number: self.number };
            self.mailbox.finish(Finished { ticket: self.ticket, ended });
        }
    }
}

/// What attempts of one shard may hold in memory together. Payloads are small as a rule and nobody
/// waits here; when many large ones hang at once, the attempts beyond the budget hold their slots
/// and wait for bytes, before their deadline starts.
pub(super) struct Held {
    /// In units of [`HELD_UNIT`].
    payloads: Semaphore,
    budget: u32,
    /// Blocks read back whose size is not known before they are there.
    reads: Semaphore,
}

/// Permits are counted in this many bytes.
const HELD_UNIT: usize = 1024;
/// Blocks that one shard reads back at once, each of up to one payload.
const READS: usize = 64;

impl Held {
    pub(super) fn new(bytes: usize) -> Self {
        let budget = u32::try_from(bytes / HELD_UNIT).unwrap_or(u32::MAX).max(1);
        Self { payloads: Semaphore::new(budget as usize), budget, reads: Semaphore::new(READS) }
    }

    /// A payload larger than the whole budget takes all of it.
    fn permits(&self, block: &EventBlock, index: u16) -> u32 {
        let payload = block.events.get(usize::from(index)).map_or((0, 0), |event| event.payload);
        ((payload.1 - payload.0) / HELD_UNIT as u32 + 1).min(self.budget)
    }
}

/// What every attempt of a shard works with.
pub(super) struct Means {
    pub(super) sender: Rc<Sender>,
    pub(super) store: Rc<Store>,
    pub(super) held: Held,
    pub(super) mailbox: Rc<Mailbox>,
    pub(super) tracer: Option<Tracer>,
}

pub(super) async fn make(making: Making, means: &Means) {
    let Making { ticket, key, number, queued, handed_out, target, block } = making;
    let Means { sender, store, held, mailbox, tracer } = means;
    if let Some(handed_out) = handed_out {
        mailbox.probe.begins(handed_out);
    }
    let promise = Promise { ticket, number, mailbox, kept: false };
    let index = key.place.index();
    let at_hand = block.and_then(|block| {
        let permits = held.permits(&block, index);
        Some((held.payloads.try_acquire_many(permits).ok()?, block))
    });
    let (_held, block) = match at_hand {
        Some(at_hand) => at_hand,
        None => {
            let _read = held.reads.acquire().await.expect("never closed");
            let block = match store.block(key.place.block()).await {
                Ok(Some(block)) => block,
                Ok(None) | Err(StoreError::Damaged) => return promise.keep(Ended::Unreadable),
                Err(error) => {
                    tracing::warn!(%error, "an event could not be read back; trying again");
                    tokio::time::sleep(READ_PAUSE).await;
                    return promise.keep(Ended::Own);
                }
            };
            let permits = held.permits(&block, index);
            let payload = held.payloads.acquire_many(permits).await.expect("never closed");
            (payload, block)
        }
    };
    if block.erased_at(index).is_some() {
        return promise.keep(Ended::Erased);
    }
    let (Some(event), Some(payload)) = (block.events.get(usize::from(index)), block.payload(index))
    else {
        return promise.keep(Ended::Unreadable);
    };
    let accepted_at = block.accepted_at;
    // A first attempt has waited since acceptance; the engine knows that to the second only.
    let queued = match number {
        1 => Duration::from_millis(clock::wall_ms().saturating_sub(accepted_at)),
        _ => queued,
    };
    let (event_id, event_type) = (block.event_id(index), event.event_type);
    let begun = match tracer {
        Some(tracer) => tracer.begin(event_id, block.trace(index)),
        None => Begun::default(),
    };
    let traced = begun.link.map(|link| {
        let (payload, target) = (payload.len() as u32, Arc::clone(&target));
        Box::new(Traced { link, event: event_id, event_type, payload, target })
    });
    let outgoing = Outgoing {
        target,
        event: event_id,
        event_type,
        delivery: DeliveryId { node: store.node, key },
        number,
        payload,
        queued: u32::try_from(queued.as_micros()).unwrap_or(u32::MAX),
        trace: begun.forwarded,
    };
    drop(block);
    let attempted = Box::new(sender.attempt(outgoing).await);
    promise.keep(Ended::Attempted { attempted, accepted_at, traced });
}
