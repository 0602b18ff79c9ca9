//! The two answers that say an event is durable.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::{idempotency::IDEMPOTENT_REPLAYED, store::Appended};

pub(super) fn accepted_one(appended: &Appended) -> Response<Full<Bytes>> {
    let id = appended.id.encode();
    let mut body = Vec::with_capacity(64);
    body.extend_from_slice(br#"{"id":""#);
    body.extend_from_slice(&id);
    body.extend_from_slice(format!(r#"","deliveries":{}}}"#, appended.deliveries).as_bytes());
    accepted(body, appended.replayed)
}

/// A line that was accepted before counts as it did then, and has its first event's id: a batch
/// that is repeated with its keys gets its first answer again.
pub(super) fn accepted_many(appended: &[Appended], wants_ids: bool) -> Response<Full<Bytes>> {
    let mut body = format!(r#"{{"accepted":{}"#, appended.len()).into_bytes();
    if wants_ids {
        body.reserve(appended.len() * 33 + 16);
        body.extend_from_slice(br#","ids":["#);
        for (i, one) in appended.iter().enumerate() {
            body.extend_from_slice(if i == 0 { br#"""# } else { br#",""# });
            body.extend_from_slice(&one.id.encode());
            body.push(b'"');
        }
        body.push(b']');
    }
    body.push(b'}');
    accepted(body, appended.iter().all(|one| one.replayed))
}

fn accepted(body: Vec<u8>, replayed: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::ACCEPTED;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    if replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}
