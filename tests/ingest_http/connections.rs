//! The listener: its limits, its protocols, its end.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use senderz_gateway::{
    config::{self, Listen},
    server::{BindError, Listener},
};
use tokio::net::{TcpStream, UnixStream};

use crate::fixture::*;

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn every_answer_says_what_its_request_is_called() {
    let api = axum::Router::new().route("/v1/x", axum::routing::get(|| async { "ok" }));
    let gateway = Gateway::with_api(ingest_config(), server_config(), api).await;
    let name = |response: &RawResponse| {
        let line = response.head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        line.unwrap_or_else(|| panic!("no name: {}", response.head)).to_owned()
    };
    let get =
        |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let mut seen = std::collections::HashSet::new();
    for (request, status) in [
        (raw_event(PAYLOAD, ""), "202"),
        (raw_event("{}", ""), "400"),
        (get("/v1/x", ""), "200"),
        (get("/v1/nothing", ""), "404"),
        (get("/v1/tenants/acme/events", ""), "405"),
        (get("/v1/x", "Host: y\r\n"), "400"),
    ] {
        let mut client = gateway.connect().await;
        client.send(&request).await;
        let response = client.response().await;
        assert_eq!(response.status(), status, "{request}");
        let made = name(&response);
        assert!(made.starts_with("req_") && seen.insert(made.clone()), "{request}: {made}");
        // The asker's own, whatever the answer is.
        let mut client = gateway.connect().await;
        client.send(&request.replacen("\r\n", "\r\nX-Request-Id: trace/7\r\n", 1)).await;
        assert_eq!(name(&client.response().await), "trace/7", "{request}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_ends_the_connection() {
    let server = config::Server { header_timeout: SHORT, ..server_config() };
    let gateway = Gateway::start(ingest_config(), server).await;
    for sent in ["", "P", "POST /v1/events HTTP/1.1\r\nHost: x\r\n", "\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut client = gateway.connect().await;
        client.send(sent).await;
        assert_eq!(client.closed().await, "", "{sent:?}");
    }
    // A byte now and then does not help.
    let mut client = gateway.connect().await;
    let trickle = async {
        loop {
            use tokio::io::AsyncWriteExt as _;
            if client.stream.write_all(b"X").await.is_err() {
                return;
            }
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    tokio::time::timeout(STUCK, trickle).await.expect("ended in time");
    // Nor does a good request before.
    let mut client = gateway.connect().await;
    client.send(raw_event(PAYLOAD, "") + "POST /v1").await;
    assert_eq!(client.response().await.status(), "202");
    client.closed().await;
    let mut client = gateway.connect().await;
    client.send(raw_event(PAYLOAD, "")).await;
    assert_eq!(client.response().await.status(), "202");
    client.send("POST /v1").await;
    client.closed().await;
}

#[tokio::test]
async fn an_http2_connection_without_a_request_has_the_time_of_a_head() {
    let server = config::Server { header_timeout: SHORT, ..server_config() };
    let gateway = Gateway::start(ingest_config(), server).await;
    let mut client = gateway.connect().await;
    // The preface and empty settings; what comes back is never answered.
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut sent = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut sent);
    tokio::time::timeout(STUCK, closed).await.expect("closed in time").expect("in peace");
    // Each frame begins with its length and its type; GOAWAY is 7.
    let mut frames = sent.as_slice();
    let mut types = Vec::new();
    while let [a, b, c, kind, ..] = *frames {
        types.push(kind);
        frames = &frames[9 + u32::from_be_bytes([0, a, b, c]) as usize..];
    }
    assert!(types.contains(&7), "it is told: {types:?}");
}

#[tokio::test]
async fn a_quiet_connection_outlives_the_heads_time_and_ends_after_its_own() {
    let server =
        config::Server { header_timeout: SHORT, idle_timeout: SHORT * 4, ..server_config() };
    let gateway = Gateway::start(ingest_config(), server).await;
    let mut client = gateway.connect().await;
    client.send(raw_event(PAYLOAD, "")).await;
    assert_eq!(client.response().await.status(), "202");
    let early = tokio::time::timeout(SHORT * 2, client.closed()).await;
    assert!(early.is_err(), "closed before its idle time");
    client.send(raw_event(PAYLOAD, "")).await;
    assert_eq!(client.response().await.status(), "202");
    client.closed().await;
}

#[tokio::test]
async fn a_request_that_takes_long_is_not_idleness() {
    let server = config::Server { header_timeout: SHORT, idle_timeout: SHORT, ..server_config() };
    let gateway = Gateway::start(ingest_config(), server).await;
    gateway.script.hold(true);
    let mut client = gateway.connect().await;
    client.send(raw_event(PAYLOAD, "")).await;
    let early = tokio::time::timeout(SHORT * 3, client.closed()).await;
    assert!(early.is_err(), "closed while the store was busy");
    gateway.script.hold(false);
    assert_eq!(client.response().await.status(), "202");
}

#[tokio::test]
async fn at_the_limit_the_longest_idle_connection_makes_room() {
    let server = config::Server { max_connections: 2, ..server_config() };
    let gateway = Gateway::start(ingest_config(), server).await;
    let mut first = gateway.connect().await;
    let mut second = gateway.connect().await;
    for client in [&mut first, &mut second] {
        client.send(raw_event(PAYLOAD, "")).await;
        assert_eq!(client.response().await.status(), "202");
    }
    first.send(raw_event(PAYLOAD, "")).await;
    assert_eq!(first.response().await.status(), "202");
    let mut third = gateway.connect().await;
    third.send(raw_event(PAYLOAD, "")).await;
    assert_eq!(third.response().await.status(), "202");
    second.closed().await;
    for client in [&mut first, &mut third] {
        client.send(raw_event(PAYLOAD, "")).await;
        assert_eq!(client.response().await.status(), "202");
    }
}

#[tokio::test]
async fn clients_that_never_finish_a_head_lock_nobody_out() {
    let server = config::Server { max_connections: 2, ..server_config() };
    let gateway = Gateway::start(ingest_config(), server).await;
    let mut silent = gateway.connect().await;
    let mut halting = gateway.connect().await;
    halting.send("POST /v1/events HTTP/1.1\r\nHost: x\r\n").await;
    let mut served = Vec::new();
    for gone in [&mut silent, &mut halting] {
        let mut client = gateway.connect().await;
        client.send(raw_event(PAYLOAD, "")).await;
        assert_eq!(client.response().await.status(), "202");
        gone.closed().await;
        served.push(client);
    }
}

#[tokio::test]
async fn while_all_connections_are_busy_the_next_one_waits() {
    let server = config::Server { max_connections: 2, ..server_config() };
    let gateway = Gateway::start(ingest_config(), server).await;
    gateway.script.hold(true);
    let mut busy = [gateway.connect().await, gateway.connect().await];
    for client in &mut busy {
        client.send(raw_event(PAYLOAD, "")).await;
    }
    until(|| gateway.ingest.pending_bytes() == 2 * PAYLOAD.len()).await;
    let mut third = gateway.connect().await;
    third.send(raw_event(PAYLOAD, "")).await;
    let early = tokio::time::timeout(SHORT, third.closed()).await;
    assert!(early.is_err());
    assert_eq!(gateway.ingest.pending_bytes(), 2 * PAYLOAD.len());
    gateway.script.hold(false);
    for client in &mut busy {
        assert_eq!(client.response().await.status(), "202");
    }
    assert_eq!(third.response().await.status(), "202");
}

#[tokio::test]
async fn shutdown_answers_what_is_in_flight_and_closes_the_rest() {
    let gateway = Gateway::start(ingest_config(), server_config()).await;
    let mut idle = gateway.connect().await;
    idle.send(raw_event(PAYLOAD, "")).await;
    assert_eq!(idle.response().await.status(), "202");
    gateway.script.hold(true);
    let mut busy = gateway.connect().await;
    busy.send(raw_event(PAYLOAD, "")).await;
    until(|| gateway.ingest.pending_bytes() > 0).await;
    gateway.trigger.fire();
    idle.closed().await;
    assert!(!gateway.served.is_finished());
    let address = gateway.tcp();
    until(|| std::net::TcpStream::connect(address).is_err()).await;
    gateway.script.hold(false);
    let response = busy.response().await;
    assert_eq!(response.status(), "202");
    assert!(response.head.to_ascii_lowercase().contains("connection: close"), "{response:?}");
    busy.closed().await;
    let cut_off = tokio::time::timeout(STUCK, gateway.served).await.expect("drained in time");
    assert_eq!(cut_off.unwrap(), 0);
    assert_eq!(gateway.script.count(), 2);
}

/// Sends `n` events at once over one HTTP/2 connection and returns the statuses.
async fn http2(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    n: usize,
) -> Vec<u16> {
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    let mut requests = Vec::new();
    for _ in 0..n {
        let mut client = client.clone();
        let request = Request::post("http://x/v1/tenants/acme/events")
            .header("authorization", "Bearer szk_producer_x")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(PAYLOAD)))
            .unwrap();
        requests.push(tokio::spawn(async move {
            let response = client.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(body.starts_with(br#"{"id":"evt_"#), "{body:?}");
            status
        }));
    }
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.await.unwrap());
    }
    drop(client);
    driver.await.unwrap().unwrap();
    statuses
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served() {
    let gateway = Gateway::start(ingest_config(), server_config()).await;
    let stream = TcpStream::connect(gateway.tcp()).await.unwrap();
    assert_eq!(http2(stream, 50).await, vec![202; 50]);
    assert_eq!(gateway.script.count(), 50);
}

#[tokio::test]
async fn tls_is_served_with_both_protocols() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = Some((certificate.clone(), key.clone()));
    let gateway = Gateway::start(ingest_config(), config::Server { tls, ..server_config() }).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = async |protocols: &[&str]| {
        let mut client = client.clone();
        client.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(gateway.tcp()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap()
    };
    let mut raw = Raw::new(connect(&["http/1.1"]).await);
    raw.send(raw_event(PAYLOAD, "")).await;
    assert_eq!(raw.response().await.status(), "202");
    assert_eq!(http2(connect(&["h2"]).await, 3).await, [202; 3]);

    // Plain HTTP at a TLS port ends; it does not take the listener with it.
    let mut plain = gateway.connect().await;
    plain.send(raw_event(PAYLOAD, "")).await;
    plain.closed().await;
    assert_eq!(gateway.script.count(), 4);

    let swapped = config::Server { tls: Some((key.clone(), key)), ..server_config() };
    assert!(matches!(Listener::bind(&swapped), Err(BindError::Tls(_))));
    let missing =
        config::Server { tls: Some((dir.path().join("no"), certificate)), ..server_config() };
    let said = Listener::bind(&missing).unwrap_err().to_string();
    assert!(said.contains("cannot read the certificate chain"), "{said}");
}

#[tokio::test]
async fn a_unix_socket_is_served_kept_to_its_group_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sock");
    let server = config::Server { listen: Listen::Unix(path.clone()), ..server_config() };
    let gateway = Gateway::start(ingest_config(), server.clone()).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut client = Raw::new(UnixStream::connect(&path).await.unwrap());
    client.send(raw_event(PAYLOAD, "")).await;
    assert_eq!(client.response().await.status(), "202");
    assert_eq!(http2(UnixStream::connect(&path).await.unwrap(), 1).await, [202]);

    assert!(matches!(Listener::bind(&server), Err(BindError::InUse(_))));
    drop(client);
    gateway.trigger.fire();
    tokio::time::timeout(STUCK, gateway.served).await.expect("ended in time").unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced_and_any_other_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sock");
    let server = config::Server { listen: Listen::Unix(path.clone()), ..server_config() };
    // A listener that died leaves its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let bound = Listener::bind(&server).unwrap();
    assert_eq!(bound.local_addr(), &Listen::Unix(path.clone()));
    drop(bound);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::bind(&server), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_says_so() {
    let first = Listener::bind(&server_config()).unwrap();
    let taken = config::Server { listen: first.local_addr().clone(), ..server_config() };
    let said = Listener::bind(&taken).unwrap_err().to_string();
    assert!(said.contains("in use") && said.contains("server.listen"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_500_for_its_request_only() {
    let api = axum::Router::new()
        .route("/v1/boom", axum::routing::get(boom))
        .route("/v1/fine", axum::routing::get(async || "fine"));
    let gateway = Gateway::with_api(ingest_config(), server_config(), api).await;
    for request in [
        "GET /v1/boom HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        raw_event(PAYLOAD, "").replace("szk_operator_x", "szk_tenant_panic"),
    ] {
        let mut client = gateway.connect().await;
        client.send(request).await;
        let response = client.response().await;
        assert_eq!(response.status(), "500", "{response:?}");
        assert!(!response.body.contains("planted"), "{response:?}");
    }
    let mut client = gateway.connect().await;
    client.send("GET /v1/fine HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.response().await.body, "fine");
}

#[tokio::test]
async fn the_apis_bodies_are_bounded_and_timed() {
    let api = axum::Router::new()
        .route("/v1/echo", axum::routing::post(async |body: Bytes| body.len().to_string()));
    let server = config::Server { body_timeout: SHORT, ..server_config() };
    let gateway = Gateway::with_api(ingest_config(), server, api).await;
    let head = "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length:";
    let mut client = gateway.connect().await;
    client.send(format!("{head} 5\r\n\r\nabcde")).await;
    assert_eq!(client.response().await.body, "5");
    client.send(format!("{head} 5\r\n\r\nabcd")).await;
    assert_eq!(client.response().await.status(), "408");
    let mut client = gateway.connect().await;
    client.send(format!("{head} 300000\r\n\r\n")).await;
    assert_eq!(client.response().await.status(), "413");
}

#[tokio::test]
async fn an_answer_that_streams_is_not_idleness() {
    let (tx, rx) = tokio::sync::mpsc::channel::<&str>(1);
    let stream = axum::body::Body::new(Ticks(rx));
    let stream = Arc::new(std::sync::Mutex::new(Some(stream)));
    let api = axum::Router::new().route(
        "/v1/stream",
        axum::routing::get(move || {
            let body = stream.lock().unwrap().take();
            async { axum::response::Response::new(body.unwrap_or_default()) }
        }),
    );
    let server = config::Server { idle_timeout: SHORT, ..server_config() };
    let gateway = Gateway::with_api(ingest_config(), server, api).await;
    let mut client = gateway.connect().await;
    client.send("GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let early = tokio::time::timeout(SHORT * 3, client.closed()).await;
    assert!(early.is_err(), "closed while the answer streamed");
    tx.send("tick").await.unwrap();
    drop(tx);
    let seen = client.up_to("\r\n0\r\n\r\n").await;
    assert!(seen.contains("tick"), "{seen}");
    // The connection was not asked to end meanwhile, either.
    client.send(raw_event(PAYLOAD, "")).await;
    assert_eq!(client.response().await.status(), "202");
}

#[tokio::test]
async fn every_request_is_counted_once_and_every_series_can_count() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    let api = axum::Router::new()
        .route("/v1/boom", axum::routing::get(boom))
        .route("/v1/fine", axum::routing::get(async || "fine"));
    // The handles are made where the gateway is.
    let guard = metrics::set_default_local_recorder(&recorder);
    let gateway = Gateway::with_api(ingest_config(), server_config(), api).await;
    drop(guard);
    for (request, status) in [
        (raw_event(PAYLOAD, ""), "202"),
        (raw_event("{}", ""), "400"),
        ("PUT /v1/events HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "405"),
        // What never reaches the router is not counted by it.
        ("GET /v1/fine HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("POST /v1/fine HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n".to_owned(), "413"),
        ("GET /v1/boom HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "500"),
        // The router counts its own, and this one is a test's that does not.
        ("GET /v1/fine HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "200"),
    ] {
        let mut client = gateway.connect().await;
        client.send(request).await;
        assert_eq!(client.response().await.status(), status);
    }
    let text = rendered.render();
    let mut series: Vec<_> =
        text.lines().filter_map(|l| l.strip_prefix("senderz_http_requests_total")).collect();
    series.sort_unstable();
    assert_eq!(
        series,
        [
            r#"{route="ingest_batch",code_class="2xx"} 0"#,
            r#"{route="ingest_batch",code_class="4xx"} 0"#,
            r#"{route="ingest_batch",code_class="5xx"} 0"#,
            r#"{route="ingest_event",code_class="2xx"} 1"#,
            r#"{route="ingest_event",code_class="4xx"} 1"#,
            r#"{route="ingest_event",code_class="5xx"} 0"#,
            r#"{route="other",code_class="4xx"} 3"#,
            r#"{route="other",code_class="5xx"} 1"#,
        ]
    );
}

async fn boom() -> &'static str {
    panic!("a planted panic")
}

/// A body that ends when its sender does.
struct Ticks(tokio::sync::mpsc::Receiver<&'static str>);

impl http_body::Body for Ticks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|tick| tick.map(|t| Ok(http_body::Frame::data(Bytes::from(t)))))
    }
}
