//! The rules of the house that a compiler does not know: who may import whom, what a file may be,
//! what must not be in it. ARCHITECTURE.md says why.

use std::{
    fs,
    path::{Path, PathBuf},
};

const MAX_LINES: usize = 500;

/// The modules by layer, lowest first: a module names only modules of lower layers, and itself.
/// Modules of the first layer (the words) may name each other.
const LAYERS: [&[&str]; 11] = [
    &[
        "clock",
        "delivery",
        "event",
        "guard",
        "id",
        "idempotency",
        "media_type",
        "openapi",
        "problem",
        "request_id",
        "seal",
        "tenant",
        "trace",
        "webhook",
        "wheel",
    ],
    &["config", "engine"],
    &["metrics", "quota", "shutdown", "stats", "trust"],
    &["sender", "spans", "store"],
    &["audit"],
    &["command", "directory"],
    &["backups", "erasures", "replays", "sessions"],
    &["api", "ingest", "ops", "portal", "shard"],
    // The accept loop: it hands requests to ingest and to the API.
    &["server"],
    &["app"],
    &["cli"],
];

struct Source {
    /// From the root of the package, with forward slashes.
    path: String,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").expect("asked of src only");
        inside.split(['/', '.']).next().expect("split gives at least one part")
    }

    fn is_test(&self) -> bool {
        !self.path.starts_with("src/")
            || self.path.ends_with("tests.rs")
            || self.path.contains("/tests/")
    }

    /// Without comments, and without the tests at its end.
    fn code(&self) -> String {
        let text = self.text.split("#[cfg(test)]\nmod tests {").next().expect("at least one part");
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if is_rust {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                found.push(Source { path: relative(&path), text });
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// The crates that Cargo.toml names.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    let manifest: toml::Table = manifest.parse().expect("Cargo.toml is TOML");
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables.into_iter().filter_map(|table| manifest.get(table)?.as_table());
    let names: Vec<_> = tables.flat_map(|table| table.keys().cloned()).collect();
    assert!(names.len() > 10, "the dependencies were not found");
    names
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("it was found below the root");
    path.to_str().expect("paths of the package are UTF-8").replace('\\', "/")
}

fn all_sources() -> Vec<Source> {
    sources(&["src", "tests", "benches", "fuzz"])
}

/// The code of the library and the binary, tests apart.
fn shipped() -> Vec<(Source, String)> {
    let shipped = sources(&["src"]).into_iter().filter(|source| !source.is_test());
    shipped
        .map(|source| {
            let code = source.code();
            (source, code)
        })
        .collect()
}

fn assert_none(broken: Vec<String>, rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Whether the code names a path that starts with this crate; `x::sled::y` names a module of ours.
fn names_crate(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let is_start = |at: usize| {
        let before = code[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
            || code[..at].ends_with(" ::")
            || code[..at].ends_with("(::")
    };
    code.match_indices(&path).any(|(at, _)| is_start(at)) || code.contains(&format!("use {name};"))
}

/// The modules of ours that the code names as `crate::x` or `crate::{x, y::z}`.
fn named_modules(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if !rest.starts_with('{') {
            named.push(identifier(rest));
            continue;
        }
        let mut depth = 0;
        let mut expects_name = false;
        for (at, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            match c {
                _ if depth == 0 => break,
                '{' | ',' if depth == 1 => expects_name = true,
                c if expects_name && c.is_alphabetic() => {
                    named.push(identifier(&rest[at..]));
                    expects_name = false;
                }
                _ => {}
            }
        }
    }
    named
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn imports_point_down_only() {
    let mut broken = Vec::new();
    for (source, code) in shipped() {
        let own = source.module().to_owned();
        if ["lib", "main"].contains(&own.as_str()) {
            continue;
        }
        let Some(own_layer) = layer(&own) else {
            broken.push(format!("{}: the module {own} is in no layer", source.path));
            continue;
        };
        for target in named_modules(&code) {
            let is_word = own_layer == 0 && layer(&target) == Some(0);
            let is_lower = layer(&target).is_none_or(|target| target < own_layer);
            if target != own && !is_word && !is_lower {
                broken.push(format!("{} names {target}", source.path));
            }
        }
    }
    assert_none(broken, "a module names only what lies below it");
}

#[test]
fn each_engine_of_another_make_is_named_in_one_place() {
    let rules: [(&str, &[&str]); 10] = [
        ("askama", &["src/portal/"]),
        ("chacha20poly1305", &["src/seal.rs"]),
        ("sled", &["src/store/"]),
        ("hyper", &["src/sender", "src/spans/", "src/ingest", "src/server", "src/ops", "src/cli/"]),
        (
            "hyper_util",
            &["src/sender", "src/spans/", "src/ingest", "src/server", "src/ops", "src/cli/"],
        ),
        ("opentelemetry_proto", &["src/spans/"]),
        ("prost", &["src/spans/"]),
        ("axum", &["src/api/", "src/portal/", "src/server"]),
        ("hickory_resolver", &["src/sender"]),
        ("utoipa", &["src/api/", "src/openapi/", "src/problem.rs"]),
    ];
    let mut broken = Vec::new();
    for (source, code) in shipped() {
        for (name, places) in rules {
            if names_crate(&code, name) && !places.iter().any(|p| source.path.starts_with(p)) {
                broken.push(format!("{} names {name}", source.path));
            }
        }
    }
    assert_none(broken, "a crate is named only where it is at home");
}

#[test]
fn the_engine_is_pure() {
    let impure = [
        "async ",
        ".await",
        "tokio",
        "metrics",
        "tracing",
        "Instant",
        "SystemTime",
        "std::thread",
        "std::net",
        "std::fs",
        "std::io",
        "std::env",
        "getrandom",
        "Mutex",
        "Atomic",
        "RandomState",
    ];
    let mut broken = Vec::new();
    for (source, code) in shipped() {
        if !["engine", "wheel"].contains(&source.module()) {
            continue;
        }
        for word in impure.iter().filter(|word| code.contains(**word)) {
            broken.push(format!("{} says {word:?}", source.path));
        }
        // A slab is a vector with holes; it does nothing that std's collections do not.
        let others = dependencies().into_iter().filter(|name| name != "slab");
        for name in others.map(|name| name.replace('-', "_")) {
            if names_crate(&code, &name) {
                broken.push(format!("{} names {name}", source.path));
            }
        }
    }
    assert_none(broken, "the engine has no I/O, no clock, no thread and no crate but std and slab");
}

/// clippy bans the standard library's clocks and variables and knows their types; here it is seen
/// to that nobody excuses himself, and that what it does not know is not used either.
#[test]
fn time_and_environment_are_read_in_one_place_each() {
    let clippy = fs::read_to_string(root().join("clippy.toml")).unwrap();
    for banned in ["std::time::Instant::now", "std::time::SystemTime::now", "std::env::var"] {
        assert!(clippy.contains(&format!("\"{banned}\"")), "clippy.toml bans {banned}");
    }
    let rules: [(&[&str], &[&str]); 3] = [
        (&["clippy::disallowed_methods"], &["src/clock.rs", "src/config/environment.rs"]),
        (&["Timestamp::now", "Zoned::now"], &["src/clock.rs"]),
        (&["env::vars", "env::remove_var", "env::set_var"], &["src/config/environment.rs"]),
    ];
    let mut broken = Vec::new();
    for (source, code) in shipped() {
        for (words, homes) in rules {
            for word in words.iter().filter(|word| code.contains(**word)) {
                if !homes.contains(&source.path.as_str()) {
                    broken.push(format!("{} says {word}; only {homes:?} may", source.path));
                }
            }
        }
    }
    assert_none(broken, "one reader of time, one of the environment");
}

#[test]
fn no_file_is_too_long_to_be_read_and_each_says_what_it_is() {
    let mut broken = Vec::new();
    for source in all_sources() {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            broken.push(format!("{} has {lines} lines, the most is {MAX_LINES}", source.path));
        }
        if !source.is_test() && !source.text.starts_with("//! ") {
            broken.push(format!("{} does not start with its module doc", source.path));
        }
        let name = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if ["utils", "util", "common", "helpers", "helper", "manager", "misc"].contains(&name) {
            broken.push(format!("{}: name it after what it is", source.path));
        }
    }
    assert_none(broken, "files are short, named and introduced");
}

#[test]
fn nothing_is_left_unfinished_or_silenced() {
    // In two parts, so that this file does not break its own rule.
    let unwanted = [
        ("todo", "!("),
        ("unimplemented", "!("),
        ("dbg", "!("),
        ("#[ig", "nore"),
        ("#[all", "ow("),
        ("#![all", "ow("),
        ("should_", "panic"),
        ("FIX", "ME"),
        ("unsafe", " {"),
    ];
    let mut broken = Vec::new();
    for source in all_sources() {
        for (first, second) in unwanted {
            let word = format!("{first}{second}");
            if let Some(line) = source.text.lines().position(|line| line.contains(&word)) {
                broken.push(format!("{}:{} has {word}", source.path, line + 1));
            }
        }
    }
    assert_none(broken, "finish it, or say why not in the open");
}

#[test]
fn nothing_is_printed_by_what_panics_where_nobody_reads() {
    let mut broken = Vec::new();
    for (source, code) in shipped() {
        for name in ["print!(", "println!("].iter().filter(|name| code.contains(**name)) {
            broken.push(format!("{} says {name}", source.path));
        }
    }
    assert_none(broken, "print through cli::output, which outlives its reader");
}

#[test]
fn every_dependency_has_its_reason_in_the_architecture() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md"))
        .expect("ARCHITECTURE.md says for each dependency why it is there");
    let missing =
        dependencies().into_iter().filter(|name| !architecture.contains(&format!("`{name}`")));
    assert_none(missing.collect(), "not in ARCHITECTURE.md as `name`");
}

#[test]
fn the_rules_see_what_they_look_for() {
    let code = "use sled::Db; use crate::{clock, store::{self, Store}, ops}; crate::app::serve()";
    assert!(names_crate(code, "sled"));
    assert!(!names_crate("crate::store::sled::open()", "sled"));
    assert!(names_crate("let x = ::metrics::counter!(A);", "metrics"));
    assert!(!names_crate("my_hyper::x", "hyper"));
    assert_eq!(named_modules(code), ["clock", "store", "ops", "app"]);
    assert_eq!(layer("engine"), Some(1));
}
