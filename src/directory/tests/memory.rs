//! What is left of secrets in this process's memory once they are dropped.

use std::{
    any::Any,
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::fs::FileExt as _,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::{
    tenant::SigningSecret,
    webhook::{CustomHeaders, HeaderLimits},
};

/// A secret's bytes, inverted: so that the search does not find what it searches for in its own
/// memory.
struct Inverted {
    kind: &'static str,
    bytes: Vec<u8>,
}

/// How many of each kind are somewhere in memory that can be written.
fn found(secrets: &[Inverted]) -> BTreeMap<&'static str, usize> {
    let memory = File::open("/proc/self/mem").expect("our own memory");
    let maps = BufReader::new(File::open("/proc/self/maps").expect("our own memory's map"));
    let heads: HashMap<&[u8], usize> =
        secrets.iter().enumerate().map(|(at, secret)| (&secret.bytes[..8], at)).collect();
    // Most places are told to be none of them by two bytes.
    let mut first = vec![false; 1 << 16];
    for head in heads.keys() {
        first[usize::from(u16::from_le_bytes([head[0], head[1]]))] = true;
    }
    let mut seen = vec![false; secrets.len()];
    for line in maps.lines().map_while(Result::ok).filter(|line| line.contains(" rw")) {
        let (from, rest) = line.split_once('-').expect("an address range");
        let to = rest.split(' ').next().expect("an address range");
        let [from, to] = [from, to].map(|a| u64::from_str_radix(a, 16).expect("hexadecimal"));
        // Wiped when it goes, or it would be found by the next search.
        let mut bytes = Zeroizing::new(vec![0; (to - from) as usize]);
        // What another thread has unmapped meanwhile is gone.
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        for (at, window) in bytes.windows(8).enumerate() {
            if first[usize::from(u16::from_le_bytes([window[0], window[1]]))]
                && let Some(&which) = heads.get(window)
                && bytes[at..].starts_with(&secrets[which].bytes)
            {
                seen[which] = true;
            }
        }
    }
    let mut found = BTreeMap::new();
    for (secret, seen) in secrets.iter().zip(seen) {
        *found.entry(secret.kind).or_default() += usize::from(seen);
    }
    found
}

const EACH: usize = 200;

/// The allocator keeps its lists in the first bytes of memory that was given back.
const REUSED: usize = 16;

type Alive = Vec<Box<dyn Any + Send>>;

/// Makes secrets of a kind in a thread of their own, whose stack goes with it.
fn make<T: Any + Send>(
    kind: &'static str,
    make: impl Fn() -> T + Send + 'static,
    bytes: impl Fn(&T) -> Zeroizing<Vec<u8>> + Send + 'static,
) -> (Alive, Vec<Inverted>) {
    let work = move || {
        let (mut alive, mut secrets): (Alive, Vec<Inverted>) = Default::default();
        for _ in 0..EACH {
            let secret = make();
            let bytes = bytes(&secret).iter().skip(REUSED).map(|byte| !byte).collect();
            secrets.push(Inverted { kind, bytes });
            alive.push(Box::new(secret));
        }
        (alive, secrets)
    };
    std::thread::spawn(work).join().expect("no panic")
}

/// The secret part of a signing secret, of which there is one each time.
fn part(secret: &SigningSecret) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(secret.expose().as_bytes()[SigningSecret::PREFIX.len()..].to_vec())
}

#[test]
fn no_secret_outlives_its_owner() {
    let kinds = [
        make("signing secret made", SigningSecret::generate, part),
        make(
            "signing secret read",
            || SigningSecret::generate().expose().parse::<SigningSecret>().expect("just made"),
            part,
        ),
        make(
            "api key",
            || ApiKey::generate(1, Principal::Producer, 0).1,
            |key| {
                let text = key.expose();
                Zeroizing::new(text.as_bytes()[text.len() - 32..].to_vec())
            },
        ),
        make("encryption key", KeyRing::generate, |ring| {
            Zeroizing::new(STANDARD.decode(ring.to_text().trim_end()).expect("base64"))
        }),
        make(
            "custom header",
            || {
                let secret = SigningSecret::generate();
                let value = &secret.expose()[SigningSecret::PREFIX.len()..];
                let limits = HeaderLimits { max_count: 1, max_bytes: 100 };
                CustomHeaders::parse([("x-token", value)], limits).expect("a header")
            },
            |headers| {
                let (_, value) = headers.iter().next().expect("one");
                Zeroizing::new(value.as_bytes().to_vec())
            },
        ),
        make(
            "opened from disk",
            || {
                let (ring, secret) = (KeyRing::generate(), SigningSecret::generate());
                let sealed = ring.seal(b"row", secret.expose().as_bytes());
                ring.open(b"row", &sealed).expect("just sealed").0
            },
            |opened| Zeroizing::new(opened[SigningSecret::PREFIX.len()..].to_vec()),
        ),
    ];
    let (alive, secrets): (Vec<Alive>, Vec<_>) = kinds.into_iter().unzip();
    let secrets: Vec<Inverted> = secrets.into_iter().flatten().collect();
    for (kind, count) in found(&secrets) {
        assert_eq!(count, EACH, "{kind}: the search finds what is there");
    }
    drop(alive);
    for (kind, count) in found(&secrets) {
        assert_eq!(count, 0, "{kind}: left in memory");
    }
}
