//! A browser of the fewest habits: it keeps a cookie, follows redirects, and says where a form stood.

use std::net::SocketAddr;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    gateway::Gateway,
    http::{Connection, Response},
};

/// By which name the gateway is reached; an address, so that it is always ours.
pub(crate) const HOST: &str = "127.0.0.1:8080";
pub(crate) const ORIGIN: &str = "http://127.0.0.1:8080";

pub(crate) struct House {
    pub(crate) gateway: Gateway,
    _data: TempDir,
}

impl House {
    pub(crate) fn open(env: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let gateway = Gateway::start(data.path(), env);
        Self { gateway, _data: data }
    }

    /// Makes a tenant; answers its first key.
    pub(crate) fn tenant(&self, id: &str) -> String {
        let made = self.gateway.post("/v1/tenants", None, &json!({"id": id, "name": id}));
        made["api_key"].as_str().expect("shown once").to_owned()
    }

    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::to(self.gateway.api)
    }

    /// Somebody who has logged in with this key.
    pub(crate) fn logged_in(&self, key: &str) -> Visitor {
        let mut visitor = self.visitor();
        let entered = visitor.post("/portal/login", &[("key", key)]);
        assert_eq!(entered.status, 303, "{}", text(&entered));
        visitor
    }
}

pub(crate) struct Visitor {
    to: SocketAddr,
    pub(crate) cookie: Option<String>,
}

impl Visitor {
    pub(crate) fn to(to: SocketAddr) -> Self {
        Self { to, cookie: None }
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.ask("GET", path, &[], b"")
    }

    /// A page that has to be there.
    pub(crate) fn page(&mut self, path: &str) -> String {
        let page = self.get(path);
        assert_eq!(page.status, 200, "{path}: {}", text(&page));
        text(&page)
    }

    /// Posts a form as a page of ours would.
    pub(crate) fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.post_from(path, fields, &[("origin", ORIGIN)])
    }

    /// Posts a form and goes where that leads.
    pub(crate) fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.post(path, fields);
        assert_eq!(answer.status, 303, "{path}: {}", text(&answer));
        let next = answer.header("location").expect("where to go on").to_owned();
        self.page(&next)
    }

    pub(crate) fn post_from(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Response {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let form = ("content-type", "application/x-www-form-urlencoded");
        let headers: Vec<_> = [form].into_iter().chain(headers.iter().copied()).collect();
        self.ask("POST", path, &headers, body.finish().as_bytes())
    }

    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut all = headers.to_vec();
        if !headers.iter().any(|(name, _)| *name == "host") {
            all.push(("host", HOST));
        }
        let cookie = self.cookie.clone();
        all.extend(cookie.as_deref().map(|cookie| ("cookie", cookie)));
        let answer = Connection::open(self.to)
            .and_then(|mut connection| connection.request(method, path, &all, body))
            .expect("the gateway answers");
        if let Some(set) = answer.header("set-cookie") {
            let pair = set.split(';').next().unwrap_or_default();
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        answer
    }
}

pub(crate) fn text(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}
