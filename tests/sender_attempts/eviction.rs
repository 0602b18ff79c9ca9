//! At `pool.max_connections`: the connection that has been idle for longest makes room for a new
//! one, whatever it speaks, and one that is in use never does.

use std::{cell::Cell, future::Future, rc::Rc};

use h2::server::handshake;
use senderz_gateway::{
    delivery::{ErrorCode, Outcome, Protocol},
    engine::Blame,
    sender::{Attempted, Sender},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Notify, task::spawn_local};
use tokio_rustls::server::TlsStream;

use crate::{
    http2,
    rig::{OK, Receiver, To, code, detail, eventually, read_request, run, sender},
    tls::Authority,
};

/// A receiver that answers politely, and how many of its connections have ended.
struct Place {
    receiver: Receiver,
    ended: Rc<Cell<usize>>,
}

impl Place {
    async fn start<F>(
        authority: &Authority,
        alpn: &[&str],
        serve: impl Fn(TlsStream<TcpStream>) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let acceptor = authority.server("localhost", alpn);
        let (serve, ended) = (Rc::new(serve), Rc::new(Cell::new(0)));
        let counter = Rc::clone(&ended);
        let receiver = Receiver::start(move |stream, _, _| {
            let (acceptor, serve) = (acceptor.clone(), Rc::clone(&serve));
            let counter = Rc::clone(&counter);
            async move {
                serve(acceptor.accept(stream).await.unwrap()).await;
                counter.set(counter.get() + 1);
            }
        })
        .await;
        Self { receiver, ended }
    }

    async fn http1(authority: &Authority) -> Self {
        Self::start(authority, &["http/1.1"], |mut stream| async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK).await.unwrap();
                stream.flush().await.unwrap();
            }
        })
        .await
    }

    async fn http2(authority: &Authority) -> Self {
        Self::start(authority, &["h2"], |stream| async move {
            let mut server = handshake(stream).await.unwrap();
            while let Some(Ok(exchange)) = server.accept().await {
                spawn_local(http2::accept(exchange));
            }
        })
        .await
    }

    /// Answers a request once it is let go.
    async fn holding(authority: &Authority, go: &Rc<Notify>) -> Self {
        let go = Rc::clone(go);
        Self::start(authority, &["h2"], move |stream| {
            let go = Rc::clone(&go);
            async move {
                let mut server = handshake(stream).await.unwrap();
                while let Some(Ok(exchange)) = server.accept().await {
                    let go = Rc::clone(&go);
                    spawn_local(async move {
                        go.notified().await;
                        http2::accept(exchange).await;
                    });
                }
            }
        })
        .await
    }

    fn to(&self) -> To {
        To::https("localhost", self.receiver.address.port())
    }

    /// Delivers; answers whether it went over a connection that was open.
    async fn deliver(&self, sender: &Sender, protocol: Protocol) -> bool {
        let done = sender.attempt(self.to().outgoing()).await;
        assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        assert_eq!(done.attempt.protocol, protocol);
        done.attempt.reused_connection
    }

    async fn closes(&self, connections: usize) {
        eventually("its connection is closed", || self.ended.get() == connections).await;
    }
}

fn two_at_most(authority: &Authority) -> Rc<Sender> {
    let mut tight = authority.settings();
    tight.pool_max_connections = 2;
    sender(tight)
}

#[test]
fn the_longest_idle_connection_makes_room_over_tls() {
    run(async {
        let authority = Authority::new();
        oldest_goes_first(
            &authority,
            Protocol::Http1,
            [
                Place::http1(&authority).await,
                Place::http1(&authority).await,
                Place::http1(&authority).await,
            ],
        )
        .await;
    });
}

#[test]
fn the_longest_idle_connection_makes_room_over_http2() {
    run(async {
        let authority = Authority::new();
        oldest_goes_first(
            &authority,
            Protocol::Http2,
            [
                Place::http2(&authority).await,
                Place::http2(&authority).await,
                Place::http2(&authority).await,
            ],
        )
        .await;
    });
}

async fn oldest_goes_first(authority: &Authority, speaks: Protocol, places: [Place; 3]) {
    let sender = two_at_most(authority);
    let [a, b, c] = &places;
    assert!(!a.deliver(&sender, speaks).await);
    assert!(!b.deliver(&sender, speaks).await);
    // Opened first, but used last.
    assert!(a.deliver(&sender, speaks).await);
    assert!(!c.deliver(&sender, speaks).await);
    b.closes(1).await;
    assert_eq!((sender.connections().open, sender.connections().idle), (2, 2));
    assert!(a.deliver(&sender, speaks).await, "it was kept");
    assert!(!b.deliver(&sender, speaks).await);
    c.closes(1).await;
    assert_eq!((sender.connections().open, a.ended.get(), b.ended.get()), (2, 0, 1));
    let opened = places.each_ref().map(|place| place.receiver.connections());
    assert_eq!(opened, [1, 2, 1]);
}

#[test]
fn the_longest_idle_makes_room_whichever_protocol_it_speaks() {
    run(async {
        let authority = Authority::new();
        let sender = two_at_most(&authority);
        let (one, two) = (Place::http1(&authority).await, Place::http2(&authority).await);
        let third = Place::http1(&authority).await;
        one.deliver(&sender, Protocol::Http1).await;
        two.deliver(&sender, Protocol::Http2).await;
        third.deliver(&sender, Protocol::Http1).await;
        one.closes(1).await;
        assert_eq!((two.ended.get(), third.ended.get()), (0, 0));
        one.deliver(&sender, Protocol::Http1).await;
        two.closes(1).await;
        assert_eq!((one.ended.get(), third.ended.get()), (1, 0));
    });
}

#[test]
fn a_connection_with_an_open_stream_stays_and_without_an_idle_one_it_is_our_own_fault() {
    run(async {
        let authority = Authority::new();
        let sender = two_at_most(&authority);
        let [go_first, go_second] = [(); 2].map(|()| Rc::new(Notify::new()));
        let held = Place::holding(&authority, &go_first).await;
        let (b, c) = (Place::http2(&authority).await, Place::http2(&authority).await);
        let other = Place::holding(&authority, &go_second).await;
        let busy = spawn(&sender, &held);
        eventually("its stream is open", || sender.connections().open == 1).await;
        b.deliver(&sender, Protocol::Http2).await;
        // The oldest of all is in use.
        c.deliver(&sender, Protocol::Http2).await;
        b.closes(1).await;
        assert_eq!(held.ended.get(), 0);
        let busy_too = spawn(&sender, &other);
        c.closes(1).await;
        let done = sender.attempt(b.to().outgoing()).await;
        assert_eq!((done.blame, code(&done)), (Blame::Own, Some(ErrorCode::Connect)));
        assert_eq!(b.receiver.connections(), 1);
        // As soon as one rests there is room again. A permit waits for a request still on its way.
        for (go, attempt) in [(go_first, busy), (go_second, busy_too)] {
            go.notify_one();
            assert_eq!(attempt.await.unwrap().outcome, Outcome::Delivered);
        }
        assert!(!b.deliver(&sender, Protocol::Http2).await);
        held.closes(1).await;
        assert_eq!(other.ended.get(), 0);
    });
}

fn spawn(sender: &Rc<Sender>, place: &Place) -> tokio::task::JoinHandle<Attempted> {
    let (sender, out) = (Rc::clone(sender), place.to().outgoing());
    spawn_local(async move { sender.attempt(out).await })
}
