//! The only reader of the process's environment.

use std::ffi::OsString;

use zeroize::Zeroizing;

/// Where an operator may set the operator's key.
pub const OPERATOR_KEY: &str = "SENDERZ_OPERATOR_KEY";

/// Where an operator may set the keys that seal secrets on disk.
pub const ENCRYPTION_KEY: &str = "SENDERZ_ENCRYPTION_KEY";

/// Where an operator may set the headers that the collector of spans is sent.
pub const TRACING_HEADERS: &str = "SENDERZ_TRACING_HEADERS";

/// Variables with our prefix that are not configuration keys.
pub const RESERVED: [&str; 6] = [
    "SENDERZ_CONFIG",
    "SENDERZ_URL",
    "SENDERZ_API_KEY",
    OPERATOR_KEY,
    ENCRYPTION_KEY,
    TRACING_HEADERS,
];

pub const PREFIX: &str = "SENDERZ_";

/// A secret out of a named variable; none where it is unset or empty. What is not UTF-8 is no
/// secret of ours, but it was set: it comes with characters that whoever reads it refuses.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn secret(name: &str) -> Option<Zeroizing<String>> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    let value = value.into_string().unwrap_or_else(|odd| odd.to_string_lossy().into_owned());
    Some(Zeroizing::new(value))
}

/// Whether the user asks for no colours, as <https://no-color.org> has it.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The variables that set configuration keys, by name.
pub(super) fn settings() -> Vec<(String, OsString)> {
    let mut all: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| is_setting(name))
        .collect();
    all.sort();
    all
}

/// Whether a variable means a configuration key. Kubernetes and Docker give every container
/// variables for each service they know (`SENDERZ_GATEWAY_SERVICE_HOST`,
/// `SENDERZ_PORT_8080_TCP`); those are not ours, and a service's name must not stop the gateway.
fn is_setting(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let of_a_service = !rest.contains("__")
        && (rest == "PORT"
            || ["_PORT", "SERVICE_HOST", "SERVICE_PORT"].iter().any(|end| rest.ends_with(end))
            || ["SERVICE_PORT_", "PORT_"].iter().any(|part| rest.contains(part)));
    !RESERVED.contains(&name) && !of_a_service
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_services_and_reserved_names_are_not_settings() {
        let check = |name: &str, expected: bool| assert_eq!(is_setting(name), expected, "{name}");
        check("SENDERZ_SERVER__LISTEN", true);
        check("SENDERZ_DATA_DIR", true);
        check("SENDERZ_DATADIR", true);
        check("SENDERZ_SECURITY__DENY_PORTS", true);
        check("PATH", false);
        check("SENDERZ_API_KEY", false);
        check("SENDERZ_ENCRYPTION_KEY", false);
        check("SENDERZ_GATEWAY_SERVICE_HOST", false);
        check("SENDERZ_GATEWAY_SERVICE_PORT_HTTP", false);
        check("SENDERZ_GATEWAY_PORT", false);
        check("SENDERZ_PORT", false);
        check("SENDERZ_PORT_8080_TCP_ADDR", false);
    }
}
