//! SIGKILL at random moments, with a ledger kept outside the process that dies (`support::ledger`
//! says what is checked): under load, while it starts, five times in a row while it recovers, while
//! retention removes what has ended, and while signing secrets are rotated.
//!
//! `CRASH_CYCLES` sets the number of kills, `CRASH_SEED` the moments.

mod support;

use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use support::{
    Random, eventually,
    gateway::{Gateway, OPERATOR_KEY},
    http::Connection,
    ledger::{Death, Ledger},
    now, payload,
    probe::Probe,
    receiver::{Answer, Receiver},
    setting,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Load,
    /// Recovery, binding, first commits.
    Start,
    /// Five starts in a row, with a backlog to read back.
    Recovery,
    /// The logs are larger than they may be, so that every few commits blocks go.
    Retention,
    Rotation,
}

use Moment::{Load, Recovery, Retention, Rotation, Start};

/// In turns.
const MOMENTS: [Moment; 9] =
    [Load, Start, Load, Retention, Start, Rotation, Load, Retention, Recovery];
/// Kills of one [`Moment::Recovery`].
const IN_A_ROW: u32 = 5;
/// How long a start may take after them: they must not make it longer and longer.
const START: Duration = Duration::from_secs(10);
/// Far less than the load leaves behind.
const KEEPS_LITTLE: [(&str, &str); 1] = [("SENDERZ_STORE__RETENTION_BYTES", "1MiB")];

/// In which time the load leaves behind more than that.
const FILLS: Duration = Duration::from_secs(30);

/// What a run has and has done so far.
struct Rig {
    directory: tempfile::TempDir,
    receiver: Receiver,
    /// Whether the receiver refuses everything.
    refuses: Arc<AtomicBool>,
    ledger: Ledger,
    probe: Probe,
    random: Random,
    deaths: Vec<Death>,
    /// The id of the first event.
    oldest: String,
    /// Tenant a's signing secret as it was answered last.
    secret: String,
    rotations: usize,
    slowest_start: Duration,
}

#[test]
fn nothing_accepted_is_lost_when_the_process_is_killed_at_random_moments() {
    let cycles: usize = setting("CRASH_CYCLES").unwrap_or(18);
    let seed = setting("CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("cycles {cycles}, seed {seed}");
    let mut rig = Rig::new(seed);
    let first = Gateway::start(rig.data(), &[]);
    rig.ledger.prepare(&first, &rig.receiver);
    rig.secret = current_secret(&first);
    let oldest = first.event("a", &payload("message.sent", "msg_oldest"));
    rig.ledger.take_in("a", "msg_oldest", &oldest);
    rig.oldest = oldest;
    assert_eq!(first.stop(), 0);

    let mut counts = MOMENTS.map(|moment| (moment, 0));
    for at in (0..MOMENTS.len()).cycle() {
        if rig.deaths.len() >= cycles {
            break;
        }
        let before = rig.deaths.len();
        match MOMENTS[at] {
            Load => rig.kill_under_load(&[]),
            Start => rig.kill_while_it_starts(Duration::from_millis(120)),
            Recovery => rig.kill_while_it_recovers(),
            Retention => rig.kill_while_retention_removes(),
            Rotation => rig.kill_while_secrets_rotate(),
        }
        counts[at].1 += rig.deaths.len() - before;
    }
    let of = |moment| counts.iter().filter(|(m, _)| *m == moment).map(|(_, n)| n).sum::<usize>();

    let gateway = Gateway::start(rig.data(), &[]);
    let verdict = rig.ledger.judge(&gateway, &rig.receiver, &rig.deaths);
    assert!(rig.rotations > 0, "no secret was rotated");
    let what = format!(
        "kills {} ({} under load, {} during start-up, {} in fives during recovery, {} during \
         retention, {} during {} rotations of a secret), slowest start {:?}",
        rig.deaths.len(),
        of(Load),
        of(Start),
        of(Recovery),
        of(Retention),
        of(Rotation),
        rig.rotations,
        rig.slowest_start,
    );
    verdict.report(&rig.deaths, &what);
    assert_eq!(gateway.stop(), 0);
}

impl Rig {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let (flaky, refuses) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
        let script = Arc::clone(&refuses);
        // One request in ten fails once, so that kills find deliveries that wait for a retry, too.
        let receiver = Receiver::start(move |_| {
            let nth = flaky.fetch_add(1, Ordering::Relaxed);
            let fails = nth % 10 == 9 || script.load(Ordering::Relaxed);
            Answer::Status(if fails { 500 } else { 200 })
        });
        Self {
            probe: Probe::start(directory.path()),
            directory,
            receiver,
            refuses,
            ledger: Ledger::default(),
            random: Random::new(seed),
            deaths: Vec::new(),
            oldest: String::new(),
            secret: String::new(),
            rotations: 0,
            slowest_start: Duration::ZERO,
        }
    }

    fn data(&self) -> &Path {
        self.directory.path()
    }

    fn start(&mut self, env: &[(&str, &str)]) -> Gateway {
        let began = now();
        let gateway = Gateway::start(self.directory.path(), env);
        self.slowest_start = self.slowest_start.max(began.elapsed());
        gateway
    }

    fn note_death(&mut self) {
        self.deaths.push(Death::noted(&self.receiver, &self.probe));
    }

    fn kill_under_load(&mut self, env: &[(&str, &str)]) {
        let gateway = self.start(env);
        let life = Duration::from_millis(50 + self.random.below(350));
        let api = gateway.api;
        self.ledger.load(api, || {
            std::thread::sleep(life);
            gateway.kill();
        });
        self.note_death();
    }

    /// The first time, a busy machine may take a while to fill more than is kept.
    fn kill_while_retention_removes(&mut self) {
        let gateway = self.start(&KEEPS_LITTLE);
        let life = Duration::from_millis(50 + self.random.below(350));
        let (api, oldest) = (gateway.api, format!("/v1/events/{}", self.oldest));
        self.ledger.load(api, || {
            eventually("retention removes the oldest event", FILLS, || {
                (gateway.ask("GET", &oldest, Some("a"), b"").status == 404).then_some(())
            });
            std::thread::sleep(life);
            gateway.kill();
        });
        self.note_death();
    }

    fn kill_while_it_starts(&mut self, longest: Duration) {
        let mut child = Gateway::command(self.data(), &[])
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary was built with the tests");
        let longest = u64::try_from(longest.as_millis()).expect("it is short");
        std::thread::sleep(Duration::from_millis(self.random.below(longest)));
        child.kill().expect("it runs");
        child.wait().expect("it was killed");
        self.note_death();
    }

    fn kill_while_it_recovers(&mut self) {
        self.refuses.store(true, Ordering::Relaxed);
        self.kill_under_load(&[]);
        let began = now();
        let gateway = Gateway::start(self.data(), &[]);
        let took = began.elapsed();
        gateway.kill();
        self.note_death();
        for _ in 0..IN_A_ROW {
            self.kill_while_it_starts(took);
        }
        self.refuses.store(false, Ordering::Relaxed);
        let gateway = self.start(&[]);
        assert!(self.slowest_start < START, "{:?} for a start", self.slowest_start);
        gateway.kill();
        self.note_death();
    }

    /// A secret that was answered signs after the restart; one whose answer was lost may.
    fn kill_while_secrets_rotate(&mut self) {
        let gateway = self.start(&[]);
        let life = Duration::from_millis(50 + self.random.below(150));
        let api = gateway.api;
        let known = std::thread::scope(|scope| {
            let rotating = scope.spawn(|| rotate_until_it_dies(api));
            self.ledger.load(api, || {
                std::thread::sleep(life);
                gateway.kill();
            });
            rotating.join().expect("it does not panic")
        });
        self.note_death();
        self.rotations += known.len();
        known.iter().for_each(|secret| self.ledger.know("a", secret));
        let gateway = self.start(&[]);
        let current = current_secret(&gateway);
        let last = known.last().unwrap_or(&self.secret);
        let is_older = known.contains(&current) || current == self.secret;
        assert!(current == *last || !is_older, "a rotation that was answered is undone");
        if current != *last {
            self.ledger.know("a", &current);
        }
        self.secret = current;
        gateway.kill();
        self.note_death();
    }
}

/// The secrets that it answered, one rotation after the other. What was rotated stops to sign, so
/// that there are never too many.
fn rotate_until_it_dies(api: SocketAddr) -> Vec<String> {
    let key = format!("Bearer {OPERATOR_KEY}");
    let headers = [
        ("authorization", key.as_str()),
        ("senderz-tenant", "a"),
        ("content-type", "application/json"),
    ];
    let mut known = Vec::new();
    let Ok(mut connection) = Connection::open(api) else { return known };
    let path = "/v1/signing-secret/rotate";
    while let Ok(answer) = connection.request("POST", path, &headers, br#"{"overlap":"0s"}"#) {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        known.push(answer.json()["secret"].as_str().expect("shown").to_owned());
    }
    known
}

fn current_secret(gateway: &Gateway) -> String {
    let shown = gateway.get("/v1/signing-secret", "a");
    shown["secret"].as_str().expect("shown").to_owned()
}
