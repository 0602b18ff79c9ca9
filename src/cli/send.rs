//! `send`: hand an event to a running gateway, and with `--wait` see its deliveries end.

use std::{collections::BTreeSet, io::Read as _, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json, value::RawValue};

use super::{
    Exit, Global, Output,
    client::{Client, ClientError, segment},
    output,
};
use crate::{clock, config::units, event::EventType, tenant::TenantId};

/// The most read from a file or stdin.
const MAX_INPUT: u64 = 16 << 20;
const POLL_EVERY: Duration = Duration::from_millis(200);
const FINAL: [&str; 3] = ["delivered", "failed", "canceled"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// message.sent, message.delivered, message.failed, message.inbound, message.read or
    /// message.blocked; left out with --payload
    #[arg(value_name = "TYPE", required_unless_present = "payload")]
    event_type: Option<EventType>,
    /// The tenant whose event it is; needed whatever the key is
    #[arg(long)]
    tenant: Option<TenantId>,
    /// A field of the payload's data, as text; again for more. What is required and not given here
    /// is made up (recipient +15555550100, channel sms), as for a test
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::key_value)]
    data: Vec<(String, String)>,
    /// The payload as it is to be delivered, byte for byte; - reads stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["event_type", "data"])]
    payload: Option<String>,
    /// The same key again within a day sends nothing new
    #[arg(long)]
    idempotency_key: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Whether to see an event's deliveries end.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// Wait until every delivery has ended; 0 only if all were delivered
    #[arg(long)]
    wait: bool,
    /// The longest to wait
    #[arg(long, default_value = "5m", value_parser = wait_timeout)]
    wait_timeout: Duration,
}

impl Wait {
    pub(super) async fn until_ended(
        &self,
        client: &Client,
        event: &str,
        output: Output,
    ) -> anyhow::Result<Exit> {
        if self.wait { wait(client, event, self.wait_timeout, output).await } else { Ok(Exit::Ok) }
    }
}

pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let tenant = args.tenant.ok_or(ClientError::NoTenant)?;
    let payload = match (&args.payload, args.event_type) {
        (Some(source), _) => Bytes::from(read_input(source)?),
        (None, Some(event_type)) => Bytes::from(example(event_type, &args.data).to_string()),
        (None, None) => unreachable!("clap requires one of the two"),
    };
    let path = format!("/v1/tenants/{}/events", segment(tenant.as_str()));
    let client = Client::new(global, Some(tenant))?;
    let key = args.idempotency_key.as_deref();
    let accepted = client.request(Method::POST, &path, Some(payload), key).await?;
    let id = accepted["id"].as_str().context("the answer has no event id")?;
    if global.output == Output::Json {
        output::or_unread(output::json(&accepted.body))?;
    } else {
        let count = accepted["deliveries"].as_u64().unwrap_or(0);
        output::or_unread(output::line(&format!("accepted {id}, {}", deliveries(count))))?;
    }
    args.wait.until_ended(&client, id, global.output).await
}

/// Tells each delivery as it ends.
async fn wait(
    client: &Client,
    event: &str,
    limit: Duration,
    output: Output,
) -> anyhow::Result<Exit> {
    let started = clock::instant();
    let path = format!("/v1/events/{}", segment(event));
    let mut told = BTreeSet::new();
    let mut all_delivered = true;
    loop {
        let answer = client.get(&path).await?;
        let listed = answer["deliveries"].as_array().context("the answer has no deliveries")?;
        let as_answered: AsAnswered<'_> = serde_json::from_slice(&answer.body)?;
        for (delivery, text) in listed.iter().zip(&as_answered.deliveries) {
            if is_ended(delivery) && told.insert(delivery["id"].to_string()) {
                all_delivered &= delivery["status"] == "delivered";
                output::or_unread(match output {
                    Output::Json => output::json(text.get().as_bytes()),
                    Output::Text => tell(delivery),
                })?;
            }
        }
        if told.len() == listed.len() {
            return Ok(if all_delivered { Exit::Ok } else { Exit::Failure });
        }
        if started.elapsed() >= limit {
            let open = listed.len() - told.len();
            anyhow::bail!(
                "not ended within {}: {}",
                units::format_duration(limit),
                deliveries(open as u64)
            );
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// The deliveries of an answer, each byte for byte.
#[derive(serde::Deserialize)]
struct AsAnswered<'a> {
    #[serde(borrow)]
    deliveries: Vec<&'a RawValue>,
}

fn deliveries(count: u64) -> String {
    if count == 1 { "1 delivery".to_owned() } else { format!("{count} deliveries") }
}

fn is_ended(delivery: &Value) -> bool {
    delivery["status"].as_str().is_some_and(|status| FINAL.contains(&status))
}

fn tell(delivery: &Value) -> std::io::Result<()> {
    let text = |name: &str| delivery[name].as_str().unwrap_or("-").to_owned();
    let attempts = delivery["attempts_made"].as_u64().unwrap_or(0);
    output::line(&format!(
        "{} {} to {}, attempts: {attempts}",
        text("status"),
        text("id"),
        text("webhook_id")
    ))
}

/// A valid payload of this type; fields given by the user replace ours.
pub(super) fn example(event_type: EventType, fields: &[(String, String)]) -> Value {
    let mut number = [0u8; 8];
    getrandom::fill(&mut number).expect("the kernel's random source does not fail after boot");
    let mut data = json!({
        "id": format!("msg_{:016x}", u64::from_le_bytes(number)),
        "channel": "sms",
        "recipient": "+15555550100",
    });
    if matches!(event_type, EventType::Failed | EventType::Blocked) {
        data["status_reason"] = "example".into();
    }
    for (name, value) in fields {
        data[name] = value.as_str().into();
    }
    json!({
        "type": event_type.as_str(),
        "timestamp": clock::rfc3339(clock::wall_ms()),
        "data": data,
    })
}

/// A file's bytes, or stdin's for `-`, up to a limit.
pub(super) fn read_input(source: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if source == "-" {
        std::io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut bytes)?;
    } else {
        let file = std::fs::File::open(source).with_context(|| format!("cannot read {source}"))?;
        file.take(MAX_INPUT + 1).read_to_end(&mut bytes)?;
    }
    anyhow::ensure!(bytes.len() as u64 <= MAX_INPUT, "{source} is larger than 16 MiB");
    Ok(bytes)
}

fn wait_timeout(text: &str) -> Result<Duration, &'static str> {
    units::parse_duration(text).ok_or(units::DURATION_RULE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_has_what_its_type_requires_and_takes_fields() {
        for event_type in EventType::ALL {
            let payload = example(event_type, &[]);
            assert_eq!(payload["type"], event_type.as_str());
            let has_reason = payload["data"]["status_reason"].is_string();
            let needs_one = matches!(event_type, EventType::Failed | EventType::Blocked);
            assert_eq!(has_reason, needs_one, "{event_type}");
            assert!(payload["timestamp"].as_str().unwrap().ends_with('Z'));
        }
        let fields = [("recipient".to_owned(), "+1".to_owned()), ("x".to_owned(), "y".to_owned())];
        let payload = example(EventType::Sent, &fields);
        assert_eq!(payload["data"]["recipient"], "+1");
        assert_eq!(payload["data"]["x"], "y");
        assert_ne!(example(EventType::Sent, &[])["data"]["id"], payload["data"]["id"]);
    }
}
