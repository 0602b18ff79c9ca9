//! What the audit log says of a change: read off the edits themselves, so that no change of the
//! directory can go without its record.

use super::{
    Principal,
    state::{Edit, State},
};
use crate::{
    audit::{Action, Done},
    id::TenantNo,
    tenant::Tenant,
    webhook::{DisabledReason, Webhook},
};

/// Of edits to the state before them.
pub(super) fn of(state: &State, edits: &[Edit]) -> Vec<Done> {
    let gone = edits.iter().find_map(|edit| match edit {
        Edit::TenantRemoved(no) => Some(*no),
        _ => None,
    });
    if let Some(no) = gone {
        // Its keys and its webhooks go with it, and need no word of their own.
        let tenant = tenant(state, no);
        return tenant
            .map(|it| Done::of(it, Action::TenantDeleted).to(&it.id))
            .into_iter()
            .collect();
    }
    let mut made: Option<&Tenant> = None;
    let mut done = Vec::new();
    for edit in edits {
        match edit {
            Edit::TenantSet(it) if state.tenants.contains_key(&it.no) => {
                done.push(Done::of(it, Action::SecretRotated));
            }
            Edit::TenantSet(it) => {
                made = Some(it);
                done.push(Done::of(it, Action::TenantCreated).to(&it.id));
            }
            Edit::WebhookSet(webhook) => done.extend(of_webhook(state, webhook)),
            Edit::WebhookRemoved(no) => {
                let webhook = state.webhooks.get(no);
                done.extend(webhook.and_then(|it| about(state, it, Action::WebhookDeleted)));
            }
            Edit::KeySet(key) => {
                let of = of_key(state, made, key.principal, Action::KeyCreated);
                done.push(of.to(key.id));
            }
            Edit::KeyRemoved(id) => {
                let key = state.keys.get(id);
                let of = key.map(|key| of_key(state, None, key.principal, Action::KeyRevoked));
                done.extend(of.map(|of| of.to(id)));
            }
            Edit::Counters(_)
            | Edit::TenantRemoved(_)
            | Edit::FailingSet { .. }
            | Edit::FailingForgotten(_)
            | Edit::DeletedSet { .. }
            | Edit::DeletedForgotten { .. } => {}
        }
    }
    done
}

fn tenant(state: &State, no: TenantNo) -> Option<&Tenant> {
    state.tenants.get(&no).map(|own| &*own.entry.tenant)
}

fn about(state: &State, webhook: &Webhook, action: Action) -> Option<Done> {
    Some(Done::of(tenant(state, webhook.tenant)?, action).to(webhook.id))
}

fn of_webhook(state: &State, webhook: &Webhook) -> Option<Done> {
    let Some(before) = state.webhooks.get(&webhook.no) else {
        return about(state, webhook, Action::WebhookCreated);
    };
    let by_request = [None, Some(DisabledReason::Requested)].contains(&webhook.disabled_reason());
    if before.enabled && !by_request {
        return about(state, webhook, Action::WebhookDisabled);
    }
    let done = about(state, webhook, Action::WebhookUpdated)?;
    Some(Done { changed: changed(before, webhook), ..done })
}

/// The fields that differ, by the API's names; never their values, which may be credentials.
fn changed(before: &Webhook, now: &Webhook) -> Vec<&'static str> {
    let fields = [
        ("url", before.url != now.url),
        ("events", before.events != now.events),
        ("description", before.description != now.description),
        ("headers", before.headers != now.headers),
        ("enabled", before.enabled != now.enabled),
        ("success", before.success != now.success),
        ("timeout", before.timeout != now.timeout),
        ("max_in_flight", before.max_in_flight != now.max_in_flight),
        ("rate_limit", before.rate_limit != now.rate_limit),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// A tenant's key belongs to its chain, also where both are made at once.
fn of_key(state: &State, made: Option<&Tenant>, principal: Principal, action: Action) -> Done {
    let owner = principal.tenant().and_then(|no| tenant(state, no).or(made));
    owner.map_or_else(|| Done::of_gateway(action), |owner| Done::of(owner, action))
}
