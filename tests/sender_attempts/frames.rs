//! One table: what a receiver does with HTTP/2's frames, and what the attempt becomes.

use std::{rc::Rc, time::Duration};

use senderz_gateway::{
    delivery::{ErrorCode, Outcome},
    sender::{Attempted, Settings},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::{
    http2::raw,
    rig::{To, code, detail, eventually, none_is_wrong, run, sender},
    tls::Authority,
};

/// Long enough for a debug build, short enough for those behaviours that run into it.
const SHORT: Duration = Duration::from_secs(2);
/// For those that must not run into it, however busy the machine is …
const LONG: Duration = Duration::from_secs(15);
/// … and how much later than it an attempt may end there.
const BUSY: Duration = Duration::from_secs(5);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// `:status: 200` and `:status: 500` in HPACK's static table.
const OK: &[u8] = &[0x88];
const BROKEN: &[u8] = &[0x8e];
/// The request's stream.
const OURS: u32 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

fn head(flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, OURS, block)
}

/// A field that is in no table, as it stands.
fn field(name: &str, value: &str) -> Vec<u8> {
    let (n, v) = (u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap());
    [&[0, n], name.as_bytes(), &[v], value.as_bytes()].concat()
}

fn status(text: &str) -> Vec<u8> {
    field(":status", text)
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

/// What follows the frames of a behaviour.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Close,
    Hold,
    /// The last frame again and again, as fast as it is taken.
    Flood,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    Delivered,
    /// 200 is known, the body was not read to its end.
    Truncated,
    Fails(ErrorCode, Option<u16>),
}

use Expect::{Delivered, Fails, Truncated};
use Then::{Close, Flood, Hold};

/// When the frames come.
#[derive(Clone, Copy, PartialEq)]
enum When {
    /// Once the request's head is there, after settings of no surprise.
    Asked,
    /// At once, in place of the settings.
    First,
}

struct Behaviour {
    what: &'static str,
    when: When,
    frames: Vec<Vec<u8>>,
    then: Then,
    expected: Expect,
}

impl Behaviour {
    fn deadline(&self) -> Duration {
        match self.expected {
            Truncated | Fails(ErrorCode::Timeout, _) => SHORT,
            _ => LONG,
        }
    }
}

async fn play(mut stream: TlsStream<TcpStream>, when: When, frames: Vec<Vec<u8>>, then: Then) {
    if when == When::Asked {
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        stream.flush().await.unwrap();
        if read_until_asked(&mut stream).await.is_none() {
            return;
        }
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    // What the sender has to say meanwhile is taken, as a server does.
    let reading = tokio::task::spawn_local(async move {
        let mut buffer = [0; 16 * 1024];
        while reader.read(&mut buffer).await.is_ok_and(|len| len > 0) {}
    });
    for frame in &frames {
        if writer.write_all(frame).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    match then {
        Close => drop(writer.shutdown().await),
        Hold => drop(reading.await),
        Flood => {
            let many = frames.last().expect("there is one to repeat").repeat(50);
            while writer.write_all(&many).await.is_ok() && writer.flush().await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Reads the preface and frames until the request's head has come.
async fn read_until_asked(stream: &mut (impl AsyncRead + Unpin)) -> Option<()> {
    stream.read_exact(&mut [0; 24]).await.ok()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.ok()?;
        if head[3] == HEADERS {
            return Some(());
        }
    }
}

async fn attempt(authority: &Authority, behaviour: &Behaviour) -> Attempted {
    let (when, frames, then) = (behaviour.when, behaviour.frames.clone(), behaviour.then);
    let receiver = raw(authority, move |stream, _| play(stream, when, frames.clone(), then)).await;
    let deadline = behaviour.deadline();
    let sender = sender(Settings { tls_timeout: deadline, ..authority.settings() });
    let to = To::https("localhost", receiver.address.port()).within(deadline);
    let done = sender.attempt(to.outgoing()).await;
    eventually("an unfit connection is let go", || {
        let left = sender.connections();
        left.open == left.idle
    })
    .await;
    done
}

async fn check(authority: Rc<Authority>, behaviour: Behaviour) -> Option<String> {
    let done = attempt(&authority, &behaviour).await;
    let what = behaviour.what;
    let found = match (code(&done), done.attempt.response.truncated) {
        (None, false) => Delivered,
        (None, true) => Truncated,
        (Some(code), _) => Fails(code, done.attempt.status),
    };
    assert_eq!(done.outcome == Outcome::Delivered, code(&done).is_none(), "{what}");
    let latest = behaviour.deadline() + BUSY;
    assert!(done.attempt.latency < latest.as_micros() as u32, "{what}");
    let says =
        || format!("{what}: {found:?} instead of {:?}: {}", behaviour.expected, detail(&done));
    (found != behaviour.expected).then(says)
}

#[test]
fn frames_are_believed_as_far_as_they_can_be_trusted() {
    let reset = Fails(ErrorCode::Reset, None);
    let timeout = Fails(ErrorCode::Timeout, None);
    let bad = Fails(ErrorCode::BadResponse, None);
    let mut table = Vec::new();
    let mut asked = |what, frames: Vec<Vec<u8>>, then, expected| {
        table.push(Behaviour { what, when: When::Asked, frames, then, expected });
    };
    let data = |flags, bytes: &[u8]| frame(DATA, flags, OURS, bytes);
    let error = |code: u32| code.to_be_bytes().to_vec();

    // Answers.
    asked("a head alone", vec![head(END_STREAM, OK)], Hold, Delivered);
    asked("a head and a body", vec![head(0, OK), data(END_STREAM, b"ok")], Hold, Delivered);
    asked("a refusal", vec![head(END_STREAM, BROKEN)], Hold, Fails(ErrorCode::Status, Some(500)));
    asked(
        "trailers",
        vec![head(0, OK), data(0, b"ok"), head(END_STREAM, &field("x-sum", "1"))],
        Hold,
        Delivered,
    );
    asked(
        "one informational answer",
        vec![head(0, &status("103")), head(END_STREAM, OK)],
        Hold,
        Delivered,
    );
    asked(
        "a body of padding",
        vec![head(0, OK), frame(DATA, PADDED | END_STREAM, OURS, &[3, 0, 0, 0])],
        Hold,
        Delivered,
    );
    // Bodies that do not end, or not as announced.
    asked("a body that stalls", vec![head(0, OK), data(0, b"half")], Hold, Truncated);
    asked("an endless body", vec![head(0, OK), data(0, &[b'x'; 16_000])], Flood, Truncated);
    asked("a body cut off", vec![head(0, OK), data(0, b"half")], Close, Truncated);
    asked("endless empty data", vec![head(0, OK), data(0, b"")], Flood, Truncated);
    asked(
        "a body that is reset",
        vec![head(0, OK), data(0, b"half"), frame(RST_STREAM, 0, OURS, &error(2))],
        Hold,
        Truncated,
    );
    asked(
        "less than announced",
        vec![head(0, &[OK, &field("content-length", "9")].concat()), data(END_STREAM, b"ok")],
        Hold,
        Truncated,
    );
    // Streams and connections that end.
    asked("a stream reset", vec![frame(RST_STREAM, 0, OURS, &error(2))], Hold, reset);
    asked("a stream canceled", vec![frame(RST_STREAM, 0, OURS, &error(8))], Hold, reset);
    asked("a connection that ends", vec![], Close, reset);
    asked("silence", vec![], Hold, timeout);
    asked(
        "a farewell in anger, again and again",
        vec![frame(GOAWAY, 0, 0, &[error(0), error(11)].concat())],
        Flood,
        reset,
    );
    // Floods that keep the connection busy and say nothing.
    asked("settings without end", vec![frame(SETTINGS, 0, 0, &[])], Flood, timeout);
    asked("pings without end", vec![frame(PING, 0, 0, &[0; 8])], Flood, timeout);
    asked("priorities without end", vec![frame(PRIORITY, 0, OURS, &[0; 5])], Flood, timeout);
    asked("unknown frames without end", vec![frame(0xbe, 0, OURS, &[0; 100])], Flood, timeout);
    asked(
        "windows opened without end",
        vec![frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])],
        Flood,
        timeout,
    );
    asked("informational answers without end", vec![head(0, &status("102"))], Flood, timeout);
    asked(
        "a head that never ends",
        vec![
            frame(HEADERS, 0, OURS, OK),
            frame(CONTINUATION, 0, OURS, &field("x-more", &"x".repeat(120))),
        ],
        Flood,
        bad,
    );
    asked(
        "a small head that grows large when it is unpacked",
        vec![head(
            END_STREAM,
            &[
                OK,
                // A field of 4,000 bytes goes into the table, and is then named 4,000 times.
                &[0x40, 1, b'x', 0x7f, 0xa1, 0x1e],
                &[b'y'; 4000],
                &[0xbe; 4000],
            ]
            .concat(),
        )],
        Hold,
        bad,
    );
    // Frames that are wrong by themselves.
    asked("data before the head", vec![data(END_STREAM, b"ok")], Hold, bad);
    asked("data on no stream", vec![frame(DATA, 0, 0, b"ok")], Hold, bad);
    asked("a head on a stream of theirs", vec![frame(HEADERS, 5, 2, OK)], Hold, bad);
    asked("a head on a stream nobody opened", vec![frame(HEADERS, 5, 9, OK)], Hold, bad);
    asked("a reset of no stream", vec![frame(RST_STREAM, 0, 0, &error(0))], Hold, bad);
    asked("a promise", vec![frame(PUSH_PROMISE, 4, OURS, &[0, 0, 0, 2, 0x82])], Hold, bad);
    asked("a window opened by nothing", vec![frame(WINDOW_UPDATE, 0, OURS, &[0; 4])], Hold, bad);
    asked(
        "a window opened too far",
        vec![frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
        Hold,
        bad,
    );
    asked(
        "more padding than frame",
        vec![head(0, OK), frame(DATA, PADDED, OURS, &[200, 0, 0])],
        Hold,
        Truncated,
    );
    asked("settings of seven bytes", vec![frame(SETTINGS, 0, 0, &[0; 7])], Hold, bad);
    asked("settings of a stream", vec![frame(SETTINGS, 0, OURS, &[])], Hold, bad);
    asked("a ping of seven bytes", vec![frame(PING, 0, 0, &[0; 7])], Hold, bad);
    asked("a frame of 16 MiB", vec![vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]], Flood, bad);
    asked(
        "a head begun, and another frame",
        vec![frame(HEADERS, 0, OURS, OK), frame(PING, 0, 0, &[0; 8])],
        Hold,
        bad,
    );
    asked("an index of no field", vec![head(END_STREAM, &[0xff, 0xff, 0x7f])], Hold, bad);
    // Heads that nobody should believe.
    asked("no status", vec![head(END_STREAM, &field("x-a", "b"))], Hold, bad);
    asked("a status of letters", vec![head(END_STREAM, &status("2OO"))], Hold, bad);
    asked("a status of two digits", vec![head(END_STREAM, &status("20"))], Hold, bad);
    asked("a status beyond all", vec![head(END_STREAM, &status("999"))], Hold, bad);
    asked("a switch of protocols", vec![head(END_STREAM, &status("101"))], Hold, bad);
    asked(
        "a name in capitals",
        vec![head(END_STREAM, &[OK, &field("X-Big", "1")].concat())],
        Hold,
        bad,
    );
    asked(
        "a header of the connection",
        vec![head(END_STREAM, &[OK, &field("connection", "close")].concat())],
        Hold,
        bad,
    );
    // What comes in place of settings.
    let mut first = |what, frames: Vec<Vec<u8>>, then, expected| {
        table.push(Behaviour { what, when: When::First, frames, then, expected });
    };
    first("no settings at all", vec![], Hold, timeout);
    first("the end at once", vec![], Close, reset);
    first("HTTP/1.1", vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], Close, bad);
    first("no room for a stream", vec![setting(3, 0)], Hold, timeout);
    first("a window larger than all", vec![setting(4, 0x8000_0000)], Hold, bad);
    first("frames of no size", vec![setting(5, 1)], Hold, bad);
    first("a promise of promises", vec![setting(2, 7)], Hold, bad);
    first("a ping before settings", vec![frame(PING, 0, 0, &[0; 8])], Hold, timeout);

    println!("{} behaviours over HTTP/2", table.len());
    run(async {
        let authority = Rc::new(Authority::new());
        let checks = table.into_iter().map(|one| check(Rc::clone(&authority), one));
        none_is_wrong(checks).await;
    });
}
