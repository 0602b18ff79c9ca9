//! A job: what it is to send again, and how far it is.

use crate::{
    clock::Millis,
    event::EventTypes,
    id::{DeliveryKey, ReplayId, TenantNo, WebhookNo},
};

/// What deliveries a job may be about, as the API names them: the ways to have ended, and `missed`,
/// what found its webhook disabled and was never sent.
pub const STATUSES: [&str; 4] = ["delivered", "failed", "canceled", MISSED];
const MISSED: &str = "missed";

/// Which deliveries a job sends again. Every set filter must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub webhook: Option<WebhookNo>,
    /// Of [`STATUSES`], at least one.
    pub statuses: Vec<&'static str>,
    pub event_types: EventTypes,
    /// Of the event's acceptance, wall, inclusive.
    pub since: Option<Millis>,
    /// The job's creation where the request does not say, or says later.
    pub until: Option<Millis>,
}

impl Filter {
    pub(super) fn wants_missed(&self) -> bool {
        self.statuses.contains(&MISSED)
    }

    pub(super) fn states(&self) -> Vec<&'static str> {
        self.statuses.iter().copied().filter(|status| *status != MISSED).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Paused,
    Done,
    Canceled,
    Failed,
}

impl State {
    pub const ALL: [State; 5] =
        [Self::Running, Self::Paused, Self::Done, Self::Canceled, Self::Failed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }

    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Canceled | Self::Failed)
    }
}

/// Why a job rests or failed without having been told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its webhook is disabled: it rests.
    WebhookDisabled,
    /// Its webhook was deleted: it failed.
    WebhookDeleted,
    /// A fault of the gateway's own ended it: it failed.
    Fault,
}

impl Reason {
    pub const ALL: [Reason; 3] = [Self::WebhookDisabled, Self::WebhookDeleted, Self::Fault];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebhookDisabled => "webhook_disabled",
            Self::WebhookDeleted => "webhook_deleted",
            Self::Fault => "gateway_fault",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub matched: u64,
    pub replayed: u64,
    /// Matched and not sent: somebody else was sending it, it has too many attempts, its event was
    /// erased, or (in a job over several webhooks) its webhook is disabled or deleted.
    pub skipped: u64,
    /// Everything up to here is done.
    pub after: Option<DeliveryKey>,
    /// When the last event that was looked at was accepted.
    pub at: Option<Millis>,
    /// The event log's blocks when the job looked at it first.
    pub blocks: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: ReplayId,
    pub tenant: TenantNo,
    pub filter: Filter,
    /// Counts and sends nothing.
    pub dry_run: bool,
    /// Deliveries a second.
    pub rate: u32,
    /// Different for each job of a tenant.
    pub created_at: Millis,
    /// When it began to look at what comes behind `progress.after`: what was reopened before is in
    /// there, what was reopened since may not be.
    pub turn_at: Millis,
    pub state: State,
    pub reason: Option<Reason>,
    pub progress: Progress,
}

impl Job {
    pub(super) fn new(
        id: ReplayId,
        tenant: TenantNo,
        filter: Filter,
        dry_run: bool,
        rate: u32,
        created_at: Millis,
    ) -> Self {
        let (state, reason) = (State::Running, None);
        let (turn_at, progress) = (created_at, Progress::default());
        Self { id, tenant, filter, dry_run, rate, created_at, turn_at, state, reason, progress }
    }

    /// The newest event that it is about.
    pub fn until(&self) -> Millis {
        self.filter.until.unwrap_or(Millis::MAX).min(self.created_at)
    }

    /// The share of the log that it has walked, 0.0 to 1.0.
    pub fn share(&self) -> f64 {
        match (self.state, self.progress.blocks, self.progress.after) {
            (State::Done, ..) => 1.0,
            (_, Some((first, end)), Some(after)) if end > first => {
                let walked = after.place.block().saturating_sub(first) as f64;
                (walked / (end - first) as f64).min(1.0)
            }
            _ => 0.0,
        }
    }
}
