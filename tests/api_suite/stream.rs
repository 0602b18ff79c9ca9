//! The stream: every attempt once, in order, to whom it belongs, and no gap without a word.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use senderz_gateway::{
    api::Settings,
    clock, config,
    delivery::{Attempt, AttemptError, ErrorCode, FailReason, Verdict},
    event::EventType,
    id::{DeliveryKey, NodeNo, Place, StreamId},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    openapi::hold_to_schema,
    support::{TestTenant, World, attempt, settings, stream_limits},
};

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(20);

/// An open stream, as a reader sees it.
struct Reading {
    body: Body,
    rest: String,
    /// The last id that came, with an event or without.
    last_id: String,
}

#[derive(Debug)]
struct Told {
    name: String,
    data: Value,
    id: String,
}

/// Asks for a stream; headers beside the key as they are given.
async fn ask(
    world: &World,
    key: &str,
    query: &str,
    headers: &[(&str, &str)],
) -> http::Response<Body> {
    let mut request = Request::builder()
        .uri(format!("/v1/stream{query}"))
        .header(header::AUTHORIZATION, format!("Bearer {key}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a valid request");
    world.router.clone().oneshot(request).await.expect("the router is infallible")
}

async fn open(world: &World, key: &str, query: &str, headers: &[(&str, &str)]) -> Reading {
    let response = ask(world, key, query, headers).await;
    assert_eq!(response.status(), StatusCode::OK, "{query}");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let body = response.into_body();
    let mut reading = Reading { body, rest: String::new(), last_id: String::new() };
    let opening = reading.block().await.expect("it begins");
    assert!(opening.starts_with("retry: 1000\nid: pos_"), "{opening}");
    reading
}

impl Reading {
    /// The next block of lines; none where the stream has ended.
    async fn block(&mut self) -> Option<String> {
        while !self.rest.contains("\n\n") {
            let frame =
                tokio::time::timeout(LIMIT, self.body.frame()).await.expect("it goes on")?;
            let data = frame.expect("no error").into_data().expect("data");
            self.rest += std::str::from_utf8(&data).expect("text");
        }
        let (block, rest) = self.rest.split_once("\n\n")?;
        let (block, rest) = (block.to_owned(), rest.to_owned());
        self.rest = rest;
        if let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) {
            self.last_id = id.to_owned();
        }
        Some(block)
    }

    /// The next event, held to the document; none where the stream has ended. Signs of life do not
    /// make the wait for it any longer.
    async fn next(&mut self) -> Option<Told> {
        tokio::time::timeout(LIMIT, self.next_event()).await.expect("an event comes")
    }

    async fn next_event(&mut self) -> Option<Told> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            let Some(data) = field("data: ") else { continue };
            let data: Value = serde_json::from_str(data).expect("JSON");
            let name = field("event: ").expect("a name").to_owned();
            let schema = if name == "attempt" { "StreamedAttempt" } else { "StreamLagged" };
            hold_to_schema(schema, &data);
            return Some(Told { name, data, id: self.last_id.clone() });
        }
    }

    /// The numbers of the next `count` attempts.
    async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let told = self.next().await.expect("the stream goes on");
            assert_eq!(told.name, "attempt", "{told:?}");
            numbers.push(told.data["attempt"]["number"].as_u64().expect("a number"));
        }
        numbers
    }

    async fn assert_end(mut self) {
        let ending = async {
            while let Some(block) = self.block().await {
                assert!(block.starts_with(':'), "{block}");
            }
        };
        tokio::time::timeout(LIMIT, ending).await.expect("the stream ends");
    }
}

async fn delivery(world: &World, tenant: &TestTenant, webhook: &str) -> DeliveryKey {
    let place = world.event(tenant, EventType::Sent, "{}").await.place;
    DeliveryKey { place, webhook: world.webhook_no(tenant, webhook) }
}

fn refused(number: u16, status: u16) -> Attempt {
    let error = AttemptError { code: ErrorCode::Status, detail: format!("answered {status}") };
    Attempt { status: Some(status), error: Some(error), ..attempt(number) }
}

#[tokio::test]
async fn attempts_come_as_they_are_recorded_whole_and_in_order() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let key = delivery(&world, &acme, &webhook).await;
    world.attempted(key, Verdict::RetryAt(5), refused(1, 500)).await;
    let mut reading = open(&world, &acme.key, "", &[]).await;
    world.attempted(key, Verdict::RetryAt(1_795_407_600_123), refused(2, 503)).await;
    world.attempted(key, Verdict::Failed(FailReason::AttemptsExhausted), refused(3, 404)).await;
    world.attempted(key, Verdict::Delivered, attempt(4)).await;
    let told = reading.next().await.expect("an event");
    assert_eq!(told.data["attempt"]["number"], 2, "it begins now, not with what was");
    assert_eq!(told.data["tenant_id"], "acme");
    assert_eq!(told.data["webhook_id"], webhook.as_str());
    assert_eq!(told.data["delivery_id"], world.delivery_id(key));
    assert_eq!(told.data["event_type"], "message.sent");
    assert_eq!((&told.data["status"], &told.data["reason"]), (&json!("retrying"), &Value::Null));
    assert_eq!(told.data["attempt"]["next_attempt_at"], "2026-11-23T04:20:00.123Z");
    assert_eq!(told.data["attempt"]["error"]["code"], "status");
    let failed = reading.next().await.expect("an event").data;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["reason"], "attempts_exhausted");
    assert_eq!(reading.next().await.expect("an event").data["status"], "delivered");
    // The same attempt is shown by its delivery.
    let path = format!("/v1/deliveries/{}", world.delivery_id(key));
    let shown = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!(shown["attempts"][2], failed["attempt"]);
}

#[tokio::test]
async fn filters_narrow_the_stream_down() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let (one, two) = (world.webhook(&acme).await, world.webhook(&acme).await);
    let mut readings = Vec::new();
    for (query, expected) in [
        (format!("?webhook={one}"), vec![1, 2, 3]),
        ("?status=failed,retrying".to_owned(), vec![1, 2, 12]),
        ("?code=5xx".to_owned(), vec![1, 12]),
    ] {
        readings.push((open(&world, &acme.key, &query, &[]).await, expected, query));
    }
    let send = async |webhook: &str, first: u16| {
        let key = delivery(&world, &acme, webhook).await;
        world.attempted(key, Verdict::RetryAt(5), refused(first, 500)).await;
        key
    };
    let key = send(&one, 1).await;
    world.attempted(key, Verdict::Failed(FailReason::Expired), refused(2, 404)).await;
    world.attempted(key, Verdict::Delivered, attempt(3)).await;
    let key = delivery(&world, &acme, &two).await;
    world.attempted(key, Verdict::Delivered, attempt(11)).await;
    send(&two, 12).await;
    for (mut reading, expected, query) in readings {
        assert_eq!(reading.numbers(expected.len()).await, expected, "{query}");
    }
    let foreign = world.tenant("beta").await;
    let foreign = world.webhook(&foreign).await;
    for (query, status) in [
        (format!("?webhook={foreign}"), 404),
        ("?webhook=dlv_1".to_owned(), 400),
        ("?status=lost".to_owned(), 400),
        ("?limit=5".to_owned(), 400),
        ("?error=timeout&code=7".to_owned(), 400),
    ] {
        world.get(&acme.key, &format!("/v1/stream{query}")).await.expect(status);
    }
    let two_filters = open(&world, &acme.key, "?error=timeout&event_type=message.read", &[]).await;
    drop(two_filters);
}

#[tokio::test]
async fn a_tenant_sees_its_own_and_an_operator_what_it_asks_for() {
    let world = World::start().await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    let webhooks = (world.webhook(&acme).await, world.webhook(&beta).await);
    let mut of_acme = open(&world, &acme.key, "", &[]).await;
    let mut for_beta = open(&world, &world.operator, "", &[("senderz-tenant", "beta")]).await;
    let mut of_all = open(&world, &world.operator, "", &[]).await;
    let mut of_one = open(&world, &world.operator, &format!("?webhook={}", webhooks.1), &[]).await;
    for number in 1..=3 {
        let key = delivery(&world, &acme, &webhooks.0).await;
        let inside = Attempt { peer: Some(([10, 0, 0, 1], 80).into()), ..attempt(number) };
        world.attempted(key, Verdict::Delivered, inside).await;
        let key = delivery(&world, &beta, &webhooks.1).await;
        world.attempted(key, Verdict::Delivered, attempt(number + 10)).await;
    }
    let told = of_acme.next().await.expect("an event");
    assert_eq!(told.data["attempt"]["peer"], Value::Null, "what is not public is not a tenant's");
    assert_eq!(of_acme.numbers(2).await, [2, 3]);
    assert_eq!(for_beta.numbers(3).await, [11, 12, 13]);
    let told = of_all.next().await.expect("an event");
    assert_eq!(told.data["attempt"]["peer"], "10.0.0.1:80");
    assert_eq!(of_all.numbers(5).await, [11, 2, 12, 3, 13]);
    assert_eq!(of_one.numbers(3).await, [11, 12, 13]);
    let refused = ask(&world, &acme.key, "", &[("senderz-tenant", "beta")]).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(ask(&world, "szk_x", "", &[]).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_reader_resumes_behind_any_event_and_misses_nothing() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let record = async |numbers: std::ops::RangeInclusive<u16>| {
        for number in numbers {
            let key = delivery(&world, &acme, &webhook).await;
            world.attempted(key, Verdict::Delivered, attempt(number)).await;
        }
    };
    let mut reading = open(&world, &acme.key, "", &[]).await;
    let before_all = reading.last_id.clone();
    record(1..=5).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(reading.next().await.expect("an event").id);
    }
    drop(reading);
    record(6..=200).await;
    for (id, first) in [(&before_all, 1), (&ids[0], 2), (&ids[4], 6)] {
        let mut resumed = open(&world, &acme.key, "", &[("last-event-id", id)]).await;
        assert_eq!(&resumed.last_id, id, "where it begins is where it was asked to");
        let expected: Vec<u64> = (first..=200).collect();
        assert_eq!(resumed.numbers(expected.len()).await, expected);
        // It is live now.
        record(201..=201).await;
        assert_eq!(resumed.numbers(1).await, [201]);
    }
}

#[tokio::test]
async fn a_place_that_is_none_is_refused_and_one_of_a_lost_history_is_told() {
    let world = World::start().await;
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let event = world.event(&acme, EventType::Sent, "{}").await;
    let node = world.store.node;
    let place = Place::new(1 << 40, 0);
    let elsewhere = StreamId { node: NodeNo(node.0 ^ 1), place: Place::MIN }.to_string();
    for bad in ["", "1", &event.to_string(), &webhook, &elsewhere, "pos_0000000000000000000000000"]
    {
        let refused = ask(&world, &acme.key, "", &[("last-event-id", bad)]).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
    let twice = [("last-event-id", elsewhere.as_str()), ("last-event-id", elsewhere.as_str())];
    assert_eq!(ask(&world, &acme.key, "", &twice).await.status(), StatusCode::BAD_REQUEST);

    let lost = StreamId { node, place }.to_string();
    let mut reading = open(&world, &acme.key, "", &[("last-event-id", &lost)]).await;
    let told = reading.next().await.expect("an event");
    assert_eq!(told.name, "lagged");
    let expected = json!({"missed": null, "reason": "lost_history", "resume_from": null});
    assert_eq!(told.data, expected);
    let key = delivery(&world, &acme, &webhook).await;
    world.attempted(key, Verdict::Delivered, attempt(1)).await;
    assert_eq!(reading.numbers(1).await, [1], "and it goes on");
}

fn with_stream(change: impl FnOnce(&mut config::Stream)) -> Settings {
    let mut stream = stream_limits();
    change(&mut stream);
    Settings { stream, ..settings() }
}

/// Recording is answered although nobody reads; what is then read and what was left out are all.
#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody_and_is_told_how_much_it_missed() {
    let world = World::start().await;
    world.state.reload(with_stream(|stream| stream.max_lag = Duration::from_millis(300)));
    let acme = world.tenant("acme").await;
    let webhook = world.webhook(&acme).await;
    let mut reading = open(&world, &acme.key, "", &[]).await;
    let begin = reading.last_id.clone();
    let key = delivery(&world, &acme, &webhook).await;
    let (began, mut count) = (clock::instant(), 0);
    while count < 3000 || began.elapsed() < Duration::from_secs(1) {
        if count < 10_000 {
            count += 1;
            let recording = world.attempted(key, Verdict::Delivered, attempt(count));
            let recorded = tokio::time::timeout(LIMIT, recording).await;
            recorded.expect("the store does not wait for a reader");
        }
        tokio::task::yield_now().await;
    }
    let (mut told, mut missed, mut gaps) = (Vec::new(), 0, Vec::new());
    while told.len() as u64 + missed < u64::from(count) {
        let one = reading.next().await.expect("the stream goes on");
        match one.name.as_str() {
            "attempt" => told.push(one.data["attempt"]["number"].as_u64().expect("a number")),
            _ => {
                assert_eq!(one.data["reason"], "slow_reader");
                let count = one.data["missed"].as_u64().expect("it is known");
                missed += count;
                let from = one.data["resume_from"].as_str().expect("a place").to_owned();
                gaps.push((from, count));
            }
        }
    }
    assert!(missed > 0, "{missed} missed, {} told", told.len());
    assert_eq!(told.len() as u64 + missed, u64::from(count), "each is told or counted");
    assert!(told.is_sorted());
    count += 1;
    world.attempted(key, Verdict::Delivered, attempt(count)).await;
    assert_eq!(reading.numbers(1).await, [u64::from(count)], "the present is told");
    // What was left out can be read from the place that the event names; a stream that resumes is
    // not hurried.
    let (from, left_out) = &gaps[0];
    let mut resumed = open(&world, &acme.key, "", &[("last-event-id", from)]).await;
    let left_out = resumed.numbers(*left_out as usize).await;
    assert!(left_out.iter().all(|number| !told.contains(number)));
    let mut all = open(&world, &acme.key, "", &[("last-event-id", &begin)]).await;
    assert_eq!(all.numbers(count.into()).await, (1..=u64::from(count)).collect::<Vec<_>>());
}

#[tokio::test]
async fn streams_are_counted_and_their_places_come_back() {
    let world = World::start().await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    let mut open_streams = Vec::new();
    for _ in 0..3 {
        open_streams.push(open(&world, &acme.key, "", &[]).await);
    }
    let refused = world.get(&acme.key, "/v1/stream").await.expect(429);
    assert_eq!(refused.problem(), "rate_limited");
    let policy = refused.headers["ratelimit-policy"].to_str().expect("ASCII");
    assert!(policy.starts_with("\"stream.max_per_tenant\";q="), "{policy}");
    assert!(policy.ends_with(";qu=\"concurrent-requests\""), "{policy}");
    open_streams.push(open(&world, &beta.key, "", &[]).await);
    open_streams.push(open(&world, &beta.key, "", &[]).await);
    let refused = world.get(&beta.key, "/v1/stream").await.expect(503);
    assert_eq!(refused.problem(), "unavailable");
    // The operator's own are not crowded out.
    drop(open(&world, &world.operator, "", &[]).await);
    open_streams.remove(0);
    for _ in 0..10_000 {
        let asked = ask(&world, &beta.key, "", &[]).await;
        if asked.status() == StatusCode::OK {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the place never comes back");
}

#[tokio::test]
async fn a_stream_ends_with_its_key_and_with_its_tenant_and_with_the_gateway() {
    let world = World::start().await;
    world.state.reload(with_stream(|stream| stream.keep_alive = Duration::from_millis(20)));
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    let made =
        world.post(&acme.key, "/v1/keys", json!({"kind": "tenant"})).await.expect(201).json();
    let text = |name: &str| made[name].as_str().expect("text").to_owned();
    let revoked = open(&world, &text("api_key"), "", &[]).await;
    let stays = open(&world, &acme.key, "", &[]).await;
    let deleted = open(&world, &world.operator, "", &[("senderz-tenant", &beta.id)]).await;
    let path = format!("/v1/keys/{}", text("id"));
    world.call(&acme.key, http::Method::DELETE, &path, None).await.expect(204);
    revoked.assert_end().await;
    world.call(&world.operator, http::Method::DELETE, "/v1/tenants/beta", None).await.expect(204);
    deleted.assert_end().await;
    world.state.end_streams();
    stays.assert_end().await;
    let refused = world.get(&acme.key, "/v1/stream").await.expect(503);
    assert_eq!(refused.problem(), "unavailable");
}

#[tokio::test]
async fn where_nothing_happens_a_comment_says_how_far_the_stream_has_come() {
    let world = World::start().await;
    world.state.reload(with_stream(|stream| stream.keep_alive = Duration::from_millis(20)));
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    let webhook = world.webhook(&beta).await;
    let mut reading = open(&world, &acme.key, "", &[]).await;
    let began = reading.last_id.clone();
    let key = delivery(&world, &beta, &webhook).await;
    world.attempted(key, Verdict::Delivered, attempt(1)).await;
    while reading.last_id == began {
        let block = reading.block().await.expect("it goes on");
        assert!(block.starts_with(": "), "another tenant's attempt shows only as a place: {block}");
    }
}
