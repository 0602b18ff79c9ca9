//! The receiver: answers every request with an empty 200, as cheaply as it can, and counts.
//!
//! It never sleeps. Waking a process that does costs the sender an interrupt on another processor,
//! dear on a virtual machine; the bare loop, which keeps its receiver busy, would not pay for it,
//! and a gateway at half of that rate would.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{LOAD_CPU, Protocol, pinned, tls};

/// The process, as the benchmark sees it.
pub(crate) struct Receiver {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) addr: SocketAddr,
}

impl Receiver {
    /// `dir` holds its certificate, where it needs one.
    pub(crate) fn start(protocol: Protocol, dir: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["role-receiver", protocol.name()]).arg(dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pinned(LOAD_CPU, || command.spawn())?;
        let mut answers = BufReader::new(child.stdout.take().context("piped")?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let ask = child.stdin.take().context("piped")?;
        Ok(Self { child, ask, answers, addr: line.trim().parse()? })
    }

    /// Requests answered so far.
    pub(crate) fn count(&mut self) -> anyhow::Result<u64> {
        self.ask.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// What the process does; tells its count for each line on its standard input.
pub(crate) fn role(arguments: &[String]) -> anyhow::Result<()> {
    let [protocol, dir] = arguments else { anyhow::bail!("two arguments") };
    let (protocol, dir): (Protocol, PathBuf) = (protocol.parse()?, dir.into());
    let config = match protocol {
        Protocol::Http1 => None,
        Protocol::Tls | Protocol::Http2 => Some(tls::server(&dir, protocol)?),
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().event_interval(8).build()?;
    // On every address of this machine: each address of 127.0.0.0/8 is a host of its own.
    let listener = runtime.block_on(TcpListener::bind("0.0.0.0:0"))?;
    println!("127.0.0.1:{}", listener.local_addr()?.port());
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
            tokio::spawn(serve(stream, protocol, config.clone()));
        }
    })
}

async fn serve(stream: TcpStream, protocol: Protocol, config: Option<Arc<ServerConfig>>) {
    let count = |_: &[u8]| _ = ANSWERED.fetch_add(1, Ordering::Relaxed);
    let Some(config) = config else {
        answer(stream, OK, count).await;
        return;
    };
    // A peer that breaks off is the benchmark's end.
    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
    if protocol == Protocol::Http2 {
        answer_http2(stream).await;
    } else {
        answer(stream, OK, count).await;
    }
}

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Gives every request the same answer, over HTTP/1.1 and until the connection ends. `seen` gets
/// each whole request before it is answered.
pub(crate) async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    with: &[u8],
    mut seen: impl FnMut(&[u8]),
) -> Option<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    let mut answers = Vec::new();
    loop {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        let read = stream.read(&mut buffer[filled..]).await.ok().filter(|n| *n > 0)?;
        filled += read;
        let mut at = 0;
        while let Some(length) = request_length(&buffer[at..filled]) {
            if at + length > filled {
                break;
            }
            seen(&buffer[at..at + length]);
            at += length;
            answers.extend_from_slice(with);
        }
        if at > 0 {
            buffer.copy_within(at..filled, 0);
            filled -= at;
            stream.write_all(&answers).await.ok()?;
            stream.flush().await.ok()?;
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

async fn answer_http2(stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
    let mut builder = h2::server::Builder::new();
    builder.initial_connection_window_size(16 << 20).initial_window_size(1 << 20);
    let mut connection = builder.handshake::<_, bytes::Bytes>(stream).await.ok()?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request.ok()?;
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(piece) = body.data().await {
                body.flow_control().release_capacity(piece.ok()?.len()).ok()?;
            }
            let answer = http::Response::builder().status(200).body(()).ok()?;
            respond.send_response(answer, true).ok()?;
            ANSWERED.fetch_add(1, Ordering::Relaxed);
            Some(())
        });
    }
    Some(())
}
