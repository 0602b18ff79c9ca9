//! Names to addresses.
//!
//! Look-ups are for fully qualified names only: no search domain ever decides where a webhook
//! goes. Answers are cached within the configured TTL bounds, and attempts that ask for one name at
//! one moment share one query.
//!
//! When a name is not answered in time, the name server is asked something that it always knows.
//! If it does not answer that either, it is down, which is no receiver's fault; otherwise the
//! silence is that of the name's own servers.
//!
//! Nothing is judged here: the connector judges every address it is given, whether it comes from
//! the cache or not.
//!
//! The system's configuration is read once, at start: a changed `resolv.conf` needs a restart.
//! With servers of our own configured, neither it nor the hosts file is read.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{op::ResponseCode, rr::Name, rr::RecordType},
};
use tokio::time::{Instant, timeout_at};

use super::{Settings, failure::Failure};
use crate::{delivery::ErrorCode, engine::Blame, metrics};

/// Once one address family has answered, the other may take this much longer. Servers that drop
/// queries for the family they do not have are common.
const SECOND_FAMILY_GRACE: Duration = Duration::from_millis(500);

/// The part of a look-up's time that is kept for asking whether the name server is up.
const PROBE_SHARE: u32 = 5;

/// Queries under way at once to one name server over one TCP connection.
const MAX_ACTIVE_QUERIES: usize = 1024;

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    NoSuchName,
    NoAddress,
    ServerFailure,
    Timeout,
    /// Our own name server cannot be reached.
    Unavailable,
}

type Answer = Result<Vec<IpAddr>, Unresolved>;

/// The resolver of one shard.
pub(super) struct Names {
    resolver: TokioResolver,
    timeout: Duration,
    results: [::metrics::Counter; 6],
}

impl Names {
    pub(super) fn new(settings: &Settings) -> Result<Self, NetError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if settings.dns_servers.is_empty() {
            let mut builder = TokioResolver::builder(provider)?;
            builder.options_mut().use_hosts_file = ResolveHosts::Always;
            builder
        } else {
            let servers = settings.dns_servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            let mut builder = TokioResolver::builder_with_config(config, provider);
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        configure(builder.options_mut(), settings);
        Ok(Self {
            resolver: builder.build()?,
            timeout: settings.dns_timeout,
            results: RESULTS
                .map(|result| ::metrics::counter!(metrics::DNS_LOOKUPS, "result" => result)),
        })
    }

    /// Every address of `name`, IPv4 first.
    pub(super) async fn lookup(&self, name: &str) -> Answer {
        let end = Instant::now() + self.timeout;
        let answer = match fully_qualified(name) {
            Some(name) => self.ask_both_families(name, end - self.timeout / PROBE_SHARE).await,
            None => Err(Unresolved::NoSuchName),
        };
        let answer = match answer {
            Err(Unresolved::Timeout) if !self.is_server_up(end).await => {
                Err(Unresolved::Unavailable)
            }
            answer => answer,
        };
        let index = answer.as_ref().map_or_else(|why| *why as usize + 1, |_| 0);
        self.results[index].increment(1);
        answer
    }

    /// Every resolver knows the servers of the root.
    async fn is_server_up(&self, end: Instant) -> bool {
        self.resolver.clear_lookup_cache(Name::root(), RecordType::NS);
        let probe = timeout_at(end, self.resolver.lookup(Name::root(), RecordType::NS)).await;
        match probe {
            Err(_) => false,
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                !matches!(unresolved(&error), Unresolved::Timeout | Unresolved::Unavailable)
            }
        }
    }

    async fn ask_both_families(&self, name: Name, end: Instant) -> Answer {
        let mut v4 = pin!(self.ask_family(name.clone(), RecordType::A, end));
        let mut v6 = pin!(self.ask_family(name, RecordType::AAAA, end));
        let (v4, v6) = tokio::select! {
            v4 = &mut v4 => {
                let v6 = timeout_at(second_end(&v4, end), v6).await;
                (v4, v6.unwrap_or(Err(Unresolved::Timeout)))
            }
            v6 = &mut v6 => {
                let v4 = timeout_at(second_end(&v6, end), v4).await;
                (v4.unwrap_or(Err(Unresolved::Timeout)), v6)
            }
        };
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok([v4, v6].concat()),
            (Ok(only), Err(_)) | (Err(_), Ok(only)) => Ok(only),
            // Having no address of one family says less than how the other one failed.
            (Err(Unresolved::NoAddress), Err(why)) | (Err(why), Err(_)) => Err(why),
        }
    }

    async fn ask_family(&self, name: Name, family: RecordType, end: Instant) -> Answer {
        let lookup = timeout_at(end, self.resolver.lookup(name, family)).await;
        let answer = lookup.map_err(|_| Unresolved::Timeout)?.map_err(|e| unresolved(&e))?;
        let found: Vec<IpAddr> =
            answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        if found.is_empty() { Err(Unresolved::NoAddress) } else { Ok(found) }
    }
}

/// The label of each result; the first is success, then [`Unresolved`] in order.
const RESULTS: [&str; 6] =
    ["ok", "no_such_name", "no_address", "server_failure", "timeout", "unavailable"];

impl From<Unresolved> for Failure {
    fn from(why: Unresolved) -> Self {
        let receiver = |detail| Failure::receiver(ErrorCode::Dns, detail);
        match why {
            Unresolved::NoSuchName => receiver("the host's name does not exist"),
            Unresolved::NoAddress => receiver("the host's name has no address"),
            Unresolved::ServerFailure => receiver("the host's name servers failed to answer"),
            Unresolved::Timeout => Failure {
                code: ErrorCode::Timeout,
                detail: "timed out resolving the host's name".into(),
                blame: Blame::ReceiverTimeout,
            },
            Unresolved::Unavailable => {
                Failure::own(ErrorCode::Dns, "the gateway cannot reach its name server")
            }
        }
    }
}

fn configure(options: &mut ResolverOpts, settings: &Settings) {
    // One repetition fits into the time of a look-up.
    options.timeout = settings.dns_timeout / 2;
    options.attempts = 1;
    // A name takes two entries, one for each family.
    options.cache_size = settings.dns_cache_entries as u64 * 2;
    options.positive_min_ttl = Some(settings.dns_min_ttl);
    options.positive_max_ttl = Some(settings.dns_max_ttl);
    options.negative_min_ttl = Some(settings.dns_min_ttl.min(settings.dns_negative_ttl));
    options.negative_max_ttl = Some(settings.dns_negative_ttl);
    options.max_active_requests = MAX_ACTIVE_QUERIES;
    options.preserve_intermediates = false;
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

fn fully_qualified(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn second_end<T>(first: &Result<T, Unresolved>, end: Instant) -> Instant {
    if first.is_ok() { end.min(Instant::now() + SECOND_FAMILY_GRACE) } else { end }
}

fn unresolved(error: &NetError) -> Unresolved {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => {
            match *response_code {
                ResponseCode::NXDomain => Unresolved::NoSuchName,
                ResponseCode::NoError => Unresolved::NoAddress,
                _ => Unresolved::ServerFailure,
            }
        }
        NetError::Timeout => Unresolved::Timeout,
        NetError::Busy | NetError::NoConnections | NetError::Io(_) => Unresolved::Unavailable,
        _ => Unresolved::ServerFailure,
    }
}
