//! A new connection: resolve ▶ judge ▶ dial ▶ (TLS) ▶ HTTP.
//!
//! Every address that a name has is judged before any of them is dialled, and one forbidden
//! address refuses them all: a name that points inside and outside is not a mistake worth
//! serving. What was judged is what is dialled; nothing resolves again in between, and the
//! connected socket is asked whom it reached.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    SenderError, Settings,
    attempt::Progress,
    connection::{Http1, Http2, Opened},
    dns::Names,
    failure::{Failure, Stage},
    io::Socket,
    pool::{Connection, Pool},
    target::Target,
    tls,
};
use crate::{
    clock,
    delivery::ErrorCode,
    guard::{Denied, Host, Policy, Scheme},
};

/// The most addresses of one name that are tried.
const MAX_TRIED: usize = 16;

/// Makes the connections of one shard.
pub(super) struct Connector {
    names: Names,
    tls: Arc<ClientConfig>,
    policy: RefCell<Arc<Policy>>,
    connect_timeout: Duration,
    tls_timeout: Duration,
}

impl Connector {
    pub(super) fn new(settings: &Settings) -> Result<Self, SenderError> {
        Ok(Self {
            names: Names::new(settings).map_err(|error| SenderError::Dns(error.to_string()))?,
            tls: tls::client_config(settings)?,
            policy: RefCell::new(Arc::clone(&settings.policy)),
            connect_timeout: settings.connect_timeout,
            tls_timeout: settings.tls_timeout,
        })
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    pub(super) fn set_policy(&self, policy: Arc<Policy>) {
        *self.policy.borrow_mut() = policy;
    }

    /// Opens a connection for `target` and takes it into the pool's books.
    pub(super) async fn open(
        &self,
        pool: &Rc<Pool>,
        target: &Target,
        progress: &mut Progress,
    ) -> Result<Connection, Failure> {
        let addresses = self.addresses(target, progress).await?;
        let permit = pool.reserve().ok_or_else(|| {
            Failure::own(ErrorCode::Connect, "the gateway has as many connections as it may")
        })?;
        let (stream, peer) = self.dial(&addresses, target, progress).await?;
        let opened = Opened { peer, at: clock::instant(), socket: Socket::new(stream), permit };
        let connection = match target.origin.scheme {
            Scheme::Http => {
                let io = opened.socket.clone();
                let opened = Http1::open(io, opened).await.map_err(|e| Failure::http(&e))?;
                Connection::Http1(opened)
            }
            Scheme::Https => self.open_tls(pool, target, opened, progress).await?,
        };
        pool.count_opened(connection.protocol());
        Ok(connection)
    }

    /// The judged addresses, in the order in which they are tried.
    async fn addresses(
        &self,
        target: &Target,
        progress: &mut Progress,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let port = target.origin.port;
        let policy = self.policy();
        let allowed = |ip: &IpAddr| {
            let judged = policy.judge_target(SocketAddr::new(*ip, port));
            judged.inspect_err(|denied| tell_operator(target, denied)).is_ok()
        };
        let found: Vec<IpAddr> = match &target.origin.host {
            Host::V4(ip) => vec![IpAddr::V4(*ip)],
            Host::V6(ip) => vec![IpAddr::V6(*ip)],
            // Both are ours to say, not an answer of someone else's: one of them may do.
            Host::Name(name) if name == "localhost" => {
                LOCALHOST.into_iter().filter(allowed).collect()
            }
            Host::Name(name) => {
                // The operator may have denied it since it was registered.
                if let Err(denied) = policy.judge_lookup(name, port) {
                    tell_operator(target, &denied);
                    return Err(Failure::blocked());
                }
                progress.stage = Stage::Resolving;
                let started = clock::instant();
                let answer = self.names.lookup(name).await;
                progress.phases.dns = clock::micros_since(started);
                answer?
            }
        };
        if found.is_empty() || !found.iter().all(allowed) {
            return Err(Failure::blocked());
        }
        Ok(found.into_iter().take(MAX_TRIED).map(|ip| SocketAddr::new(ip, port)).collect())
    }

    /// The first address that answers. While more remain, one may use half of the time that is
    /// left, so that a dead address cannot eat the budget of a live one.
    async fn dial(
        &self,
        addresses: &[SocketAddr],
        target: &Target,
        progress: &mut Progress,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        progress.stage = Stage::Connecting;
        let started = clock::instant();
        let mut first_failure = None;
        for (at, address) in addresses.iter().enumerate() {
            let left = target.timeout.saturating_sub(progress.started.elapsed());
            let share = if at + 1 < addresses.len() { left / 2 } else { left };
            let limit = self.connect_timeout.min(share);
            match self.dial_one(*address, limit, target).await {
                Ok(stream) => {
                    progress.phases.connect = clock::micros_since(started);
                    return Ok((stream, *address));
                }
                // The address preferred says best what is wrong with the host.
                Err(failure) => first_failure.get_or_insert(failure),
            };
        }
        progress.phases.connect = clock::micros_since(started);
        Err(first_failure.unwrap_or_else(Failure::blocked))
    }

    async fn open_tls(
        &self,
        pool: &Pool,
        target: &Target,
        opened: Opened,
        progress: &mut Progress,
    ) -> Result<Connection, Failure> {
        progress.stage = Stage::Tls;
        let name = target.server_name.clone().ok_or_else(|| {
            Failure::receiver(ErrorCode::Tls, "the host is no name that a certificate can have")
        })?;
        let started = clock::instant();
        let handshake =
            TlsConnector::from(Arc::clone(&self.tls)).connect(name, opened.socket.clone());
        let handshake = timeout(self.tls_timeout, handshake).await;
        progress.phases.tls = clock::micros_since(started);
        let stream = handshake
            .map_err(|_| Failure::timeout(Stage::Tls, self.tls_timeout))?
            .map_err(|error| Failure::tls(&error))?;
        let connection = if stream.get_ref().1.alpn_protocol() == Some(tls::H2) {
            let opened = Http2::open(stream, opened).await.map_err(|e| Failure::http(&e))?;
            Connection::Http2(pool.share(&target.origin, opened))
        } else {
            let opened = Http1::open(stream, opened).await.map_err(|e| Failure::http(&e))?;
            Connection::Http1(opened)
        };
        Ok(connection)
    }

    async fn dial_one(
        &self,
        address: SocketAddr,
        limit: Duration,
        target: &Target,
    ) -> Result<TcpStream, Failure> {
        let stream = timeout(limit, TcpStream::connect(address))
            .await
            .map_err(|_| Failure::timeout(Stage::Connecting, limit))?
            .map_err(|error| Failure::connect(&error))?;
        stream.set_nodelay(true).map_err(|error| Failure::connect(&error))?;
        self.judge_opened(&stream, address, target)?;
        Ok(stream)
    }

    /// Only an open connection tells whom the kernel took it to, and which of our own addresses it
    /// uses: one that ends at a listener of ours behind another address of this machine would loop.
    fn judge_opened(
        &self,
        stream: &TcpStream,
        dialled: SocketAddr,
        target: &Target,
    ) -> Result<(), Failure> {
        let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
        let (local, peer) = ends.map_err(|error| Failure::connect(&error))?;
        // A local port that nobody listens on can be connected to itself: that is no server.
        if local == peer {
            return Err(Failure::receiver(ErrorCode::Connect, "connection refused"));
        }
        // Whoever is there instead (0.0.0.0 leads to loopback) was not judged before the dial.
        let judged = self.policy().judge_connection(local, peer);
        let judged = judged.inspect_err(|denied| tell_operator(target, denied));
        if peer != dialled || judged.is_err() {
            return Err(Failure::blocked());
        }
        Ok(())
    }
}

/// The rule goes to the log only: to a tenant it would say what stands behind the gateway.
fn tell_operator(target: &Target, denied: &Denied) {
    let (host, class, rule) = (&target.origin.host, denied.class.as_str(), denied.rule);
    tracing::debug!(%host, class, rule, "target refused");
}

const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
