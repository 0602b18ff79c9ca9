//! The API over a real store, without shards: what they would do, `fill` does.

use std::{num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use axum::{
    Router,
    body::{Body, to_bytes},
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use senderz_gateway::{
    api::{self, Answers, ApiState, Jobs},
    backups::Backups,
    command::{Command, Shards},
    config::{self, Limits},
    directory::{Directory, KeyRing, WebhookPatch},
    erasures::Erasures,
    event::EventTypes,
    guard::{Host, Policy, Scheme, WebhookUrl},
    id::{NodeNo, TenantNo, WebhookId, WebhookNo},
    replays::Replays,
    sessions::Sessions,
    shutdown::{self, Trigger},
    store::{self, Health, Opened, Store, Write},
};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

use crate::options::Options;

const OPERATOR: &str = "szk_operator_0123456789abcdefghijklmnopqrstuv";
pub(crate) const TENANTS: u32 = 400;
pub(crate) const WEBHOOKS: u32 = 25;

pub(crate) struct World {
    pub(crate) store: Store,
    /// Of each tenant, its webhooks.
    pub(crate) webhooks: Vec<Vec<(WebhookNo, WebhookId)>>,
    router: Router,
    threads: Vec<std::thread::JoinHandle<()>>,
    _commands: mpsc::Receiver<Command>,
    _stop: Trigger,
}

impl World {
    pub(crate) async fn open(dir: &Path, options: &Options) -> anyhow::Result<Self> {
        let Opened { store, feeds, threads, .. } = store::sled::open(settings(dir, options))?;
        ensure!(feeds.send(Vec::new()).is_ok(), "the store waits to be told");
        let directory = Directory::load(kept_nowhere(), Vec::new(), limits(), KeyRing::generate())?;
        directory.ensure_operator_key(Some(OPERATOR), dir)?;
        let tenants = if options.quick { TENANTS / 10 } else { TENANTS };
        let mut webhooks = Vec::new();
        for no in 1..=tenants {
            webhooks.push(add_tenant(&directory, no).await?);
        }
        let (send, commands) = mpsc::channel(1);
        let shards = Shards::new(vec![send]);
        let bounds = api::Bounds { window: Duration::from_secs(60), all: 1024, tenant: 1024 };
        let answers = Answers::load(store.clone(), &[], bounds)?;
        let (stop, stopped) = shutdown::channel();
        let jobs = config::Replays { rate: 50, max_rate: 50, per_tenant: 1, jobs: 1, kept: 1 };
        let replays = Replays::start(
            store.clone(),
            directory.clone(),
            shards.clone(),
            jobs,
            Vec::new(),
            stopped.clone(),
        )?;
        let erasures =
            Erasures::start(store.clone(), directory.clone(), shards.clone(), Vec::new(), stopped)?;
        let backups =
            Backups::new(store.clone(), config::Backup { dir: "nowhere".into(), rate: 1, keep: 0 });
        let portal = config::load(&config::Sources::default())?.portal;
        let sessions = Sessions::new(directory.clone(), portal, "http://127.0.0.1".to_owned());
        let state = ApiState::new(
            directory,
            store.clone(),
            shards,
            Jobs { replays, erasures, backups },
            sessions,
            answers,
            api_settings(),
        );
        let router = api::router(state);
        Ok(Self { store, webhooks, router, threads, _commands: commands, _stop: stop })
    }

    /// What the API answers to a tenant's GET.
    pub(crate) async fn get(&self, tenant: usize, path: &str) -> anyhow::Result<Value> {
        let request = Request::get(path)
            .header(header::AUTHORIZATION, format!("Bearer {OPERATOR}"))
            .header("senderz-tenant", name(tenant as u32 + 1))
            .body(Body::empty())?;
        let response = self.router.clone().oneshot(request).await?;
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 24).await?;
        let text = || String::from_utf8_lossy(&body).into_owned();
        ensure!(status == StatusCode::OK, "{path}: {status} {}", text());
        serde_json::from_slice(&body).with_context(text)
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.store.close().await?;
        let Self { store, router, threads, .. } = self;
        drop((store, router));
        for thread in threads {
            ensure!(thread.join().is_ok(), "a thread of the store panicked");
        }
        Ok(())
    }
}

fn name(no: u32) -> String {
    format!("tenant-{no:04}")
}

async fn add_tenant(directory: &Directory, no: u32) -> anyhow::Result<Vec<(WebhookNo, WebhookId)>> {
    directory.create_tenant(name(no).parse()?, String::new()).await?;
    for _ in 0..WEBHOOKS {
        let url = WebhookUrl {
            scheme: Scheme::Https,
            host: Host::V4([192, 0, 2, 1].into()),
            port: 443,
            path_and_query: "/hooks/senderz".to_owned(),
        };
        let (events, patch) = (EventTypes::ALL, WebhookPatch::default());
        directory.create_webhook(TenantNo(no), url, events, patch).await?;
    }
    let webhooks = directory.webhooks(TenantNo(no), None, usize::MAX);
    Ok(webhooks.iter().map(|webhook| (webhook.no, webhook.id)).collect())
}

/// The defaults of config.toml where they matter here.
fn settings(dir: &Path, options: &Options) -> store::Settings {
    store::Settings {
        data_dir: dir.join("data"),
        cache: 64 << 20,
        commit_max_events: 2000,
        commit_max_bytes: 4 << 20,
        commit_max_wait: Duration::from_millis(5),
        entries_max_wait: Duration::from_millis(10),
        retention_age: Duration::from_secs(3 * 24 * 3600),
        retention_bytes: 10 << 30,
        disk_headroom: 256 << 20,
        idempotency_window: Duration::from_secs(24 * 3600),
        idempotency_max_keys: 1_000_000,
        max_scan_blocks: 20_000,
        max_indexed: if options.with_index { 100_000_000 } else { 0 },
        queue: 1024,
    }
}

fn api_settings() -> api::Settings {
    api::Settings {
        limits: limits(),
        stream: config::Stream {
            max_streams: 1,
            max_per_tenant: 1,
            max_lag: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
        },
        policy: Arc::new(Policy::default()),
        max_timeout: Duration::from_secs(60),
        max_in_flight: 64,
        max_replay_rate: 50,
        longest_idempotency_key: 255,
        document: Bytes::new(),
    }
}

fn limits() -> Limits {
    Limits {
        tenants: TENANTS as usize,
        webhooks_per_tenant: WEBHOOKS as usize,
        keys_per_tenant: 1,
        custom_headers: 20,
        custom_headers_size: 4096,
        description: 1000,
        url: 2048,
        page: 100,
        kept_answers: 1024,
        tenant_kept_answers: 1024,
        webhook_checks: 1,
        webhook_tests: NonZeroU32::MIN,
        tenant_tests: NonZeroU32::MIN,
        audit_records: 1000,
    }
}

/// A store for the directory's rows: ten thousand of them would each be synced, and nobody reads
/// them again.
fn kept_nowhere() -> Store {
    let (writes, mut asked) = mpsc::channel(1);
    let (reads, _) = mpsc::channel(1);
    let (_, health) = watch::channel(Health::default());
    tokio::spawn(async move {
        while let Some(Write::Rows { reply, .. }) = asked.recv().await {
            // Whoever asked may have gone.
            let _ = reply.send(Ok(()));
        }
    });
    let (_, recorded) = watch::channel(0);
    Store { writes, reads, health, recorded, node: NodeNo(1) }
}
