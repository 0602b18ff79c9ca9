//! Secrets on disk: sealed, bound to their rows, and sealed anew where that is due.

use std::os::unix::fs::PermissionsExt as _;

use super::{
    encryption_key::{self, Given, Origin},
    load::rows_of_the_first_version,
    *,
};
use crate::webhook::{CustomHeaders, HeaderLimits, HeadersPatch};

const NEW_KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

/// A value that JSON would escape.
const TOKEN: &str = r#"Bearer "canary\ token""#;

/// Two tenants, each with a rotated secret and a webhook that has a header and a URL of its own.
async fn rows_with_secrets() -> (Vec<Row>, Directory) {
    let (store, rows) = keeping_store();
    let directory = empty(store);
    for id in ["acme", "beta"] {
        let tenant = add_tenant(&directory, id).await.tenant.no;
        directory.rotate_secret(tenant, std::time::Duration::from_secs(60)).await.unwrap();
        let limits = HeaderLimits { max_count: 9, max_bytes: 99 };
        let set = CustomHeaders::parse([("x-token", TOKEN)], limits).unwrap();
        let headers = Some(HeadersPatch::Merge { set, removed: Vec::new() });
        let settings = WebhookPatch { headers, ..WebhookPatch::default() };
        let url = url("https://hooks.example.com/canary-path?canary=query");
        directory.create_webhook(tenant, url, EventTypes::ALL, settings).await.unwrap();
    }
    (stored(&rows), directory)
}

fn contains(row: &Row, text: &str) -> bool {
    row.value.as_ref().unwrap().windows(text.len()).any(|part| part == text.as_bytes())
}

fn is_sealed(row: &Row) -> bool {
    matches!(row.key[0], b't' | b'w')
}

/// What a row looks like once somebody who knows the format has changed its body.
fn forged(row: &Row, change: impl FnOnce(&mut Vec<u8>)) -> Row {
    let value = row.value.as_ref().unwrap();
    let mut body = value[5..].to_vec();
    change(&mut body);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&value[..1]);
    hasher.update(&body);
    let crc = hasher.finalize().to_le_bytes();
    Row { key: row.key.clone(), value: Some([&value[..1], &crc, &body].concat()) }
}

fn load(rows: Vec<Row>, keys: &str) -> Result<Directory, LoadError> {
    Directory::load(held_store().0, rows, limits(), ring(keys))
}

#[tokio::test]
async fn no_secret_stands_in_a_row_and_all_of_them_come_back() {
    let (rows, directory) = rows_with_secrets().await;
    for row in &rows {
        for canary in ["whsec_", "canary", "hooks.example.com", "x-token"] {
            assert!(!contains(row, canary), "{canary} in {row:?}");
        }
    }
    let again = load(rows, OLD_KEY).unwrap();
    for id in ["acme", "beta"] {
        let tenants = [&directory, &again].map(|directory| directory.tenant(id).unwrap());
        let [before, after] = tenants.map(|entry| Arc::clone(&entry.tenant));
        assert_eq!(before.secrets, after.secrets);
        assert_eq!(before.secrets.previous.len(), 1);
        let [before, after] =
            [&directory, &again].map(|directory| directory.webhooks(after.no, None, 9).remove(0));
        assert_eq!(before.headers, after.headers);
        assert_eq!(before.url, after.url);
        assert_eq!(after.headers.iter().next().unwrap().1, TOKEN);
    }
}

#[tokio::test]
async fn a_row_whose_body_was_changed_or_cut_is_refused_whatever_its_checksum_says() {
    let (rows, _) = rows_with_secrets().await;
    let mut tried = 0;
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| is_sealed(row)) {
        let refused = |changed: Row| {
            let mut rows = rows.clone();
            rows[at] = changed;
            let loaded = load(rows, OLD_KEY);
            assert!(
                matches!(loaded, Err(LoadError::Damaged { .. } | LoadError::MissingKey { .. })),
                "{loaded:?}"
            );
        };
        let len = row.value.as_ref().unwrap().len() - 5;
        for byte in 0..len {
            refused(forged(row, |body| body[byte] ^= 1 << (byte % 8)));
            refused(forged(row, |body| body.truncate(byte)));
            tried += 2;
        }
        refused(forged(row, |body| body.push(0)));
    }
    assert!(tried > 1000, "{tried}");
}

#[tokio::test]
async fn secrets_open_in_their_own_row_only() {
    let (rows, _) = rows_with_secrets().await;
    for kind in [b't', b'w'] {
        let pair: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].key[0] == kind).collect();
        let [first, second] = pair[..] else { panic!("two tenants, two webhooks") };
        // All of the one in place of the other, and the sealed part alone.
        let mut swapped = rows.clone();
        swapped[first].value = rows[second].value.clone();
        swapped[second].value = rows[first].value.clone();
        assert!(matches!(load(swapped, OLD_KEY), Err(LoadError::Damaged { .. })));

        let sealed_from = |row: &Row| {
            let body = &row.value.as_ref().unwrap()[5..];
            4 + u32::from_le_bytes(body[..4].try_into().unwrap()) as usize
        };
        let foreign =
            rows[second].value.as_ref().unwrap()[5..][sealed_from(&rows[second])..].to_vec();
        let mut moved = rows.clone();
        moved[first] = forged(&rows[first], |body| {
            body.truncate(sealed_from(&rows[first]));
            body.extend(foreign);
        });
        assert!(matches!(load(moved, OLD_KEY), Err(LoadError::Damaged { .. })));
    }
    // A webhook is not given to another tenant by its open part either.
    let at = rows.iter().position(|row| row.key[0] == b'w').unwrap();
    let mut given = rows.clone();
    given[at] = forged(&rows[at], |body| {
        let owner = br#""tenant":1"#;
        let found = body.windows(owner.len()).position(|part| part == owner);
        body[found.unwrap() + owner.len() - 1] = b'2';
    });
    assert!(matches!(load(given, OLD_KEY), Err(LoadError::Damaged { .. })));
}

/// A store whose `writes`th write is not answered any more: the process was killed.
fn dying_store(rows: &Rows, writes: usize) -> Store {
    let (store, mut asked) = held_store();
    let kept = Arc::clone(rows);
    tokio::spawn(async move {
        for _ in 0..writes {
            let Some(Write::Rows { bundle, reply }) = asked.recv().await else { return };
            let mut kept = kept.lock().unwrap();
            for Row { key, value } in bundle.rows {
                kept.insert(key, value.expect("rows that stand"));
            }
            drop(kept);
            let _ = reply.send(Ok(()));
        }
    });
    store
}

/// Starts until one start is not killed, each killed after one write more than the one before, and
/// returns how many there were. After each kill everything is there.
async fn starts_until_sealed(rows: &Rows, keys: &str) -> usize {
    for killed in 0.. {
        let store = dying_store(rows, killed);
        let directory = Directory::load(store, stored(rows), limits(), ring(keys)).unwrap();
        assert_eq!(directory.tenants(None, 9).len(), 2);
        if directory.seal_anew().await.is_ok() {
            return killed + 1;
        }
    }
    unreachable!("the rows are few")
}

#[tokio::test]
async fn a_key_is_replaced_by_starts_that_may_be_killed_at_every_write() {
    let (before, _) = rows_with_secrets().await;
    let kept = before.iter().map(|row| (row.key.clone(), row.value.clone().unwrap()));
    let rows: Rows = Arc::new(Mutex::new(kept.collect()));
    let both = format!("{NEW_KEY}\n{OLD_KEY}");

    let starts = starts_until_sealed(&rows, &both).await;
    assert!(starts > 2, "{starts} starts: it was killed half-way");
    for (row, old) in stored(&rows).iter().zip(&before) {
        assert_eq!(row.value != old.value, is_sealed(row), "what has no secret stays as it is");
    }
    load(stored(&rows), NEW_KEY).expect("the old key is needed no longer");
    let missing = load(stored(&rows), OLD_KEY);
    assert!(
        matches!(missing, Err(LoadError::MissingKey { id, .. }) if id == ring(NEW_KEY).current())
    );
    // Once more there is nothing to do.
    let directory = load(stored(&rows), &both).unwrap();
    assert_eq!(directory.seal_anew().await, Ok(0));
}

#[tokio::test]
async fn rows_in_the_clear_are_sealed_at_the_first_start() {
    let kept = rows_of_the_first_version().into_iter().map(|row| (row.key, row.value.unwrap()));
    let rows: Rows = Arc::new(Mutex::new(kept.collect()));
    let store = dying_store(&rows, 9);
    let directory = Directory::load(store, stored(&rows), limits(), ring(NEW_KEY)).unwrap();
    assert_eq!(directory.seal_anew().await, Ok(2), "the tenant and the webhook");
    assert!(!stored(&rows).iter().any(|row| contains(row, "whsec_") || contains(row, "x-a")));
    let again = load(stored(&rows), NEW_KEY).unwrap();
    let secrets = [directory, again].map(|d| d.tenant("acme").unwrap().tenant.secrets.clone());
    assert_eq!(secrets[0], secrets[1]);
    assert_eq!(secrets[0].previous.len(), 1);
}

#[tokio::test]
async fn a_row_removed_before_it_was_sealed_anew_stays_removed() {
    let (before, _) = rows_with_secrets().await;
    let (store, rows) = keeping_store();
    let both = format!("{NEW_KEY}\n{OLD_KEY}");
    let directory = Directory::load(store, before, limits(), ring(&both)).unwrap();
    let acme = directory.tenant("acme").unwrap().tenant.no;
    directory.delete_tenant(acme).await.unwrap();
    assert_eq!(directory.seal_anew().await, Ok(2), "the other tenant and its webhook");
    let recorded = |row: &&Row| row.key[0] == b'a';
    assert_eq!(stored(&rows).iter().filter(|row| !recorded(row)).count(), 2);
}

fn given(environment: Option<&str>, file: Option<&Path>) -> Given {
    Given {
        environment: environment.map(|text| Zeroizing::new(text.to_owned())),
        file: file.map(Path::to_owned),
    }
}

#[test]
fn a_key_is_made_once_kept_private_and_never_made_where_one_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let none = given(None, None);
    encryption_key::check(&none, dir.path()).expect("one would be made");
    let (made, origin) = encryption_key::obtain(&none, dir.path()).unwrap();
    encryption_key::announce(&made, dir.path()).unwrap();
    let path = dir.path().join("encryption.key");
    assert_eq!(origin, Origin::Made(path.clone()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (again, origin) = encryption_key::obtain(&none, dir.path()).unwrap();
    assert_eq!((again.current(), origin), (made.current(), Origin::DataDir(path.clone())));

    let missing = |given: &Given| {
        let told = [
            encryption_key::check(given, dir.path()).unwrap_err().to_string(),
            encryption_key::obtain(given, dir.path()).unwrap_err().to_string(),
        ];
        assert_eq!(told[0], told[1]);
        assert!(told[0].contains(&format!("encryption key {}", made.current())), "{}", told[0]);
    };
    missing(&given(Some(NEW_KEY), None));
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    missing(&none);
    assert!(!path.exists());
    // Moved out of the directory, and then replaced.
    encryption_key::obtain(&given(Some(&kept), None), dir.path()).unwrap();
    let both = format!("{NEW_KEY},{kept}");
    let (replaced, _) = encryption_key::obtain(&given(Some(&both), None), dir.path()).unwrap();
    encryption_key::announce(&replaced, dir.path()).unwrap();
    missing(&given(Some(NEW_KEY), None));
    encryption_key::settle(&replaced, dir.path()).unwrap();
    encryption_key::obtain(&given(Some(NEW_KEY), None), dir.path()).expect("it is needed no more");
}

#[test]
fn keys_that_cannot_be_used_are_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |given: &Given, sentence: &str| {
        let told = encryption_key::check(given, dir.path()).unwrap_err().to_string();
        assert!(told.contains(sentence), "{told}");
        assert!(!told.contains(&NEW_KEY[..8]), "{told}");
    };
    let file = dir.path().join("keys");
    refused(&given(Some("short"), None), "SENDERZ_ENCRYPTION_KEY must hold 1 to 16");
    refused(&given(Some(NEW_KEY), Some(&file)), "are both set");
    refused(&given(None, Some(&file)), "could not be used");
    for bad in ["", "nonsense", &format!("{NEW_KEY}\n{}", &NEW_KEY[1..]), &"A".repeat(1 << 20)] {
        std::fs::write(&file, bad).unwrap();
        refused(&given(None, Some(&file)), "openssl rand -base64 32");
    }
    // One that the orchestrator mounts is its affair; ours was private when it was made.
    std::fs::write(&file, NEW_KEY).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
    encryption_key::check(&given(None, Some(&file)), dir.path()).unwrap();
    std::fs::rename(&file, dir.path().join("encryption.key")).unwrap();
    refused(&given(None, None), "can be read by other users");
    std::fs::write(dir.path().join("encryption.ids"), "nonsense\n").unwrap();
    refused(&given(Some(NEW_KEY), None), "encryption.ids does not name encryption keys");
}
