//! What a record says.

use crate::{
    clock::Millis,
    id::{KeyId, SessionId, TenantNo},
    request_id::RequestId,
    tenant::{Tenant, TenantId},
};

/// What was done. The list is closed; each name stands in the store and in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    TenantCreated,
    TenantDeleted,
    WebhookCreated,
    WebhookUpdated,
    WebhookDeleted,
    /// By the gateway, because of what came of its attempts.
    WebhookDisabled,
    KeyCreated,
    KeyRevoked,
    SecretShown,
    SecretRotated,
    DeliveryReplayed,
    DeliveryCanceled,
    ReplayCreated,
    ReplayPaused,
    ReplayResumed,
    ReplayCanceled,
    ErasureCreated,
    BackupCreated,
    PortalLinkCreated,
    SessionStarted,
    SessionEnded,
}

impl Action {
    pub const ALL: [Action; 21] = [
        Self::TenantCreated,
        Self::TenantDeleted,
        Self::WebhookCreated,
        Self::WebhookUpdated,
        Self::WebhookDeleted,
        Self::WebhookDisabled,
        Self::KeyCreated,
        Self::KeyRevoked,
        Self::SecretShown,
        Self::SecretRotated,
        Self::DeliveryReplayed,
        Self::DeliveryCanceled,
        Self::ReplayCreated,
        Self::ReplayPaused,
        Self::ReplayResumed,
        Self::ReplayCanceled,
        Self::ErasureCreated,
        Self::BackupCreated,
        Self::PortalLinkCreated,
        Self::SessionStarted,
        Self::SessionEnded,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantCreated => "tenant.created",
            Self::TenantDeleted => "tenant.deleted",
            Self::WebhookCreated => "webhook.created",
            Self::WebhookUpdated => "webhook.updated",
            Self::WebhookDeleted => "webhook.deleted",
            Self::WebhookDisabled => "webhook.disabled",
            Self::KeyCreated => "key.created",
            Self::KeyRevoked => "key.revoked",
            Self::SecretShown => "secret.shown",
            Self::SecretRotated => "secret.rotated",
            Self::DeliveryReplayed => "delivery.replayed",
            Self::DeliveryCanceled => "delivery.canceled",
            Self::ReplayCreated => "replay.created",
            Self::ReplayPaused => "replay.paused",
            Self::ReplayResumed => "replay.resumed",
            Self::ReplayCanceled => "replay.canceled",
            Self::ErasureCreated => "erasure.created",
            Self::BackupCreated => "backup.created",
            Self::PortalLinkCreated => "portal_link.created",
            Self::SessionStarted => "session.started",
            Self::SessionEnded => "session.ended",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

/// What kind of somebody it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActorKind {
    /// Nobody asked for it.
    #[default]
    Gateway,
    Operator,
    Producer,
    Tenant,
}

impl ActorKind {
    pub const ALL: [ActorKind; 4] = [Self::Gateway, Self::Operator, Self::Producer, Self::Tenant];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Producer => "producer",
            Self::Tenant => "tenant",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Who it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    pub kind: ActorKind,
    /// The API key that was used, or that the session was opened with; none of the operator's own
    /// key, which has no id.
    pub key: Option<KeyId>,
    /// The portal's session.
    pub session: Option<SessionId>,
}

impl Actor {
    /// As a tenant may see it: which of the operator's keys it was, is the operator's business.
    pub fn seen(self, by_operator: bool) -> Self {
        match self.kind {
            ActorKind::Operator if !by_operator => Self { key: None, session: None, ..self },
            _ => self,
        }
    }
}

/// Who asks for a change, with which request. By default the gateway itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    pub actor: Actor,
    pub request: Option<RequestId>,
}

/// Something that is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub action: Action,
    /// Whose chain it belongs to; none where it belongs to no tenant.
    pub tenant: Option<(TenantNo, TenantId)>,
    /// The id of what was changed.
    pub object: Option<String>,
    /// The names of the fields that are different now.
    pub changed: Vec<&'static str>,
}

impl Done {
    pub fn of_gateway(action: Action) -> Self {
        Self { action, tenant: None, object: None, changed: Vec::new() }
    }

    pub fn of(tenant: &Tenant, action: Action) -> Self {
        let tenant = Some((tenant.no, tenant.id.clone()));
        Self { tenant, ..Self::of_gateway(action) }
    }

    #[must_use]
    pub fn to(self, object: impl ToString) -> Self {
        Self { object: Some(object.to_string()), ..self }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place among all records.
    pub order: u64,
    /// Its number in its chain, from 1 on.
    pub sequence: u64,
    pub at: Millis,
    pub action: Action,
    pub by: By,
    pub tenant: Option<(TenantNo, TenantId)>,
    pub object: Option<String>,
    pub changed: Vec<String>,
}

impl Record {
    /// Whose chain it is in.
    pub(super) fn chain(&self) -> Option<TenantNo> {
        self.tenant.as_ref().map(|(no, _)| *no)
    }
}
