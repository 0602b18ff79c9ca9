//! `events`: list them, show who got one and who did not, and erase what one person's said.

use std::{io::Read as _, time::Duration};

use anyhow::{Context as _, bail};
use http::Method;

use super::{
    Exit, Global, Output,
    client::{Answer, Client, segment, with_query},
    output,
    tenants::{FOR_TENANT, Page},
};
use crate::{event::MAX_RECIPIENT, tenant::TenantId};

const POLL_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List events, the newest first; with --after the oldest first, to catch up
    List(List),
    /// One event with its payload, its deliveries, and why the other webhooks got none
    Show {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// The event, evt_…
        id: String,
    },
    /// Erase the payloads of one person's events; ids, times, deliveries and attempts stay
    Erase {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// The data.recipient of the events; - reads it from standard input, so that no other user
        /// of this machine sees it
        #[arg(allow_hyphen_values = true)]
        recipient: String,
        /// Wait until nothing is left in the gateway's files
        #[arg(long)]
        wait: bool,
    },
    /// List erasures, the newest first
    Erasures {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        page: Page,
    },
    /// Show how far an erasure is
    Erasure {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// The erasure, ers_…
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct List {
    #[arg(long, help = FOR_TENANT)]
    tenant: Option<TenantId>,
    /// Those that were for this webhook, wh_…
    #[arg(long)]
    webhook: Option<String>,
    /// Those of these types, such as message.sent; comma-separated
    #[arg(long)]
    event_type: Option<String>,
    /// Those that found a webhook disabled
    #[arg(long)]
    found_disabled: bool,
    /// Those accepted at this RFC 3339 time or later
    #[arg(long)]
    since: Option<String>,
    /// Those accepted at this RFC 3339 time or earlier
    #[arg(long)]
    until: Option<String>,
    /// Those accepted after this event, evt_…, in that order; `start` begins with the oldest
    #[arg(long)]
    after: Option<String>,
    #[command(flatten)]
    page: Page,
}

impl List {
    fn path(self) -> String {
        let mut parameters = vec![
            ("webhook", self.webhook),
            ("event_type", self.event_type),
            ("found_disabled", self.found_disabled.then(|| "true".to_owned())),
            ("since", self.since),
            ("until", self.until),
            ("after", self.after),
        ];
        parameters.extend(self.page.parameters());
        with_query("/v1/events", &parameters)
    }
}

pub(super) async fn run(command: Command, global: &Global) -> anyhow::Result<Exit> {
    match command {
        Command::List(mut list) => {
            let client = Client::new(global, list.tenant.take())?;
            let answer = client.get(&list.path()).await?;
            let fields = ["id", "type", "deliveries", "found_disabled", "accepted_at"];
            output::list(global.output, &answer, &fields)?;
        }
        Command::Show { tenant, id } => {
            let path = format!("/v1/events/{}", segment(&id));
            show(global.output, &Client::new(global, tenant)?.get(&path).await?)?;
        }
        Command::Erase { tenant, recipient, wait } => {
            let recipient = if recipient == "-" { from_stdin()? } else { recipient };
            let client = Client::new(global, tenant)?;
            let path = with_query("/v1/events", &[("recipient", Some(recipient))]);
            let job = client.request(Method::DELETE, &path, None, None).await?;
            if wait {
                return until_done(&client, &job, global.output).await;
            }
            output::object(global.output, &job)?;
        }
        Command::Erasures { tenant, page } => {
            let path = with_query("/v1/erasures", &page.parameters());
            let answer = Client::new(global, tenant)?.get(&path).await?;
            let fields = ["id", "state", "events", "deliveries_canceled", "created_at"];
            output::list(global.output, &answer, &fields)?;
        }
        Command::Erasure { tenant, id } => {
            let path = format!("/v1/erasures/{}", segment(&id));
            output::object(global.output, &Client::new(global, tenant)?.get(&path).await?)?;
        }
    }
    Ok(Exit::Ok)
}

/// The event, a line for each field; then who got it, and who did not and why.
fn show(output: Output, answer: &Answer) -> std::io::Result<()> {
    let (Output::Text, Some(fields)) = (output, answer.as_object()) else {
        return output::json(&answer.body);
    };
    let is_list = |name: &str| ["deliveries", "skipped"].contains(&name);
    output::fields(fields.iter().filter(|(name, _)| !is_list(name)))?;
    let rows = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let (deliveries, skipped) = (rows("deliveries"), rows("skipped"));
    output::line("")?;
    if deliveries.is_empty() {
        output::line("no deliveries")?;
    } else {
        let columns = ["id", "status", "webhook_id", "attempts_made"];
        output::line(&output::table(&columns, &deliveries))?;
    }
    if !skipped.is_empty() {
        output::line("\nwebhooks that got none:")?;
        output::line(&output::table(&["webhook_id", "reason", "detail", "delivery_id"], &skipped))?;
    }
    Ok(())
}

/// The whole of it but for a line end.
fn from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let limit = MAX_RECIPIENT as u64 + 3;
    std::io::stdin().take(limit).read_to_string(&mut text).context("cannot read the recipient")?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("standard input holds no recipient");
    }
    Ok(text.to_owned())
}

async fn until_done(client: &Client, job: &Answer, output: Output) -> anyhow::Result<Exit> {
    let id = job["id"].as_str().context("the answer has no erasure's id")?;
    let path = format!("/v1/erasures/{}", segment(id));
    loop {
        let job = client.get(&path).await?;
        if job["state"] == "done" {
            output::or_unread(output::object(output, &job))?;
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}
