//! `completions`: a script that teaches a shell our commands and flags.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell that is to run the script
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "senderz-gateway", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Ok)
}
