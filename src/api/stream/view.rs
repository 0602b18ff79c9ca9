//! What goes over a stream.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::{
    ApiState,
    attempt::AttemptView,
    openapi::{DeliveryStatus, LagReason},
};
use crate::{
    delivery::State,
    id::{DeliveryId, NodeNo, Place, StreamId},
    openapi::words,
    store::{AttemptRow, EntryPlace, Gap},
};

pub(super) const MEDIA_TYPE: &str = "text/event-stream";

/// How soon a reader that was cut off comes again, where it follows the standard.
const RECONNECT_MS: u32 = 1000;

/// An attempt, and where its delivery stands after it: the data of an event `attempt`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamedAttempt)]
pub(in crate::api) struct StreamedAttemptView<'a> {
    /// Null where the tenant was deleted.
    #[schema(value_type = Option<words::TenantId>, required)]
    tenant_id: Option<String>,
    /// Null where the webhook was deleted so long ago that its id is forgotten.
    #[schema(value_type = Option<words::WebhookId>, required)]
    webhook_id: Option<String>,
    #[schema(value_type = words::EventId)]
    event_id: String,
    #[schema(value_type = words::EventType)]
    event_type: &'static str,
    #[schema(value_type = words::DeliveryId)]
    delivery_id: String,
    /// Where the delivery stands after the attempt.
    #[schema(value_type = DeliveryStatus)]
    status: &'static str,
    /// Why it failed or was canceled.
    #[schema(value_type = Option<words::EndReason>, required)]
    reason: Option<&'static str>,
    attempt: AttemptView<'a>,
}

impl<'a> StreamedAttemptView<'a> {
    pub(super) fn of(api: &ApiState, row: &'a AttemptRow, to_operator: bool) -> Option<Self> {
        let delivery = DeliveryId { node: row.event.node, key: row.entry.key };
        let tenant = api.directory.tenant_by_no(row.tenant);
        let state = State::default().after(row.entry.verdict);
        Some(Self {
            tenant_id: tenant.map(|entry| entry.tenant.id.as_str().to_owned()),
            webhook_id: api.directory.webhook_id(row.entry.key.webhook).map(|id| id.to_string()),
            event_id: row.event.to_string(),
            event_type: row.event_type.as_str(),
            delivery_id: delivery.to_string(),
            status: state.as_str(),
            reason: state.reason(),
            attempt: AttemptView::of(delivery, &row.entry, to_operator)?,
        })
    }
}

/// Why attempts were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Slow,
    Gap(Gap),
}

pub(in crate::api) const REASONS: [&str; 4] =
    ["slow_reader", "retention", "damage", "lost_history"];

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Slow => REASONS[0],
            Self::Gap(Gap::Retired) => REASONS[1],
            Self::Gap(Gap::Damaged) => REASONS[2],
            Self::Gap(Gap::Lost) => REASONS[3],
        }
    }
}

/// Attempts that the stream does not have: the data of an event `lagged`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamLagged)]
pub(in crate::api) struct LaggedView {
    /// How many attempts of this stream were left out; null where nobody can know.
    #[schema(required)]
    missed: Option<u64>,
    #[schema(value_type = LagReason)]
    reason: &'static str,
    /// With this as `Last-Event-ID` another stream begins with what was left out; null where that
    /// is gone.
    #[schema(required)]
    resume_from: Option<String>,
}

/// Writes the lines of a stream, as the standard of Server-Sent Events has them: JSON has no line
/// ends, so an event's data is one line.
#[derive(Debug)]
pub(super) struct Writer {
    node: NodeNo,
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn new(node: NodeNo) -> Self {
        Self { node, out: Vec::new() }
    }

    /// The first piece: a reader who is cut off before any event resumes here.
    pub(super) fn opening(&mut self, at: EntryPlace) {
        self.put(format_args!("retry: {RECONNECT_MS}\nid: {}\n\n", self.id(at)));
    }

    /// A comment, and how far this stream has come: an id without data is no event, and is kept.
    pub(super) fn keep_alive(&mut self, at: EntryPlace) {
        self.put(format_args!(": nothing new\nid: {}\n\n", self.id(at)));
    }

    /// Nothing where the row has no attempt.
    pub(super) fn attempt(&mut self, api: &ApiState, row: &AttemptRow, to_operator: bool) {
        if let Some(view) = StreamedAttemptView::of(api, row, to_operator) {
            let behind = EntryPlace(Place::from_u64(row.place.0.as_u64() + 1));
            self.event("attempt", behind, &view);
        }
    }

    /// From `from` to `to`.
    pub(super) fn lagged(
        &mut self,
        missed: Option<u64>,
        reason: Reason,
        from: EntryPlace,
        to: EntryPlace,
    ) {
        let resume_from = (reason == Reason::Slow).then(|| self.id(from).to_string());
        self.event("lagged", to, &LaggedView { missed, reason: reason.as_str(), resume_from });
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// What was written so far.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn event(&mut self, name: &str, id: EntryPlace, data: &impl Serialize) {
        let data = serde_json::to_string(data).expect("views have string keys and finite numbers");
        self.put(format_args!("event: {name}\nid: {}\ndata: {data}\n\n", self.id(id)));
    }

    fn id(&self, at: EntryPlace) -> StreamId {
        StreamId { node: self.node, place: at.0 }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        use std::io::Write as _;
        self.out.write_fmt(text).expect("a vector takes all");
    }
}
