//! `sink`: a receiver to point webhooks at while testing.

mod receiver;
#[cfg(test)]
mod tests;
mod told;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use self::told::Printer;
pub use self::{
    receiver::{SinkHandle, SinkOptions, Stats, start},
    told::{Seen, Signature, Told},
};
use super::{Exit, Output, output::note, secret_from};
use crate::config::units;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// Wait this long before each answer
    #[arg(long, default_value = "0ms", value_parser = duration)]
    latency: Duration,
    /// Share of requests answered with 500, 0.0 to 1.0
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    fail_rate: f64,
    /// Share of requests that get no answer, 0.0 to 1.0
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    hang_rate: f64,
    /// Status of all other answers
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..600))]
    status: u16,
    /// Decides which attempts fail; the same seed fails the same attempts
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Environment variable that holds the tenant's signing secret; without it nothing is verified.
    /// Names starting with SENDERZ_ are taken by the configuration
    #[arg(long, value_name = "NAME")]
    secret_env: Option<String>,
    /// No line for each request; instead once a second what came so far
    #[arg(long)]
    quiet: bool,
}

/// Receives until interrupted, whether or not anybody reads what it prints; 0 where every request
/// was in order and none came twice.
pub async fn run(args: Args, output: Output) -> anyhow::Result<Exit> {
    let secret = args.secret_env.as_deref().map(secret_from).transpose()?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let verifies = secret.is_some();
    let printer = Printer::start(io::stdout(), output)?;
    // Before anything is received: whoever has an answer may end it.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let started = start(SinkOptions {
        listen,
        latency: args.latency,
        fail_rate: args.fail_rate,
        hang_rate: args.hang_rate,
        status: args.status,
        seed: args.seed,
        secret,
        watch: (!args.quiet).then(|| printer.lines.clone()),
    });
    let sink = match started {
        Ok(sink) => sink,
        // As for the gateway itself: the port may be free later.
        Err(error) => {
            note(format_args!("error: cannot listen on {listen}: {error}"));
            return Ok(Exit::Unavailable);
        }
    };
    note(format_args!("receiving on http://{}/ until interrupted", sink.addr));
    if !verifies {
        note(format_args!("signatures are not verified: no --secret-env"));
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut before = Stats::default();
    loop {
        tokio::select! {
            _ = tick.tick(), if args.quiet => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
        let now = sink.stats();
        let counts = Told::Counts(now, now.requests - before.requests);
        if now != before && printer.lines.try_send(counts).is_ok() {
            before = now;
        }
    }
    let stats = sink.stop();
    printer.end(stats).await;
    let clean = stats.duplicates == 0 && stats.bad_signatures == 0 && stats.malformed == 0;
    Ok(if clean { Exit::Ok } else { Exit::Failure })
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    units::parse_duration(text).ok_or(units::DURATION_RULE)
}

/// A share of requests, for every command that takes one.
pub(super) fn share(text: &str) -> Result<f64, &'static str> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or("must be a number from 0.0 to 1.0")
}
