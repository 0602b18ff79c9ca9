//! A webhook whose attempts all fail is disabled in the end, over restarts and crashes; its operator
//! is told of it, once.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    eventually,
    gateway::Gateway,
    payload,
    receiver::{Answer, Receiver},
};

/// Of a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// The tests wait for a tenth of it, after which a streak is written down, and then for all of it.
const SPAN: &str = "15s";
const ENV: [(&str, &str); 4] = [
    ("SENDERZ_DELIVERY__DISABLE_AFTER", SPAN),
    ("SENDERZ_DELIVERY__DISABLE_ON_GONE", "true"),
    ("SENDERZ_OPS__TENANT", "operations"),
    // Something is attempted all the time.
    ("SENDERZ_RETRY__SCHEDULE", "100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms"),
];

struct Scene {
    dir: tempfile::TempDir,
    /// What the tenant's receiver answers.
    status: Arc<AtomicU16>,
    receiver: Receiver,
    /// The operator's.
    news: Receiver,
    gateway: Gateway,
    webhook: String,
}

impl Scene {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let status = Arc::new(AtomicU16::new(500));
        let answer = Arc::clone(&status);
        let receiver = Receiver::start(move |_| Answer::Status(answer.load(Ordering::SeqCst)));
        let news = Receiver::start(|_| Answer::Status(200));
        let gateway = Gateway::start(dir.path(), &ENV);
        gateway.tenant("operations");
        let body = json!({"url": news.url(), "events": ["webhook.disabled"]});
        gateway.post("/v1/webhooks", Some("operations"), &body);
        gateway.tenant("acme");
        let webhook = gateway.webhook("acme", &receiver.url());
        Self { dir, status, receiver, news, gateway, webhook }
    }

    fn killed_and_started(self) -> Self {
        self.gateway.kill();
        let gateway = Gateway::start(self.dir.path(), &ENV);
        Self { gateway, ..self }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn send(&self) {
        self.gateway.event("acme", &payload("message.sent", "msg_1"));
    }

    fn stats(&self) -> Value {
        self.gateway.get(&format!("/v1/webhooks/{}/stats?period=1h", self.webhook), "acme")
    }

    fn shown(&self) -> Value {
        self.gateway.get(&format!("/v1/webhooks/{}", self.webhook), "acme")
    }

    /// Goes on sending until it has been failing for so long that this stands in the directory; says
    /// since when.
    fn fail_for_long(&self) -> String {
        eventually("it has failed for a while", LIMIT, || {
            self.send();
            let stats = self.stats();
            let since: jiff::Timestamp = stats["failing_since"].as_str()?.parse().ok()?;
            let until: jiff::Timestamp = stats["until"].as_str()?.parse().ok()?;
            // A tenth of the span, and a few of the seconds in which it is looked at.
            (until.duration_since(since).as_secs() >= 3)
                .then(|| stats["failing_since"].as_str().unwrap_or_default().to_owned())
        })
    }

    fn is_disabled(&self) -> Value {
        eventually("it is disabled", LIMIT, || {
            self.send();
            let shown = self.shown();
            (shown["enabled"] == false).then_some(shown)
        })
    }

    /// The ids of the operator's events, as they stand in the log.
    fn told(&self) -> Vec<String> {
        let events = self.gateway.get("/v1/events?event_type=webhook.disabled", "operations");
        let events = events["data"].as_array().expect("a list");
        events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
    }
}

#[test]
fn a_webhook_that_only_fails_is_disabled_after_its_span_over_a_crash_and_its_operator_told_once() {
    let scene = Scene::start();
    let since = scene.fail_for_long();
    let scene = scene.killed_and_started();
    let shown = scene.is_disabled();
    // Killed the moment it shows: what is disabled has been told.
    let scene = scene.killed_and_started();
    assert_eq!(
        (&shown["disabled_reason"], &shown["failing_since"]),
        (&json!("failing"), &json!(since))
    );
    assert_eq!(shown["updated_at"], shown["disabled_at"]);
    let span: Vec<jiff::Timestamp> = ["failing_since", "disabled_at"]
        .map(|name| shown[name].as_str().expect("a time").parse().expect("RFC 3339"))
        .to_vec();
    assert!(span[1].duration_since(span[0]).as_secs() >= 15, "not before its span: {shown}");
    assert_eq!(scene.shown(), shown);

    let told = scene.told();
    assert_eq!(told.len(), 1, "neither lost nor doubled");
    let arrived = eventually("the operator hears of it", LIMIT, || {
        let requests = scene.news.requests();
        requests.iter().find(|one| one.header("webhook-id") == told[0]).cloned()
    });
    assert_eq!(arrived.header("x-senderz-event"), "webhook.disabled");
    let body: Value = serde_json::from_slice(&arrived.body).expect("JSON");
    assert_eq!(body["data"]["id"], scene.webhook);
    assert_eq!(
        (&body["data"]["tenant"], &body["data"]["reason"]),
        (&json!("acme"), &json!("failing"))
    );
    let ids = scene.news.requests();
    assert!(ids.iter().all(|one| one.header("webhook-id") == told[0]), "one event");

    // What comes meanwhile finds it disabled, on record.
    let missed = scene.gateway.event("acme", &payload("message.read", "msg_missed"));
    let event = scene.gateway.get(&format!("/v1/events/{missed}"), "acme");
    assert_eq!(event["skipped"][0]["reason"], "disabled");

    // Enabled again it works, and its past does not count.
    scene.answers(200);
    let path = format!("/v1/webhooks/{}", scene.webhook);
    assert_eq!(scene.gateway.ask("PATCH", &path, Some("acme"), br#"{"enabled":true}"#).status, 200);
    let shown = scene.shown();
    assert_eq!((&shown["disabled_reason"], &shown["failing_since"]), (&json!(null), &json!(null)));
    let id = scene.gateway.event("acme", &payload("message.failed", "msg_again"));
    eventually("it gets events again", LIMIT, || {
        let requests = scene.receiver.requests();
        requests.iter().any(|one| one.header("webhook-id") == id).then_some(())
    });
    assert_eq!(scene.told(), told);
    eventually("none is disabled", LIMIT, || {
        (scene.gateway.metric("senderz_webhooks{state=\"disabled\"}") == 0.0).then_some(())
    });
    assert_eq!(scene.gateway.stop(), 0);
}

#[test]
fn a_success_that_is_on_record_ends_the_streak_whatever_dies_then() {
    let scene = Scene::start();
    let since = scene.fail_for_long();
    scene.answers(200);
    scene.send();
    eventually("a success is on record", LIMIT, || {
        let delivered = scene.gateway.get("/v1/deliveries?status=delivered", "acme");
        delivered["data"][0].is_object().then_some(())
    });
    scene.answers(500);
    let scene = scene.killed_and_started();
    // What failed since then is another streak.
    assert_ne!(scene.stats()["failing_since"], since, "what failed before does not count");
    assert_eq!(scene.gateway.stop(), 0);
}

#[test]
fn one_that_says_it_is_gone_is_disabled_at_once_and_its_operator_told() {
    let scene = Scene::start();
    scene.answers(410);
    let shown = scene.is_disabled();
    assert_eq!(
        (&shown["disabled_reason"], &shown["failing_since"]),
        (&json!("gone"), &json!(null))
    );
    eventually("the operator hears of it", LIMIT, || {
        (scene.news.requests().len() == 1).then_some(())
    });
    let metric = "senderz_webhooks_disabled_total{reason=\"gone\"}";
    eventually("it is counted", LIMIT, || (scene.gateway.metric(metric) == 1.0).then_some(()));
    assert_eq!(scene.told().len(), 1);
}
