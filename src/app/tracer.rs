//! From the configuration to the exporter of spans: the headers that the collector is sent come from
//! a file or from the environment, as every secret does.

use std::{fs, path::PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::GivenKeys;
use crate::{
    config::{Config, environment},
    spans::{Export, Settings},
};

/// A file of headers is a few lines.
const MAX_FILE: u64 = 64 << 10;

/// Why the collector's headers cannot be used. None of these shows a value.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    #[error("tracing.headers_file {file} cannot be used: {why}")]
    File { file: PathBuf, why: String },
    #[error("{}: {why}", environment::TRACING_HEADERS)]
    Environment { why: String },
    #[error("set {} or tracing.headers_file, not both", environment::TRACING_HEADERS)]
    Both,
}

/// What to trace, and where to; the headers are read only where something is exported.
pub(super) fn settings(config: &Config, given: &GivenKeys) -> Result<Settings, HeadersError> {
    let tracing = &config.tracing;
    let export = match &tracing.endpoint {
        None => None,
        Some(endpoint) => Some(Export {
            endpoint: endpoint.clone(),
            headers: headers(config, given)?,
            ca_file: config.tls.ca_file.clone(),
            queue: tracing.queue,
            batch: tracing.batch,
            interval: tracing.interval,
            timeout: tracing.timeout,
            flush_timeout: tracing.flush_timeout,
        }),
    };
    Ok(Settings { forward: tracing.forward, sample: tracing.sample, export })
}

fn headers(config: &Config, given: &GivenKeys) -> Result<HeaderMap, HeadersError> {
    match (&given.tracing_headers, &config.tracing.headers_file) {
        (None, None) => Ok(HeaderMap::new()),
        (Some(_), Some(_)) => Err(HeadersError::Both),
        (Some(text), None) => parse(text).map_err(|why| HeadersError::Environment { why }),
        (None, Some(file)) => {
            let unusable = |why: String| HeadersError::File { file: file.clone(), why };
            let length = fs::metadata(file).map_err(|e| unusable(e.to_string()))?.len();
            if length > MAX_FILE {
                return Err(unusable(format!("it is longer than {MAX_FILE} bytes")));
            }
            let text = fs::read_to_string(file).map_err(|e| unusable(e.to_string()))?;
            parse(&Zeroizing::new(text)).map_err(unusable)
        }
    }
}

/// `name: value` a line; blank lines and those that start with `#` say nothing.
fn parse(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if !said(&line) {
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what}", number + 1);
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("must be `name: value`"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong("no header's name"))?;
        let mut value: HeaderValue =
            value.trim().parse().map_err(|_| wrong("must have a value of visible ASCII"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_line_by_line_and_never_shown() {
        let read = parse("# for the collector\n\nX-Api-Key: canary\r\nx-team:  a b \n").unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read["x-api-key"], "canary");
        assert_eq!(read["x-team"], "a b");
        assert!(!format!("{read:?}").contains("canary"));
        for (text, expected) in [
            ("canary", "line 1: must be `name: value`"),
            ("\nx y: canary", "line 2: no header's name"),
            ("x: canary\u{1}", "line 1: must have a value of visible ASCII"),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()));
        }
    }
}
