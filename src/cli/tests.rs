use clap::CommandFactory as _;

use super::{
    client::{BaseUrl, Trusted, segment, with_query},
    *,
};
use crate::{app::StartError, store::OpenError};

fn parse(arguments: &str) -> Result<Cli, clap::Error> {
    let arguments = ["senderz-gateway"].into_iter().chain(arguments.split_whitespace());
    Cli::read(arguments.map(OsString::from))
}

#[test]
fn the_definition_of_the_commands_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_argument_has_a_help_text_and_global_options_stand_apart() {
    fn check(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some_and(|about| !about.to_string().is_empty()), "{path}");
        for argument in command.get_arguments() {
            let name = argument.get_id();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{path} {name} has no help");
            let is_apart = argument.get_help_heading() == Some("Global options");
            assert_eq!(is_apart, argument.is_global_set(), "{path} {name}");
        }
        for inner in command.get_subcommands() {
            check(inner, &format!("{path} {}", inner.get_name()));
        }
    }
    let mut all = Cli::command();
    all.build();
    check(&all, "senderz-gateway");
}

#[test]
fn every_command_takes_its_documented_arguments_and_refuses_others() {
    let accepted = [
        "",
        "serve",
        "serve --listen unix:/run/x.sock --data-dir /data --set limits.page=5 --set log.level=debug",
        "--config gateway.toml check",
        "config --output json",
        "dev",
        "dev --events events.ndjson --exit --fail-rate 0.1",
        "tenants create acme --name Acme",
        "tenants list --limit 5 --cursor abc",
        "tenants show acme",
        "tenants delete acme",
        "webhooks create --tenant acme https://example.com/hook --events message.sent,message.read",
        "webhooks update --tenant acme wh_1 --target https://example.com/new --enabled false",
        "webhooks list --tenant acme --url unix:/run/x.sock",
        "send message.sent --tenant acme --data a=b --data c=d --wait",
        "send --tenant acme --payload event.json",
        "tail",
        "bench --tenant acme --rate 2000 --duration 30s --concurrency 64 --batch 100 --size 2KiB",
        "bench --tenant acme --payload event.json",
        "man --dir man1",
        "tail --tenant acme --status failed,retrying --code 5xx --after pos_1 --output json",
        "deliveries list --tenant acme --status failed,retrying --code 5xx",
        "deliveries cancel --tenant acme dlv_1",
        "events erase --tenant acme +15555550100 --wait",
        "events erase -",
        "events erasures --tenant acme --limit 5",
        "events erasure --tenant acme ers_1",
        "backup nightly --rate 20MiB --with-keys",
        "backup --verify backups/nightly",
        "events list --tenant acme --webhook wh_1 --event-type message.sent --found-disabled",
        "events list --after start --since 2026-11-23T00:00:00Z --until 2026-11-24T00:00:00Z",
        "events show --tenant acme evt_1",
        "replay --tenant acme dlv_1",
        "replays list --tenant acme --limit 5",
        "replays show rpl_1",
        "replays pause --tenant acme rpl_1",
        "replays resume --tenant acme rpl_1",
        "replays cancel --tenant acme rpl_1",
        "keys create operator",
        "keys create tenant --tenant acme",
        "keys list --limit 5",
        "keys revoke key_1",
        "signing-secret show --tenant acme",
        "signing-secret rotate --tenant acme --overlap 24h",
        "sink --port 0 --latency 50ms --fail-rate 0.1 --status 503 --hang-rate 0 --secret-env S",
        "verify --secret-env S abcdef",
        "verify --secret-env S --id evt_1 --timestamp 1 v1,abc",
        "health --ops 127.0.0.1:9464",
        "openapi --config gateway.toml --set limits.page=5",
        "completions bash",
    ];
    for arguments in accepted {
        parse(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
    let refused = [
        "serv",
        "serve --nonsense",
        "serve --set limits.page",
        "dev --exit",
        "dev --fail-rate 1.5 --events x",
        "tenants create a/b",
        "send --tenant acme",
        "send message.lost --tenant acme",
        "send message.sent --tenant acme --payload x",
        "sink --fail-rate -1",
        "sink --status 99",
        "sink --latency soon",
        "verify abcdef",
        "verify --secret-env S --id evt_1 abc",
        "tail --limit 5",
        "bench --tenant acme --rate 0",
        "bench --tenant acme --duration 0s",
        "bench --tenant acme --size 5 --payload x",
        "bench --tenant acme --api-key szk_x",
        "man --url http://127.0.0.1:1",
        "webhooks list --url ftp://example.com",
        // Global flags that the command does not heed.
        "health --url http://127.0.0.1:1",
        "--url http://127.0.0.1:1 health",
        "health --key-file k",
        "--url http://127.0.0.1:1",
        "serve --key-file k",
        "check --url http://127.0.0.1:1",
        "openapi --url http://127.0.0.1:1",
        "sink --listen 127.0.0.1:1",
        "sink --set limits.page=5",
        "verify --secret-env S --config c abcdef",
        "completions bash --data-dir d",
        // Secrets never come as arguments.
        "keys create root",
        "sink --secret whsec_x",
        "signing-secret rotate --tenant acme --secret whsec_x",
        "send message.sent --tenant acme --api-key szk_x",
    ];
    for arguments in refused {
        let error = parse(arguments).map(|cli| cli.command).expect_err(arguments);
        assert_eq!(error.exit_code(), 2, "{arguments:?}: {error}");
    }
    assert!(parse("").unwrap().command.is_none(), "no command means serve");
    let error = parse("health --url http://127.0.0.1:1").expect_err("refused").to_string();
    assert!(error.contains("--url has no meaning here") && error.contains("--ops"), "{error}");
}

#[test]
fn flags_become_configuration_in_the_order_typed() {
    let cli = parse("serve --listen 127.0.0.1:1 --set limits.page=5 --set limits.page=6").unwrap();
    let config = cli.global.load().unwrap();
    assert_eq!(config.limits.page, 6);
    assert_eq!(config.server.listen, crate::config::Listen::Tcp("127.0.0.1:1".parse().unwrap()));
}

#[test]
fn the_exit_code_says_whether_trying_again_can_help() {
    let check = |error: StartError, exit: Exit| assert_eq!(serve::exit_of(&error), exit);
    check(StartError::Bind("taken".to_owned()), Exit::Unavailable);
    check(StartError::Store(OpenError::InUse("/data".into())), Exit::Unavailable);
    let newer = OpenError::Newer { path: "/data".into(), found: 2, supported: 1 };
    check(StartError::Store(newer), Exit::BadConfig);
    let unusable = OpenError::Unusable { path: "/data".into(), reason: "read-only".to_owned() };
    check(StartError::Store(unusable), Exit::BadConfig);
    let damaged = OpenError::Damaged { path: "/data".into(), reason: "damaged".to_owned() };
    check(StartError::Store(damaged), Exit::Failure);
    let older = OpenError::Older { path: "/data".into(), found: 1, supported: 2 };
    check(StartError::Store(older), Exit::BadConfig);
    let lost = OpenError::Lost { path: "/data".into(), reason: "lost".to_owned() };
    check(StartError::Store(lost), Exit::Failure);
    let codes =
        [Exit::Ok, Exit::Failure, Exit::Usage, Exit::Forced, Exit::Unavailable, Exit::BadConfig];
    assert_eq!(codes.map(|exit| exit as u8), [0, 1, 2, 3, 69, 78]);
    assert_eq!(report(&ConfigErrors(Vec::new()).into()), Exit::BadConfig);
    let pipe = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
    assert_eq!(report(&pipe), Exit::Ok);
    assert_eq!(report(&ClientError::NoTenant.into()), Exit::Usage);
    assert_eq!(report(&anyhow::anyhow!("anything else")), Exit::Failure);
}

#[test]
fn a_base_url_is_http_https_or_a_socket() {
    let tcp = |authority: &str| Some(BaseUrl::Tcp { authority: authority.to_owned() });
    let check = |text: &str, expected: Option<BaseUrl>| {
        assert_eq!(text.parse::<BaseUrl>().ok(), expected, "{text}");
    };
    check("http://127.0.0.1:8080", tcp("127.0.0.1:8080"));
    check("http://[::1]:8080/", tcp("[::1]:8080"));
    check("unix:/run/x.sock", Some(BaseUrl::Unix("/run/x.sock".into())));
    let (authority, trusted) = ("hooks.example.com".to_owned(), Trusted::Named(None));
    check("https://hooks.example.com/", Some(BaseUrl::Tls { authority, trusted }));
    for refused in
        ["", "127.0.0.1:8080", "ftp://x", "https://x/v1", "http://x/v1", "unix:x", "http://u:p@x"]
    {
        check(refused, None);
    }
}

#[test]
fn the_api_is_where_the_configuration_says_unless_a_url_is_given() {
    let base = |listen: &str| {
        let cli = parse(&format!("health --listen {listen}")).unwrap();
        BaseUrl::of(&cli.global.load().unwrap().server)
    };
    let check = |listen: &str, expected: &str| {
        assert_eq!(base(listen).unwrap(), expected.parse().unwrap(), "{listen}");
    };
    check("127.0.0.1:18080", "http://127.0.0.1:18080");
    check("0.0.0.0:81", "http://127.0.0.1:81");
    check("[::]:81", "http://[::1]:81");
    check("192.0.2.1:81", "http://192.0.2.1:81");
    check("unix:/run/x.sock", "unix:/run/x.sock");
    let error = base("127.0.0.1:0").unwrap_err().to_string();
    assert!(error.contains("server.listen = 127.0.0.1:0") && error.contains("--url"), "{error}");
    let mut server = parse("check").unwrap().global.load().unwrap().server;
    server.tls = Some(("/c".into(), "/k".into()));
    let trusted = Trusted::Exactly("/c".into());
    let local = BaseUrl::Tls { authority: "127.0.0.1:8080".to_owned(), trusted };
    assert_eq!(BaseUrl::of(&server).unwrap(), local);
}

#[test]
fn what_the_user_types_cannot_become_another_route() {
    assert_eq!(segment("wh_1"), "wh_1");
    assert_eq!(segment("a/b?c d"), "a%2Fb%3Fc%20d");
    let query = [("limit", Some("5".to_owned())), ("cursor", None), ("x", Some("a&b".to_owned()))];
    assert_eq!(with_query("/v1/x", &query), "/v1/x?limit=5&x=a%26b");
    assert_eq!(with_query("/v1/x", &[("a", None)]), "/v1/x");
}
