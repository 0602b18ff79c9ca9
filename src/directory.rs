//! The directory: tenants, keys and webhooks, cached whole in memory, kept in the store.
//!
//! Reads never wait. A change is written to the store first; once it is durable it becomes visible
//! to readers, then it is sent to every subscriber, and only then is the caller answered: no
//! attempt starts with an old URL or secret after the change was acknowledged.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    event::EventType,
    id::{TenantNo, WebhookNo},
    store::Route,
    tenant::Tenant,
    webhook::Webhook,
};

/// A tenant with its routes made ready: one shared list per event type.
#[derive(Debug)]
pub struct TenantEntry {
    pub tenant: Arc<Tenant>,
    routes: [Arc<[Route]>; 6],
}

impl TenantEntry {
    pub fn routes(&self, event_type: EventType) -> Arc<[Route]> {
        Arc::clone(&self.routes[event_type as usize])
    }
}

/// What subscribers (the shards) are told.
#[derive(Clone, Debug)]
pub enum Change {
    /// New or changed; also sent for each webhook of a tenant whose secrets changed.
    WebhookSet {
        webhook: Arc<Webhook>,
        tenant: Arc<Tenant>,
    },
    WebhookRemoved {
        webhook: WebhookNo,
    },
}

/// For whom a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    Operator,
    /// May only send events.
    Producer,
    Tenant(TenantNo),
}

/// A cheap handle; copies share one directory.
#[derive(Clone, Debug)]
pub struct Directory {}

impl Directory {
    /// The tenant of this name.
    pub fn tenant(&self, _id: &str) -> Option<Arc<TenantEntry>> {
        None
    }

    pub fn tenant_by_no(&self, _no: TenantNo) -> Option<Arc<TenantEntry>> {
        None
    }

    pub fn webhook_by_no(&self, _no: WebhookNo) -> Option<Arc<Webhook>> {
        None
    }

    /// Who presents this bearer key; none where it is unknown or revoked. Constant-time compare.
    pub fn authenticate(&self, _key: &str) -> Option<Principal> {
        None
    }

    /// Everything as it stands now, then each change after its commit. The capacity is the
    /// receiver's; a change waits until every subscriber has room.
    pub async fn subscribe(&self, _subscriber: mpsc::Sender<Change>) {}
}
