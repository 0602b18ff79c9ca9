//! `health`: is the gateway that this configuration describes ready? For container health checks.

use anyhow::Context as _;
use http::StatusCode;

use super::{
    Exit, Global,
    client::{BaseUrl, Client, ClientError, reachable},
    output::tell,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The operations listener; without it ops.listen of the configuration
    #[arg(long, value_name = "HOST:PORT")]
    ops: Option<String>,
}

pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let authority = match args.ops {
        Some(address) => address,
        None => reachable(global.load()?.ops.listen.context("ops.listen is off")?).to_string(),
    };
    let base = BaseUrl::Tcp { authority: authority.clone() };
    match Client::anonymous(base).get("/readyz").await {
        Ok(_) => {
            tell(format_args!("ready ({authority})"));
            Ok(Exit::Ok)
        }
        Err(ClientError::Problem(problem)) if problem.status == StatusCode::SERVICE_UNAVAILABLE => {
            tell(format_args!("not ready: {} ({authority})", problem.reasons()));
            Ok(Exit::Failure)
        }
        Err(error) => Err(error.into()),
    }
}
