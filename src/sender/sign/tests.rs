//! The expected values were computed with Python's `hmac` and `base64` modules.

use std::time::Duration;

use super::*;

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OLD_SECRET: &str = "whsec_ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=";
const BODY: &[u8] = br#"{"type":"message.sent","data":{"id":"msg_1"}}"#;
const ID: &str = "evt_01jd3a0000000000000000000a";
const TIMESTAMP: &str = "1795407600";
const NOW: Millis = 1_795_407_600_000;

const HEX_NEW: &str = "ec4e0fe6a025bad4f3ae84c7918c84eecba4f0b940bca608f2f717be4559eb1a";
const HEX_OLD: &str = "ce8f7c2f631123643342c7c7397f2677c22edf8b870bd12fad4c48de7b53322e";
const STANDARD_NEW: &str = "v1,xeqHHHgSvVHkFk7zHx8S3EbTqAxpOlqBkDRzlF/lZac=";
const STANDARD_OLD: &str = "v1,+NW+PqnYAcaJT4DEP919NIFPJFjbSYfjuUpvYDop25c=";

fn secret(text: &str) -> SigningSecret {
    text.parse().unwrap()
}

fn signed(signer: &Signer, now: Millis) -> (String, String) {
    let (mut hex, mut standard) = (Vec::new(), Vec::new());
    signer.write_hex(now, BODY, &mut hex);
    signer.write_standard(now, ID.as_bytes(), TIMESTAMP.as_bytes(), BODY, &mut standard);
    (String::from_utf8(hex).unwrap(), String::from_utf8(standard).unwrap())
}

#[test]
fn both_schemes_give_the_known_answers() {
    let signer = Signer::new(&SigningSecrets { current: secret(SECRET), previous: vec![] });
    assert_eq!(signed(&signer, NOW), (HEX_NEW.to_owned(), STANDARD_NEW.to_owned()));
    assert_eq!(signed(&signer, NOW), (HEX_NEW.to_owned(), STANDARD_NEW.to_owned()), "once more");
}

#[test]
fn rotated_secrets_sign_after_the_new_one_each_until_its_overlap_ends() {
    // The one rotated last may be the first to end.
    let previous = vec![(secret(OLD_SECRET), NOW + 1), (secret(SECRET), NOW + 2)];
    let signer = Signer::new(&SigningSecrets { current: secret(SECRET), previous });
    let [new, old] = [(HEX_NEW, STANDARD_NEW), (HEX_OLD, STANDARD_OLD)];
    let check = |now, expected: &[(&str, &str)]| {
        let (hex, standard): (Vec<&str>, Vec<&str>) = expected.iter().copied().unzip();
        assert_eq!(signed(&signer, now), (hex.join(","), standard.join(" ")));
    };
    check(NOW, &[new, old, new]);
    check(NOW + 1, &[new, new]);
    check(NOW + 2, &[new]);
}

#[test]
fn debug_shows_no_key() {
    let signer = Signer::new(&SigningSecrets { current: secret(SECRET), previous: vec![] });
    assert_eq!(format!("{signer:?}"), "Signer(hidden)");
}

#[test]
fn hex_headers_are_judged_strictly() {
    let zeros = "0".repeat(64);
    let check = |header: &str, expected: Result<(), BadSignature>| {
        assert_eq!(verify_hex(&secret(SECRET), header, BODY), expected, "{header}");
    };
    check(HEX_NEW, Ok(()));
    check(&format!("{HEX_NEW},{HEX_OLD}"), Ok(()));
    check(&format!("{HEX_OLD},{HEX_NEW}"), Ok(()));
    check(HEX_OLD, Err(BadSignature::Mismatch));
    check("", Err(BadSignature::Empty));
    check(&HEX_NEW.to_uppercase(), Err(BadSignature::Malformed));
    check(&format!("{HEX_NEW}, {HEX_OLD}"), Err(BadSignature::Malformed));
    check(&format!("{HEX_NEW} "), Err(BadSignature::Malformed));
    check(&format!("{HEX_NEW},"), Err(BadSignature::Malformed));
    check(&HEX_NEW[..63], Err(BadSignature::Malformed));
    check(&format!("{},{HEX_NEW}", vec![zeros.as_str(); 15].join(",")), Ok(()));
    let seventeen = format!("{},{HEX_NEW}", vec![zeros.as_str(); 16].join(","));
    check(&seventeen, Err(BadSignature::TooMany));
}

#[test]
fn standard_headers_are_judged_strictly() {
    let check = |timestamp: &str, signature: &str, expected: Result<(), BadSignature>| {
        let headers = StandardHeaders { id: ID, timestamp, signature };
        let found = verify_standard(&secret(SECRET), headers, BODY, NOW, DEFAULT_TOLERANCE);
        assert_eq!(found, expected, "{timestamp} {signature}");
    };
    check(TIMESTAMP, STANDARD_NEW, Ok(()));
    check(TIMESTAMP, &format!("{STANDARD_OLD} {STANDARD_NEW}"), Ok(()));
    check(TIMESTAMP, &format!("v1a,c29tZXRoaW5n {STANDARD_NEW}"), Ok(()));
    check(TIMESTAMP, STANDARD_OLD, Err(BadSignature::Mismatch));
    check(TIMESTAMP, "v2,c29tZXRoaW5n", Err(BadSignature::Mismatch));
    check(TIMESTAMP, &format!(",c29tZXRoaW5n {STANDARD_NEW}"), Err(BadSignature::Malformed));
    check(TIMESTAMP, &format!("v2, {STANDARD_NEW}"), Err(BadSignature::Malformed));
    check(TIMESTAMP, "", Err(BadSignature::Empty));
    check(TIMESTAMP, &STANDARD_NEW[3..], Err(BadSignature::Malformed));
    check(TIMESTAMP, &format!("{STANDARD_NEW}  {STANDARD_NEW}"), Err(BadSignature::Malformed));
    check(TIMESTAMP, STANDARD_NEW.trim_end_matches('='), Err(BadSignature::Malformed));
    // The last digit carries two bits that must be zero: another spelling of the same bytes.
    check(TIMESTAMP, &STANDARD_NEW.replace("c=", "d="), Err(BadSignature::Malformed));
    check(TIMESTAMP, &[STANDARD_NEW; 17].join(" "), Err(BadSignature::TooMany));
    check("", STANDARD_NEW, Err(BadSignature::Timestamp));
    check("+1795407600", STANDARD_NEW, Err(BadSignature::Timestamp));
    check("1795407600.0", STANDARD_NEW, Err(BadSignature::Timestamp));
    check("99999999999999999999", STANDARD_NEW, Err(BadSignature::Timestamp));
    check("1795407601", STANDARD_NEW, Err(BadSignature::Mismatch));
    check("1795407299", STANDARD_NEW, Err(BadSignature::OutsideTolerance));
    check("1795407901", STANDARD_NEW, Err(BadSignature::OutsideTolerance));
}

#[test]
fn the_tolerance_is_the_receivers_choice() {
    let headers = StandardHeaders { id: ID, timestamp: TIMESTAMP, signature: STANDARD_NEW };
    let verify = |now, tolerance| verify_standard(&secret(SECRET), headers, BODY, now, tolerance);
    assert_eq!(verify(NOW + 10_000, Duration::from_secs(10)), Ok(()));
    assert_eq!(verify(NOW + 11_000, Duration::from_secs(10)), Err(BadSignature::OutsideTolerance));
}
