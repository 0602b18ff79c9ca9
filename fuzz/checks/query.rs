//! Any query of the lists: cursors, filters, limits. The answer is a page or a problem document,
//! and a page's cursor leads on.

use std::{cell::OnceCell, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode};
use senderz_gateway::{
    event::EventType,
    id::{TenantNo, WebhookNo},
    store::{NewEvent, Route},
};
use serde_json::Value;

use super::world::World;

const LISTS: [&str; 4] = ["/v1/deliveries", "/v1/events", "/v1/webhooks", "/v1/keys"];

thread_local! {
    /// Never dropped: a runtime must not end while its thread does.
    static WORLD: OnceCell<&'static World> = const { OnceCell::new() };
}

/// A few events of the tenant's, so that pages have somewhere to go on.
fn start() -> World {
    let routes: Arc<[Route]> = Arc::from([Route { webhook: WebhookNo(1), enabled: true }]);
    let event = |event_type| NewEvent {
        tenant: TenantNo(1),
        event_type,
        payload: Bytes::from_static(b"{}"),
        key: None,
        trace: None,
        routes: Arc::clone(&routes),
    };
    World::start(EventType::ALL.map(event).to_vec())
}

/// The first byte chooses the list, the rest is the query as it stands in the URL.
pub(crate) fn check(data: &[u8]) {
    let Some((list, query)) = data.split_first() else { return };
    let Ok(query) = std::str::from_utf8(query) else { return };
    let list = LISTS[usize::from(*list) % LISTS.len()];
    WORLD.with(|world| {
        let world = world.get_or_init(|| Box::leak(Box::new(start())));
        let Some((status, page)) = ask(world, list, query) else { return };
        assert!(world.directory.tenant("acme").is_some(), "asking changes nothing");
        if status == StatusCode::OK
            && let Some(next) = page["next_cursor"].as_str()
        {
            let without = query.split('&').filter(|pair| !pair.starts_with("cursor="));
            let mut pairs: Vec<String> = without.map(str::to_owned).collect();
            pairs.push(format!("cursor={next}"));
            // Where a name was written in another way, it is still there and there twice.
            let (status, page) = ask(world, list, &pairs.join("&")).expect("a URL");
            let twice = status == StatusCode::BAD_REQUEST && page["code"] == "invalid_parameter";
            assert!(status == StatusCode::OK || twice && query.contains('%'), "{query}: {page}");
        }
    });
}

fn ask(world: &World, list: &str, query: &str) -> Option<(StatusCode, Value)> {
    let request = Request::builder()
        .uri(format!("{list}?{query}"))
        .header("authorization", format!("Bearer {}", world.tenant_key))
        .body(Bytes::new().into())
        .ok()?;
    let answer = world.ask(request);
    let status = answer.status();
    let value: Value = serde_json::from_slice(answer.body()).expect("every answer is JSON");
    match status.as_u16() {
        200 => assert!(value["data"].is_array(), "{value}"),
        400 | 404 | 410 => {
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            assert_eq!(value["status"], status.as_u16());
            assert!(value["errors"].as_array().is_none_or(|errors| errors.len() <= 20));
        }
        other => panic!("{other} for {list}?{query}: {value}"),
    }
    Some((status, value))
}
