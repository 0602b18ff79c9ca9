//! A resting connection taken out of the pool and put back. The connections are real ones, to a
//! receiver in a thread; nothing travels on them while the clock runs.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use senderz_gateway::{
    clock,
    id::TenantNo,
    sender::{Sender, target::Target},
};
use tokio::task::LocalSet;

use crate::work::{outgoing, payload, sender_settings, target, webhook_url};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    for origins in [1, 1000] {
        let mut filled = None;
        group.bench_function(BenchmarkId::new("checkout", origins), |b| {
            let (sender, targets) = filled.get_or_insert_with(|| fill(origins));
            let mut targets = targets.iter().cycle();
            // One moment for all: a connection never looks as if it had rested for long.
            let now = clock::instant();
            b.iter(|| {
                let target = targets.next().expect("it goes round");
                assert!(sender.take_and_return(target, now));
            });
        });
    }
    group.finish();
}

/// A sender with a connection at rest to each of so many origins.
fn fill(origins: u32) -> (Sender, Vec<Arc<Target>>) {
    let address = receiver();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let filled = LocalSet::new().block_on(&runtime, async {
        let sender = Sender::new(sender_settings()).expect("a sender");
        let url = webhook_url(address);
        // Connections are never shared by tenants, so each tenant is an origin of its own.
        let targets: Vec<_> = (0..origins).map(|no| target(TenantNo(no), url.clone())).collect();
        for target in &targets {
            let out = outgoing(Arc::clone(target), Bytes::from(payload(512)));
            let attempted = sender.attempt(out).await;
            assert_eq!(attempted.attempt.status, Some(200), "{:?}", attempted.attempt.error);
        }
        (sender, targets)
    });
    // Taking its sockets away would close the connections.
    std::mem::forget(runtime);
    filled
}

/// Answers whatever comes with an empty 200 and keeps the connection open.
fn receiver() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            open.extend(stream.and_then(answer));
        }
    });
    address
}

/// A request of half a kilobyte of body is one write and arrives as one.
fn answer(mut stream: TcpStream) -> std::io::Result<TcpStream> {
    let received = stream.read(&mut [0; 4096])?;
    assert!(received > 512, "a request is larger than its body");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    Ok(stream)
}
