//! What stands at the end of every command's help: examples, and the exit codes where they say more
//! than that it went well.
//!
//! A test parses every example, and holds that every command has some.

/// The examples of a command, by the words that name it.
const EXAMPLES: [(&str, &str); 52] = [
    (
        "",
        "\
Examples:
  $ senderz-gateway dev                          # see it work, with example events
  $ senderz-gateway serve --config gateway.toml
  $ senderz-gateway tenants create acme --name Acme
  $ senderz-gateway tail --status failed",
    ),
    (
        "serve",
        "\
Examples:
  $ senderz-gateway serve
  $ senderz-gateway serve --config /etc/senderz/gateway.toml
  $ senderz-gateway serve --listen unix:/run/senderz.sock --data-dir /var/lib/senderz
  $ senderz-gateway serve --set delivery.timeout=5s --set log.level=debug

Exit codes: 0 drained after SIGTERM, 1 something failed, 3 a second signal cut the drain short,
69 cannot bind or lock, 78 bad configuration or unusable data directory.",
    ),
    (
        "dev",
        "\
Examples:
  $ senderz-gateway dev
  $ senderz-gateway dev --fail-rate 0.1
  $ senderz-gateway dev --events events.ndjson --exit

With --exit: 0 every delivery ended and all counts agree, 1 otherwise.",
    ),
    (
        "check",
        "\
Examples:
  $ senderz-gateway check --config gateway.toml
  $ senderz-gateway check --set store.retention_age=30d

Exit codes are those of serve: 0 it would start, 78 a mistake in the configuration.",
    ),
    (
        "config",
        "\
Examples:
  $ senderz-gateway config --config gateway.toml
  $ senderz-gateway config --output json",
    ),
    (
        "tenants",
        "\
Examples:
  $ senderz-gateway tenants create acme --name Acme
  $ senderz-gateway tenants list",
    ),
    (
        "tenants create",
        "\
Examples:
  $ senderz-gateway tenants create acme --name Acme
  $ senderz-gateway tenants create acme --output json   # with api_key and signing_secret, once",
    ),
    (
        "tenants list",
        "\
Examples:
  $ senderz-gateway tenants list --limit 20",
    ),
    (
        "tenants show",
        "\
Examples:
  $ senderz-gateway tenants show acme",
    ),
    (
        "tenants delete",
        "\
Examples:
  $ senderz-gateway tenants delete acme",
    ),
    (
        "webhooks",
        "\
Examples:
  $ senderz-gateway webhooks create --tenant acme https://example.com/hook --events message.failed
  $ senderz-gateway webhooks list --tenant acme",
    ),
    (
        "webhooks create",
        "\
Examples:
  $ senderz-gateway webhooks create --tenant acme https://example.com/hook
  $ senderz-gateway webhooks create --tenant acme https://example.com/hook --events message.failed
  $ senderz-gateway webhooks create --tenant acme https://example.com/hook --dry-run",
    ),
    (
        "webhooks list",
        "\
Examples:
  $ senderz-gateway webhooks list --tenant acme --output json",
    ),
    (
        "webhooks show",
        "\
Examples:
  $ senderz-gateway webhooks show --tenant acme wh_014d2pf2dbsqqg28t5cy4tqkqf",
    ),
    (
        "webhooks update",
        "\
Examples:
  $ senderz-gateway webhooks update --tenant acme wh_014d2pf2dbsqqg28t5cy4tqkqf --enabled false
  $ senderz-gateway webhooks update --tenant acme wh_014d2pf2dbsqqg28t5cy4tqkqf --dry-run",
    ),
    (
        "webhooks test",
        "\
Examples:
  $ senderz-gateway webhooks test --tenant acme wh_014d2pf2dbsqqg28t5cy4tqkqf --wait
  $ senderz-gateway webhooks test --tenant acme wh_014d2pf2dbsqqg28t5cy4tqkqf message.failed",
    ),
    (
        "webhooks stats",
        "\
Examples:
  $ senderz-gateway webhooks stats --tenant acme wh_014d2pf2dbsqqg28t5cy4tqkqf
  $ senderz-gateway webhooks stats --tenant acme --period 1h
  $ senderz-gateway webhooks stats --period 3d --output json",
    ),
    (
        "webhooks delete",
        "\
Examples:
  $ senderz-gateway webhooks delete --tenant acme wh_014d2pf2dbsqqg28t5cy4tqkqf",
    ),
    (
        "send",
        "\
Examples:
  $ senderz-gateway send message.sent --tenant acme
  $ senderz-gateway send message.failed --tenant acme --data status_reason=carrier_rejected --wait
  $ senderz-gateway send --tenant acme --payload event.json --idempotency-key order-1

With --wait: 0 every delivery was delivered, 1 otherwise.",
    ),
    (
        "tail",
        "\
Examples:
  $ senderz-gateway tail
  $ senderz-gateway tail --tenant acme --status retrying,failed
  $ senderz-gateway tail --code 5xx --output json > attempts.ndjson

It ends with 0 on Ctrl-C, and when nobody reads on; with 1 where the gateway refuses.",
    ),
    (
        "bench",
        "\
Examples:
  $ senderz-gateway bench --tenant acme                              # as fast as 32 can
  $ senderz-gateway bench --tenant acme --rate 2000 --duration 30s   # whatever happens
  $ senderz-gateway bench --tenant acme --batch 100 --size 2KiB --output json

Exit codes: 0 measured, 1 no gateway answered or nothing was accepted, 2 wrong usage.",
    ),
    (
        "events",
        "\
Examples:
  $ senderz-gateway events show --tenant acme evt_01m85mgeec7ta0000000004000
  $ senderz-gateway events erase --tenant acme +15555550100 --wait
  $ senderz-gateway events erasures --tenant acme",
    ),
    (
        "events list",
        "\
Examples:
  $ senderz-gateway events list --tenant acme --event-type message.failed
  $ senderz-gateway events list --tenant acme --found-disabled
  $ senderz-gateway events list --tenant acme --after evt_01m85mgeec7ta0000000004000",
    ),
    (
        "events show",
        "\
Examples:
  $ senderz-gateway events show --tenant acme evt_01m85mgeec7ta0000000004000",
    ),
    (
        "events erase",
        "\
Examples:
  $ senderz-gateway events erase --tenant acme +15555550100
  $ senderz-gateway events erase --tenant acme - --wait < recipient.txt",
    ),
    (
        "events erasures",
        "\
Examples:
  $ senderz-gateway events erasures --tenant acme --limit 20",
    ),
    (
        "events erasure",
        "\
Examples:
  $ senderz-gateway events erasure --tenant acme ers_0104208409182820r90m1870zg",
    ),
    (
        "backup",
        "\
Examples:
  $ senderz-gateway backup                               # named by the time, in backup.dir
  $ senderz-gateway backup nightly --rate 20MiB
  $ senderz-gateway backup --verify senderz-backups/nightly

A gateway that is started with the directory as its --data-dir goes on with what is in it.

Exit codes: 0 it is complete (or as it was written), 1 it is not.",
    ),
    (
        "deliveries",
        "\
Examples:
  $ senderz-gateway deliveries list --tenant acme --status failed
  $ senderz-gateway deliveries show --tenant acme dlv_00000000am00w0000006002nhc",
    ),
    (
        "deliveries list",
        "\
Examples:
  $ senderz-gateway deliveries list --tenant acme --status failed --since 2026-11-23T00:00:00Z
  $ senderz-gateway deliveries list --tenant acme --code 5xx --output json",
    ),
    (
        "deliveries show",
        "\
Examples:
  $ senderz-gateway deliveries show --tenant acme dlv_00000000am00w0000006002nhc",
    ),
    (
        "deliveries cancel",
        "\
Examples:
  $ senderz-gateway deliveries cancel --tenant acme dlv_00000000am00w0000006002nhc",
    ),
    (
        "replay",
        "\
Examples:
  $ senderz-gateway replay --tenant acme dlv_00000000am00w0000006002nhc
  $ senderz-gateway replay --tenant acme --status failed --since 2026-11-23T04:00:00Z --dry-run
  $ senderz-gateway replay --tenant acme --webhook wh_014d2pf2dbsqqg28t5cy4tqkqf --wait
  $ senderz-gateway replay --tenant acme --status missed --rate 100    # what found it disabled

With --wait, and with --dry-run: 0 it is done, 1 it failed, was canceled, or rests.",
    ),
    (
        "replays",
        "\
Examples:
  $ senderz-gateway replays list --tenant acme
  $ senderz-gateway replays pause --tenant acme rpl_0vyt7rz599pvkca497agngcwy6",
    ),
    (
        "replays list",
        "\
Examples:
  $ senderz-gateway replays list --tenant acme --limit 5",
    ),
    (
        "replays show",
        "\
Examples:
  $ senderz-gateway replays show --tenant acme rpl_0vyt7rz599pvkca497agngcwy6",
    ),
    (
        "replays pause",
        "\
Examples:
  $ senderz-gateway replays pause --tenant acme rpl_0vyt7rz599pvkca497agngcwy6",
    ),
    (
        "replays resume",
        "\
Examples:
  $ senderz-gateway replays resume --tenant acme rpl_0vyt7rz599pvkca497agngcwy6",
    ),
    (
        "replays cancel",
        "\
Examples:
  $ senderz-gateway replays cancel --tenant acme rpl_0vyt7rz599pvkca497agngcwy6",
    ),
    (
        "keys",
        "\
Examples:
  $ senderz-gateway keys create producer
  $ senderz-gateway keys list --tenant acme",
    ),
    (
        "keys create",
        "\
Examples:
  $ senderz-gateway keys create producer
  $ senderz-gateway keys create tenant --tenant acme --output json    # with api_key, once",
    ),
    (
        "keys list",
        "\
Examples:
  $ senderz-gateway keys list",
    ),
    (
        "keys revoke",
        "\
Examples:
  $ senderz-gateway keys revoke key_2et6kjch5s10cwk3fq7vhsm2yx",
    ),
    (
        "signing-secret",
        "\
Examples:
  $ senderz-gateway signing-secret show --tenant acme
  $ senderz-gateway signing-secret rotate --tenant acme --overlap 24h",
    ),
    (
        "signing-secret show",
        "\
Examples:
  $ senderz-gateway signing-secret show --tenant acme --output json",
    ),
    (
        "signing-secret rotate",
        "\
Examples:
  $ senderz-gateway signing-secret rotate --tenant acme
  $ senderz-gateway signing-secret rotate --tenant acme --overlap 0s    # it leaked",
    ),
    (
        "sink",
        "\
Examples:
  $ senderz-gateway sink --port 9000 --secret-env SINK_SECRET
  $ senderz-gateway sink --fail-rate 0.2 --latency 50ms --quiet

Exit codes: 0 every request was in order and none came twice, 1 otherwise.",
    ),
    (
        "verify",
        "\
Examples:
  $ senderz-gateway verify --secret-env HOOK_SECRET 5f1c0d9a < body
  $ senderz-gateway verify --secret-env HOOK_SECRET --id evt_1 --timestamp 1795407600 v1,H4 < body

Exit codes: 0 the signature is valid, 1 it is not (and why, as far as can be found out).",
    ),
    (
        "health",
        "\
Examples:
  $ senderz-gateway health
  $ senderz-gateway health --ops 127.0.0.1:9464

Exit codes: 0 ready, 1 not ready or not there.",
    ),
    (
        "openapi",
        "\
Examples:
  $ senderz-gateway openapi > openapi.json",
    ),
    (
        "completions",
        "\
Examples:
  $ senderz-gateway completions bash > /etc/bash_completion.d/senderz-gateway
  $ senderz-gateway completions zsh",
    ),
    (
        "man",
        "\
Examples:
  $ senderz-gateway man
  $ senderz-gateway man --dir /usr/local/share/man/man1",
    ),
];

/// The definition with the examples at the end of every help text. A command that has none stays as
/// it is; a test says so.
pub(super) fn with_examples(root: clap::Command) -> clap::Command {
    add(root, "")
}

fn add(command: clap::Command, words: &str) -> clap::Command {
    let own = EXAMPLES.iter().find(|(of, _)| *of == words).map(|(_, examples)| *examples);
    let has_codes = command.get_after_help().map(ToString::to_string);
    let mut command = match (own, has_codes) {
        (Some(examples), Some(codes)) => command.after_help(format!("{examples}\n\n{codes}")),
        (Some(examples), None) => command.after_help(examples),
        (None, _) => command,
    };
    let names: Vec<_> =
        command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    for name in names {
        let words = if words.is_empty() { name.clone() } else { format!("{words} {name}") };
        command = command.mut_subcommand(&name, |inner| add(inner, &words));
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// What stands before an example.
    const PROMPT: &str = "  $ ";
    /// Help is not written wider than this, however wide the terminal is.
    const WIDTH: usize = 100;

    #[test]
    fn every_command_has_examples_and_every_example_is_one() {
        let mut seen = Vec::new();
        let mut root = with_examples(Cli::command());
        root.build();
        check(&root, "", &mut seen);
        let all: Vec<&str> = EXAMPLES.iter().map(|(of, _)| *of).collect();
        for of in all {
            assert!(
                seen.iter().any(|words| words == of),
                "examples for `{of}`, which is no command"
            );
        }
    }

    fn check(command: &clap::Command, words: &str, seen: &mut Vec<String>) {
        seen.push(words.to_owned());
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<&str> =
            after.lines().filter_map(|line| line.strip_prefix(PROMPT)).collect();
        assert!(!examples.is_empty(), "`{words}` has no example");
        for example in examples {
            assert!(example.len() + PROMPT.len() <= WIDTH, "{example} is cut in two");
            // As a shell reads it: what comes behind is a comment, or where input and output go.
            let typed = example.split(['#', '<', '>']).next().unwrap_or_default().trim();
            let of_it = format!("senderz-gateway {words}");
            assert!(typed.starts_with(of_it.trim_end()), "{example} is not of `{words}`");
            let arguments = typed.split_whitespace().map(std::ffi::OsString::from);
            Cli::read(arguments).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
        for inner in command.get_subcommands() {
            let words = format!("{words} {}", inner.get_name());
            check(inner, words.trim_start(), seen);
        }
    }

    #[test]
    fn the_manual_says_what_the_help_says() {
        let mut root = with_examples(Cli::command());
        root.build();
        let mut page = Vec::new();
        clap_mangen::Man::new(root).render(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for part in ["senderz\\-gateway", "tail", "Exit codes: 0 ok", "SENDERZ_CONFIG"] {
            assert!(page.contains(part), "{part} is missing in the manual");
        }
    }
}
