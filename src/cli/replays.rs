//! `replays`: what became of replays of many, and telling one to rest, to go on or to end.

use serde_json::json;

use super::{
    Exit, Global,
    client::{Client, segment, with_query},
    output,
    tenants::{FOR_TENANT, Page},
};
use crate::tenant::TenantId;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List replays of many, the newest first
    List {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        page: Page,
    },
    /// Show how far a replay is
    Show(One),
    /// Let a replay rest until it is resumed
    Pause(One),
    /// Let a replay go on where it was
    Resume(One),
    /// End a replay; what it has sent on already is delivered all the same
    Cancel(One),
}

/// One replay of many.
#[derive(Debug, clap::Args)]
pub struct One {
    #[arg(long, help = FOR_TENANT)]
    tenant: Option<TenantId>,
    /// The replay, rpl_…
    id: String,
}

pub(super) async fn run(command: Command, global: &Global) -> anyhow::Result<Exit> {
    match command {
        Command::List { tenant, page } => {
            let path = with_query("/v1/replays", &page.parameters());
            let answer = Client::new(global, tenant)?.get(&path).await?;
            let fields = ["id", "state", "matched", "replayed", "skipped", "created_at"];
            output::list(global.output, &answer, &fields)?;
        }
        Command::Show(one) => {
            let path = format!("/v1/replays/{}", segment(&one.id));
            output::object(global.output, &Client::new(global, one.tenant)?.get(&path).await?)?;
        }
        Command::Pause(one) => tell(one, "pause", global).await?,
        Command::Resume(one) => tell(one, "resume", global).await?,
        Command::Cancel(one) => tell(one, "cancel", global).await?,
    }
    Ok(Exit::Ok)
}

async fn tell(One { tenant, id }: One, order: &str, global: &Global) -> anyhow::Result<()> {
    let path = format!("/v1/replays/{}/{order}", segment(&id));
    let job = Client::new(global, tenant)?.post(&path, &json!({})).await?;
    Ok(output::object(global.output, &job)?)
}
