//! The pages that are asked for, and how long they take.

use std::time::Instant;

use senderz_gateway::clock::rfc3339;
use serde_json::{Value, json};

use crate::{
    cost::answering_nanos,
    fill::{Filling, HOT, RARE, USUAL},
    options::Options,
    world::World,
};

/// The figure, milliseconds at p99.
const MUST: f64 = 20.0;

/// Requests of each kind of page.
const REQUESTS: usize = 400;

/// How many pages lie before the deep ones.
const DEEP: usize = 10_000;

struct Asked {
    name: &'static str,
    tenant: usize,
    path: String,
}

fn asked(world: &World, filling: &Filling) -> Vec<Asked> {
    let webhook = |tenant: usize, webhook: usize| world.webhooks[tenant][webhook].1.to_string();
    let last = world.webhooks[RARE].len() - 1;
    let (since, until) = (rfc3339(filling.middle.0), rfc3339(filling.middle.1));
    let deliveries = |name, tenant, filter: String| Asked {
        name,
        tenant,
        path: format!("/v1/deliveries?limit=50{filter}"),
    };
    let plain = |name, tenant, filter: &str| deliveries(name, tenant, filter.to_owned());
    let of = |name, tenant, no, filter: &str| {
        deliveries(name, tenant, format!("&webhook={}{filter}", webhook(tenant, no)))
    };
    let mut asked = vec![
        plain("no filter", USUAL, ""),
        plain("no filter, hot tenant", HOT, ""),
        of("webhook", USUAL, 3, ""),
        of("hot webhook", HOT, 0, ""),
        of("webhook with 3 deliveries", RARE, last, ""),
        plain("status=failed", USUAL, "&status=failed"),
        plain("status=failed, hot tenant", HOT, "&status=failed"),
        of("hot webhook, status=failed", HOT, 0, "&status=failed"),
        plain("code=5xx", USUAL, "&code=5xx"),
        plain("error=timeout", USUAL, "&error=timeout"),
        plain("event_type", USUAL, "&event_type=message.read"),
        deliveries("since, until", USUAL, format!("&since={since}&until={until}")),
        deliveries("until, hot tenant", HOT, format!("&until={until}")),
        plain("nothing matches, hot tenant", HOT, "&status=canceled"),
        plain("nothing matches both, hot tenant", HOT, "&status=delivered&code=5xx"),
    ];
    let events = |name, tenant, filter: String| Asked {
        name,
        tenant,
        path: format!("/v1/events?limit=50{filter}"),
    };
    asked.extend([
        events("events", USUAL, String::new()),
        events("events, webhook with 3", RARE, format!("&webhook={}", webhook(RARE, last))),
    ]);
    if let Some(early) = filling.early {
        asked.push(events("events after the first", RARE, format!("&after={early}")));
        let filter = format!("&after={early}&webhook={}", webhook(RARE, last));
        asked.push(events("events after, webhook with 3", RARE, filter));
    }
    if let Some(failed) = filling.failed {
        let path = format!("/v1/deliveries/{failed}");
        asked.push(Asked { name: "one delivery, 6 attempts", tenant: USUAL, path });
    }
    asked
}

pub(crate) async fn measure(
    world: &World,
    filling: &Filling,
    options: &Options,
) -> anyhow::Result<()> {
    let requests = if options.quick { 5 } else { REQUESTS };
    for Asked { name, tenant, path } in asked(world, filling) {
        let mut times = Vec::with_capacity(requests);
        let mut answer = world.get(tenant, &path).await?;
        let nanos = answering_nanos()?;
        for _ in 0..requests {
            let began = now();
            answer = world.get(tenant, &path).await?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        let each = (answering_nanos()? - nanos) / requests as u64;
        print(filling, name, &answer, times, each);
    }
    measure_deep(world, filling, if options.quick { 20 } else { DEEP }).await
}

/// The last pages of many, one behind the other.
async fn measure_deep(world: &World, filling: &Filling, pages: usize) -> anyhow::Result<()> {
    let start = "/v1/deliveries?limit=50";
    let mut path = start.to_owned();
    let mut times = Vec::new();
    let mut answer = Value::Null;
    let nanos = answering_nanos()?;
    for _ in 0..pages {
        let began = now();
        answer = world.get(HOT, &path).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        let Some(cursor) = answer["next_cursor"].as_str() else { break };
        path = format!("{start}&cursor={cursor}");
    }
    let each = (answering_nanos()? - nanos) / times.len() as u64;
    let deep = times.split_off(times.len().saturating_sub(REQUESTS));
    print(filling, "the last of 10,000 pages, hot tenant", &answer, deep, each);
    Ok(())
}

fn print(filling: &Filling, page: &str, answer: &Value, mut times: Vec<f64>, nanos: u64) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (times.len() as f64 * share).ceil() as usize;
        (times[index.clamp(1, times.len()) - 1] * 100.0).round() / 100.0
    };
    let p99 = at(0.99);
    let rows = answer["data"].as_array().map_or(1, Vec::len);
    let line = json!({
        "attempts": filling.attempts,
        "page": page,
        "rows": rows,
        "has_next": answer["next_cursor"].is_string(),
        "p50_ms": at(0.5),
        "p99_ms": p99,
        "max_ms": at(1.0),
        "cpu_us": nanos / 1000,
        "must_p99_ms": MUST,
        "reached": p99 <= MUST,
    });
    println!("{line}");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures from outside")]
fn now() -> Instant {
    Instant::now()
}
