//! HTTP/2, over TLS as it is negotiated.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::{Request, Response};
use senderz_gateway::{
    delivery::{ErrorCode, Outcome, Protocol},
    engine::Blame,
    id::Place,
    sender::{Sender, sign::verify_hex},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    task::spawn_local,
};
use tokio_rustls::server::TlsStream;

use crate::{
    rig::{Receiver, To, code, detail, eventually, run, secret, sender, settings},
    tls::Authority,
};

type Server = Connection<TlsStream<TcpStream>, Bytes>;
pub(crate) type Exchange = (Request<RecvStream>, SendResponse<Bytes>);

/// A receiver that speaks HTTP/2, with what is under it left to `script`.
pub(crate) async fn raw<F>(
    authority: &Authority,
    script: impl Fn(TlsStream<TcpStream>, usize) -> F + 'static,
) -> Receiver
where
    F: Future<Output = ()> + 'static,
{
    let acceptor = authority.server("localhost", &["h2", "http/1.1"]);
    let script = Rc::new(script);
    Receiver::start(move |stream, number, _| {
        let (acceptor, script) = (acceptor.clone(), Rc::clone(&script));
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            script(stream, number).await;
        }
    })
    .await
}

/// A receiver that gives each request to `script`, with its connection's number and its own.
async fn receiver<F>(
    authority: &Authority,
    builder: Builder,
    script: impl Fn(Exchange, usize, usize) -> F + 'static,
) -> Receiver
where
    F: Future<Output = ()> + 'static,
{
    let script = Rc::new(script);
    raw(authority, move |stream, connection| {
        let (builder, script) = (builder.clone(), Rc::clone(&script));
        async move {
            let mut server: Server = builder.handshake(stream).await.unwrap();
            let mut number = 0;
            while let Some(Ok(exchange)) = server.accept().await {
                spawn_local(script(exchange, connection, number));
                number += 1;
            }
        }
    })
    .await
}

async fn read(body: &mut RecvStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    bytes
}

pub(crate) async fn accept((mut request, mut respond): Exchange) {
    read(request.body_mut()).await;
    // The client may have given up by now.
    if let Ok(mut body) = respond.send_response(Response::new(()), false) {
        let _ = body.send_data(Bytes::from_static(b"ok"), true);
    }
}

fn to(receiver: &Receiver) -> To {
    To::https("localhost", receiver.address.port())
}

fn spawn(
    sender: &Rc<Sender>,
    to: &To,
) -> tokio::task::JoinHandle<senderz_gateway::sender::Attempted> {
    let (sender, out) = (Rc::clone(sender), to.outgoing());
    spawn_local(async move { sender.attempt(out).await })
}

#[test]
fn a_burst_shares_one_connection_and_carries_signed_requests() {
    run(async {
        let authority = Authority::new();
        let receiver =
            receiver(&authority, Builder::new(), |(mut request, respond), _, _| async move {
                let body = read(request.body_mut()).await;
                let headers = request.headers();
                assert_eq!(request.uri().scheme_str(), Some("https"));
                assert_eq!(request.uri().path(), "/hooks");
                assert!(request.uri().authority().is_some());
                assert!(!headers.contains_key("host"));
                assert_eq!(headers["content-length"], body.len().to_string().as_str());
                assert_eq!(headers["user-agent"], "senderZ-Webhooks/1.0");
                let hex = headers["x-senderz-signature"].to_str().unwrap();
                assert_eq!(verify_hex(&secret(), hex, &body), Ok(()));
                accept((request, respond)).await;
            })
            .await;
        let sender = sender(authority.settings());
        let burst: Vec<_> = (0..30).map(|_| spawn(&sender, &to(&receiver))).collect();
        let mut reused = 0;
        for attempt in burst {
            let done = attempt.await.unwrap();
            assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
            assert_eq!(done.attempt.protocol, Protocol::Http2);
            assert_eq!(&done.attempt.response.body[..], b"ok");
            reused += usize::from(done.attempt.reused_connection);
        }
        assert_eq!((receiver.connections(), reused), (1, 29));
        assert_eq!((sender.connections().open, sender.connections().idle), (1, 1));
        let other = sender.attempt(to(&receiver).tenant(2).outgoing()).await;
        assert_eq!(other.outcome, Outcome::Delivered);
        assert_eq!(receiver.connections(), 2, "another tenant has a connection of its own");
    });
}

#[test]
fn a_refused_request_is_made_once_more_at_once() {
    run(async {
        let authority = Authority::new();
        let receiver = receiver(
            &authority,
            Builder::new(),
            |(request, mut respond), connection, _| async move {
                if connection == 0 {
                    respond.send_reset(Reason::REFUSED_STREAM);
                } else {
                    accept((request, respond)).await;
                }
            },
        )
        .await;
        let done = sender(authority.settings()).attempt(to(&receiver).outgoing()).await;
        assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        assert_eq!(receiver.connections(), 2);
    });
}

#[test]
fn a_server_that_always_refuses_is_asked_twice_and_no_more() {
    run(async {
        let authority = Authority::new();
        let receiver = receiver(&authority, Builder::new(), |(_, mut respond), _, _| async move {
            respond.send_reset(Reason::REFUSED_STREAM);
        })
        .await;
        let done = sender(authority.settings()).attempt(to(&receiver).outgoing()).await;
        assert_eq!(code(&done), Some(ErrorCode::Reset), "{}", detail(&done));
        assert_eq!(receiver.connections(), 2);
    });
}

/// Speaks just enough HTTP/2 to answer the first request with a GOAWAY that does not cover it.
async fn leave(mut stream: TlsStream<TcpStream>, reason: Reason) {
    const HEADERS: u8 = 1;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    stream.flush().await.unwrap();
    stream.read_exact(&mut [0; 24]).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut rest = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut rest).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    let mut goaway = vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    goaway.extend(u32::from(reason).to_be_bytes());
    stream.write_all(&goaway).await.unwrap();
    stream.flush().await.unwrap();
    while stream.read(&mut [0; 1024]).await.is_ok_and(|len| len > 0) {}
}

#[test]
fn a_server_that_leaves_in_peace_is_followed_and_one_in_anger_is_not() {
    run(async {
        let authority = Authority::new();
        for (reason, connections, delivered) in
            [(Reason::NO_ERROR, 2, true), (Reason::ENHANCE_YOUR_CALM, 1, false)]
        {
            let receiver = raw(&authority, move |stream, number| async move {
                if number == 0 {
                    leave(stream, reason).await;
                    return;
                }
                let mut server: Server = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok(exchange)) = server.accept().await {
                    spawn_local(accept(exchange));
                }
            })
            .await;
            let sender = sender(authority.settings());
            let done = sender.attempt(to(&receiver).outgoing()).await;
            assert_eq!(done.outcome == Outcome::Delivered, delivered, "{}", detail(&done));
            assert_eq!(receiver.connections(), connections);
            if !delivered {
                assert_eq!(code(&done), Some(ErrorCode::Reset));
                let done = sender.attempt(to(&receiver).outgoing()).await;
                assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
                assert_eq!(receiver.connections(), 2, "the connection was not used again");
            }
        }
    });
}

#[test]
fn a_reset_stream_fails_its_attempt_alone() {
    run(async {
        let authority = Authority::new();
        let receiver = receiver(&authority, Builder::new(), |exchange, _, number| async move {
            let (mut request, mut respond) = exchange;
            match number {
                0 => respond.send_reset(Reason::INTERNAL_ERROR),
                1 => {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"half"), false).unwrap();
                    read(request.body_mut()).await;
                    // A reset discards what has not been written yet.
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    body.send_reset(Reason::INTERNAL_ERROR);
                }
                _ => accept((request, respond)).await,
            }
        })
        .await;
        let sender = sender(authority.settings());
        let done = sender.attempt(to(&receiver).outgoing()).await;
        assert_eq!(code(&done), Some(ErrorCode::Reset), "{}", detail(&done));
        let done = sender.attempt(to(&receiver).outgoing()).await;
        assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        assert!(done.attempt.response.truncated);
        let done = sender.attempt(to(&receiver).outgoing()).await;
        assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        assert_eq!(receiver.connections(), 1);
    });
}

#[test]
fn a_stalled_stream_holds_up_nobody_else() {
    run(async {
        let authority = Authority::new();
        let reset = Rc::new(std::cell::Cell::new(false));
        let seen = Rc::clone(&reset);
        let receiver =
            receiver(&authority, Builder::new(), move |(request, mut respond), _, number| {
                let seen = Rc::clone(&seen);
                async move {
                    if number == 0 {
                        let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                        seen.set(reason.ok() == Some(Reason::CANCEL));
                    } else {
                        accept((request, respond)).await;
                    }
                }
            })
            .await;
        let sender = sender(authority.settings());
        let stalled = spawn(&sender, &to(&receiver).within(Duration::from_millis(600)));
        eventually("the connection is shared", || sender.connections().origins == 1).await;
        for _ in 0..20 {
            let done = sender.attempt(to(&receiver).outgoing()).await;
            assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        }
        let done = stalled.await.unwrap();
        assert_eq!((code(&done), done.blame), (Some(ErrorCode::Timeout), Blame::ReceiverTimeout));
        eventually("the stream is reset", || reset.get()).await;
        let done = sender.attempt(to(&receiver).outgoing()).await;
        assert_eq!(done.outcome, Outcome::Delivered);
        assert_eq!(receiver.connections(), 1);
    });
}

#[test]
fn the_servers_limit_of_streams_is_kept() {
    run(async {
        let authority = Authority::new();
        let mut one = Builder::new();
        one.max_concurrent_streams(1);
        let receiver = receiver(&authority, one, |exchange, _, _| accept(exchange)).await;
        let sender = sender(authority.settings());
        let attempts: Vec<_> = (0..10).map(|_| spawn(&sender, &to(&receiver))).collect();
        for attempt in attempts {
            let done = attempt.await.unwrap();
            assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        }
    });
}

#[test]
fn our_own_limit_of_streams_opens_more_connections() {
    run(async {
        let authority = Authority::new();
        let arrived = Rc::new(std::cell::Cell::new(0));
        let counter = Rc::clone(&arrived);
        let receiver = receiver(&authority, Builder::new(), move |exchange, _, _| {
            let arrived = Rc::clone(&counter);
            async move {
                arrived.set(arrived.get() + 1);
                eventually("all requests are open at once", || arrived.get() == 12).await;
                accept(exchange).await;
            }
        })
        .await;
        let mut few = authority.settings();
        few.http2_max_streams = 4;
        let sender = sender(few);
        let attempts: Vec<_> = (0..12).map(|_| spawn(&sender, &to(&receiver))).collect();
        for attempt in attempts {
            let done = attempt.await.unwrap();
            assert_eq!(done.outcome, Outcome::Delivered, "{}", detail(&done));
        }
        assert_eq!(receiver.connections(), 3);
    });
}

#[test]
fn a_window_that_never_opens_ends_at_the_deadline() {
    run(async {
        let authority = Authority::new();
        let mut shut = Builder::new();
        shut.initial_window_size(0);
        let receiver =
            receiver(&authority, shut, |exchange, _, _| accept_without_reading(exchange)).await;
        let sender = sender(authority.settings());
        let done =
            sender.attempt(to(&receiver).within(Duration::from_millis(400)).outgoing()).await;
        assert_eq!(code(&done), Some(ErrorCode::Timeout), "{}", detail(&done));
    });
}

async fn accept_without_reading(exchange: Exchange) {
    std::future::pending::<()>().await;
    drop(exchange);
}

#[test]
fn a_head_that_is_too_large_is_no_answer() {
    run(async {
        let authority = Authority::new();
        let receiver = receiver(&authority, Builder::new(), |(_, mut respond), _, _| async move {
            let huge = Response::builder().header("x-big", "b".repeat(200_000)).body(()).unwrap();
            let _ = respond.send_response(huge, true);
        })
        .await;
        let done = sender(authority.settings()).attempt(to(&receiver).outgoing()).await;
        let code = code(&done);
        assert!(matches!(code, Some(ErrorCode::BadResponse | ErrorCode::Reset)), "{code:?}");
    });
}

#[test]
fn http2_is_not_spoken_in_plain_text() {
    run(async {
        let receiver = Receiver::start(|mut stream, _, log| async move {
            log.read_request(&mut stream).await;
            stream.write_all(crate::rig::OK).await.unwrap();
        })
        .await;
        let done = sender(settings()).attempt(To::http(receiver.address).outgoing()).await;
        assert_eq!(done.attempt.protocol, Protocol::Http1);
        assert!(receiver.requests()[0].starts_with(b"POST /hooks?from=senderz HTTP/1.1\r\n"));
    });
}

/// Notes what was read so far whenever a request is there.
struct Counted<T> {
    stream: T,
    read: Rc<RefCell<Vec<usize>>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().len() - before;
        *self.read.borrow_mut().last_mut().expect("there is one") += came;
        done
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[test]
fn the_names_of_header_fields_are_sent_once_for_a_connection() {
    run(async {
        let authority = Authority::new();
        let read = Rc::new(RefCell::new(vec![0]));
        let counts = Rc::clone(&read);
        let receiver = raw(&authority, move |stream, _| {
            let read = Rc::clone(&counts);
            async move {
                let stream = Counted { stream, read: Rc::clone(&read) };
                let mut server = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok(exchange)) = server.accept().await {
                    let read = Rc::clone(&read);
                    spawn_local(async move {
                        accept(exchange).await;
                        read.borrow_mut().push(0);
                    });
                }
            }
        })
        .await;
        let sender = sender(authority.settings());
        for n in 0..3 {
            let mut out = to(&receiver).outgoing_with(Bytes::from(vec![n; 8]));
            out.delivery.key.place = Place::new(u64::from(n), 0);
            let attempted = sender.attempt(out).await;
            assert_eq!(attempted.outcome, Outcome::Delivered, "{attempted:?}");
        }
        // The preface, settings and the first request; then requests. With their names they would be
        // some 95 bytes longer.
        let read = read.borrow();
        assert!(read[0] > 350 && read[1..].iter().all(|bytes| *bytes < 220), "{read:?}");
    });
}
