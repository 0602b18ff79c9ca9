//! What a shard tells of an attempt once it is known what followed.

use std::sync::Arc;

use super::turn::Shard;
use crate::{
    delivery::{Attempt, Verdict},
    event::EventType,
    id::{DeliveryId, DeliveryKey, EventId},
    sender::target::Target,
    spans::{AttemptSpan, Failure, Link},
};

/// An attempt that has a span, while it is under way. Boxed, since most have none.
pub(super) struct Traced {
    pub(super) link: Box<Link>,
    pub(super) event: EventId,
    pub(super) event_type: EventType,
    pub(super) payload: u32,
    /// As it was called: the webhook may have another URL by the end.
    pub(super) target: Arc<Target>,
}

impl Shard {
    pub(super) fn end_span(
        &self,
        traced: Traced,
        key: DeliveryKey,
        attempt: &Attempt,
        verdict: Verdict,
    ) {
        let Some(tracer) = &self.inlets.tracer else { return };
        let Traced { link, event, event_type, payload, target } = traced;
        let tenant = self.directory.tenant_by_no(target.tenant());
        let (scheme, host, port) = target.server();
        tracer.end(AttemptSpan {
            link: *link,
            event,
            event_type,
            delivery: DeliveryId { node: self.store.node, key },
            tenant: tenant.map(|entry| entry.tenant.id.clone()),
            webhook: self.directory.webhook_by_no(key.webhook).map(|webhook| webhook.id),
            server: (scheme, host.clone(), port),
            payload,
            number: attempt.number,
            at: attempt.at,
            latency: attempt.latency,
            phases: attempt.phases,
            status: attempt.status,
            failure: Failure::of(attempt),
            peer: attempt.peer,
            protocol: attempt.protocol,
            reused_connection: attempt.reused_connection,
            outcome: outcome(verdict),
        });
    }
}

fn outcome(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "delivered",
        Verdict::RetryAt(_) | Verdict::Reopened => "retry",
        Verdict::Failed(_) => "failed",
        Verdict::Canceled(_) => "canceled",
    }
}
