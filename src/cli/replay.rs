//! `replay`: send an ended delivery again, or many as a job of the gateway's.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{
    Exit, Global, Output,
    client::{Answer, Client, segment},
    deliveries::sent_again,
    output,
    tenants::FOR_TENANT,
};
use crate::tenant::TenantId;

const POLL_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    senderz-gateway replay --tenant acme dlv_…\n  \
    senderz-gateway replay --tenant acme --status failed --since 2026-11-23T04:00:00Z --dry-run\n  \
    senderz-gateway replay --tenant acme --webhook wh_… --status failed,missed --rate 100 --wait")]
pub struct Args {
    #[arg(long, help = FOR_TENANT)]
    tenant: Option<TenantId>,
    /// One delivery, dlv_…; without it the filters say which ones
    #[arg(
        conflicts_with_all = ["webhook", "status", "event_type", "since", "until", "dry_run", "rate", "wait"],
        required_unless_present_any = ["webhook", "status", "event_type", "since", "until"]
    )]
    id: Option<String>,
    /// Those to this webhook, wh_…
    #[arg(long)]
    webhook: Option<String>,
    /// Those that ended failed, delivered or canceled, or that found their webhook disabled
    /// (missed); comma-separated; failed where left out
    #[arg(long, value_delimiter = ',')]
    status: Option<Vec<String>>,
    /// Those of events of these types, comma-separated
    #[arg(long, value_delimiter = ',')]
    event_type: Option<Vec<String>>,
    /// Those of events accepted at this RFC 3339 time or later
    #[arg(long)]
    since: Option<String>,
    /// Those of events accepted at this RFC 3339 time or earlier
    #[arg(long)]
    until: Option<String>,
    /// Count them, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Deliveries a second
    #[arg(long)]
    rate: Option<u32>,
    /// Wait until it has ended; 0 only if it is done. A dry run is always waited for
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::new(global, args.tenant.clone())?;
    if let Some(id) = &args.id {
        let path = format!("/v1/deliveries/{}/replay", segment(id));
        let answer = client.post(&path, &json!({})).await?;
        sent_again(global.output, &answer)?;
        return Ok(Exit::Ok);
    }
    let waits = args.wait || args.dry_run;
    let job = client.post("/v1/replays", &Value::Object(args.into_json())).await?;
    if !waits {
        output::object(global.output, &job)?;
        return Ok(Exit::Ok);
    }
    wait(&client, &job, global.output).await
}

impl Args {
    fn into_json(self) -> Map<String, Value> {
        let fields = [
            ("webhook", self.webhook.map(Value::from)),
            ("status", self.status.map(Value::from)),
            ("event_type", self.event_type.map(Value::from)),
            ("since", self.since.map(Value::from)),
            ("until", self.until.map(Value::from)),
            ("dry_run", self.dry_run.then_some(Value::Bool(true))),
            ("rate", self.rate.map(Value::from)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Until it has ended, or rests: then somebody has to see to it.
async fn wait(client: &Client, job: &Answer, output: Output) -> anyhow::Result<Exit> {
    let id = job["id"].as_str().context("the answer has no replay's id")?;
    let path = format!("/v1/replays/{}", segment(id));
    loop {
        let job = client.get(&path).await?;
        if job["state"] != "running" {
            output::or_unread(output::object(output, &job))?;
            return Ok(if job["state"] == "done" { Exit::Ok } else { Exit::Failure });
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}
