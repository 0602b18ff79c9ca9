//! Every mistake, made on purpose: the signature that a program with it would have made or checked.

use super::*;

const NEW: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OLD: &str = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=";
const ID: &str = "evt_1";
const TIME: &str = "1795407600";
const SENT: &str =
    r#"{"type":"message.sent","data":{"text":"Grüße / 世界 😀","n":1.50,"list":[1,2],"none":{}}}"#;

fn mac(key: &[u8], content: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(content);
    mac.finalize().into_bytes().into()
}

fn hex_of(key: &[u8], content: &[u8]) -> String {
    mac(key, content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn v1_of(key: &[u8], content: &[u8]) -> String {
    format!("v1,{}", ::base64::engine::general_purpose::STANDARD.encode(mac(key, content)))
}

fn codes(given: &Given<'_>) -> Vec<&'static str> {
    mistakes(given, Duration::MAX).into_iter().map(|one| one.code).collect()
}

/// The mistakes found where this secret's text and this body were used to check a hex signature.
fn of_hex(secret: &str, signature: &str, body: &[u8]) -> Vec<&'static str> {
    let secrets = [("NEW", secret), ("OLD", OLD)];
    codes(&Given { secrets: &secrets, signature, standard: None, body, now: 0 })
}

fn of_standard(secret: &str, signature: &str, body: &[u8]) -> Vec<&'static str> {
    let (secrets, standard) = ([("NEW", secret)], Some((ID, TIME)));
    codes(&Given { secrets: &secrets, signature, standard, body, now: 0 })
}

#[test]
fn a_body_that_was_changed_on_its_way_is_recognised() {
    let python = r#"{"type": "message.sent", "data": {"text": "Gr\u00fc\u00dfe / \u4e16\u754c \ud83d\ude00", "n": 1.50, "list": [1, 2], "none": {}}}"#;
    let php = r#"{"type":"message.sent","data":{"text":"Gr\u00fc\u00dfe \/ \u4e16\u754c \ud83d\ude00","n":1.50,"list":[1,2],"none":{}}}"#;
    let pretty = "{\n  \"type\": \"message.sent\",\n  \"data\": {\n    \"text\": \"Grüße / 世界 😀\",\n    \"n\": 1.50,\n    \"list\": [\n      1,\n      2\n    ],\n    \"none\": {}\n  }\n}";
    let sorted = r#"{"data":{"list":[1,2],"n":1.5,"none":{},"text":"Grüße / 世界 😀"},"type":"message.sent"}"#;
    let four = pretty.replace("  ", "    ");
    let tabs = pretty.replace("  ", "\t");
    let line = |body: &str| format!("{body}\n");
    for (sent, read, expected) in [
        (SENT, python, "body_reserialised"),
        (SENT, php, "body_reserialised"),
        (SENT, pretty, "body_reserialised"),
        (python, SENT, "body_reserialised"),
        (php, SENT, "body_reserialised"),
        (pretty, SENT, "body_reserialised"),
        (&four, SENT, "body_reserialised"),
        (&tabs, python, "body_reserialised"),
        (&line(pretty), SENT, "body_reserialised"),
        (sorted, SENT, "body_reserialised"),
        (SENT, &line(SENT), "body_line_end_added"),
        (SENT, &format!("{SENT}\r\n\n"), "body_line_end_added"),
        (&line(SENT), SENT, "body_line_end_removed"),
        (&format!("{SENT}\r\n"), SENT, "body_line_end_removed"),
        (&pretty.replace('\n', "\r\n"), pretty, "body_line_ends"),
        (pretty, &pretty.replace('\n', "\r\n"), "body_line_ends"),
        (SENT, &format!("\u{feff}{SENT}"), "body_byte_order_mark"),
        (&format!("\u{feff}{SENT}"), SENT, "body_byte_order_mark"),
    ] {
        let signature = hex_of(NEW.as_bytes(), sent.as_bytes());
        assert_eq!(of_hex(NEW, &signature, read.as_bytes()), [expected], "{sent} read as {read}");
    }
    // What is no JSON, and what is another body, is explained by nothing.
    let signature = hex_of(NEW.as_bytes(), SENT.as_bytes());
    for other in [&b"\xff\xfe"[..], b"", b"{\"a\":1}", SENT.replace("sent", "read").as_bytes()] {
        assert_eq!(of_hex(NEW, &signature, other), [""; 0]);
    }
}

#[test]
fn a_secret_that_is_used_wrongly_is_recognised() {
    let secret: SigningSecret = NEW.parse().unwrap();
    let (whole, decoded) = (NEW.as_bytes(), secret.key_bytes());
    let part = NEW.strip_prefix("whsec_").unwrap();
    let body = SENT.as_bytes();
    let standard = format!("{ID}.{TIME}.{SENT}");
    let standard = standard.as_bytes();
    for (key, expected) in [(&decoded[..], "key_decoded"), (part.as_bytes(), "key_part")] {
        assert_eq!(of_hex(NEW, &hex_of(key, body), body), [expected]);
    }
    for (key, expected) in [(whole, "key_whole"), (part.as_bytes(), "key_part")] {
        assert_eq!(of_standard(NEW, &v1_of(key, standard), body), [expected]);
    }
    for (text, expected) in [
        (format!("{NEW}\n"), "secret_spaces"),
        (format!(" {NEW}"), "secret_spaces"),
        (format!("\"{NEW}\""), "secret_quotes"),
        (format!("'{NEW}'\n"), "secret_quotes"),
        (part.to_owned(), "secret_prefix"),
    ] {
        assert_eq!(of_hex(&text, &hex_of(whole, body), body), [expected], "{text:?}");
        assert_eq!(of_standard(&text, &v1_of(&decoded, standard), body), [expected], "{text:?}");
        // And what a program would have signed with that text as it is.
        let signature = hex_of(text.as_bytes(), body);
        assert!(!of_hex(&text, &signature, body).is_empty(), "{text:?}");
    }
    assert_eq!(of_hex(NEW, &hex_of(OLD.as_bytes(), body), body), ["other_secret"]);
    let unknown = hex_of(b"whsec_another", body);
    assert_eq!(of_hex(NEW, &unknown, body), [""; 0], "what is not known is not guessed");
}

#[test]
fn two_mistakes_at_once_are_both_named_and_one_alone_is_preferred() {
    let secret: SigningSecret = NEW.parse().unwrap();
    let signature = hex_of(&secret.key_bytes(), SENT.as_bytes());
    let read = format!("{SENT}\n");
    let found = of_hex(NEW, &signature, read.as_bytes());
    assert_eq!(found, ["key_decoded", "body_line_end_added"]);
}

#[test]
fn the_wrong_header_and_the_wrong_content_are_recognised() {
    let secret: SigningSecret = NEW.parse().unwrap();
    let (whole, decoded) = (NEW.as_bytes(), secret.key_bytes());
    let body = SENT.as_bytes();
    let hex = hex_of(whole, body);
    assert_eq!(of_hex(NEW, &hex.to_uppercase(), body), ["upper_case"]);
    assert_eq!(of_hex(NEW, &format!(" {hex} "), body), ["signature_spaces"]);
    assert_eq!(of_hex(NEW, "sha256=nothing", body), ["malformed_signature"]);
    let timed = format!("{TIME}.{SENT}");
    assert_eq!(of_standard(NEW, &v1_of(&decoded, body), body), ["signed_body"]);
    assert_eq!(of_standard(NEW, &v1_of(&decoded, timed.as_bytes()), body), ["signed_without_id"]);
    // The header of one scheme with the parameters of the other.
    let found = of_standard(NEW, &hex, body);
    assert_eq!(found.first(), Some(&"other_header"), "{found:?}");
    let found = of_hex(NEW, &v1_of(whole, body), body);
    assert_eq!(found, ["other_header"]);
}

#[test]
fn a_time_that_is_too_far_away_is_told_with_how_far() {
    let now = 1_795_407_600_000;
    let check = |timestamp: &str, expected: Option<(&str, &str)>| {
        let given = Given {
            secrets: &[("NEW", NEW)],
            signature: "v1,x",
            standard: Some((ID, timestamp)),
            body: b"",
            now,
        };
        let found = of_time(&given, Duration::from_secs(300));
        let found = found.first().map(|one| (one.code, one.detail.as_str()));
        match expected {
            None => assert_eq!(found, None, "{timestamp}"),
            Some((code, part)) => {
                let (found, detail) = found.unwrap();
                assert!(found == code && detail.contains(part), "{found}: {detail}");
            }
        }
    };
    check("1795407600", None);
    check("1795407300", None);
    check("1795404000", Some(("timestamp_outside_tolerance", "is 1h in the past")));
    check("1795411200", Some(("timestamp_outside_tolerance", "is 1h in the future")));
    check("1795407600000", Some(("timestamp_milliseconds", "seconds")));
    check("soon", Some(("timestamp", "number")));
}
