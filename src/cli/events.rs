//! `events`: erase what one person's events said.

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

pub(super) async fn run(command: Command, global: &Global) -> anyhow::Result<Exit> {
    match command {
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
