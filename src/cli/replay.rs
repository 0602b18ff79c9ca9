//! `replay`: send an ended delivery again.

use serde_json::json;

use super::{
    Exit, Global,
    client::{Client, segment},
    deliveries::sent_again,
    tenants::FOR_TENANT,
};
use crate::tenant::TenantId;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, help = FOR_TENANT)]
    tenant: Option<TenantId>,
    /// The delivery, dlv_…
    id: String,
}

pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::new(global, args.tenant)?;
    let path = format!("/v1/deliveries/{}/replay", segment(&args.id));
    let answer = client.post(&path, &json!({})).await?;
    sent_again(global.output, &answer)?;
    Ok(Exit::Ok)
}
