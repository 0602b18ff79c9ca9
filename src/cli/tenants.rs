//! `tenants`: create, list, show, delete.

use http::Method;
use serde_json::json;

use super::{
    Exit, Global, Output,
    client::{Client, segment, with_query},
    output,
};
use crate::tenant::TenantId;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a tenant; its api_key is shown this once only
    Create {
        /// Names the tenant from now on, such as acme
        id: TenantId,
        /// For people; the id where left out
        #[arg(long)]
        name: Option<String>,
    },
    /// List tenants
    List(Page),
    /// Show one tenant
    Show {
        /// The tenant
        id: TenantId,
    },
    /// Delete a tenant with its webhooks and keys
    Delete {
        /// The tenant
        id: TenantId,
    },
}

/// The help of every `--tenant` that the operator needs and a tenant may leave out.
pub(super) const FOR_TENANT: &str = "The tenant to act for; with a tenant's own key not needed";

/// Which page of a list.
#[derive(Debug, clap::Args)]
pub struct Page {
    /// The most entries in this page
    #[arg(long)]
    limit: Option<u32>,
    /// Where the page begins, as the page before told it
    #[arg(long)]
    cursor: Option<String>,
}

impl Page {
    pub(super) fn parameters(self) -> [(&'static str, Option<String>); 2] {
        [("limit", self.limit.map(|limit| limit.to_string())), ("cursor", self.cursor)]
    }
}

pub(super) async fn run(command: Command, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::new(global, None)?;
    let path = |id: &TenantId| format!("/v1/tenants/{}", segment(id.as_str()));
    match command {
        Command::Create { id, name } => {
            let name = name.as_deref().unwrap_or(id.as_str());
            let body = json!({"id": id.as_str(), "name": name});
            let made = client.post("/v1/tenants", &body).await?;
            output::object(global.output, &made)?;
            if global.output == Output::Text {
                output::note(format_args!("keep the api_key: it is shown only now"));
            }
        }
        Command::List(page) => {
            let answer = client.get(&with_query("/v1/tenants", &page.parameters())).await?;
            output::list(global.output, &answer, &["id", "name", "created_at"])?;
        }
        Command::Show { id } => output::object(global.output, &client.get(&path(&id)).await?)?,
        Command::Delete { id } => {
            client.request(Method::DELETE, &path(&id), None, None).await?;
            output::note(format_args!("deleted {id}"));
        }
    }
    Ok(Exit::Ok)
}
