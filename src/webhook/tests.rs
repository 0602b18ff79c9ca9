use super::*;

const LIMITS: HeaderLimits = HeaderLimits { max_count: 3, max_bytes: 100 };

/// What is expected of a list that is not valid: what is wrong, and in which place.
#[track_caller]
fn check_headers(pairs: &[(&str, &str)], expected: Result<usize, &[(Option<usize>, HeaderError)]>) {
    let parsed = CustomHeaders::parse(pairs.iter().copied(), LIMITS);
    let expected = expected.map_err(faults);
    assert_eq!(parsed.map(|headers| headers.len()), expected, "{pairs:?}");
}

fn faults(expected: &[(Option<usize>, HeaderError)]) -> Vec<HeaderFault> {
    let fault = |(place, why): &(_, HeaderError)| HeaderFault { place: *place, why: why.clone() };
    expected.iter().map(fault).collect()
}

fn name(text: &str) -> HeaderName {
    HeaderName::from_bytes(text.as_bytes()).expect("a header name")
}

#[test]
fn headers_come_out_as_they_were_written() {
    let headers = CustomHeaders::parse(
        [("Authorization", "Bearer a b~!"), ("x-empty", ""), ("Cookie", "k=\"v\"")],
        LIMITS,
    )
    .expect("valid headers");
    let out: Vec<_> =
        headers.iter().map(|(n, v)| (n.as_str(), v.to_str().expect("ASCII"))).collect();
    assert_eq!(out, [("authorization", "Bearer a b~!"), ("x-empty", ""), ("cookie", "k=\"v\"")]);
    assert!(headers.iter().all(|(_, value)| value.is_sensitive()));
    assert!(!headers.is_empty());
}

#[test]
fn names_that_the_gateway_sets_are_refused_in_any_letter_case() {
    for reserved in [
        "Host",
        "Content-Type",
        "Content-Length",
        "Content-Encoding",
        "Accept-Encoding",
        "User-Agent",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "HTTP2-Settings",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Proxy-Anything",
        "Webhook-Id",
        "Webhook-Timestamp",
        "Webhook-Signature",
        "Webhook-Anything",
        "X-Senderz-Signature",
        "X-Senderz-Event",
        "X-Senderz-Delivery",
        "X-Senderz-Attempt",
        "X-Senderz-Anything",
    ] {
        for spelled in [reserved.to_owned(), reserved.to_lowercase(), reserved.to_uppercase()] {
            let refused = [(Some(0), HeaderError::Reserved(name(reserved)))];
            check_headers(&[(&spelled, "x")], Err(&refused));
            let removal = HeadersPatch::parse(&[(&spelled, None)], LIMITS);
            assert_eq!(removal, Err(faults(&refused)), "nor can {spelled} be removed");
        }
    }
    for free in ["X-Webhook-Id", "Webhooks", "X-Senderzone", "Hosts", "Accept", "Proxied"] {
        check_headers(&[(free, "x")], Ok(1));
    }
}

#[test]
fn what_is_no_header_name_is_refused_by_its_place() {
    for bad in [
        "",
        " ",
        ":path",
        ":authority",
        "x y",
        "x:",
        "x\r\ny",
        "x\0",
        "é",
        "x\t",
        "(x)",
        "x/y",
        "\"x\"",
        "x,y",
        "x;y",
        "x=y",
    ] {
        check_headers(&[("a", "1"), (bad, "x")], Err(&[(Some(1), HeaderError::Name)]));
    }
}

#[test]
fn values_that_could_end_the_header_or_hide_are_refused() {
    for bad in [
        "a\r\nEvil: 1",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\r\n folded",
        "a\tb",
        "a\u{7f}",
        "é",
        "\u{a0}",
        "\u{200b}",
        "a\u{1}b",
        "\u{85}",
    ] {
        check_headers(&[("x-a", bad)], Err(&[(Some(0), HeaderError::Value(name("x-a")))]));
    }
    for padded in [" a", "a ", " "] {
        check_headers(&[("x-a", padded)], Err(&[(Some(0), HeaderError::Padded(name("x-a")))]));
    }
}

#[test]
fn duplicates_are_refused_in_any_letter_case() {
    let twice = [(Some(1), HeaderError::Duplicate(name("x-a")))];
    check_headers(&[("X-A", "1"), ("x-a", "2")], Err(&twice));
}

#[test]
fn every_bad_header_is_named_at_once() {
    use HeaderError::{Duplicate, Name, Padded, Reserved, TooLarge, TooMany, Value};
    let (a, b) = (|| name("x-a"), || name("x-b"));
    check_headers(
        &[("x y", "1"), ("Host", "2"), ("x-a", "3\n")],
        Err(&[(Some(0), Name), (Some(1), Reserved(name("host"))), (Some(2), Value(a()))]),
    );
    check_headers(
        &[("x-a", "\n"), ("X-A", "1"), ("x-b", " ")],
        Err(&[(Some(0), Value(a())), (Some(1), Duplicate(a())), (Some(2), Padded(b()))]),
    );
    let long = "v".repeat(100);
    check_headers(
        &[("a", &long), ("x y", "1"), ("b", "1"), ("also wrong", "1")],
        Err(&[(Some(0), TooLarge { limit: 100 }), (Some(1), Name), (None, TooMany { limit: 3 })]),
    );
    let patch =
        [("x-a", None), ("te", None), ("x-b", Some(" ")), ("X-A", Some("1")), ("x c", None)];
    let all = [
        (Some(2), Padded(b())),
        (Some(0), Duplicate(a())),
        (Some(1), Reserved(name("te"))),
        (Some(4), Name),
    ];
    assert_eq!(HeadersPatch::parse(&patch, LIMITS), Err(faults(&all)));
}

#[test]
fn limits_hold_to_the_byte_and_say_their_number() {
    check_headers(&[("a", ""), ("b", ""), ("c", "")], Ok(3));
    let four = [("a", ""), ("b", ""), ("c", ""), ("d", "")];
    check_headers(&four, Err(&[(None, HeaderError::TooMany { limit: 3 })]));
    check_headers(&[("a", &"v".repeat(99))], Ok(1));
    let large = |place| [(place, HeaderError::TooLarge { limit: 100 })];
    check_headers(&[("a", &"v".repeat(100))], Err(&large(Some(0))));
    let two = [("a", "v".repeat(50)), ("b", "v".repeat(49))];
    let parsed = CustomHeaders::parse(two, LIMITS);
    assert_eq!(parsed, Err(faults(&large(None))));
    assert!(HeaderError::TooLarge { limit: 100 }.to_string().contains("100"));
    assert!(HeaderError::TooMany { limit: 3 }.to_string().contains('3'));
}

#[test]
fn a_merge_sets_replaces_in_place_and_removes() {
    type Patch<'a> = &'a [(&'a str, Option<&'a str>)];
    let check = |patch: Patch<'_>, expected: Result<&[(&str, &str)], HeaderError>| {
        let standing = [("x-a", "1"), ("x-b", "2")];
        let mut headers = CustomHeaders::parse(standing, LIMITS).expect("valid");
        let merged = HeadersPatch::parse(patch, LIMITS)
            .map_err(|faults| faults[0].why.clone())
            .and_then(|patch| headers.merge(patch, LIMITS))
            .map(|()| headers.iter().map(|(n, v)| (n.as_str(), v.to_str().expect("ASCII"))));
        match (merged, expected) {
            (Ok(headers), Ok(expected)) => assert!(headers.eq(expected.iter().copied())),
            (merged, expected) => {
                assert_eq!(merged.map(|_| ()).err(), expected.err(), "{patch:?}");
                assert_eq!(headers.len(), 2, "all of it or none of it");
            }
        }
    };
    check(&[], Ok(&[("x-a", "1"), ("x-b", "2")]));
    check(&[("X-A", Some("9"))], Ok(&[("x-a", "9"), ("x-b", "2")]));
    check(&[("X-A", None), ("x-none", None)], Ok(&[("x-b", "2")]));
    check(&[("x-a", None), ("x-c", Some("3"))], Ok(&[("x-b", "2"), ("x-c", "3")]));
    check(&[("x-c", Some("3")), ("x-d", Some("4"))], Err(HeaderError::TooMany { limit: 3 }));
    let long = "v".repeat(92);
    check(&[("x-c", Some(&long))], Err(HeaderError::TooLarge { limit: 100 }));
    check(&[("x-c", None), ("X-C", Some("3"))], Err(HeaderError::Duplicate(name("x-c"))));
    check(&[("x-c", None), ("X-C", None)], Err(HeaderError::Duplicate(name("x-c"))));
    check(&[("x-b", None), ("x c", None)], Err(HeaderError::Name));
    check(&[("host", Some("x"))], Err(HeaderError::Reserved(name("host"))));
}

#[test]
fn headers_can_be_taken_away_under_limits_that_were_lowered() {
    let standing = [("x-a", "1"), ("x-b", "2"), ("x-c", "3")];
    let mut headers = CustomHeaders::parse(standing, LIMITS).expect("valid");
    let lower = HeaderLimits { max_count: 1, max_bytes: 4 };
    let patch = |pairs: &[(&str, Option<&str>)]| HeadersPatch::parse(pairs, lower).expect("valid");
    assert_eq!(headers.merge(patch(&[("x-a", None)]), lower), Ok(()));
    assert_eq!(headers.len(), 2);
    let set = headers.merge(patch(&[("x-b", Some("9"))]), lower);
    assert_eq!(set, Err(HeaderError::TooMany { limit: 1 }));
    assert_eq!(headers.merge(HeadersPatch::Clear, lower), Ok(()));
    assert!(headers.is_empty());
}

#[test]
fn neither_debug_nor_an_error_shows_a_value() {
    let headers = CustomHeaders::parse([("authorization", "hunter2")], LIMITS).expect("valid");
    assert_eq!(format!("{headers:?}"), r#"["authorization"]"#);
    for pair in [("authorization", "hunter2\n"), ("host", "hunter2"), ("a b", "hunter2")] {
        for fault in CustomHeaders::parse([pair], LIMITS).expect_err("not valid") {
            assert!(!format!("{fault} {fault:?}").contains("hunter2"));
        }
    }
}

#[track_caller]
fn check_filter(list: &[&str], expected: Result<&[&str], &[EventFilterError]>) {
    let names = parse_event_filter(list, false).map(event_filter_names);
    let expected = expected.map(<[&str]>::to_vec).map_err(<[EventFilterError]>::to_vec);
    assert_eq!(names, expected, "{list:?}");
}

#[test]
fn a_filter_is_a_star_or_a_list_of_types() {
    use EventFilterError::{Empty, Mixed};
    let unknown = |index| EventFilterError::Unknown { index, why: UnknownEventType::OfSix };
    check_filter(&["*"], Ok(&["*"]));
    check_filter(&["message.sent"], Ok(&["message.sent"]));
    check_filter(
        &["message.read", "message.sent", "message.read"],
        Ok(&["message.sent", "message.read"]),
    );
    check_filter(&EventType::ALL.map(EventType::as_str), Ok(&["*"]));
    check_filter(&[], Err(&[Empty]));
    check_filter(&["*", "message.sent"], Err(&[Mixed]));
    check_filter(&["*", "*"], Ok(&["*"]));
    for bad in ["", "message.*", "Message.sent", "message.sent ", "message", "**"] {
        check_filter(&["message.sent", bad], Err(&[unknown(1)]));
        check_filter(&["*", bad], Err(&[unknown(1)]));
    }
    check_filter(&["x", "*", "y"], Err(&[unknown(0), unknown(2)]));
    check_filter(&["x", "*", "message.sent"], Err(&[unknown(0), Mixed]));
    assert_eq!(unknown(1).index(), Some(1));
    assert!(unknown(1).to_string().starts_with("number 2 of the list: "));
}

#[test]
fn a_success_rule_is_what_it_says() {
    for (rule, accepted) in [("200", vec![200]), ("2xx", (200..300).collect())] {
        let rule = SuccessRule::parse(rule).expect("a rule");
        let accepts: Vec<u16> = (0..=1000).filter(|status| rule.accepts(*status)).collect();
        assert_eq!(accepts, accepted);
        assert_eq!(SuccessRule::parse(rule.as_str()), Some(rule));
    }
    assert_eq!(SuccessRule::parse("3xx"), None);
    assert_eq!(SuccessRule::default(), SuccessRule::Only200);
}

#[test]
fn what_the_operator_is_told_is_for_its_own_tenant_and_no_part_of_the_star() {
    let told = EventType::WebhookDisabled.as_str();
    let unknown = |index| EventFilterError::Unknown { index, why: UnknownEventType::OfSix };
    check_filter(&["message.sent", told], Err(&[unknown(1)]));
    for list in [&[told][..], &["message.sent", told]] {
        let read = parse_event_filter(list, true).map(event_filter_names);
        assert_eq!(read, Ok(list.to_vec()));
    }
    let mistyped = parse_event_filter(&["webhook.disable"], true).unwrap_err();
    assert!(mistyped[0].to_string().contains(told), "{mistyped:?}");
    assert_eq!(parse_event_filter(&["*"], true), Ok(EventTypes::ALL));
    assert!(!EventTypes::ALL.contains(EventType::WebhookDisabled));
    assert_eq!(parse_event_filter(&["*", told], true), Err(vec![EventFilterError::Mixed]));
    let every = EventType::EVERY.map(EventType::as_str);
    assert_eq!(parse_event_filter(&every, true).map(event_filter_names), Ok(every.to_vec()));
}
