//! One attempt as a task of its shard: find the payload, send, leave the result in the mailbox.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{effects::READ_PAUSE, turn::Mailbox};
use crate::{
    clock::Millis,
    delivery::Outcome,
    engine::{Blame, Ticket},
    id::{DeliveryId, DeliveryKey},
    sender::{Attempted, Outgoing, Sender, target::Target},
    store::{EventBlock, Store, StoreError},
};

/// An attempt about to be made.
pub(super) struct Making {
    pub(super) ticket: Ticket,
    pub(super) key: DeliveryKey,
    pub(super) number: u16,
    pub(super) queued: Duration,
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
    },
    /// The event's block is damaged or gone: there is nothing to send, now or later.
    Unreadable,
    /// Nothing was sent for a reason of ours; worth another go.
    Own,
}

impl Ended {
    pub(super) fn meaning(&self) -> (Outcome, Blame) {
        match self {
            Ended::Attempted { attempted, .. } => (attempted.outcome, attempted.blame),
            Ended::Unreadable => (Outcome::Failed, Blame::Receiver),
            Ended::Own => (Outcome::Retry { not_before: None }, Blame::Own),
        }
    }
}

/// Leaves a result behind even where the task panics or is dropped: a ticket that never came back
/// would hold its slot for ever.
struct Promise {
    ticket: Ticket,
    mailbox: Rc<Mailbox>,
    kept: bool,
}

impl Promise {
    fn keep(mut self, ended: Ended) {
        self.kept = true;
        self.mailbox.finish(Finished { ticket: self.ticket, ended });
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            self.mailbox.finish(Finished { ticket: self.ticket, ended: Ended::Own });
        }
    }
}

pub(super) async fn make(
    making: Making,
    sender: Rc<Sender>,
    store: Rc<Store>,
    mailbox: Rc<Mailbox>,
) {
    let Making { ticket, key, number, queued, target, block } = making;
    let promise = Promise { ticket, mailbox, kept: false };
    let block = match block {
        Some(block) => block,
        None => match store.block(key.place.block()).await {
            Ok(Some(block)) => block,
            Ok(None) | Err(StoreError::Damaged) => return promise.keep(Ended::Unreadable),
            Err(error) => {
                tracing::warn!(%error, "an event could not be read back; trying again");
                tokio::time::sleep(READ_PAUSE).await;
                return promise.keep(Ended::Own);
            }
        },
    };
    let index = key.place.index();
    let (Some(event), Some(payload)) = (block.events.get(usize::from(index)), block.payload(index))
    else {
        return promise.keep(Ended::Unreadable);
    };
    let outgoing = Outgoing {
        target,
        event: block.event_id(index),
        event_type: event.event_type,
        delivery: DeliveryId { node: store.node, key },
        number,
        payload,
        queued: u32::try_from(queued.as_micros()).unwrap_or(u32::MAX),
    };
    let accepted_at = block.accepted_at;
    drop(block);
    let attempted = Box::new(sender.attempt(outgoing).await);
    promise.keep(Ended::Attempted { attempted, accepted_at });
}
