//! `dev`: the gateway with a built-in receiver and example events.

use std::path::PathBuf;

use super::{Exit, Global, sink::share};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Play this file of events (a line each: tenant and payload) instead of a trickle of examples
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// End when every delivery has ended; 0 only if all counts agree
    #[arg(long, requires = "events")]
    exit: bool,
    /// Share of requests that the receiver answers with 500
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    fail_rate: f64,
}

pub(super) fn run(args: Args, _global: &Global) -> anyhow::Result<Exit> {
    let Args { events, exit, fail_rate } = args;
    anyhow::bail!("dev is not composed yet ({events:?}, exit {exit}, fail rate {fail_rate})")
}
