//! `config`: the effective configuration and where each value comes from.

use super::{Exit, Global, Output, output::line};
use crate::config::load_explained;

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let (_, effective) = load_explained(&global.sources())?;
    match global.output {
        Output::Text => line(effective.to_toml().trim_end())?,
        Output::Json => line(&effective.to_json().to_string())?,
    }
    Ok(Exit::Ok)
}
