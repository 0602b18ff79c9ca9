//! What the benchmark's child processes do: the receiver and the bare loop.

pub(crate) mod client;

use std::{
    io::{BufRead, Write},
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Linux counts process times in hundredths of a second on every machine that matters here.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// Answers every request with an empty 200, as cheaply as it can; tells its count for each line
/// on its standard input.
///
/// It never sleeps. Waking a process that does costs the sender an interrupt on another processor,
/// dear on a virtual machine; the bare loop, which keeps its receiver busy, would not pay for it,
/// and a gateway at a third of that rate would.
pub(crate) fn receiver() -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().event_interval(8).build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    println!("{}", listener.local_addr()?);
    std::thread::spawn(|| {
        let mut out = std::io::stdout();
        for _ in std::io::stdin().lock().lines() {
            if writeln!(out, "{}", ANSWERED.load(Ordering::Relaxed)).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    runtime.block_on(async {
        tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(answer(stream));
        }
    })
}

async fn answer(mut stream: TcpStream) -> Option<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut filled = 0;
    let mut answers = Vec::new();
    loop {
        let read = stream.read(&mut buffer[filled..]).await.ok().filter(|n| *n > 0)?;
        filled += read;
        let mut at = 0;
        while let Some(length) = request_length(&buffer[at..filled]) {
            if at + length > filled {
                break;
            }
            at += length;
            answers.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            ANSWERED.fetch_add(1, Ordering::Relaxed);
        }
        if at > 0 {
            buffer.copy_within(at..filled, 0);
            filled -= at;
            stream.write_all(&answers).await.ok()?;
            answers.clear();
        }
    }
}

/// Head and body together, once the head is whole.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut body = 0;
    loop {
        let end = at + bytes[at..].iter().position(|b| *b == b'\n')?;
        let line = bytes[at..end].trim_ascii();
        at = end + 1;
        if line.is_empty() {
            return Some(at + body);
        }
        const NAME: &[u8] = b"content-length:";
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            body = std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()?;
        }
    }
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

/// The bare loop: as many hyper connections, one request after the other on each, nothing else.
/// With `same` its requests have the header fields of a delivery, with `minimal` the fewest that
/// HTTP allows.
pub(crate) fn bare(arguments: &[String]) -> anyhow::Result<()> {
    let [to, requests, connections, body, headers] = arguments else {
        anyhow::bail!("five arguments")
    };
    let to: SocketAddr = to.parse()?;
    let headers = request_headers(to, headers == "same")?;
    let (requests, connections): (u64, u64) = (requests.parse()?, connections.parse()?);
    let body = Bytes::from(vec![b'x'; body.parse()?]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let each = requests.div_ceil(connections);
    runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            open.push(sender);
        }
        let before = cpu_ticks("/proc/self/stat")?;
        let loops: Vec<_> = open
            .into_iter()
            .map(|s| tokio::spawn(bare_loop(s, headers.clone(), body.clone(), each)))
            .collect();
        for task in loops {
            task.await??;
        }
        let after = cpu_ticks("/proc/self/stat")?;
        let ticks = after.0 + after.1 - before.0 - before.1;
        println!("{}", ticks as f64 * 1e6 / TICKS_PER_SECOND / (each * connections) as f64);
        anyhow::Ok(())
    })
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

async fn bare_loop(
    mut sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
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

/// User and system time from a `/proc/…/stat` file, in clock ticks.
pub(crate) fn cpu_ticks(path: &str) -> anyhow::Result<(u64, u64)> {
    let stat = std::fs::read_to_string(path)?;
    let after_name = stat.rsplit_once(')').context("a stat line")?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut next = || anyhow::Ok(fields.next().context("a field")?.parse::<u64>()?);
    Ok((next()?, next()?))
}
