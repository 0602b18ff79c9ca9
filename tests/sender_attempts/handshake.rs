//! One table: what a receiver does in place of a TLS handshake, and what the attempt becomes.

use std::{rc::Rc, time::Duration};

use senderz_gateway::{
    delivery::{ErrorCode, Outcome},
    sender::Settings,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    rig::{Receiver, To, code, detail, eventually, none_is_wrong, run, sender},
    tls::Authority,
};

/// Long enough for a debug build, short enough for those behaviours that run into it.
const SHORT: Duration = Duration::from_millis(1500);
/// For those that must not run into it, however busy the machine is …
const LONG: Duration = Duration::from_secs(15);
/// … and how much later than it an attempt may end there.
const BUSY: Duration = Duration::from_secs(5);

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3], &length[..], payload].concat()
}

/// What follows the bytes.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Reset,
    Hold,
    /// All of it again and again, as fast as it is taken.
    Flood,
    /// The last byte again and again, one each 20 ms.
    Drip,
}

use Then::{Close, Drip, Flood, Hold, Reset};

async fn check(
    authority: Rc<Authority>,
    what: &'static str,
    bytes: Vec<u8>,
    then: Then,
    expected: ErrorCode,
) -> Option<String> {
    let receiver = Receiver::start(move |mut stream, _, _| {
        let bytes = bytes.clone();
        async move {
            let mut hello = [0; 4096];
            if stream.read(&mut hello).await.is_ok() && stream.write_all(&bytes).await.is_ok() {
                match then {
                    Close => {}
                    Reset => stream.set_zero_linger().unwrap(),
                    Hold => while stream.read(&mut hello).await.is_ok_and(|len| len > 0) {},
                    Flood => while stream.write_all(&bytes).await.is_ok() {},
                    Drip => {
                        let last = *bytes.last().expect("there is one to repeat");
                        while stream.write_all(&[last]).await.is_ok() {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
            }
        }
    })
    .await;
    let deadline = if expected == ErrorCode::Timeout { SHORT } else { LONG };
    let settings = Settings { tls_timeout: deadline, ..authority.settings() };
    let sender = sender(settings);
    let to = To::https("localhost", receiver.address.port()).within(deadline);
    let done = sender.attempt(to.outgoing()).await;
    eventually("the connection is let go", || sender.connections().open == 0).await;
    assert_eq!(done.outcome, Outcome::Retry { not_before: None }, "{what}");
    assert!(done.attempt.latency < (deadline + BUSY).as_micros() as u32, "{what}");
    let found = code(&done);
    let says = || format!("{what}: {found:?} instead of {expected:?}: {}", detail(&done));
    (found != Some(expected)).then(says)
}

#[test]
fn a_handshake_is_believed_as_far_as_it_can_be_trusted() {
    use ErrorCode::{Timeout, Tls};
    // Its version, 32 random bytes, no session, its choice of a cipher, no compression.
    let hello = |version: [u8; 2], cipher: [u8; 2]| {
        let body = [&version[..], &[7; 32], &[0], &cipher, &[0]].concat();
        record(HANDSHAKE, &[&[2, 0, 0, body.len() as u8], &body[..]].concat())
    };
    let hello_begun = record(HANDSHAKE, &[2, 0, 1, 0, 3, 3]);
    let table = vec![
        ("silence", Vec::new(), Hold, Timeout),
        ("the end at once", Vec::new(), Close, Tls),
        ("a reset at once", Vec::new(), Reset, Tls),
        ("half a record's head", vec![HANDSHAKE, 3], Hold, Timeout),
        ("a hello that stops", hello_begun.clone(), Hold, Timeout),
        ("a hello that is cut off", hello_begun.clone(), Close, Tls),
        ("a hello byte by byte, without end", vec![HANDSHAKE, 3, 3, 0x40, 0, 2], Drip, Timeout),
        ("a hello larger than any", record(HANDSHAKE, &[2, 0xff, 0xff, 0xff, 3, 3]), Hold, Tls),
        ("a fatal alert", record(ALERT, &[2, 40]), Close, Tls),
        ("no such name here", record(ALERT, &[2, 112]), Close, Tls),
        ("warnings without end", record(ALERT, &[1, 90]), Flood, Tls),
        ("goodbye", record(ALERT, &[1, 0]), Close, Tls),
        ("empty records without end", record(HANDSHAKE, &[]), Flood, Tls),
        ("changes of ciphers without end", record(CHANGE_CIPHER_SPEC, &[1]), Flood, Tls),
        ("data before keys", record(APPLICATION_DATA, &[0; 64]), Hold, Tls),
        ("a record longer than any", vec![HANDSHAKE, 3, 3, 0xff, 0xff, 2], Flood, Tls),
        ("a record of no kind", record(99, &[0; 16]), Hold, Tls),
        ("zeroes without end", vec![0; 4096], Flood, Tls),
        ("HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Close, Tls),
        ("another mail server", b"220 mail.example ESMTP\r\n".to_vec(), Hold, Tls),
        ("TLS 1.0", hello([3, 1], [0, 0x2f]), Hold, Tls),
        ("TLS 1.1", hello([3, 2], [0, 0x2f]), Hold, Tls),
        ("a cipher that nobody offered", hello([3, 3], [0, 5]), Hold, Tls),
        ("SSL 2", vec![0x80, 0x2e, 4, 0, 0, 0, 2], Hold, Tls),
    ];
    println!("{} behaviours in place of a TLS handshake", table.len());
    run(async {
        let authority = Rc::new(Authority::new());
        let checks = table.into_iter().map(|(what, bytes, then, expected)| {
            check(Rc::clone(&authority), what, bytes, then, expected)
        });
        none_is_wrong(checks).await;
    });
}
