//! The receiver: answers every request as its script says, as cheaply as it can, and counts.
//!
//! The plain one never sleeps. Waking a process that does costs the sender an interrupt on another processor,
//! dear on a virtual machine; the bare loop, which keeps its receiver busy, would not pay for it,
//! and a gateway at half of that rate would.

use std::{
    future::ready,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    str::from_utf8,
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
    /// `dir` holds its certificate, where it needs one. It runs this program's `role-receiver`.
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
        Ok(self.ask("")?.parse()?)
    }

    /// Puts a line to its script.
    pub(crate) fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        writeln!(self.ask, "{question}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// What a receiver answers over HTTP/1.1.
pub(crate) trait Script: Clone + 'static {
    /// Whether the process keeps its processor busy when there is nothing to do.
    const NEVER_SLEEPS: bool = true;

    /// Waits until it answers at all.
    fn awake(&self) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// Sees this request whole, head and body, and appends the answer to it.
    fn answer(&self, request: &[u8], answers: &mut Vec<u8>);

    /// The answer, in a line, to a line of whoever started the process.
    fn tell(&self, question: &str) -> String {
        format!("{question}?")
    }
}

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// An empty 200 for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain;

impl Script for Plain {
    fn answer(&self, _: &[u8], answers: &mut Vec<u8>) {
        answers.extend_from_slice(OK);
    }
}

/// What the process does. For an empty line on its standard input it tells its count.
pub(crate) fn role(arguments: &[String], script: impl Script + Send + Sync) -> anyhow::Result<()> {
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
    spawn_teller(script.clone());
    runtime.block_on(accept(listener, protocol, config, script))
}

fn spawn_teller(script: impl Script + Send) {
    std::thread::spawn(move || {
        let mut out = std::io::stdout();
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let said = match line.as_str() {
                "" => ANSWERED.load(Ordering::Relaxed).to_string(),
                question => script.tell(question),
            };
            if writeln!(out, "{said}").is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
}

async fn accept<S: Script + Send + Sync>(
    listener: TcpListener,
    protocol: Protocol,
    config: Option<Arc<ServerConfig>>,
    script: S,
) -> anyhow::Result<()> {
    if S::NEVER_SLEEPS {
        tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, protocol, config.clone(), script.clone()));
    }
}

async fn serve(
    stream: TcpStream,
    protocol: Protocol,
    config: Option<Arc<ServerConfig>>,
    script: impl Script,
) {
    let Some(config) = config else {
        answer(stream, script).await;
        return;
    };
    // A peer that breaks off is the benchmark's end.
    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
    if protocol == Protocol::Http2 {
        answer_http2(stream).await;
    } else {
        answer(stream, script).await;
    }
}

/// HTTP/1.1 until the connection ends.
pub(crate) async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: impl Script,
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
        script.awake().await;
        let mut at = 0;
        while let Some(length) = request_length(&buffer[at..filled]) {
            if at + length > filled {
                break;
            }
            script.answer(&buffer[at..at + length], &mut answers);
            at += length;
            ANSWERED.fetch_add(1, Ordering::Relaxed);
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
        if let Some(length) = value(line, b"content-length:") {
            body = length.parse().ok()?;
        }
    }
}

/// The value of a header line with this name, which ends in a colon.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| from_utf8(rest).ok().map(str::trim)).flatten()
}

/// The value of this header field of a request; the name ends in a colon.
pub(crate) fn field<'a>(request: &'a [u8], name: &str) -> Option<&'a str> {
    request.split(|byte| *byte == b'\n').find_map(|line| value(line, name.as_bytes()))
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
