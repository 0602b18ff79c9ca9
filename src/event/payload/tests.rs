use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const LIMITS: PayloadLimits = PayloadLimits { max_bytes: 256 * 1024, max_depth: 64 };

const GOOD: &str = r#"{"type":"message.sent","timestamp":"2026-11-23T04:20:00.123Z",
    "data":{"id":"msg_1","channel":"sms","recipient":"+15555550100"}}"#;

/// A good payload with `members` spliced in: into the payload, and into its data.
fn with(members: &str, data_members: &str) -> String {
    format!(
        r#"{{"type":"message.sent","timestamp":"2026-11-23T04:20:00Z"{members},"data":{{"id":"m","channel":"sms","recipient":"+1"{data_members}}}}}"#
    )
}

/// A payload in which one member was replaced (or removed, where `value` is none).
fn edited(pointer: &str, value: Option<Value>) -> String {
    let mut payload: Value = serde_json::from_str(GOOD).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = payload.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
    payload.to_string()
}

/// `expected` is a type's name, or the pointers of the problems.
#[track_caller]
fn check(payload: impl AsRef<[u8]>, expected: Result<&str, &[&str]>) {
    let payload = payload.as_ref();
    let found = parse_payload(payload, &LIMITS);
    let found = match &found {
        Ok(event_type) => Ok(event_type.as_str()),
        Err(e) => Err(e.problems.iter().map(|p| p.pointer).collect::<Vec<_>>()),
    };
    let expected = expected.map_err(<[&str]>::to_vec);
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(&payload[..payload.len().min(300)]));
}

#[track_caller]
fn check_refused(payload: impl AsRef<[u8]>, detail_has: &str) {
    let payload = payload.as_ref();
    let e = parse_payload(payload, &LIMITS).expect_err("must be refused");
    assert!(e.to_string().contains(detail_has), "`{e}` does not say `{detail_has}`");
}

#[test]
fn all_six_types_are_known() {
    for event_type in EventType::ALL {
        let payload = edited("/type", Some(json!(event_type.as_str())));
        let payload = payload.replace(r#""id""#, r#""status_reason":"why","id""#);
        check(payload, Ok(event_type.as_str()));
    }
}

#[test]
fn each_required_field_is_required_to_be_there_and_right() {
    for pointer in ["/type", "/timestamp", "/data/id", "/data/channel", "/data/recipient"] {
        check(edited(pointer, None), Err(&[pointer]));
        for wrong in [json!(null), json!(""), json!(1), json!(-1), json!(1.5), json!(true)] {
            check(edited(pointer, Some(wrong)), Err(&[pointer]));
        }
        for wrong in [json!([]), json!(["message.sent"]), json!({}), json!({"id": "x"})] {
            check(edited(pointer, Some(wrong)), Err(&[pointer]));
        }
    }
    check(edited("/data", None), Err(&["/data"]));
    for wrong in [json!(null), json!("x"), json!([]), json!(7)] {
        check(edited("/data", Some(wrong)), Err(&["/data"]));
    }
}

#[test]
fn all_wrong_fields_are_named_at_once() {
    check("{}", Err(&["/type", "/timestamp", "/data"]));
    check(
        r#"{"type":"message.gone","data":{"id":"","channel":5}}"#,
        Err(&["/type", "/data/id", "/data/channel", "/timestamp", "/data/recipient"]),
    );
}

#[test]
fn a_reason_is_needed_for_failed_and_blocked_only() {
    for name in ["message.failed", "message.blocked"] {
        let base = edited("/type", Some(json!(name)));
        check(&base, Err(&["/data/status_reason"]));
        for (reason, good) in [("null", false), (r#""""#, false), ("3", false), (r#""x""#, true)] {
            let payload = base.replace(r#""id""#, &format!(r#""status_reason":{reason},"id""#));
            check(payload, if good { Ok(name) } else { Err(&["/data/status_reason"]) });
        }
    }
    for reason in ["null", r#""""#, r#""carrier""#] {
        check(with("", &format!(r#","status_reason":{reason}"#)), Ok("message.sent"));
    }
    check(with("", r#","status_reason":[]"#), Err(&["/data/status_reason"]));
}

#[test]
fn lengths_have_limits() {
    for (pointer, longest) in [
        ("/data/id", MAX_ID),
        ("/data/channel", MAX_CHANNEL),
        ("/data/recipient", MAX_RECIPIENT),
        ("/data/status_reason", MAX_STATUS_REASON),
    ] {
        check(edited(pointer, Some(json!("x".repeat(longest)))), Ok("message.sent"));
        check(edited(pointer, Some(json!("x".repeat(longest + 1)))), Err(&[pointer]));
    }
}

#[test]
fn timestamps_are_rfc_3339() {
    for good in [
        "2026-11-23T04:20:00Z",
        "2026-11-23t04:20:00.1z",
        "2026-11-23T04:20:00.123456789012+05:30",
        "2024-02-29T23:59:60-00:00",
        "0000-01-01T00:00:00+23:59",
    ] {
        check(edited("/timestamp", Some(json!(good))), Ok("message.sent"));
    }
    for bad in [
        "2026-11-23",
        "2026-11-23 04:20:00Z",
        "2026-11-23T04:20:00",
        "2026-11-23T04:20Z",
        "2026-11-23T04:20:00.Z",
        "2026-11-23T04:20:00.",
        "2026-11-23T04:20:00.5",
        "2026-11-23T04:20:00+0530",
        "2026-11-23T04:20:00+24:00",
        "2026-11-23T04:20:00+05:60",
        "2026-11-23T24:00:00Z",
        "2026-11-23T04:60:00Z",
        "2026-11-23T04:20:61Z",
        "2025-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-00-10T00:00:00Z",
        "2026-13-10T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "+026-01-01T00:00:00Z",
        "2026-11-23T04:20:00ZZ",
        " 2026-11-23T04:20:00Z",
        "2026-11-23T04:20:0٣Z",
        "1795407600",
    ] {
        check(edited("/timestamp", Some(json!(bad))), Err(&["/timestamp"]));
    }
    let long = format!("2026-11-23T04:20:00.{}Z", "0".repeat(100));
    check(edited("/timestamp", Some(json!(long))), Err(&["/timestamp"]));
}

#[test]
fn what_is_not_json_is_refused_wherever_it_stands() {
    let bad: [(&str, Vec<u8>); 24] = [
        ("empty", b"".to_vec()),
        ("only whitespace", b" \n ".to_vec()),
        ("cut off", GOOD[..GOOD.len() - 1].into()),
        ("two documents", format!("{GOOD}{GOOD}").into()),
        ("trailing word", format!("{GOOD} x").into()),
        ("trailing NUL", format!("{GOOD}\0").into()),
        ("byte order mark", format!("\u{FEFF}{GOOD}").into()),
        ("trailing comma", with(r#","x":[1,]"#, "").into()),
        ("single quotes", GOOD.replace('"', "'").into()),
        ("comment", format!("/* hi */{GOOD}").into()),
        ("bare word", with(r#","x":undefined"#, "").into()),
        ("NaN", with(r#","x":NaN"#, "").into()),
        ("beyond a double", with(r#","x":1e400"#, "").into()),
        ("leading zero", with(r#","x":01"#, "").into()),
        ("plus sign", with(r#","x":+1"#, "").into()),
        ("hexadecimal", with(r#","x":0x1"#, "").into()),
        ("lone high surrogate", with(r#","x":"\ud800""#, "").into()),
        ("lone low surrogate", with(r#","x":"\udc00""#, "").into()),
        ("high surrogate and letter", with(r#","x":"\ud800a""#, "").into()),
        ("lone surrogate in a name", with(r#","\ud800":1"#, "").into()),
        ("unknown escape", with(r#","x":"\q""#, "").into()),
        ("raw newline in a string", with(",\"x\":\"a\nb\"", "").into()),
        ("raw NUL in a string", with(",\"x\":\"\0\"", "").into()),
        ("number as a name", with(",1:2", "").into()),
    ];
    for (name, payload) in bad {
        let e = parse_payload(&payload, &LIMITS).expect_err(name);
        assert_eq!(e.problems.len(), 1, "{name}: {e}");
        assert_eq!(e.problems[0].pointer, "", "{name}: {e}");
    }
    for not_an_object in ["null", "1", "-1", "1.5", "true", r#""message.sent""#, "[]", "[{}]"] {
        check(not_an_object, Err(&[""]));
    }
}

#[test]
fn invalid_utf8_is_refused_with_its_place() {
    for invalid in [&b"\xFF"[..], b"\xC0\x80", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xE2\x82"] {
        let mut payload = with(r#","x":"@""#, "").into_bytes();
        let at = payload.iter().position(|b| *b == b'@').unwrap();
        payload.splice(at..=at, invalid.iter().copied());
        check(&payload, Err(&[""]));
        check_refused(&payload, &format!("byte {at} is not UTF-8"));
    }
}

#[test]
fn fields_that_the_gateway_reads_may_not_repeat() {
    check(with(r#","type":"message.sent""#, ""), Err(&["/type"]));
    check(with(r#","type":"message.read""#, ""), Err(&["/type"]));
    check(with(r#","timestamp":"2026-11-23T04:20:00Z""#, ""), Err(&["/timestamp"]));
    check(with("", r#","id":"other""#), Err(&["/data/id"]));
    check(with("", r#","channel":null"#), Err(&["/data/channel"]));
    check(with("", r#","recipient":"+1""#), Err(&["/data/recipient"]));
    check(with("", r#","status_reason":null,"status_reason":"x""#), Err(&["/data/status_reason"]));
    check(with(r#","data":{}"#, ""), Err(&["/data"]));
    // An escape in a name does not hide it.
    check(with(r#","t\u0079pe":"message.read""#, ""), Err(&["/type"]));
    check(with("", r#","\u0069d":"x""#), Err(&["/data/id"]));
    // Others pass through, also where they carry the same names elsewhere.
    check(with(r#","x":1,"x":2,"id":1,"id":2"#, r#","type":1,"type":{}"#), Ok("message.sent"));
    check(with(r#","x":{"type":1,"data":2}"#, r#","y":{"id":5}"#), Ok("message.sent"));
}

#[test]
fn escaped_text_means_what_it_says() {
    let escaped =
        GOOD.replace("message.sent", r"message\u002esent").replace("msg_1", r"\ud83d\ude00");
    check(escaped, Ok("message.sent"));
    check(with("", r#","x":"\u0000\b\/""#), Ok("message.sent"));
}

#[test]
fn depth_is_limited_and_the_stack_survives() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    check(with(&format!(r#","x":{}"#, nested(63)), ""), Ok("message.sent"));
    check(with(&format!(r#","x":{}"#, nested(64)), ""), Err(&[""]));
    check_refused(with(&format!(r#","x":{}"#, nested(64)), ""), "deeper than 64");
    check(with("", &format!(r#","x":{}"#, nested(62))), Ok("message.sent"));
    check(with("", &format!(r#","x":{}"#, nested(63))), Err(&[""]));
    let bombs = [
        "[".repeat(100_000),
        r#"{"a":"#.repeat(20_000),
        format!(r#"{{"x":{}"#, "[".repeat(100_000)),
    ];
    for bomb in bombs {
        check(bomb, Err(&[""]));
    }
    // Beyond the JSON parser's own limit it is still an answer.
    let wide = PayloadLimits { max_depth: 100_000, ..LIMITS };
    assert!(parse_payload("[".repeat(100_000).as_bytes(), &wide).is_err());
}

#[test]
fn size_is_limited_to_the_byte() {
    let pad = |to: usize| format!("{GOOD}{}", " ".repeat(to - GOOD.len()));
    check(pad(LIMITS.max_bytes), Ok("message.sent"));
    check(pad(LIMITS.max_bytes + 1), Err(&[""]));
    check_refused(pad(LIMITS.max_bytes + 1), "ingest.max_payload");
}

#[test]
fn many_members_and_huge_numbers_stay_linear() {
    let members: String = (0..15_000).map(|i| format!(r#","k{i}":{i}"#)).collect();
    check(with(&members, ""), Ok("message.sent"));
    check(with(&format!(r#","x":{}"#, "9".repeat(300)), ""), Ok("message.sent"));
    check(with(&format!(r#","x":0.{}"#, "9".repeat(200_000)), ""), Ok("message.sent"));
}

#[test]
fn errors_hold_nothing_of_the_payload() {
    for payload in [
        with(r#","x":"hunter2""#, r#","id":"hunter2""#),
        with("", r#","hunter2":\"#),
        edited("/type", Some(json!("hunter2"))),
        edited("/timestamp", Some(json!("hunter2"))),
    ] {
        let e = parse_payload(payload.as_bytes(), &LIMITS).unwrap_err();
        assert!(!format!("{e} {e:?}").contains("hunter2"), "{e}");
    }
}

/// Any JSON value, of a few levels.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".*", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_passes_through_does_not_change_the_answer(
        extra in proptest::collection::btree_map("x.*", any_json(), 0..4),
        in_data in proptest::collection::btree_map("x.*", any_json(), 0..4),
        pretty in any::<bool>(),
    ) {
        let mut payload: Value = serde_json::from_str(GOOD).unwrap();
        payload.as_object_mut().unwrap().extend(extra);
        payload["data"].as_object_mut().unwrap().extend(in_data);
        let text = if pretty {
            serde_json::to_string_pretty(&payload).unwrap()
        } else {
            payload.to_string()
        };
        prop_assert_eq!(parse_payload(text.as_bytes(), &LIMITS), Ok(EventType::Sent));
    }

    #[test]
    fn what_is_accepted_is_what_a_full_parser_accepts(
        at in 0..GOOD.len(), byte in any::<u8>(), insert in any::<bool>(),
    ) {
        let mut bytes = GOOD.as_bytes().to_vec();
        if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        let full = serde_json::from_slice::<Value>(&bytes);
        if let Ok(event_type) = parse_payload(&bytes, &LIMITS) {
            let full = full.expect("accepted, so it is JSON");
            prop_assert_eq!(full["type"].as_str(), Some(event_type.as_str()));
            let time = full["timestamp"].as_str().unwrap();
            prop_assert!(time.parse::<jiff::Timestamp>().is_ok(), "{}", time);
        }
    }

    #[test]
    fn every_time_that_jiff_prints_is_accepted(
        ms in -62_000_000_000_000i64..253_000_000_000_000, offset in -86_340i32..86_340,
    ) {
        let offset = jiff::tz::Offset::from_seconds(offset / 60 * 60).unwrap();
        let time = jiff::Timestamp::from_millisecond(ms).unwrap();
        let printed = time.display_with_offset(offset).to_string();
        // Six-digit years are ISO 8601, not RFC 3339.
        if printed.starts_with(|c: char| c.is_ascii_digit()) {
            prop_assert!(timestamp::is_rfc3339(&printed), "{}", printed);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_payload(&bytes, &LIMITS);
    }
}
