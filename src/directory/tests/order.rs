//! Durable, then visible, then told, then answered.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_change_is_visible_and_told_only_after_it_is_durable() {
    let (store, mut asked) = held_store();
    let directory = empty(store);
    let (tell, mut told) = mpsc::channel(16);
    directory.subscribe(tell).await;
    let answer_now = |reply: Reply| reply.send(Ok(())).unwrap();

    let making = tokio::spawn({
        let directory = directory.clone();
        async move { add_tenant(&directory, "acme").await }
    });
    let write = next_rows(&mut asked).await;
    assert!(directory.tenant("acme").is_none(), "not durable, so not visible");
    answer_now(write);
    let tenant = making.await.unwrap().tenant.no;

    let making = tokio::spawn({
        let directory = directory.clone();
        async move { add_webhook(&directory, tenant).await }
    });
    let write = next_rows(&mut asked).await;
    assert!(directory.webhooks(tenant, None, 10).is_empty());
    assert!(told.try_recv().is_err(), "not durable, so nobody is told");
    answer_now(write);
    let webhook = making.await.unwrap();
    // Answered, so it has been told already: no waiting here.
    match told.try_recv() {
        Ok(Change::WebhookSet { webhook: set, .. }) => assert_eq!(set.no, webhook.no),
        other => panic!("the answer came before the subscriber was told: {other:?}"),
    }
}

#[tokio::test]
async fn a_change_is_answered_only_when_every_subscriber_has_it() {
    let (store, _) = keeping_store();
    let directory = empty(store);
    let tenant = add_tenant(&directory, "acme").await.tenant.no;
    let (tell, mut told) = mpsc::channel(1);
    directory.subscribe(tell).await;
    add_webhook(&directory, tenant).await;
    let second = add_webhook(&directory, tenant);
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
    assert!(early.is_err(), "the subscriber has no room, so the change is not answered");
    told.recv().await.expect("the first change");
    second.await;
}

#[tokio::test]
async fn a_failed_write_changes_nothing() {
    let (store, mut asked) = held_store();
    let directory = empty(store);
    let making = tokio::spawn({
        let directory = directory.clone();
        async move { directory.create_tenant(name("acme"), String::new()).await }
    });
    next_rows(&mut asked).await.send(Err(StoreError::Full)).unwrap();
    let refused = making.await.unwrap().map(|_| ());
    assert_eq!(refused, Err(ChangeError::Store(StoreError::Full)));
    assert!(directory.tenant("acme").is_none());
    assert!(directory.keys(None, None, 10).is_empty());
}

#[tokio::test]
async fn a_change_whose_asker_went_away_is_carried_through() {
    let (store, mut asked) = held_store();
    let directory = empty(store);
    let making = tokio::spawn({
        let directory = directory.clone();
        async move { directory.create_tenant(name("acme"), String::new()).await }
    });
    let write = next_rows(&mut asked).await;
    making.abort();
    assert!(making.await.is_err_and(|error| error.is_cancelled()));
    write.send(Ok(())).unwrap();
    // The next change waits for the one before it.
    let next = tokio::spawn({
        let directory = directory.clone();
        async move { directory.create_tenant(name("beta"), String::new()).await }
    });
    next_rows(&mut asked).await.send(Ok(())).unwrap();
    next.await.unwrap().unwrap();
    assert!(directory.tenant("acme").is_some(), "its row is durable, so memory has it too");
}

#[tokio::test]
async fn a_subscriber_hears_what_stands_and_then_what_changes() {
    let (store, _) = keeping_store();
    let directory = empty(store);
    let tenant = add_tenant(&directory, "acme").await.tenant.no;
    let first = add_webhook(&directory, tenant).await;
    let (tell, mut told) = mpsc::channel(16);
    directory.subscribe(tell).await;
    let second = add_webhook(&directory, tenant).await;
    let rotated = directory.rotate_secret(tenant, Duration::from_secs(60)).await.unwrap();
    directory.delete_webhook(tenant, first.no, None).await.unwrap();
    let mut heard = Vec::new();
    while let Ok(change) = told.try_recv() {
        heard.push(match change {
            Change::WebhookSet { webhook, tenant } => {
                (webhook.no, Some(tenant.secrets == rotated.secrets))
            }
            Change::WebhookRemoved { webhook } => (webhook, None),
        });
    }
    let before_rotation = [(first.no, Some(false)), (second.no, Some(false))];
    let after = [(first.no, Some(true)), (second.no, Some(true)), (first.no, None)];
    assert_eq!(heard, [&before_rotation[..], &after[..]].concat());
}

#[tokio::test]
async fn a_subscriber_that_is_gone_holds_nobody_up() {
    let (store, _) = keeping_store();
    let directory = empty(store);
    let (tell, told) = mpsc::channel(1);
    directory.subscribe(tell).await;
    drop(told);
    let tenant = add_tenant(&directory, "acme").await.tenant.no;
    add_webhook(&directory, tenant).await;
    add_webhook(&directory, tenant).await;
}

#[tokio::test]
async fn two_changes_of_different_fields_at_once_both_hold() {
    let (store, _) = keeping_store();
    let directory = empty(store);
    let tenant = add_tenant(&directory, "acme").await.tenant.no;
    let no = add_webhook(&directory, tenant).await.no;
    let described = WebhookPatch { description: Some("new".to_owned()), ..Default::default() };
    let disabled = WebhookPatch { enabled: Some(false), ..Default::default() };
    let (one, two) = tokio::join!(
        directory.update_webhook(tenant, no, None, described),
        directory.update_webhook(tenant, no, None, disabled)
    );
    one.and(two).unwrap();
    let webhook = directory.webhook_by_no(no).unwrap();
    assert_eq!((webhook.description.as_str(), webhook.enabled), ("new", false));
}

#[tokio::test]
async fn routes_follow_the_filters_and_say_who_is_disabled() {
    let (store, _) = keeping_store();
    let directory = empty(store);
    let tenant = add_tenant(&directory, "acme").await.tenant.no;
    let all = add_webhook(&directory, tenant).await.no;
    let some = add_webhook(&directory, tenant).await.no;
    let narrowed = WebhookPatch {
        events: Some(EventTypes::NONE.with(EventType::Failed)),
        enabled: Some(false),
        ..Default::default()
    };
    directory.update_webhook(tenant, some, None, narrowed).await.unwrap();
    let entry = directory.tenant("acme").unwrap();
    let to_all = Route { webhook: all, enabled: true };
    let to_some = Route { webhook: some, enabled: false };
    assert_eq!(*entry.routes(EventType::Sent), [to_all]);
    assert_eq!(*entry.routes(EventType::Failed), [to_all, to_some]);
    directory.delete_webhook(tenant, all, None).await.unwrap();
    let entry = directory.tenant("acme").unwrap();
    assert!(entry.routes(EventType::Sent).is_empty());
    assert_eq!(*entry.routes(EventType::Failed), [to_some]);
}

#[tokio::test]
async fn limits_are_kept_and_named() {
    let (store, _) = keeping_store();
    let directory = empty(store);
    let tenant = add_tenant(&directory, "t0").await.tenant.no;
    for _ in 0..4 {
        add_webhook(&directory, tenant).await;
    }
    let fifth = directory
        .create_webhook(tenant, url("https://a.example.com"), EventTypes::ALL, Default::default())
        .await;
    let limit = |name, limit| Some(ChangeError::Limit { name, limit });
    assert_eq!(fifth.err(), limit("limits.webhooks_per_tenant", 4));
    for _ in 0..2 {
        directory.create_key(Principal::Tenant(tenant)).await.unwrap();
    }
    let key = directory.create_key(Principal::Tenant(tenant)).await;
    assert_eq!(key.err(), limit("limits.keys_per_tenant", 3));
    for at in 1..5 {
        add_tenant(&directory, &format!("t{at}")).await;
    }
    let sixth = directory.create_tenant(name("t5"), String::new()).await;
    assert_eq!(sixth.err(), limit("limits.tenants", 5));
    let again = directory.create_tenant(name("t1"), String::new()).await;
    assert_eq!(again.err(), Some(ChangeError::TenantExists), "taken comes before full");
}
