//! Any bytes as a batch of events: all of it or nothing, and each payload is a stretch of the body
//! that is accepted alone, too.

use std::sync::Arc;

use bytes::Bytes;
use senderz_gateway::{
    event::{PayloadLimits, parse_payload},
    id::TenantNo,
    ingest::batch::{BadBatch, BatchLimits, BatchParser, MAX_NAMED_LINES, parse_batch},
    store::Route,
};

const LIMITS: BatchLimits = BatchLimits {
    max_lines: 50,
    max_key: 20,
    payload: PayloadLimits { max_bytes: 1024, max_depth: 16 },
};

pub(crate) fn check(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let find = |tenant: &str, _| -> Option<(TenantNo, Arc<[Route]>)> {
        (tenant == "acme").then(|| (TenantNo(7), Arc::from([])))
    };
    let read = parse_batch(&body, &LIMITS, find);
    // A batch that is read with pauses is the same.
    if let Ok(mut parser) = BatchParser::new(&body, &LIMITS) {
        let mut find = find;
        while !parser.advance(1, &mut find) {}
        let paused = parser.finish().map(|events| events.len());
        assert_eq!(paused, read.as_ref().map(Vec::len).map_err(Clone::clone));
    }
    let lines = data.trim_ascii_end().split(|byte| *byte == b'\n').count();
    match read {
        Ok(events) => {
            assert_eq!(events.len(), lines);
            for event in events {
                assert_eq!(event.tenant, TenantNo(7));
                assert_eq!(parse_payload(&event.payload, &LIMITS.payload), Ok(event.event_type));
                assert!(event.payload.starts_with(b"{") && event.payload.ends_with(b"}"));
                let is_part = data.windows(event.payload.len()).any(|part| part == event.payload);
                assert!(is_part, "byte for byte as it came");
            }
        }
        Err(BadBatch::Empty) => assert!(data.trim_ascii_end().is_empty()),
        Err(BadBatch::TooManyLines { lines: told, max }) => {
            assert!(told == lines && told > max);
        }
        Err(BadBatch::BadLines { errors, bad, lines: told }) => {
            assert!(told == lines && (1..=lines).contains(&bad));
            assert!(!errors.is_empty() && errors.len() <= MAX_NAMED_LINES * 16);
        }
    }
}
