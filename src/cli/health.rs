//! `health`: is the gateway that this configuration describes ready? For container health checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use http::StatusCode;

use super::{
    Exit, Global,
    client::{BaseUrl, Client, ClientError},
    output::line,
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
    match Client::anonymous(BaseUrl::Tcp { authority }).get("/readyz").await {
        Ok(_) => {
            line("ready")?;
            Ok(Exit::Ok)
        }
        Err(ClientError::Problem(problem)) if problem.status == StatusCode::SERVICE_UNAVAILABLE => {
            line(&format!("not ready: {}", problem.reasons()))?;
            Ok(Exit::Failure)
        }
        Err(error) => Err(error.into()),
    }
}

/// An address to call for one to listen on: every address means this machine as well.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}
