//! One table: what a receiver does, and what the attempt becomes.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use senderz_gateway::{
    delivery::{ErrorCode, Outcome},
    engine::Blame,
    sender::Attempted,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    rig::{
        DEADLINE, OK, Receiver, To, code, detail, eventually, read_request, run, sender, settings,
    },
    tls::Authority,
};

/// Long enough for a debug build, short enough for those behaviours that run into it.
const SHORT: Duration = Duration::from_millis(1500);
/// The same with dozens of handshakes at once before it.
const SHORT_AFTER_HANDSHAKES: Duration = Duration::from_secs(4);

/// What follows the bytes of a behaviour.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Reset,
    Hold,
    /// The last byte again and again, as fast as it is taken.
    Flood,
    /// The last byte again and again, one each 20 ms.
    Drip,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    Delivered,
    /// 200 is known, the body was not read to its end.
    Truncated,
    Fails(ErrorCode, Option<u16>),
}

use Expect::{Delivered, Fails, Truncated};
use Then::{Close, Drip, Flood, Hold, Reset};

/// What lies under the protocol: the same behaviours, as they are and inside TLS.
#[derive(Clone, Copy)]
enum Over<'a> {
    Tcp,
    Tls(&'a Authority),
}

impl Over<'_> {
    fn deadline(self) -> Duration {
        match self {
            Over::Tcp => SHORT,
            Over::Tls(_) => SHORT_AFTER_HANDSHAKES,
        }
    }
}

async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    tcp: impl Fn(&S) -> &TcpStream,
    bytes: Vec<u8>,
    then: Then,
) {
    if read_request(&mut stream).await.is_none() {
        return;
    }
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    let last = *bytes.last().unwrap_or(&0);
    match then {
        // With TLS's goodbye, where there is TLS. The other side may be gone already.
        Close => drop(stream.shutdown().await),
        Reset => tcp(&stream).set_zero_linger().unwrap(),
        Hold => while read_request(&mut stream).await.is_some() {},
        Flood => while stream.write_all(&[last; 4096]).await.is_ok() {},
        Drip => {
            while stream.write_all(&[last]).await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn attempt(over: Over<'_>, bytes: Vec<u8>, then: Then) -> Attempted {
    let acceptor = match over {
        Over::Tcp => None,
        Over::Tls(authority) => Some(authority.server("localhost", &["http/1.1"])),
    };
    let receiver = Receiver::start(move |stream, _, _| {
        let (bytes, acceptor) = (bytes.clone(), acceptor.clone());
        async move {
            let Some(acceptor) = acceptor else { return play(stream, |s| s, bytes, then).await };
            let stream = acceptor.accept(stream).await.unwrap();
            play(stream, |stream| stream.get_ref().0, bytes, then).await;
        }
    })
    .await;
    let (mut settings, to) = match over {
        Over::Tcp => (settings(), To::http(receiver.address)),
        Over::Tls(authority) => {
            (authority.settings(), To::https("localhost", receiver.address.port()))
        }
    };
    settings.tls_timeout = over.deadline();
    let sender = sender(settings);
    let done = sender.attempt(to.within(over.deadline()).outgoing()).await;
    eventually("an unfit connection is let go", || {
        let left = sender.connections();
        left.open == left.idle
    })
    .await;
    done
}

async fn check(over: Over<'_>, bytes: Vec<u8>, then: Then, expected: Expect) {
    let done = attempt(over, bytes.clone(), then).await;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
    let found = match (code(&done), done.attempt.response.truncated) {
        (None, false) => Delivered,
        (None, true) => Truncated,
        (Some(code), _) => Fails(code, done.attempt.status),
    };
    assert_eq!(found, expected, "{shown:?}: {}", detail(&done));
    assert_eq!(done.outcome == Outcome::Delivered, code(&done).is_none(), "{shown:?}");
    let timed_out = code(&done) == Some(ErrorCode::Timeout);
    assert_eq!(done.blame == Blame::ReceiverTimeout, timed_out, "{shown:?}");
    assert!(done.attempt.latency < 2 * over.deadline().as_micros() as u32, "{shown:?}");
}

/// Runs a table at once, as it is and inside TLS: most of its time is spent in waiting.
fn check_all(table: Vec<(Vec<u8>, Then, Expect)>) {
    println!("{} behaviours over TCP, and the same over TLS", table.len());
    run(async {
        let mut checks = JoinSet::new();
        for (bytes, then, expected) in table.clone() {
            checks.spawn_local(check(Over::Tcp, bytes, then, expected));
        }
        all(checks).await;
    });
    run(async {
        let authority = Rc::new(Authority::new());
        let mut checks = JoinSet::new();
        // What a reset leaves of the bytes before it, the two ends of TLS do not agree on.
        let is_certain = |then, expected| then != Reset || matches!(expected, Fails(..));
        for (bytes, then, expected) in table {
            if !is_certain(then, expected) {
                continue;
            }
            let authority = Rc::clone(&authority);
            checks.spawn_local(async move {
                check(Over::Tls(&authority), bytes, then, expected).await;
            });
        }
        all(checks).await;
    });
}

async fn all(mut checks: JoinSet<()>) {
    while let Some(done) = checks.join_next().await {
        if let Err(error) = done {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

fn answer(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn responses_are_read_as_far_as_they_can_be_trusted() {
    let with = |head: &str, body: &str| answer(&format!("HTTP/1.1 {head}\r\n\r\n{body}"));
    let bad = Fails(ErrorCode::BadResponse, None);
    check_all(vec![
        // Complete answers.
        (OK.to_vec(), Hold, Delivered),
        (OK.to_vec(), Close, Delivered),
        (with("200 OK\r\nContent-Length: 0", ""), Hold, Delivered),
        (with("200\r\nContent-Length: 0", ""), Hold, Delivered),
        (with("200 OK\r\nTransfer-Encoding: chunked", "2\r\nok\r\n0\r\n\r\n"), Hold, Delivered),
        (with("200 OK", "until the end"), Close, Delivered),
        (answer("HTTP/1.0 200 OK\r\n\r\nok"), Close, Delivered),
        (
            with("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3", "\x1f\x1f\x1f"),
            Hold,
            Delivered,
        ),
        (
            with("200 OK\r\nSet-Cookie: a=b\r\nAlt-Svc: h3=\":443\"\r\nContent-Length: 0", ""),
            Hold,
            Delivered,
        ),
        (with("200 OK\r\nContent-Length: 15", "{\"error\":\"no!\"}"), Hold, Delivered),
        // More, or less, than was announced.
        (with("200 OK\r\nContent-Length: 2", "ok and more"), Hold, Delivered),
        (with("200 OK\r\nContent-Length: 9", "ok"), Close, Truncated),
        (with("200 OK\r\nContent-Length: 9", "ok"), Reset, Truncated),
        (with("200 OK\r\nContent-Length: 9", "ok"), Hold, Truncated),
        (with("200 OK\r\nContent-Length: 10000000000", "ok"), Close, Truncated),
        (with("200 OK\r\nTransfer-Encoding: chunked", "2\r\nok"), Close, Truncated),
        (with("200 OK\r\nTransfer-Encoding: chunked", "zz\r\nok"), Hold, Truncated),
        (with("200 OK\r\nTransfer-Encoding: chunked", "fffffffffffffffff\r\nok"), Hold, Truncated),
        (with("200 OK", "endless"), Flood, Truncated),
        (with("200 OK\r\nContent-Length: 1000", "slow"), Drip, Truncated),
        (
            with("500 No\r\nContent-Length: 1000", "slow"),
            Close,
            Fails(ErrorCode::Status, Some(500)),
        ),
        // Heads that nobody should believe.
        (
            with(
                "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2",
                "2\r\nok\r\n0\r\n\r\n",
            ),
            Hold,
            Fails(ErrorCode::BadResponse, Some(200)),
        ),
        (with("200 OK\r\nContent-Length: 2\r\nContent-Length: 3", "ok"), Hold, bad),
        (with("200 OK\r\nContent-Length: +2", "ok"), Hold, bad),
        (with("200 OK\r\nContent-Length: 0x2", "ok"), Hold, bad),
        (with("200 OK\r\nBad Name: x", ""), Hold, bad),
        (with("000 Zero", ""), Hold, bad),
        (with("099 Low", ""), Hold, bad),
        (with("600 High\r\nContent-Length: 0", ""), Hold, bad),
        (with("999 High\r\nContent-Length: 0", ""), Hold, bad),
        (with("2OO OK", ""), Hold, bad),
        (
            with("101 Switching\r\nUpgrade: x\r\nConnection: upgrade", ""),
            Hold,
            Fails(ErrorCode::BadResponse, Some(101)),
        ),
        (answer("HTTP/3.0 200 OK\r\n\r\n"), Hold, bad),
        (answer("http/1.1 200 OK\r\n\r\n"), Hold, bad),
        (answer("SSH-2.0-OpenSSH_9.6\r\n"), Hold, bad),
        (answer("220 mail.example ESMTP\r\n"), Hold, bad),
        (vec![0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x0a], Hold, bad),
        (answer("<html>HTTP/0.9</html>"), Close, bad),
        (with(&format!("200 OK{}", "\r\nX-A: b".repeat(101)), ""), Hold, bad),
        (with(&format!("200 OK\r\nX-Big: {}", "b".repeat(500_000)), ""), Hold, bad),
    ]);
}

#[test]
fn connections_that_break_are_told_apart_from_those_that_hang() {
    let reset = Fails(ErrorCode::Reset, None);
    let timeout = Fails(ErrorCode::Timeout, None);
    check_all(vec![
        (answer(""), Close, reset),
        (answer(""), Reset, reset),
        (answer("HTTP/1.1 200 O"), Close, reset),
        (answer("HTTP/1.1 200 OK\r\nContent-"), Reset, reset),
        (answer(""), Hold, timeout),
        (answer("HTTP/1.1 200 OK\r\nX: a"), Drip, timeout),
        (answer("HTTP/1.1 100 Continue\r\n\r\n"), Hold, timeout),
        (
            answer(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            ),
            Hold,
            Delivered,
        ),
    ]);
}

#[test]
fn every_class_of_status_is_an_answer() {
    let mut table = Vec::new();
    for status in [201, 202, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404]
        .into_iter()
        .chain([405, 408, 409, 410, 413, 421, 422, 425, 429, 431, 451, 500, 502, 503, 504, 599])
    {
        let response = format!(
            "HTTP/1.1 {status} X\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
        );
        table.push((answer(&response), Hold, Fails(ErrorCode::Status, Some(status))));
    }
    check_all(table);
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    run(async {
        let elsewhere = Receiver::start(|_, _, _| async {}).await;
        let location = format!("http://{}/", elsewhere.address);
        let response = format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nRefresh: 0;url={location}\r\nContent-Length: 0\r\n\r\n"
        );
        let done = attempt(Over::Tcp, response.into_bytes(), Hold).await;
        let expected = format!("answered 302: redirects are not followed (to {location})");
        assert_eq!(detail(&done), expected);
        assert_eq!(elsewhere.connections(), 0);
    });
}

#[test]
fn gone_and_retry_after_are_passed_on() {
    run(async {
        let done =
            attempt(Over::Tcp, answer("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"), Hold)
                .await;
        assert!(done.gone);
        assert_eq!(done.outcome, Outcome::Retry { not_before: None });
        let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n";
        let done = attempt(Over::Tcp, answer(busy), Hold).await;
        let Outcome::Retry { not_before: Some(at) } = done.outcome else {
            panic!("{:?}", done.outcome)
        };
        let wait = at - done.attempt.at;
        assert!((59_000..=62_000).contains(&wait), "{wait}");
    });
}

#[test]
fn a_response_is_kept_up_to_its_limits_as_it_came() {
    run(async {
        let body = "\u{1b}[31m\0".repeat(2_000);
        let head = format!("HTTP/1.1 200 OK\r\nX-A: caf\u{e9}\r\nContent-Length: {}", body.len());
        let done = attempt(Over::Tcp, answer(&format!("{head}\r\n\r\n{body}")), Hold).await;
        let kept = done.attempt.response;
        assert_eq!(&kept.body[..], &body.as_bytes()[..4096]);
        assert!(kept.truncated);
        assert!(kept.headers.starts_with("x-a: caf\u{e9}\r\n".as_bytes()));
    });
}

#[test]
fn an_endless_body_is_cut_at_its_limit_long_before_the_deadline() {
    run(async {
        let bytes = answer("HTTP/1.1 200 OK\r\n\r\nx");
        let receiver =
            Receiver::start(move |stream, _, _| play(stream, |s| s, bytes.clone(), Flood)).await;
        let sender = sender(settings());
        let done = sender.attempt(To::http(receiver.address).outgoing()).await;
        assert_eq!(done.outcome, Outcome::Delivered);
        assert!(done.attempt.response.truncated);
        assert!(done.attempt.latency < DEADLINE.as_micros() as u32 / 2, "{:?}", done.attempt);
        eventually("the connection is let go", || sender.connections().open == 0).await;
    });
}

#[test]
fn an_early_answer_to_a_large_request_is_heard() {
    run(async {
        let receiver = Receiver::start(|mut stream, _, _| async move {
            let response = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(response).await.unwrap();
            // Takes its time to read what it does not want.
            while read_request(&mut stream).await.is_some() {}
        })
        .await;
        let out = To::http(receiver.address).outgoing_with(Bytes::from(vec![b'x'; 1 << 20]));
        let done = sender(settings()).attempt(out).await;
        assert_eq!(done.attempt.status, Some(413), "{}", detail(&done));
    });
}

#[test]
fn nobody_listening_is_a_refused_connection() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let done = sender(settings()).attempt(To::http(address).outgoing()).await;
        assert_eq!(code(&done), Some(ErrorCode::Connect));
        assert_eq!(detail(&done), "connection refused");
        assert_eq!(done.outcome, Outcome::Retry { not_before: None });
        assert_eq!((done.attempt.peer, done.blame), (None, Blame::Receiver));
    });
}

#[test]
fn a_forbidden_address_is_final_and_never_dialled() {
    run(async {
        let receiver = Receiver::start(|_, _, _| async {}).await;
        let mut strict = settings();
        strict.policy = crate::rig::policy(&[]);
        let done = sender(strict).attempt(To::http(receiver.address).outgoing()).await;
        assert_eq!(code(&done), Some(ErrorCode::BlockedTarget));
        assert_eq!(done.outcome, Outcome::Failed);
        assert_eq!(done.attempt.peer, None);
        assert_eq!(receiver.connections(), 0);
    });
}
