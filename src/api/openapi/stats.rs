//! The routes of statistics.

use serde_json::{Value, json};

use super::{Settings, ok};
use crate::{
    api::stats::{BREAKERS, DEFAULT_PERIOD},
    openapi::{Operation, words::Example},
};

const TAG: &str = "Statistics";

fn counts() -> Value {
    json!({
        "attempts": 1210,
        "success_rate": 0.975,
        "errors": {"status": 28, "timeout": 2},
        "deliveries": {"delivered": 1180, "failed": 1, "canceled": 0},
        "latency_ms": {"p50": 31.5, "p95": 118.2, "p99": 402.7},
    })
}

fn with(mut base: Value, more: Value) -> Value {
    let members = base.as_object_mut().expect("an object");
    members.extend(more.as_object().cloned().unwrap_or_default());
    base
}

fn stats() -> Value {
    let own = json!({
        "period": DEFAULT_PERIOD.as_str(),
        "since": Example::TIME,
        "until": Example::TIME,
        "complete": true,
        "backlog": {"pending": 3, "retrying": 28, "in_flight": 2, "oldest_at": Example::TIME},
        "step": "1h",
        "points": [with(json!({"at": Example::TIME}), counts())],
    });
    with(own, counts())
}

const COUNTING: &str = "Counted since the gateway's start, for three days at the most, in points of \
                        five minutes (`period=1h`) or of an hour; `since` and `complete` say what \
                        is known. The lists of deliveries go further back.";

pub(in crate::api) fn webhook(_: &Settings) -> Operation {
    let own = json!({
        "webhook_id": Example::new().webhook,
        "enabled": true,
        "breaker": BREAKERS[0],
        "held_back": false,
    });
    Operation {
        id: "getWebhookStats",
        tag: TAG,
        summary: "Show a webhook's statistics",
        description: format!("What came of its attempts lately, and what waits. {COUNTING}"),
        answers: vec![ok("The statistics.", "WebhookStats", with(own, stats()))],
        ..Operation::default()
    }
}

pub(in crate::api) fn overall(_: &Settings) -> Operation {
    let own = json!({"webhooks": {
        "enabled": 12, "disabled": 1, "breaker_open": 1, "breaker_half_open": 0, "held_back": 0,
    }});
    Operation {
        id: "getStats",
        tag: TAG,
        summary: "Show the statistics of all webhooks",
        description: format!(
            "What came of a tenant's attempts lately, over all its webhooks, and what waits; of the \
             whole gateway where an operator names no tenant. {COUNTING}"
        ),
        answers: vec![ok("The statistics.", "OverallStats", with(own, stats()))],
        ..Operation::default()
    }
}
