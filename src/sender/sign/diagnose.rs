//! Which mistake it was: what usual mistakes would have signed, tried one after the other.
//!
//! A signature fits or it does not, so a mistake that makes it fit is no guess. The fewest mistakes
//! are looked for: one in the text of the secret, one in how it is used as a key, one in what is
//! signed, one in the body.

mod rewritten;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{config::units, tenant::SigningSecret};

/// What is to be explained.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Names and texts, the current one first.
    pub secrets: &'a [(&'a str, &'a str)],
    pub signature: &'a str,
    /// Id and timestamp, where it is the header of Standard Webhooks.
    pub standard: Option<(&'a str, &'a str)>,
    pub body: &'a [u8],
    /// Wall, milliseconds.
    pub now: u64,
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given(hidden)")
    }
}

const OTHER_HEADER: &str = "other_header";

/// A mistake: a name for programs, and what it is and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub code: &'static str,
    pub detail: String,
}

fn mistake(code: &'static str, detail: impl Into<String>) -> Mistake {
    Mistake { code, detail: detail.into() }
}

/// Something that could have been used, and the mistakes that it would be.
struct Try<T> {
    what: T,
    mistakes: Vec<Mistake>,
}

fn right<T>(what: T) -> Try<T> {
    Try { what, mistakes: Vec::new() }
}

fn wrong<T>(what: T, mistake: Mistake) -> Try<T> {
    Try { what, mistakes: vec![mistake] }
}

/// The mistakes that explain why the signature is not accepted; none where no usual one does.
pub fn mistakes(given: &Given<'_>, tolerance: Duration) -> Vec<Mistake> {
    let mut found = of_time(given, tolerance);
    let (signatures, spelling) = signatures(given);
    if signatures.is_empty() {
        let what = if given.standard.is_some() {
            "it is no `v1,` and base64 of 32 bytes"
        } else {
            "it is no 64 hex digits"
        };
        found
            .push(mistake("malformed_signature", format!("{what}; pass the header's whole value")));
        return found;
    }
    let mut best: Option<Vec<Mistake>> = None;
    for key in keys(given) {
        for content in contents(given) {
            for body in rewritten::bodies(given.body) {
                let mistakes = [&key.mistakes, &content.mistakes, &body.mistakes];
                let count: usize = mistakes.iter().map(|some| some.len()).sum();
                if best.as_ref().is_some_and(|best| best.len() <= count) {
                    continue;
                }
                let mac = content.what.sign(&key.what, given.standard, &body.what);
                if signatures.contains(&mac) {
                    best = Some(mistakes.into_iter().flatten().cloned().collect());
                }
            }
        }
    }
    match best {
        Some(best) => {
            found.extend(spelling);
            found.extend(best);
        }
        // The other scheme's signature cannot fit, and shows what it is.
        None => found.extend(spelling.filter(|spelling| spelling.code == OTHER_HEADER)),
    }
    found
}

fn of_time(given: &Given<'_>, tolerance: Duration) -> Vec<Mistake> {
    let Some((_, timestamp)) = given.standard else { return Vec::new() };
    let Ok(seconds) = timestamp.parse::<u64>() else {
        return vec![mistake(
            "timestamp",
            "webhook-timestamp is a whole number of seconds since 1970",
        )];
    };
    let now = given.now / 1000;
    let away = Duration::from_secs(now.abs_diff(seconds));
    if timestamp.len() == 13 {
        let detail = "the timestamp is in milliseconds; webhook-timestamp has seconds";
        vec![mistake("timestamp_milliseconds", detail)]
    } else if away > tolerance {
        let side = if seconds < now { "in the past" } else { "in the future" };
        let detail = format!(
            "the timestamp is {} {side}, and {} are tolerated: an old request, or a clock that is \
             wrong",
            units::format_duration(away),
            units::format_duration(tolerance)
        );
        vec![mistake("timestamp_outside_tolerance", detail)]
    } else {
        Vec::new()
    }
}

/// The signatures in the header however they are spelled, and what is wrong with the spelling.
fn signatures(given: &Given<'_>) -> (Vec<[u8; 32]>, Option<Mistake>) {
    let trimmed = given.signature.trim();
    let mut spelling = (trimmed != given.signature)
        .then(|| mistake("signature_spaces", "the signature has white space around it: remove it"));
    let mut found = Vec::new();
    for part in trimmed.split([',', ' ']).filter(|part| !part.is_empty() && *part != "v1") {
        let part = part.trim_start_matches("sha256=").trim_start_matches("v1=");
        if let Some(mac) = hex(part) {
            if given.standard.is_some() {
                let detail = "this is hex, as in X-Senderz-Signature: leave id and timestamp out, or \
                              pass webhook-signature";
                spelling.get_or_insert(mistake(OTHER_HEADER, detail));
            } else if part.bytes().any(|byte| byte.is_ascii_uppercase()) {
                let detail = "its hex is in upper case; ours is in lower case, compare it so";
                spelling.get_or_insert(mistake("upper_case", detail));
            }
            found.push(mac);
        } else if let Some(mac) = base64(part) {
            if given.standard.is_none() {
                let detail = "this is base64, as in webhook-signature: give id and timestamp with it, \
                              or X-Senderz-Signature, which is hex";
                spelling.get_or_insert(mistake(OTHER_HEADER, detail));
            }
            found.push(mac);
        }
    }
    (found, spelling)
}

fn hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes?.try_into().ok()
}

/// With either alphabet, padded or not.
fn base64(text: &str) -> Option<[u8; 32]> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&::base64::alphabet::STANDARD, config);
    let plain = text.replace('-', "+").replace('_', "/");
    engine.decode(plain).ok()?.try_into().ok()
}

type Key = Zeroizing<Vec<u8>>;

/// What could have been the key.
fn keys(given: &Given<'_>) -> Vec<Try<Key>> {
    let mut keys = Vec::new();
    for (at, (variable, text)) in given.secrets.iter().enumerate() {
        for Try { what: secret, mistakes } in secrets(variable, text) {
            let mut of_it = uses(&secret, given.standard.is_some());
            for one in &mut of_it {
                one.mistakes.splice(0..0, mistakes.iter().cloned());
                if at > 0 {
                    let detail = format!("it was signed with the secret in {variable}");
                    one.mistakes.insert(0, mistake("other_secret", detail));
                }
            }
            keys.append(&mut of_it);
        }
        // As it stands, for what was signed with the mistake in it.
        let detail = format!("the text in {variable} was used with what does not belong to it");
        if text.parse::<SigningSecret>().is_err() {
            let key = Zeroizing::new(text.as_bytes().to_vec());
            keys.push(wrong(key, mistake("secret_text", detail)));
        }
    }
    keys
}

/// The secrets that a text could mean.
fn secrets(variable: &str, text: &str) -> Vec<Try<SigningSecret>> {
    if let Ok(secret) = text.parse() {
        return vec![right(secret)];
    }
    let trimmed = text.trim();
    let unquoted = trimmed.trim_matches(['"', '\'', '`']).trim();
    let candidates = [
        (trimmed.to_owned(), "secret_spaces", "white space around the secret (a line end, mostly)"),
        (unquoted.to_owned(), "secret_quotes", "quotation marks around the secret"),
        (format!("whsec_{unquoted}"), "secret_prefix", "the secret without `whsec_`"),
    ];
    let parsed = candidates.into_iter().filter_map(|(text, code, what)| {
        let text = Zeroizing::new(text);
        let secret: SigningSecret = text.parse().ok()?;
        let detail = format!("{variable} holds {what}: it is `whsec_…`, and nothing else");
        Some(wrong(secret, mistake(code, detail)))
    });
    parsed.take(1).collect()
}

/// A secret's right use as a key, and its wrong ones.
fn uses(secret: &SigningSecret, is_standard: bool) -> Vec<Try<Key>> {
    let whole = Zeroizing::new(secret.expose().as_bytes().to_vec());
    let rest = Zeroizing::new(whole[SigningSecret::PREFIX.len()..].to_vec());
    let decoded = secret.key_bytes();
    let text = |code, what: &str| {
        let right = if is_standard {
            "the bytes that the part after `whsec_` encodes (base64)"
        } else {
            "the whole text, `whsec_` included"
        };
        mistake(code, format!("it was keyed with {what}; the key of this header is {right}"))
    };
    let part = "the part after `whsec_`, as text";
    if is_standard {
        vec![
            right(decoded),
            wrong(whole, text("key_whole", "the whole text of the secret")),
            wrong(rest, text("key_part", part)),
        ]
    } else {
        vec![
            right(whole),
            wrong(decoded, text("key_decoded", "the decoded bytes of the secret")),
            wrong(rest, text("key_part", part)),
        ]
    }
}

/// What is signed.
#[derive(Clone, Copy)]
enum Content {
    Body,
    /// Id, timestamp and body, with dots between them.
    Standard,
    /// Timestamp and body, with a dot, as others sign.
    Timed,
}

impl Content {
    fn sign(self, key: &[u8], standard: Option<(&str, &str)>, body: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let (id, timestamp) = standard.unwrap_or_default();
        match self {
            Self::Body => {}
            Self::Standard => mac.update(format!("{id}.{timestamp}.").as_bytes()),
            Self::Timed => mac.update(format!("{timestamp}.").as_bytes()),
        }
        mac.update(body);
        mac.finalize().into_bytes().into()
    }
}

fn contents(given: &Given<'_>) -> Vec<Try<Content>> {
    if given.standard.is_none() {
        return vec![right(Content::Body)];
    }
    let rule = "webhook-signature signs webhook-id, a dot, webhook-timestamp, a dot, and the body";
    vec![
        right(Content::Standard),
        wrong(Content::Body, mistake("signed_body", format!("the body alone was signed; {rule}"))),
        wrong(
            Content::Timed,
            mistake("signed_without_id", format!("webhook-id was left out; {rule}")),
        ),
    ]
}

/// A body, and the mistake that it stands for.
pub(super) struct Body {
    pub(super) what: Vec<u8>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Body {
    pub(super) fn as_read(body: &[u8]) -> Self {
        Self { what: body.to_vec(), mistakes: Vec::new() }
    }

    pub(super) fn changed(what: Vec<u8>, code: &'static str, detail: String) -> Self {
        Self { what, mistakes: vec![mistake(code, detail)] }
    }
}
