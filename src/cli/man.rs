//! `man`: the manual pages, made from the same definitions as the help texts.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::{Cli, Exit, help::with_examples};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write a page for every command into this directory, such as /usr/local/share/man/man1;
    /// without it the page of the gateway goes to stdout
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let root = with_examples(Cli::command());
    match &args.dir {
        Some(dir) => {
            let cannot = || format!("cannot write the pages into {}", dir.display());
            fs::create_dir_all(dir).with_context(cannot)?;
            clap_mangen::generate_to(root, dir).with_context(cannot)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(root).render(&mut page)?;
            std::io::stdout().write_all(&page)?;
        }
    }
    Ok(Exit::Ok)
}
