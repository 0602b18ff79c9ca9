//! A directory with tenants in it, over a store that keeps nothing.

use std::{num::NonZeroU32, sync::Arc};

use senderz_gateway::{
    config::Limits,
    directory::{Directory, KeyRing, WebhookPatch},
    event::{EventType, EventTypes},
    id::{NodeNo, TenantNo},
    ingest::Tenants as _,
    store::{Health, Route, Store, Write},
};
use tokio::sync::{mpsc, watch};

use super::webhook_url;

/// Tenants with a webhook each.
pub(crate) struct Tenants {
    directory: Directory,
    names: Vec<String>,
    next: usize,
}

impl Tenants {
    pub(crate) fn new(count: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let directory =
                Directory::load(store(), Vec::new(), limits(count), KeyRing::generate());
            let directory = directory.expect("no rows");
            let names: Vec<_> = (1..=count).map(|no| format!("tenant-{no:04}")).collect();
            for (name, no) in names.iter().zip(1..) {
                add(&directory, name, TenantNo(no)).await;
            }
            Self { directory, names, next: 0 }
        })
    }

    /// What ingest asks for each event.
    pub(crate) fn look_up(&mut self) -> Arc<[Route]> {
        self.next = (self.next + 1) % self.names.len();
        let found = self.directory.routes(&self.names[self.next], EventType::Delivered);
        found.expect("the tenant is there").1
    }
}

async fn add(directory: &Directory, name: &str, no: TenantNo) {
    let id = name.parse().expect("a tenant's id");
    directory.create_tenant(id, String::new()).await.expect("it is kept");
    let url = webhook_url(([192, 0, 2, 1], 8443).into());
    let (events, patch) = (EventTypes::ALL, WebhookPatch::default());
    directory.create_webhook(no, url, events, patch).await.expect("it is kept");
}

/// A store that says yes to every row, as long as the runtime lives that it was made in.
fn store() -> Store {
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

fn limits(tenants: u32) -> Limits {
    Limits {
        tenants: tenants as usize,
        webhooks_per_tenant: 1,
        keys_per_tenant: 1,
        custom_headers: 20,
        custom_headers_size: 4096,
        description: 1000,
        url: 2048,
        page: 100,
        kept_answers: 1024,
        tenant_kept_answers: 1024,
        webhook_checks: 2,
        webhook_tests: NonZeroU32::MIN,
        tenant_tests: NonZeroU32::MIN,
        audit_records: 1000,
    }
}
