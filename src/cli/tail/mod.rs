//! `tail`: attempts as they are made, until interrupted.
//!
//! A connection that breaks or falls silent is made again and goes on behind what was printed, so
//! that what is printed has no gap without a line that says so. Printing has a thread of its own: a
//! pager that takes nothing must not keep Ctrl-C from being heard.

mod line;
mod source;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use http_body_util::BodyExt as _;

use self::{
    line::Line,
    source::{Event, Source},
};
use super::{
    Exit, Global, Output,
    client::{Client, ClientError, with_query},
    colour::Palette,
    deliveries::Filter,
    interrupted, output,
};
use crate::tenant::TenantId;

/// Without any sign for so long a connection is taken for dead. The gateway gives one every 15 s
/// where `stream.keep_alive` is left as it is.
const SILENCE: Duration = Duration::from_secs(60);
/// The wait before a connection is made again, and what it grows to.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, help = FOR_TENANT_OR_ALL)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    filter: Filter,
    /// Begin behind this place instead of now: the id, pos_…, of a line of --output json
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

const FOR_TENANT_OR_ALL: &str =
    "The tenant whose attempts; without it the operator sees all, a tenant its own";

/// Reads until the user has enough or the gateway refuses.
pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::new(global, args.tenant)?;
    let path = with_query("/v1/stream", &args.filter.parameters());
    let line = Line { output: global.output, palette: Palette::of(&io::stdout()) };
    let mut tail = Tail { client, path, seen: args.after, line, has_begun: false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupted() => Ok(Exit::Ok),
            failed = tail.follow() => failed.map(|never| match never {}),
        }
    });
    // A line that nobody takes is still being printed.
    runtime.shutdown_background();
    done
}

struct Tail {
    client: Client,
    path: String,
    /// The place behind which to go on.
    seen: Option<String>,
    line: Line,
    has_begun: bool,
}

/// It never ends well by itself.
enum Never {}

impl Tail {
    async fn follow(&mut self) -> anyhow::Result<Never> {
        let mut wait = FIRST_WAIT;
        loop {
            let before = self.seen.clone();
            let broken = match self.read().await {
                Ok(()) => "the gateway ended the stream".to_owned(),
                Err(error) => match error.downcast_ref::<ClientError>() {
                    Some(lost) if self.has_begun && is_transient(lost) => lost.to_string(),
                    _ => return Err(error),
                },
            };
            if self.seen != before {
                wait = FIRST_WAIT;
            }
            output::note(format_args!("{broken}; connecting again in {} s", wait.as_secs()));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// One connection, until it ends.
    async fn read(&mut self) -> anyhow::Result<()> {
        let opening = Source::open(&self.client, &self.path, self.seen.as_deref());
        let mut source = tokio::time::timeout(SILENCE, opening).await.map_err(|_| silent())??;
        self.has_begun = true;
        loop {
            let read = tokio::time::timeout(SILENCE, source.body.frame()).await;
            let Some(frame) = read.map_err(|_| silent())? else { return Ok(()) };
            let frame = frame.map_err(|error| ClientError::Answer(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            let mut text = String::new();
            for event in source.events.take(&data)? {
                self.line.write(&event, &mut text);
                self.seen = Some(event.id);
            }
            print(text).await?;
        }
    }
}

fn silent() -> ClientError {
    ClientError::Answer(format!("nothing came for {} s", SILENCE.as_secs()))
}

/// Whether the same request may be answered later.
fn is_transient(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Timeout | ClientError::Answer(_) => true,
        ClientError::Problem(problem) => {
            problem.status.is_server_error() || problem.status.as_u16() == 429
        }
        ClientError::NoTenant | ClientError::Untrusted { .. } => false,
    }
}

async fn print(text: String) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let printing = tokio::task::spawn_blocking(move || {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    });
    Ok(printing.await??)
}
