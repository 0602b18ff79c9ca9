//! The command line: one file per command.
//!
//! Commands that talk to a running gateway do so through its API, as anyone would; where it
//! is and the operator's key they know from the configuration, unless told. Results go to stdout, everything
//! else to stderr. Secrets are read from files and the environment, never from arguments, which
//! other users of the machine can see.

mod backup;
mod bench;
mod check;
mod client;
mod colour;
mod completions;
mod config;
mod deliveries;
mod dev;
mod events;
mod health;
mod help;
mod keys;
mod logging;
mod man;
mod openapi;
mod output;
mod problem;
mod progress;
mod replay;
mod replays;
mod send;
mod serve;
pub mod sink;
mod stats;
mod tail;
mod tenants;
#[cfg(test)]
mod tests;
mod verify;
mod webhooks;

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{
    CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind,
    parser::ValueSource,
};
use tokio::signal::unix::{SignalKind, signal};

use self::client::ClientError;
pub use self::output::Output;
use crate::{
    config::{Config, ConfigErrors, FlagSetting, Sources, environment},
    metrics,
    tenant::SigningSecret,
};

/// What the process tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Failure = 1,
    Usage = 2,
    /// A second signal cut the drain short.
    Forced = 3,
    /// A listener cannot bind, or the data directory is in use.
    Unavailable = 69,
    BadConfig = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Outbound webhook gateway: accepts message events, signs them and delivers them
#[derive(Debug, Parser)]
#[command(name = "senderz-gateway", version, disable_help_subcommand = true)]
#[command(after_help = "Without a command it serves. Exit codes: 0 ok, 1 failure, 2 usage, \
                        3 forced, 69 cannot bind or lock, 78 bad configuration or \
                        unusable data directory.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", env = "SENDERZ_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address of the API: an address and a port, or unix:/path (server.listen)
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where the store lives (data_dir)
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Sets any configuration key; lists are comma-separated
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// A running gateway's API: http://host:port, https://host:port or unix:/path; without it
    /// server.listen
    #[arg(long, global = true, value_name = "URL", env = "SENDERZ_URL")]
    pub url: Option<client::BaseUrl>,
    /// File with the API key; without it SENDERZ_API_KEY, then SENDERZ_OPERATOR_KEY, then
    /// <data_dir>/operator.key
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve,
    /// Run the gateway with a built-in receiver and example events
    Dev(dev::Args),
    /// Validate the configuration, the files it names and the data directory
    Check,
    /// Print the effective configuration and where each value comes from
    Config,
    /// Create, list, show and delete tenants
    #[command(subcommand)]
    Tenants(tenants::Command),
    /// Create, list, show, update, test and delete webhooks, and their statistics
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Send an event
    Send(send::Args),
    /// Watch attempts as they are made
    Tail(tail::Args),
    /// Load a running gateway with events and print how soon it accepts them
    Bench(bench::Args),
    /// List, show and cancel deliveries
    #[command(subcommand)]
    Deliveries(deliveries::Command),
    /// List and show events, and erase what one person's said
    #[command(subcommand)]
    Events(events::Command),
    /// Copy a running gateway's data into a directory that a gateway starts on
    Backup(backup::Args),
    /// Send an ended delivery again, or many
    Replay(replay::Args),
    /// List, show, pause, resume and cancel replays of many
    #[command(subcommand)]
    Replays(replays::Command),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Show and rotate the secret that a tenant's deliveries are signed with
    #[command(subcommand)]
    SigningSecret(keys::SigningSecret),
    /// Receive webhooks: count, verify, and fail on request
    Sink(sink::Args),
    /// Verify a signature over stdin
    Verify(verify::Args),
    /// Ask a running gateway whether it is ready
    Health(health::Args),
    /// Print the OpenAPI 3.1 document of the API, with the limits of the configuration
    Openapi,
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print the manual page, or write the pages of all commands
    Man(man::Args),
}

/// Parses the arguments, runs the command, and says how it went.
pub fn main() -> ExitCode {
    // First, so that the process's start time is right.
    let _ = metrics::install();
    metrics::count_panics();
    // clap ends the process itself: help and version with 0, wrong usage with 2.
    let Cli { global, command } =
        Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match run(global, command.unwrap_or(Command::Serve)) {
        Ok(exit) => exit.into(),
        Err(error) => report(&error).into(),
    }
}

fn run(global: Global, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Serve => serve::run(&global),
        Command::Dev(args) => dev::run(args, &global),
        Command::Check => check::run(&global),
        Command::Config => config::run(&global),
        Command::Openapi => openapi::run(&global),
        Command::Verify(args) => verify::run(&args, global.output),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Bench(args) => block_on(bench::run(args, &global)),
        Command::Tail(args) => tail::run(args, &global),
        Command::Sink(args) => block_on(sink::run(args, global.output)),
        Command::Health(args) => block_on(health::run(args, &global)),
        Command::Tenants(command) => block_on(tenants::run(command, &global)),
        Command::Webhooks(command) => block_on(webhooks::run(command, &global)),
        Command::Send(args) => block_on(send::run(args, &global)),
        Command::Deliveries(command) => block_on(deliveries::run(command, &global)),
        Command::Events(command) => block_on(events::run(command, &global)),
        Command::Backup(args) => block_on(backup::run(args, &global)),
        Command::Replay(args) => block_on(replay::run(args, &global)),
        Command::Replays(command) => block_on(replays::run(command, &global)),
        Command::Keys(command) => block_on(keys::run(command, &global)),
        Command::SigningSecret(command) => block_on(keys::run_secret(command, &global)),
    }
}

/// Says on stderr what went wrong, with its causes; and gives the exit code for it.
fn report(error: &anyhow::Error) -> Exit {
    let is_broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_broken_pipe) {
        // Whoever read our output has seen enough (`… | head`).
        return Exit::Ok;
    }
    output::note(format_args!("error: {error:#}"));
    if error.is::<ConfigErrors>() {
        return Exit::BadConfig;
    }
    match error.downcast_ref() {
        Some(ClientError::NoTenant) => Exit::Usage,
        _ => Exit::Failure,
    }
}

impl Cli {
    /// Parses the arguments. A global flag that the command does not heed is wrong usage: whoever
    /// typed it believes that it did something. In the environment it may stand for the others.
    fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut definition = help::with_examples(Self::command());
        let matches = definition.try_get_matches_from_mut(arguments)?;
        let cli = Self::from_arg_matches(&matches)?;
        let typed = |flag: &&str| matches.value_source(flag) == Some(ValueSource::CommandLine);
        let (unheeded, why) = cli.command.as_ref().unwrap_or(&Command::Serve).unheeded();
        match unheeded.iter().copied().find(typed) {
            None => Ok(cli),
            Some(flag) => {
                let flag = flag.replace('_', "-");
                let told = format!("--{flag} has no meaning here: {why}");
                Err(definition.error(ErrorKind::ArgumentConflict, told))
            }
        }
    }
}

impl Command {
    /// The global flags that this command does not heed, and why.
    fn unheeded(&self) -> (&'static [&'static str], &'static str) {
        const OF_CLIENTS: &[&str] = &["url", "key_file"];
        const OF_GATEWAYS: &[&str] = &["url", "key_file", "listen", "data_dir", "set", "config"];
        match self {
            Self::Serve | Self::Dev(_) | Self::Check | Self::Config | Self::Openapi => {
                (OF_CLIENTS, "this command asks no running gateway")
            }
            Self::Health(_) => (
                OF_CLIENTS,
                "health asks the operations listener, which --ops or ops.listen names, and needs \
                 no key",
            ),
            Self::Sink(_) => {
                (OF_GATEWAYS, "the sink is no gateway; --port says on which port it listens")
            }
            Self::Verify(_) | Self::Completions(_) | Self::Man(_) => {
                (OF_GATEWAYS, "this command needs no gateway and no configuration")
            }
            Self::Tenants(_)
            | Self::Webhooks(_)
            | Self::Send(_)
            | Self::Tail(_)
            | Self::Bench(_)
            | Self::Deliveries(_)
            | Self::Events(_)
            | Self::Backup(_)
            | Self::Replay(_)
            | Self::Replays(_)
            | Self::Keys(_)
            | Self::SigningSecret(_) => (&[], ""),
        }
    }
}

/// For commands that are one conversation: a runtime on this thread.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

/// Returns when the user, or whoever runs us, asks for the end.
async fn interrupted() {
    let mut terminate = signal(SignalKind::terminate()).expect("the runtime has signals");
    let mut interrupt = signal(SignalKind::interrupt()).expect("the runtime has signals");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Global {
    /// Where the configuration comes from: these flags, the environment, the file.
    pub fn sources(&self) -> Sources {
        let setting = |flag, key: &str, value: &str| FlagSetting {
            flag,
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let named = [
            ("--listen", "server.listen", &self.listen),
            ("--data-dir", "data_dir", &self.data_dir),
        ];
        let set = self.set.iter().map(|(key, value)| setting("--set", key, value));
        let flags = named
            .into_iter()
            .filter_map(|(flag, key, value)| Some(setting(flag, key, value.as_deref()?)))
            .chain(set)
            .collect();
        Sources::of_process(self.config.clone(), flags)
    }

    pub fn load(&self) -> Result<Config, ConfigErrors> {
        crate::config::load(&self.sources())
    }
}

fn key_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("must be key=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// The signing secret in a variable of the environment.
fn secret_from(variable: &str) -> anyhow::Result<SigningSecret> {
    let text = environment::secret(variable)
        .with_context(|| format!("the variable {variable} is not set, or empty"))?;
    text.parse().with_context(|| format!("the variable {variable} holds no signing secret"))
}
