//! `backup`: a copy of a running gateway's data, and whether a copy is still what was made.

use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{
    Exit, Global, Output,
    client::{Answer, Client, segment},
    output::{self, note, tell},
    progress::Progress,
};
use crate::{app, clock::rfc3339, config::units::parse_size};

const POLL_EVERY: Duration = Duration::from_millis(200);
/// Parts of the bar.
const PARTS: u64 = 1000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name of its directory in backup.dir; the time where left out
    #[arg(conflicts_with = "verify")]
    name: Option<String>,
    /// At most so many bytes a second, such as 20MiB (backup.rate)
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "verify")]
    rate: Option<u64>,
    /// Take along encryption.key and operator.key from the data directory: whoever has such a copy
    /// has everything
    #[arg(long, conflicts_with = "verify")]
    with_keys: bool,
    /// Ask no gateway: is every file of this backup as it was written?
    #[arg(long, value_name = "DIR")]
    verify: Option<PathBuf>,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text)
        .filter(|size| (1..=u64::from(u32::MAX)).contains(size))
        .ok_or_else(|| "a size from 1B to 4095MiB, such as 20MiB".to_owned())
}

pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    if let Some(dir) = args.verify {
        return verify(dir, global.output).await;
    }
    let client = Client::new(global, None)?;
    let mut body = Map::new();
    body.extend(args.name.map(|name| ("name".to_owned(), Value::from(name))));
    body.extend(args.rate.map(|rate| ("rate".to_owned(), Value::from(rate))));
    body.insert("with_keys".to_owned(), Value::from(args.with_keys));
    let begun = client.post("/v1/backups", &Value::Object(body)).await?;
    let made = until_ended(&client, &begun).await?;
    output::or_unread(output::object(global.output, &made))?;
    if made["state"] != "done" {
        return Ok(Exit::Failure);
    }
    if global.output == Output::Text && !args.with_keys {
        note(format_args!(
            "secrets in it need the gateway's encryption key, which is not in it: keep a copy of \
             that apart"
        ));
    }
    Ok(Exit::Ok)
}

async fn until_ended(client: &Client, begun: &Answer) -> anyhow::Result<Answer> {
    let name = begun["name"].as_str().context("the answer has no backup's name")?;
    let path = format!("/v1/backups/{}", segment(name));
    let bar = Progress::of_count(PARTS, std::io::stderr().is_terminal());
    loop {
        let backup = client.get(&path).await?;
        if backup["state"] != "running" {
            bar.end();
            return Ok(backup);
        }
        let share = backup["progress"].as_f64().unwrap_or_default();
        bar.at((share * PARTS as f64) as u64, name);
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Without a gateway: the files say it all.
async fn verify(dir: PathBuf, output: Output) -> anyhow::Result<Exit> {
    let shown = dir.display().to_string();
    let verified = tokio::task::spawn_blocking(move || app::verify_backup(&dir)).await?;
    match (verified, output) {
        (Ok(verified), Output::Text) => tell(format_args!(
            "ok: {shown} is the backup of {}, {} files, {} bytes",
            rfc3339(verified.made_at),
            verified.files,
            verified.bytes
        )),
        (Ok(verified), Output::Json) => tell(format_args!(
            "{}",
            json!({
                "made_at": rfc3339(verified.made_at),
                "files": verified.files,
                "bytes": verified.bytes,
            })
        )),
        (Err(error), _) => {
            note(format_args!("error: {shown}: {error}"));
            return Ok(Exit::Failure);
        }
    }
    Ok(Exit::Ok)
}
