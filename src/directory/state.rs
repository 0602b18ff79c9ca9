//! The directory's memory: what readers see.
//!
//! It changes only through [`Edit`]s, and an edit is at the same time the row that makes it
//! durable ([`super::wire`]) and the change that subscribers hear of. Loading replays the stored
//! rows as edits, so memory after a restart is memory before it. Applying an edit cannot fail:
//! whatever could, was checked before the row was written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Change, TenantEntry,
    key::{ApiKey, KeyHash},
    layout::RowKey,
};
use crate::{
    clock::Millis,
    engine::router,
    event::EventType,
    id::{KeyId, TenantNo, WebhookId, WebhookNo},
    store::Route,
    tenant::{Tenant, TenantId},
    webhook::Webhook,
};

/// One step of a change.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Counters(Counters),
    TenantSet(Arc<Tenant>),
    /// Everything that belongs to the tenant was removed by edits before this one.
    TenantRemoved(TenantNo),
    WebhookSet(Arc<Webhook>),
    WebhookRemoved(WebhookNo),
    /// Every attempt has failed since then.
    FailingSet {
        no: WebhookNo,
        since: Millis,
    },
    FailingForgotten(WebhookNo),
    DeletedSet {
        tenant: TenantNo,
        no: WebhookNo,
        id: WebhookId,
        /// Grows with every deletion.
        order: u64,
    },
    DeletedForgotten {
        tenant: TenantNo,
        no: WebhookNo,
    },
    KeySet(Arc<ApiKey>),
    KeyRemoved(KeyId),
}

/// The numbers given next. They only grow, also across restarts: the logs name tenants and
/// webhooks by number, and a number used twice would give one tenant's past to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) next_tenant: u32,
    pub(super) next_webhook: u32,
    pub(super) next_key: u32,
    /// Deletions have an order of their own: two may fall into one millisecond.
    pub(super) next_deletion: u64,
}

/// A key's place in lists: newest last.
pub(super) type KeyOrder = (u32, KeyId);

#[derive(Debug)]
pub(super) struct State {
    pub(super) counters: Counters,
    pub(super) tenants: BTreeMap<TenantNo, TenantState>,
    /// With the entry itself, the same as in `tenants`: every event asks for it by name.
    pub(super) tenant_names: HashMap<TenantId, Arc<TenantEntry>>,
    pub(super) webhooks: HashMap<WebhookNo, Arc<Webhook>>,
    /// How many of `webhooks` are enabled.
    pub(super) enabled: usize,
    pub(super) webhook_ids: HashMap<WebhookId, WebhookNo>,
    /// The public ids of deleted webhooks, for the deliveries that they left behind.
    pub(super) deleted: HashMap<WebhookNo, (TenantNo, WebhookId)>,
    /// Since when every attempt to a webhook has failed, as far as it was written down.
    pub(super) failing: HashMap<WebhookNo, Millis>,
    pub(super) keys: HashMap<KeyId, Arc<ApiKey>>,
    /// All keys; `TenantState::keys` has one tenant's.
    pub(super) key_order: BTreeSet<KeyOrder>,
    /// Keys of no tenant, which have a limit of their own.
    pub(super) gateway_keys: usize,
    /// The key from the environment or the data directory; it has no row.
    pub(super) operator: Option<KeyHash>,
    /// The operator's own tenant, which hears what the gateway has to tell.
    pub(super) operations: Option<TenantId>,
}

/// What belongs to one tenant.
#[derive(Debug)]
pub(super) struct TenantState {
    pub(super) entry: Arc<TenantEntry>,
    pub(super) webhooks: BTreeSet<WebhookNo>,
    pub(super) keys: BTreeSet<KeyOrder>,
    /// Oldest deletion first.
    pub(super) deleted: VecDeque<WebhookNo>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            counters: Counters { next_tenant: 1, next_webhook: 1, next_key: 1, next_deletion: 1 },
            tenants: BTreeMap::new(),
            tenant_names: HashMap::new(),
            webhooks: HashMap::new(),
            enabled: 0,
            webhook_ids: HashMap::new(),
            deleted: HashMap::new(),
            failing: HashMap::new(),
            keys: HashMap::new(),
            key_order: BTreeSet::new(),
            gateway_keys: 0,
            operator: None,
            operations: None,
        }
    }
}

impl State {
    /// Makes the edits visible and says what subscribers must hear, in order. A tenant's routes
    /// are built once however many of its webhooks changed.
    pub(super) fn apply(&mut self, edits: Vec<Edit>) -> Vec<Change> {
        let mut touched = BTreeSet::new();
        let mut said: Vec<Said> = Vec::new();
        for edit in edits {
            match edit {
                Edit::Counters(counters) => self.counters = counters,
                Edit::TenantSet(tenant) => {
                    said.extend(self.set_tenant(tenant).into_iter().map(Said::Set));
                }
                Edit::TenantRemoved(no) => {
                    if let Some(removed) = self.tenants.remove(&no) {
                        self.tenant_names.remove(removed.entry.tenant.id.as_str());
                    }
                }
                Edit::WebhookSet(webhook) => {
                    touched.insert(webhook.tenant);
                    said.push(Said::Set(webhook.no));
                    self.set_webhook(webhook);
                }
                Edit::WebhookRemoved(no) => {
                    touched.extend(self.remove_webhook(no));
                    said.push(Said::Removed(no));
                }
                Edit::FailingSet { no, since } => {
                    self.failing.insert(no, since);
                }
                Edit::FailingForgotten(no) => {
                    self.failing.remove(&no);
                }
                Edit::DeletedSet { tenant, no, id, .. } => {
                    self.deleted.insert(no, (tenant, id));
                    if let Some(owner) = self.tenants.get_mut(&tenant) {
                        owner.deleted.push_back(no);
                    }
                }
                Edit::DeletedForgotten { tenant, no } => {
                    self.deleted.remove(&no);
                    if let Some(owner) = self.tenants.get_mut(&tenant) {
                        owner.deleted.retain(|other| *other != no);
                    }
                }
                Edit::KeySet(key) => self.set_key(key),
                Edit::KeyRemoved(id) => self.remove_key(id),
            }
        }
        for tenant in touched {
            self.rebuild_routes(tenant);
        }
        said.into_iter().filter_map(|said| self.change(said)).collect()
    }

    /// The edit that made a row with secrets what it is now; none where it was removed.
    pub(super) fn standing(&self, key: RowKey) -> Option<Edit> {
        match key {
            RowKey::Tenant(no) => {
                let tenant = &self.tenants.get(&no)?.entry.tenant;
                Some(Edit::TenantSet(Arc::clone(tenant)))
            }
            RowKey::Webhook(no) => self.webhooks.get(&no).cloned().map(Edit::WebhookSet),
            RowKey::Counters
            | RowKey::DeletedWebhook(..)
            | RowKey::Failing(_)
            | RowKey::ApiKey(_) => None,
        }
    }

    /// What a subscriber is told about a webhook as it stands now.
    pub(super) fn set_change(&self, webhook: &Arc<Webhook>) -> Option<Change> {
        let tenant = &self.tenants.get(&webhook.tenant)?.entry.tenant;
        Some(Change::WebhookSet { webhook: Arc::clone(webhook), tenant: Arc::clone(tenant) })
    }

    fn change(&self, said: Said) -> Option<Change> {
        match said {
            Said::Set(no) => self.set_change(self.webhooks.get(&no)?),
            Said::Removed(webhook) => Some(Change::WebhookRemoved { webhook }),
        }
    }

    /// Returns the webhooks whose requests look different now.
    fn set_tenant(&mut self, tenant: Arc<Tenant>) -> Vec<WebhookNo> {
        let no = tenant.no;
        match self.tenants.get(&no) {
            Some(state) => {
                let routes = state.entry.routes.clone();
                let webhooks = state.webhooks.iter().copied().collect();
                self.set_entry(no, TenantEntry { tenant, routes });
                webhooks
            }
            None => {
                let entry = Arc::new(TenantEntry { tenant, routes: routes(&[]) });
                self.tenant_names.insert(entry.tenant.id.clone(), Arc::clone(&entry));
                let state = TenantState {
                    entry,
                    webhooks: BTreeSet::new(),
                    keys: BTreeSet::new(),
                    deleted: VecDeque::new(),
                };
                self.tenants.insert(no, state);
                Vec::new()
            }
        }
    }

    fn set_entry(&mut self, no: TenantNo, entry: TenantEntry) {
        let Some(state) = self.tenants.get_mut(&no) else { return };
        state.entry = Arc::new(entry);
        self.tenant_names.insert(state.entry.tenant.id.clone(), Arc::clone(&state.entry));
    }

    fn set_webhook(&mut self, webhook: Arc<Webhook>) {
        if let Some(owner) = self.tenants.get_mut(&webhook.tenant) {
            owner.webhooks.insert(webhook.no);
        }
        self.webhook_ids.insert(webhook.id, webhook.no);
        self.enabled += usize::from(webhook.enabled);
        let before = self.webhooks.insert(webhook.no, webhook);
        self.enabled -= usize::from(before.is_some_and(|before| before.enabled));
    }

    fn remove_webhook(&mut self, no: WebhookNo) -> Option<TenantNo> {
        self.failing.remove(&no);
        let webhook = self.webhooks.remove(&no)?;
        self.enabled -= usize::from(webhook.enabled);
        self.webhook_ids.remove(&webhook.id);
        if let Some(owner) = self.tenants.get_mut(&webhook.tenant) {
            owner.webhooks.remove(&no);
        }
        Some(webhook.tenant)
    }

    fn set_key(&mut self, key: Arc<ApiKey>) {
        let order = (key.no, key.id);
        match self.owner_of(&key) {
            Some(owner) => {
                owner.keys.insert(order);
            }
            None => self.gateway_keys += 1,
        }
        self.key_order.insert(order);
        self.keys.insert(key.id, key);
    }

    fn remove_key(&mut self, id: KeyId) {
        let Some(key) = self.keys.remove(&id) else { return };
        let order = (key.no, key.id);
        self.key_order.remove(&order);
        match self.owner_of(&key) {
            Some(owner) => {
                owner.keys.remove(&order);
            }
            None => self.gateway_keys -= 1,
        }
    }

    fn owner_of(&mut self, key: &ApiKey) -> Option<&mut TenantState> {
        match key.principal {
            super::Principal::Tenant(no) => self.tenants.get_mut(&no),
            super::Principal::Operator | super::Principal::Producer => None,
        }
    }

    fn rebuild_routes(&mut self, no: TenantNo) {
        let Some(state) = self.tenants.get(&no) else { return };
        let webhooks: Vec<&Webhook> =
            state.webhooks.iter().filter_map(|no| self.webhooks.get(no)).map(Arc::as_ref).collect();
        let tenant = Arc::clone(&state.entry.tenant);
        let entry = TenantEntry { tenant, routes: routes(&webhooks) };
        self.set_entry(no, entry);
    }
}

/// What will have to be said once everything is visible.
enum Said {
    Set(WebhookNo),
    Removed(WebhookNo),
}

/// For each event type, where its events go, as lists that every event shares.
fn routes(webhooks: &[&Webhook]) -> [Arc<[Route]>; EventType::EVERY.len()] {
    let filters = webhooks.iter().map(|webhook| (webhook.no, webhook.events, webhook.enabled));
    router::routes(filters).map(|routed| {
        routed.into_iter().map(|(webhook, enabled)| Route { webhook, enabled }).collect()
    })
}
