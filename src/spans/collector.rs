//! The connection to the collector: one, kept open, with one request at a time.
//!
//! It goes where the operator said, so the guard, which judges what tenants say, is not asked, and
//! names are the system's to resolve: inside a cluster they have no meaning outside it. It follows no
//! redirect and uses no proxy of the environment.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::{Export, ExporterError};
use crate::trust;

/// Answers are a few bytes long; what goes beyond it is not one.
const MAX_ANSWER: usize = 64 << 10;
/// The most that a collector's `Retry-After` is taken for.
const MAX_WAIT: Duration = Duration::from_secs(30);

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("senderz-gateway/", env!("CARGO_PKG_VERSION")));

type Fault = Box<dyn Error + Send + Sync>;

pub(super) struct Collector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    uri: Uri,
    headers: HeaderMap,
    open: Option<http1::SendRequest<Full<Bytes>>>,
}

/// Why an export was not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    /// For the log; nothing of the answer's own words.
    pub(super) why: String,
    /// Whether the same export may be taken later.
    pub(super) is_passing: bool,
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    /// The collector did not answer: it may, another time.
    pub(super) fn unanswered(why: impl ToString) -> Self {
        Self { why: why.to_string(), is_passing: true, retry_after: None }
    }
}

impl Collector {
    pub(super) fn new(export: &Export) -> Result<Self, ExporterError> {
        let Export { endpoint, headers, ca_file, .. } = export;
        let (host, name) = parties(endpoint);
        let tls = match endpoint.scheme() {
            "https" => {
                let config = trust::client_config(ca_file.as_deref(), &[b"http/1.1"])?;
                name.map(|name| (TlsConnector::from(Arc::new(config)), name))
            }
            _ => None,
        };
        let mut headers = headers.clone();
        let authority = &endpoint[url::Position::BeforeHost..url::Position::AfterPort];
        let authority = HeaderValue::from_str(authority).expect("a parsed host is ASCII");
        headers.insert(header::HOST, authority);
        headers.insert(header::CONTENT_TYPE, PROTOBUF);
        headers.insert(header::USER_AGENT, USER_AGENT);
        let target = &endpoint[url::Position::BeforePath..url::Position::AfterQuery];
        Ok(Self {
            host,
            port: endpoint.port_or_known_default().expect("http and https have one"),
            tls,
            uri: target.parse().unwrap_or_else(|_| Uri::from_static("/v1/traces")),
            headers,
            open: None,
        })
    }

    /// Sends one export; answers how many of its spans the collector did not keep. Cancel-safe: a
    /// connection whose request was cut off is not used again.
    pub(super) async fn post(&mut self, body: Bytes) -> Result<u64, Refusal> {
        let mut connection = match self.open.take().filter(|open| !open.is_closed()) {
            Some(open) => open,
            None => self.connect().await.map_err(Refusal::unanswered)?,
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        connection.ready().await.map_err(Refusal::unanswered)?;
        let answer = connection.send_request(request).await.map_err(Refusal::unanswered)?;
        let (head, answer) = answer.into_parts();
        let answer = Limited::new(answer, MAX_ANSWER).collect().await;
        let answer = answer.map_err(Refusal::unanswered)?.to_bytes();
        self.open = Some(connection);
        if head.status.is_success() {
            return Ok(not_kept(&answer));
        }
        Err(refusal(head.status, &head.headers))
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, Fault> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => handshake(stream).await,
            Some((connector, name)) => {
                handshake(connector.connect(name.clone(), stream).await?).await
            }
        }
    }
}

async fn handshake<S>(stream: S) -> Result<http1::SendRequest<Full<Bytes>>, Fault>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the connection; why, the request on it is told as well.
    tokio::spawn(connection);
    Ok(requests)
}

/// Whom to connect to, and whom TLS has to find there; none where it cannot be named in TLS.
fn parties(endpoint: &Url) -> (String, Option<ServerName<'static>>) {
    match endpoint.host() {
        Some(Host::Ipv4(ip)) => (ip.to_string(), Some(std::net::IpAddr::V4(ip).into())),
        Some(Host::Ipv6(ip)) => (ip.to_string(), Some(std::net::IpAddr::V6(ip).into())),
        Some(Host::Domain(name)) => (name.to_owned(), ServerName::try_from(name.to_owned()).ok()),
        None => (String::new(), None),
    }
}

/// How many spans of an export that was taken were not kept (`partial_success`). An answer that
/// cannot be read says nothing of it.
fn not_kept(answer: &Bytes) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer.clone()).unwrap_or_default();
    let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or(0)
}

/// Which refusals pass, OTLP says itself.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Refusal {
    let is_passing = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    let wish = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = wish.map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT));
    Refusal { why: format!("the collector answered {status}"), is_passing, retry_after }
}
