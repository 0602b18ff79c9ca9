//! What is decided for an attempt, and the words of its span.

use std::{collections::BTreeMap, convert::Infallible, io::Write as _, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse},
    common::v1::any_value::Value,
    trace::v1::Span,
};
use opentelemetry_semantic_conventions as conventions;
use prost::Message as _;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{attempt::SCHEMA_URL, collector::Collector, *};
use crate::{
    delivery::{Attempt, AttemptError, ErrorCode, KeptResponse, Phases, Protocol},
    event::EventType,
    guard::{Host, Scheme},
    id::{DeliveryId, DeliveryKey, NodeNo, Place, WebhookId, WebhookNo},
};

fn tracer(
    forward: Forward,
    sample: f64,
    queue: usize,
) -> (Option<Tracer>, Option<mpsc::Receiver<AttemptSpan>>) {
    let settings = Settings { forward, sample, export: None };
    let (spans, queued) = (queue > 0).then(|| mpsc::channel(queue)).unzip();
    (Tracer::new(&settings, spans), queued)
}

fn event(n: u64) -> EventId {
    EventId { accepted_at: 1_795_407_600_000, node: NodeNo(7), place: Place::new(n, 3) }
}

fn context(flags: u8) -> TraceContext {
    TraceContext { trace_id: [1; 16], span_id: [2; 8], flags, state: "a=1".into() }
}

fn span(failure: Option<Failure>, host: Host) -> AttemptSpan {
    let key = DeliveryKey { place: Place::new(12, 3), webhook: WebhookNo(5) };
    AttemptSpan {
        link: Link { context: context(1), parent: Some([3; 8]) },
        event: event(12),
        event_type: EventType::Sent,
        delivery: DeliveryId { node: NodeNo(7), key },
        tenant: Some("acme".parse().unwrap()),
        webhook: Some(WebhookId(9)),
        server: (Scheme::Https, host, 8443),
        payload: 512,
        number: 3,
        at: 1_795_407_600_123,
        latency: 4_500,
        phases: Phases { dns: 1_500, ..Phases::default() },
        status: failure.map(|_| 503),
        failure,
        peer: Some(([203, 0, 113, 7], 8443).into()),
        protocol: Protocol::Http2,
        reused_connection: true,
        outcome: "retry",
    }
}

fn attributes(span: &Span) -> BTreeMap<&str, &Value> {
    let pairs = span.attributes.iter().map(|pair| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        (pair.key.as_str(), value.expect("every attribute has a value"))
    });
    let all: BTreeMap<_, _> = pairs.collect();
    assert_eq!(all.len(), span.attributes.len(), "no name twice");
    all
}

#[test]
fn where_nothing_is_traced_there_is_no_tracer() {
    assert!(tracer(Forward::Off, 1.0, 0).0.is_none());
    assert!(tracer(Forward::All, 1.0, 0).0.is_some());
    assert!(tracer(Forward::Off, 1.0, 1).0.is_some());
    let settings = Settings { forward: Forward::Off, sample: 1.0, export: None };
    let (tracer, exporter) = start(&settings).unwrap();
    assert!(tracer.is_none() && exporter.is_none(), "and no thread");
}

#[test]
fn what_an_event_came_with_decides_and_each_attempt_is_a_span_of_its_own() {
    let (tracer, _queued) = tracer(Forward::All, 0.0, 1);
    let tracer = tracer.unwrap();
    let [first, second] = [0, 1].map(|_| tracer.begin(event(1), Some(context(1))));
    let (link, forwarded) = (first.link.unwrap(), first.forwarded.unwrap());
    assert_eq!((link.context.trace_id, link.parent), ([1; 16], Some([2; 8])));
    assert_eq!(*forwarded, link.context, "the receiver hears of this span");
    assert_ne!(link.context.span_id, [2; 8]);
    assert_ne!(link.context.span_id, second.link.unwrap().context.span_id);

    let unsampled = tracer.begin(event(1), Some(context(0)));
    assert!(unsampled.link.is_none(), "its producer did not sample it");
    assert_eq!(unsampled.forwarded.unwrap().flags, 0);
    let none = tracer.begin(event(1), None);
    assert!(none.link.is_none() && none.forwarded.is_none(), "of none a share of 0.0 is traced");
}

#[test]
fn receivers_are_told_as_much_as_the_operator_wants() {
    let check = |forward, expected: Option<&str>| {
        let (tracer, _queued) = tracer(forward, 1.0, 1);
        let begun = tracer.unwrap().begin(event(1), Some(context(1)));
        assert_eq!(begun.forwarded.map(|context| context.state).as_deref(), expected);
        assert_eq!(&*begun.link.unwrap().context.state, "a=1", "the span has all of it");
    };
    check(Forward::Off, None);
    check(Forward::Traceparent, Some(""));
    check(Forward::All, Some("a=1"));
}

#[test]
fn a_share_of_the_events_without_a_trace_is_traced_whole() {
    let (tracer, _queued) = tracer(Forward::Traceparent, 0.25, 1);
    let tracer = tracer.unwrap();
    let ids: Vec<_> = (0..4000)
        .filter_map(|n| {
            let [one, other] = [0, 1].map(|_| tracer.begin(event(n), None));
            assert_eq!(one.link.is_some(), other.link.is_some(), "all attempts or none");
            assert_eq!(one.link.is_some(), one.forwarded.is_some());
            let (one, other) = (one.link?, other.link?);
            assert_eq!(one.context.trace_id, other.context.trace_id);
            assert_eq!((one.parent, one.context.flags), (None, 1));
            Some(one.context.trace_id)
        })
        .collect();
    assert!((900..1100).contains(&ids.len()), "{}", ids.len());
    assert_eq!(std::collections::BTreeSet::from_iter(&ids).len(), ids.len());
}

#[test]
fn what_the_queue_has_no_room_for_is_dropped_without_waiting() {
    let (tracer, queued) = tracer(Forward::Off, 1.0, 2);
    let tracer = tracer.unwrap();
    for _ in 0..5 {
        tracer.end(span(None, Host::Name("a.example".to_owned())));
    }
    assert_eq!(queued.as_ref().unwrap().len(), 2);
    drop(queued);
    tracer.end(span(None, Host::Name("a.example".to_owned())));
}

#[test]
fn names_are_those_of_the_semantic_conventions() {
    assert_eq!(SCHEMA_URL, conventions::SCHEMA_URL);
    let failure = Failure { code: ErrorCode::Status, cause: "why" };
    let otlp = span(Some(failure), Host::Name("a.example".to_owned())).into_otlp();
    let said = attributes(&otlp);
    use conventions::attribute as names;
    for name in [
        names::HTTP_REQUEST_METHOD,
        names::URL_FULL,
        names::SERVER_ADDRESS,
        names::SERVER_PORT,
        names::NETWORK_PROTOCOL_VERSION,
        names::HTTP_REQUEST_BODY_SIZE,
        names::HTTP_REQUEST_RESEND_COUNT,
        names::NETWORK_PEER_ADDRESS,
        names::NETWORK_PEER_PORT,
        names::HTTP_RESPONSE_STATUS_CODE,
        names::ERROR_TYPE,
    ] {
        assert!(said.contains_key(name), "{name} is missing");
    }
    let own = said.keys().filter(|name| name.starts_with("senderz."));
    assert_eq!(said.len() - own.count(), 11, "all others are ours");
    assert_eq!(said["senderz.phase.dns"], &Value::DoubleValue(0.0015));
    assert!(!said.contains_key("senderz.phase.tls"), "it did not happen");
    assert_eq!(said["network.protocol.version"], &Value::StringValue("2".to_owned()));
    assert_eq!(otlp.end_time_unix_nano - otlp.start_time_unix_nano, 4_500_000);
    assert_eq!(otlp.status.unwrap().message, "why");
}

#[test]
fn a_failure_is_named_by_its_status_where_that_is_the_failure() {
    let check = |code, expected: &str| {
        let failure = Failure { code, cause: "why" };
        let otlp = span(Some(failure), Host::V6("2001:db8::1".parse().unwrap())).into_otlp();
        let said = attributes(&otlp);
        assert_eq!(said["error.type"], &Value::StringValue(expected.to_owned()));
        let full = "https://[2001:db8::1]:8443/REDACTED".to_owned();
        assert_eq!(said["url.full"], &Value::StringValue(full));
    };
    check(ErrorCode::Status, "503");
    check(ErrorCode::Timeout, "timeout");
}

#[test]
fn a_cause_is_of_the_closed_tables_whatever_a_receiver_wrote() {
    let said = "answered 301: redirects are not followed (to https://x.example/canary)";
    let attempt = Attempt {
        number: 1,
        at: 0,
        status: Some(301),
        error: Some(AttemptError { code: ErrorCode::Status, detail: said.to_owned() }),
        latency: 0,
        phases: Phases::default(),
        response: KeptResponse {
            headers: Bytes::from_static(b"location: https://x.example/canary\r\n"),
            ..KeptResponse::default()
        },
        peer: None,
        protocol: Protocol::Http1,
        reused_connection: false,
    };
    assert!(attempt.cause().unwrap().words.contains("canary"), "its tenant is told");
    let failure = Failure::of(&attempt).unwrap();
    assert_eq!(failure, Failure { code: ErrorCode::Status, cause: "redirects are not followed" });
    let refused = AttemptError { code: ErrorCode::Tls, detail: "unheard of: canary".to_owned() };
    let attempt = Attempt { status: None, error: Some(refused), ..attempt };
    assert!(!Failure::of(&attempt).unwrap().cause.contains("canary"));
}

/// Answers every request that seven of its spans were not kept; none where it is not as it should be.
async fn collect(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri(), "/v1/traces?team=a");
    assert!(request.headers()["host"].to_str().unwrap().starts_with("localhost:"));
    assert_eq!(request.headers()["x-key"], "k");
    let partial = ExportTracePartialSuccess { rejected_spans: 7, ..Default::default() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
    Ok(Response::new(Full::new(answer.encode_to_vec().into())))
}

#[tokio::test]
async fn a_collector_is_reached_over_tls_where_the_operator_trusts_it() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // One that does not trust us breaks off.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let serving = http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(collect)));
        }
    });
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(made.cert.pem().as_bytes()).unwrap();
    let export = |ca_file: Option<&std::path::Path>| Export {
        endpoint: format!("https://localhost:{port}/v1/traces?team=a").parse().unwrap(),
        headers: [("x-key".parse().unwrap(), "k".parse().unwrap())].into_iter().collect(),
        ca_file: ca_file.map(PathBuf::from),
        queue: 1,
        batch: 1,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        flush_timeout: Duration::from_secs(1),
    };
    let mut trusting = Collector::new(&export(Some(file.path()))).unwrap();
    for _ in 0..2 {
        assert_eq!(trusting.post(Bytes::from_static(b"spans")).await.unwrap(), 7);
    }
    let mut other = Collector::new(&export(None)).unwrap();
    let refusal = other.post(Bytes::from_static(b"spans")).await.unwrap_err();
    assert!(refusal.is_passing && refusal.why.contains("certificate"), "{refusal:?}");
}
