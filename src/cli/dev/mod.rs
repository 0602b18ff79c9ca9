//! `dev`: the gateway, a receiver and example events in one process.
//!
//! Everything goes the way that it goes in production: tenants and webhooks are made through the
//! API, events come in over HTTP, deliveries go out over TCP, and the receiver checks both
//! signatures. Only loopback is reached.

mod examples;
mod play;

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Exit, Global,
    client::{BaseUrl, Client, ClientError, read_key},
    interrupted, logging, output,
    sink::{self, SinkHandle, SinkOptions, share},
};
use crate::{
    app::{self, Gateway, GivenKeys},
    config::{Config, FlagSetting, Listen, Sources},
    directory::OperatorKey,
    shutdown::Alarm,
    tenant::TenantId,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Play this file of events (a line each: tenant and payload) instead of a trickle of examples
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// End when every delivery has ended; 0 only if all counts agree and every signature was right
    #[arg(long, requires = "events")]
    exit: bool,
    /// Share of requests that the receiver answers with 500; 0.35 without a file
    #[arg(long, value_parser = share)]
    fail_rate: Option<f64>,
}

/// Without a file, enough fails for a newcomer to see retries.
const EXAMPLE_FAIL_RATE: f64 = 0.35;
/// How often an example event is sent.
const EXAMPLE_EVERY: Duration = Duration::from_millis(700);

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let mut sources = dev_sources(global.sources(), args.exit);
    let mut config = crate::config::load(&sources)?;
    // Apart from what `serve` keeps: examples must never meet a customer's webhooks.
    config.data_dir = config.data_dir.join("dev");
    let scratch = args.exit.then(|| Scratch::of(&mut config));
    // As it is shown: with the directory that is used.
    sources.flags.push(dev_flag("data_dir", config.data_dir.display()));
    let (_, explained) = crate::config::load_explained(&sources)?;
    let _logging = logging::start(&config.log);
    let alarm = Alarm::new();
    let runtime = app::runtime(&alarm).context("cannot start the runtime")?;
    let done = runtime.block_on(async {
        let stage = Stage::set_up(config, &args, alarm).await?;
        stage.gateway.explain(&explained);
        match (&args.events, args.exit) {
            (Some(file), true) => stage.play_and_exit(file).await,
            (Some(file), false) => {
                play::send_file(&stage, file).await?;
                stage.until_interrupted().await
            }
            (None, _) => stage.show_examples().await,
        }
    });
    drop(scratch);
    match done {
        Err(error) => match error.downcast_ref::<app::StartError>() {
            Some(start) => {
                let exit = super::serve::exit_of(start);
                output::note(format_args!("error: {error:#}"));
                Ok(exit)
            }
            None => Err(error),
        },
        ok => ok,
    }
}

/// What `dev` changes beside what the user asks for: loopback may be reached, and a play that ends
/// takes free ports, so that it runs beside another gateway.
fn dev_sources(mut sources: Sources, exit: bool) -> Sources {
    let mut own = vec![dev_flag("security.allow_networks", "127.0.0.0/8")];
    if exit {
        own.push(dev_flag("server.listen", "127.0.0.1:0"));
        own.push(dev_flag("ops.listen", "127.0.0.1:0"));
        own.push(dev_flag("log.level", "warn"));
    }
    // First, so that what was typed wins.
    own.append(&mut sources.flags);
    sources.flags = own;
    sources
}

fn dev_flag(key: &str, value: impl ToString) -> FlagSetting {
    FlagSetting { flag: "dev", key: key.to_owned(), value: value.to_string() }
}

/// A data directory for one play, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn of(config: &mut Config) -> Self {
        config.data_dir = config.data_dir.join(format!("play-{}", std::process::id()));
        Self(config.data_dir.clone())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            output::note(format_args!("{} could not be removed: {error}", self.0.display()));
        }
        // Its parents too, where nothing else is in them.
        for parent in self.0.ancestors().skip(1).take(2) {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

/// A running gateway and a receiver beside it.
struct Stage {
    gateway: Gateway,
    receiver: SinkHandle,
    client: Client,
}

impl Stage {
    async fn set_up(config: Config, args: &Args, alarm: Alarm) -> anyhow::Result<Self> {
        let fail_rate = args.fail_rate.unwrap_or(match args.events {
            Some(_) => 0.0,
            None => EXAMPLE_FAIL_RATE,
        });
        let receiver = sink::start(SinkOptions {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            fail_rate,
            ..SinkOptions::default()
        })
        .context("cannot start the receiver")?;
        let given = GivenKeys::of_process();
        let gateway = Gateway::start(config, &given, alarm).await?;
        let key = match (&gateway.operator_key, given.operator) {
            (OperatorKey::Environment, Some(given)) => given,
            (OperatorKey::Made(key), _) => Zeroizing::new(key.expose().to_owned()),
            _ => read_key(&gateway.data_dir.join("operator.key"))?,
        };
        let base = match &gateway.api {
            Listen::Tcp(address) => BaseUrl::Tcp { authority: address.to_string() },
            Listen::Unix(path) => BaseUrl::Unix(path.clone()),
        };
        anyhow::ensure!(!gateway.has_tls, "dev speaks plain HTTP: unset server.tls_certificate");
        Ok(Self { gateway, receiver, client: Client::with_key(base, key) })
    }

    /// Makes a tenant with a webhook on the receiver, or takes the one that an earlier run made.
    async fn tenant(&self, tenant: &str) -> anyhow::Result<()> {
        let body = json!({"id": tenant, "name": tenant});
        let client = self.client.for_tenant(tenant.parse::<TenantId>()?);
        let secret = match self.client.post("/v1/tenants", &body).await {
            Ok(made) => made["signing_secret"].clone(),
            Err(ClientError::Problem(problem)) if problem.status == http::StatusCode::CONFLICT => {
                let shown = client.get("/v1/signing-secret").await?;
                shown["secret"].clone()
            }
            Err(error) => return Err(error.into()),
        };
        let secret = secret.as_str().context("the API shows the signing secret")?;
        self.receiver.set_secret(tenant, secret.parse()?);
        let url = format!("http://{}/t/{tenant}/hook", self.receiver.addr);
        let standing = client.get("/v1/webhooks").await?;
        let ours = format!("/t/{tenant}/hook");
        let ours =
            |webhook: &&Value| webhook["url"].as_str().is_some_and(|url| url.ends_with(&ours));
        let found = standing["data"].as_array().into_iter().flatten().find(ours);
        match found.and_then(|webhook| webhook["id"].as_str()) {
            // The receiver has another port in each run.
            Some(id) => {
                let path = format!("/v1/webhooks/{id}");
                let body = json!({"url": url}).to_string().into();
                client.request(http::Method::PATCH, &path, Some(body), None).await?;
            }
            None => {
                client.post("/v1/webhooks", &json!({"url": url, "events": ["*"]})).await?;
            }
        }
        Ok(())
    }

    /// Sends example events and tells what becomes of them, until interrupted.
    async fn show_examples(self) -> anyhow::Result<Exit> {
        app::banner(&self.gateway);
        output::line(&format!(
            "  receiver http://{} (fails some requests on purpose)\n\n\
             Sending example events of tenant `{}`. Ctrl-C ends it.\n\
             Look closer: {}\n",
            self.receiver.addr,
            examples::TENANT,
            self.look_closer()
        ))?;
        self.tenant(examples::TENANT).await?;
        if let Some(link) = self.portal_link(examples::TENANT).await? {
            output::line(&format!("Open the portal (the link works once):\n  {link}\n"))?;
        }
        let examples = examples::run(&self);
        let done = tokio::select! {
            done = examples => done,
            ended = self.ended() => ended,
        };
        self.stop().await?;
        done.map(|()| Exit::Ok)
    }

    /// A way into the tenant's portal for one browser; none where no browser gets there.
    async fn portal_link(&self, tenant: &str) -> anyhow::Result<Option<String>> {
        if self.gateway.portal().is_none() {
            return Ok(None);
        }
        let client = self.client.for_tenant(tenant.parse::<TenantId>()?);
        let link = client.post("/v1/portal/sessions", &json!({"expires_in": "1h"})).await?;
        Ok(link["url"].as_str().map(str::to_owned))
    }

    /// A command that finds this gateway wherever it is typed.
    fn look_closer(&self) -> String {
        let url = match &self.gateway.api {
            Listen::Tcp(address) => format!("http://{address}"),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        };
        let key = match &self.gateway.operator_key {
            OperatorKey::Environment => String::new(),
            _ => format!(" --key-file {}", self.gateway.data_dir.join("operator.key").display()),
        };
        let tenant = examples::TENANT;
        // As it was called: it need not be on the path.
        let own = std::env::args().next().unwrap_or_else(|| "senderz-gateway".to_owned());
        format!("{own} deliveries list --tenant {tenant} --url {url}{key}")
    }

    async fn until_interrupted(self) -> anyhow::Result<Exit> {
        app::banner(&self.gateway);
        let ended = self.ended().await;
        self.stop().await?;
        ended.map(|()| Exit::Ok)
    }

    async fn play_and_exit(self, file: &std::path::Path) -> anyhow::Result<Exit> {
        let offered = play::send_file(&self, file).await?;
        let counts = tokio::select! {
            counts = play::count_when_ended(&self, &offered) => counts?,
            ended = self.ended() => {
                ended?;
                anyhow::bail!("interrupted before every delivery had ended")
            }
        };
        self.stop().await?;
        Ok(if counts.report() { Exit::Ok } else { Exit::Failure })
    }

    /// Returns when the user asks for the end, or with an error when a part of the gateway dies.
    async fn ended(&self) -> anyhow::Result<()> {
        tokio::select! {
            () = interrupted() => Ok(()),
            what = self.gateway.failure() => anyhow::bail!("the gateway stopped: {what}"),
        }
    }

    async fn stop(self) -> anyhow::Result<Exit> {
        self.gateway.drain().await;
        self.receiver.stop();
        Ok(Exit::Ok)
    }

    /// One page of the API after the other, until the last.
    async fn pages(
        &self,
        tenant: &str,
        path: &str,
        mut each: impl FnMut(&Value),
    ) -> anyhow::Result<()> {
        let client = self.client.for_tenant(tenant.parse::<TenantId>()?);
        let mut cursor: Option<String> = None;
        loop {
            let next = super::client::with_query(
                path,
                &[("limit", Some("100".to_owned())), ("cursor", cursor.take())],
            );
            let page = client.get(&next).await?;
            page["data"].as_array().into_iter().flatten().for_each(&mut each);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(()),
            }
        }
    }
}
