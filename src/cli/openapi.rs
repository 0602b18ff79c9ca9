//! `openapi`: the document that describes the API, under the limits of the configuration.

use super::{Exit, Global, output::line};
use crate::app::openapi;

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let document = openapi::document(&global.load()?);
    line(&format!("{document:#}"))?;
    Ok(Exit::Ok)
}
