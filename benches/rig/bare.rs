//! The bare loop: as many hyper connections as the gateway holds, one request after the other on
//! each, nothing else.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{GATEWAY_CPU, Protocol, TICKS_PER_SECOND, cpu_ticks, pinned, tls};

/// Which header fields its requests have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fields {
    /// Those of a delivery, with fixed values.
    Same,
    /// The fewest that HTTP allows.
    Minimal,
}

/// CPU per request in microseconds, over `requests`.
pub(crate) fn run(
    to: (SocketAddr, Protocol, &Path),
    fields: Fields,
    (requests, connections, body): (u64, usize, usize),
) -> anyhow::Result<f64> {
    let (addr, protocol, dir) = to;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["role-bare", &addr.to_string(), protocol.name()]).arg(dir);
    command.arg(match fields {
        Fields::Same => "same",
        Fields::Minimal => "minimal",
    });
    command.args([requests, connections as u64, body as u64].map(|n| n.to_string()));
    let output = pinned(GATEWAY_CPU, || command.stderr(Stdio::inherit()).output())?;
    ensure!(output.status.success(), "the bare loop failed");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// The header fields of a delivery, with values of the usual length: what the gateway must send.
const CONTRACT: [(&str, &str); 9] = [
    ("accept-encoding", "identity"),
    ("user-agent", "senderZ-Webhooks/1.0"),
    ("x-senderz-signature", "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"),
    ("x-senderz-event", "message.delivered"),
    ("x-senderz-delivery", "dlv_0123456789abcdefghjkmnpqrs0001"),
    ("x-senderz-attempt", "1"),
    ("webhook-id", "evt_0123456789abcdefghjkmnpqrs"),
    ("webhook-timestamp", "1795407600"),
    ("webhook-signature", "v1,q0HR8C5lFxKd6D7BqKfC0d1m3uKX5Yw0vH2sT9aZ0bE="),
];

/// What the process does.
pub(crate) fn role(arguments: &[String]) -> anyhow::Result<()> {
    let [to, protocol, dir, fields, requests, connections, body] = arguments else {
        anyhow::bail!("seven arguments")
    };
    let to: SocketAddr = to.parse()?;
    let headers = request_headers(to, fields == "same")?;
    let (requests, connections): (u64, u64) = (requests.parse()?, connections.parse()?);
    let body = Bytes::from(vec![b'x'; body.parse()?]);
    let tls = match protocol.parse()? {
        Protocol::Http1 => None,
        Protocol::Tls => Some(TlsConnector::from(tls::client(dir.as_ref())?)),
        Protocol::Http2 => anyhow::bail!("the bare loop speaks HTTP/1.1"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let each = requests.div_ceil(connections);
    runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            open.push(match &tls {
                None => shake_hands(stream).await?,
                Some(tls) => {
                    let name = ServerName::from(to.ip());
                    shake_hands(tls.connect(name, stream).await?).await?
                }
            });
        }
        let before = cpu_ticks(std::process::id())?;
        let loops: Vec<_> = open
            .into_iter()
            .map(|s| tokio::spawn(send(s, headers.clone(), body.clone(), each)))
            .collect();
        for task in loops {
            task.await??;
        }
        let after = cpu_ticks(std::process::id())?;
        let ticks = after.0 + after.1 - before.0 - before.1;
        println!("{}", ticks as f64 * 1e6 / TICKS_PER_SECOND / (each * connections) as f64);
        anyhow::Ok(())
    })
}

async fn shake_hands<T>(stream: T) -> anyhow::Result<SendRequest<Full<Bytes>>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("handshake")?;
    tokio::spawn(connection);
    Ok(sender)
}

fn request_headers(to: SocketAddr, same: bool) -> anyhow::Result<http::HeaderMap> {
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::HOST, to.to_string().try_into()?);
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in CONTRACT.into_iter().filter(|_| same) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Ok(headers)
}

async fn send(
    mut sender: SendRequest<Full<Bytes>>,
    headers: http::HeaderMap,
    body: Bytes,
    requests: u64,
) -> anyhow::Result<()> {
    for _ in 0..requests {
        sender.ready().await?;
        let mut request = http::Request::post("/hook").body(Full::new(body.clone()))?;
        *request.headers_mut() = headers.clone();
        let response = sender.send_request(request).await?;
        response.into_body().collect().await?;
    }
    Ok(())
}
