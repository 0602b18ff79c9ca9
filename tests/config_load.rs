//! Configuration through its public door: layers, precedence, and all problems at once.

use std::{collections::BTreeSet, ffi::OsString, path::PathBuf};

use senderz_gateway::config::{
    Config, ConfigErrors, DEFAULTS, FlagSetting, Listen, Sources, load, load_explained,
};

/// A value for every key that is valid and is not its default.
const OTHER_VALUES: [(&str, &str); 121] = [
    ("data_dir", "/var/lib/other"),
    ("server.listen", "unix:/run/other.sock"),
    ("server.tls_certificate", "/etc/cert.pem"),
    ("server.tls_key", "/etc/key.pem"),
    ("server.max_connections", "7"),
    ("server.header_timeout", "7s"),
    ("server.body_timeout", "7s"),
    ("server.idle_timeout", "7s"),
    ("ops.listen", "127.0.0.1:7"),
    ("ops.tenant", "operations"),
    ("runtime.shards", "7"),
    ("runtime.payload_memory", "7MiB"),
    ("runtime.payload_in_flight", "8MiB"),
    ("runtime.max_queued", "7000"),
    ("runtime.max_retrying", "7000"),
    ("runtime.stats_memory", "7MiB"),
    ("runtime.drain_timeout", "7s"),
    ("ingest.max_payload", "7KiB"),
    ("ingest.max_depth", "7"),
    ("ingest.max_batch_lines", "7"),
    ("ingest.max_batch", "7MiB"),
    ("ingest.max_batch_deliveries", "7"),
    ("ingest.max_pending", "77MiB"),
    ("ingest.tenant_rate", "7"),
    ("ingest.retry_after", "7s"),
    ("ingest.idempotency_window", "7h"),
    ("ingest.idempotency_max_keys", "7"),
    ("ingest.max_idempotency_key", "7"),
    ("delivery.success", "2xx"),
    ("delivery.timeout", "7s"),
    ("delivery.max_timeout", "77s"),
    ("delivery.max_age", "7h"),
    ("delivery.max_in_flight", "777"),
    ("delivery.webhook_max_in_flight", "7"),
    ("delivery.tenant_share", "0.7"),
    ("delivery.max_response", "7KiB"),
    ("delivery.keep_response", "1KiB"),
    ("delivery.disable_on_gone", "true"),
    ("delivery.disable_after", "7d"),
    ("retry.schedule", "7s,77s"),
    ("retry.jitter", "0.7"),
    ("retry.max_retry_after", "7s"),
    ("breaker.timeouts", "7"),
    ("pool.idle_timeout", "7s"),
    ("pool.max_age", "77s"),
    ("pool.max_idle_per_origin", "7"),
    ("pool.max_connections", "7"),
    ("pool.http2_max_streams", "7"),
    ("dns.servers", "10.0.0.7:53"),
    ("dns.timeout", "7s"),
    ("dns.min_ttl", "7s"),
    ("dns.max_ttl", "77s"),
    ("dns.negative_ttl", "7s"),
    ("dns.cache_entries", "7"),
    ("tls.connect_timeout", "7s"),
    ("tls.handshake_timeout", "7s"),
    ("tls.ca_file", "/etc/ca.pem"),
    ("security.allow_networks", "10.7.0.0/16,127.0.0.1,fd00::/32"),
    ("security.i_understand_wide_networks", "true"),
    ("security.require_https", "false"),
    ("security.deny_ports", "7"),
    ("security.deny_hosts", "internal.example.com"),
    ("security.nat64_prefixes", "64:ff9b::/96"),
    ("security.encryption_key_file", "/run/secrets/encryption.key"),
    ("store.backend", "sled"),
    ("store.cache", "7MiB"),
    ("store.commit_max_events", "7"),
    ("store.commit_max_bytes", "7KiB"),
    ("store.commit_max_wait", "7ms"),
    ("store.entries_max_wait", "7ms"),
    ("store.retention_age", "7d"),
    ("store.retention_bytes", "7GiB"),
    ("store.disk_headroom", "7MiB"),
    ("store.max_scan_blocks", "7"),
    ("store.max_indexed", "7"),
    ("store.queue", "7"),
    ("limits.tenants", "7"),
    ("limits.webhooks_per_tenant", "7"),
    ("limits.keys_per_tenant", "7"),
    ("limits.custom_headers", "7"),
    ("limits.custom_headers_size", "7KiB"),
    ("limits.description", "7"),
    ("limits.url", "777"),
    ("limits.page", "7"),
    ("limits.kept_answers", "7MiB"),
    ("limits.tenant_kept_answers", "7MiB"),
    ("limits.webhook_checks", "7"),
    ("limits.webhook_tests", "7"),
    ("limits.tenant_tests", "7"),
    ("limits.audit_records", "7000"),
    ("replays.rate", "7"),
    ("replays.max_rate", "70"),
    ("replays.per_tenant", "3"),
    ("replays.jobs", "30"),
    ("replays.kept", "4"),
    ("backup.dir", "/var/backups/other"),
    ("backup.rate", "7MiB"),
    ("backup.keep", "7"),
    ("stream.max_streams", "7"),
    ("stream.max_per_tenant", "7"),
    ("stream.max_lag", "7s"),
    ("stream.keep_alive", "7s"),
    ("tracing.forward", "all"),
    ("tracing.endpoint", "https://collector.example:4318/v1/traces"),
    ("tracing.headers_file", "/run/secrets/collector"),
    ("tracing.sample", "0.7"),
    ("tracing.queue", "777"),
    ("tracing.batch", "7"),
    ("tracing.interval", "7s"),
    ("tracing.timeout", "7s"),
    ("tracing.flush_timeout", "7s"),
    ("portal.enabled", "false"),
    ("portal.url", "https://hooks.example.com"),
    ("portal.hosts", "hooks.example.net"),
    ("portal.frame_ancestors", "https://app.example.com"),
    ("portal.session_lifetime", "7h"),
    ("portal.max_sessions", "7"),
    ("portal.max_per_tenant", "7"),
    ("portal.link_lifetime", "7m"),
    ("log.level", "info,senderz_gateway::sender=debug"),
    ("log.format", "json"),
];

fn set(settings: &[(&str, &str)]) -> Sources {
    let flag = |(key, value): &(&str, &str)| FlagSetting {
        flag: "--set",
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    Sources { flags: settings.iter().map(flag).collect(), ..Sources::default() }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(String, OsString)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("gateway.toml");
    std::fs::write(&path, text).expect("a temporary file");
    (dir, path)
}

fn from_file(text: &str) -> Result<Config, ConfigErrors> {
    let (_dir, path) = file(text);
    load(&Sources { file: Some(path), ..Sources::default() })
}

fn keys_of_config_toml() -> BTreeSet<String> {
    let table: toml::Table = DEFAULTS.parse().expect("config.toml is TOML");
    let mut keys = BTreeSet::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => keys.extend(inner.keys().map(|k| format!("{key}.{k}"))),
            _ => drop(keys.insert(key)),
        }
    }
    keys
}

#[test]
fn every_key_is_read_and_changes_the_configuration() {
    let named: BTreeSet<_> = OTHER_VALUES.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(named, keys_of_config_toml(), "OTHER_VALUES names every key of config.toml");

    let defaults = load(&Sources::default()).unwrap();
    let all = load(&set(&OTHER_VALUES)).unwrap();
    for (key, value) in OTHER_VALUES {
        // These two have no second value, or none that shows in Config.
        if ["store.backend", "security.i_understand_wide_networks"].contains(&key) {
            continue;
        }
        // All the others set, this one at its default: it must differ from all set.
        let rest: Vec<_> = OTHER_VALUES.into_iter().filter(|(k, _)| *k != key).collect();
        match load(&set(&rest)) {
            Ok(config) => assert_ne!(config, all, "{key} = {value} changes nothing"),
            Err(errors) => assert!(key.starts_with("server.tls_"), "{key}: {errors}"),
        }
    }
    assert_ne!(defaults, all);
}

#[test]
fn every_key_is_explained_where_it_stands() {
    let mut explained = 0;
    for line in DEFAULTS.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')) {
        let (_, comment) = line.rsplit_once(" # ").unwrap_or_else(|| panic!("no comment: {line}"));
        assert!(comment.trim().len() >= 5, "no explanation: {line}");
        explained += 1;
    }
    assert_eq!(explained, keys_of_config_toml().len());
}

#[test]
fn the_published_contract_is_the_default() {
    let config = load(&Sources::default()).unwrap();
    let schedule: Vec<_> = config.retry.schedule.iter().map(|delay| delay.as_secs()).collect();
    assert_eq!(schedule, [1, 2, 4, 8, 16]);
    assert_eq!(config.delivery.success.as_str(), "200");
    assert_eq!(config.delivery.timeout.as_secs(), 15);
    assert_eq!(config.retry.jitter, 0.0);
    assert!(config.security.allow_networks.is_empty());
    assert!(!config.delivery.disable_on_gone);
    assert_eq!(config.server.listen, Listen::Tcp("127.0.0.1:8080".parse().unwrap()));
}

#[test]
fn three_mistakes_are_reported_as_three_with_their_lines() {
    let errors = from_file(
        "[server]\nlisten = \"nowhere\"\n\n[retry]\nschedule = [\"1s\", \"soon\"]\n\n\
         [delivery]\ntimeout = 15\n",
    )
    .unwrap_err();
    assert_eq!(errors.0.len(), 3, "{errors}");
    let text = errors.to_string();
    for part in [
        "3 problems",
        "server.listen = \"nowhere\"",
        "gateway.toml:2)",
        "gateway.toml:5)",
        "\"soon\": a duration is a number and a unit",
        "delivery.timeout = 15",
        "gateway.toml:8)",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let check = |text: &str, nearest: &str| {
        let errors = from_file(text).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
        let rule = &errors.0[0].rule;
        assert!(rule.ends_with(&format!(" {nearest}")), "{text:?}: {rule}");
    };
    check("[server]\nlisen = \"127.0.0.1:1\"", "server.listen");
    check("listen = \"127.0.0.1:1\"", "ops.listen");
    check("[delivrey]\nmax_age = \"1h\"", "delivery.max_age");
    check("datadir = \"x\"", "data_dir");
    check("[store]\nretention = \"3d\"", "store.retention_age");

    // Tables in which nothing is set.
    check("[delivrey]", "delivery");
    check("servers = {}", "server");
    check("[log]\n[nonsense]\n", "no such table");
    from_file("[log]\n[server]\n").expect("a known table may be empty");

    for far in ["[kafka]\nbrokers = \"x\"", "secret = \"x\"", "x = 1"] {
        check(far, "no such key");
    }
    let variables = environment(&[("SENDERZ_HOOK_SECRET", "x")]);
    let errors = load(&Sources { environment: variables, ..Sources::default() }).unwrap_err();
    assert!(!errors.to_string().contains("nearest"), "{errors}");

    let variables = environment(&[("SENDERZ_SERVER__LISEN", "szk_operator_secret")]);
    let errors = load(&Sources { environment: variables, ..Sources::default() }).unwrap_err();
    let text = errors.to_string();
    assert!(text.contains("SENDERZ_SERVER__LISEN") && text.contains("SENDERZ_SERVER__LISTEN"));
    assert!(!text.contains("szk_operator_secret"), "an unknown variable may hold a secret: {text}");
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let (_dir, path) = file("[log]\nlevel = \"warn\"\n[limits]\npage = 11\nurl = 111\n");
    let mut sources = Sources { file: Some(path), ..Sources::default() };
    let check = |sources: &Sources, level: &str, page: usize, url: usize| {
        let config = load(sources).unwrap();
        assert_eq!(
            (config.log.level.as_str(), config.limits.page, config.limits.url),
            (level, page, url)
        );
    };
    check(&Sources::default(), "info", 100, 2048);
    check(&sources, "warn", 11, 111);
    sources.environment =
        environment(&[("SENDERZ_LOG__LEVEL", "debug"), ("SENDERZ_LIMITS__PAGE", "12")]);
    check(&sources, "debug", 12, 111);
    sources.flags = set(&[("log.level", "trace")]).flags;
    check(&sources, "trace", 12, 111);
}

#[test]
fn the_environment_has_lists_numbers_and_top_level_keys() {
    let sources = Sources {
        environment: environment(&[
            ("SENDERZ_DATA_DIR", "/data with spaces"),
            ("SENDERZ_SECURITY__ALLOW_NETWORKS", "127.0.0.0/8, 10.0.0.7"),
            ("SENDERZ_SECURITY__DENY_PORTS", ""),
            ("SENDERZ_RETRY__SCHEDULE", "1s,2s"),
            ("SENDERZ_DELIVERY__DISABLE_ON_GONE", "true"),
            ("SENDERZ_STORE__CACHE", "2097152"),
        ]),
        ..Sources::default()
    };
    let config = load(&sources).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("/data with spaces"));
    let networks: Vec<_> = config.security.allow_networks.iter().map(|n| n.to_string()).collect();
    assert_eq!(networks, ["127.0.0.0/8", "10.0.0.7/32"]);
    assert!(config.security.deny_ports.is_empty());
    assert_eq!(config.retry.schedule.len(), 2);
    assert!(config.delivery.disable_on_gone);
    assert_eq!(config.store.cache, 2 << 20);
}

#[test]
fn each_rule_refuses_what_breaks_it() {
    let check = |settings: &[(&str, &str)], expected: &str| {
        let errors = load(&set(settings)).expect_err(&format!("{settings:?} is accepted"));
        assert_eq!(errors.0.len(), 1, "{errors}");
        let text = errors.0[0].to_string();
        assert!(text.starts_with(settings[0].0), "{text}");
        assert!(text.contains(expected), "{expected:?} is missing in: {text}");
    };
    // Between keys.
    check(&[("pool.idle_timeout", "10m")], "pool.max_age (5m)");
    check(&[("delivery.keep_response", "5KiB")], "from 0B to 4KiB");
    check(
        &[("delivery.keep_response", "4KiB"), ("delivery.max_response", "2KiB")],
        "delivery.max_response",
    );
    check(&[("delivery.timeout", "2m")], "delivery.max_timeout (1m)");
    check(&[("delivery.webhook_max_in_flight", "5000")], "delivery.max_in_flight (4096)");
    check(&[("dns.min_ttl", "10m")], "dns.max_ttl (5m)");
    check(&[("ingest.max_payload", "16MiB"), ("ingest.max_batch", "1MiB")], "ingest.max_batch");
    check(&[("ingest.max_batch", "65MiB")], "ingest.max_pending (64MiB)");
    check(&[("server.tls_certificate", "cert.pem")], "go together");
    check(&[("ops.listen", "127.0.0.1:8080")], "server.listen");
    check(&[("ops.listen", "0.0.0.0:8080")], "server.listen");
    check(&[("tracing.batch", "20000")], "tracing.queue (16384)");
    // A collector is one whole URL, without what belongs into a header.
    for endpoint in [
        "collector:4318",
        "grpc://collector:4317",
        "http://",
        "https://user@collector/v1/traces",
        "https://:secret@collector/v1/traces",
        "http://collector/v1/traces#x",
    ] {
        check(&[("tracing.endpoint", endpoint)], "the whole URL of a collector");
    }
    // Networks that are too wide.
    for wide in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "fc00::/7", "10.0.0.0/8,0.0.0.0/0"] {
        check(&[("security.allow_networks", wide)], "opens too much");
    }
    check(&[("security.allow_networks", "10.0.0.1/8")], "write 10.0.0.0/8");
    check(&[("security.allow_networks", "localhost")], "must be a network");
    // One key at a time.
    check(&[("retry.schedule", "")], "at least one");
    check(&[("retry.schedule", "1s,25h")], "\"25h\": must be from 1ms to 1d");
    check(&[("retry.jitter", "1.1")], "from 0.0 to 1.0");
    check(&[("retry.jitter", "NaN")], "from 0.0 to 1.0");
    check(&[("delivery.tenant_share", "0")], "above 0.0");
    check(&[("delivery.timeout", "0s")], "from 1ms");
    check(&[("delivery.success", "201")], "\"200\" or \"2xx\"");
    check(&[("store.backend", "rocksdb")], "\"sled\"");
    check(&[("store.cache", "64MB")], "64KiB, 16MiB");
    check(&[("server.listen", "localhost:8080")], "127.0.0.1:8080");
    check(&[("server.listen", "unix:relative")], "unix:/absolute");
    check(&[("log.level", "verbose")], "error, warn, info");
    check(&[("log.level", "a=b=c")], "error, warn, info");
    check(&[("security.deny_ports", "70000")], "1 to 65535");
    check(&[("security.deny_hosts", "https://x")], "host name");
    check(&[("security.nat64_prefixes", "64:ff9b::/97")], "96");
    check(&[("data_dir", "")], "directory");
    check(&[("limits.page", "-1")], "whole number from 1 to 1000");
}

#[test]
fn a_wide_network_is_accepted_when_it_is_understood() {
    let understood = ("security.i_understand_wide_networks", "true");
    let config = load(&set(&[("security.allow_networks", "0.0.0.0/0"), understood])).unwrap();
    assert_eq!(config.security.allow_networks.len(), 1);
    // The widest that need no word.
    load(&set(&[("security.allow_networks", "127.0.0.0/8,fd00::/32")])).unwrap();
}

#[test]
fn broken_toml_and_a_missing_file_are_problems_not_panics() {
    let errors = from_file("[server]\nlisten = \n[log]\nlevel = \"loud\"\n").unwrap_err();
    let text = errors.to_string();
    assert!(text.contains("gateway.toml:2): "), "{text}");
    assert!(text.contains("log.level"), "a syntax error hides nothing else: {text}");

    let sources = Sources { file: Some("/nowhere/gateway.toml".into()), ..Sources::default() };
    let text = load(&sources).unwrap_err().to_string();
    assert!(text.contains("--config /nowhere/gateway.toml") && text.contains("cannot be read"));
}

#[test]
fn a_syntax_error_is_one_problem_of_its_key() {
    let check = |text: &str, key: &str, line: usize| {
        let errors = from_file(text).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{text:?}: {errors}");
        assert_eq!(errors.0[0].key, key, "{text:?}: {errors}");
        let place = format!("gateway.toml:{line}");
        assert!(errors.to_string().contains(&place), "{place} is missing in: {errors}");
    };
    check("[server]\nlisten = 127.0.0.1:8080\n", "server.listen", 2);
    check("[server]\nlisten =", "server.listen", 2);
    check("[retry]\njitter = .5\n", "retry.jitter", 2);
    check("[retry]\nschedule = [\"1s\", \"2s\"\n[log]\nlevel = \"info\"\n", "retry.schedule", 3);
    check("[server]\nlisten = \"\"\"x\n[log]\nlevel = \"info\"\n", "server.listen", 5);
    check("retry = { schedule = [\"1s\", }\n", "retry.schedule", 1);
    check("[server]\nlisten\n", "", 2);
    check("[server]\nlisen = 1.2.3\n", "server.lisen", 2);
    check("= 5\n", "", 1);
    check("[server\nlisten = \"127.0.0.1:1\"\n", "", 1);
    // A rule between keys is not judged where one of them cannot be read.
    let pair = "[server]\ntls_certificate = \"cert.pem\"\ntls_key = \"key.pem\n";
    check(pair, "server.tls_key", 3);
}

#[test]
fn the_effective_configuration_reads_back_as_the_same_and_names_its_origins() {
    let (_dir, path) = file("[limits]\npage = 11\n");
    let mut sources = set(&[("retry.schedule", "7s,77s"), ("delivery.disable_on_gone", "true")]);
    sources.file = Some(path);
    sources.environment = environment(&[("SENDERZ_STORE__QUEUE", "77")]);
    let (config, effective) = load_explained(&sources).unwrap();
    let text = effective.to_toml();
    assert_eq!(from_file(&text).unwrap(), config, "{text}");
    for (key, origin) in [
        ("page = 11", "gateway.toml:2"),
        ("queue = 77", "SENDERZ_STORE__QUEUE"),
        ("schedule = [\"7s\", \"77s\"]", "--set"),
        ("url = 2048", "# default"),
    ] {
        let line = text.lines().find(|line| line.starts_with(key)).expect(key);
        assert!(line.contains(origin), "{line}");
    }
    assert_eq!(effective.to_json()["store.queue"]["value"], 77);
}
