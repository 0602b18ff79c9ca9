//! `GET /v1/events?after=…`: nothing twice, nothing left out in silence.

use senderz_gateway::{
    event::EventType,
    id::{EventId, NodeNo, Place},
};
use serde_json::{Value, json};

use crate::support::World;

fn ids(page: &Value) -> Vec<String> {
    let rows = page["data"].as_array().expect("a list").iter();
    rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn a_consumer_reads_what_it_missed_and_goes_on_polling() {
    let world = World::start().await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    world.webhook(&acme).await;
    let mut accepted = Vec::new();
    for _ in 0..7 {
        accepted.push(world.event(&acme, EventType::Sent, "{}").await.to_string());
        world.event(&beta, EventType::Sent, "{}").await;
    }
    for limit in 1..=8 {
        let mut told = Vec::new();
        let mut path = format!("/v1/events?after={}&limit={limit}", accepted[1]);
        let first = path.clone();
        for _ in 0..10 {
            let page = world.get(&acme.key, &path).await.expect(200).json();
            assert_eq!(page["incomplete"], false);
            told.extend(ids(&page));
            let Some(next) = page["next_cursor"].as_str() else { break };
            assert_eq!(page["poll_cursor"], next, "while there is more, both go on there");
            path = format!("{first}&cursor={next}");
        }
        assert_eq!(told, accepted[2..], "limit {limit}");
    }
    // At the end there is no next page, and a place to ask again.
    let path = format!("/v1/events?after={}", accepted[6]);
    let end = world.get(&acme.key, &path).await.expect(200).json();
    assert_eq!((&end["data"], &end["next_cursor"]), (&json!([]), &Value::Null));
    let poll = format!("{path}&cursor={}", end["poll_cursor"].as_str().expect("always there"));
    world.event(&beta, EventType::Sent, "{}").await;
    assert_eq!(ids(&world.get(&acme.key, &poll).await.expect(200).json()), [""; 0]);
    let new = world.event(&acme, EventType::Failed, "{}").await.to_string();
    accepted.push(new);
    for path in [&path, &poll] {
        assert_eq!(ids(&world.get(&acme.key, path).await.expect(200).json()), accepted[7..]);
    }
    let all = world.get(&acme.key, "/v1/events?after=start").await.expect(200).json();
    assert_eq!(ids(&all), accepted);
    // A cursor is this list's only.
    let cursor = end["poll_cursor"].as_str().expect("always there");
    for path in ["/v1/events?", "/v1/events?after=start&"] {
        let refused = world.get(&acme.key, &format!("{path}cursor={cursor}")).await.expect(400);
        assert_eq!(refused.problem(), "invalid_cursor");
    }
}

#[tokio::test]
async fn a_webhook_may_ask_for_its_own_and_for_what_found_it_disabled() {
    let world = World::start().await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    let (one, two) = (world.webhook(&acme).await, world.webhook(&acme).await);
    let foreign = world.webhook(&beta).await;
    let enable = async |enabled: bool| {
        world
            .patch(&acme.key, &format!("/v1/webhooks/{one}"), json!({"enabled": enabled}))
            .await
            .expect(200);
    };
    let got = world.event(&acme, EventType::Sent, "{}").await.to_string();
    enable(false).await;
    let missed = world.event(&acme, EventType::Sent, "{}").await.to_string();
    enable(true).await;
    let test = json!({"type": "message.sent"});
    let sent = world.post(&acme.key, &format!("/v1/webhooks/{two}/test"), test).await.expect(202);
    let tested = sent.json()["event_id"].as_str().expect("an id").to_owned();
    let check = async |query: String, expected: &[&String]| {
        let path = format!("/v1/events?after=start&{query}");
        let page = world.get(&acme.key, &path).await.expect(200).json();
        assert_eq!(ids(&page).iter().collect::<Vec<_>>(), expected, "{query}");
        let newest = world.get(&acme.key, &format!("/v1/events?{query}")).await.expect(200).json();
        let mut expected = expected.to_vec();
        expected.reverse();
        assert_eq!(ids(&newest).iter().collect::<Vec<_>>(), expected, "{query}");
    };
    check(format!("webhook={one}"), &[&got, &missed]).await;
    check(format!("webhook={two}"), &[&got, &missed, &tested]).await;
    check(format!("webhook={one}&found_disabled=true"), &[&missed]).await;
    check(format!("webhook={two}&found_disabled=true"), &[]).await;
    check("found_disabled=true".to_owned(), &[&missed]).await;
    check(format!("webhook={one}&event_type=message.read"), &[]).await;
    let rows = world.get(&acme.key, "/v1/events?found_disabled=true").await.expect(200).json();
    let row = &rows["data"][0];
    assert_eq!((&row["deliveries"], &row["found_disabled"]), (&json!(1), &json!(1)));
    // Deleted: what went to it is still known.
    world
        .call(&acme.key, http::Method::DELETE, &format!("/v1/webhooks/{one}"), None)
        .await
        .expect(204);
    check(format!("webhook={one}"), &[&got, &missed]).await;
    let refused = world.get(&acme.key, &format!("/v1/events?webhook={foreign}")).await;
    assert_eq!(refused.expect(404).problem(), "not_found");
}

#[tokio::test]
async fn what_is_no_event_of_the_tenant_is_no_place_to_begin() {
    let world = World::start().await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    let webhook = world.webhook(&acme).await;
    let id = world.event(&acme, EventType::Sent, "{}").await;
    let foreign = world.event(&beta, EventType::Sent, "{}").await;
    let check = async |after: String, status: u16, says: &str| {
        let path = format!("/v1/events?after={after}");
        let refused = world.get(&acme.key, &path).await.expect(status).json();
        let detail = refused["detail"].as_str().expect("text");
        assert!(detail.contains(says), "{after}: {detail}");
    };
    let place = |block, index| EventId { place: Place::new(block, index), ..id };
    for missing in [
        foreign,
        EventId { accepted_at: id.accepted_at + 1, ..id },
        EventId { node: NodeNo(id.node.0 ^ 1), ..id },
        place(id.place.block(), id.place.index() + 1),
        place(id.place.block() + 100, 0),
        place(Place::MAX_BLOCK, u16::MAX),
    ] {
        check(missing.to_string(), 404, "no such event").await;
    }
    check(webhook, 400, "this is the id of a webhook; an id of this kind starts with `evt_`").await;
    check("dlv_1".to_owned(), 400, "the id of a delivery").await;
    check("msg_1".to_owned(), 400, "the id of a message").await;
    check("evt_1".to_owned(), 400, "26 characters").await;
    check("yesterday".to_owned(), 400, "starts with `evt_`").await;
    check(String::new(), 400, "starts with `evt_`").await;
    check(format!("{id}&found_disabled=1"), 400, "`true`").await;
    check(format!("{id}&webhook={id}"), 400, "this is the id of an event").await;
}

#[tokio::test]
async fn a_consumer_whom_retention_overtook_is_told() {
    let world = World::forgetful().await;
    let acme = world.tenant("acme").await;
    let gone = world.event(&acme, EventType::Sent, "{}").await;
    let is_gone = async || world.store.block(gone.place.block()).await.expect("it reads").is_none();
    for _ in 0..1_000_000 {
        if is_gone().await {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(is_gone().await, "it was never removed");
    let path = format!("/v1/events?after={gone}");
    let refused = world.get(&acme.key, &path).await.expect(410);
    assert_eq!(refused.problem(), "events_gone");
    assert!(refused.json()["detail"].as_str().expect("text").contains("after=start"));
    // The webhook keeps what comes now: a delivery that has not ended is not removed.
    world.webhook(&acme).await;
    let kept = world.event(&acme, EventType::Sent, "{}").await.to_string();
    let start = "/v1/events?after=start&limit=1";
    let page = world.get(&acme.key, start).await.expect(200).json();
    assert_eq!((ids(&page), &page["incomplete"]), (vec![kept.clone()], &json!(false)));
    // A cursor outlives what stands before it.
    let cursor = page["poll_cursor"].as_str().expect("always there");
    let poll = format!("{start}&cursor={cursor}");
    assert_eq!(ids(&world.get(&acme.key, &poll).await.expect(200).json()), [""; 0]);
    world.get(&acme.key, &path).await.expect(410);
}
