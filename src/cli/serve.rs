//! `serve`: run the gateway until it is told to stop.

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Exit, Global, logging};
use crate::{
    app::{self, StartError},
    config::Config,
    directory::LoadError,
    sender::SenderError,
    shard::ShardError,
    shutdown::Alarm,
    store::OpenError,
    trust::TrustError,
};

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let sources = global.sources();
    let config = crate::config::load(&sources)?;
    // Dropped last: it waits for what is still to be written.
    let logging = logging::start(&config.log);
    warn_if_root();
    allow_descriptors(&config);
    // Ingest and the API; each shard, the store and the operations listener have threads of
    // their own.
    let alarm = Alarm::new();
    let runtime = app::runtime(&alarm).context("cannot start the runtime")?;
    let serving = app::serve(config, sources, alarm, |config| logging.set_level(&config.log));
    let ended = runtime.block_on(serving);
    // Forced or failed, it must not wait for threads that wait for customers.
    runtime.shutdown_background();
    match ended {
        Ok(app::Exit::Drained) => Ok(Exit::Ok),
        Ok(app::Exit::Forced) => Ok(Exit::Forced),
        Ok(app::Exit::Failed) => Ok(Exit::Failure),
        Err(error) => {
            tracing::error!(%error, "the gateway did not start");
            Ok(exit_of(&error))
        }
    }
}

/// The exit code that tells a supervisor whether trying again can help.
pub(super) fn exit_of(error: &StartError) -> Exit {
    match error {
        StartError::Bind(_) | StartError::Store(OpenError::InUse(_)) => Exit::Unavailable,
        // Another data_dir, or other rights on this one, another key, another file: nothing that a
        // restart changes.
        StartError::Store(
            OpenError::Unusable { .. } | OpenError::Newer { .. } | OpenError::Older { .. },
        )
        | StartError::Tls(_)
        | StartError::OperatorKey(_)
        | StartError::EncryptionKey(_)
        | StartError::Directory(LoadError::MissingKey { .. })
        | StartError::Headers(_)
        | StartError::Trust(TrustError::CaFile { .. })
        | StartError::Shard(ShardError::Sender(SenderError::Trust(TrustError::CaFile {
            ..
        }))) => Exit::BadConfig,
        StartError::Store(
            OpenError::Broken { .. } | OpenError::Damaged { .. } | OpenError::Lost { .. },
        )
        | StartError::Directory(_)
        | StartError::Answers(_)
        | StartError::Replays(_)
        | StartError::Trust(_)
        | StartError::Shard(_)
        | StartError::Erasures(_)
        | StartError::Recovery(_) => Exit::Failure,
    }
}

fn warn_if_root() {
    if rustix::process::geteuid().is_root() {
        tracing::warn!("running as root; the gateway needs no privileges");
    }
}

/// File descriptors beside those of connections: listeners, runtimes, the store's files, the index's.
const OTHER_DESCRIPTORS: u64 = 300;

/// Shells and service managers allow a process far fewer descriptors than it may ask for, for the sake
/// of programs that select(2). Connections need one each.
fn allow_descriptors(config: &Config) {
    let limits = getrlimit(Resource::Nofile);
    let most = limits.maximum;
    if limits.current != most
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: most, ..limits })
    {
        tracing::debug!(%error, "the limit of file descriptors stays as it is");
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = config.server.max_connections + config.pool.max_connections;
    let wanted = connections as u64 + OTHER_DESCRIPTORS;
    if allowed < wanted {
        tracing::warn!(
            allowed,
            wanted,
            "fewer file descriptors are allowed than server.max_connections and \
             pool.max_connections need; without one, attempts are put off and connections wait"
        );
    }
}
