//! Statistics: what came of a webhook's attempts lately, or of all of a tenant's, and what waits.
//!
//! The shards count and are asked; nothing is read from the store.

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, Problem,
    access::{Caller, Id, Scope},
    attempt::Millis,
    openapi::{Breaker, StatsErrors, StatsPeriod},
    page::json,
    params::Params,
    webhooks,
};
use crate::{
    clock::rfc3339,
    command::Subject,
    config::units::format_duration,
    engine::Gauges,
    openapi::words,
    stats::{Counts, Period, Report, Standing},
};

pub(super) const PARAMS: &[&str] = &["period"];
/// Where the request does not say.
pub(super) const DEFAULT_PERIOD: Period = Period::Day;

/// The states of a breaker, as the API names them.
pub(super) const BREAKERS: [&str; 3] = ["closed", "open", "half_open"];

/// What attempts came to in a stretch of time.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsCounts)]
pub(super) struct CountsView {
    /// Attempts that ended in it.
    attempts: u64,
    /// The share of them that delivered, 0 to 1; null where there was none.
    #[schema(required)]
    success_rate: Option<f64>,
    /// How many failed, by why.
    #[schema(value_type = StatsErrors)]
    errors: BTreeMap<&'static str, u64>,
    deliveries: EndedView,
    /// Null where there was no attempt.
    #[schema(required)]
    latency_ms: Option<LatencyView>,
}

/// Deliveries that ended.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsDeliveries)]
pub(super) struct EndedView {
    delivered: u64,
    failed: u64,
    canceled: u64,
}

/// What half, 95 % and 99 % of the attempts took at most. Estimates, as a rule within a sixth.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsLatency)]
pub(super) struct LatencyView {
    #[schema(value_type = words::Milliseconds)]
    p50: Millis,
    #[schema(value_type = words::Milliseconds)]
    p95: Millis,
    #[schema(value_type = words::Milliseconds)]
    p99: Millis,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsPoint)]
pub(super) struct PointView {
    /// When it begins.
    #[schema(value_type = words::Time)]
    at: String,
    #[serde(flatten)]
    counts: CountsView,
}

/// What waits now.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsBacklog)]
pub(super) struct BacklogView {
    /// For a first attempt.
    pending: u64,
    /// For another one, replays included.
    retrying: u64,
    /// Attempts under way.
    in_flight: u64,
    /// When the oldest of those that could be attempted now was accepted, to the second, or fell due
    /// as a replay; null where none waits.
    #[schema(value_type = Option<words::Time>, required)]
    oldest_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct StatsView {
    #[schema(value_type = StatsPeriod)]
    period: &'static str,
    /// Attempts that ended from here on are counted: where the period begins, or where counting
    /// began, if that was later (a start of the gateway, or too many webhooks at once).
    #[schema(value_type = words::Time)]
    since: String,
    #[schema(value_type = words::Time)]
    until: String,
    /// Whether the whole period was counted.
    complete: bool,
    #[serde(flatten)]
    total: CountsView,
    backlog: BacklogView,
    /// From one point to the next.
    #[schema(value_type = words::Duration)]
    step: String,
    /// The oldest first; the last one is under way. There is none of before counting began.
    points: Vec<PointView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = WebhookStats)]
pub(super) struct WebhookStatsView {
    #[schema(value_type = words::WebhookId)]
    webhook_id: String,
    enabled: bool,
    /// Open where attempts that time out have cut the webhook down to one at a time.
    #[schema(value_type = Breaker)]
    breaker: &'static str,
    /// Whether first attempts wait because too many deliveries of the gateway wait for a retry.
    held_back: bool,
    #[serde(flatten)]
    stats: StatsView,
}

/// Over all webhooks.
#[derive(Serialize, ToSchema)]
#[schema(as = OverallStats)]
pub(super) struct OverallStatsView {
    webhooks: WebhooksView,
    #[serde(flatten)]
    stats: StatsView,
}

/// How many webhooks there are, and in which state.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsWebhooks)]
pub(super) struct WebhooksView {
    enabled: u64,
    disabled: u64,
    /// Cut down to one attempt at a time, as their attempts time out.
    breaker_open: u64,
    /// On the way back from that.
    breaker_half_open: u64,
    /// Their first attempts wait because too many deliveries of the gateway wait for a retry.
    held_back: u64,
}

impl CountsView {
    fn of(counts: &Counts) -> Self {
        let errors = counts.errors().filter(|(_, count)| *count > 0);
        Self {
            attempts: counts.attempts(),
            success_rate: counts.success_rate(),
            errors: errors.map(|(code, count)| (code.as_str(), count)).collect(),
            deliveries: EndedView {
                delivered: counts.delivered(),
                failed: counts.failed(),
                canceled: counts.canceled(),
            },
            latency_ms: LatencyView::of(counts),
        }
    }
}

impl LatencyView {
    fn of(counts: &Counts) -> Option<Self> {
        let quantile = |q| {
            let micros = counts.latency(q)?;
            Some(Millis(u32::try_from(micros).unwrap_or(u32::MAX)))
        };
        Some(Self { p50: quantile(0.5)?, p95: quantile(0.95)?, p99: quantile(0.99)? })
    }
}

impl BacklogView {
    fn of(gauges: &Gauges) -> Self {
        Self {
            pending: gauges.pending + gauges.spilled,
            retrying: gauges.retrying,
            in_flight: gauges.in_flight,
            oldest_at: gauges.oldest_accepted_at.map(rfc3339),
        }
    }
}

impl StatsView {
    fn of(period: Period, standing: &Standing) -> Self {
        let report: &Report = &standing.report;
        let points = report.known();
        let point = |(at, counts)| PointView { at: rfc3339(at), counts: CountsView::of(counts) };
        Self {
            period: period.as_str(),
            since: rfc3339(report.since),
            until: rfc3339(report.until),
            complete: report.since == report.from,
            total: CountsView::of(&report.total()),
            backlog: BacklogView::of(&standing.now),
            step: format_duration(report.step),
            points: points.map(point).collect(),
        }
    }
}

pub(super) async fn of_webhook(
    State(api): State<ApiState>,
    scope: Scope,
    id: Id,
    params: Params,
) -> Result<Response, Problem> {
    let period = period(&params)?;
    let webhook = webhooks::find(&api, &scope, &id)?;
    let standing = api.commands.standing(Subject::Webhook(webhook.no), period).await?;
    let now = &standing.now;
    let breaker = match (now.breakers_open, now.breakers_half_open) {
        (0, 0) => "closed",
        (0, _) => "half_open",
        _ => "open",
    };
    let view = WebhookStatsView {
        webhook_id: webhook.id.to_string(),
        enabled: webhook.enabled,
        breaker,
        held_back: now.webhooks_held_back > 0,
        stats: StatsView::of(period, &standing),
    };
    Ok(json(StatusCode::OK, &view))
}

/// Of the tenant for which is asked; of all where an operator names none.
pub(super) async fn overall(
    State(api): State<ApiState>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    let period = period(&params)?;
    let tenant = caller.tenant_no();
    let (subject, (enabled, disabled)) = match tenant {
        Some(tenant) => {
            let webhooks = api.directory.webhooks(tenant, None, usize::MAX);
            let enabled = webhooks.iter().filter(|webhook| webhook.enabled).count();
            let numbers: Arc<[_]> = webhooks.iter().map(|webhook| webhook.no).collect();
            (Subject::Tenant(tenant, numbers), (enabled, webhooks.len() - enabled))
        }
        None => (Subject::All, api.directory.webhook_counts()),
    };
    let standing = api.commands.standing(subject, period).await?;
    let view = OverallStatsView {
        webhooks: WebhooksView {
            enabled: enabled as u64,
            disabled: disabled as u64,
            breaker_open: standing.now.breakers_open,
            breaker_half_open: standing.now.breakers_half_open,
            held_back: standing.now.webhooks_held_back,
        },
        stats: StatsView::of(period, &standing),
    };
    Ok(json(StatusCode::OK, &view))
}

fn period(params: &Params) -> Result<Period, Problem> {
    let mut query = params.read();
    let period = query.of_stats();
    query.finish()?;
    Ok(period)
}
