//! The rule of every key, table by table in the order of `config.toml`, and the rules between keys.
//!
//! The ranges are wide: they refuse what cannot work (a timeout of zero, a limit that overflows),
//! not what is unusual.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::{IpNet, Ipv6Net};
use url::Url;

use super::{
    Backend, Backup, Breaker, Config, Delivery, Dns, Forward, Ingest, Limits, Listen, Log,
    LogFormat, Ops, Pool, Portal, Replays, Retry, Runtime, Security, Server, Store, Stream, Tls,
    Tracing,
    read::{self, Reader},
    units::{format_duration, format_size},
    value::Value,
};
use crate::{tenant::TenantId, webhook::SuccessRule};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const ZERO: Duration = Duration::ZERO;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The widest `allow_networks` entries that need no `i_understand_wide_networks`.
const WIDEST_IPV4: u8 = 8;
const WIDEST_IPV6: u8 = 32;

/// The prefix lengths that a NAT64 prefix may have (RFC 6052, section 2.2).
const NAT64_LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// A schedule longer than this would make attempt numbers meaningless to people.
const MAX_RETRIES: usize = 50;

const LISTEN_RULE: &str =
    "must be an address and a port such as 127.0.0.1:8080 or [::1]:8080, or unix:/absolute/path";

pub(super) fn config(r: &mut Reader<'_>) -> Config {
    let data_dir = r.value("data_dir", |value| match value.as_str() {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err("must be the path of a directory".to_owned()),
    });
    let config = Config {
        data_dir,
        server: server(r),
        ops: Ops {
            listen: r.value("ops.listen", ops_listen),
            tenant: r.value("ops.tenant", ops_tenant),
        },
        runtime: runtime(r),
        ingest: ingest(r),
        delivery: delivery(r),
        retry: retry(r),
        breaker: Breaker { timeouts: r.count("breaker.timeouts", 1..=1000) as u32 },
        pool: pool(r),
        dns: dns(r),
        tls: tls(r),
        security: security(r),
        store: store(r),
        limits: limits(r),
        replays: replays(r),
        backup: backup(r),
        stream: stream(r),
        tracing: tracing(r),
        portal: portal(r),
        log: log(r),
    };
    if let (Listen::Tcp(api), Some(ops)) = (&config.server.listen, config.ops.listen) {
        r.rule(
            &["ops.listen", "server.listen"],
            !overlaps(*api, ops),
            "must not be the address of server.listen",
        );
    }
    config
}

fn server(r: &mut Reader<'_>) -> Server {
    let listen = r.value("server.listen", listen);
    let certificate = r.path("server.tls_certificate");
    let key = r.path("server.tls_key");
    let both_or_neither = "server.tls_certificate and server.tls_key go together: set both or none";
    let together = certificate.is_some() == key.is_some();
    r.rule(&["server.tls_certificate", "server.tls_key"], together, both_or_neither);
    Server {
        listen,
        tls: certificate.zip(key),
        max_connections: r.count("server.max_connections", 1..=1_000_000),
        header_timeout: r.duration("server.header_timeout", MS..=HOUR),
        body_timeout: r.duration("server.body_timeout", MS..=HOUR),
        idle_timeout: r.duration("server.idle_timeout", MS..=DAY),
    }
}

fn runtime(r: &mut Reader<'_>) -> Runtime {
    let shards = r.count("runtime.shards", 0..=1024);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Runtime {
        shards: if shards == 0 { cores() } else { shards },
        payload_memory: r.size("runtime.payload_memory", MIB..=TIB) as usize,
        payload_in_flight: r.size("runtime.payload_in_flight", MIB..=TIB) as usize,
        max_queued: r.count("runtime.max_queued", 1000..=1_000_000_000),
        max_retrying: r.count("runtime.max_retrying", 1000..=1_000_000_000),
        stats_memory: r.size("runtime.stats_memory", MIB..=TIB) as usize,
        drain_timeout: r.duration("runtime.drain_timeout", ZERO..=HOUR),
    }
}

fn ingest(r: &mut Reader<'_>) -> Ingest {
    let rate = r.count("ingest.tenant_rate", 0..=10_000_000) as u32;
    let ingest = Ingest {
        max_payload: r.size("ingest.max_payload", 256..=16 * MIB) as usize,
        max_depth: r.count("ingest.max_depth", 2..=128),
        max_batch_lines: r.count("ingest.max_batch_lines", 1..=1_000_000),
        max_batch: r.size("ingest.max_batch", KIB..=1024 * MIB) as usize,
        max_batch_deliveries: r.count("ingest.max_batch_deliveries", 1..=100_000_000),
        max_pending: r.size("ingest.max_pending", KIB..=TIB) as usize,
        tenant_rate: (rate > 0).then_some(rate),
        retry_after: r.duration("ingest.retry_after", SECOND..=HOUR),
        idempotency_window: r.duration("ingest.idempotency_window", SECOND..=30 * DAY),
        idempotency_max_keys: r.count("ingest.idempotency_max_keys", 1..=100_000_000),
        max_idempotency_key: r.count("ingest.max_idempotency_key", 1..=1024),
    };
    let batch = format_size(ingest.max_batch as u64);
    let pending = format_size(ingest.max_pending as u64);
    r.rule(
        &["ingest.max_payload", "ingest.max_batch"],
        ingest.max_payload <= ingest.max_batch,
        format!("must not be more than ingest.max_batch ({batch})"),
    );
    r.rule(
        &["ingest.max_batch", "ingest.max_pending"],
        ingest.max_batch <= ingest.max_pending,
        format!("must not be more than ingest.max_pending ({pending})"),
    );
    ingest
}

fn delivery(r: &mut Reader<'_>) -> Delivery {
    let delivery = Delivery {
        success: r.word(
            "delivery.success",
            &[("200", SuccessRule::Only200), ("2xx", SuccessRule::Any2xx)],
        ),
        timeout: r.duration("delivery.timeout", MS..=HOUR),
        max_timeout: r.duration("delivery.max_timeout", MS..=HOUR),
        max_age: r.duration("delivery.max_age", SECOND..=YEAR),
        max_in_flight: r.count("delivery.max_in_flight", 1..=1_000_000) as u32,
        webhook_max_in_flight: r.count("delivery.webhook_max_in_flight", 1..=1_000_000) as u32,
        tenant_share: r.value("delivery.tenant_share", |value| match value.as_f64() {
            Some(share) if share > 0.0 && share <= 1.0 => Ok(share),
            _ => Err("must be a number above 0.0 and up to 1.0".to_owned()),
        }),
        max_response: r.size("delivery.max_response", KIB..=16 * MIB) as usize,
        keep_response: r.size("delivery.keep_response", 0..=4 * KIB) as usize,
        disable_on_gone: r.bool("delivery.disable_on_gone"),
        disable_after: {
            let span = r.duration("delivery.disable_after", ZERO..=YEAR);
            (span > ZERO).then_some(span)
        },
    };
    let (max_timeout, max_in_flight) = (delivery.max_timeout, delivery.max_in_flight);
    r.rule(
        &["delivery.timeout", "delivery.max_timeout"],
        delivery.timeout <= max_timeout,
        format!("must not be longer than delivery.max_timeout ({})", format_duration(max_timeout)),
    );
    r.rule(
        &["delivery.webhook_max_in_flight", "delivery.max_in_flight"],
        delivery.webhook_max_in_flight <= max_in_flight,
        format!("must not be more than delivery.max_in_flight ({max_in_flight})"),
    );
    r.rule(
        &["delivery.keep_response", "delivery.max_response"],
        delivery.keep_response <= delivery.max_response,
        "must not be more than delivery.max_response",
    );
    delivery
}

fn retry(r: &mut Reader<'_>) -> Retry {
    let schedule = r.list("retry.schedule", |item| read::duration(item, &(MS..=DAY)));
    let (some, few) = (!schedule.is_empty(), schedule.len() <= MAX_RETRIES);
    r.rule(&["retry.schedule"], some, "must name at least one delay");
    r.rule(&["retry.schedule"], few, format!("must name at most {MAX_RETRIES} delays"));
    Retry {
        schedule,
        jitter: r.share("retry.jitter", 0.0..=1.0),
        max_retry_after: r.duration("retry.max_retry_after", ZERO..=DAY),
    }
}

fn pool(r: &mut Reader<'_>) -> Pool {
    let pool = Pool {
        idle_timeout: r.duration("pool.idle_timeout", MS..=DAY),
        max_age: r.duration("pool.max_age", MS..=DAY),
        max_idle_per_origin: r.count("pool.max_idle_per_origin", 0..=100_000),
        max_connections: r.count("pool.max_connections", 1..=1_000_000),
        http2_max_streams: r.count("pool.http2_max_streams", 1..=100_000),
    };
    r.rule(
        &["pool.idle_timeout", "pool.max_age"],
        pool.idle_timeout <= pool.max_age,
        format!("must not be longer than pool.max_age ({})", format_duration(pool.max_age)),
    );
    pool
}

fn dns(r: &mut Reader<'_>) -> Dns {
    let dns = Dns {
        servers: r.list("dns.servers", |item| {
            item.as_str()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| "must be an address and a port such as 10.0.0.53:53".to_owned())
        }),
        timeout: r.duration("dns.timeout", MS..=HOUR),
        min_ttl: r.duration("dns.min_ttl", ZERO..=DAY),
        max_ttl: r.duration("dns.max_ttl", ZERO..=DAY),
        negative_ttl: r.duration("dns.negative_ttl", ZERO..=DAY),
        cache_entries: r.count("dns.cache_entries", 1..=10_000_000),
    };
    r.rule(
        &["dns.min_ttl", "dns.max_ttl"],
        dns.min_ttl <= dns.max_ttl,
        format!("must not be longer than dns.max_ttl ({})", format_duration(dns.max_ttl)),
    );
    dns
}

fn tls(r: &mut Reader<'_>) -> Tls {
    Tls {
        connect_timeout: r.duration("tls.connect_timeout", MS..=HOUR),
        handshake_timeout: r.duration("tls.handshake_timeout", MS..=HOUR),
        ca_file: r.path("tls.ca_file"),
    }
}

fn security(r: &mut Reader<'_>) -> Security {
    let allow_networks = r.list("security.allow_networks", network);
    let understood = r.bool("security.i_understand_wide_networks");
    let wide: Vec<_> = allow_networks
        .iter()
        .filter(|net| match net {
            IpNet::V4(net) => net.prefix_len() < WIDEST_IPV4,
            IpNet::V6(net) => net.prefix_len() < WIDEST_IPV6,
        })
        .map(IpNet::to_string)
        .collect();
    r.rule(
        &["security.allow_networks", "security.i_understand_wide_networks"],
        understood || wide.is_empty(),
        format!(
            "{} opens too much to webhooks (the widest is /{WIDEST_IPV4} for IPv4, /{WIDEST_IPV6} \
             for IPv6); list smaller networks, or set security.i_understand_wide_networks = true",
            wide.join(", ")
        ),
    );
    Security {
        allow_networks,
        require_https: r.bool("security.require_https"),
        deny_ports: r.list("security.deny_ports", |item| match item.as_u64() {
            Some(port @ 1..=65535) => Ok(port as u16),
            _ => Err("must be a port from 1 to 65535".to_owned()),
        }),
        deny_hosts: r.list("security.deny_hosts", host_name),
        nat64_prefixes: r.list("security.nat64_prefixes", nat64_prefix),
        encryption_key_file: r.path("security.encryption_key_file"),
    }
}

fn store(r: &mut Reader<'_>) -> Store {
    Store {
        backend: r.word("store.backend", &[("sled", Backend::Sled)]),
        cache: r.size("store.cache", MIB..=TIB),
        commit_max_events: r.count("store.commit_max_events", 1..=1_000_000),
        commit_max_bytes: r.size("store.commit_max_bytes", KIB..=1024 * MIB) as usize,
        commit_max_wait: r.duration("store.commit_max_wait", ZERO..=SECOND),
        entries_max_wait: r.duration("store.entries_max_wait", ZERO..=SECOND),
        retention_age: r.duration("store.retention_age", SECOND..=10 * YEAR),
        retention_bytes: r.size("store.retention_bytes", MIB..=1024 * TIB),
        disk_headroom: r.size("store.disk_headroom", 0..=1024 * TIB),
        max_scan_blocks: r.count("store.max_scan_blocks", 1..=10_000_000),
        max_indexed: r.count("store.max_indexed", 0..=10_000_000_000),
        queue: r.count("store.queue", 1..=1_000_000),
    }
}

fn limits(r: &mut Reader<'_>) -> Limits {
    Limits {
        tenants: r.count("limits.tenants", 1..=10_000_000),
        webhooks_per_tenant: r.count("limits.webhooks_per_tenant", 1..=100_000),
        keys_per_tenant: r.count("limits.keys_per_tenant", 1..=100_000),
        custom_headers: r.count("limits.custom_headers", 0..=100),
        custom_headers_size: r.size("limits.custom_headers_size", 0..=64 * KIB) as usize,
        description: r.count("limits.description", 0..=100_000),
        url: r.count("limits.url", 16..=65_536),
        page: r.count("limits.page", 1..=1000),
        kept_answers: r.size("limits.kept_answers", KIB..=TIB) as usize,
        tenant_kept_answers: r.size("limits.tenant_kept_answers", KIB..=TIB) as usize,
        webhook_checks: r.count("limits.webhook_checks", 1..=10_000),
        webhook_tests: r.some("limits.webhook_tests", 1_000_000),
        tenant_tests: r.some("limits.tenant_tests", 1_000_000),
        audit_records: r.count("limits.audit_records", 1000..=10_000_000),
    }
}

fn replays(r: &mut Reader<'_>) -> Replays {
    let replays = Replays {
        rate: r.count("replays.rate", 1..=100_000) as u32,
        max_rate: r.count("replays.max_rate", 1..=100_000) as u32,
        per_tenant: r.count("replays.per_tenant", 1..=1000),
        jobs: r.count("replays.jobs", 1..=10_000),
        kept: r.count("replays.kept", 0..=1000),
    };
    r.rule(
        &["replays.rate", "replays.max_rate"],
        replays.rate <= replays.max_rate,
        format!("must not be more than replays.max_rate ({})", replays.max_rate),
    );
    replays
}

fn backup(r: &mut Reader<'_>) -> Backup {
    let dir = r.value("backup.dir", |value| match value.as_str() {
        Some(dir) if !dir.is_empty() => Ok(PathBuf::from(dir)),
        _ => Err("must be a path".to_owned()),
    });
    let rate = r.size("backup.rate", 1 << 10..=u64::from(u32::MAX));
    Backup { dir, rate, keep: r.count("backup.keep", 0..=1_000) }
}

fn stream(r: &mut Reader<'_>) -> Stream {
    Stream {
        max_streams: r.count("stream.max_streams", 1..=100_000),
        max_per_tenant: r.count("stream.max_per_tenant", 1..=100_000),
        max_lag: r.duration("stream.max_lag", SECOND..=HOUR),
        keep_alive: r.duration("stream.keep_alive", SECOND..=300 * SECOND),
    }
}

fn tracing(r: &mut Reader<'_>) -> Tracing {
    let forward =
        [("off", Forward::Off), ("traceparent", Forward::Traceparent), ("all", Forward::All)];
    let tracing = Tracing {
        forward: r.word("tracing.forward", &forward),
        endpoint: r.value("tracing.endpoint", collector),
        headers_file: r.path("tracing.headers_file"),
        sample: r.share("tracing.sample", 0.0..=1.0),
        queue: r.count("tracing.queue", 1..=1_000_000),
        batch: r.count("tracing.batch", 1..=100_000),
        interval: r.duration("tracing.interval", 10 * MS..=HOUR),
        timeout: r.duration("tracing.timeout", MS..=HOUR),
        flush_timeout: r.duration("tracing.flush_timeout", ZERO..=HOUR),
    };
    r.rule(
        &["tracing.batch", "tracing.queue"],
        tracing.batch <= tracing.queue,
        format!("must not be more than tracing.queue ({})", tracing.queue),
    );
    tracing
}

/// The URL of an OTLP collector, its path included. What is secret belongs into a header.
fn collector(value: &Value) -> Result<Option<Url>, String> {
    let rule = "must be \"\" or the whole URL of a collector without a user name, such as \
                http://127.0.0.1:4318/v1/traces";
    let text = value.as_str().ok_or(rule)?;
    if text.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(text).map_err(|_| rule)?;
    let is_plain =
        url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_http && is_plain { Ok(Some(url)) } else { Err(rule.to_owned()) }
}

fn portal(r: &mut Reader<'_>) -> Portal {
    Portal {
        enabled: r.bool("portal.enabled"),
        url: r.value("portal.url", |value| match value.as_str() {
            Some("") => Ok(String::new()),
            _ => origin(value),
        }),
        hosts: r.list("portal.hosts", host_name),
        frame_ancestors: r.list("portal.frame_ancestors", origin),
        session_lifetime: r.duration("portal.session_lifetime", SECOND..=30 * DAY),
        max_sessions: r.count("portal.max_sessions", 1..=1_000_000),
        max_per_tenant: r.count("portal.max_per_tenant", 1..=1_000_000),
        link_lifetime: r.duration("portal.link_lifetime", SECOND..=DAY),
    }
}

fn log(r: &mut Reader<'_>) -> Log {
    Log {
        level: r.value("log.level", log_level),
        format: r.word("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
    }
}

fn listen(value: &Value) -> Result<Listen, String> {
    let text = value.as_str().ok_or(LISTEN_RULE)?;
    match text.strip_prefix("unix:") {
        Some(path) if Path::new(path).is_absolute() => Ok(Listen::Unix(PathBuf::from(path))),
        Some(_) => Err(LISTEN_RULE.to_owned()),
        None => text.parse().map(Listen::Tcp).map_err(|_| LISTEN_RULE.to_owned()),
    }
}

fn ops_listen(value: &Value) -> Result<Option<SocketAddr>, String> {
    match value.as_str() {
        Some("") => Ok(None),
        Some(text) if text.parse::<SocketAddr>().is_ok() => Ok(text.parse().ok()),
        _ => Err("must be an address and a port such as 127.0.0.1:9464, or \"\"".to_owned()),
    }
}

fn ops_tenant(value: &Value) -> Result<Option<TenantId>, String> {
    match value.as_str() {
        Some("") => Ok(None),
        Some(text) if text.parse::<TenantId>().is_ok() => Ok(text.parse().ok()),
        _ => Err("must be a tenant's id, or \"\"".to_owned()),
    }
}

/// Whether two listeners would meet on one port; port 0 is a free one each time.
fn overlaps(a: SocketAddr, b: SocketAddr) -> bool {
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_address
}

/// A network, or one address.
fn network(value: &Value) -> Result<IpNet, String> {
    let rule = "must be a network such as 10.1.0.0/16 or an address";
    let text = value.as_str().ok_or(rule)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text.parse().map_err(|_| rule)?;
    if net == net.trunc() {
        return Ok(net);
    }
    Err(format!("has bits set after its prefix; write {} if that network is meant", net.trunc()))
}

fn nat64_prefix(value: &Value) -> Result<Ipv6Net, String> {
    let net = value.as_str().and_then(|text| text.parse::<Ipv6Net>().ok());
    net.filter(|net| *net == net.trunc() && NAT64_LENGTHS.contains(&net.prefix_len())).ok_or_else(
        || "must be an IPv6 prefix of length 32, 40, 48, 56, 64 or 96, such as 64:ff9b::/96".into(),
    )
}

fn host_name(value: &Value) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let is_name = |name: &&str| {
        (1..=253).contains(&name.len())
            && name.bytes().all(allowed)
            && name.split('.').all(|label| (1..=63).contains(&label.len()))
    };
    let rule = "must be a host name in lower-case ASCII, such as internal.example.com";
    value.as_str().filter(is_name).map(str::to_owned).ok_or_else(|| rule.to_owned())
}

/// A scheme, a host and maybe a port: what a browser calls an origin.
fn origin(value: &Value) -> Result<String, String> {
    let rule = "must be a scheme and a host, such as https://hooks.example.com";
    let text = value.as_str().ok_or(rule)?;
    let url = url::Url::parse(text).map_err(|_| rule)?;
    let origin = url.origin().ascii_serialization();
    let is_one = matches!(url.scheme(), "http" | "https") && origin == text.trim_end_matches('/');
    if is_one { Ok(origin) } else { Err(rule.to_owned()) }
}

/// A level, or levels for parts of the program. Stricter than the logger itself, which takes any
/// word for the name of a module and would then log nothing at all.
fn log_level(value: &Value) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let rule = "must be off, error, warn, info, debug or trace, or a filter such as \
                info,senderz_gateway::sender=debug";
    let is_target = |target: &str| {
        !target.is_empty()
            && target.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b))
    };
    let is_directive = |part: &str| match part.split_once('=') {
        Some((target, level)) => is_target(target) && LEVELS.contains(&level),
        None => LEVELS.contains(&part),
    };
    let text = value.as_str().ok_or(rule)?;
    if text.split(',').all(is_directive) { Ok(text.to_owned()) } else { Err(rule.to_owned()) }
}
