//! `keys` and `signing-secret`: who may ask, and what deliveries are signed with.
//!
//! Both print secrets, to stdout and only where that is what was asked for; neither takes one.

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    Exit, Global, Output,
    client::{Client, segment, with_query},
    output,
    tenants::{FOR_TENANT, Page},
};
use crate::tenant::TenantId;

/// For the operator, whose keys are no tenant's.
const OF_TENANT: &str = "The tenant whose keys; without it the operator means keys of any kind";

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create an API key; it is shown this once only
    Create {
        #[arg(long, help = OF_TENANT)]
        tenant: Option<TenantId>,
        /// What it may do
        kind: Kind,
    },
    /// List API keys, without the keys themselves
    List {
        #[arg(long, help = OF_TENANT)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        page: Page,
    },
    /// Revoke an API key at once
    Revoke {
        #[arg(long, help = OF_TENANT)]
        tenant: Option<TenantId>,
        /// The key's id, key_…
        id: String,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Kind {
    /// Everything
    Operator,
    /// Sending events, for every tenant
    Producer,
    /// What is one tenant's own
    Tenant,
}

#[derive(Debug, clap::Subcommand)]
pub enum SigningSecret {
    /// Show the secret that deliveries are signed with, and older ones that still sign
    Show {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
    },
    /// Replace the secret; the old one signs along for a while
    Rotate {
        #[arg(long, help = FOR_TENANT)]
        tenant: Option<TenantId>,
        /// For how long the old one signs along, such as 24h; 0s ends all older ones at once
        #[arg(long)]
        overlap: Option<String>,
    },
}

pub(super) async fn run(command: Command, global: &Global) -> anyhow::Result<Exit> {
    match command {
        Command::Create { tenant, kind } => {
            let body = json!({"kind": kind.as_str()});
            let made = Client::new(global, tenant)?.post("/v1/keys", &body).await?;
            output::object(global.output, &made)?;
            if global.output == Output::Text {
                output::note(format_args!("keep the api_key: it is shown only now"));
            }
        }
        Command::List { tenant, page } => {
            let path = with_query("/v1/keys", &page.parameters());
            let answer = Client::new(global, tenant)?.get(&path).await?;
            output::list(global.output, &answer, &["id", "kind", "tenant", "created_at"])?;
        }
        Command::Revoke { tenant, id } => {
            let path = format!("/v1/keys/{}", segment(&id));
            Client::new(global, tenant)?.request(Method::DELETE, &path, None, None).await?;
            output::note(format_args!("revoked {id}"));
        }
    }
    Ok(Exit::Ok)
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Producer => "producer",
            Self::Tenant => "tenant",
        }
    }
}

pub(super) async fn run_secret(command: SigningSecret, global: &Global) -> anyhow::Result<Exit> {
    const PATH: &str = "/v1/signing-secret";
    let answer = match command {
        SigningSecret::Show { tenant } => Client::new(global, tenant)?.get(PATH).await?,
        SigningSecret::Rotate { tenant, overlap } => {
            let overlap = overlap.map(|overlap| ("overlap".to_owned(), Value::from(overlap)));
            let body = Value::Object(Map::from_iter(overlap));
            Client::new(global, tenant)?.post(&format!("{PATH}/rotate"), &body).await?
        }
    };
    output::object(global.output, &answer)?;
    Ok(Exit::Ok)
}
