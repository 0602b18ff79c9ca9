//! A database file in which bytes were changed or cut off: the store refuses it with a sentence, or
//! opens and tells no event that was not written.

use std::{collections::HashSet, fs, path::Path, sync::OnceLock, time::Duration};

use bytes::Bytes;
use senderz_gateway::{
    event::EventType,
    id::{TenantNo, WebhookNo},
    store::{self, Feed, NewEvent, Opened, Recovered, Route, Settings},
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::mpsc};

const EVENTS: usize = 60;

struct Image {
    dir: TempDir,
    payloads: HashSet<Bytes>,
}

static IMAGE: OnceLock<Image> = OnceLock::new();

/// Stretches of five bytes, a place (4) and what is done there (1): 0 cuts the file off, anything
/// else is exclusive-or.
pub(crate) fn check(data: &[u8]) {
    let image = IMAGE.get_or_init(make);
    let dir = tempfile::tempdir().expect("room");
    copy(image.dir.path(), dir.path());
    let db = dir.path().join("store/db");
    let mut bytes = fs::read(&db).expect("the database");
    for change in data.as_chunks::<5>().0.iter().take(16) {
        let [place @ .., value] = change;
        let at = u32::from_le_bytes(*place) as usize % bytes.len().max(1);
        match (bytes.get_mut(at), value) {
            (None, _) => {}
            (_, 0) => bytes.truncate(at),
            (Some(byte), value) => *byte ^= value,
        }
    }
    fs::write(&db, bytes).expect("room");
    match store::sled::open(settings(dir.path())) {
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
        }
        Ok(opened) => {
            let runtime = runtime();
            let (store, recovered, threads) = feed(&runtime, opened);
            for recovered in recovered {
                let block = runtime.block_on(store.block(recovered.key.place.block()));
                let Ok(Some(block)) = block else { continue };
                let payload = block.payload(recovered.key.place.index()).expect("it was told");
                assert!(image.payloads.contains(&payload), "an event that nobody sent");
            }
            drop(store);
            threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
        }
    }
}

fn make() -> Image {
    let dir = tempfile::tempdir().expect("room");
    let runtime = runtime();
    let opened = store::sled::open(settings(dir.path())).expect("a new store opens");
    let (store, _, threads) = feed(&runtime, opened);
    let mut payloads = HashSet::new();
    for number in 0..EVENTS {
        let payload = Bytes::from(format!("{{\"number\":\"{number:0>400}\"}}"));
        payloads.insert(payload.clone());
        let event = NewEvent {
            tenant: TenantNo(1),
            event_type: EventType::Sent,
            payload,
            key: None,
            trace: None,
            routes: [Route { webhook: WebhookNo(1), enabled: true }].into(),
        };
        runtime.block_on(store.append(vec![event])).expect("there is room");
    }
    runtime.block_on(store.close()).expect("it closes");
    drop(store);
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    Image { dir, payloads }
}

type Fed = (store::Store, Vec<Recovered>, Vec<std::thread::JoinHandle<()>>);

/// Lets the store recover; it may also refuse to.
fn feed(runtime: &Runtime, opened: Opened) -> Fed {
    let Opened { store, feeds, threads, .. } = opened;
    let (sender, mut feed) = mpsc::channel(10_000);
    // One that has closed already has refused.
    let _ = feeds.send(vec![sender]);
    let mut recovered = Vec::new();
    while let Some(told) = runtime.block_on(feed.recv()) {
        match told {
            Feed::Recovered(some) => recovered.extend_from_slice(&some),
            Feed::RecoveryDone => break,
            Feed::Block(_) | Feed::Erased(_) => {}
        }
    }
    (store, recovered, threads)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("room");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).expect("room");
        }
    }
}

fn settings(data_dir: &Path) -> Settings {
    Settings {
        data_dir: data_dir.to_owned(),
        cache: 1 << 20,
        commit_max_events: 1000,
        commit_max_bytes: 1 << 20,
        commit_max_wait: Duration::ZERO,
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
