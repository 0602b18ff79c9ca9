//! A small client of our own API, for the commands: HTTP/1.1, over TLS or not, one connection per
//! request.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header, response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use zeroize::Zeroizing;

use super::{Global, problem::Problem};
use crate::{
    config::{Listen, Server, environment},
    tenant::TenantId,
    trust::{self, TrustError},
};

/// From connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer read.
const MAX_ANSWER: usize = 64 << 20;
const MAX_KEY_FILE: u64 = 4096;

/// Where a gateway's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseUrl {
    Tcp { authority: String },
    Tls { authority: String, trusted: Trusted },
    Unix(PathBuf),
}

/// Whose certificate is taken for the gateway's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// One for the name, of the system's roots or of this file (tls.ca_file).
    Named(Option<PathBuf>),
    /// The first of this file (server.tls_certificate), whatever its names.
    Exactly(PathBuf),
}

impl Trusted {
    fn connector(&self) -> Result<TlsConnector, TrustError> {
        let config = match self {
            Self::Named(ca_file) => trust::client_config(ca_file.as_deref(), &[b"http/1.1"])?,
            Self::Exactly(chain) => trust::client_of(chain)?,
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl FromStr for BaseUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "must be http://host:port, https://host:port or unix:/absolute/path";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(rule) };
        }
        let uri: Uri = text.parse().map_err(|_| rule)?;
        match (uri.scheme_str(), uri.authority(), uri.path(), uri.query()) {
            (Some(scheme), Some(authority), "/", None) if !authority.as_str().contains('@') => {
                let authority = authority.to_string();
                match scheme {
                    "http" => Ok(Self::Tcp { authority }),
                    "https" => Ok(Self::Tls { authority, trusted: Trusted::Named(None) }),
                    _ => Err(rule),
                }
            }
            _ => Err(rule),
        }
    }
}

impl BaseUrl {
    /// Where a gateway with this configuration is to be found from this machine.
    pub(super) fn of(server: &Server) -> anyhow::Result<Self> {
        let hint = "name the running gateway with --url or SENDERZ_URL";
        match &server.listen {
            Listen::Unix(path) => Ok(Self::Unix(path.clone())),
            Listen::Tcp(address) if address.port() == 0 => anyhow::bail!(
                "server.listen = {address} takes any free port, so the port is not known; {hint}"
            ),
            Listen::Tcp(address) => {
                let authority = reachable(*address).to_string();
                Ok(match &server.tls {
                    None => Self::Tcp { authority },
                    Some((chain, _)) => {
                        Self::Tls { authority, trusted: Trusted::Exactly(chain.clone()) }
                    }
                })
            }
        }
    }

    /// The host, and the port where none is named.
    fn address(authority: &str, port: u16) -> String {
        match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
            _ => format!("{authority}:{port}"),
        }
    }
}

/// An address to call for one to listen on: every address means this machine as well.
pub(super) fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}

/// Why a request had no good answer; each says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("cannot reach the gateway at {at}: {reason}; is it running? (senderz-gateway serve)")]
    Unreachable { at: String, reason: std::io::Error },
    #[error("the gateway at {at} is not to be trusted: {reason}; tls.ca_file names further roots")]
    Untrusted { at: String, reason: String },
    #[error("the gateway did not answer within 30 seconds")]
    Timeout,
    #[error("the gateway's answer is not HTTP as expected: {0}")]
    Answer(String),
    #[error("{0}")]
    Problem(Problem),
    /// Wrong usage, whoever finds it: the operator's key speaks for every tenant.
    #[error(
        "say for which tenant with --tenant; `senderz-gateway tenants list` shows the tenants' ids"
    )]
    NoTenant,
}

pub(super) const JSON: &str = "application/json";
pub(super) const NDJSON: &str = "application/x-ndjson";

/// What the API answered: as it came, for programs to read, and as a value.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Bytes,
    value: Value,
}

impl std::ops::Deref for Answer {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

/// Speaks to one gateway with one key.
pub(super) struct Client {
    base: BaseUrl,
    key: Option<Zeroizing<String>>,
    tenant: Option<TenantId>,
}

impl Client {
    /// With the key of `--key-file`, of `SENDERZ_API_KEY`, or of the operator on this machine (given
    /// from outside with `SENDERZ_OPERATOR_KEY`, as a container is, or kept in the data directory); to
    /// the gateway of `--url`, of `SENDERZ_URL`, or of the configuration. That is read only where
    /// something is left to learn from it: another machine's gateway needs none here.
    pub(super) fn new(global: &Global, tenant: Option<TenantId>) -> anyhow::Result<Self> {
        let given = || {
            let names = ["SENDERZ_API_KEY", environment::OPERATOR_KEY];
            names.into_iter().find_map(environment::secret)
        };
        let key = match &global.key_file {
            Some(path) => read_key(path)?,
            None => match given() {
                Some(key) => key,
                None => read_key(&global.load()?.data_dir.join("operator.key"))?,
            },
        };
        let base = match global.url.clone() {
            Some(BaseUrl::Tls { authority, .. }) => {
                BaseUrl::Tls { authority, trusted: Trusted::Named(global.load()?.tls.ca_file) }
            }
            Some(url) => url,
            None => BaseUrl::of(&global.load()?.server)?,
        };
        Ok(Self { base, key: Some(key), tenant })
    }

    /// With this key, for a gateway of our own process.
    pub(super) fn with_key(base: BaseUrl, key: Zeroizing<String>) -> Self {
        Self { base, key: Some(key), tenant: None }
    }

    /// The same, acting for a tenant.
    pub(super) fn for_tenant(&self, tenant: TenantId) -> Self {
        Self { base: self.base.clone(), key: self.key.clone(), tenant: Some(tenant) }
    }

    /// Without a key, for what needs none.
    pub(super) fn anonymous(base: BaseUrl) -> Self {
        Self { base, key: None, tenant: None }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.request(Method::GET, path, None, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, ClientError> {
        let body = Bytes::from(body.to_string());
        self.request(Method::POST, path, Some(body), None).await
    }

    /// A request whose body goes out byte for byte.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        idempotency_key: Option<&str>,
    ) -> Result<Answer, ClientError> {
        self.send(self.build(method, path, JSON, body, idempotency_key)?).await
    }

    /// A batch of events, a line each.
    pub(super) async fn post_lines(&self, path: &str, lines: Bytes) -> Result<Answer, ClientError> {
        self.send(self.build(Method::POST, path, NDJSON, Some(lines), None)?).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let (head, body) = tokio::time::timeout(TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| ClientError::Timeout)??;
        if !head.status.is_success() {
            return Err(ClientError::of(&head, &body));
        }
        // An empty body is an answer too.
        let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Answer { body, value })
    }

    pub(super) fn build(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<Bytes>,
        idempotency_key: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let host = match &self.base {
            BaseUrl::Tcp { authority } | BaseUrl::Tls { authority, .. } => authority,
            BaseUrl::Unix(_) => "localhost",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(key) = &self.key {
            let bearer = Zeroizing::new(format!("Bearer {}", key.as_str()));
            let mut value = HeaderValue::from_str(&bearer)
                .map_err(|_| ClientError::Answer("the key has characters no key has".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("senderz-tenant", tenant.as_str());
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let body = Full::new(body.unwrap_or_default());
        request.body(body).map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(response::Parts, Bytes), ClientError> {
        let mut connection = self.connect().await?;
        let (head, body) = connection.send(request).await?.into_parts();
        Ok((head, whole(body).await?))
    }

    /// A connection for requests one after the other.
    pub(super) async fn connect(&self) -> Result<Connection, ClientError> {
        let unreachable = |at: String| |reason| ClientError::Unreachable { at, reason };
        match &self.base {
            BaseUrl::Tcp { authority } => {
                Connection::over(connect(BaseUrl::address(authority, 80)).await?).await
            }
            BaseUrl::Tls { authority, trusted } => {
                Connection::over(connect_tls(BaseUrl::address(authority, 443), trusted).await?)
                    .await
            }
            BaseUrl::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path)
                    .await
                    .map_err(unreachable(path.display().to_string()))?;
                Connection::over(stream).await
            }
        }
    }
}

async fn connect(address: String) -> Result<TcpStream, ClientError> {
    let stream = TcpStream::connect(&address).await;
    let stream = stream.map_err(|reason| ClientError::Unreachable { at: address, reason })?;
    // It fails only where the peer is gone already, as the first write will say.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn connect_tls(at: String, trusted: &Trusted) -> Result<TlsStream<TcpStream>, ClientError> {
    let untrusted = |reason: String| ClientError::Untrusted { at: at.clone(), reason };
    let host = at.rsplit_once(':').map_or(&*at, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| untrusted(error.to_string()))?;
    let connector = trusted.connector().map_err(|error| untrusted(error.to_string()))?;
    connector.connect(name, connect(at.clone()).await?).await.map_err(|error| match error.kind() {
        // What the handshake says of a certificate; anything else is the network's.
        io::ErrorKind::InvalidData => untrusted(error.to_string()),
        _ => ClientError::Unreachable { at: at.clone(), reason: error },
    })
}

/// An open connection; its drop closes it.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Its errors are those of the exchanges.
    driver: tokio::task::JoinHandle<()>,
}

impl Connection {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, ClientError> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(not_http)?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }

    /// The answer's head; its body is to be read before the next request.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.sender.ready().await.map_err(not_http)?;
        self.sender.send_request(request).await.map_err(not_http)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn not_http(error: hyper::Error) -> ClientError {
    ClientError::Answer(error.to_string())
}

/// An answer's whole body.
pub(super) async fn whole(body: Incoming) -> Result<Bytes, ClientError> {
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    Ok(body.map_err(|error| ClientError::Answer(error.to_string()))?.to_bytes())
}

impl ClientError {
    /// What an answer that is no success says.
    pub(super) fn of(head: &response::Parts, body: &[u8]) -> Self {
        let value = serde_json::from_slice(body).unwrap_or(Value::Null);
        match Problem::new(head.status, value).of_request(&head.headers) {
            problem if problem.code() == Some("tenant_required") => Self::NoTenant,
            problem => Self::Problem(problem),
        }
    }
}

pub(super) fn read_key(path: &std::path::Path) -> anyhow::Result<Zeroizing<String>> {
    use anyhow::Context as _;
    let hint = "set SENDERZ_API_KEY or --key-file";
    let told = || format!("cannot read the key file {}; {hint}", path.display());
    let size = std::fs::metadata(path).with_context(told)?.len();
    anyhow::ensure!(size <= MAX_KEY_FILE, "{} is too large for a key file", path.display());
    let text = Zeroizing::new(std::fs::read_to_string(path).with_context(told)?);
    let key = text.trim();
    anyhow::ensure!(!key.is_empty(), "the key file {} is empty; {hint}", path.display());
    Ok(Zeroizing::new(key.to_owned()))
}

/// `path?name=value&…` of the parameters that are set.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let mut any = false;
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
            any = true;
        }
    }
    if any { format!("{path}?{}", query.finish()) } else { path.to_owned() }
}

/// One segment of a path, escaped: an id typed wrong must not become another route.
pub(super) fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
