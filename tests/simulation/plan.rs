//! What a seed means: the policy, the webhooks, and what is done to them when.

use std::time::Duration;

use senderz_gateway::{
    clock::Millis,
    engine::{LaneSettings, Settings},
    id::{TenantNo, WebhookNo},
};

use crate::{receiver::Receiver, rng::Rng};

/// When every run starts.
pub(crate) const START: Millis = 1_795_000_000_000;

const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;

/// Something that is done to the engine or its world. Whom it hits is decided when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Events arrive.
    Burst,
    /// A webhook's settings change; perhaps whether it is enabled.
    Edit,
    Remove,
    Cancel,
    Replay,
    /// The policy's numbers change.
    Tune,
    /// The engine's clock jumps forward.
    Jump,
    /// The wall clock, which stamps events, is set.
    Skew,
    Restart,
    Drain,
}

/// The actions by how often they are chosen.
const ACTIONS: [(Action, usize); 9] = [
    (Action::Burst, 16),
    (Action::Edit, 5),
    (Action::Remove, 1),
    (Action::Cancel, 8),
    (Action::Replay, 9),
    (Action::Tune, 2),
    (Action::Jump, 1),
    (Action::Skew, 1),
    (Action::Restart, 2),
];

/// How long a run goes on, and how much happens in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// A minute or two in which everything happens at once.
    Minutes,
    /// A day, as an operator knows it: receivers fail and hang for hours, the configuration changes,
    /// the process is restarted, and most of the time it is quiet.
    Day,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) webhooks: Vec<(WebhookNo, LaneSettings, Receiver)>,
    pub(crate) actions: Vec<(Millis, Action)>,
    /// From here on nothing goes wrong any more.
    pub(crate) calm: Millis,
    /// How late the engine may be called, in milliseconds.
    pub(crate) lateness: Millis,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng, length: Length) -> Self {
        let (lasts, longest_mood, count) = match length {
            Length::Minutes => (10_000..=150_000, 60_000, 2..=30),
            Length::Day => (DAY..=DAY, 3 * HOUR, 60..=140),
        };
        let calm = START + rng.between(lasts);
        let tenants = rng.count(1..=4);
        let webhooks = (1..=rng.count(1..=7))
            .map(|no| {
                let tenant = TenantNo(rng.count(1..=tenants));
                let receiver = Receiver::new(rng, START, calm, longest_mood);
                (WebhookNo(no), lane_settings(rng, tenant), receiver)
            })
            .collect();
        let pool: Vec<Action> =
            ACTIONS.iter().flat_map(|(action, weight)| vec![*action; *weight]).collect();
        let mut actions = vec![(START, Action::Burst)];
        for _ in 0..rng.between(count) {
            actions.push((rng.between(START..=calm), rng.pick(&pool)));
        }
        if rng.percent(10) {
            actions.push((rng.between(START..=calm), Action::Drain));
        }
        actions.sort_by_key(|(at, _)| *at);
        let lateness = rng.pick(&[0, 0, 2, 9]);
        Self { settings: settings(rng), webhooks, actions, calm, lateness }
    }
}

/// Small numbers, so that every limit is met all the time.
pub(crate) fn settings(rng: &mut Rng) -> Settings {
    let schedule: &[u64] = if rng.percent(85) { &[1, 2, 4, 8, 16] } else { &[3, 0, 40] };
    let max_age = if rng.percent(65) { 86_400 } else { rng.between(5..=90) };
    Settings {
        retry_schedule: schedule.iter().copied().map(Duration::from_secs).collect(),
        retry_jitter: if rng.percent(70) { 0.0 } else { 0.3 },
        max_retry_after: Duration::from_secs(rng.between(0..=60)),
        max_age: Duration::from_secs(max_age),
        max_in_flight: rng.count(1..=16),
        tenant_share: rng.pick(&[0.0, 0.3, 0.5, 1.0]),
        webhook_max_in_flight: rng.count(1..=8),
        max_queued: rng.pick(&[0, 1, 5, 20, 1000]),
        lane_window: rng.pick(&[0, 1, 2, 3, 6]),
        max_retrying: rng.pick(&[1, 4, 12, 40, 1000, 1000, 1000]),
        breaker_timeouts: rng.count(1..=4),
    }
}

pub(crate) fn lane_settings(rng: &mut Rng, tenant: TenantNo) -> LaneSettings {
    LaneSettings {
        tenant,
        enabled: rng.percent(85),
        max_in_flight: rng.percent(50).then(|| rng.count(1..=8)),
        rate_limit: rng.percent(35).then(|| rng.pick(&[1, 2, 7, 30, 1500])),
    }
}
