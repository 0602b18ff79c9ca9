//! The recommendation's rules, case by case.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("a header value");
    pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
}

#[test]
fn a_traceparent_is_read_as_the_recommendation_says() {
    let check = |text: &str, good: bool| {
        assert_eq!(text.parse::<TraceContext>().is_ok(), good, "{text}");
    };
    let later = |version: &str, rest: &str| GOOD.replacen("00", version, 1) + rest;
    check(GOOD, true);
    check(&GOOD.replace("-01", "-00"), true);
    check(&GOOD.replace("-01", "-ff"), true);
    check("", false);
    check(&GOOD[..54], false);
    check(&(GOOD.to_owned() + "-"), false);
    check(&(GOOD.to_owned() + "-more"), false);
    check(&GOOD.to_uppercase(), false);
    check(&GOOD.replacen('-', "_", 1), false);
    check(&GOOD.replace("4bf9", "4bfg"), false);
    check(&GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false);
    check(&GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)), false);
    check(&format!("0{GOOD}"), false);
    check(&format!("é{}", &GOOD[2..]), false);
    check(&later("ff", ""), false);
    // A later version may go on after another hyphen; what is before it is read.
    check(&later("01", ""), true);
    check(&later("cc", "-what-the-future-brings"), true);
    check(&later("cc", ".what"), false);
}

#[test]
fn flags_without_a_meaning_are_not_passed_on() {
    let read: TraceContext = GOOD.replace("-01", "-fe").parse().unwrap();
    assert!(!read.is_sampled());
    assert_eq!(read.flags, 0x02);
    assert!(GOOD.parse::<TraceContext>().unwrap().is_sampled());
}

#[test]
fn one_usable_header_is_taken_and_nothing_else() {
    let check = |pairs: &[(&'static str, &str)], expected: Option<&str>| {
        let found = TraceContext::of_headers(&headers(pairs));
        assert_eq!(found.as_ref().map(|context| &*context.state), expected, "{pairs:?}");
    };
    check(&[], None);
    check(&[("tracestate", "a=1")], None);
    check(&[("traceparent", "nonsense"), ("tracestate", "a=1")], None);
    check(&[("traceparent", GOOD), ("traceparent", GOOD)], None);
    check(&[("traceparent", GOOD)], Some(""));
    check(&[("traceparent", &format!(" {GOOD}\t"))], Some(""));
    check(&[("traceparent", GOOD), ("tracestate", "a=1, b@c=x y")], Some("a=1,b@c=x y"));
    check(&[("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "b=2")], Some("a=1,b=2"));
    check(&[("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "é=2")], Some(""));
}

#[test]
fn a_state_is_kept_whole_or_shortened_by_whole_members() {
    let check = |text: &str, expected: Option<&str>| {
        assert_eq!(read_state(text).as_deref(), expected, "{text}");
    };
    check("", Some(""));
    check(" , ,", Some(""));
    check(
        "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
    );
    for bad in ["a", "=1", "a=", "A=1", "a=1=2", "a b=1", "a=\u{1}", "@a=1", "a=ü"] {
        check(bad, None);
    }
    let many = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    assert!(read_state(&many(32)).is_some());
    assert!(read_state(&many(33)).is_none());

    let long = format!("long={}", "x".repeat(200));
    let short = |n: usize| format!("k{n:02}={}", "y".repeat(96));
    let all = format!("{},{long},{},{},{}", short(1), short(2), short(3), short(4));
    let kept = read_state(&all).unwrap();
    assert_eq!(&*kept, [short(1), short(2), short(3), short(4)].join(","));
    let six: Vec<String> = (1..=6).map(short).collect();
    let kept = read_state(&six.join(",")).unwrap();
    assert_eq!(&*kept, six[..5].join(","), "five of 100 characters and their commas fit");
    assert!(kept.len() <= TRACESTATE_MAX);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(ids in any::<([u8; 16], [u8; 8], bool)>()) {
        let (trace_id, span_id, sampled) = ids;
        prop_assume!(trace_id != [0; 16] && span_id != [0; 8]);
        let context = TraceContext { trace_id, span_id, flags: sampled.into(), state: "".into() };
        let text = context.traceparent();
        prop_assert_eq!(std::str::from_utf8(&text).unwrap().parse(), Ok(context));
    }

    #[test]
    fn no_text_makes_a_parser_panic(parent in ".{0,60}", state in ".{0,700}") {
        let _ = parent.parse::<TraceContext>();
        if let Some(state) = read_state(&state) {
            prop_assert!(state.len() <= TRACESTATE_MAX && state.is_ascii());
        }
    }
}
