//! Tenants and webhooks, made through the API by several clients: each change is a commit.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::client::Client;

const SETTERS: usize = 16;

/// Makes the tenants `t0`, `t1`, …, each with the webhooks that it is said to have.
pub(crate) fn tenants(
    api: SocketAddr,
    count: usize,
    webhooks: impl Fn(usize) -> Vec<Value> + Sync,
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let set = || -> anyhow::Result<()> {
        let mut client = Client::open(api)?;
        loop {
            let tenant = next.fetch_add(1, Ordering::Relaxed);
            if tenant >= count {
                return Ok(());
            }
            let id = format!("t{tenant}");
            client.post_json("/v1/tenants", None, &json!({"id": id, "name": id}))?;
            for webhook in webhooks(tenant) {
                client.post_json("/v1/webhooks", Some(&id), &webhook)?;
            }
        }
    };
    std::thread::scope(|scope| {
        let setters: Vec<_> = (0..SETTERS).map(|_| scope.spawn(set)).collect();
        setters.into_iter().try_for_each(|setter| setter.join().expect("setters do not panic"))
    })
}

/// One of many addresses of this machine.
pub(crate) fn address(host: usize) -> String {
    match host {
        0 => "127.0.0.1".to_owned(),
        _ => format!("127.1.{}.{}", host / 250, host % 250 + 1),
    }
}
