//! Replays of many, as jobs.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, post},
};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    ApiState, Code, Problem,
    access::{Caller, Id, Scope},
    body::{Fields, Given, OptionalFields},
    cursor::List,
    openapi::{ReplayReason, ReplayState, ReplayStatus},
    page::{Page, json},
    params::Params,
    problem::Object,
    query::{id, time},
};
use crate::{
    clock::{Millis, rfc3339},
    event::{EventType, EventTypes},
    id::{ReplayId, WebhookId, WebhookNo},
    openapi::words,
    replays::{Filter, Job, Order, Reason, Refusal, STATUSES},
};

/// A replay of many.
#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
pub(super) struct ReplayView {
    #[schema(value_type = words::ReplayId)]
    id: String,
    #[schema(value_type = ReplayState)]
    state: &'static str,
    /// Why it rests or failed without having been told to.
    #[schema(value_type = Option<ReplayReason>, required)]
    reason: Option<&'static str>,
    /// It counts and sends nothing.
    dry_run: bool,
    /// Null where it is about all webhooks.
    #[schema(value_type = Option<words::WebhookId>, required)]
    webhook: Option<String>,
    #[schema(value_type = Vec<ReplayStatus>)]
    status: Vec<&'static str>,
    #[schema(value_type = Vec<words::EventType>)]
    event_type: Vec<&'static str>,
    #[schema(value_type = Option<words::Time>, required)]
    since: Option<String>,
    #[schema(value_type = words::Time)]
    until: String,
    /// Deliveries a second.
    rate: u32,
    /// Deliveries found so far that are as the filter says.
    matched: u64,
    replayed: u64,
    /// Matched and not sent: somebody else was sending it, it has 60,000 attempts, or (in a replay
    /// over all webhooks) its webhook is disabled or deleted.
    skipped: u64,
    /// The share of the log that it has walked, 0 to 1.
    progress: f64,
    /// Events accepted before this have been looked at.
    #[schema(value_type = Option<words::Time>, required)]
    position: Option<String>,
    #[schema(value_type = words::Time)]
    created_at: String,
}

impl ReplayView {
    fn of(api: &ApiState, job: &Job) -> Self {
        let webhook = job.filter.webhook.and_then(|no| api.directory.webhook_id(no));
        Self {
            id: job.id.to_string(),
            state: job.state.as_str(),
            reason: job.reason.map(Reason::as_str),
            dry_run: job.dry_run,
            webhook: webhook.map(|id| id.to_string()),
            status: job.filter.statuses.clone(),
            event_type: job.filter.event_types.iter().map(EventType::as_str).collect(),
            since: job.filter.since.map(rfc3339),
            until: rfc3339(job.until()),
            rate: job.rate,
            matched: job.progress.matched,
            replayed: job.progress.replayed,
            skipped: job.progress.skipped,
            progress: job.share(),
            position: job.progress.at.map(rfc3339),
            created_at: rfc3339(job.created_at),
        }
    }
}

/// What a job is about where the request does not say.
const DEFAULT_STATUS: &str = "failed";

pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    OptionalFields(mut fields): OptionalFields,
) -> Result<Response, Problem> {
    let settings = api.settings();
    let all = match api.directory.is_operations(scope.no()) {
        true => EventTypes::EVERY,
        false => EventTypes::ALL,
    };
    let (filter, webhook) = read_filter(&mut fields, all);
    let dry_run = fields.boolean("dry_run").or_reset(false).unwrap_or(false);
    let rate = fields.number("rate", 1..=settings.max_replay_rate).or_none().flatten();
    fields.finish()?;
    let webhook = webhook.map(|id| find(&api, &scope, id, dry_run)).transpose()?;
    let filter = Filter { webhook, ..filter };
    let job = api.replays.create(scope.no(), filter, dry_run, rate, caller.by).await?;
    tracing::info!(tenant = %scope.0.tenant.id, replay = %job.id, dry_run, "replay created");
    Ok(json(StatusCode::ACCEPTED, &ReplayView::of(&api, &job)))
}

/// The webhook that a job is about: one that can be sent to, where it is to send.
fn find(api: &ApiState, scope: &Scope, id: WebhookId, dry_run: bool) -> Result<WebhookNo, Problem> {
    if dry_run {
        let found = api.directory.webhook_no(scope.no(), id);
        return found.ok_or_else(|| Problem::no_such(Object::Webhook));
    }
    let webhook = api.directory.webhook(scope.no(), id);
    let webhook = webhook.ok_or_else(|| Problem::no_such(Object::Webhook))?;
    if !webhook.enabled {
        let detail = "a disabled webhook is sent nothing; enable it first";
        return Err(Problem::new(Code::WebhookDisabled, detail));
    }
    Ok(webhook.no)
}

/// The filter but for the webhook, whose id is looked up once all else is right; of `every` type
/// where it names none.
fn read_filter(fields: &mut Fields, every: EventTypes) -> (Filter, Option<WebhookId>) {
    let webhook = fields.string("webhook");
    let webhook = fields.checked("webhook", webhook, |text| id::<WebhookId>(&text));
    let statuses = names(fields, "status", |name| {
        let known = STATUSES.into_iter().find(|status| *status == name);
        known.ok_or_else(|| format!("it is one or more of {}", STATUSES.join(", ")))
    });
    let types = names(fields, "event_type", |name| {
        EventType::named(name).map_err(|error| error.to_string())
    });
    let since = moment(fields, "since");
    let until = moment(fields, "until");
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        fields.refuse("/since", "it is later than `until`");
    }
    let all = |types: Vec<EventType>| types.into_iter().fold(EventTypes::NONE, EventTypes::with);
    let filter = Filter {
        webhook: None,
        statuses: statuses.unwrap_or_else(|| vec![DEFAULT_STATUS]),
        event_types: types.map_or(every, all),
        since,
        until,
    };
    (filter, webhook.or_none().flatten())
}

/// A name, or a list of them; none where it is left out or null.
fn names<T: PartialEq>(
    fields: &mut Fields,
    field: &'static str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    const RULE: &str = "it is a name or a list of names, at least one";
    let given = fields.take(field, |value| match value {
        Value::String(name) => Ok(vec![name]),
        Value::Array(names) if !names.is_empty() => {
            let name = |name: Value| name.as_str().map(str::to_owned).ok_or(RULE);
            names.into_iter().map(name).collect()
        }
        _ => Err(RULE),
    });
    let given = fields.checked(field, given, |names| {
        let mut found = Vec::new();
        for name in &names {
            let one = read(name)?;
            if !found.contains(&one) {
                found.push(one);
            }
        }
        Ok(found)
    });
    given.or_none().flatten()
}

fn moment(fields: &mut Fields, name: &'static str) -> Option<Millis> {
    let text: Given<String> = fields.string(name);
    fields.checked(name, text, |text| Ok(time(&text)?)).or_none().flatten()
}

pub(super) async fn list(
    State(api): State<ApiState>,
    scope: Scope,
    params: Params,
) -> Result<Response, Problem> {
    let list = List { name: "replays", tenant: Some(scope.no()), params: &params };
    let mut query = params.read();
    let limit = query.limit(api.settings().limits.page);
    let before = query.position(&list).map(u64::from_be_bytes);
    query.finish()?;
    let jobs = api.replays.list(scope.no(), before, limit + 1);
    let cursor = |job: &Job| list.cursor(job.created_at.to_be_bytes());
    Ok(Page::cut(jobs, limit, cursor, |job| ReplayView::of(&api, job)).into_response())
}

pub(super) async fn show(
    State(api): State<ApiState>,
    scope: Scope,
    id: Id,
) -> Result<Response, Problem> {
    let id: ReplayId = id.parse(Object::Replay)?;
    let job = api.replays.job(scope.no(), id).ok_or_else(|| Problem::no_such(Object::Replay))?;
    Ok(json(StatusCode::OK, &ReplayView::of(&api, &job)))
}

/// Tells a job to rest, to go on or to end.
pub(super) fn tell(order: Order) -> MethodRouter<ApiState> {
    let tell = async move |State(api): State<ApiState>,
                           caller: Caller,
                           scope: Scope,
                           id: Id,
                           OptionalFields(fields): OptionalFields| {
        fields.finish()?;
        let id = id.parse(Object::Replay)?;
        let job = api.replays.tell(scope.no(), id, order, caller.by).await?;
        Ok::<Response, Problem>(json(StatusCode::OK, &ReplayView::of(&api, &job)))
    };
    post(tell)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchReplay => Self::no_such(Object::Replay),
            Refusal::Ended => {
                let detail = "only a replay that runs or rests can be paused, resumed or canceled";
                Self::new(Code::ReplayEnded, detail)
            }
            Refusal::Limit { .. } => Self::new(Code::LimitReached, refusal.to_string()),
            Refusal::Store(error) => error.into(),
        }
    }
}
