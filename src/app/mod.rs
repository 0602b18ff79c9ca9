//! The composition root: configuration in, running gateway out.
//!
//! Start: open the store, bind the listeners early, start the shards, let the store recover into
//! them, then serve and release readiness. Drain: readiness off, no new requests, no new attempts,
//! entries written, store closed. The operations listener lives from before the first to after the
//! last of these.

mod about;
mod addresses;
mod check;
mod keys;
pub mod openapi;
mod runtime;
mod serve;
mod settings;
mod shards;
mod supervisor;
mod tracer;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

pub(crate) use self::serve::banner;
use self::{
    about::About,
    addresses::{base_url, own_addresses, own_addresses_of},
};
pub use self::{
    check::{check, verify_backup},
    keys::GivenKeys,
    runtime::runtime,
    serve::{Exit, serve},
    tracer::HeadersError,
};
use crate::{
    api::{self, Answers, ApiState, BadAnswer, Jobs},
    audit::{Action, Done},
    backups::Backups,
    clock::{self, Clock},
    command::Shards,
    config::{Config, Effective, Listen},
    directory::{
        Directory, EncryptionKeyError, LoadError, OperatorKey, OperatorKeyError, encryption_key,
    },
    erasures::{self, Erasures},
    guard::Policy,
    ingest::Ingest,
    metrics,
    ops::{self, Readiness, reason},
    portal,
    replays::{self, Replays},
    server::{self, Front, Listener, TlsError},
    sessions::{LinkOf, Sessions},
    shard::{self, Report, ShardError},
    shutdown::{self, Alarm, Signal, Trigger},
    spans::{self, Exporter, ExporterError},
    store::{self, Health, OpenError, Opened, Store},
    trust::TrustError,
};

/// How often gauges that nobody else keeps are set.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address is taken or not ours.
    #[error("{0}")]
    Bind(String),
    /// A listener's certificate or key is not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Directory(#[from] LoadError),
    #[error(transparent)]
    Answers(#[from] BadAnswer),
    #[error(transparent)]
    Replays(#[from] replays::LoadError),
    #[error(transparent)]
    Erasures(#[from] erasures::LoadError),
    #[error(transparent)]
    OperatorKey(#[from] OperatorKeyError),
    #[error(transparent)]
    EncryptionKey(#[from] EncryptionKeyError),
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// Certificates of the operator's are not usable.
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Headers(#[from] HeadersError),
    /// Something ended or refused to go on before every delivery that waits was found again.
    #[error("recovery did not finish: {0}")]
    Recovery(String),
}

impl From<server::BindError> for StartError {
    fn from(error: server::BindError) -> Self {
        match error {
            server::BindError::Tls(error) => Self::Tls(error),
            other => Self::Bind(other.to_string()),
        }
    }
}

impl From<ExporterError> for StartError {
    fn from(error: ExporterError) -> Self {
        match error {
            ExporterError::Trust(error) => Self::Trust(error),
            ExporterError::Thread(error) => Self::Shard(ShardError::Thread(error)),
        }
    }
}

impl From<ops::BindError> for StartError {
    fn from(error: ops::BindError) -> Self {
        Self::Bind(error.to_string())
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    pub api: Listen,
    pub has_tls: bool,
    pub ops: Option<SocketAddr>,
    pub operator_key: OperatorKey,
    pub encryption_key: encryption_key::Origin,
    pub data_dir: PathBuf,
    config: Config,
    readiness: Readiness,
    state: ApiState,
    about: About,
    sessions: Sessions,
    directory: Directory,
    store: Store,
    front: Serving,
    shards: Vec<JoinHandle<Report>>,
    reloads: Vec<mpsc::Sender<Box<shard::Settings>>>,
    stop_jobs: Trigger,
    stop_shards: Trigger,
    stop_ops: Trigger,
    threads: Vec<JoinHandle<()>>,
    exporter: Option<Exporter>,
    clock: Clock,
    alarm: Alarm,
}

/// The serving listener's task and what stops it.
#[derive(Debug)]
struct Serving {
    stop: Trigger,
    served: tokio::task::JoinHandle<usize>,
}

/// What a drain came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Requests that were cut off.
    pub requests_cut: usize,
    pub attempts: u64,
    /// Attempts under way that the deadline left to the next start.
    pub attempts_abandoned: u64,
}

impl Gateway {
    /// Starts everything and returns once it serves. Must be called on a [`runtime`] that raises
    /// the same alarm.
    pub async fn start(
        config: Config,
        given: &GivenKeys,
        alarm: Alarm,
    ) -> Result<Self, StartError> {
        let started = clock::instant();
        given.judge(&config)?;
        let readiness = Readiness::new();
        let starting = readiness.hold(reason::STARTING);
        let (stop_ops, ops_signal) = shutdown::channel();
        // Both ports are bound before any work, so that a taken one is told at once.
        let listener = Listener::bind(&config.server)?;
        let ops = ops::start(
            config.ops.listen,
            readiness.clone(),
            metrics::install(),
            ops_signal,
            alarm.watch_over("the operations thread"),
        )?;
        let (tracer, exporter) = spans::start(&tracer::settings(&config, given)?)?;
        let opened = open_store(&config).await?;
        let Opened { store, mut rows, feeds, mut threads } = opened;
        let replay_rows = Replays::take_rows(&mut rows);
        let erasure_rows = Erasures::take_rows(&mut rows);
        threads.push(ops.thread);
        let answers = Answers::take_rows(&mut rows);
        let answers = Answers::load(store.clone(), &answers, settings::answers(&config))?;
        let (directory, encryption_key) = keys::directory(&config, given, &store, rows).await?;
        directory.set_operations(config.ops.tenant.clone());
        let operator_key = directory.ensure_operator_key(given.operator(), &config.data_dir)?;
        let clock = Clock::start();
        let policy = settings::policy(&config, &own_addresses(&listener, ops.address));

        let (stop_shards, shards_signal) = shutdown::channel();
        let common = shards::Common {
            config: &config,
            policy: &policy,
            store: &store,
            directory: &directory,
            clock,
            drain: &shards_signal,
            alarm: &alarm,
            tracer,
        };
        let started_shards = common.start().await?;
        feeds
            .send(started_shards.feeds)
            .map_err(|_| StartError::Recovery("the store stopped while it opened".to_owned()))?;
        let recovering = readiness.hold(reason::RECOVERING);
        tokio::select! {
            recovered = shards::all_recovered(started_shards.recovered) => {
                recovered.map_err(|_| recovery_failure(&store))?;
            }
            what = store_poisoned(&store) => return Err(StartError::Recovery(what)),
            what = alarm.raised() => return Err(StartError::Recovery(format!("{what} ended"))),
        }
        recovering.release();

        ::metrics::gauge!(metrics::SHARDS).set(config.runtime.shards as f64);

        let commands = Shards::new(started_shards.commands);
        let (stop_jobs, jobs_signal) = shutdown::channel();
        let replays = Replays::start(
            store.clone(),
            directory.clone(),
            commands.clone(),
            config.replays.clone(),
            replay_rows,
            jobs_signal.clone(),
        )?;
        let erasures = Erasures::start(
            store.clone(),
            directory.clone(),
            commands.clone(),
            erasure_rows,
            jobs_signal,
        )?;
        let backups = Backups::new(store.clone(), config.backup.clone());
        look_for_backups(config.backup.dir.clone());
        let base = base_url(listener.local_addr(), listener.has_tls());
        let sessions = Sessions::new(directory.clone(), config.portal.clone(), base);
        let state = ApiState::new(
            directory.clone(),
            store.clone(),
            commands,
            Jobs { replays, erasures, backups },
            sessions.clone(),
            answers,
            api_settings(&config, &policy, openapi::bytes(&config)),
        );
        let ingest = Ingest::new(
            config.ingest.clone(),
            config.server.body_timeout,
            Arc::new(directory.clone()),
            store.clone(),
        );
        let about = About::new(readiness.clone(), metrics::install());
        let mut router = api::router(state.clone());
        if config.portal.enabled {
            router = router.clone().merge(portal::router(
                router,
                sessions.clone(),
                directory.clone(),
                config.portal.clone(),
                Arc::new(about.clone()),
            ));
        }
        let front = Front::new(Arc::new(ingest), router, config.server.body_timeout);
        let (stop, signal) = shutdown::channel();
        let api = listener.local_addr().clone();
        let has_tls = listener.has_tls();
        let serving = listener.serve(Arc::new(front), signal.clone());
        let vigil = alarm.watch_over("the listener");
        let served = tokio::spawn(async move {
            let cut = serving.await;
            vigil.stand_down();
            cut
        });
        tokio::spawn(watch_gauges(directory.clone(), signal));
        starting.release();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            after_ms = started.elapsed().as_millis() as u64,
            "serving"
        );
        Ok(Self {
            api,
            has_tls,
            ops: ops.address,
            operator_key,
            encryption_key,
            data_dir: config.data_dir.clone(),
            config,
            readiness,
            state,
            about,
            sessions,
            directory,
            store,
            front: Serving { stop, served },
            shards: started_shards.threads,
            reloads: started_shards.reloads,
            stop_jobs,
            stop_shards,
            stop_ops,
            threads,
            exporter,
            clock,
            alarm,
        })
    }

    /// Where the portal is; none where it is off or behind a socket that browsers do not reach.
    pub fn portal(&self) -> Option<String> {
        let is_reachable = matches!(self.api, Listen::Tcp(_)) && self.config.portal.enabled;
        is_reachable.then(|| base_url(&self.api, self.has_tls) + "/portal/")
    }

    /// A link that lets one browser in as the operator, once; none where no browser gets there.
    pub async fn operator_link(&self) -> Option<String> {
        self.portal()?;
        let (link, _) = self.sessions.link(LinkOf::Operator, None)?;
        let made = Done::of_gateway(Action::PortalLinkCreated);
        self.directory.note(made).await.ok()?;
        Some(link)
    }

    /// Lets operators see the configuration in force and where each value comes from.
    pub fn explain(&self, configuration: &Effective) {
        self.about.explain(configuration.to_page());
    }

    /// Returns what failed once something did that the gateway cannot go on without: the store, or
    /// a thread that ended by itself. What was acknowledged is safe, and delivered after a restart.
    pub async fn failure(&self) -> String {
        tokio::select! {
            what = self.store_failure() => what,
            what = self.alarm.raised() => {
                self.readiness.set(reason::THREAD_FAILED, true);
                format!("{what} ended by itself")
            }
        }
    }

    /// Keeps readiness in step with the store until that is poisoned.
    async fn store_failure(&self) -> String {
        let mut health = self.store.health.clone();
        loop {
            let Health { poisoned, full } = health.borrow_and_update().clone();
            self.readiness.set(reason::STORE_FULL, full);
            if let Some(what) = poisoned {
                self.readiness.set(reason::STORE_FAILED, true);
                return what;
            }
            if health.changed().await.is_err() {
                // The store's thread is gone without a word: as bad as an error.
                self.readiness.set(reason::STORE_FAILED, true);
                return "the store's thread ended".to_owned();
            }
        }
    }

    /// Puts a new configuration into force, or names the keys that need a restart and changes
    /// nothing.
    pub async fn reload(&mut self, config: Config) -> Result<(), Vec<&'static str>> {
        let need_restart = settings::need_restart(&self.config, &config);
        if !need_restart.is_empty() {
            return Err(need_restart);
        }
        let own = own_addresses_of(&self.api, self.ops);
        let policy = settings::policy(&config, &own);
        self.state.reload(api_settings(&config, &policy, openapi::bytes(&config)));
        for (index, shard) in self.reloads.iter().enumerate() {
            let settings = settings::shard(&config, &policy, index, self.clock);
            // A shard that is gone is draining; it needs no new settings.
            let _ = shard.send(Box::new(settings)).await;
        }
        self.directory.set_operations(config.ops.tenant.clone());
        // Webhooks that leave a setting to the default are made anew with it.
        self.directory.announce_all().await;
        self.config = config;
        Ok(())
    }

    /// Stops in order. Every attempt that ended is recorded when this returns.
    pub async fn drain(self) -> Drained {
        self.readiness.set(reason::DRAINING, true);
        self.state.end_streams();
        self.front.stop.fire();
        let requests_cut = self.front.served.await.unwrap_or_default();
        self.stop_jobs.fire();
        self.state.replays.stopped().await;
        self.state.erasures.stopped().await;
        self.stop_shards.fire();
        let reports = join(self.shards).await;
        // The last handles besides ours, so that nothing is written after the close.
        drop((self.state, self.sessions, self.directory));
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store did not close cleanly");
        }
        if let Some(exporter) = self.exporter {
            exporter.finish().await;
        }
        self.stop_ops.fire();
        join(self.threads).await;
        Drained {
            requests_cut,
            attempts: reports.iter().map(|report| report.attempts).sum(),
            attempts_abandoned: reports.iter().map(|report| report.abandoned).sum(),
        }
    }
}

/// Opening reads the disk, so it stays off the runtime's threads.
async fn open_store(config: &Config) -> Result<Opened, StartError> {
    let settings = settings::store(config);
    let opening = tokio::task::spawn_blocking(move || store::sled::open(settings));
    Ok(opening.await.map_err(|error| StartError::Recovery(error.to_string()))??)
}

/// Returns what failed once the store is poisoned.
async fn store_poisoned(store: &Store) -> String {
    let mut health = store.health.clone();
    match health.wait_for(|health| health.poisoned.is_some()).await {
        Ok(health) => health.poisoned.clone().unwrap_or_default(),
        Err(_) => "the store's thread ended".to_owned(),
    }
}

fn recovery_failure(store: &Store) -> StartError {
    let poisoned = store.health.borrow().poisoned.clone();
    StartError::Recovery(poisoned.unwrap_or_else(|| "a delivery thread ended".to_owned()))
}

fn api_settings(config: &Config, policy: &Arc<Policy>, document: Bytes) -> api::Settings {
    api::Settings {
        limits: config.limits.clone(),
        stream: config.stream.clone(),
        policy: Arc::clone(policy),
        max_timeout: config.delivery.max_timeout,
        max_in_flight: config.delivery.max_in_flight,
        longest_idempotency_key: config.ingest.max_idempotency_key,
        max_replay_rate: config.replays.max_rate,
        document,
    }
}

/// Sets the gauges that belong to no shard, until the signal.
/// How old the last backup is should be known although this process has made none. The directory may
/// be on a disk that is slow to answer, so nobody waits for it.
fn look_for_backups(dir: PathBuf) {
    tokio::task::spawn_blocking(move || {
        if let Some(at) = store::sled::newest_backup(&dir) {
            metrics::backup_made(at);
        }
    });
}

async fn watch_gauges(directory: Directory, mut stop: Signal) {
    let enabled = ::metrics::gauge!(metrics::WEBHOOKS, "state" => "enabled");
    let disabled = ::metrics::gauge!(metrics::WEBHOOKS, "state" => "disabled");
    loop {
        let (on, off) = directory.webhook_counts();
        enabled.set(on as f64);
        disabled.set(off as f64);
        tokio::select! {
            () = stop.fired() => return,
            () = tokio::time::sleep(GAUGES_EVERY) => {}
        }
    }
}

/// Waits for threads without blocking the runtime. One that panicked has been reported by the
/// panic hook and counts as having done nothing.
async fn join<T: Default + Send + 'static>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    let all = move || threads.into_iter().map(|t| t.join().unwrap_or_default()).collect();
    tokio::task::spawn_blocking(all).await.unwrap_or_default()
}
