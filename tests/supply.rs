//! What the gateway is built from: `deny.toml` says what may be, and Cargo.lock is held to it here,
//! so that nothing has to be installed for it. Advisories need a database and are left to
//! `cargo deny`.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

fn table(name: &str) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    text.parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The packages of Cargo.lock, as cargo knows them. It fetches those that only other platforms need.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("packages").clone();
    assert!(packages.len() > 100, "the packages were not found");
    packages
}

fn name(package: &Value) -> &str {
    package["name"].as_str().expect("every package has a name")
}

fn is_ours(package: &Value) -> bool {
    package["source"].is_null()
}

fn allowed_licenses() -> BTreeSet<String> {
    let deny = table("deny.toml");
    let allow = deny["licenses"]["allow"].as_array().expect("a list");
    allow.iter().map(|license| license.as_str().expect("text").to_owned()).collect()
}

/// Whether an SPDX expression can be kept with the allowed licences alone. AND binds closer than
/// OR; a slash is how OR was written once.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let holds = either(&mut rest, allowed);
    assert!(rest.is_empty(), "not an SPDX expression: {expression}");
    holds
}

fn either(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut holds = both(rest, allowed);
    while let Some((&"OR", after)) = rest.split_first() {
        *rest = after;
        holds |= both(rest, allowed);
    }
    holds
}

fn both(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut holds = one(rest, allowed);
    while let Some((&"AND", after)) = rest.split_first() {
        *rest = after;
        holds &= one(rest, allowed);
    }
    holds
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let holds = either(rest, allowed);
            let [")", after @ ..] = *rest else { panic!("a parenthesis is not closed") };
            *rest = after;
            holds
        }
        [license, "WITH", exception, after @ ..] => {
            *rest = after;
            allowed.contains(&format!("{license} WITH {exception}"))
        }
        [license, after @ ..] => {
            *rest = after;
            allowed.contains(*license)
        }
        [] => panic!("a licence is missing"),
    }
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = allowed_licenses();
    let wrong: Vec<String> = packages()
        .iter()
        .filter(|package| !is_ours(package))
        .filter_map(|package| match package["license"].as_str() {
            Some(license) if is_allowed(license, &allowed) => None,
            other => Some(format!("{}: {}", name(package), other.unwrap_or("none"))),
        })
        .collect();
    assert!(wrong.is_empty(), "licences that deny.toml does not allow:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_dependency_comes_from_the_one_registry_with_a_checksum() {
    let lock = table("Cargo.lock");
    let locked = lock["package"].as_array().expect("packages");
    let mut sources = BTreeSet::new();
    for package in locked {
        let name = package["name"].as_str().expect("text");
        match package.get("source").and_then(|source| source.as_str()) {
            None => assert_eq!(name, env!("CARGO_PKG_NAME"), "a package from a path"),
            Some(source) => {
                assert!(source.starts_with("registry+"), "{name} comes from {source}");
                assert!(package.get("checksum").is_some(), "{name} has no checksum");
                sources.insert(source);
            }
        }
    }
    assert_eq!(sources.len(), 1, "{sources:?}");
}

#[test]
fn nothing_that_is_banned_is_built_in() {
    let deny = table("deny.toml");
    let banned = deny["bans"]["deny"].as_array().expect("a list");
    let banned: Vec<_> = banned.iter().map(|ban| ban["crate"].as_str().expect("text")).collect();
    assert!(!banned.is_empty());
    let packages = packages();
    let found: Vec<_> = packages.iter().map(name).filter(|name| banned.contains(name)).collect();
    assert!(found.is_empty(), "deny.toml bans {found:?}");
}

#[test]
fn unsafe_code_is_forbidden() {
    let manifest = table("Cargo.toml");
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
}

#[test]
fn licence_expressions_are_understood() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "A WITH B"].map(str::to_owned).into();
    let check = |expression: &str, expected: bool| {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    };
    check("MIT", true);
    check("GPL-3.0", false);
    check("GPL-3.0 OR MIT", true);
    check("GPL-3.0/MIT", true);
    check("GPL-3.0 AND MIT", false);
    check("MIT AND ISC", true);
    check("GPL-3.0 OR MIT AND ISC", true);
    check("MIT OR ISC AND GPL-3.0", true);
    check("(GPL-3.0 OR MIT) AND ISC", true);
    check("(GPL-3.0 OR MIT) AND GPL-3.0", false);
    check("A WITH B", true);
    check("A WITH C", false);
    check("A", false);
}
