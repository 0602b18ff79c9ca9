//! The engine: every decision about when a delivery is attempted, and what follows.
//!
//! Pure: no async, no I/O, no clock, no thread, no randomness; time and seed are arguments.
//! `step(now, inputs) → effects`, with two closed enums. A shard's shell feeds it and carries the
//! effects out; a seeded simulation drives it with no network.
//!
//! Invariants: a delivery ends once, with exactly one settling record; a ticket is alive from its
//! `Send` to its `Finished`; no cap is ever exceeded; a lane's first attempts start in the order in
//! which its events were accepted.
//!
//! What it does not do: it holds no payload, no URL and no result, only places and numbers.

mod ages;
mod backoff;
mod breaker;
mod crowd;
mod dispatch;
mod fairness;
mod gauges;
mod lane;
mod later;
mod rate;
pub mod router;
mod skip;
mod step;
#[cfg(test)]
mod tests;
mod told;

use std::time::Duration;

pub use self::step::Engine;
use crate::{
    clock::Millis,
    delivery::{Outcome, Verdict},
    id::{DeliveryKey, Place, TenantNo, WebhookNo},
};

/// The policy's numbers, for one shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Delays before the second, third, … attempt, from the end of the failed one.
    pub retry_schedule: Vec<Duration>,
    /// 0.0 to 1.0: how much of each delay may be added at random. 0 keeps the schedule exact.
    pub retry_jitter: f64,
    /// The most that a receiver's `Retry-After` may ask for.
    pub max_retry_after: Duration,
    /// What has waited longer ends `failed`.
    pub max_age: Duration,
    /// Attempts under way at once over all webhooks of this shard.
    pub max_in_flight: u32,
    /// The largest share of `max_in_flight` that one tenant may hold, 0.0 to 1.0.
    pub tenant_share: f64,
    /// Attempts under way at once for one webhook that sets no cap of its own.
    pub webhook_max_in_flight: u32,
    /// Waiting deliveries held in memory over all lanes; beyond it long lanes spill to the log.
    pub max_queued: usize,
    /// The least that a lane holds in memory before it may spill.
    pub lane_window: usize,
    /// Deliveries that wait in memory for a retry; from then on webhooks that fail are held back.
    pub max_retrying: usize,
    /// Consecutive timeouts that open a webhook's breaker.
    pub breaker_timeouts: u32,
}

/// What one webhook allows; the shell sends it whenever it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSettings {
    pub tenant: TenantNo,
    /// A disabled webhook keeps its waiting deliveries and attempts none.
    pub enabled: bool,
    pub max_in_flight: Option<u32>,
    /// Attempts per second.
    pub rate_limit: Option<u32>,
}

/// Names an attempt under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u32);

/// All that the engine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A webhook is new or its settings changed.
    WebhookSet { webhook: WebhookNo, settings: LaneSettings },
    /// A webhook was deleted: its waiting deliveries are canceled, a bounded number per step.
    WebhookRemoved { webhook: WebhookNo },
    /// A delivery that the event log holds durably. Places never go back within a webhook.
    /// A delivery for a webhook that the engine does not know is canceled as `WebhookDeleted`.
    Accepted { key: DeliveryKey, accepted_at: Millis },
    /// Recovery only, in place order among `Accepted`: a delivery with attempts behind it.
    /// `round_attempts` of its `attempts` were made since acceptance or the last replay, which was
    /// at `began`.
    Resumed { key: DeliveryKey, began: Millis, attempts: u16, round_attempts: u16, due: Millis },
    /// Recovery only, in place order among `Accepted`: the attempt log has settled this delivery;
    /// a lane that spills must not read it back. (Nor does it read back what lies in a block of
    /// which nothing was told, while something was told of blocks on both sides of it.)
    AlreadySettled { key: DeliveryKey },
    /// An attempt ended.
    Finished { ticket: Ticket, outcome: Outcome, blame: Blame },
    /// A settled delivery is due again now; `attempts` were made before.
    Replay { key: DeliveryKey, attempts: u16 },
    /// The same as one of many that have no hurry: it goes when nothing else of its webhook waits,
    /// and such attempts take at most half of the webhook's slots.
    ReplayLater { key: DeliveryKey, attempts: u16 },
    /// End a waiting or retrying delivery. One under way is ended when its attempt finishes
    /// without success. An unknown one is ignored.
    Cancel { key: DeliveryKey },
    /// The answer to `Effect::Refill`: the webhook's places in `from..`, in order; `next` is where
    /// the next refill starts, none where `until` has been passed. It may hold fewer places than
    /// asked for, even none, and still have a `next`.
    Refilled { webhook: WebhookNo, places: Vec<Place>, next: Option<Place> },
    /// How long an attempt that was to be made waited for the thread, for all that was ready before
    /// it; measured now and then.
    Waited(Duration),
    /// The policy's numbers changed; what is under way or scheduled stays as it is.
    SettingsChanged(Box<Settings>),
    /// No new attempts from now on.
    Drain,
}

/// Whose fault an unsuccessful attempt was; success says `Receiver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The receiver answered, or failed fast.
    Receiver,
    /// The receiver let the attempt run into its deadline: the breaker counts it.
    ReceiverTimeout,
    /// Ours (no file descriptor, no local port): the attempt does not count, is not recorded, and
    /// is made again after a short pause.
    Own,
}

/// All that the engine asks for. The shell carries effects out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make an attempt. `due` is when it should have started (retry lag = start − due); for the
    /// first attempt of a delivery it is now: how long that waited, its event's age tells.
    Send { ticket: Ticket, key: DeliveryKey, number: u16, due: Millis },
    /// Write an entry to the attempt log. `ticket` names the attempt whose result goes with it;
    /// none where the verdict is a decision.
    Record { ticket: Option<Ticket>, key: DeliveryKey, number: u16, verdict: Verdict },
    /// The attempt is not recorded (own fault); forget its result.
    Forget { ticket: Ticket },
    /// Read the log from `from` up to and including `until`, and answer with up to `limit` places
    /// routed to this webhook.
    Refill { webhook: WebhookNo, from: Place, until: Place, limit: usize },
    /// A webhook's breaker changed its state.
    Breaker { webhook: WebhookNo, to: BreakerState },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// The webhook's whole in-flight cap, or on the way down from it.
    Closed,
    /// Single probes: one attempt under way at a time.
    Open,
    /// Ramping up again, doubling with every attempt that is answered in time.
    HalfOpen,
}

/// What the engine holds now, for metrics and readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Waiting in memory for their first attempt.
    pub pending: u64,
    /// Waiting in the log only (spilled lanes).
    pub spilled: u64,
    /// Waiting for a later attempt, whether the wheel holds them or they are due.
    pub retrying: u64,
    pub in_flight: u64,
    pub breakers_open: u64,
    pub breakers_half_open: u64,
    /// Too many deliveries wait for a retry; see [`Settings::max_retrying`].
    pub crowded: bool,
    /// Webhooks whose first attempts wait because of that.
    pub webhooks_held_back: u64,
    /// When the oldest waiting delivery was accepted (to the second); none when nothing waits.
    pub oldest_accepted_at: Option<Millis>,
}
