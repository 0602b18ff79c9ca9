//! `verify`: check a signature over a body, as a receiver should.

use std::time::Duration;

use super::{Exit, output::tell, secret_from, send::read_input};
use crate::{
    clock,
    sender::sign::{StandardHeaders, verify_hex, verify_standard},
};

/// The body may come out of an old log: its age is not judged.
const TOLERANCE: Duration = Duration::MAX;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Environment variable that holds the signing secret, whsec_…; names starting with SENDERZ_
    /// are taken by the configuration
    #[arg(long, value_name = "NAME")]
    secret_env: String,
    /// The header X-Senderz-Signature, or with --id and --timestamp webhook-signature
    signature: String,
    /// The header webhook-id
    #[arg(long, requires = "timestamp")]
    id: Option<String>,
    /// The header webhook-timestamp
    #[arg(long, requires = "id")]
    timestamp: Option<String>,
}

/// Reads the body from stdin.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let secret = secret_from(&args.secret_env)?;
    let body = read_input("-")?;
    let verdict = match (&args.id, &args.timestamp) {
        (Some(id), Some(timestamp)) => {
            let headers = StandardHeaders { id, timestamp, signature: &args.signature };
            verify_standard(&secret, headers, &body, clock::wall_ms(), TOLERANCE)
        }
        _ => verify_hex(&secret, &args.signature, &body),
    };
    match verdict {
        Ok(()) => {
            tell(format_args!("valid"));
            Ok(Exit::Ok)
        }
        Err(reason) => {
            tell(format_args!("not valid: {reason}"));
            Ok(Exit::Failure)
        }
    }
}
