//! A trickle of example events, and a line about each attempt.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{EXAMPLE_EVERY, Stage};
use crate::{cli::output, clock, event::EventType, tenant::TenantId};

pub(super) const TENANT: &str = "demo";

/// How many of the newest deliveries are looked at for news.
const WATCHED: usize = 50;

/// Sends one example after the other, and prints what the delivery log has to say about them.
pub(super) async fn run(stage: &Stage) -> anyhow::Result<()> {
    let client = stage.client.for_tenant(TENANT.parse::<TenantId>()?);
    // What an earlier run left behind is no news.
    let mut told: HashMap<String, String> = HashMap::new();
    let page = client.get(&format!("/v1/deliveries?limit={WATCHED}")).await?;
    for row in page["data"].as_array().into_iter().flatten() {
        told.insert(row["id"].as_str().unwrap_or_default().to_owned(), line(row));
    }
    let mut number = 0usize;
    loop {
        let event_type = EventType::ALL[number % EventType::ALL.len()];
        let path = format!("/v1/tenants/{TENANT}/events");
        client.post(&path, &example(event_type, number)).await?;
        number += 1;
        tokio::time::sleep(EXAMPLE_EVERY).await;
        let page = client.get(&format!("/v1/deliveries?limit={WATCHED}")).await?;
        let rows: Vec<&Value> = page["data"].as_array().into_iter().flatten().collect();
        for row in rows.iter().rev() {
            let id = row["id"].as_str().unwrap_or_default();
            let news = line(row);
            if told.get(id) != Some(&news) {
                output::line(&news)?;
                told.insert(id.to_owned(), news);
            }
        }
        // Older ones are no longer looked at.
        told.retain(|id, _| rows.iter().any(|row| row["id"] == id.as_str()));
    }
}

fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let next = match row["next_attempt_at"].as_str() {
        Some(at) => format!("  next attempt at {at}"),
        None => String::new(),
    };
    format!(
        "{:<18} {:<10} attempts {}  {}{next}",
        text("event_type"),
        text("status"),
        row["attempts_made"],
        text("id"),
    )
}

fn example(event_type: EventType, number: usize) -> Value {
    let channel = ["sms", "whatsapp", "rcs"][number % 3];
    let reason = match event_type {
        EventType::Failed => json!("carrier_rejected"),
        EventType::Blocked => json!("recipient_opted_out"),
        _ => Value::Null,
    };
    json!({
        "type": event_type.as_str(),
        "timestamp": clock::rfc3339(clock::wall_ms()),
        "data": {
            "id": format!("msg_example_{number}"),
            "channel": channel,
            "recipient": "+15555550100",
            "status_reason": reason,
        },
    })
}
