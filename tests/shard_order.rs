//! A shard between its feed and its changes, in orders that are rare in life: the composition of
//! shard, directory and store in one process, with the test holding back what one hears of another.

mod support;

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use bytes::Bytes;
use senderz_gateway::{
    clock::{self, Clock},
    command::{Command, Shards},
    config::Limits,
    delivery::{CancelReason, Entry, ErrorCode, FailReason, Verdict},
    directory::{Change, Directory, KeyRing, WebhookPatch},
    engine,
    event::{EventType, EventTypes},
    guard::{Policy, WebhookUrl},
    id::{DeliveryKey, EventId, WebhookNo},
    metrics, sender,
    shard::{self, Inlets, Report, Settings},
    shutdown::{self, Alarm, Trigger},
    store::{self, EventBlock, EventInBlock, Feed, NewEvent, Route, Store, memory::Memory},
    tenant::Tenant,
    webhook::{SuccessRule, Webhook},
};
use support::{
    payload,
    receiver::{Answer, Receiver},
};
use tokio::sync::{mpsc, oneshot};

const LIMIT: Duration = Duration::from_secs(10);

/// One shard at work, and the ends that a test holds.
struct Rig {
    store: Store,
    directory: Directory,
    tenant: Arc<Tenant>,
    /// What the directory announces; the shard hears of it when the test passes it on.
    announced: mpsc::Receiver<Change>,
    changes: mpsc::Sender<Change>,
    feed: mpsc::Sender<Feed>,
    alarm: Alarm,
    stop: Trigger,
    thread: JoinHandle<Report>,
    commands: Shards,
    // Dropped, it would tell the shard that nothing more comes.
    _reload: mpsc::Sender<Box<Settings>>,
}

impl Rig {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut engine::Settings)) -> Self {
        let opened = Memory::default().open(store_settings()).expect("it has no disk");
        let store = opened.store;
        let ring = KeyRing::generate();
        let directory = Directory::load(store.clone(), opened.rows, limits(), ring);
        let directory = directory.expect("it is empty");
        let (stop, drain) = shutdown::channel();
        let (feed_in, feed) = mpsc::channel(16);
        let (changes_in, changes) = mpsc::channel(16);
        let (commands_in, commands) = mpsc::channel(16);
        let (reload_in, reload) = mpsc::channel(1);
        let (recovered_in, recovered) = oneshot::channel();
        let inlets = Inlets {
            feed,
            changes,
            commands,
            reload,
            drain,
            recovered: recovered_in,
            tracer: None,
        };
        let alarm = Alarm::new();
        let (clock, vigil) = (Clock::start(), alarm.watch_over("a delivery thread"));
        let mut settings = settings(clock);
        change(&mut settings.engine);
        let thread = shard::start(settings, inlets, store.clone(), directory.clone(), clock, vigil)
            .expect("a thread");
        opened.feeds.send(vec![feed_in.clone()]).expect("it waits for that");
        recovered.await.expect("there is nothing to recover");
        let (announces, announced) = mpsc::channel(16);
        directory.subscribe(announces).await;
        let made = directory.create_tenant("acme".parse().expect("an id"), "Acme".to_owned());
        let tenant = made.await.expect("there is room").tenant;
        Self {
            store,
            directory,
            tenant,
            announced,
            changes: changes_in,
            feed: feed_in,
            alarm,
            stop,
            thread,
            commands: Shards::new(vec![commands_in]),
            _reload: reload_in,
        }
    }

    /// Makes a webhook that the shard does not hear of yet.
    async fn webhook(&self, url: &str) -> Arc<Webhook> {
        let url = WebhookUrl::parse(url, &policy()).expect("allowed");
        let made = self.directory.create_webhook(
            self.tenant.no,
            url,
            EventTypes::ALL,
            WebhookPatch::default(),
        );
        made.await.expect("there is room")
    }

    /// Routes as ingest does: by what the directory shows now.
    async fn event(&self, id: &str) -> EventId {
        let tenant = self.directory.tenant("acme").expect("it was made");
        let event = NewEvent {
            tenant: self.tenant.no,
            event_type: EventType::Sent,
            payload: Bytes::from(payload("message.sent", id)),
            key: None,
            trace: None,
            routes: tenant.routes(EventType::Sent),
        };
        assert_eq!(event.routes.len(), 1);
        self.store.append(vec![event]).await.expect("it has room")[0].id
    }

    /// The next announcement reaches the shard.
    async fn pass_on(&mut self) {
        let change = self.announced.recv().await.expect("it was announced");
        self.changes.send(change).await.expect("the shard lives");
    }

    async fn ended(&self, event: EventId, webhook: WebhookNo) -> Entry {
        self.entry(event, webhook, 1).await
    }

    /// The delivery's entry of this number, counted from 1.
    async fn entry(&self, event: EventId, webhook: WebhookNo, number: usize) -> Entry {
        let reading = async {
            loop {
                let entries = self.store.entries(event.place, Some(webhook)).await;
                if let Some(entry) = entries.expect("it reads").into_iter().nth(number - 1) {
                    return entry;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("it is recorded")
    }

    async fn stop(self) -> Report {
        self.stop.fire();
        let thread = self.thread;
        let report = tokio::task::spawn_blocking(|| thread.join().expect("it did not panic"));
        report.await.expect("joined")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_a_webhook_that_the_shard_has_not_heard_of_is_delivered() {
    let receiver = Receiver::start(|_| Answer::Status(200));
    let mut rig = Rig::start().await;
    let webhook = rig.webhook(&receiver.url()).await;
    let first = rig.event("msg_1").await;
    let entry = rig.ended(first, webhook.no).await;
    assert_eq!(entry.verdict, Verdict::Delivered);
    assert_eq!(receiver.count(), 1);

    // The announcement comes late and changes nothing.
    rig.pass_on().await;
    let second = rig.event("msg_2").await;
    assert_eq!(rig.ended(second, webhook.no).await.verdict, Verdict::Delivered);
    assert_eq!(rig.stop().await, Report { attempts: 2, abandoned: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_for_a_webhook_deleted_meanwhile_is_canceled_and_says_why() {
    let receiver = Receiver::start(|_| Answer::Status(200));
    let mut rig = Rig::start().await;
    let webhook = rig.webhook(&receiver.url()).await;
    let routed = rig.directory.tenant("acme").expect("it was made").routes(EventType::Sent);
    rig.directory.delete_webhook(rig.tenant.no, webhook.no, None).await.expect("it is there");
    // Neither the making nor the deletion has reached the shard, and the directory has forgotten.
    let event = NewEvent {
        tenant: rig.tenant.no,
        event_type: EventType::Sent,
        payload: Bytes::from(payload("message.sent", "msg_1")),
        key: None,
        trace: None,
        routes: routed,
    };
    let event = rig.store.append(vec![event]).await.expect("it has room")[0].id;
    let entry = rig.ended(event, webhook.no).await;
    assert_eq!(entry.verdict, Verdict::Canceled(CancelReason::WebhookDeleted));
    for _ in 0..2 {
        rig.pass_on().await;
    }
    assert_eq!((rig.stop().await.attempts, receiver.count()), (0, 0));
}

/// An event whose payload lies outside of its block, which the store never makes: an attempt of it
/// panics. It counts as any that failed, so that the event neither holds its slot nor is tried for
/// ever; and what comes behind it is delivered.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_panics_is_recorded_and_made_again_until_the_last_and_frees_its_slot() {
    let receiver = Receiver::start(|_| Answer::Status(200));
    let mut rig = Rig::start().await;
    let webhook = rig.webhook(&receiver.url()).await;
    let alone = WebhookPatch { max_in_flight: Some(Some(1)), ..WebhookPatch::default() };
    rig.directory
        .update_webhook(rig.tenant.no, webhook.no, None, alone)
        .await
        .expect("it is there");
    for _ in 0..2 {
        rig.pass_on().await;
    }
    // The store has such an event; the shard is told of a route that it does not have.
    let unrouted = NewEvent {
        tenant: rig.tenant.no,
        event_type: EventType::Sent,
        payload: Bytes::from(payload("message.sent", "msg_1")),
        key: None,
        trace: None,
        routes: [].into(),
    };
    let broken = rig.store.append(vec![unrouted]).await.expect("it has room")[0].id;
    let event = EventInBlock {
        tenant: rig.tenant.no,
        event_type: EventType::Sent,
        erased: false,
        has_trace: false,
        payload: (0, 100),
        routes: (0, 1),
    };
    let block = EventBlock {
        number: broken.place.block(),
        node: rig.store.node,
        accepted_at: clock::wall_ms(),
        entries_from: 0,
        bytes: Bytes::new(),
        events: vec![event],
        routes: vec![Route { webhook: webhook.no, enabled: true }],
    };
    rig.feed.send(Feed::Block(Arc::new(block))).await.expect("the shard lives");

    assert!(matches!(rig.entry(broken, webhook.no, 1).await.verdict, Verdict::RetryAt(_)));
    let whole = rig.event("msg_2").await;
    assert_eq!(rig.entry(whole, webhook.no, 1).await.verdict, Verdict::Delivered);
    let last = rig.entry(broken, webhook.no, 2).await;
    assert_eq!(last.verdict, Verdict::Failed(FailReason::AttemptsExhausted));
    let attempt = last.attempt.expect("it was made");
    assert_eq!((attempt.number, attempt.status), (2, None));
    assert_eq!(attempt.error.map(|error| error.code), Some(ErrorCode::Canceled));
    assert_eq!(receiver.count(), 1);
    assert_eq!(rig.stop().await, Report { attempts: 3, abandoned: 0 });
    let metrics = metrics::install().render();
    for outcome in ["retry", "failed"] {
        let line = format!("senderz_attempts_total{{outcome=\"{outcome}\",error=\"canceled\"}} 1");
        assert!(metrics.lines().any(|counted| counted == line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_has_no_room_for_a_replay_while_too_many_of_its_webhooks_deliveries_are_retried() {
    let receiver = Receiver::start(|_| Answer::Status(500));
    let rig = Rig::start_with(|settings| {
        settings.retry_schedule = vec![Duration::from_secs(600)];
        (settings.max_retrying, settings.webhook_max_in_flight) = (1, 1);
    })
    .await;
    let failing = rig.webhook(&receiver.url()).await;
    let other = WebhookNo(failing.no.0 + 1);
    assert_eq!(rig.commands.has_room(failing.no).await, Ok(true));
    let event = rig.event("msg_1").await;
    let first = rig.ended(event, failing.no).await;
    assert!(matches!(first.verdict, Verdict::RetryAt(_)), "{first:?}");
    assert_eq!(rig.commands.has_room(failing.no).await, Ok(false));
    assert_eq!(rig.commands.has_room(other).await, Ok(true));
    let key = DeliveryKey { place: event.place, webhook: failing.no };
    rig.commands
        .send(Command::Cancel { key, reason: CancelReason::Requested })
        .await
        .expect("the shard lives");
    let over = async { while rig.commands.has_room(failing.no).await != Ok(true) {} };
    tokio::time::timeout(LIMIT, over).await.expect("what is canceled is not retried");
    rig.stop().await;
}

/// A block that cannot be: the store never makes one. Whatever panics a shard, it is heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_panics_raises_the_alarm_and_one_that_was_stopped_does_not() {
    let rig = Rig::start().await;
    let alarm = rig.alarm.clone();
    rig.stop().await;
    let quiet = tokio::time::timeout(Duration::ZERO, alarm.raised()).await;
    assert!(quiet.is_err(), "stopping is no accident");

    let rig = Rig::start().await;
    let event = EventInBlock {
        tenant: rig.tenant.no,
        event_type: EventType::Sent,
        erased: false,
        has_trace: false,
        payload: (0, 0),
        routes: (0, 9),
    };
    let block = EventBlock {
        number: 0,
        node: rig.store.node,
        accepted_at: 0,
        entries_from: 0,
        bytes: Bytes::new(),
        events: vec![event],
        routes: Vec::new(),
    };
    rig.feed.send(Feed::Block(Arc::new(block))).await.expect("the shard lives");
    let raised = tokio::time::timeout(LIMIT, rig.alarm.raised()).await;
    assert_eq!(raised, Ok("a delivery thread"));
    let thread = rig.thread;
    assert!(tokio::task::spawn_blocking(|| thread.join().is_err()).await.expect("joined"));
}

fn policy() -> Policy {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    Policy { allow_networks: vec![loopback], ..Policy::default() }
}

fn settings(clock: Clock) -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        index: 0,
        shards: 1,
        engine: engine::Settings {
            retry_schedule: vec![second],
            retry_jitter: 0.0,
            max_retry_after: second,
            max_age: 3600 * second,
            max_in_flight: 10,
            tenant_share: 1.0,
            webhook_max_in_flight: 10,
            max_queued: 1000,
            lane_window: 100,
            max_retrying: 1000,
            breaker_timeouts: 3,
        },
        sender: sender::Settings {
            timeout: 5 * second,
            connect_timeout: second,
            tls_timeout: second,
            dns_timeout: second,
            max_response: 64 * 1024,
            keep_response: 4096,
            pool_idle_timeout: 25 * second,
            pool_max_age: 300 * second,
            pool_max_idle_per_origin: 8,
            pool_max_connections: 8,
            http2_max_streams: 8,
            dns_servers: vec![([127, 0, 0, 1], 9).into()],
            dns_cache_entries: 10,
            dns_min_ttl: second,
            dns_max_ttl: second,
            dns_negative_ttl: second,
            ca_file: None,
            policy: Arc::new(policy()),
            max_retry_after: second,
            success: SuccessRule::Only200,
            clock,
        },
        payload_memory: 1 << 20,
        payload_in_flight: 1 << 20,
        stats_memory: 1 << 20,
        disable_after: None,
        drain_timeout: 5 * second,
        disable_on_gone: false,
    }
}

fn store_settings() -> store::Settings {
    let hour = Duration::from_secs(3600);
    store::Settings {
        data_dir: "unused".into(),
        cache: 1 << 20,
        commit_max_events: 100,
        commit_max_bytes: 1 << 20,
        commit_max_wait: Duration::from_millis(1),
        entries_max_wait: Duration::from_millis(1),
        retention_age: hour,
        retention_bytes: 1 << 30,
        disk_headroom: 0,
        idempotency_window: hour,
        idempotency_max_keys: 10,
        max_scan_blocks: 1000,
        max_indexed: 1000,
        queue: 16,
    }
}

fn limits() -> Limits {
    Limits {
        tenants: 5,
        webhooks_per_tenant: 5,
        keys_per_tenant: 5,
        custom_headers: 5,
        custom_headers_size: 1024,
        description: 100,
        url: 2048,
        page: 100,
        kept_answers: 1024,
        tenant_kept_answers: 1024,
        webhook_checks: 2,
        webhook_tests: std::num::NonZeroU32::MIN,
        tenant_tests: std::num::NonZeroU32::MIN,
        audit_records: 1000,
    }
}
