//! The life of a served gateway: banner, signals, exit.

use std::{
    io::{IsTerminal as _, Write as _},
    task::{Context, Waker},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{Drained, Gateway, GivenKeys, StartError, supervisor};
use crate::{
    config::{self, Config, Listen, Sources},
    directory::{OperatorKey, encryption_key::Origin},
    shutdown::Alarm,
};

/// How a gateway that was started ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Drained: all attempts under way ended, or were left to the next start.
    Drained,
    /// A second signal cut the drain short.
    Forced,
    /// The store failed; what was acknowledged is safe.
    Failed,
}

/// Runs the gateway on a [`runtime`](super::runtime()) of this alarm until it is told to stop. The
/// sources are read again on SIGHUP; `reloaded` is
/// told of a configuration that is in force then.
pub async fn serve(
    config: Config,
    sources: Sources,
    alarm: Alarm,
    reloaded: impl Fn(&Config),
) -> Result<Exit, StartError> {
    let mut signals = Signals::install().map_err(|e| StartError::Bind(e.to_string()))?;
    let given = GivenKeys::of_process();
    let explained = config::load_explained(&sources).ok();
    let starting = Gateway::start(config, &given, alarm);
    let mut gateway = tokio::select! {
        started = starting => started?,
        // Reloads asked for meanwhile are served by the start itself.
        () = async { while signals.next().await != Asked::Stop {} } => {
            tracing::info!("stopped while starting; nothing was accepted yet");
            return Ok(Exit::Drained);
        }
    };
    if let Some((_, explained)) = &explained {
        gateway.explain(explained);
    }
    banner(&gateway);
    show_link(&gateway).await;
    supervisor::ready();
    loop {
        tokio::select! {
            what = gateway.failure() => {
                tracing::error!(what, "stopping after a failure; what was acknowledged is safe");
                supervisor::stopping("stopping after a failure");
                return Ok(Exit::Failed);
            }
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => {
                    supervisor::reloading();
                    reload(&mut gateway, &sources, &reloaded).await;
                    supervisor::ready();
                }
            },
        }
    }
    tracing::info!("stopping: no new requests, no new attempts");
    supervisor::stopping("draining");
    let forced = async {
        // Some supervisors signal a process and its group: the same ask twice is not impatience.
        tokio::time::sleep(SAME_ASK).await;
        signals.forget_stops();
        while signals.next().await != Asked::Stop {}
    };
    tokio::select! {
        drained = gateway.drain() => {
            let Drained { requests_cut, attempts, attempts_abandoned } = drained;
            tracing::info!(attempts_since_start = attempts, attempts_abandoned, requests_cut, "stopped");
            Ok(Exit::Drained)
        }
        () = forced => {
            tracing::warn!("forced to stop; attempts under way are made again after the next start");
            Ok(Exit::Forced)
        }
    }
}

/// Stop signals this close together are one.
const SAME_ASK: Duration = Duration::from_millis(100);

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    reload: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    fn forget_stops(&mut self) {
        for stop in [&mut self.terminate, &mut self.interrupt] {
            let mut context = Context::from_waker(Waker::noop());
            while stop.poll_recv(&mut context).is_ready() {}
        }
    }

    /// Cancel-safe.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.reload.recv() => Asked::Reload,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Stop,
    Reload,
}

async fn reload(gateway: &mut Gateway, sources: &Sources, reloaded: &impl Fn(&Config)) {
    // Reading files is short and rare.
    let (config, explained) = match config::load_explained(sources) {
        Ok(loaded) => loaded,
        Err(errors) => {
            let errors = errors.to_string().replace('\n', ";");
            tracing::error!(errors, "not reloaded: the configuration has mistakes");
            return;
        }
    };
    match gateway.reload(config.clone()).await {
        Ok(()) => {
            gateway.explain(&explained);
            reloaded(&config);
            tracing::info!("configuration reloaded");
        }
        Err(keys) => {
            tracing::error!(keys = keys.join(", "), "not reloaded: these keys need a restart");
        }
    }
}

/// A way into the portal for whoever sits before a terminal; what is kept in a log is no place for
/// it.
async fn show_link(gateway: &Gateway) {
    let mut out = std::io::stdout();
    if !out.is_terminal() {
        return;
    }
    if let Some(link) = gateway.operator_link().await {
        let text = format!("  open the portal as the operator, once:\n           {link}\n");
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// What an operator needs to know first, on standard output.
pub(crate) fn banner(gateway: &Gateway) {
    let scheme = if gateway.has_tls { "https" } else { "http" };
    let api = match &gateway.api {
        Listen::Tcp(address) => format!("{scheme}://{address}"),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    };
    let mut text = format!("senderz-gateway {}\n  api      {api}\n", env!("CARGO_PKG_VERSION"));
    if let Some(portal) = gateway.portal() {
        text += &format!("  portal   {portal}\n");
    }
    if let Some(ops) = gateway.ops {
        text += &format!("  metrics  http://{ops}/metrics\n");
    }
    text += &format!("  data     {}\n", gateway.data_dir.display());
    if let OperatorKey::Made(key) = &gateway.operator_key {
        text += &format!(
            "  operator key, shown once and kept in {}:\n           {}\n",
            gateway.data_dir.join("operator.key").display(),
            key.expose()
        );
    }
    if let Origin::Made(path) = &gateway.encryption_key {
        text += &format!(
            "  encryption key, made now: keep a copy of\n           {}\n           apart from \
             backups of the data directory; secrets cannot be read without it\n",
            path.display()
        );
    }
    let mut out = std::io::stdout();
    // A closed standard output is no reason not to run.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
