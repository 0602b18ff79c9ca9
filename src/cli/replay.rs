//! `replay`: send an ended delivery again, or many as a job of the gateway's.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{
    Exit, Global, Output,
    client::{Answer, Client, segment},
    deliveries::sent_again,
    output,
    progress::Progress,
    tenants::FOR_TENANT,
};
use crate::tenant::TenantId;

const POLL_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
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
    let progress = Progress::of_share(std::io::stderr().is_terminal());
    loop {
        let job = client.get(&path).await?;
        progress.at_share(job["progress"].as_f64().unwrap_or_default(), &so_far(&job));
        if job["state"] != "running" {
            progress.end();
            output::or_unread(output::object(output, &job))?;
            return Ok(if job["state"] == "done" { Exit::Ok } else { Exit::Failure });
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// What a person reads beside the bar.
fn so_far(job: &Value) -> String {
    let count = |name: &str| job[name].as_u64().unwrap_or_default();
    match job["dry_run"] == true {
        true => format!("{} found", count("matched")),
        false => format!("{} sent again, {} skipped", count("replayed"), count("skipped")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    #[track_caller]
    fn check(typed: &[&str], expected: Option<Value>) {
        let words = std::iter::once(&"replay").chain(typed);
        let read = Typed::try_parse_from(words).ok().map(|typed| typed.args);
        let body = read.map(|args| Value::Object(args.into_json()));
        assert_eq!(body, expected, "{typed:?}");
    }

    #[test]
    fn flags_become_the_filter_of_a_job() {
        check(&["--webhook", "wh_1"], Some(json!({"webhook": "wh_1"})));
        let (since, until) = ("2026-11-23T04:00:00Z", "2026-11-23T05:00:00Z");
        check(
            &[
                "--status=failed,missed",
                "--event-type=message.sent,message.read",
                "--since",
                since,
                "--until",
                until,
                "--rate=7",
                "--dry-run",
            ],
            Some(json!({
                "status": ["failed", "missed"],
                "event_type": ["message.sent", "message.read"],
                "since": since,
                "until": until,
                "rate": 7,
                "dry_run": true,
            })),
        );
        // What is waited for is the command's affair.
        check(&["--status=failed", "--wait"], Some(json!({"status": ["failed"]})));
    }

    #[test]
    fn one_delivery_has_no_filter_and_many_need_one() {
        check(&["dlv_1"], Some(json!({})));
        for flag in ["--webhook=wh_1", "--status=failed", "--dry-run", "--rate=7", "--wait"] {
            check(&["dlv_1", flag], None);
        }
        // All that ever failed is not what somebody means who types nothing.
        for typed in [&[][..], &["--dry-run"], &["--rate=7"], &["--wait"], &["--limit=7"]] {
            check(typed, None);
        }
    }

    #[test]
    fn beside_the_bar_stands_what_was_done() {
        let job = json!({"dry_run": false, "matched": 12, "replayed": 10, "skipped": 2});
        assert_eq!(so_far(&job), "10 sent again, 2 skipped");
        assert_eq!(so_far(&json!({"dry_run": true, "matched": 12})), "12 found");
    }
}
