//! Webhooks that the gateway disables, and since when they have been failing.

use super::*;
use crate::{
    clock::Millis,
    store::NewEvent,
    webhook::{Disabled, DisabledReason},
};

const SINCE: Option<Millis> = Some(1_795_407_600_123);

/// A directory with an operator's tenant that hears of disabled webhooks, and a tenant with one.
struct Scene {
    directory: Directory,
    rows: Rows,
    events: Arc<Mutex<Vec<NewEvent>>>,
    /// How many commits there were.
    commits: Arc<Mutex<usize>>,
    tenant: TenantNo,
    webhook: Arc<Webhook>,
    told: Arc<Webhook>,
}

impl Scene {
    async fn new() -> Self {
        let (store, mut asked) = held_store();
        let rows = Rows::default();
        let events = Arc::<Mutex<Vec<NewEvent>>>::default();
        let commits = Arc::<Mutex<usize>>::default();
        let kept = (Arc::clone(&rows), Arc::clone(&events), Arc::clone(&commits));
        tokio::spawn(async move {
            let (kept_rows, kept_events, commits) = kept;
            while let Some(write) = asked.recv().await {
                let Write::Rows { bundle, reply } = write else { panic!("rows only") };
                for Row { key, value } in bundle.rows {
                    let mut kept = kept_rows.lock().unwrap();
                    match value {
                        Some(value) => kept.insert(key, value),
                        None => kept.remove(&key),
                    };
                }
                kept_events.lock().unwrap().extend(bundle.events);
                *commits.lock().unwrap() += 1;
                let _ = reply.send(Ok(()));
            }
        });
        let directory = empty(store);
        let operations = add_tenant(&directory, "operations").await.tenant.no;
        directory.set_operations(Some(name("operations")));
        let events_of = EventTypes::NONE.with(EventType::WebhookDisabled);
        let to = url("https://ops.example.com/");
        let told = directory.create_webhook(operations, to, events_of, Default::default()).await;
        let tenant = add_tenant(&directory, "acme").await.tenant.no;
        let webhook = add_webhook(&directory, tenant).await;
        let told = told.unwrap();
        Self { directory, rows, events, commits, tenant, webhook, told }
    }

    fn commits(&self) -> usize {
        *self.commits.lock().unwrap()
    }

    fn told(&self) -> Vec<serde_json::Value> {
        let events = self.events.lock().unwrap();
        events.iter().map(|event| serde_json::from_slice(&event.payload).unwrap()).collect()
    }

    async fn set(&self, patch: WebhookPatch) -> Arc<Webhook> {
        let (tenant, no) = (self.tenant, self.webhook.no);
        self.directory.update_webhook(tenant, no, None, patch).await.unwrap()
    }

    async fn enable(&self, enabled: bool) -> Arc<Webhook> {
        self.set(WebhookPatch { enabled: Some(enabled), ..Default::default() }).await
    }

    async fn fail(&self) {
        self.directory.note_failing(vec![(self.webhook.no, SINCE)]).await.unwrap();
        assert_eq!(self.directory.failing_since(self.webhook.no), SINCE);
    }

    /// As after a restart.
    fn again(&self) -> Directory {
        loaded(held_store().0, stored(&self.rows)).unwrap()
    }
}

#[tokio::test]
async fn a_webhook_is_disabled_and_its_operator_told_in_one_commit_and_once() {
    let scene = Scene::new().await;
    scene.fail().await;
    let before = scene.commits();
    let no = scene.webhook.no;
    let disable = || scene.directory.disable_webhook(no, DisabledReason::Failing, SINCE);
    assert_eq!(disable().await, Ok(true));
    assert_eq!(disable().await, Ok(false), "it is disabled already");
    assert_eq!(scene.commits(), before + 1);

    let told = scene.told();
    let [event] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(event["type"], "webhook.disabled");
    let data = serde_json::json!({
        "id": scene.webhook.id.to_string(), "tenant": "acme", "host": "hooks.example.com",
        "description": "", "reason": "failing", "failing_since": "2026-11-23T04:20:00.123Z",
    });
    assert_eq!(event["data"], data, "and no path of its URL");
    let [event] = &scene.events.lock().unwrap()[..] else { panic!("one") };
    assert_eq!(event.tenant, scene.told.tenant);
    assert_eq!(*event.routes, [Route { webhook: scene.told.no, enabled: true }]);

    for directory in [scene.directory.clone(), scene.again()] {
        let webhook = directory.webhook_by_no(no).unwrap();
        let Some(Disabled { reason, at, failing_since }) = webhook.disabled else { panic!("why") };
        assert_eq!(
            (webhook.enabled, reason, failing_since),
            (false, DisabledReason::Failing, SINCE)
        );
        assert_eq!(webhook.updated_at, at);
        assert_eq!(directory.failing_since(no), None, "that is over");
    }
}

#[tokio::test]
async fn without_a_tenant_of_the_operators_nobody_is_told() {
    let scene = Scene::new().await;
    for operations in [None, Some(name("nobody"))] {
        scene.directory.set_operations(operations);
        scene.enable(true).await;
        let done = scene.directory.disable_webhook(scene.webhook.no, DisabledReason::Gone, None);
        assert_eq!(done.await, Ok(true));
    }
    assert_eq!(scene.told(), [] as [serde_json::Value; 0]);
}

#[tokio::test]
async fn a_webhook_is_not_sent_the_news_of_its_own_end() {
    let scene = Scene::new().await;
    let done = scene.directory.disable_webhook(scene.told.no, DisabledReason::Gone, None).await;
    assert_eq!(done, Ok(true));
    let events = scene.events.lock().unwrap();
    assert_eq!(*events[0].routes, [Route { webhook: scene.told.no, enabled: false }]);
}

fn reason_of(webhook: &Webhook) -> Option<DisabledReason> {
    webhook.disabled.map(|disabled| disabled.reason)
}

#[tokio::test]
async fn what_somebody_wanted_is_told_apart_and_a_reason_ends_with_the_disabling() {
    let scene = Scene::new().await;
    let webhook = scene.enable(false).await;
    assert_eq!(reason_of(&webhook), Some(DisabledReason::Requested));
    assert_eq!(scene.enable(true).await.disabled, None);
    let no = scene.webhook.no;
    scene.directory.disable_webhook(no, DisabledReason::Failing, SINCE).await.unwrap();
    let described = WebhookPatch { description: Some("x".to_owned()), ..Default::default() };
    assert_eq!(reason_of(&*scene.set(described).await), Some(DisabledReason::Failing));
    assert_eq!(reason_of(&*scene.enable(false).await), Some(DisabledReason::Failing), "it was");
    assert_eq!(scene.enable(true).await.disabled_reason(), None);
    let off = WebhookPatch { enabled: Some(false), ..Default::default() };
    let url = url("https://b.example.com");
    let made = scene.directory.create_webhook(scene.tenant, url, EventTypes::ALL, off).await;
    assert_eq!(reason_of(&made.unwrap()), Some(DisabledReason::Requested));
    assert_eq!(scene.told().len(), 1, "the operator hears of what the gateway did");
}

#[tokio::test]
async fn since_when_it_fails_survives_and_changes_nothing_else() {
    let scene = Scene::new().await;
    let (tell, mut told) = mpsc::channel(16);
    scene.directory.subscribe(tell).await;
    while told.try_recv().is_ok() {}
    scene.fail().await;
    assert_eq!(scene.again().failing_since(scene.webhook.no), SINCE);
    let standing = scene.directory.webhook_by_no(scene.webhook.no).unwrap();
    assert!(Arc::ptr_eq(&standing, &scene.webhook), "whoever has seen it has seen it as it is");
    assert!(told.try_recv().is_err(), "nobody has to make anything anew");
    let commits = scene.commits();
    scene.fail().await;
    assert_eq!(scene.commits(), commits, "it is written down");
    scene.directory.note_failing(vec![(scene.webhook.no, None)]).await.unwrap();
    assert_eq!(scene.again().failing_since(scene.webhook.no), None);
}

#[tokio::test]
async fn another_receiver_another_try_and_a_deletion_begin_anew() {
    let scene = Scene::new().await;
    let no = scene.webhook.no;
    scene.fail().await;
    let described = WebhookPatch { description: Some("x".to_owned()), ..Default::default() };
    scene.set(described).await;
    assert_eq!(scene.directory.failing_since(no), SINCE);
    let same = WebhookPatch { url: Some(scene.webhook.url.clone()), ..Default::default() };
    scene.set(same).await;
    assert_eq!(scene.directory.failing_since(no), SINCE, "it is the same URL");
    let moved = WebhookPatch { url: Some(url("https://c.example.com")), ..Default::default() };
    scene.set(moved).await;
    assert_eq!(scene.again().failing_since(no), None);

    scene.fail().await;
    scene.enable(false).await;
    scene.enable(true).await;
    assert_eq!(scene.again().failing_since(no), None);

    scene.enable(false).await;
    scene.directory.note_failing(vec![(no, SINCE)]).await.unwrap();
    assert_eq!(scene.directory.failing_since(no), None, "nothing is sent to it");

    scene.enable(true).await;
    scene.fail().await;
    scene.directory.delete_webhook(scene.tenant, no, None).await.unwrap();
    scene.directory.note_failing(vec![(no, SINCE)]).await.unwrap();
    assert_eq!(scene.again().failing_since(no), None);
    let failing = stored(&scene.rows).iter().filter(|row| row.key.first() == Some(&b'f')).count();
    assert_eq!(failing, 0);
}
