//! From the configuration to the numbers of each part. Pure; the parts do not know the file.

use std::{net::SocketAddr, path::Path, sync::Arc};

use crate::{api, clock::Clock, config::Config, engine, guard::Policy, sender, shard, store};

/// The least that a lane keeps in memory before it may spill to the log.
const LANE_WINDOW: usize = 1024;

pub(super) fn store(config: &Config) -> store::Settings {
    let (store, ingest) = (&config.store, &config.ingest);
    store::Settings {
        data_dir: config.data_dir.clone(),
        cache: store.cache,
        commit_max_events: store.commit_max_events,
        commit_max_bytes: store.commit_max_bytes,
        commit_max_wait: store.commit_max_wait,
        entries_max_wait: store.entries_max_wait,
        retention_age: store.retention_age,
        retention_bytes: store.retention_bytes,
        disk_headroom: store.disk_headroom,
        idempotency_window: ingest.idempotency_window,
        idempotency_max_keys: ingest.idempotency_max_keys,
        max_scan_blocks: store.max_scan_blocks,
        max_indexed: store.max_indexed,
        queue: store.queue,
    }
}

/// The answers that the API keeps for repeated requests.
pub(super) fn answers(config: &Config) -> api::Bounds {
    api::Bounds {
        window: config.ingest.idempotency_window,
        all: config.limits.kept_answers,
        tenant: config.limits.tenant_kept_answers,
    }
}

/// The guard's policy; `own` are the addresses that we listen on ourselves.
pub(super) fn policy(config: &Config, own: &[SocketAddr]) -> Arc<Policy> {
    let security = &config.security;
    Arc::new(Policy {
        allow_networks: security.allow_networks.clone(),
        require_https: security.require_https,
        deny_ports: security.deny_ports.clone(),
        deny_hosts: security.deny_hosts.clone(),
        nat64_prefixes: security.nat64_prefixes.clone(),
        own_addresses: own.to_vec(),
        max_url: config.limits.url,
    })
}

/// One shard's part: what is a total in the file is divided among the shards.
pub(super) fn shard(
    config: &Config,
    policy: &Arc<Policy>,
    index: usize,
    clock: Clock,
) -> shard::Settings {
    let shards = config.runtime.shards;
    let delivery = &config.delivery;
    shard::Settings {
        index,
        shards,
        engine: engine::Settings {
            retry_schedule: config.retry.schedule.clone(),
            retry_jitter: config.retry.jitter,
            max_retry_after: config.retry.max_retry_after,
            max_age: delivery.max_age,
            max_in_flight: delivery.max_in_flight.div_ceil(shards as u32),
            tenant_share: delivery.tenant_share,
            webhook_max_in_flight: delivery.webhook_max_in_flight,
            max_queued: config.runtime.max_queued.div_ceil(shards),
            lane_window: LANE_WINDOW,
            max_retrying: config.runtime.max_retrying.div_ceil(shards),
            breaker_timeouts: config.breaker.timeouts,
        },
        sender: sender(config, policy, clock),
        payload_memory: config.runtime.payload_memory.div_ceil(shards),
        payload_in_flight: config.runtime.payload_in_flight.div_ceil(shards),
        stats_memory: config.runtime.stats_memory.div_ceil(shards),
        drain_timeout: config.runtime.drain_timeout,
        disable_on_gone: delivery.disable_on_gone,
        disable_after: delivery.disable_after,
    }
}

fn sender(config: &Config, policy: &Arc<Policy>, clock: Clock) -> sender::Settings {
    let shards = config.runtime.shards;
    let (delivery, pool, dns, tls) = (&config.delivery, &config.pool, &config.dns, &config.tls);
    sender::Settings {
        timeout: delivery.timeout,
        connect_timeout: tls.connect_timeout,
        tls_timeout: tls.handshake_timeout,
        dns_timeout: dns.timeout,
        max_response: delivery.max_response,
        keep_response: delivery.keep_response,
        pool_idle_timeout: pool.idle_timeout,
        pool_max_age: pool.max_age,
        pool_max_idle_per_origin: pool.max_idle_per_origin,
        pool_max_connections: pool.max_connections.div_ceil(shards),
        http2_max_streams: pool.http2_max_streams,
        dns_servers: dns.servers.clone(),
        dns_cache_entries: dns.cache_entries.div_ceil(shards),
        dns_min_ttl: dns.min_ttl,
        dns_max_ttl: dns.max_ttl,
        dns_negative_ttl: dns.negative_ttl,
        ca_file: tls.ca_file.as_deref().map(Path::to_path_buf),
        policy: Arc::clone(policy),
        max_retry_after: config.retry.max_retry_after,
        success: delivery.success,
        clock,
    }
}

/// The keys that a reload cannot change, where they differ.
pub(super) fn need_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (old, new);
    let differing = [
        ("data_dir", a.data_dir != b.data_dir),
        ("server.listen", a.server.listen != b.server.listen),
        ("server.tls_certificate, server.tls_key", a.server.tls != b.server.tls),
        ("server.max_connections", a.server.max_connections != b.server.max_connections),
        ("server.header_timeout", a.server.header_timeout != b.server.header_timeout),
        ("server.body_timeout", a.server.body_timeout != b.server.body_timeout),
        ("server.idle_timeout", a.server.idle_timeout != b.server.idle_timeout),
        ("ops.listen", a.ops.listen != b.ops.listen),
        ("runtime.shards", a.runtime.shards != b.runtime.shards),
        ("runtime.payload_memory", a.runtime.payload_memory != b.runtime.payload_memory),
        ("runtime.payload_in_flight", a.runtime.payload_in_flight != b.runtime.payload_in_flight),
        ("ingest.*", a.ingest != b.ingest),
        ("pool.*", a.pool != b.pool),
        ("dns.*", a.dns != b.dns),
        ("tls.*", a.tls != b.tls),
        ("delivery.max_response", a.delivery.max_response != b.delivery.max_response),
        ("delivery.keep_response", a.delivery.keep_response != b.delivery.keep_response),
        ("retry.max_retry_after", a.retry.max_retry_after != b.retry.max_retry_after),
        (
            "security.encryption_key_file",
            a.security.encryption_key_file != b.security.encryption_key_file,
        ),
        ("store.*", a.store != b.store),
        ("limits.*", a.limits != b.limits),
        ("replays.*", a.replays != b.replays),
        ("backup.*", a.backup != b.backup),
        ("tracing.*", a.tracing != b.tracing),
        ("portal.*", a.portal != b.portal),
        ("log.format", a.log.format != b.log.format),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
