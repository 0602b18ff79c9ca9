//! The public listener: HTTP/1.1 and HTTP/2 (prior knowledge or ALPN) over TCP or a unix socket,
//! with TLS where a certificate is set.
//!
//! Bound early, served late: [`Listener::bind`] makes the address known, and everything that can
//! be wrong with it an error, before any work; [`Listener::serve`] starts to accept. A connection
//! beyond `server.max_connections` takes the place of the one that has been idle longest; while all
//! are busy it waits, and those after it in the kernel's queue.
//!
//! On the drain signal accepting stops, every connection is asked to end (GOAWAY, or `Connection:
//! close` on the next answer), and requests in flight get [`DRAIN_LIMIT`] to finish.
//!
//! Nothing here knows what a request means; see [`Front`] for who answers it.

mod connection;
mod crowd;
mod framing;
mod front;
mod tls;
mod watched;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, UnixListener},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::{self, Listen},
    shutdown::Signal,
};

use connection::Connections;
use crowd::{Crowd, Member};
pub use front::Front;
pub use tls::TlsError;

/// How long requests in flight may take after the drain signal.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Connections that the kernel holds for us before they are accepted.
const BACKLOG: u32 = 1024;

/// The pause after a failed accept (no file descriptor, no memory): trying again at once would
/// burn a core and change nothing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may connect to a unix socket: its owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Why a listener could not be bound. Each says where.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address}: {source}; set server.listen to a free address")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("cannot listen on unix:{}: {source}", path.display())]
    Unix { path: PathBuf, source: io::Error },
    #[error("unix:{} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("unix:{} exists and is not a socket; remove it or set another server.listen", .0.display())]
    NotASocket(PathBuf),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A bound listener that accepts nothing yet.
pub struct Listener {
    socket: Socket,
    address: Listen,
    tls: Option<TlsAcceptor>,
    max_connections: usize,
    header_timeout: Duration,
    idle_timeout: Duration,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds the address and reads the certificate. Must be called within a tokio runtime.
    ///
    /// A unix socket's file that nobody listens on is replaced; it is removed again when the
    /// listener ends.
    pub fn bind(config: &config::Server) -> Result<Self, BindError> {
        let tls = match &config.tls {
            Some((certificate, key)) => Some(tls::acceptor(certificate, key)?),
            None => None,
        };
        let (socket, address) = match &config.listen {
            Listen::Tcp(address) => {
                let (listener, bound) = bind_tcp(*address)
                    .map_err(|source| BindError::Tcp { address: *address, source })?;
                (Socket::Tcp(listener), Listen::Tcp(bound))
            }
            Listen::Unix(path) => {
                remove_stale(path)?;
                let socket = bind_unix(path)
                    .map_err(|source| BindError::Unix { path: path.clone(), source })?;
                (socket, Listen::Unix(path.clone()))
            }
        };
        Ok(Self {
            socket,
            address,
            tls,
            max_connections: config.max_connections,
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
        })
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    pub fn local_addr(&self) -> &Listen {
        &self.address
    }

    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Accepts and serves until the signal; then drains. Returns how many connections had to be
    /// cut off with a request in flight.
    pub async fn serve(self, front: Arc<Front>, mut signal: Signal) -> usize {
        let shared = Connections::new(front, self.header_timeout, self.idle_timeout);
        let crowd = Crowd::new();
        let mut open = JoinSet::new();
        // Accepted beyond the limit: somebody's place is being made free for it.
        let mut waiting: Option<Stream> = None;
        let mut is_failing = false;
        loop {
            if open.len() < self.max_connections
                && let Some(stream) = waiting.take()
            {
                crowd.has_place();
                let (connections, tls) = (Arc::clone(&shared), self.tls.clone());
                open.spawn(serve_one(stream, tls, connections, crowd.enter(), signal.clone()));
            }
            tokio::select! {
                biased;
                () = signal.fired() => break,
                Some(_) = open.join_next() => {}
                accepted = self.socket.accept(), if waiting.is_none() => match accepted {
                    Ok(stream) => {
                        is_failing = false;
                        if open.len() >= self.max_connections {
                            crowd.want_place();
                        }
                        waiting = Some(stream);
                    }
                    Err(e) if is_of_one_connection(&e) => {}
                    Err(e) => {
                        if !is_failing {
                            tracing::warn!(error = %e, "cannot accept connections; trying on");
                        }
                        is_failing = true;
                        tokio::select! {
                            () = signal.fired() => break,
                            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                        }
                    }
                },
            }
        }
        drop(self.socket);
        let ended = async { while open.join_next().await.is_some() {} };
        // Too late is not an error: what is left is counted and cut off.
        let _ = tokio::time::timeout(DRAIN_LIMIT, ended).await;
        let left = open.len();
        open.shutdown().await;
        left
    }
}

/// What would keep [`Listener::bind`] from binding, as far as can be said without doing it: the
/// certificate and its key, and the place of a unix socket. Whether the address is free only a
/// start can say.
pub fn check(config: &config::Server) -> Vec<BindError> {
    let mut found: Vec<BindError> = match &config.tls {
        Some((certificate, key)) => {
            tls::problems(certificate, key).into_iter().map(BindError::Tls).collect()
        }
        None => Vec::new(),
    };
    if let Listen::Unix(path) = &config.listen {
        found.extend(check_unix(path).err());
    }
    found
}

fn check_unix(path: &Path) -> Result<(), BindError> {
    let error = |source| BindError::Unix { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(()),
        Ok(_) => Err(BindError::NotASocket(path.to_owned())),
        // The socket may be made, where its directory is there.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().unwrap_or(Path::new("/"));
            fs::metadata(above).map(drop).map_err(error)
        }
        Err(e) => Err(error(e)),
    }
}

/// A listening socket. The unix one holds its file for the removal when it is dropped.
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// An accepted connection.
enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Socket {
    /// Cancel-safe.
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and written whole: waiting for more only delays them.
                // It fails only where the client is gone already, as the first read will say.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            Self::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

async fn serve_one(
    stream: Stream,
    tls: Option<TlsAcceptor>,
    connections: Arc<Connections>,
    member: Member,
    signal: Signal,
) {
    match stream {
        Stream::Tcp(stream) => secure(stream, tls, connections, &member, signal).await,
        Stream::Unix(stream) => secure(stream, tls, connections, &member, signal).await,
    }
}

/// Serves a connection, after the TLS handshake where TLS is on. The handshake has the time of a
/// request's head.
async fn secure<S>(
    stream: S,
    tls: Option<TlsAcceptor>,
    connections: Arc<Connections>,
    member: &Member,
    mut signal: Signal,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Some(tls) = tls else {
        return connections.serve(stream, member, signal).await;
    };
    let limit = connections.header_timeout();
    tokio::select! {
        shaken = tokio::time::timeout(limit, tls.accept(stream)) => match shaken {
            Ok(Ok(stream)) => connections.serve(stream, member, signal).await,
            Ok(Err(e)) => tracing::debug!(error = %e, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
        () = member.asked_to_leave() => {}
        () = signal.fired() => {}
    }
}

/// Whether a failed accept says nothing about the next one.
fn is_of_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(e.kind(), K::ConnectionAborted | K::ConnectionReset | K::Interrupted)
}

fn bind_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the last run's connections to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    let listener = UnixListener::bind(path)?;
    let file = SocketFile { path: path.to_owned(), inode: fs::metadata(path)?.ino() };
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(Socket::Unix { listener, _file: file })
}

/// Removes a socket file that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let error = |source| BindError::Unix { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(error)?,
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(error)
        }
        Err(e) => Err(error(e)),
    }
}

/// A bound unix socket's file; removed on drop, unless another process has put its own there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            // Left behind it does no harm: the next start finds it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}
