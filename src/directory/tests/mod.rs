//! The directory against a store whose answers the test holds in its hand.

mod disable;
mod load;
mod memory;
mod operator;
mod order;
mod seal;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::*;
use crate::{
    event::EventTypes,
    guard::{Policy, WebhookUrl},
    id::NodeNo,
    store::{Health, StoreError, Write},
    tenant::TenantId,
};

type Rows = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

type Reply = oneshot::Sender<Result<(), StoreError>>;

/// A store handle and the writes that arrive on it, unanswered.
fn held_store() -> (Store, mpsc::Receiver<Write>) {
    let (writes, asked) = mpsc::channel(16);
    let (reads, _) = mpsc::channel(1);
    let (_, health) = watch::channel(Health::default());
    let (_, recorded) = watch::channel(0);
    (Store { writes, reads, health, recorded, node: NodeNo(1) }, asked)
}

async fn next_rows(asked: &mut mpsc::Receiver<Write>) -> Reply {
    match asked.recv().await.expect("the directory writes") {
        Write::Rows { reply, .. } => reply,
        other => panic!("the directory writes rows only, not {other:?}"),
    }
}

/// A store that keeps every row at once.
fn keeping_store() -> (Store, Rows) {
    let (store, mut asked) = held_store();
    let rows: Rows = Arc::default();
    let kept = Arc::clone(&rows);
    tokio::spawn(async move {
        while let Some(write) = asked.recv().await {
            let Write::Rows { bundle, reply } = write else { panic!("rows only") };
            let mut kept = kept.lock().unwrap();
            for Row { key, value } in bundle.rows {
                match value {
                    Some(value) => kept.insert(key, value),
                    None => kept.remove(&key),
                };
            }
            let _ = reply.send(Ok(()));
        }
    });
    (store, rows)
}

fn stored(rows: &Rows) -> Vec<Row> {
    let rows = rows.lock().unwrap();
    rows.iter().map(|(key, value)| Row { key: key.clone(), value: Some(value.clone()) }).collect()
}

fn limits() -> Limits {
    Limits {
        tenants: 5,
        webhooks_per_tenant: 4,
        keys_per_tenant: 3,
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

/// For tests of other modules: an empty directory whose store keeps every row.
pub(crate) fn directory() -> Directory {
    empty(keeping_store().0)
}

fn empty(store: Store) -> Directory {
    loaded(store, Vec::new()).expect("an empty directory loads")
}

/// With the ring that the tests share.
fn loaded(store: Store, rows: Vec<Row>) -> Result<Directory, LoadError> {
    Directory::load(store, rows, limits(), ring(OLD_KEY))
}

const OLD_KEY: &str = "MTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXY=";

fn ring(keys: &str) -> KeyRing {
    KeyRing::parse(keys).expect("a ring")
}

fn name(text: &str) -> TenantId {
    text.parse().expect("a tenant id")
}

fn url(text: &str) -> WebhookUrl {
    WebhookUrl::parse(text, &Policy::default()).expect("a public url")
}

pub(crate) async fn add_tenant(directory: &Directory, id: &str) -> NewTenant {
    directory.create_tenant(name(id), id.to_owned()).await.expect("there is room")
}

async fn add_webhook(directory: &Directory, tenant: TenantNo) -> Arc<Webhook> {
    let url = url("https://hooks.example.com/in?a=b");
    let made = directory.create_webhook(tenant, url, EventTypes::ALL, WebhookPatch::default());
    made.await.expect("there is room")
}
