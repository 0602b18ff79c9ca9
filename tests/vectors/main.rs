//! The shared vectors (`sdk/vectors.json`) against the gateway's own signing and verifying, against
//! the command `verify`, and against the Rust example of `docs/verify.md`. Python's `hmac` made them
//! (`sdk/vectors.py`), and the SDK is held to the same file.

#[expect(unreachable_pub, reason = "it stands as the document shows it")]
mod example;

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use senderz_gateway::{
    sender::sign::{BadSignature, Signer, StandardHeaders, verify_hex, verify_standard},
    tenant::{SigningSecret, SigningSecrets},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    now: u64,
    tolerance: u64,
    secrets: HashMap<String, String>,
    bodies: HashMap<String, Body>,
    sign: Vec<Signed>,
    verify: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    text: Option<String>,
    base64: Option<String>,
    repeat: Option<String>,
    #[serde(default)]
    times: usize,
    #[serde(default)]
    start: String,
    #[serde(default)]
    end: String,
}

#[derive(Deserialize)]
struct Signed {
    name: String,
    body: String,
    secrets: Vec<String>,
    id: String,
    timestamp: u64,
    hex: String,
    standard: String,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    scheme: String,
    secrets: Vec<String>,
    body: String,
    signature: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    timestamp: String,
    now: Option<u64>,
    tolerance: Option<u64>,
    expect: String,
    #[serde(default)]
    strict: bool,
}

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path)
}

fn vectors() -> Vectors {
    let vectors: Vectors = serde_json::from_str(&read("sdk/vectors.json")).expect("the vectors");
    assert!(vectors.sign.len() > 20 && vectors.verify.len() > 100, "vectors are missing");
    vectors
}

impl Vectors {
    fn secret(&self, name: &str) -> SigningSecret {
        self.secrets[name].parse().expect(name)
    }

    fn body(&self, name: &str) -> Vec<u8> {
        let body = &self.bodies[name];
        match (&body.text, &body.base64, &body.repeat) {
            (Some(text), None, None) => text.clone().into_bytes(),
            (None, Some(base64), None) => STANDARD.decode(base64).expect(name),
            (None, None, Some(text)) => {
                format!("{}{}{}", body.start, text.repeat(body.times), body.end).into_bytes()
            }
            _ => panic!("{name}: a body is text, base64 or repeat"),
        }
    }

    /// What a receiver with these secrets says: the last refusal, or none where one of them fits.
    fn judge(&self, case: &Case) -> Result<(), BadSignature> {
        let body = self.body(&case.body);
        let now = case.now.unwrap_or(self.now) * 1000;
        let tolerance = Duration::from_secs(case.tolerance.unwrap_or(self.tolerance));
        let headers = StandardHeaders {
            id: &case.id,
            timestamp: &case.timestamp,
            signature: &case.signature,
        };
        let one = |name: &String| {
            let secret = self.secret(name);
            if case.scheme == "hex" {
                verify_hex(&secret, &case.signature, &body)
            } else {
                verify_standard(&secret, headers, &body, now, tolerance)
            }
        };
        case.secrets.iter().map(one).reduce(Result::or).expect("a receiver has a secret")
    }
}

/// The refusals that the expectation stands for.
fn expected(code: &str) -> Result<(), BadSignature> {
    Err(match code {
        "valid" => return Ok(()),
        "empty_signature" => BadSignature::Empty,
        "malformed_signature" => BadSignature::Malformed,
        "too_many_signatures" => BadSignature::TooMany,
        "malformed_timestamp" => BadSignature::Timestamp,
        "timestamp_too_old" | "timestamp_too_new" => BadSignature::OutsideTolerance,
        "signature_mismatch" => BadSignature::Mismatch,
        other => panic!("{other} is no expectation"),
    })
}

#[test]
fn the_gateway_signs_as_the_vectors_say() {
    let vectors = vectors();
    for case in &vectors.sign {
        let now = case.timestamp * 1000;
        let (current, previous) = case.secrets.split_first().expect("a secret");
        let secrets = SigningSecrets {
            current: vectors.secret(current),
            previous: previous.iter().map(|name| (vectors.secret(name), now + 1)).collect(),
        };
        let (signer, body) = (Signer::new(&secrets), vectors.body(&case.body));
        let (mut hex, mut standard) = (Vec::new(), Vec::new());
        signer.write_hex(now, &body, &mut hex);
        let timestamp = case.timestamp.to_string();
        let (id, at) = (case.id.as_bytes(), timestamp.as_bytes());
        signer.write_standard(now, id, at, &body, &mut standard);
        assert_eq!(String::from_utf8_lossy(&hex), case.hex, "{}", case.name);
        assert_eq!(String::from_utf8_lossy(&standard), case.standard, "{}", case.name);
    }
}

#[test]
fn the_gateway_verifies_as_the_vectors_say() {
    let vectors = vectors();
    for case in &vectors.verify {
        assert_eq!(vectors.judge(case), expected(&case.expect), "{}: {}", case.scheme, case.name);
    }
}

#[test]
fn the_largest_body_is_as_large_as_an_event_may_be() {
    assert_eq!(vectors().body("largest").len(), 256 * 1024);
}

/// The command takes one secret and judges no age.
#[test]
fn the_command_verifies_as_the_vectors_say() {
    let vectors = vectors();
    let commanded =
        |case: &&Case| case.secrets.len() == 1 && !case.expect.starts_with("timestamp_too");
    for case in vectors.verify.iter().filter(commanded) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        command.args(["verify", "--secret-env", "VECTOR_SECRET"]);
        command.env("VECTOR_SECRET", &vectors.secrets[&case.secrets[0]]);
        if case.scheme == "standard" {
            command.arg(format!("--id={}", case.id));
            command.arg(format!("--timestamp={}", case.timestamp));
        }
        command.args(["--", &case.signature]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(&vectors.body(&case.body)).expect("the command reads all of it");
        drop(stdin);
        let output = child.wait_with_output().expect("the binary ends");
        let said = String::from_utf8_lossy(&output.stdout);
        // Why it is not valid follows on a line of its own, and that its time is long ago behind it.
        let said = said.lines().next().unwrap_or_default();
        let said = said.split("; its time").next().unwrap_or_default();
        let (verdict, code) = match expected(&case.expect) {
            Ok(()) => ("valid".to_owned(), 0),
            Err(reason) => (format!("not valid: {reason}"), 1),
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, verdict, "{}: {} {errors}", case.scheme, case.name);
        assert_eq!(output.status.code(), Some(code), "{}: {}", case.scheme, case.name);
    }
}

#[test]
fn the_documents_rust_example_verifies_as_the_vectors_say() {
    let shown = format!("```rust\n{}```\n", read("tests/vectors/example.rs"));
    assert!(read("docs/verify.md").contains(&shown), "docs/verify.md shows another example");
    let vectors = vectors();
    let mut judged = 0;
    for case in vectors.verify.iter().filter(|case| case.scheme == "hex" && !case.strict) {
        let body = vectors.body(&case.body);
        let fits = |name: &String| example::verify(&vectors.secrets[name], &body, &case.signature);
        assert_eq!(case.secrets.iter().any(fits), case.expect == "valid", "{}", case.name);
        judged += 1;
    }
    assert!(judged > 40);
}
