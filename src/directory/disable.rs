//! Disabling a webhook because of what comes of its attempts, and since when they have all failed.
//!
//! Both are told by the shard that makes the attempts. Since when is a row of its own: it comes and
//! goes with a webhook's failures, and nobody's view of the webhook changes with it.
//!
//! The operator's own tenant (`ops.tenant`) gets an event `webhook.disabled`. It is in the commit that
//! disables the webhook: a crash leaves both or neither, so nobody has to remember that it is owed.

use std::sync::Arc;

use serde::Serialize;

use super::{
    ChangeError, Directory,
    state::{Edit, State},
};
use crate::{
    clock::{Millis, rfc3339, wall_ms},
    event::EventType,
    id::{TenantNo, WebhookId, WebhookNo},
    store::{NewEvent, Route},
    tenant::TenantId,
    webhook::{Disabled, DisabledReason, Webhook},
};

impl Directory {
    /// The tenant that hears what the gateway has to tell its operator, once there is one of this
    /// name.
    pub fn set_operations(&self, tenant: Option<TenantId>) {
        self.write().operations = tenant;
    }

    /// Whether that is this tenant.
    pub fn is_operations(&self, no: TenantNo) -> bool {
        let state = self.read();
        let named = state.operations.as_ref().and_then(|id| state.tenant_names.get(id.as_str()));
        named.is_some_and(|entry| entry.tenant.no == no)
    }

    /// Since when every attempt to a webhook has failed, as far as it was written down.
    pub fn failing_since(&self, no: WebhookNo) -> Option<Millis> {
        self.read().failing.get(&no).copied()
    }

    /// Writes down since when every attempt to these webhooks has failed, or that one succeeded.
    /// Those that are gone or disabled are passed over.
    pub async fn note_failing(
        &self,
        notes: Vec<(WebhookNo, Option<Millis>)>,
    ) -> Result<(), ChangeError> {
        self.change(move |state, _| {
            let edit = |(no, since): (WebhookNo, Option<Millis>)| {
                let is_enabled = state.webhooks.get(&no).is_some_and(|webhook| webhook.enabled);
                match since {
                    _ if since == state.failing.get(&no).copied() => None,
                    Some(since) => is_enabled.then_some(Edit::FailingSet { no, since }),
                    None => Some(Edit::FailingForgotten(no)),
                }
            };
            Ok((notes.into_iter().filter_map(edit).collect(), ()))
        })
        .await
    }

    /// Disables a webhook, and tells the operator's tenant, in one commit; whether it was enabled.
    pub async fn disable_webhook(
        &self,
        no: WebhookNo,
        reason: DisabledReason,
        failing_since: Option<Millis>,
    ) -> Result<bool, ChangeError> {
        self.change_and_tell(move |state, _| {
            let standing = state.webhooks.get(&no).ok_or(ChangeError::NoSuchWebhook)?;
            if !standing.enabled {
                return Ok((Vec::new(), Vec::new(), false));
            }
            let at = wall_ms();
            let webhook = Arc::new(Webhook {
                enabled: false,
                disabled: Some(Disabled { reason, at, failing_since }),
                updated_at: at,
                ..Webhook::clone(standing)
            });
            let events = notice(state, &webhook).into_iter().collect();
            let mut edits = vec![Edit::WebhookSet(webhook)];
            edits.extend(forget_failing(state, no));
            Ok((edits, events, true))
        })
        .await
    }
}

/// Forgets since when it has been failing, where that was written down.
pub(super) fn forget_failing(state: &State, no: WebhookNo) -> Option<Edit> {
    state.failing.contains_key(&no).then_some(Edit::FailingForgotten(no))
}

#[derive(Serialize)]
struct Notice<'a> {
    r#type: &'static str,
    timestamp: &'a str,
    data: NoticeData<'a>,
}

/// Without the URL, whose path is often a credential.
#[derive(Serialize)]
struct NoticeData<'a> {
    id: String,
    tenant: &'a str,
    host: String,
    description: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<String>,
    /// There, and true, in an example only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    test: bool,
}

/// What an event `webhook.disabled` looks like, about a webhook that never was.
pub fn example_notice(timestamp: &str) -> Vec<u8> {
    to_json(&Notice {
        r#type: EventType::WebhookDisabled.as_str(),
        timestamp,
        data: NoticeData {
            id: WebhookId(0).to_string(),
            tenant: "example",
            host: "hooks.example.com".to_owned(),
            description: "",
            reason: DisabledReason::Failing.as_str(),
            failing_since: Some(timestamp.to_owned()),
            test: true,
        },
    })
}

fn to_json(notice: &Notice<'_>) -> Vec<u8> {
    serde_json::to_vec(notice).expect("strings always serialize")
}

/// What the operator's tenant is told of a webhook that is being disabled.
fn notice(state: &State, webhook: &Webhook) -> Option<NewEvent> {
    let operations = state.tenant_names.get(state.operations.as_ref()?.as_str())?;
    let owner = &state.tenants.get(&webhook.tenant)?.entry.tenant;
    let disabled = webhook.disabled?;
    let notice = Notice {
        r#type: EventType::WebhookDisabled.as_str(),
        timestamp: &rfc3339(disabled.at),
        data: NoticeData {
            id: webhook.id.to_string(),
            tenant: owner.id.as_str(),
            host: webhook.url.host.to_string(),
            description: &webhook.description,
            reason: disabled.reason.as_str(),
            failing_since: disabled.failing_since.map(rfc3339),
            test: false,
        },
    };
    let payload = to_json(&notice);
    // It may be about a webhook that it goes to.
    let route =
        |route: &Route| Route { enabled: route.enabled && route.webhook != webhook.no, ..*route };
    Some(NewEvent {
        tenant: operations.tenant.no,
        event_type: EventType::WebhookDisabled,
        payload: payload.into(),
        key: None,
        trace: None,
        routes: operations.routes(EventType::WebhookDisabled).iter().map(route).collect(),
    })
}
