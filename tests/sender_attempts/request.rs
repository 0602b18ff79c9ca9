//! What goes out, byte for byte.

use std::time::Duration;

use bytes::Bytes;
use senderz_gateway::{
    clock,
    delivery::{Outcome, Protocol},
    engine::Blame,
    sender::sign::{StandardHeaders, verify_hex, verify_standard},
};
use tokio::io::AsyncWriteExt as _;

use crate::rig::{OK, Receiver, To, run, secret, sender, settings};

#[test]
fn the_request_is_the_published_one_and_both_signatures_verify() {
    run(async {
        let receiver = Receiver::start(|mut stream, _, log| async move {
            while log.read_request(&mut stream).await {
                stream.write_all(OK).await.unwrap();
            }
        })
        .await;
        let payload: &[u8] = br#"{ "type":"message.sent",  "data":{"x":"caf\u00e9"} }"#;
        let out = To::http(receiver.address).outgoing_with(Bytes::from_static(payload));
        let before = clock::wall_ms();
        let done = sender(settings()).attempt(out.clone()).await;

        let request = String::from_utf8(receiver.requests().remove(0)).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let value = |name: &str| {
            let line = head.lines().find(|line| line.starts_with(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("no {name} in {head}"))[name.len() + 2..].to_owned()
        };
        let (hex, timestamp) = (value("X-Senderz-Signature"), value("Webhook-Timestamp"));
        let standard = value("Webhook-Signature");
        let expected = format!(
            "POST /hooks?from=senderz HTTP/1.1\r\n\
             Host: {}\r\n\
             Content-Type: application/json\r\n\
             Accept-Encoding: identity\r\n\
             User-Agent: senderZ-Webhooks/1.0\r\n\
             Content-Length: {}\r\n\
             X-Senderz-Signature: {hex}\r\n\
             X-Senderz-Event: message.sent\r\n\
             X-Senderz-Delivery: {}\r\n\
             X-Senderz-Attempt: 1\r\n\
             Webhook-Id: {}\r\n\
             Webhook-Timestamp: {timestamp}\r\n\
             Webhook-Signature: {standard}",
            receiver.address,
            payload.len(),
            out.delivery,
            out.event,
        );
        assert_eq!(head, expected);
        assert_eq!(body.as_bytes(), payload);
        assert_eq!(verify_hex(&secret(), &hex, payload), Ok(()));
        let id = out.event.to_string();
        let headers = StandardHeaders { id: &id, timestamp: &timestamp, signature: &standard };
        let tolerance = Duration::from_secs(5);
        assert_eq!(verify_standard(&secret(), headers, payload, before, tolerance), Ok(()));

        assert_eq!(done.outcome, Outcome::Delivered);
        assert_eq!(done.blame, Blame::Receiver);
        let attempt = done.attempt;
        assert_eq!((attempt.status, attempt.error), (Some(200), None));
        assert_eq!(&attempt.response.headers[..], b"content-length: 2\r\n");
        assert_eq!(&attempt.response.body[..], b"ok");
        assert!(!attempt.response.truncated && !attempt.reused_connection);
        assert_eq!((attempt.peer, attempt.protocol), (Some(receiver.address), Protocol::Http1));
        assert_eq!(attempt.phases.queue, 42);
        assert!(attempt.phases.connect > 0 && attempt.phases.first_byte > 0);
        assert_eq!((attempt.phases.dns, attempt.phases.tls), (0, 0));
        assert!(attempt.latency >= attempt.phases.connect + attempt.phases.first_byte);
        assert!(attempt.at >= before);
    });
}

#[test]
fn headers_of_a_webhook_go_with_its_own_requests_and_with_no_other() {
    run(async {
        let receiver = Receiver::start(|mut stream, _, log| async move {
            while log.read_request(&mut stream).await {
                stream.write_all(OK).await.unwrap();
            }
        })
        .await;
        let own = To::http(receiver.address).header("x-own", "1").outgoing();
        let none = To::http(receiver.address).outgoing();
        let sender = sender(settings());
        for out in [&own, &none, &own] {
            assert_eq!(sender.attempt(out.clone()).await.outcome, Outcome::Delivered);
        }
        let requests = receiver.requests().into_iter().map(|r| String::from_utf8(r).unwrap());
        let has = |request: &str, line: &str| request.contains(&format!("\r\n{line}\r\n"));
        let host = format!("Host: {}", receiver.address);
        let found: Vec<_> = requests.map(|r| (has(&r, &host), has(&r, "X-Own: 1"))).collect();
        assert_eq!(found, [(true, true), (true, false), (true, true)]);
    });
}

#[test]
fn a_large_payload_arrives_whole() {
    run(async {
        let receiver = Receiver::start(|mut stream, _, log| async move {
            while log.read_request(&mut stream).await {
                stream.write_all(OK).await.unwrap();
            }
        })
        .await;
        let payload = Bytes::from(vec![b'x'; 256 * 1024]);
        let out = To::http(receiver.address).outgoing_with(payload.clone());
        let done = sender(settings()).attempt(out).await;
        assert_eq!(done.outcome, Outcome::Delivered);
        assert!(receiver.requests()[0].ends_with(&payload));
    });
}
