//! How a receiver verifies, and what is wrong where one refuses.
//!
//! The checker signs what was pasted with the tenant's own secrets and the mistakes that people make,
//! as the command `verify` does: it is the same function.

use askama::Template;
use axum::response::Response;

use super::{
    form::{Form, Pairs},
    samples::{self, Sample},
    shell::{Place, Shell, page},
    visit::Visit,
};
use crate::{
    clock::wall_ms,
    sender::sign::{
        DEFAULT_TOLERANCE, StandardHeaders,
        diagnose::{Given, Mistake, mistakes},
        verify_hex, verify_standard,
    },
    tenant::SigningSecret,
};

/// What the current secret is called in what is said of a mistake; the older ones are numbered.
const CURRENT: &str = "your secret";

#[derive(Template)]
#[template(path = "verify.html")]
struct VerifyPage {
    shell: Shell,
    base: String,
    samples: Vec<Sample>,
    pasted: Pasted,
    verdict: Option<Verdict>,
}

/// What somebody pasted.
#[derive(Clone, Debug, Default)]
struct Pasted {
    signature: String,
    id: String,
    timestamp: String,
    body: String,
}

enum Verdict {
    /// By which secret, where it was an older one.
    Right(Option<String>),
    Wrong(Vec<Mistake>),
}

pub(super) async fn show(visit: Visit) -> Response {
    page(&whole(&visit, Pasted::default(), None))
}

fn whole(visit: &Visit, pasted: Pasted, verdict: Option<Verdict>) -> VerifyPage {
    VerifyPage {
        shell: visit.shell("Verify", Place::Verify),
        base: visit.to("/verify"),
        samples: samples::all(),
        pasted,
        verdict,
    }
}

/// Compares with the secrets and shows none: nobody is recorded as having seen them.
pub(super) async fn check(visit: Visit, Form(form): Form) -> Response {
    let pasted = Pasted::of(&form);
    let verdict = verdict(&pasted, &visit.secrets());
    page(&whole(&visit, pasted, Some(verdict)))
}

impl Pasted {
    fn of(form: &Pairs) -> Self {
        let text = |name| form.text(name).to_owned();
        Self {
            signature: text("signature"),
            id: text("id").trim().to_owned(),
            timestamp: text("timestamp").trim().to_owned(),
            // A browser sends every line end of a text field as two characters.
            body: text("body").replace("\r\n", "\n"),
        }
    }

    /// Id and timestamp, where it is `webhook-signature` that was pasted.
    fn standard(&self) -> Option<(&str, &str)> {
        let is_there = !self.id.is_empty() || !self.timestamp.is_empty();
        is_there.then_some((self.id.as_str(), self.timestamp.as_str()))
    }
}

/// `secrets`: the one in force, then those that still sign beside it.
fn verdict(pasted: &Pasted, secrets: &[SigningSecret]) -> Verdict {
    let name = |at: usize| match at {
        0 => CURRENT.to_owned(),
        older => format!("older secret {older}"),
    };
    let named: Vec<_> = secrets.iter().enumerate().map(|(at, secret)| (name(at), secret)).collect();
    let (body, now) = (pasted.body.as_bytes(), wall_ms());
    for (name, secret) in &named {
        let verified = match pasted.standard() {
            Some((id, timestamp)) => {
                let signature = &pasted.signature;
                let headers = StandardHeaders { id, timestamp, signature };
                verify_standard(secret, headers, body, now, DEFAULT_TOLERANCE)
            }
            None => verify_hex(secret, &pasted.signature, body),
        };
        if verified.is_ok() {
            return Verdict::Right((name != CURRENT).then(|| name.clone()));
        }
    }
    let texts: Vec<_> = named.iter().map(|(name, one)| (name.as_str(), one.expose())).collect();
    let given = Given {
        secrets: &texts,
        signature: &pasted.signature,
        standard: pasted.standard(),
        body,
        now,
    };
    Verdict::Wrong(mistakes(&given, DEFAULT_TOLERANCE))
}
