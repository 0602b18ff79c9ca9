//! The tables of `answers.rs`, played by receivers over TCP and inside TLS.

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
};

use crate::{
    answers::{
        self,
        Expect::{self, Delivered, Fails, Truncated},
        Table,
        Then::{self, Close, Drip, Flood, Hold, Reset},
    },
    rig::{
        DEADLINE, Receiver, To, code, detail, eventually, none_is_wrong, read_request, run, sender,
        settings,
    },
    tls::Authority,
};

/// Long enough for a debug build, short enough for those behaviours that run into it.
const SHORT: Duration = Duration::from_secs(2);
/// For those that must not run into it, however busy the machine is …
const LONG: Duration = Duration::from_secs(15);
/// … and how much later than it an attempt may end there.
const BUSY: Duration = Duration::from_secs(5);

/// What lies under the protocol: the same behaviours, as they are and inside TLS.
enum Over {
    Tcp,
    Tls(Rc<Authority>),
}

fn deadline(expected: Expect) -> Duration {
    match expected {
        Truncated | Fails(ErrorCode::Timeout, _) => SHORT,
        _ => LONG,
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
    // The other side may have heard enough before the end.
    if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    let last = *bytes.last().unwrap_or(&0);
    match then {
        // With TLS's goodbye, where there is TLS.
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

async fn attempt(over: &Over, bytes: Vec<u8>, then: Then, deadline: Duration) -> Attempted {
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
    settings.tls_timeout = deadline;
    let sender = sender(settings);
    let done = sender.attempt(to.within(deadline).outgoing()).await;
    eventually("an unfit connection is let go", || {
        let left = sender.connections();
        left.open == left.idle
    })
    .await;
    done
}

/// What is wrong about it, if anything is.
async fn check(over: Over, bytes: Vec<u8>, then: Then, expected: Expect) -> Option<String> {
    let deadline = deadline(expected);
    let done = attempt(&over, bytes.clone(), then, deadline).await;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
    let found = match (code(&done), done.attempt.response.truncated) {
        (None, false) => Delivered,
        (None, true) => Truncated,
        (Some(code), _) => Fails(code, done.attempt.status),
    };
    assert_eq!(done.outcome == Outcome::Delivered, code(&done).is_none(), "{shown:?}");
    let timed_out = code(&done) == Some(ErrorCode::Timeout);
    assert_eq!(done.blame == Blame::ReceiverTimeout, timed_out, "{shown:?}");
    assert!(done.attempt.latency < (deadline + BUSY).as_micros() as u32, "{shown:?}");
    let says = || format!("{shown:?}: {found:?} instead of {expected:?}: {}", detail(&done));
    (found != expected).then(says)
}

/// Plays a table as it is and inside TLS.
fn check_all(table: Table) {
    println!("{} behaviours over TCP, and the same over TLS", table.len());
    let checks = |over: fn(Rc<Authority>) -> Over, table: Table| {
        run(async move {
            let authority = Rc::new(Authority::new());
            none_is_wrong(table.into_iter().map(|(bytes, then, expected)| {
                check(over(Rc::clone(&authority)), bytes, then, expected)
            }))
            .await;
        });
    };
    checks(|_| Over::Tcp, table.clone());
    // What a reset leaves of the bytes before it, the two ends of TLS do not agree on.
    let is_certain = |then, expected| then != Reset || matches!(expected, Fails(..));
    let table = table.into_iter().filter(|(_, then, expected)| is_certain(*then, *expected));
    checks(Over::Tls, table.collect());
}

fn answer(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn responses_are_read_as_far_as_they_can_be_trusted() {
    check_all(answers::of_all_kinds());
}

#[test]
fn lengths_and_chunks_are_believed_only_where_they_are_plain() {
    check_all(answers::with_doubtful_framing());
}

#[test]
fn connections_that_break_are_told_apart_from_those_that_hang() {
    check_all(answers::that_break_or_hang());
}

#[test]
fn every_class_of_status_is_an_answer() {
    check_all(answers::of_every_status());
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    run(async {
        let elsewhere = Receiver::start(|_, _, _| async {}).await;
        let location = format!("http://{}/", elsewhere.address);
        let response = format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nRefresh: 0;url={location}\r\nContent-Length: 0\r\n\r\n"
        );
        let done = attempt(&Over::Tcp, response.into_bytes(), Hold, DEADLINE).await;
        let expected = format!("answered 302: redirects are not followed (to {location})");
        assert_eq!(detail(&done), expected);
        assert_eq!(elsewhere.connections(), 0);
    });
}

#[test]
fn gone_and_retry_after_are_passed_on() {
    run(async {
        let done = attempt(
            &Over::Tcp,
            answer("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"),
            Hold,
            DEADLINE,
        )
        .await;
        assert!(done.gone);
        assert_eq!(done.outcome, Outcome::Retry { not_before: None });
        let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n";
        let done = attempt(&Over::Tcp, answer(busy), Hold, DEADLINE).await;
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
        let done =
            attempt(&Over::Tcp, answer(&format!("{head}\r\n\r\n{body}")), Hold, DEADLINE).await;
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

/// The rest of the request can no longer be written then.
#[test]
fn an_early_answer_whose_connection_is_reset_at_once_is_still_an_answer() {
    run(async {
        for (status, outcome) in
            [(200, Outcome::Delivered), (413, Outcome::Retry { not_before: None })]
        {
            let receiver = Receiver::start(move |mut stream, _, _| async move {
                stream.readable().await.unwrap();
                let response = format!("HTTP/1.1 {status} Early\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(response.as_bytes()).await.unwrap();
                stream.set_zero_linger().unwrap();
            })
            .await;
            let out = To::http(receiver.address).outgoing_with(Bytes::from(vec![b'x'; 1 << 20]));
            let done = sender(settings()).attempt(out).await;
            assert_eq!(done.attempt.status, Some(status), "{}", detail(&done));
            assert_eq!(done.outcome, outcome);
        }
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
