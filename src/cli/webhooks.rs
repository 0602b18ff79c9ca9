//! `webhooks`: create, list, show, update, test, stats, delete.
//!
//! Custom headers may be credentials, so they are not flags: `--body` takes the request's JSON from
//! a file or stdin, and the flags go on top of it.

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    Exit, Global,
    client::{Client, segment, with_query},
    output,
    send::{Wait, read_input},
    stats,
    tenants::{FOR_TENANT, Page},
};
use crate::{event::EventType, tenant::TenantId};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Register a URL
    Create {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// Where deliveries go
        #[arg(value_name = "URL")]
        target: String,
        #[command(flatten)]
        fields: Fields,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// List webhooks
    List {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        page: Page,
    },
    /// Show one webhook
    Show {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// The webhook, wh_…
        id: String,
    },
    /// Change what the flags name, and nothing else
    Update {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// The webhook, wh_…
        id: String,
        /// Where it is to be delivered to from now on (--url is the gateway's)
        #[arg(long, value_name = "URL")]
        target: Option<String>,
        #[command(flatten)]
        fields: Fields,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Send an example event to this webhook only
    Test {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// The webhook, wh_…
        id: String,
        /// Which type, whether the webhook subscribes to it or not; webhook.disabled is for the
        /// operator's own tenant
        #[arg(value_name = "TYPE", default_value = "message.sent", value_parser = EventType::named)]
        event_type: EventType,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show what came of attempts lately, and what waits
    Stats {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        args: stats::Args,
    },
    /// Delete a webhook; what waits for it is canceled
    Delete {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// The webhook, wh_…
        id: String,
    },
}

/// What may be set on a webhook.
#[derive(Debug, Default, clap::Args)]
pub struct Fields {
    /// Event types, comma-separated, or * for the six of messages (with which create begins)
    #[arg(long, value_delimiter = ',')]
    events: Option<Vec<String>>,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// Whether events are delivered to it: true or false
    #[arg(long)]
    enabled: Option<bool>,
    /// Which responses are a success: 200 or 2xx
    #[arg(long)]
    success: Option<String>,
    /// Deadline of one attempt, such as 10s
    #[arg(long)]
    timeout: Option<String>,
    /// Attempts under way at once
    #[arg(long)]
    max_in_flight: Option<u32>,
    /// Attempts per second
    #[arg(long)]
    rate_limit: Option<u32>,
    /// JSON object with further fields (headers, for example); - reads stdin
    #[arg(long, value_name = "FILE")]
    body: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DryRun {
    /// Save nothing: send an example event there once, signed, and show what came of it; exits 1
    /// where that was no success
    #[arg(long)]
    dry_run: bool,
}

impl DryRun {
    fn path(self, path: &str) -> String {
        with_query(path, &[("dry_run", self.dry_run.then(|| "true".to_owned()))])
    }

    fn exit(self, answer: &Value) -> Exit {
        if self.dry_run && answer["ok"] != true { Exit::Failure } else { Exit::Ok }
    }
}

pub(super) async fn run(command: Command, global: &Global) -> anyhow::Result<Exit> {
    let path = |id: &str| format!("/v1/webhooks/{}", segment(id));
    match command {
        Command::Create { tenant, target, fields, dry_run } => {
            let mut body = fields.into_json(Some(target))?;
            body.entry("events").or_insert_with(|| vec!["*"].into());
            let path = dry_run.path("/v1/webhooks");
            let made = Client::new(global, tenant)?.post(&path, &Value::Object(body)).await?;
            output::object(global.output, &made)?;
            return Ok(dry_run.exit(&made));
        }
        Command::List { tenant, page } => {
            let path = with_query("/v1/webhooks", &page.parameters());
            let answer = Client::new(global, tenant)?.get(&path).await?;
            output::list(global.output, &answer, &["id", "url", "events", "enabled"])?;
        }
        Command::Show { tenant, id } => {
            let answer = Client::new(global, tenant)?.get(&path(&id)).await?;
            output::object(global.output, &answer)?;
        }
        Command::Update { tenant, id, target, fields, dry_run } => {
            let body = fields.into_json(target)?;
            anyhow::ensure!(!body.is_empty(), "nothing to change: name at least one field");
            let body = Bytes::from(Value::Object(body).to_string());
            let client = Client::new(global, tenant)?;
            let path = dry_run.path(&path(&id));
            let answer = client.request(Method::PATCH, &path, Some(body), None).await?;
            output::object(global.output, &answer)?;
            return Ok(dry_run.exit(&answer));
        }
        Command::Test { tenant, id, event_type, wait } => {
            let client = Client::new(global, tenant)?;
            let body = json!({"type": event_type.as_str()});
            let sent = client.post(&format!("{}/test", path(&id)), &body).await?;
            let event = sent["event_id"].as_str().context("the answer has no event id")?;
            output::or_unread(output::object(global.output, &sent))?;
            return wait.until_ended(&client, event, global.output).await;
        }
        Command::Stats { tenant, args } => {
            let client = Client::new(global, tenant)?;
            stats::run(args, &client, global.output).await?;
        }
        Command::Delete { tenant, id } => {
            let client = Client::new(global, tenant)?;
            client.request(Method::DELETE, &path(&id), None, None).await?;
            output::note(format_args!("deleted {id}"));
        }
    }
    Ok(Exit::Ok)
}

impl Fields {
    fn into_json(self, url: Option<String>) -> anyhow::Result<Map<String, Value>> {
        let mut body = match &self.body {
            Some(source) => serde_json::from_slice(&read_input(source)?)
                .context("--body must be a JSON object")?,
            None => Map::new(),
        };
        let fields = [
            ("url", url.map(Value::from)),
            ("events", self.events.map(Value::from)),
            ("description", self.description.map(Value::from)),
            ("enabled", self.enabled.map(Value::from)),
            ("success", self.success.map(Value::from)),
            ("timeout", self.timeout.map(Value::from)),
            ("max_in_flight", self.max_in_flight.map(Value::from)),
            ("rate_limit", self.rate_limit.map(Value::from)),
        ];
        let set = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        body.extend(set);
        Ok(body)
    }
}
