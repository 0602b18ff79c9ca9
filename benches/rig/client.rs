//! The producers' side: HTTP/1.1 clients over one kept connection each, a blocking one for setting
//! up and an asynchronous one for load.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub(crate) fn post_json(
        &mut self,
        path: &str,
        tenant: Option<&str>,
        body: &serde_json::Value,
    ) -> anyhow::Result<()> {
        let body = body.to_string();
        let (status, answer) = self.post(path, tenant, "application/json", body.as_bytes())?;
        ensure!(
            (200..300).contains(&status),
            "{path}: {status} {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }

    pub(crate) fn post(
        &mut self,
        path: &str,
        tenant: Option<&str>,
        content_type: &str,
        body: &[u8],
    ) -> anyhow::Result<(u16, Vec<u8>)> {
        let tenant = tenant.map(|t| format!("senderz-tenant: {t}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\n{tenant}content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            super::gateway::OPERATOR_KEY,
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.stream.get_mut().write_all(body)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("a status line")?.parse()?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status, answer))
    }
}

/// Many of these share one thread: waking a thread for each answer would be charged to the gateway,
/// who wakes it.
pub(crate) struct Feeder {
    stream: tokio::net::TcpStream,
    answer: Vec<u8>,
}

impl Feeder {
    pub(crate) async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = tokio::net::TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(4096) })
    }

    /// Sends a whole request; gives the status and the answer as it came.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the gateway closed the connection");
            }
            if let Some(status) = whole(&self.answer)? {
                return Ok((status, &self.answer));
            }
        }
    }
}

/// A whole request, ready to be sent often.
pub(crate) fn request(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        super::gateway::OPERATOR_KEY,
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// An event's payload of exactly `size` bytes, at least 220. The number stands after `msg_`, in
/// twenty digits.
pub(crate) fn payload(kind: &str, number: usize, size: usize) -> String {
    let reason =
        if matches!(kind, "message.failed" | "message.blocked") { "\"carrier\"" } else { "null" };
    let head = format!(
        r#"{{"type":"{kind}","timestamp":"2026-11-23T04:20:00.123Z","data":{{"id":"msg_{number:020}","channel":"whatsapp","recipient":"+15555550100","status_reason":{reason},"note":""#
    );
    let filler = "x".repeat(size - head.len() - 3);
    format!("{head}{filler}\"}}}}")
}

/// The status, once head and body have come.
fn whole(answer: &[u8]) -> anyhow::Result<Option<u16>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head.split(' ').nth(1).context("a status line")?.parse()?;
    let length = head.lines().filter_map(|line| line.split_once(':'));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map(|(_, value)| value.trim()).next().unwrap_or("0").parse()?;
    Ok((answer.len() >= end + 4 + length).then_some(status))
}
