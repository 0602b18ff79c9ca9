//! Every change to the directory: checked against what stands, made durable, made visible, told.

use std::{sync::Arc, time::Duration};

use super::{
    Directory, Inner, Principal,
    disable::forget_failing,
    key::{ApiKey, KeyText},
    state::{Counters, Edit, State},
};
use crate::{
    clock::{rfc3339, wall_ms},
    config::Limits,
    event::EventTypes,
    guard::WebhookUrl,
    id::{KeyId, TenantNo, WebhookId, WebhookNo, random_u128},
    store::{Bundle, NewEvent, StoreError},
    tenant::{MAX_PREVIOUS_SECRETS, SigningSecrets, Tenant, TenantId, TooManySecrets},
    webhook::{
        CustomHeaders, Disabled, DisabledReason, HeaderError, HeadersPatch, SuccessRule, Webhook,
    },
};

/// Operator and producer keys together; they belong to no tenant whose limit could hold them.
pub const MAX_GATEWAY_KEYS: usize = 1000;

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("a tenant of this id exists")]
    TenantExists,
    /// It is not what its changer has seen.
    #[error("it was changed meanwhile")]
    Changed,
    #[error("no such tenant")]
    NoSuchTenant,
    #[error("no such webhook")]
    NoSuchWebhook,
    #[error("no such key")]
    NoSuchKey,
    /// `name` is the limit's key in the config, or says what it bounds.
    #[error("the limit {name} = {limit} is reached")]
    Limit { name: &'static str, limit: usize },
    #[error(
        "{MAX_PREVIOUS_SECRETS} earlier secrets still sign; rotate again after {}, when the first of \
         them ends, or now with \"overlap\":\"0s\", which ends all of them at once",
        rfc3339(.0.until)
    )]
    TooManySecrets(TooManySecrets),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A webhook's headers, together with those that it has.
    #[error(transparent)]
    Headers(#[from] HeaderError),
    /// The task that carried the change panicked or was stopped with the process.
    #[error("the change was interrupted")]
    Interrupted,
}

/// A tenant just made, with what is shown once.
#[derive(Clone, Debug)]
pub struct NewTenant {
    pub tenant: Arc<Tenant>,
    pub key: Arc<ApiKey>,
    pub api_key: KeyText,
}

/// What to set on a webhook; what is none stays as it is. The inner option of a setting says
/// whether the webhook has one of its own or takes the gateway's default.
#[derive(Clone, Debug, Default)]
pub struct WebhookPatch {
    pub url: Option<WebhookUrl>,
    pub events: Option<EventTypes>,
    pub description: Option<String>,
    pub headers: Option<HeadersPatch>,
    pub enabled: Option<bool>,
    pub success: Option<Option<SuccessRule>>,
    pub timeout: Option<Option<Duration>>,
    pub max_in_flight: Option<Option<u32>>,
    pub rate_limit: Option<Option<u32>>,
}

impl WebhookPatch {
    /// All of it, or nothing where the headers would be too many.
    fn apply(self, webhook: &mut Webhook, limits: &Limits) -> Result<(), ChangeError> {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        if let Some(headers) = self.headers {
            webhook.headers.merge(headers, limits.headers())?;
        }
        set(&mut webhook.url, self.url);
        set(&mut webhook.events, self.events);
        set(&mut webhook.description, self.description);
        set(&mut webhook.enabled, self.enabled);
        set(&mut webhook.success, self.success);
        set(&mut webhook.timeout, self.timeout);
        set(&mut webhook.max_in_flight, self.max_in_flight);
        set(&mut webhook.rate_limit, self.rate_limit);
        Ok(())
    }
}

impl From<TooManySecrets> for ChangeError {
    fn from(error: TooManySecrets) -> Self {
        Self::TooManySecrets(error)
    }
}

impl Directory {
    /// A new tenant with its signing secret and its first key.
    pub async fn create_tenant(
        &self,
        id: TenantId,
        name: String,
    ) -> Result<NewTenant, ChangeError> {
        self.change(move |state, limits| {
            if state.tenant_names.contains_key(id.as_str()) {
                return Err(ChangeError::TenantExists);
            }
            within("limits.tenants", limits.tenants, state.tenants.len())?;
            let (no, counters) = state.counters.take_tenant()?;
            let created_at = wall_ms();
            let secrets = SigningSecrets::generate();
            let tenant = Arc::new(Tenant { no, id, name, created_at, secrets });
            let (key_no, counters) = counters.take_key()?;
            let (key, api_key) = ApiKey::generate(key_no, Principal::Tenant(no), created_at);
            let key = Arc::new(key);
            let edits = vec![
                Edit::Counters(counters),
                Edit::TenantSet(Arc::clone(&tenant)),
                Edit::KeySet(Arc::clone(&key)),
            ];
            Ok((edits, NewTenant { tenant, key, api_key }))
        })
        .await
    }

    /// Removes a tenant with its webhooks and its keys. Its events stay in the log until retention
    /// removes them; nobody can reach them, because its number is never given again.
    pub async fn delete_tenant(&self, no: TenantNo) -> Result<(), ChangeError> {
        self.change(move |state, _| {
            let tenant = state.tenants.get(&no).ok_or(ChangeError::NoSuchTenant)?;
            let webhooks = tenant.webhooks.iter().map(|no| Edit::WebhookRemoved(*no));
            let failing = tenant.webhooks.iter().filter_map(|no| forget_failing(state, *no));
            let keys = tenant.keys.iter().map(|(_, id)| Edit::KeyRemoved(*id));
            let deleted = tenant.deleted.iter();
            let deleted =
                deleted.map(|deleted| Edit::DeletedForgotten { tenant: no, no: *deleted });
            let edits =
                webhooks.chain(failing).chain(keys).chain(deleted).chain([Edit::TenantRemoved(no)]);
            Ok((edits.collect(), ()))
        })
        .await
    }

    /// A new key that speaks for `principal`. Its text is in the answer and nowhere else.
    pub async fn create_key(
        &self,
        principal: Principal,
    ) -> Result<(Arc<ApiKey>, KeyText), ChangeError> {
        self.change(move |state, limits| {
            if let Principal::Tenant(no) = principal {
                let tenant = state.tenants.get(&no).ok_or(ChangeError::NoSuchTenant)?;
                within("limits.keys_per_tenant", limits.keys_per_tenant, tenant.keys.len())?;
            } else {
                within("of operator and producer keys", MAX_GATEWAY_KEYS, state.gateway_keys)?;
            }
            let (no, counters) = state.counters.take_key()?;
            let (key, text) = ApiKey::generate(no, principal, wall_ms());
            let key = Arc::new(key);
            Ok((vec![Edit::Counters(counters), Edit::KeySet(Arc::clone(&key))], (key, text)))
        })
        .await
    }

    /// Revokes a key; it is refused from the moment of the answer. With a tenant, only a key of
    /// that tenant.
    pub async fn revoke_key(&self, tenant: Option<TenantNo>, id: KeyId) -> Result<(), ChangeError> {
        self.change(move |state, _| {
            let key = state.keys.get(&id).ok_or(ChangeError::NoSuchKey)?;
            if tenant.is_some_and(|no| key.principal != Principal::Tenant(no)) {
                return Err(ChangeError::NoSuchKey);
            }
            Ok((vec![Edit::KeyRemoved(id)], ()))
        })
        .await
    }

    /// A new signing secret; the one before it signs beside it for `overlap`, and those of earlier
    /// rotations until their own ends. No overlap ends all of them.
    pub async fn rotate_secret(
        &self,
        no: TenantNo,
        overlap: Duration,
    ) -> Result<Arc<Tenant>, ChangeError> {
        self.change(move |state, _| {
            let tenant = state.tenants.get(&no).ok_or(ChangeError::NoSuchTenant)?;
            let tenant = Tenant::clone(&tenant.entry.tenant);
            let overlap = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
            let secrets = tenant.secrets.rotated(wall_ms(), overlap)?;
            let tenant = Arc::new(Tenant { secrets, ..tenant });
            Ok((vec![Edit::TenantSet(Arc::clone(&tenant))], tenant))
        })
        .await
    }

    /// A webhook as [`Directory::create_webhook`] would make it, without a number.
    pub async fn draft_webhook(
        &self,
        tenant: TenantNo,
        url: WebhookUrl,
        events: EventTypes,
        settings: WebhookPatch,
    ) -> Result<Webhook, ChangeError> {
        let limits = self.inner.writer.lock().await.limits.clone();
        has_room_for_webhook(&self.read(), &limits, tenant)?;
        draft(NO_NUMBER, tenant, url, events, settings, &limits)
    }

    /// A webhook as [`Directory::update_webhook`] would leave it.
    pub async fn draft_update(
        &self,
        tenant: TenantNo,
        no: WebhookNo,
        patch: WebhookPatch,
    ) -> Result<Webhook, ChangeError> {
        let limits = self.inner.writer.lock().await.limits.clone();
        let mut webhook = Webhook::clone(owned(&self.read(), tenant, no)?);
        patch.apply(&mut webhook, &limits)?;
        Ok(webhook)
    }

    /// A new webhook: the gateway's defaults, changed by `settings`.
    pub async fn create_webhook(
        &self,
        tenant: TenantNo,
        url: WebhookUrl,
        events: EventTypes,
        settings: WebhookPatch,
    ) -> Result<Arc<Webhook>, ChangeError> {
        self.change(move |state, limits| {
            has_room_for_webhook(state, limits, tenant)?;
            let (no, counters) = state.counters.take_webhook()?;
            let webhook = Arc::new(draft(no, tenant, url, events, settings, limits)?);
            let edits = vec![Edit::Counters(counters), Edit::WebhookSet(Arc::clone(&webhook))];
            Ok((edits, webhook))
        })
        .await
    }

    /// Changes the webhook as it stands at that moment: two changes of different fields at once
    /// both hold. With `seen`, only if the webhook is that one still.
    pub async fn update_webhook(
        &self,
        tenant: TenantNo,
        no: WebhookNo,
        seen: Option<Arc<Webhook>>,
        patch: WebhookPatch,
    ) -> Result<Arc<Webhook>, ChangeError> {
        self.change(move |state, limits| {
            let before = unchanged(owned(state, tenant, no)?, seen.as_ref())?;
            let mut webhook = before.clone();
            patch.apply(&mut webhook, limits)?;
            webhook.updated_at = wall_ms();
            webhook.disabled = match before.enabled {
                true => disabled_by_request(&webhook),
                false => before.disabled.filter(|_| !webhook.enabled),
            };
            // Another receiver, or another try: what failed before does not count.
            let begins_anew = before.url != webhook.url || (!before.enabled && webhook.enabled);
            let forgotten = forget_failing(state, no).filter(|_| begins_anew);
            let webhook = Arc::new(webhook);
            let edits = [Edit::WebhookSet(Arc::clone(&webhook))].into_iter().chain(forgotten);
            Ok((edits.collect(), webhook))
        })
        .await
    }

    /// Removes a webhook. Its id stays known for the deliveries that it leaves behind, for as many
    /// deleted webhooks of a tenant as it may have live ones; the longest deleted are forgotten.
    /// With `seen`, only if the webhook is that one still.
    pub async fn delete_webhook(
        &self,
        tenant: TenantNo,
        no: WebhookNo,
        seen: Option<Arc<Webhook>>,
    ) -> Result<(), ChangeError> {
        self.change(move |state, limits| {
            let webhook = unchanged(owned(state, tenant, no)?, seen.as_ref())?;
            let deleted = &state.tenants.get(&tenant).ok_or(ChangeError::NoSuchTenant)?.deleted;
            let excess = (deleted.len() + 1).saturating_sub(limits.webhooks_per_tenant);
            let forgotten = deleted.iter().take(excess);
            let mut edits: Vec<Edit> =
                forgotten.map(|no| Edit::DeletedForgotten { tenant, no: *no }).collect();
            edits.push(Edit::WebhookRemoved(no));
            edits.extend(forget_failing(state, no));
            let (order, counters) = state.counters.take_deletion();
            edits.push(Edit::Counters(counters));
            edits.push(Edit::DeletedSet { tenant, no, id: webhook.id, order });
            Ok((edits, ()))
        })
        .await
    }

    /// Plan, make durable with the records of it, make visible, tell, answer. Runs in a task of its own: an asker who
    /// goes away in the middle must not leave a row that memory does not know.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        plan: impl FnOnce(&State, &Limits) -> Result<(Vec<Edit>, T), ChangeError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let without = |(edits, answer)| (edits, Vec::new(), answer);
        self.change_and_tell(move |state, limits| plan(state, limits).map(without)).await
    }

    /// The same, with events that tell of it in the same commit.
    pub(super) async fn change_and_tell<T: Send + 'static>(
        &self,
        plan: impl FnOnce(&State, &Limits) -> Result<Planned<T>, ChangeError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let directory = self.clone();
        let work = async move {
            let mut writer = directory.inner.writer.lock().await;
            let (edits, events, answer) = plan(&directory.read(), &writer.limits)?;
            if edits.is_empty() {
                return Ok(answer);
            }
            let ring = &directory.inner.ring;
            let rows = edits.iter().map(|edit| super::wire::encode(edit, ring)).collect();
            let done = super::done::of(&directory.read(), &edits);
            let bundle = Bundle { rows, events, ..Bundle::default() };
            let Inner { audit, store, .. } = &*directory.inner;
            audit.commit(store, &directory.by, done, bundle).await?;
            let changes = directory.write().apply(edits);
            writer.tell(changes).await;
            Ok(answer)
        };
        tokio::spawn(work).await.unwrap_or(Err(ChangeError::Interrupted))
    }
}

/// What is to change, what is to be told, and what the asker is answered.
type Planned<T> = (Vec<Edit>, Vec<NewEvent>, T);

impl Counters {
    fn take_tenant(self) -> Result<(TenantNo, Self), ChangeError> {
        let next = self.next_tenant.checked_add(1).ok_or(EXHAUSTED)?;
        Ok((TenantNo(self.next_tenant), Self { next_tenant: next, ..self }))
    }

    fn take_webhook(self) -> Result<(WebhookNo, Self), ChangeError> {
        let next = self.next_webhook.checked_add(1).ok_or(EXHAUSTED)?;
        Ok((WebhookNo(self.next_webhook), Self { next_webhook: next, ..self }))
    }

    fn take_key(self) -> Result<(u32, Self), ChangeError> {
        let next = self.next_key.checked_add(1).ok_or(EXHAUSTED)?;
        Ok((self.next_key, Self { next_key: next, ..self }))
    }

    fn take_deletion(self) -> (u64, Self) {
        (self.next_deletion, Self { next_deletion: self.next_deletion + 1, ..self })
    }
}

const EXHAUSTED: ChangeError =
    ChangeError::Limit { name: "of numbers ever given", limit: u32::MAX as usize };

/// What stands where a webhook's number will: numbers start at 1.
const NO_NUMBER: WebhookNo = WebhookNo(0);

fn draft(
    no: WebhookNo,
    tenant: TenantNo,
    url: WebhookUrl,
    events: EventTypes,
    settings: WebhookPatch,
    limits: &Limits,
) -> Result<Webhook, ChangeError> {
    let now = wall_ms();
    let mut webhook = Webhook {
        no,
        id: WebhookId(random_u128()),
        tenant,
        url,
        events,
        description: String::new(),
        headers: CustomHeaders::default(),
        enabled: true,
        disabled: None,
        success: None,
        timeout: None,
        max_in_flight: None,
        rate_limit: None,
        created_at: now,
        updated_at: now,
    };
    settings.apply(&mut webhook, limits)?;
    webhook.disabled = disabled_by_request(&webhook);
    Ok(webhook)
}

fn disabled_by_request(webhook: &Webhook) -> Option<Disabled> {
    let (reason, at) = (DisabledReason::Requested, webhook.updated_at);
    (!webhook.enabled).then_some(Disabled { reason, at, failing_since: None })
}

fn has_room_for_webhook(
    state: &State,
    limits: &Limits,
    tenant: TenantNo,
) -> Result<(), ChangeError> {
    let owner = state.tenants.get(&tenant).ok_or(ChangeError::NoSuchTenant)?;
    within("limits.webhooks_per_tenant", limits.webhooks_per_tenant, owner.webhooks.len())
}

fn within(name: &'static str, limit: usize, standing: usize) -> Result<(), ChangeError> {
    if standing < limit { Ok(()) } else { Err(ChangeError::Limit { name, limit }) }
}

fn owned(state: &State, tenant: TenantNo, no: WebhookNo) -> Result<&Arc<Webhook>, ChangeError> {
    let webhook = state.webhooks.get(&no).ok_or(ChangeError::NoSuchWebhook)?;
    if webhook.tenant == tenant { Ok(webhook) } else { Err(ChangeError::NoSuchWebhook) }
}

/// Every change makes a new webhook, so one that is the same in memory has not changed.
fn unchanged<'a>(
    standing: &'a Arc<Webhook>,
    seen: Option<&Arc<Webhook>>,
) -> Result<&'a Webhook, ChangeError> {
    if seen.is_none_or(|seen| Arc::ptr_eq(seen, standing)) {
        Ok(standing)
    } else {
        Err(ChangeError::Changed)
    }
}
