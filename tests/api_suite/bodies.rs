//! Bodies that are too large, of the wrong kind, or no JSON object.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, header};
use http_body::Frame;
use serde_json::json;

use crate::support::{Answer, World};

async fn post(world: &World, content_type: Option<&str>, body: Body) -> Answer {
    let mut request = Request::builder()
        .method("POST")
        .uri("/v1/tenants")
        .header(header::AUTHORIZATION, format!("Bearer {}", world.operator));
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    world.send(request.body(body).expect("valid")).await
}

/// A body whose length nobody knows beforehand: a kilobyte at a time. Counts what was taken of it.
struct Chunks {
    left: Bytes,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.left.len().min(1024);
        let chunk = self.left.split_to(next);
        Poll::Ready((next > 0).then(|| Ok(Frame::data(chunk))))
    }
}

fn padded(bytes: usize) -> Bytes {
    let body = r#"{"id":"acme"}"#;
    format!("{body}{}", " ".repeat(bytes - body.len())).into()
}

const JSON: Option<&str> = Some("application/json");
const LIMIT: usize = senderz_gateway::api::MAX_BODY;

#[tokio::test]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let world = World::start().await;
    let announced = post(&world, JSON, Body::from(padded(LIMIT + 1))).await;
    assert_eq!(announced.expect(413).problem(), "payload_too_large");
    let chunked = Body::new(Chunks { left: padded(LIMIT + 1) });
    assert_eq!(post(&world, JSON, chunked).await.expect(413).problem(), "payload_too_large");
    let lying = Request::builder()
        .method("POST")
        .uri("/v1/tenants")
        .header(header::AUTHORIZATION, format!("Bearer {}", world.operator))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, "10")
        .body(Body::new(Chunks { left: padded(LIMIT + 1) }));
    world.send(lying.expect("valid")).await.expect(413);
    post(&world, JSON, Body::new(Chunks { left: padded(LIMIT) })).await.expect(201);
}

#[tokio::test]
async fn only_json_is_taken() {
    let world = World::start().await;
    let body = || Body::from(r#"{"id":"acme"}"#);
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("json")]
    {
        let refused = post(&world, kind, body()).await.expect(415);
        assert_eq!(refused.problem(), "unsupported_media_type", "{kind:?}");
    }
    let zipped = Request::builder()
        .method("POST")
        .uri("/v1/tenants")
        .header(header::AUTHORIZATION, format!("Bearer {}", world.operator))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, "gzip");
    world.send(zipped.body(body()).expect("valid")).await.expect(415);
    let utf16 = post(&world, Some("application/json; charset=utf-16"), body()).await.expect(415);
    assert_eq!(utf16.problem(), "unsupported_media_type");
    let detail = utf16.json()["detail"].as_str().expect("text").to_owned();
    assert!(detail.contains("charset=utf-8"), "says what to do: {detail}");
    post(&world, Some("Application/JSON; charset=utf-8"), body()).await.expect(201);
}

#[tokio::test]
async fn what_is_no_json_object_is_a_problem_and_never_a_panic() {
    let world = World::start().await;
    let deep = "[".repeat(60_000);
    let deep_value = format!(r#"{{"id":{}"#, "[".repeat(60_000));
    let bodies: Vec<&[u8]> = vec![
        b"",
        b" ",
        b"{",
        b"[]",
        b"\"x\"",
        b"null",
        b"7",
        b"{\"id\":}",
        b"{\"id\":\"a\"} x",
        b"{\"id\":\"a\",\"id\":\"b\"}",
        b"{\"id\":\"\xff\"}",
        b"{\"id\":\"\\ud800\"}",
        b"\xef\xbb\xbf{\"id\":\"a\"}",
        b"{'id':'a'}",
        b"{\"id\":1e999}",
        deep.as_bytes(),
        deep_value.as_bytes(),
    ];
    for body in bodies {
        let refused = post(&world, JSON, Body::from(body.to_vec())).await.expect(400);
        assert_eq!(refused.problem(), "invalid_body", "{:?}", &body[..body.len().min(30)]);
    }
    let nul = post(&world, JSON, Body::from("{\"id\":\"a\\u0000b\"}")).await.expect(400);
    assert_eq!(nul.pointers(), ["/id"]);
    let listed = world.get(&world.operator, "/v1/tenants").await.json();
    assert_eq!(listed["data"], json!([]), "nothing of it was taken");
}
