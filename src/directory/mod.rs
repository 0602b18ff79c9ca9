//! The directory: tenants, keys and webhooks, cached whole in memory, kept in the store.
//!
//! Reads never wait: they take a lock that is only ever held for a few map operations. A change is
//! written to the store first; once it is durable it becomes visible to readers, then it is sent to
//! every subscriber, and only then is the caller answered: no attempt starts with an old URL or
//! secret after the change was acknowledged. Changes come one at a time, and each is carried
//! through to the end in a task of its own, whether its asker still waits or not, so that memory
//! and store never differ.
//!
//! The numbers of tenants and webhooks are given once and never again, because the logs name them
//! by number. What a stored row looks like is in `layout` and `wire`.
//!
//! Secrets are sealed on disk (`keyring`); rows that the key in use has not sealed are written
//! anew at the start, a few at a time, so that a start that is killed goes on where it was.
//!
//! The directory knows nothing of HTTP, and it does not judge a webhook's URL: it takes one that
//! was judged.

mod change;
mod disable;
mod done;
pub mod encryption_key;
mod key;
mod key_file;
mod keyring;
mod layout;
pub mod operator_key;
mod state;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::sync::{Mutex, mpsc};
use zeroize::Zeroizing;

pub(crate) use self::wire::{BadRow, open_plain, plain};
pub use self::{
    change::{ChangeError, MAX_GATEWAY_KEYS, NewTenant, WebhookPatch},
    disable::example_notice,
    encryption_key::EncryptionKeyError,
    key::{
        ApiKey, KeyMark, KeyText, MAX_KEY_TEXT, OPERATOR_PREFIX, PRODUCER_PREFIX, TENANT_PREFIX,
    },
    keyring::{BadKeyRing, EncryptionKeyId, KeyRing},
    operator_key::{OperatorKey, OperatorKeyError},
};
use self::{
    key::KeyHash,
    layout::RowKey,
    state::{Edit, State},
};
use crate::{
    audit::{ActorKind, Audit, BadRecord, By, Done},
    config::Limits,
    event::EventType,
    id::{KeyId, TenantNo, WebhookId, WebhookNo},
    store::{Route, Row, Store, StoreError},
    tenant::Tenant,
    webhook::Webhook,
};

/// A tenant with its routes made ready: one shared list per event type.
#[derive(Debug)]
pub struct TenantEntry {
    pub tenant: Arc<Tenant>,
    routes: [Arc<[Route]>; EventType::EVERY.len()],
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

impl Principal {
    /// The name of its kind in the API.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Producer => "producer",
            Self::Tenant(_) => "tenant",
        }
    }

    /// The same in the audit log.
    pub const fn actor(self) -> ActorKind {
        match self {
            Self::Operator => ActorKind::Operator,
            Self::Producer => ActorKind::Producer,
            Self::Tenant(_) => ActorKind::Tenant,
        }
    }

    /// The tenant whose key it is.
    pub const fn tenant(self) -> Option<TenantNo> {
        match self {
            Self::Tenant(no) => Some(no),
            Self::Operator | Self::Producer => None,
        }
    }
}

/// Why the stored directory cannot be used. Starting without a row would drop events or let a
/// revoked key in, so there is no partial directory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "the directory's row {row} is damaged: {reason}; put back a copy of the data directory"
    )]
    Damaged { row: String, reason: String },
    #[error(
        "the directory's row {row} was written by a newer version (format {version}); run that version, or set another data_dir"
    )]
    Newer { row: String, version: u8 },
    #[error(
        "the directory's row {row} is sealed with the encryption key {id}, which is not among those given; put it back"
    )]
    MissingKey { row: String, id: EncryptionKeyId },
}

/// A cheap handle; copies share one directory.
#[derive(Clone, Debug)]
pub struct Directory {
    inner: Arc<Inner>,
    /// Who asks for the changes that are made with this handle.
    by: By,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    audit: Audit,
    ring: KeyRing,
    state: RwLock<State>,
    /// Held for the length of a change: changes come one at a time.
    writer: Mutex<Writer>,
}

/// What only changes need.
#[derive(Debug)]
struct Writer {
    limits: Limits,
    subscribers: Vec<mpsc::Sender<Change>>,
    /// Rows whose secrets the key in use has not sealed.
    stale: Vec<RowKey>,
}

/// The files in the data directory that hold keys, where none are given from outside.
pub const KEY_FILES: [&str; 2] = [encryption_key::FILE, operator_key::FILE];

/// Rows sealed anew in one commit.
const SEALED_AT_ONCE: usize = if cfg!(test) { 2 } else { 256 };

impl Directory {
    /// The directory as the store's rows tell it.
    pub fn load(
        store: Store,
        mut rows: Vec<Row>,
        limits: Limits,
        ring: KeyRing,
    ) -> Result<Self, LoadError> {
        let records = Audit::take_rows(&mut rows);
        let audit = Audit::load(&records, limits.audit_records).map_err(LoadError::of_audit)?;
        let mut edits = Vec::with_capacity(rows.len());
        let mut stale = Vec::new();
        for Row { key, value } in rows {
            // Rows of the first version hold secrets in the clear.
            let Some(value) = value.map(Zeroizing::new) else { continue };
            let decoded = wire::decode(&key, &value, &ring);
            let decoded = decoded.map_err(|bad| LoadError::of(&key, bad))?;
            stale.extend(decoded.is_stale.then(|| RowKey::decode(&key)).flatten());
            edits.push(decoded.edit);
        }
        // What others refer to comes first, and deletions in the order in which they happened.
        edits.sort_by_key(|edit| match edit {
            Edit::TenantSet(_) => (0, 0),
            Edit::WebhookSet(_) => (1, 0),
            Edit::DeletedSet { order, .. } => (2, *order),
            _ => (3, 0),
        });
        let mut state = State::default();
        state.apply(edits);
        check_references(&state)?;
        let writer = Mutex::new(Writer { limits, subscribers: Vec::new(), stale });
        let inner = Inner { store, audit, ring, state: RwLock::new(state), writer };
        Ok(Self { inner: Arc::new(inner), by: By::default() })
    }

    /// The same directory, for changes that somebody asks for: their records say who it was.
    #[must_use]
    pub fn on_behalf_of(&self, by: &By) -> Self {
        Self { by: by.clone(), inner: Arc::clone(&self.inner) }
    }

    /// The record of all changes, these and others.
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    /// Records what changed nothing on the disk.
    pub async fn note(&self, done: Done) -> Result<(), StoreError> {
        self.inner.audit.note(&self.inner.store, &self.by, done).await
    }

    /// Writes every row anew whose secrets stand in the clear or are sealed with an older key, and
    /// says how many there were. Cut short, it leaves whole rows, each readable with its own key.
    pub async fn seal_anew(&self) -> Result<usize, StoreError> {
        let mut writer = self.inner.writer.lock().await;
        let mut sealed = 0;
        while !writer.stale.is_empty() {
            let rest = writer.stale.len().saturating_sub(SEALED_AT_ONCE);
            let rows: Vec<Row> = {
                let state = self.read();
                // As they stand now: what was deleted since is not brought back.
                let edits = writer.stale[rest..].iter().filter_map(|key| state.standing(*key));
                edits.map(|edit| wire::encode(&edit, &self.inner.ring)).collect()
            };
            sealed += rows.len();
            self.inner.store.put_rows(rows).await?;
            writer.stale.truncate(rest);
        }
        Ok(sealed)
    }

    /// Encrypts what is personal in a row of somebody else's, and binds it to `bound_to`.
    pub(crate) fn seal(&self, bound_to: &[u8], text: &[u8]) -> Vec<u8> {
        self.inner.ring.seal(bound_to, text)
    }

    /// Decrypts it.
    pub(crate) fn open(
        &self,
        bound_to: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, BadRow> {
        Ok(self.inner.ring.open(bound_to, sealed)?.0)
    }

    /// Takes the operator's key from the environment's value or from the data directory, and makes
    /// one where there is none. It alone is valid until then.
    pub fn ensure_operator_key(
        &self,
        environment: Option<&str>,
        data_dir: &Path,
    ) -> Result<OperatorKey, OperatorKeyError> {
        let (text, origin) = operator_key::obtain(environment, data_dir)?;
        self.write().operator = Some(KeyHash::of(text.expose()));
        Ok(origin)
    }

    /// New limits, for what is made from now on; what exists stays.
    pub async fn set_limits(&self, limits: Limits) {
        self.inner.audit.set_limit(limits.audit_records);
        self.inner.writer.lock().await.limits = limits;
    }

    /// The tenant of this name.
    pub fn tenant(&self, id: &str) -> Option<Arc<TenantEntry>> {
        self.read().tenant_names.get(id).cloned()
    }

    pub fn tenant_by_no(&self, no: TenantNo) -> Option<Arc<TenantEntry>> {
        self.read().tenants.get(&no).map(|tenant| Arc::clone(&tenant.entry))
    }

    pub fn webhook_by_no(&self, no: WebhookNo) -> Option<Arc<Webhook>> {
        self.read().webhooks.get(&no).cloned()
    }

    /// The tenant's webhook of this id; none also where it is another tenant's.
    pub fn webhook(&self, tenant: TenantNo, id: WebhookId) -> Option<Arc<Webhook>> {
        let state = self.read();
        let webhook = state.webhooks.get(state.webhook_ids.get(&id)?)?;
        (webhook.tenant == tenant).then(|| Arc::clone(webhook))
    }

    /// The number behind an id, also where the webhook was deleted (and is not yet forgotten).
    pub fn webhook_no(&self, tenant: TenantNo, id: WebhookId) -> Option<WebhookNo> {
        if let Some(webhook) = self.webhook(tenant, id) {
            return Some(webhook.no);
        }
        let state = self.read();
        let deleted = &state.tenants.get(&tenant)?.deleted;
        deleted.iter().copied().find(|no| state.deleted.get(no) == Some(&(tenant, id)))
    }

    /// The number behind an id, whoever's it is; none where it was deleted.
    pub fn webhook_no_anywhere(&self, id: WebhookId) -> Option<WebhookNo> {
        self.read().webhook_ids.get(&id).copied()
    }

    /// The id behind a number, also where the webhook was deleted (and is not yet forgotten).
    pub fn webhook_id(&self, no: WebhookNo) -> Option<WebhookId> {
        let state = self.read();
        let live = state.webhooks.get(&no).map(|webhook| webhook.id);
        live.or_else(|| state.deleted.get(&no).map(|(_, id)| *id))
    }

    /// Up to `limit` tenants made before `before`, newest first.
    pub fn tenants(&self, before: Option<TenantNo>, limit: usize) -> Vec<Arc<Tenant>> {
        let state = self.read();
        let end = before.unwrap_or(TenantNo(u32::MAX));
        let older = state.tenants.range(..end).rev().take(limit);
        older.map(|(_, tenant)| Arc::clone(&tenant.entry.tenant)).collect()
    }

    /// Up to `limit` webhooks of the tenant made before `before`, newest first.
    pub fn webhooks(
        &self,
        tenant: TenantNo,
        before: Option<WebhookNo>,
        limit: usize,
    ) -> Vec<Arc<Webhook>> {
        let state = self.read();
        let Some(owner) = state.tenants.get(&tenant) else { return Vec::new() };
        let end = before.unwrap_or(WebhookNo(u32::MAX));
        let older = owner.webhooks.range(..end).rev().take(limit);
        older.filter_map(|no| state.webhooks.get(no).cloned()).collect()
    }

    /// Up to `limit` keys, of one tenant or of all and the gateway's own, made before `before`,
    /// newest first.
    pub fn keys(
        &self,
        tenant: Option<TenantNo>,
        before: Option<u32>,
        limit: usize,
    ) -> Vec<Arc<ApiKey>> {
        let state = self.read();
        let order = match tenant {
            Some(no) => state.tenants.get(&no).map(|tenant| &tenant.keys),
            None => Some(&state.key_order),
        };
        let Some(order) = order else { return Vec::new() };
        let end = (before.unwrap_or(u32::MAX), KeyId(0));
        let older = order.range(..end).rev().take(limit);
        older.filter_map(|(_, id)| state.keys.get(id).cloned()).collect()
    }

    /// How many webhooks are enabled, and how many are not.
    pub fn webhook_counts(&self) -> (usize, usize) {
        let state = self.read();
        (state.enabled, state.webhooks.len() - state.enabled)
    }

    /// Who presents this bearer key; none where it is unknown or revoked. Whatever the text, one
    /// hash is made and one constant-time compare is done.
    pub fn authenticate(&self, key: &str) -> Option<Principal> {
        self.speaks_for(&KeyMark::of(key)?)
    }

    /// For whom the key of this mark speaks now; none where it is unknown or was revoked.
    pub fn speaks_for(&self, mark: &KeyMark) -> Option<Principal> {
        let state = self.read();
        let named = mark.id.and_then(|id| state.keys.get(&id));
        let (kept, principal) = match named {
            Some(named) => (named.hash, named.principal),
            None => (state.operator?, Principal::Operator),
        };
        kept.matches(&mark.hash).then_some(principal)
    }

    /// The id of the key of this mark; none of the operator's own, which has none.
    pub fn key_id(&self, mark: &KeyMark) -> Option<KeyId> {
        let state = self.read();
        let key = state.keys.get(&mark.id?)?;
        key.hash.matches(&mark.hash).then_some(key.id)
    }

    /// Everything as it stands now, then each change after its commit. The capacity is the
    /// receiver's; a change waits until every subscriber has room, so a subscriber must never wait
    /// for a change to be answered. One that is dropped is forgotten.
    pub async fn subscribe(&self, subscriber: mpsc::Sender<Change>) {
        // Taken first: what is sent here and what is sent later leave no gap and no overlap.
        let mut writer = self.inner.writer.lock().await;
        for change in self.everything() {
            if subscriber.send(change).await.is_err() {
                return;
            }
        }
        writer.subscribers.push(subscriber);
    }

    /// Sends every webhook to every subscriber again: what it leaves to the gateway's defaults may
    /// have changed.
    pub async fn announce_all(&self) {
        let mut writer = self.inner.writer.lock().await;
        let everything = self.everything();
        writer.tell(everything).await;
    }

    fn everything(&self) -> Vec<Change> {
        let state = self.read();
        let mut webhooks: Vec<&Arc<Webhook>> = state.webhooks.values().collect();
        webhooks.sort_unstable_by_key(|webhook| webhook.no);
        webhooks.into_iter().filter_map(|webhook| state.set_change(webhook)).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // No code that may panic runs under the lock, so a poisoned one is still whole.
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    async fn tell(&mut self, changes: Vec<Change>) {
        for change in changes {
            for subscriber in &self.subscribers {
                // Gone ones are forgotten below.
                let _ = subscriber.send(change.clone()).await;
            }
        }
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
    }
}

impl LoadError {
    fn of_audit(bad: BadRecord) -> Self {
        let row = "of the audit log".to_owned();
        match bad {
            BadRecord::Newer(version) => Self::Newer { row, version },
            bad => Self::Damaged { row, reason: bad.to_string() },
        }
    }

    fn of(key: &[u8], bad: BadRow) -> Self {
        let row = match RowKey::decode(key) {
            Some(key) => format!("{key:?}"),
            None => format!("{key:02x?}"),
        };
        match bad {
            BadRow::Newer(version) => Self::Newer { row, version },
            BadRow::MissingKey(id) => Self::MissingKey { row, id },
            other => Self::Damaged { row, reason: other.to_string() },
        }
    }
}

/// Rows that refer to each other are written together, so a loose end is damage.
fn check_references(state: &State) -> Result<(), LoadError> {
    let damaged =
        |row: String, reason: &str| Err(LoadError::Damaged { row, reason: reason.to_owned() });
    for webhook in state.webhooks.values() {
        if !state.tenants.contains_key(&webhook.tenant) {
            return damaged(format!("{:?}", webhook.no), "its tenant is missing");
        }
    }
    for key in state.keys.values() {
        if let Principal::Tenant(no) = key.principal
            && !state.tenants.contains_key(&no)
        {
            return damaged(format!("{:?}", key.id), "its tenant is missing");
        }
    }
    let tenant = state.tenants.keys().map(|no| no.0).max().unwrap_or(0);
    let numbers = state.webhooks.keys().chain(state.deleted.keys());
    let webhook = numbers.map(|no| no.0).max().unwrap_or(0);
    if tenant >= state.counters.next_tenant || webhook >= state.counters.next_webhook {
        return damaged("Counters".to_owned(), "a number was given that is not counted");
    }
    Ok(())
}
