//! The gateway under test: the real binary.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Lines},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::Context as _;

use super::{GATEWAY_CPU, client::Client, pinned, tls, unpinned};

pub(crate) const OPERATOR_KEY: &str = "szk_operator_bench0bench0bench0bench0bench0bench0";

pub(crate) struct Gateway {
    child: Child,
    pub(crate) api: SocketAddr,
    ops: SocketAddr,
}

impl Gateway {
    /// Starts `binary`, or the one that was built with the benchmark, with one shard on a processor
    /// of its own. `certificates` is the directory with the receiver's; `settings` are variables of
    /// the environment.
    pub(crate) fn start(
        binary: Option<&Path>,
        data_dir: &Path,
        certificates: &Path,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let mut command = command(binary, data_dir, certificates, settings);
        command.env("SENDERZ_RUNTIME__SHARDS", "1");
        Self::listening(pinned(GATEWAY_CPU, || command.spawn())?)
    }

    /// As it comes: on every processor, with a shard for each.
    pub(crate) fn start_as_installed(
        binary: Option<&Path>,
        data_dir: &Path,
        certificates: &Path,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let mut command = command(binary, data_dir, certificates, settings);
        Self::listening(unpinned(|| command.spawn())?)
    }

    /// It says where it listens once it serves: recovery is over by then.
    fn listening(mut child: Child) -> anyhow::Result<Self> {
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        let addresses = address(&mut lines, "api").and_then(|api| {
            let ops = address(&mut lines, "metrics")?;
            Ok((api, ops))
        });
        std::thread::spawn(move || lines.for_each(drop));
        let (api, ops) = addresses?;
        Ok(Self { child, api, ops })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The sum of the series of `/metrics` that begin so, a second old at most.
    pub(crate) fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let text = Client::open(self.ops)?.get("/metrics")?;
        let values = text.lines().filter_map(|line| line.strip_prefix(series));
        values.map(|rest| Ok(rest.rsplit(' ').next().unwrap_or_default().parse::<f64>()?)).sum()
    }

    /// Ends it as its operator would, so that its data directory is whole. (Dropping it kills it.)
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

fn command(
    binary: Option<&Path>,
    data_dir: &Path,
    certificates: &Path,
    settings: &[(&str, String)],
) -> Command {
    let built = Path::new(env!("CARGO_BIN_EXE_senderz-gateway"));
    let mut command = Command::new(binary.unwrap_or(built));
    command
        .arg("serve")
        .env("SENDERZ_DATA_DIR", data_dir)
        .env("SENDERZ_OPERATOR_KEY", OPERATOR_KEY)
        .env("SENDERZ_SERVER__LISTEN", "127.0.0.1:0")
        .env("SENDERZ_OPS__LISTEN", "127.0.0.1:0")
        .env("SENDERZ_DELIVERY__TENANT_SHARE", "1.0")
        .env("SENDERZ_SECURITY__ALLOW_NETWORKS", "127.0.0.0/8")
        .env("SENDERZ_TLS__CA_FILE", tls::ca_file(certificates))
        .env("SENDERZ_STORE__DISK_HEADROOM", "1MiB")
        .env("SENDERZ_LOG__LEVEL", "error")
        .envs(settings.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn address(lines: &mut Lines<BufReader<ChildStdout>>, word: &str) -> anyhow::Result<SocketAddr> {
    loop {
        let line = lines.next().context("the gateway ended before it listened")??;
        if let Some(url) = line.trim().strip_prefix(word) {
            let url = url.trim().trim_start_matches("http://");
            return Ok(url.split('/').next().unwrap_or_default().parse()?);
        }
    }
}
