//! Commands beside a gateway whose listener speaks TLS: they know it by the certificate in its own
//! configuration, and nobody else by it.

mod support;

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use support::{eventually, gateway::OPERATOR_KEY};

struct Certificate {
    chain: String,
    key: String,
}

/// For a name that nobody here is called by.
fn certificate(dir: &Path, name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["hooks.example.com".to_owned()]);
    let made = made.expect("a name is all it takes");
    let (chain, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&chain, made.cert.pem()).expect("a directory of ours");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a directory of ours");
    let text = |path: &Path| path.display().to_string();
    Certificate { chain: text(&chain), key: text(&key) }
}

struct Served {
    environment: Vec<(&'static str, String)>,
    child: Child,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    fn start(dir: &Path, certificate: &Certificate) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listen = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let environment = vec![
            ("SENDERZ_DATA_DIR", dir.join("data").display().to_string()),
            ("SENDERZ_BACKUP__DIR", dir.join("backups").display().to_string()),
            ("SENDERZ_OPERATOR_KEY", OPERATOR_KEY.to_owned()),
            ("SENDERZ_SERVER__LISTEN", listen),
            ("SENDERZ_SERVER__TLS_CERTIFICATE", certificate.chain.clone()),
            ("SENDERZ_SERVER__TLS_KEY", certificate.key.clone()),
            ("SENDERZ_OPS__LISTEN", String::new()),
            ("SENDERZ_STORE__DISK_HEADROOM", "1MiB".to_owned()),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        command.arg("serve").envs(environment.clone()).stdin(Stdio::null()).stdout(Stdio::null());
        Self { environment, child: command.spawn().expect("the binary was built with the tests") }
    }

    fn run(&self, arguments: &[&str], more: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        command.args(arguments).envs(self.environment.clone()).envs(more.iter().copied());
        command.output().expect("the binary was built with the tests")
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn commands_know_their_gateway_by_its_certificate_and_take_no_other() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (ours, other) = (certificate(dir.path(), "ours"), certificate(dir.path(), "other"));
    let gateway = Served::start(dir.path(), &ours);
    eventually("it serves", Duration::from_secs(60), || {
        gateway.run(&["tenants", "list"], &[]).status.success().then_some(())
    });
    let backup = gateway.run(&["backup"], &[]);
    assert!(backup.status.success(), "{}", told(&backup));

    let (_, listen) = &gateway.environment[3];
    let url = format!("https://{listen}");
    let named = ["tenants", "list", "--url", &url];
    for (what, arguments, more) in [
        ("another certificate", &named[..2], ("SENDERZ_SERVER__TLS_CERTIFICATE", &*other.chain)),
        ("nobody vouches for it", &named, ("SENDERZ_TLS__CA_FILE", "")),
        ("it is for another name", &named, ("SENDERZ_TLS__CA_FILE", &ours.chain)),
    ] {
        let refused = gateway.run(arguments, &[more]);
        assert_eq!(refused.status.code(), Some(1), "{what}: {}", told(&refused));
        assert!(told(&refused).contains("is not to be trusted"), "{what}: {}", told(&refused));
    }
}
