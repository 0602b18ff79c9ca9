use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::id::WebhookNo;

const LIMITS: BatchLimits = BatchLimits {
    max_lines: 100,
    max_key: 20,
    payload: PayloadLimits { max_bytes: 1_000, max_depth: 16 },
};

const PAYLOAD: &str = r#"{"type":"message.read","timestamp":"2026-11-23T04:20:00Z","data":{"id":"m","channel":"sms","recipient":"+1"}}"#;

fn line(tenant: &str, rest: &str) -> String {
    format!(r#"{{"tenant":"{tenant}","payload":{PAYLOAD}{rest}}}"#)
}

/// Knows the tenants `acme` (1) and `beta` (2).
fn find(tenant: &str, event_type: EventType) -> Option<(TenantNo, Arc<[Route]>)> {
    let no = match tenant {
        "acme" => 1,
        "beta" => 2,
        _ => return None,
    };
    let webhook = WebhookNo(no * 10 + event_type as u32);
    Some((TenantNo(no), Arc::from([Route { webhook, enabled: true }])))
}

fn parse(body: impl Into<Vec<u8>>) -> Result<Vec<NewEvent>, BadBatch> {
    parse_batch(&Bytes::from(body.into()), &LIMITS, find)
}

/// The pointers and lines of the problems.
#[track_caller]
fn check_bad(body: impl Into<Vec<u8>>, expected: &[(&str, usize)]) {
    match parse(body) {
        Err(BadBatch::BadLines { errors, bad, .. }) => {
            let found: Vec<_> =
                errors.iter().map(|e| (e.pointer.as_str(), e.line.unwrap_or(0))).collect();
            assert_eq!(found, expected);
            let lines: std::collections::BTreeSet<_> = errors.iter().map(|e| e.line).collect();
            assert_eq!(lines.len(), bad.min(MAX_NAMED_LINES));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_line_becomes_an_event_with_its_tenants_routes() {
    let body = format!("{}\n{}\n", line("acme", ""), line("beta", r#","idempotency_key":"k""#));
    let events = parse(body).expect("good");
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].tenant, TenantNo(1));
    assert_eq!(events[0].key, None);
    assert_eq!(events[0].routes[0].webhook, WebhookNo(14));
    assert_eq!(events[1].tenant, TenantNo(2));
    assert_eq!(events[1].key, Some(request::idempotency_key(TenantNo(2), "k")));
    assert_eq!(events[1].event_type, EventType::Read);
}

#[test]
fn payloads_are_slices_of_the_body() {
    let body = Bytes::from(format!("{}\n{}", line("acme", ""), line("beta", "")));
    let events = parse_batch(&body, &LIMITS, find).expect("good");
    for event in &events {
        let range = body.as_ptr_range();
        assert!(range.contains(&event.payload.as_ptr()));
        assert_eq!(event.payload, PAYLOAD);
    }
}

#[test]
fn line_ends_and_members_may_vary() {
    for body in [
        line("acme", ""),
        format!("{}\n", line("acme", "")),
        format!("{}\r\n", line("acme", "")),
        format!("{}\n\n \r\n\n", line("acme", "")),
        format!(" \t{} ", line("acme", r#","idempotency_key":null"#)),
        format!(r#"{{ "payload" : {PAYLOAD} , "idempotency_key":"k","tenant":"acme" }}"#),
        format!(r#"{{"p\u0061yload":{PAYLOAD},"tenant":"\u0061cme"}}"#),
    ] {
        let events = parse(body.clone()).unwrap_or_else(|e| panic!("{body}: {e:?}"));
        assert_eq!(events.len(), 1, "{body}");
        assert_eq!(events[0].payload, PAYLOAD, "{body}");
    }
}

#[test]
fn whitespace_around_a_payload_is_not_part_of_it_and_within_it_is() {
    let spaced = PAYLOAD.replace("\":", "\" \t: ");
    let body = format!("{{\"tenant\":\"acme\",\"payload\":  {spaced}\t }}");
    assert_eq!(parse(body).expect("good")[0].payload, spaced);
}

#[test]
fn a_line_may_say_which_trace_it_belongs_to() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let members = [
        format!(r#","traceparent":"{parent}","tracestate":"a=1, b=2""#),
        format!(r#","tracestate":"not a state","traceparent":"{parent}""#),
        r#","traceparent":null,"tracestate":"a=1""#.to_owned(),
        String::new(),
    ];
    let lines: Vec<String> = members.iter().map(|rest| line("acme", rest)).collect();
    let events = parse(lines.join("\n")).expect("good");
    let found: Vec<_> = events.iter().map(|event| event.trace.as_ref()).collect();
    let known: TraceContext = parent.parse().unwrap();
    assert_eq!(found[0], Some(&Box::new(known.clone().with_state("a=1,b=2"))));
    assert_eq!(found[1], Some(&Box::new(known)), "a bad state is left out, as in a header");
    assert_eq!(found[2..], [None, None]);
}

#[test]
fn a_mistyped_member_is_told_with_the_nearest_one() {
    let told = |rest: &str| match parse(line("acme", rest)).map(|events| events.len()) {
        Err(BadBatch::BadLines { errors, .. }) => errors[0].detail.clone(),
        other => panic!("{other:?}"),
    };
    let near = "\"idempotencykey\" is no member of a line; did you mean `idempotency_key`?";
    assert_eq!(told(r#","idempotencykey":"x""#), near);
    for far in [r#","+15550001":1"#.to_owned(), format!(r#","{}":1"#, "payload".repeat(500))] {
        assert_eq!(told(&far), format!("has an unknown member; {SHAPE}"));
    }
}

#[test]
fn bad_lines_are_named_wherever_they_stand() {
    let good = line("acme", "");
    let bad_payload = line("acme", "").replace("\"m\"", "\"\"");
    for at in 0..5 {
        let mut lines = [good.as_str(); 5];
        lines[at] = &bad_payload;
        let pointer = format!("/lines/{}/payload/data/id", at + 1);
        check_bad(lines.join("\n"), &[(&pointer, at + 1)]);
    }
    let body = [&bad_payload, &good, "nonsense", &good, &line("gone", "")].join("\r\n");
    check_bad(body, &[("/lines/1/payload/data/id", 1), ("/lines/3", 3), ("/lines/5/tenant", 5)]);
}

#[test]
fn each_kind_of_bad_line_is_named_at_its_place() {
    let long = format!(r#","idempotency_key":"{}""#, "k".repeat(21));
    let huge = line("acme", "").replace("\"m\"", &format!("\"m\",\"x\":\"{}\"", "x".repeat(1_000)));
    let deep = line("acme", "")
        .replace("\"m\"", &format!("\"m\",\"x\":{}1{}", "[".repeat(20), "]".repeat(20)));
    for (line, pointer) in [
        ("{", "/lines/1"),
        ("[]", "/lines/1"),
        ("null", "/lines/1"),
        ("\"text\"", "/lines/1"),
        ("{}", "/lines/1/tenant"),
        (r#"{"tenant":"acme"}"#, "/lines/1/payload"),
        (r#"{"tenant":"acme","payload":null}"#, "/lines/1/payload"),
        (r#"{"tenant":"acme","payload":"{}"}"#, "/lines/1/payload"),
        (&line("", ""), "/lines/1/tenant"),
        (&line("ACME", ""), "/lines/1/tenant"),
        (&line("acme", "").replace("\"acme\"", "5"), "/lines/1/tenant"),
        (&line("acme", r#","idempotency_key":"""#), "/lines/1/idempotency_key"),
        (&line("acme", r#","idempotency_key":7"#), "/lines/1/idempotency_key"),
        (&line("acme", r#","traceparent":"00-x""#), "/lines/1/traceparent"),
        (&line("acme", r#","traceparent":7"#), "/lines/1/traceparent"),
        (&line("acme", r#","tracestate":7"#), "/lines/1/tracestate"),
        (&line("acme", r#","idempotency_key":"a b""#), "/lines/1/idempotency_key"),
        (&line("acme", r#","idempotency_key":"\u0000""#), "/lines/1/idempotency_key"),
        (&line("acme", r#","idempotency_key":"\ud800""#), "/lines/1/idempotency_key"),
        (&line("acme", r#","idempotency_key":"ü""#), "/lines/1/idempotency_key"),
        (&line("acme", &long), "/lines/1/idempotency_key"),
        (&line("acme", r#","extra":1"#), "/lines/1"),
        (&line("acme", r#","tenant":"acme""#), "/lines/1"),
        (&line("acme", &format!(r#","payload":{PAYLOAD}"#)), "/lines/1"),
        (&format!("{0}{0}", line("acme", "")), "/lines/1"),
        (&format!("\u{FEFF}{}", line("acme", "")), "/lines/1"),
        (&huge, "/lines/1/payload"),
        (&deep, "/lines/1/payload"),
        (&line("acme", "").replace("message.read", "message.gone"), "/lines/1/payload/type"),
        (&format!(r#"{{"tenant":"acme","payload":{}"#, "[".repeat(100_000)), "/lines/1"),
    ] {
        check_bad(line, &[(pointer, 1)]);
    }
}

#[test]
fn a_blank_line_in_the_middle_is_refused() {
    let good = line("acme", "");
    check_bad(format!("{good}\n\n{good}"), &[("/lines/2", 2)]);
    check_bad(format!("{good}\r\n \r\n{good}\n"), &[("/lines/2", 2)]);
    check_bad(format!("\n{good}"), &[("/lines/1", 1)]);
    let said = format!("{:?}", parse(format!("{good}\n\n{good}")));
    assert!(said.contains("a blank line"), "{said}");
}

#[test]
fn invalid_utf8_names_its_line_only() {
    let mut body = format!("{}\n{}\n", line("acme", ""), line("acme", "")).into_bytes();
    let at = body.len() - 5;
    body[at] = 0xFF;
    check_bad(body, &[("/lines/2", 2)]);
}

#[test]
fn the_first_twenty_bad_lines_are_named_and_all_are_counted() {
    let body = vec!["x"; 50].join("\n") + "\n" + &line("acme", "");
    let Err(BadBatch::BadLines { errors, bad, lines }) = parse(body.clone()) else {
        panic!("must be refused")
    };
    assert_eq!((errors.len(), bad, lines), (20, 50, 51));
    let said = parse(body).expect_err("still").to_string();
    assert_eq!(said, "50 of 51 lines are bad (the first 20 are named); nothing was accepted");
}

#[test]
fn the_number_of_lines_is_limited() {
    let lines = |n| vec![line("acme", ""); n].join("\n") + "\n";
    assert_eq!(parse(lines(100)).expect("at the limit").len(), 100);
    let over = parse(lines(101)).expect_err("over the limit");
    assert_eq!(over, BadBatch::TooManyLines { lines: 101, max: 100 });
    for empty in ["", "\n", " \r\n\n"] {
        assert_eq!(parse(empty).expect_err("no lines"), BadBatch::Empty);
    }
}

#[test]
fn errors_hold_nothing_of_a_line() {
    for bad in [
        line("hunter2", ""),
        line("acme", r#","hunter2":1"#),
        line("acme", r#","idempotency_key":"hunter 2""#).replace("hunter 2", "hunter2 x"),
        r#""hunter2""#.to_owned(),
    ] {
        let said = format!("{:?}", parse(bad).expect_err("bad"));
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn stretches_of_any_length_give_the_same_batch() {
    let body = Bytes::from((0..37).map(|_| line("acme", "")).collect::<Vec<_>>().join("\n"));
    for stretch in [1, 2, 36, 37, 38] {
        let mut parser = BatchParser::new(&body, &LIMITS).expect("not too many");
        let mut turns = 1;
        while !parser.advance(stretch, &mut find) {
            turns += 1;
        }
        assert_eq!(turns, 37usize.div_ceil(stretch));
        assert_eq!(parser.finish().expect("good").len(), 37);
    }
}

proptest! {
    /// The payload comes out byte for byte, whatever else is in it and however it is spaced.
    #[test]
    fn payload_bytes_are_preserved(
        extra in proptest::collection::vec(("x[a-z]{0,5}", ".{0,20}", any::<i32>()), 0..5),
        spaces in proptest::collection::vec("[ \t]{0,3}", 4),
        tenants in proptest::collection::vec(prop_oneof!["acme", "beta"], 1..6),
    ) {
        let members: String = extra
            .iter()
            .map(|(name, text, number)| {
                format!("{}\"{name}\":{}{}", spaces[0], json!([text, number]), spaces[1]) + ","
            })
            .collect();
        let payload = format!("{{{}{members}{}{}", spaces[2], &PAYLOAD[1..PAYLOAD.len() - 1], spaces[3]) + "}";
        let lines: Vec<String> = tenants
            .iter()
            .map(|tenant| format!("{{\"tenant\":\"{tenant}\",\"payload\":{payload}}}"))
            .collect();
        let events = parse(lines.join("\n")).expect("good");
        prop_assert_eq!(events.len(), tenants.len());
        for (event, tenant) in events.iter().zip(&tenants) {
            prop_assert_eq!(&event.payload[..], payload.as_bytes());
            prop_assert_eq!(event.tenant.0, if tenant == "acme" { 1 } else { 2 });
        }
    }

    /// Against a model: a batch is good exactly if a full parser and the rules say so of each line.
    #[test]
    fn a_batch_is_good_exactly_if_each_line_is(
        kinds in proptest::collection::vec(0usize..6, 1..12),
    ) {
        let candidates = [
            line("acme", ""),
            line("beta", r#","idempotency_key":"k""#),
            line("acme", "  "),
            line("gone", ""),
            String::from("{}"),
            line("acme", "").replace("recipient", "recipients"),
        ];
        let body = kinds.iter().map(|k| candidates[*k].as_str()).collect::<Vec<_>>().join("\n");
        let bad_lines: Vec<usize> =
            (0..kinds.len()).filter(|i| kinds[*i] >= 3).map(|i| i + 1).collect();
        match parse(body) {
            Ok(events) => prop_assert!(bad_lines.is_empty() && events.len() == kinds.len()),
            Err(BadBatch::BadLines { errors, bad, .. }) => {
                let named: Vec<_> = errors.iter().filter_map(|e| e.line).collect();
                prop_assert_eq!(&named, &bad_lines);
                prop_assert_eq!(bad, bad_lines.len());
            }
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn no_body_panics(body in "[\\{\\}\\[\\]\",:a-z\n\\\\ ]{0,200}") {
        let _ = parse(body);
    }
}

#[test]
fn escapes_in_a_payload_stay_as_they_are() {
    let event: Value = serde_json::from_str(PAYLOAD).expect("JSON");
    let escaped = serde_json::to_string(&event).expect("JSON").replace("sms", r"s\u006ds");
    let body = format!(r#"{{"tenant": "acme", "payload": {escaped}}}"#);
    assert_eq!(parse(body).expect("good")[0].payload, escaped);
}
