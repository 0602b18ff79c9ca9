//! A tenant's webhooks.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    ApiState, Problem, Settings,
    access::{Caller, Id, Scope},
    body::{Fields, Given, pointer_to},
    check::{DryRun, check},
    cursor::List,
    etag::{self, IfMatch},
    openapi::DisabledBecause,
    page::{Page, json_text, located, to_json},
    params::Params,
    problem::Object,
};
use crate::{
    clock::rfc3339,
    config::units::format_duration,
    directory::WebhookPatch,
    event::EventTypes,
    guard::WebhookUrl,
    id::WebhookNo,
    openapi::words,
    webhook::{
        CustomHeaders, DisabledReason, HeaderFault, HeadersPatch, SuccessRule, Webhook,
        event_filter_names, parse_event_filter,
    },
};

/// The shortest deadline that a webhook may set.
pub(super) const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// The most attempts per second that a webhook's `rate_limit` may say; faster is unlimited.
pub(super) const MAX_RATE: u32 = 1_000_000;

/// A webhook as its owner sees it. A setting that is null takes the gateway's default.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct WebhookView<'a> {
    #[schema(value_type = words::WebhookId)]
    id: String,
    #[schema(value_type = words::WebhookUrl)]
    url: String,
    /// `["*"]` means all.
    #[schema(value_type = Vec<words::EventTypeOrAll>)]
    events: Vec<&'static str>,
    description: &'a str,
    /// Sent with every attempt.
    #[schema(value_type = words::HeaderMap)]
    #[serde(serialize_with = "headers_as_map")]
    headers: &'a CustomHeaders,
    enabled: bool,
    /// Why it is disabled: somebody wanted it, every attempt had failed for long, or the receiver
    /// said that it is gone (410). Null where it is enabled.
    #[schema(value_type = Option<DisabledBecause>, required)]
    disabled_reason: Option<&'static str>,
    /// Null also where it was disabled before that was written down.
    #[schema(value_type = Option<words::Time>, required)]
    disabled_at: Option<String>,
    /// Where it was disabled because every attempt failed: since when that had been so.
    #[schema(value_type = Option<words::Time>, required)]
    failing_since: Option<String>,
    #[schema(value_type = Option<words::SuccessRule>, required)]
    success: Option<&'static str>,
    /// The deadline of one attempt, from DNS to the last byte read.
    #[schema(value_type = Option<words::Duration>, required)]
    timeout: Option<String>,
    /// How many attempts may be under way at once.
    #[schema(required)]
    max_in_flight: Option<u32>,
    /// Attempts per second.
    #[schema(required)]
    rate_limit: Option<u32>,
    #[schema(value_type = words::Time)]
    created_at: String,
    #[schema(value_type = words::Time)]
    updated_at: String,
}

impl<'a> WebhookView<'a> {
    fn of(webhook: &'a Webhook) -> Self {
        let disabled = webhook.disabled.filter(|_| !webhook.enabled);
        Self {
            id: webhook.id.to_string(),
            url: webhook.url.to_string(),
            events: event_filter_names(webhook.events),
            description: &webhook.description,
            headers: &webhook.headers,
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled_reason().map(DisabledReason::as_str),
            disabled_at: disabled.map(|disabled| rfc3339(disabled.at)),
            failing_since: disabled.and_then(|d| d.failing_since).map(rfc3339),
            success: webhook.success.map(SuccessRule::as_str),
            timeout: webhook.timeout.map(format_duration),
            max_in_flight: webhook.max_in_flight,
            rate_limit: webhook.rate_limit,
            created_at: rfc3339(webhook.created_at),
            updated_at: rfc3339(webhook.updated_at),
        }
    }
}

fn headers_as_map<S: Serializer>(headers: &&CustomHeaders, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()))),
    )
}

/// Creates a webhook; with `dry_run=true`, tries it instead.
pub(super) async fn create(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    DryRun(is_dry_run): DryRun,
    mut fields: Fields,
) -> Result<Response, Problem> {
    let settings = api.settings();
    let url = read_url(&mut fields, &settings);
    let url = fields.required("url", url);
    let is_operators = api.directory.is_operations(scope.no());
    let events = read_events(&mut fields, is_operators);
    let events = fields.required("events", events);
    let rest = read_rest(&mut fields, &settings, false);
    fields.finish()?;
    let (url, events) = url.zip(events).expect("what is missing was refused");
    if is_dry_run {
        let webhook = api.directory.draft_webhook(scope.no(), url, events, rest).await?;
        return check(&api, &scope, webhook, caller.is_operator()).await;
    }
    let directory = api.directory.on_behalf_of(&caller.by);
    let webhook = directory.create_webhook(scope.no(), url, events, rest).await?;
    tracing::info!(tenant = %scope.0.tenant.id, webhook = %webhook.id, "webhook created");
    Ok(located(&format!("/v1/webhooks/{}", webhook.id), shown(StatusCode::CREATED, &webhook)))
}

pub(super) async fn list(
    State(api): State<ApiState>,
    scope: Scope,
    params: Params,
) -> Result<Response, Problem> {
    let list = List { name: "webhooks", tenant: Some(scope.no()), params: &params };
    let mut query = params.read();
    let limit = query.limit(api.settings().limits.page);
    let before = query.position(&list).map(|no| WebhookNo(u32::from_be_bytes(no)));
    query.finish()?;
    let webhooks = api.directory.webhooks(scope.no(), before, limit + 1);
    let cursor = |webhook: &&Webhook| list.cursor(webhook.no.0.to_be_bytes());
    let webhooks: Vec<&Webhook> = webhooks.iter().map(|webhook| &**webhook).collect();
    Ok(Page::cut(webhooks, limit, cursor, |webhook| WebhookView::of(webhook)).into_response())
}

pub(super) async fn show(
    State(api): State<ApiState>,
    scope: Scope,
    id: Id,
) -> Result<Response, Problem> {
    Ok(shown(StatusCode::OK, &*find(&api, &scope, &id)?))
}

/// A merge-patch (RFC 7396), inside `headers` too: what is left out stays, null resets to the
/// default and removes a header. `events`, a list, is replaced whole. With `If-Match`, only if the
/// webhook is still as the asker has seen it. With `dry_run=true`, tries what it would become.
pub(super) async fn update(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    id: Id,
    DryRun(is_dry_run): DryRun,
    if_match: IfMatch,
    mut fields: Fields,
) -> Result<Response, Problem> {
    let webhook = find(&api, &scope, &id)?;
    let settings = api.settings();
    let url = read_url(&mut fields, &settings);
    let url = fields.not_null("url", url);
    let is_operators = api.directory.is_operations(scope.no());
    let events = read_events(&mut fields, is_operators);
    let events = fields.not_null("events", events);
    let rest = read_rest(&mut fields, &settings, true);
    fields.finish()?;
    let patch = WebhookPatch { url, events, ..rest };
    let seen = seen(&webhook, &if_match)?;
    if is_dry_run {
        let webhook = api.directory.draft_update(scope.no(), webhook.no, patch).await?;
        return check(&api, &scope, webhook, caller.is_operator()).await;
    }
    let directory = api.directory.on_behalf_of(&caller.by);
    let webhook = directory.update_webhook(scope.no(), webhook.no, seen, patch).await?;
    tracing::info!(tenant = %scope.0.tenant.id, webhook = %webhook.id, "webhook changed");
    Ok(shown(StatusCode::OK, &webhook))
}

pub(super) async fn remove(
    State(api): State<ApiState>,
    caller: Caller,
    scope: Scope,
    id: Id,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let webhook = find(&api, &scope, &id)?;
    let seen = seen(&webhook, &if_match)?;
    let directory = api.directory.on_behalf_of(&caller.by);
    directory.delete_webhook(scope.no(), webhook.no, seen).await?;
    tracing::info!(tenant = %scope.0.tenant.id, webhook = %webhook.id, "webhook deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// A webhook as an answer, with its tag.
fn shown(status: StatusCode, webhook: &Webhook) -> Response {
    let text = text(webhook);
    let tag = etag::tag(&text);
    let mut response = json_text(status, text);
    let tag = HeaderValue::from_str(&tag).expect("tags are visible ASCII");
    response.headers_mut().insert(header::ETAG, tag);
    response
}

fn text(webhook: &Webhook) -> Vec<u8> {
    to_json(&WebhookView::of(webhook))
}

/// What a change is bound to: the webhook as it stands, where the request has a condition and this
/// webhook fulfils it.
fn seen(webhook: &Arc<Webhook>, if_match: &IfMatch) -> Result<Option<Arc<Webhook>>, Problem> {
    if_match.check(|| etag::tag(&text(webhook)))?;
    Ok(if_match.is_given().then(|| Arc::clone(webhook)))
}

pub(super) fn find(api: &ApiState, scope: &Scope, id: &Id) -> Result<Arc<Webhook>, Problem> {
    let found = api.directory.webhook(scope.no(), id.parse(Object::Webhook)?);
    found.ok_or_else(|| Problem::no_such(Object::Webhook))
}

fn read_url(fields: &mut Fields, settings: &Settings) -> Given<WebhookUrl> {
    match fields.string("url") {
        Given::Value(text) => match WebhookUrl::parse(&text, &settings.policy) {
            Ok(url) => Given::Value(url),
            Err(error) => {
                tracing::debug!(reason = error.reason(), "webhook url refused");
                fields.refuse_as("/url", error.code(), error.to_string());
                Given::Wrong
            }
        },
        Given::Absent => Given::Absent,
        Given::Null => Given::Null,
        Given::Wrong => Given::Wrong,
    }
}

fn read_events(fields: &mut Fields, is_operators: bool) -> Given<EventTypes> {
    let names = fields.take("events", |value| {
        let rule = "it has to be a list of event types, or [\"*\"] for all";
        let Value::Array(names) = value else { return Err(rule) };
        let name = |name: Value| match name {
            Value::String(name) => Ok(name),
            _ => Err(rule),
        };
        names.into_iter().map(name).collect::<Result<Vec<String>, _>>()
    });
    let Given::Value(names) = names else { return names_without_value(names) };
    match parse_event_filter(&names, is_operators) {
        Ok(events) => Given::Value(events),
        Err(errors) => {
            for error in errors {
                let index = error.index().map(|index| format!("/{index}")).unwrap_or_default();
                fields.refuse(format!("/events{index}"), error.to_string());
            }
            Given::Wrong
        }
    }
}

fn names_without_value<T, U>(given: Given<T>) -> Given<U> {
    match given {
        Given::Absent => Given::Absent,
        Given::Null => Given::Null,
        Given::Wrong | Given::Value(_) => Given::Wrong,
    }
}

/// Everything but `url` and `events`; null resets each to its default. `may_remove`: whether there
/// can be headers to take away.
fn read_rest(fields: &mut Fields, settings: &Settings, may_remove: bool) -> WebhookPatch {
    let longest = settings.limits.description;
    let description = fields.string("description");
    let description = fields.checked("description", description, |text| {
        if text.chars().count() <= longest {
            Ok(text)
        } else {
            Err(format!("it may have {longest} characters"))
        }
    });
    let success = fields.take("success", |value| {
        value.as_str().and_then(SuccessRule::parse).ok_or("it is \"200\" or \"2xx\"")
    });
    WebhookPatch {
        url: None,
        events: None,
        description: description.or_reset(String::new()),
        headers: read_headers(fields, settings, may_remove),
        enabled: fields.boolean("enabled").or_reset(true),
        success: success.or_none(),
        timeout: fields.duration("timeout", MIN_TIMEOUT..=settings.max_timeout).or_none(),
        max_in_flight: fields.number("max_in_flight", 1..=settings.max_in_flight).or_none(),
        rate_limit: fields.number("rate_limit", 1..=MAX_RATE).or_none(),
    }
}

/// Headers to set and, where the webhook is there already, names to remove (null).
fn read_headers(
    fields: &mut Fields,
    settings: &Settings,
    may_remove: bool,
) -> Option<HeadersPatch> {
    let given = fields.take("headers", |value| match value {
        Value::Object(headers) => Ok(headers),
        _ => Err("it has to be an object of header names and values"),
    });
    let headers = match given {
        Given::Absent | Given::Wrong => return None,
        Given::Null => return Some(HeadersPatch::Clear),
        Given::Value(headers) => headers,
    };
    let pointer = |name: &str| format!("/headers{}", pointer_to(name));
    let mut pairs = Vec::with_capacity(headers.len());
    for (name, value) in &headers {
        match value {
            Value::String(value) => pairs.push((name.as_str(), Some(value.as_str()))),
            Value::Null if may_remove => pairs.push((name.as_str(), None)),
            _ => fields.refuse(pointer(name), "it has to be a string"),
        }
    }
    match HeadersPatch::parse(&pairs, settings.limits.headers()) {
        Ok(patch) => Some(patch),
        Err(faults) => {
            for HeaderFault { place, why } in faults {
                let at =
                    place.map_or_else(|| "/headers".to_owned(), |place| pointer(pairs[place].0));
                fields.refuse(at, why.to_string());
            }
            None
        }
    }
}
