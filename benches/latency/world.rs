//! A gateway, its tenants, and the one thread that sends it events and receives what it delivers.

use std::{path::Path, rc::Rc};

use serde_json::json;
use tokio::{runtime::Runtime, task::LocalSet};

use crate::{
    crew::{Crew, number_in},
    options::Options,
    rig::{
        LOAD_CPU, TICKS_PER_SECOND, cpu_ticks,
        gateway::Gateway,
        pin,
        set_up::{self, address},
    },
    sink::{Count, Manner, listen, listen_apart},
    tape::{Course, Nanos, Tape},
};

/// Tenants whose receiver answers at once, with a webhook each; events go to them in turns.
const GOOD: usize = 10;
/// The bad one comes after them.
pub(crate) const BAD: usize = GOOD;

/// The shorter it is, the more attempts hang and end in a second.
const BAD_TIMEOUT: &str = "1s";

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) crew: Rc<Crew>,
    /// Requests that the bad tenant's receiver got.
    pub(crate) bad_requests: Count,
    /// Events a second that the gateway can take and deliver.
    pub(crate) capacity: f64,
    runtime: Runtime,
    local: LocalSet,
    _dir: tempfile::TempDir,
}

impl World {
    /// A gateway past its first seconds (its caches are filled then). With `bad`, one more tenant
    /// with many webhooks, to which nothing is sent yet.
    pub(crate) fn start(
        options: &Options,
        certificates: &Path,
        bad: Option<Manner>,
        capacity: Option<f64>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(&options.dir)?;
        let settings = [
            // The share that a tenant has by default; the rig would let one have everything.
            ("SENDERZ_DELIVERY__TENANT_SHARE", "0.5".to_owned()),
            // Many connections are there for a burst and may wait long for their first request.
            ("SENDERZ_SERVER__HEADER_TIMEOUT", "10m".to_owned()),
        ];
        let data = dir.path().join("data");
        let gateway = Gateway::start(options.gateway.as_deref(), &data, certificates, &settings)?;
        pin(LOAD_CPU)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (local, tape, bad_requests) = (LocalSet::new(), Rc::new(Tape::new()), Count::default());
        let (crew, good, bad) = local.block_on(&runtime, async {
            let played = Rc::clone(&tape);
            let seen = move |request: &[u8]| {
                number_in(request).into_iter().for_each(|number| played.received(number));
            };
            let good = listen(Manner::Good, seen)?.port();
            let bad = bad.map(|manner| listen_apart(manner, bad_requests.clone())).transpose()?;
            let crew = Crew::start(gateway.api, GOOD, tape);
            anyhow::Ok((crew, good, bad.map(|bad| bad.port())))
        })?;
        let url = |port, host| format!("http://{}:{port}/hook", address(host));
        set_up::tenants(gateway.api, GOOD + usize::from(bad.is_some()), |tenant| match bad {
            Some(bad) if tenant == BAD => {
                let hosts = 0..options.bad_webhooks;
                let webhook =
                    |host| json!({"url": url(bad, host), "events": ["*"], "timeout": BAD_TIMEOUT});
                hosts.map(webhook).collect()
            }
            _ => vec![json!({"url": url(good, 0), "events": ["*"]})],
        })?;
        let world = Self { gateway, crew, bad_requests, capacity: 0.0, runtime, local, _dir: dir };
        world.closed_loop(options.warm_up)?;
        let capacity = match capacity {
            Some(known) => known,
            None => world.closed_loop(options.warm_up)?,
        };
        Ok(Self { capacity, ..world })
    }

    fn closed_loop(&self, seconds: f64) -> anyhow::Result<f64> {
        self.run(self.crew.closed_loop(seconds))
    }

    /// Lets the thread go until this is over.
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.local.block_on(&self.runtime, what)
    }

    /// A phase of open-loop load, and the share of its processor that the gateway took for it.
    pub(crate) async fn measure(&self, arrivals: &[Nanos]) -> anyhow::Result<Phase> {
        let before = cpu_ticks(self.gateway.pid())?;
        let courses = self.crew.open_loop(arrivals).await?;
        let after = cpu_ticks(self.gateway.pid())?;
        let ticks = after.0 + after.1 - before.0 - before.1;
        let last = courses.iter().filter_map(|course| course.received).max().unwrap_or_default();
        let seconds = last as f64 / 1e9;
        Ok(Phase { courses, seconds, gateway_cpu: ticks as f64 / TICKS_PER_SECOND / seconds })
    }
}

pub(crate) struct Phase {
    pub(crate) courses: Vec<Course>,
    /// Until the last event arrived.
    pub(crate) seconds: f64,
    pub(crate) gateway_cpu: f64,
}
