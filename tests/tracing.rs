//! Traces through the real binary: a producer's `traceparent` is kept with the event, handed on to
//! the receiver, and the parent of the spans that a collector gets. Whatever becomes of the
//! collector, deliveries go on.

mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use support::{
    eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::{Connection, Response},
    now, payload,
    receiver::{Answer, Receiver, Request},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const LONG: Duration = Duration::from_secs(20);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// A gateway that exports to `collector`, with further environment.
fn start(dir: &Path, collector: &Receiver, more: &[(&str, &str)]) -> Gateway {
    let endpoint = format!("http://{}/v1/traces", collector.addr);
    let mut env = vec![
        ("SENDERZ_TRACING__ENDPOINT", endpoint.as_str()),
        ("SENDERZ_TRACING__INTERVAL", "20ms"),
    ];
    env.extend(more);
    Gateway::start(dir, &env)
}

fn send(gateway: &Gateway, path: &str, body: &str, headers: &[(&str, &str)]) -> Response {
    let key = format!("Bearer {OPERATOR_KEY}");
    let kind = if path == "/v1/events" { "application/x-ndjson" } else { "application/json" };
    let mut all = vec![("authorization", key.as_str()), ("content-type", kind)];
    all.extend(headers);
    Connection::open(gateway.api)
        .and_then(|mut c| c.request("POST", path, &all, body.as_bytes()))
        .expect("the gateway answers")
}

fn event(gateway: &Gateway, id: &str, headers: &[(&str, &str)]) -> String {
    let path = "/v1/tenants/acme/events";
    let answer = send(gateway, path, &payload("message.sent", id), headers);
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// All spans that a collector was sent so far.
fn spans(collector: &Receiver) -> Vec<Span> {
    let requests = collector.requests().into_iter().map(|request| {
        assert_eq!(request.path, "/v1/traces");
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        ExportTraceServiceRequest::decode(request.body.as_slice()).expect("an export")
    });
    let scopes = requests.flat_map(|one| one.resource_spans).flat_map(|one| one.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn wait_for_spans(collector: &Receiver, count: usize) -> Vec<Span> {
    eventually("the spans arrive", LONG, || {
        let spans = spans(collector);
        (spans.len() >= count).then_some(spans)
    })
}

/// Attributes as text, by name.
fn attributes(of: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &KeyValue| match value.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        other => panic!("{other:?}"),
    };
    of.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn header(request: &Request, name: &str) -> Option<String> {
    let found = request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone())
}

#[test]
fn an_attempts_span_is_a_child_of_the_producers_and_the_parent_of_the_receivers() {
    let dir = directory();
    let collector = Receiver::start(|_| Answer::Status(200));
    // Fails once, so that there are two attempts.
    let receiver = Receiver::start(|request| match request.header("x-senderz-attempt") {
        "1" => Answer::Status(503),
        _ => Answer::Status(200),
    });
    let headers = [("SENDERZ_TRACING__FORWARD", "all"), ("SENDERZ_TRACING_HEADERS", "X-Key: k1")];
    let gateway = start(dir.path(), &collector, &headers);
    gateway.tenant("acme");
    let webhook = gateway.webhook("acme", &receiver.url());
    let state = [("traceparent", &*traceparent("01")), ("tracestate", "a=1,b=2")];
    let id = event(&gateway, "m", &state);

    let spans = wait_for_spans(&collector, 2);
    assert_eq!(collector.requests()[0].header("x-key"), "k1");
    let sent = receiver.requests();
    assert_eq!((spans.len(), sent.len()), (2, 2));
    for (span, request) in spans.iter().zip(&sent) {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert_eq!(hex(&span.parent_span_id), PARENT);
        assert_eq!(span.trace_state, "a=1,b=2");
        assert_eq!(span.flags, 0x301);
        assert_eq!(span.kind, i32::from(SpanKind::Client));
        assert_eq!(span.name, "POST");
        let own = format!("00-{TRACE}-{}-01", hex(&span.span_id));
        assert_eq!(request.header("traceparent"), own, "the receiver's parent is this attempt");
        assert_eq!(request.header("tracestate"), "a=1,b=2");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        let said = attributes(&span.attributes);
        assert_eq!(said["senderz.event.id"], id);
        assert_eq!(said["senderz.webhook.id"], webhook);
        assert_eq!(said["senderz.tenant.id"], "acme");
        assert_eq!(said["senderz.delivery.id"], request.header("x-senderz-delivery"));
        assert_eq!(said["senderz.event.type"], "message.sent");
        assert_eq!(said["http.request.method"], "POST");
        assert_eq!(said["server.address"], "127.0.0.1");
        assert_eq!(said["server.port"], receiver.addr.port().to_string());
        assert_eq!(said["url.full"], format!("http://{}/REDACTED", receiver.addr));
        assert_eq!(said["network.peer.address"], "127.0.0.1");
        assert_eq!(said["http.request.body.size"], request.body.len().to_string());
    }
    assert_ne!(spans[0].span_id, spans[1].span_id, "each attempt is a span of its own");
    let (first, second) = (&spans[0], &spans[1]);
    let (said, status) = (attributes(&first.attributes), first.status.clone().expect("it failed"));
    assert_eq!(status.code, i32::from(StatusCode::Error));
    assert!(!status.message.is_empty(), "the status says why");
    assert_eq!((&*said["error.type"], &*said["http.response.status_code"]), ("503", "503"));
    assert_eq!(said["senderz.attempt.outcome"], "retry");
    assert!(!said.contains_key("http.request.resend_count"));
    let said = attributes(&second.attributes);
    assert_eq!(second.status, None);
    assert_eq!(said["senderz.attempt.outcome"], "delivered");
    assert_eq!(said["http.request.resend_count"], "1");
    assert!(!said.contains_key("error.type"));

    let lines =
        ["senderz_spans_exported_total", r#"senderz_spans_dropped_total{reason="queue_full"}"#];
    eventually("they are counted", LONG, || (gateway.metric(lines[0]) == 2.0).then_some(()));
    assert_eq!(gateway.metric(lines[1]), 0.0);
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn a_trace_survives_a_crash_and_goes_on_after_it() {
    let dir = directory();
    let collector = Receiver::start(|_| Answer::Status(200));
    let status = Arc::new(AtomicU16::new(500));
    let script = Arc::clone(&status);
    let receiver = Receiver::start(move |_| Answer::Status(script.load(Ordering::SeqCst)));
    let gateway = start(dir.path(), &collector, &[]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    event(&gateway, "m", &[("traceparent", &traceparent("01"))]);
    wait_for_spans(&collector, 1);
    gateway.kill();
    status.store(200, Ordering::SeqCst);

    let gateway = start(dir.path(), &collector, &[]);
    let delivered = eventually("it is delivered after the start", LONG, || {
        let delivered =
            |span: &Span| attributes(&span.attributes)["senderz.attempt.outcome"] == "delivered";
        spans(&collector).into_iter().find(delivered)
    });
    assert_eq!(
        (hex(&delivered.trace_id).as_str(), hex(&delivered.parent_span_id).as_str()),
        (TRACE, PARENT)
    );
    assert!(
        receiver.requests().iter().all(|r| header(r, "traceparent").is_none()),
        "by default no receiver is told"
    );
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn each_line_of_a_batch_has_its_own_trace_or_the_requests() {
    let dir = directory();
    let collector = Receiver::start(|_| Answer::Status(200));
    let receiver = Receiver::start(|_| Answer::Status(200));
    let gateway = start(dir.path(), &collector, &[("SENDERZ_TRACING__FORWARD", "traceparent")]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    let line = |id: &str, more: &str| {
        format!(r#"{{"tenant":"acme",{more}"payload":{}}}"#, payload("message.sent", id))
    };
    let own = "a".repeat(32);
    let unsampled = "b".repeat(32);
    let lines = [
        line("plain", ""),
        line("own", &format!(r#""traceparent":"00-{own}-{PARENT}-01","tracestate":"a=1","#)),
        line("unsampled", &format!(r#""traceparent":"00-{unsampled}-{PARENT}-00","#)),
    ];
    let request = [("traceparent", &*traceparent("01"))];
    assert_eq!(send(&gateway, "/v1/events", &lines.join("\n"), &request).status, 202);
    // A header that is wrong is anybody's mistake and costs nothing; a line's own is named.
    let wrong = [("traceparent", "00-wrong")];
    assert_eq!(send(&gateway, "/v1/events", &lines[0], &wrong).status, 202);
    let refused = send(&gateway, "/v1/events", &line("bad", r#""traceparent":"wrong","#), &[]);
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["errors"][0]["pointer"], "/lines/1/traceparent");

    let sent = eventually("all are delivered", LONG, || {
        let sent = receiver.requests();
        (sent.len() == 4).then_some(sent)
    });
    let spans = wait_for_spans(&collector, 3);
    let mut found: Vec<_> = spans.iter().map(|span| hex(&span.trace_id)).collect();
    let begun = found.iter().position(|id| *id != TRACE && *id != own).expect("its own trace");
    let begun = found.remove(begun);
    found.sort();
    assert_eq!(found, [TRACE, &own], "what its producer did not sample has no span");
    let mut told: Vec<_> = sent.iter().filter_map(|r| header(r, "traceparent")).collect();
    assert!(told.iter().any(|t| t.starts_with(&format!("00-{unsampled}-")) && t.ends_with("-00")));
    assert!(told.iter().any(|t| t.starts_with(&format!("00-{begun}-")) && t.ends_with("-01")));
    told.dedup();
    assert_eq!(told.len(), 4);
    assert!(sent.iter().all(|r| header(r, "tracestate").is_none()), "only `all` hands it on");
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn all_deliveries_of_an_event_without_a_trace_meet_in_one_and_a_share_of_none_has_none() {
    let collector = Receiver::start(|_| Answer::Status(200));
    let receiver = Receiver::start(|_| Answer::Status(200));
    let deliver = |more: &[(&str, &str)]| {
        let dir = directory();
        let gateway = start(dir.path(), &collector, more);
        gateway.tenant("acme");
        for _ in 0..3 {
            gateway.webhook("acme", &receiver.url());
        }
        event(&gateway, "m", &[]);
        eventually("all are delivered", LONG, || (gateway.waiting("acme") == 0).then_some(()));
        assert_eq!(gateway.stop(), 0);
    };
    deliver(&[]);
    let traced = spans(&collector);
    assert_eq!(traced.len(), 3, "the end exports what waits");
    assert!(traced.iter().all(|span| span.trace_id == traced[0].trace_id));
    assert!(traced.iter().all(|span| span.parent_span_id.is_empty() && span.flags == 1));
    deliver(&[("SENDERZ_TRACING__SAMPLE", "0.0")]);
    assert_eq!((spans(&collector).len(), receiver.requests().len()), (3, 6));
}

#[test]
fn a_failure_without_an_answer_says_what_it_was() {
    let dir = directory();
    let collector = Receiver::start(|_| Answer::Status(200));
    let gateway = start(dir.path(), &collector, &[("SENDERZ_RETRY__SCHEDULE", "1s")]);
    gateway.tenant("acme");
    gateway.webhook("acme", "http://127.0.0.1:1/nobody-listens");
    event(&gateway, "m", &[]);
    let spans = wait_for_spans(&collector, 2);
    let said = attributes(&spans[1].attributes);
    assert_eq!((&*said["error.type"], &*said["senderz.attempt.outcome"]), ("connect", "failed"));
    assert!(!said.contains_key("http.response.status_code"));
    let status = spans[1].status.clone().expect("it failed");
    assert!(status.message.starts_with("nothing accepts connections"), "{}", status.message);
    assert_eq!(gateway.stop(), 0);
}

/// The collector takes connections and says nothing: the queue fills and what is too much is
/// dropped and counted, deliveries take no notice, and the end is not waited for any longer than it
/// says.
#[test]
fn a_collector_that_hangs_costs_spans_and_nothing_else() {
    let dir = directory();
    let collector = Receiver::start(|_| Answer::Hang);
    let receiver = Receiver::start(|_| Answer::Status(200));
    let limits = [
        ("SENDERZ_TRACING__QUEUE", "20"),
        ("SENDERZ_TRACING__BATCH", "10"),
        ("SENDERZ_TRACING__TIMEOUT", "1h"),
        ("SENDERZ_TRACING__FLUSH_TIMEOUT", "500ms"),
    ];
    let gateway = start(dir.path(), &collector, &limits);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    let line = |n: usize| {
        let payload = payload("message.sent", &format!("m{n}"));
        format!(r#"{{"tenant":"acme","payload":{payload}}}"#)
    };
    let lines: Vec<String> = (0..100).map(line).collect();
    assert_eq!(send(&gateway, "/v1/events", &lines.join("\n"), &[]).status, 202);
    eventually("every event is delivered", LONG, || {
        (receiver.requests().len() == 100).then_some(())
    });
    eventually("what is too much is counted", LONG, || {
        let dropped = gateway.metric(r#"senderz_spans_dropped_total{reason="queue_full"}"#);
        // One batch is under way, at the most, and one queue full waits.
        (dropped >= 70.0).then_some(())
    });
    let began = now();
    assert_eq!(gateway.stop(), 0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_collector_that_is_gone_is_asked_again_and_one_that_refuses_is_not() {
    let dir = directory();
    let status = Arc::new(AtomicU16::new(503));
    let script = Arc::clone(&status);
    let collector = Receiver::start(move |_| Answer::Status(script.load(Ordering::SeqCst)));
    let receiver = Receiver::start(|_| Answer::Status(200));
    let gateway = start(dir.path(), &collector, &[]);
    gateway.tenant("acme");
    gateway.webhook("acme", &receiver.url());
    event(&gateway, "m1", &[]);
    wait_for_spans(&collector, 1);
    status.store(200, Ordering::SeqCst);
    let exported = || gateway.metric("senderz_spans_exported_total");
    eventually("the same export is taken later", LONG, || (exported() == 1.0).then_some(()));
    let bodies: Vec<_> = collector.requests().into_iter().map(|r| r.body).collect();
    assert!(bodies.len() >= 2 && bodies.iter().all(|body| *body == bodies[0]));

    status.store(400, Ordering::SeqCst);
    event(&gateway, "m2", &[]);
    eventually("it is given up and counted", LONG, || {
        let failed = gateway.metric(r#"senderz_spans_dropped_total{reason="export_failed"}"#);
        (failed == 1.0).then_some(())
    });
    assert_eq!(collector.requests().len(), bodies.len() + 1, "asked once");
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn headers_that_cannot_be_used_keep_it_from_starting_and_are_not_shown() {
    let dir = directory();
    let file = dir.path().join("headers");
    std::fs::write(&file, "authorization canary-value\n").expect("ours");
    let file = file.to_str().expect("UTF-8");
    let endpoint = ("SENDERZ_TRACING__ENDPOINT", "http://127.0.0.1:1/v1/traces");
    for (name, value) in [
        ("SENDERZ_TRACING_HEADERS", "canary-value"),
        ("SENDERZ_TRACING__HEADERS_FILE", file),
        ("SENDERZ_TRACING__HEADERS_FILE", "/nowhere/canary-value-is-no-secret-here"),
    ] {
        let data = dir.path().join("data");
        let mut command = Gateway::command(&data, &[endpoint, (name, value)]);
        let output = command.output().expect("the binary was built with the tests");
        assert_eq!(output.status.code(), Some(78), "{name}");
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        let shown = if value.starts_with('/') { "tracing.headers_file" } else { name };
        assert!(told.contains(shown), "{told}");
        assert!(value.starts_with("/nowhere") || !told.contains("canary-value"), "{told}");
    }
}
