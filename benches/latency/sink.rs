//! Who receives: those that answer at once, and a tenant's that do not.
//!
//! Those that answer at once live in the thread of the producers. It never sleeps: a receiver that has
//! to be woken, or that waits for its turn on the processor, would be measured as the gateway's
//! latency. The bad ones have a thread of their own: in the world they are other people's machines,
//! and what a flood costs them is not the good ones' to wait for. (It shares the processor with the
//! other, half and half where both want all of it.)

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::LocalSet,
};

use crate::rig::receiver::{OK, Script, answer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers at once.
    Good,
    /// Takes every connection and never answers.
    Hanging,
    /// Answers 500 with a body that has no end.
    Flooding,
    /// Answers 500 at once, so that there are six attempts.
    Failing,
}

const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
const FLOOD: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\n\r\n";

/// What a flood has under way at once; the rest waits until someone reads it.
const WAVE: usize = 64 << 10;

const BACKLOG: u32 = 4096;

/// Gets what was received.
type Seen = Rc<dyn Fn(&[u8])>;

/// Gives every request the same answer, and shows it before.
#[derive(Clone)]
struct Same {
    answer: &'static [u8],
    seen: Seen,
}

impl Script for Same {
    fn answer(&self, request: &[u8], answers: &mut Vec<u8>) {
        (self.seen)(request);
        answers.extend_from_slice(self.answer);
    }
}

/// Listens on every address of this machine: each of 127.0.0.0/8 is a host of its own. `seen` gets
/// every request whole, or of those that are not answered their beginnings. Must be called inside
/// of a `LocalSet`.
pub(crate) fn listen(manner: Manner, seen: impl Fn(&[u8]) + 'static) -> anyhow::Result<SocketAddr> {
    let socket = TcpSocket::new_v4()?;
    if manner == Manner::Flooding {
        // The processor that copies megabytes nobody reads is that of the producers.
        socket.set_send_buffer_size(WAVE as u32)?;
    }
    socket.bind(([0, 0, 0, 0], 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    let port = listener.local_addr()?.port();
    let seen: Seen = Rc::new(seen);
    tokio::task::spawn_local(async move {
        loop {
            // The gateway's connections are fewer than the descriptors that a process may have.
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::task::spawn_local(receive(stream, manner, Rc::clone(&seen)));
        }
    });
    Ok(([127, 0, 0, 1], port).into())
}

async fn receive(mut stream: TcpStream, manner: Manner, seen: Seen) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    match manner {
        Manner::Good => return answer(stream, Same { answer: OK, seen }).await,
        Manner::Failing => return answer(stream, Same { answer: FAILED, seen }).await,
        Manner::Hanging | Manner::Flooding => {}
    }
    let mut buffer = vec![0; 4 << 10];
    let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
    seen(&buffer[..read]);
    if manner == Manner::Flooding {
        stream.write_all(FLOOD).await.ok()?;
        let wave = vec![b'x'; WAVE / 4];
        // Until the gateway has had enough.
        loop {
            stream.write_all(&wave).await.ok()?;
        }
    }
    // Until the gateway closes it.
    while stream.read(&mut buffer).await.ok()? > 0 {}
    Some(())
}

/// As [`listen`], in a thread of its own, which lives as long as the process.
pub(crate) fn listen_apart(manner: Manner, seen: Count) -> anyhow::Result<SocketAddr> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("bad".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return tell.send(Err(error.into())).expect("it is waited for"),
        };
        LocalSet::new().block_on(&runtime, async {
            tell.send(listen(manner, move |_| seen.one())).expect("it is waited for");
            std::future::pending::<()>().await;
        });
    })?;
    told.recv().context("the thread of the bad receivers")?
}

/// How many there were.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicU64>);

impl Count {
    pub(crate) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
