//! Any lines of `name:value` as custom headers, and any lines as an event filter.

use senderz_gateway::webhook::{
    CustomHeaders, HeaderLimits, event_filter_names, parse_event_filter,
};

const LIMITS: HeaderLimits = HeaderLimits { max_count: 20, max_bytes: 4096 };

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Split at NUL, so that carriage returns and line feeds reach the parser.
    let parts: Vec<&str> = text.split('\0').collect();

    let pairs = parts.iter().map(|part| part.split_once(':').unwrap_or((part, "")));
    match CustomHeaders::parse(pairs, LIMITS) {
        Ok(headers) => are_sound(&headers),
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(!fault.to_string().contains(['\r', '\n', '\0']));
                assert!(fault.place.is_none_or(|place| place < parts.len()));
            }
        }
    }

    for is_operators in [false, true] {
        if let Ok(types) = parse_event_filter(&parts, is_operators) {
            assert!(!types.is_empty());
            assert_eq!(parse_event_filter(&event_filter_names(types), is_operators), Ok(types));
        }
    }
}

fn are_sound(headers: &CustomHeaders) {
    assert!(headers.len() <= LIMITS.max_count);
    let mut bytes = 0;
    for (at, (name, value)) in headers.iter().enumerate() {
        bytes += name.as_str().len() + value.len();
        assert!(value.as_bytes().iter().all(|b| (0x20..0x7f).contains(b)));
        assert!(value.is_sensitive());
        assert!(headers.iter().skip(at + 1).all(|(other, _)| other != name));
        let name = name.as_str();
        let reserved = ["host", "connection", "transfer-encoding", "content-length", "te"];
        assert!(!reserved.contains(&name) && !name.starts_with("webhook-"));
    }
    assert!(bytes <= LIMITS.max_bytes);
}
