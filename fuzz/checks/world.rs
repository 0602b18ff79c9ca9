//! An API without shards, ingest and network, over a store in memory, for the targets that ask it.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use senderz_gateway::{
    api::{self, Answers, ApiState, Bounds, Jobs, Settings},
    backups::Backups,
    command::{Command, Shards},
    config::{self, Limits},
    directory::{Directory, KeyRing},
    erasures::Erasures,
    guard::Policy,
    replays::Replays,
    sessions::Sessions,
    shutdown::{self, Trigger},
    store::{self, NewEvent},
};
use tokio::{runtime::Runtime, sync::mpsc};
use tower_service::Service as _;

pub(crate) struct World {
    runtime: Runtime,
    state: ApiState,
    pub(crate) directory: Directory,
    pub(crate) tenant_key: String,
    _stop: Trigger,
    /// Nobody takes commands, but they have to have somewhere to go.
    _commands: mpsc::Receiver<Command>,
}

impl World {
    /// With these events of the one tenant.
    pub(crate) fn start(events: Vec<NewEvent>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let opened = store::memory::open(settings()).expect("an empty memory store opens");
        opened.feeds.send(Vec::new()).expect("the store waits to be told");
        let store = opened.store;
        let ring = KeyRing::generate();
        let directory = Directory::load(store.clone(), opened.rows, limits(), ring);
        let directory = directory.expect("no rows");
        let made = directory.create_tenant("acme".parse().expect("an id"), String::new());
        let tenant_key = runtime.block_on(made).expect("there is room").api_key.expose().to_owned();
        let (send, commands) = mpsc::channel(1);
        let settings = Settings {
            limits: limits(),
            policy: Arc::new(Policy::default()),
            max_timeout: Duration::from_secs(60),
            max_in_flight: 100,
            max_replay_rate: 1000,
            stream: config::Stream {
                max_streams: 4,
                max_per_tenant: 2,
                max_lag: Duration::from_secs(1),
                keep_alive: Duration::from_secs(1),
            },
            longest_idempotency_key: 255,
            document: Bytes::new(),
        };
        let bounds = Bounds { window: Duration::from_secs(60), all: 1 << 20, tenant: 1 << 20 };
        let answers = Answers::load(store.clone(), &[], bounds).expect("there are none");
        let shards = Shards::new(vec![send]);
        let (stop, stopped) = shutdown::channel();
        let jobs = config::Replays { rate: 50, max_rate: 1000, per_tenant: 2, jobs: 3, kept: 2 };
        let none = Vec::new;
        let (all, to) = ((store.clone(), directory.clone()), shards.clone());
        let (replays, erasures) = {
            let _inside = runtime.enter();
            let (store, directory) = all;
            let stop = stopped.clone();
            let replays =
                Replays::start(store.clone(), directory.clone(), to.clone(), jobs, none(), stop);
            (replays, Erasures::start(store, directory, to, none(), stopped))
        };
        let replays = replays.expect("there are none");
        let erasures = erasures.expect("there are none");
        let backups =
            Backups::new(store.clone(), config::Backup { dir: "nowhere".into(), rate: 1, keep: 0 });
        let portal = config::load(&config::Sources::default()).expect("valid defaults").portal;
        let sessions = Sessions::new(directory.clone(), portal, "http://127.0.0.1".to_owned());
        let state = ApiState::new(
            directory.clone(),
            store.clone(),
            shards,
            Jobs { replays, erasures, backups },
            sessions,
            answers,
            settings,
        );
        runtime.block_on(store.append(events)).expect("there is room");
        Self { runtime, state, directory, tenant_key, _stop: stop, _commands: commands }
    }

    pub(crate) fn ask(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.runtime.block_on(async {
            let response = api::router(self.state.clone()).call(request).await;
            let (head, body) = response.expect("the router is infallible").into_parts();
            let body = body.collect().await.expect("a body in memory").to_bytes();
            Response::from_parts(head, body)
        })
    }
}

fn limits() -> Limits {
    Limits {
        tenants: 10,
        webhooks_per_tenant: 10,
        keys_per_tenant: 10,
        custom_headers: 20,
        custom_headers_size: 4096,
        description: 1000,
        url: 2048,
        page: 100,
        kept_answers: 1 << 20,
        tenant_kept_answers: 1 << 20,
        webhook_checks: 10,
        webhook_tests: NonZeroU32::MAX,
        tenant_tests: NonZeroU32::MAX,
        audit_records: 1000,
    }
}

fn settings() -> store::Settings {
    store::Settings {
        data_dir: PathBuf::new(),
        cache: 0,
        commit_max_events: 1000,
        commit_max_bytes: 1 << 20,
        commit_max_wait: Duration::from_millis(1),
        entries_max_wait: Duration::from_millis(1),
        retention_age: Duration::from_secs(3600),
        retention_bytes: 1 << 30,
        disk_headroom: 0,
        idempotency_window: Duration::from_secs(60),
        idempotency_max_keys: 1000,
        max_scan_blocks: 1000,
        max_indexed: 1000,
        queue: 64,
    }
}
