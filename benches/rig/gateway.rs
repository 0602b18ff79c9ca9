//! The gateway under test: the real binary, one shard, on a processor of its own.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

use super::{GATEWAY_CPU, pinned, tls};

pub(crate) const OPERATOR_KEY: &str = "szk_operator_bench0bench0bench0bench0bench0bench0";

pub(crate) struct Gateway {
    child: Child,
    pub(crate) api: SocketAddr,
}

impl Gateway {
    /// Starts `binary`, or the one that was built with the benchmark. `certificates` is the
    /// directory with the receiver's; `settings` are variables of the environment.
    pub(crate) fn start(
        binary: Option<&Path>,
        data_dir: &Path,
        certificates: &Path,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let built = Path::new(env!("CARGO_BIN_EXE_senderz-gateway"));
        let mut command = Command::new(binary.unwrap_or(built));
        command
            .arg("serve")
            .env("SENDERZ_DATA_DIR", data_dir)
            .env("SENDERZ_OPERATOR_KEY", OPERATOR_KEY)
            .env("SENDERZ_SERVER__LISTEN", "127.0.0.1:0")
            .env("SENDERZ_OPS__LISTEN", "127.0.0.1:0")
            .env("SENDERZ_RUNTIME__SHARDS", "1")
            .env("SENDERZ_DELIVERY__TENANT_SHARE", "1.0")
            .env("SENDERZ_SECURITY__ALLOW_NETWORKS", "127.0.0.0/8")
            .env("SENDERZ_TLS__CA_FILE", tls::ca_file(certificates))
            .env("SENDERZ_STORE__DISK_HEADROOM", "1MiB")
            .env("SENDERZ_LOG__LEVEL", "error")
            .envs(settings.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = pinned(GATEWAY_CPU, || command.spawn())?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        let api = loop {
            let line = lines.next().context("the gateway ended before it listened")??;
            if let Some(url) = line.trim().strip_prefix("api") {
                break url.trim().trim_start_matches("http://").parse()?;
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, api })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as its operator would, so that its data directory is whole.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the gateway ended with {status}");
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Already ended where it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
