//! Example events: `POST /v1/webhooks/{id}/test` and what it sends. Each is valid under the
//! published contract, and says of itself that it is a test.
//!
//! A test is an event like any other: the guard judges where it goes, the answer says no more than
//! that it was accepted, and its attempts show what everyone's attempts show. How many a webhook
//! and a tenant may have in a minute is limited, so that nobody tries hosts and ports with it.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{extract::State, response::Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, Code, Problem,
    access::{Id, Scope},
    body::Fields,
    page::json,
    webhooks,
};
use crate::{
    clock::{self, rfc3339, wall_ms},
    config::Limits,
    directory::example_notice,
    event::EventType,
    id::{DeliveryId, DeliveryKey, TenantNo, WebhookNo},
    openapi::words,
    problem::{Again, Quota},
    quota::{Quotas, Take},
    store::{AppendError, NewEvent, Route},
};

/// What `limits.webhook_tests` and `limits.tenant_tests` count in.
const MINUTE: Duration = Duration::from_secs(60);

/// The tests of the last minute, by webhook and by tenant.
#[derive(Debug)]
pub(super) struct Tests {
    quotas: Quotas<Tested>,
    started: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Tested {
    Webhook(WebhookNo),
    Tenant(TenantNo),
}

impl Tests {
    pub(super) fn new() -> Self {
        Self { quotas: Quotas::new(MINUTE), started: clock::instant() }
    }

    /// Counts a webhook that is tried before it is saved: one of the tenant's tests.
    pub(super) fn take_of_tenant(&self, limits: &Limits, tenant: TenantNo) -> Result<(), Problem> {
        self.take_all(limits, [(Tested::Tenant(tenant), limits.tenant_tests)])
    }

    /// Counts one test, or says how long to wait for it.
    fn take(&self, limits: &Limits, tenant: TenantNo, webhook: WebhookNo) -> Result<(), Problem> {
        let webhook = (Tested::Webhook(webhook), limits.webhook_tests);
        self.take_all(limits, [webhook, (Tested::Tenant(tenant), limits.tenant_tests)])
    }

    fn take_all<const N: usize>(
        &self,
        limits: &Limits,
        owners: [(Tested, NonZeroU32); N],
    ) -> Result<(), Problem> {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let takes = owners.map(|(owner, of)| Take { owner, count: 1, of });
        self.quotas.take(now, takes).map_err(|too_fast| {
            let (who, of, key) = match too_fast.owner {
                Tested::Webhook(_) => ("webhook", limits.webhook_tests, "limits.webhook_tests"),
                Tested::Tenant(_) => ("tenant", limits.tenant_tests, "limits.tenant_tests"),
            };
            let detail = format!("a {who} may have {of} test events in a minute ({key})");
            let quota = Quota { name: key, of: of.get().into(), period: Some(MINUTE) };
            let again = Again { after: too_fast.wait, quota: Some(Box::new(quota)) };
            Problem::new(Code::RateLimited, detail).retry_after(again)
        })
    }
}

/// The example event that was sent.
#[derive(Serialize, ToSchema)]
#[schema(as = SentTest)]
pub(super) struct TestView {
    #[schema(value_type = words::EventId)]
    event_id: String,
    #[schema(value_type = words::DeliveryId)]
    delivery_id: String,
}

/// Sends an example event to this webhook only, whatever its filter says.
pub(super) async fn test(
    State(api): State<ApiState>,
    scope: Scope,
    id: Id,
    mut fields: Fields,
) -> Result<Response, Problem> {
    let webhook = webhooks::find(&api, &scope, &id)?;
    let event_type = fields.string("type");
    let is_operators = api.directory.is_operations(scope.no());
    let event_type = fields.checked("type", event_type, |text| {
        EventType::known_to(is_operators, &text).map_err(|error| error.to_string())
    });
    let event_type = fields.required("type", event_type);
    fields.finish()?;
    if !webhook.enabled {
        // It would be recorded as found disabled and never sent, which tests nothing.
        let detail = "a disabled webhook is sent nothing, tests included; enable it first \
                      (PATCH it with {\"enabled\":true})";
        return Err(Problem::new(Code::WebhookDisabled, detail));
    }
    let event_type = event_type.expect("a missing type was refused");
    api.tests.take(&api.settings().limits, scope.no(), webhook.no)?;
    let event = NewEvent {
        tenant: scope.no(),
        event_type,
        payload: payload(event_type),
        key: None,
        trace: None,
        routes: Arc::new([Route { webhook: webhook.no, enabled: true }]),
    };
    let appended = api.store.append(vec![event]).await.map_err(not_appended)?;
    let event = appended.first().expect("one answer for each event").id;
    let key = DeliveryKey { place: event.place, webhook: webhook.no };
    let delivery = DeliveryId { node: event.node, key };
    let view = TestView { event_id: event.to_string(), delivery_id: delivery.to_string() };
    Ok(json(StatusCode::ACCEPTED, &view))
}

#[derive(Serialize)]
struct Example<'a> {
    r#type: &'static str,
    timestamp: &'a str,
    data: ExampleData,
}

#[derive(Serialize)]
struct ExampleData {
    id: &'static str,
    channel: &'static str,
    /// From the range kept for fiction.
    recipient: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_reason: Option<&'static str>,
    test: bool,
}

/// Whether a payload is an example's, byte for byte but for its time.
pub(super) fn is_test(event_type: EventType, payload: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Stamped<'a> {
        timestamp: &'a str,
    }
    let stamped: Result<Stamped<'_>, _> = serde_json::from_slice(payload);
    stamped.is_ok_and(|stamped| payload_at(event_type, stamped.timestamp) == payload)
}

pub(super) fn payload(event_type: EventType) -> Bytes {
    payload_at(event_type, &rfc3339(wall_ms())).into()
}

fn payload_at(event_type: EventType, timestamp: &str) -> Vec<u8> {
    let status_reason = match event_type {
        EventType::Failed => Some("carrier_rejected"),
        EventType::Blocked => Some("recipient_opted_out"),
        EventType::Sent | EventType::Delivered | EventType::Inbound | EventType::Read => None,
        EventType::WebhookDisabled => return example_notice(timestamp),
    };
    let example = Example {
        r#type: event_type.as_str(),
        timestamp,
        data: ExampleData {
            id: "msg_test",
            channel: "sms",
            recipient: "+15555550100",
            status_reason,
            test: true,
        },
    };
    serde_json::to_vec(&example).expect("strings and booleans always serialize")
}

/// Why the example was not accepted.
fn not_appended(error: AppendError) -> Problem {
    match error {
        AppendError::Full => Problem::new(Code::StorageFull, "there is no room for more events"),
        AppendError::Poisoned => {
            Problem::new(Code::Unavailable, "the gateway's store has stopped; try again later")
        }
        AppendError::KeyReused(_) => {
            tracing::error!("the store found a reused key on an event that has none");
            Problem::new(Code::Internal, "the event was not accepted")
        }
    }
}
