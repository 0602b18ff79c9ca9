//! `verify`: check a signature over a body, as a receiver should; and where it does not fit, find
//! out which mistake it was.
//!
//! A receiver that refuses what we signed has mostly made one of a few mistakes, and from the outside
//! they all look the same. What they would have signed can be tried out: [`diagnose`] does so.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Exit, Output, output::tell, send::read_input};
use crate::{
    clock,
    config::{environment, units},
    sender::sign::{
        BadSignature, DEFAULT_TOLERANCE, StandardHeaders,
        diagnose::{self, Given, Mistake},
        verify_hex, verify_standard,
    },
    tenant::SigningSecret,
};

/// The body may come out of an old log: where nothing is said its age is not judged.
const ANY_AGE: Duration = Duration::MAX;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Environment variable that holds the signing secret, whsec_…; again for an older one. Names
    /// starting with SENDERZ_ are taken by the configuration
    #[arg(long, value_name = "NAME", required = true)]
    secret_env: Vec<String>,
    /// The header X-Senderz-Signature, or with --id and --timestamp webhook-signature
    signature: String,
    /// The header webhook-id
    #[arg(long, requires = "timestamp")]
    id: Option<String>,
    /// The header webhook-timestamp
    #[arg(long, requires = "id")]
    timestamp: Option<String>,
    /// How far the timestamp may be from now, such as 5m; without it any age will do
    #[arg(long, requires = "timestamp", value_parser = tolerance)]
    tolerance: Option<Duration>,
}

/// Reads the body from stdin.
pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let secrets = args.secret_env.iter().map(|name| Secret::read(name));
    let secrets = secrets.collect::<anyhow::Result<Vec<_>>>()?;
    let body = read_input("-")?;
    let now = clock::wall_ms();
    let mut refusal = None;
    for secret in &secrets {
        let verdict = match &secret.parsed {
            Ok(parsed) => verdict(args, parsed, &body, now).map_err(|bad| bad.to_string()),
            Err(reason) => Err(reason.clone()),
        };
        match verdict {
            Ok(()) => {
                accept(args, secret, now, output);
                return Ok(Exit::Ok);
            }
            Err(reason) => refusal.get_or_insert(reason),
        };
    }
    let standard = args.id.as_deref().zip(args.timestamp.as_deref());
    let texts: Vec<_> = secrets.iter().map(|s| (s.variable.as_str(), s.text.as_str())).collect();
    let given = Given { secrets: &texts, signature: &args.signature, standard, body: &body, now };
    let mistakes = diagnose::mistakes(&given, args.tolerance.unwrap_or(ANY_AGE));
    refuse(&refusal.unwrap_or_default(), &mistakes, &body, output);
    Ok(Exit::Failure)
}

/// A variable's text, and the secret in it.
struct Secret {
    variable: String,
    text: Zeroizing<String>,
    parsed: Result<SigningSecret, String>,
}

impl Secret {
    fn read(variable: &str) -> anyhow::Result<Self> {
        let text = environment::secret(variable)
            .with_context(|| format!("the variable {variable} is not set, or empty"))?;
        let parsed = text
            .parse()
            .map_err(|error| format!("the variable {variable} holds no signing secret: {error}"));
        Ok(Self { variable: variable.to_owned(), text, parsed })
    }
}

fn verdict(args: &Args, secret: &SigningSecret, body: &[u8], now: u64) -> Result<(), BadSignature> {
    match (&args.id, &args.timestamp) {
        (Some(id), Some(timestamp)) => {
            let headers = StandardHeaders { id, timestamp, signature: &args.signature };
            verify_standard(secret, headers, body, now, args.tolerance.unwrap_or(ANY_AGE))
        }
        _ => verify_hex(secret, &args.signature, body),
    }
}

fn accept(args: &Args, secret: &Secret, now: u64, output: Output) {
    let is_first = secret.variable == args.secret_env[0];
    let with = if is_first { String::new() } else { format!(" with {}", secret.variable) };
    let seconds = args.timestamp.as_ref().and_then(|timestamp| timestamp.parse::<u64>().ok());
    let age = seconds.map(|seconds| Duration::from_secs((now / 1000).abs_diff(seconds)));
    let is_old = args.tolerance.is_none() && age.is_some_and(|age| age > DEFAULT_TOLERANCE);
    match output {
        Output::Json => {
            let secret = &secret.variable;
            tell(format_args!("{}", json!({"valid": true, "secret": secret, "too_old": is_old})));
        }
        Output::Text if is_old => tell(format_args!(
            "valid{with}; its time is more than {} from now, for which most libraries refuse it",
            units::format_duration(DEFAULT_TOLERANCE)
        )),
        Output::Text => tell(format_args!("valid{with}")),
    }
}

fn refuse(reason: &str, mistakes: &[Mistake], body: &[u8], output: Output) {
    if output == Output::Json {
        let mistakes: Vec<_> = mistakes
            .iter()
            .map(|mistake| json!({"code": mistake.code, "detail": mistake.detail}))
            .collect();
        tell(format_args!("{}", json!({"valid": false, "reason": reason, "mistakes": mistakes})));
        return;
    }
    tell(format_args!("not valid: {reason}"));
    for mistake in mistakes {
        tell(format_args!("why: {}", mistake.detail));
    }
    if mistakes.is_empty() {
        tell(format_args!(
            "why: no usual mistake explains it. The secret is another one, or the body ({} bytes \
             were read) is not the one that was sent",
            body.len()
        ));
    }
}

fn tolerance(text: &str) -> Result<Duration, &'static str> {
    units::parse_duration(text).ok_or(units::DURATION_RULE)
}
