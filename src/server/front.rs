//! The front: which part of the gateway answers a request.
//!
//! The two ingest routes go to ingest, everything else to the API's router. Paths are compared as
//! they came: nothing is decoded, joined or shortened, so that no two spellings mean one resource.
//! A panic in a handler is a 500 for that request and nothing more.
//!
//! Every request has a name ([`RequestIds`]): its answer carries it, and so does what the log says
//! while the API answers it. What ingest accepts is not logged, so it costs ingest a header.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, Version, header};
use tower_service::Service as _;
use tracing::Instrument as _;

use crate::{
    api,
    ingest::{
        Ingest,
        body::{self, BodyError, Budget},
        problem::{Code, Problem},
    },
    metrics::HTTP_REQUESTS,
    request_id::{REQUEST_ID, RequestId, RequestIds},
};

/// Bodies of API requests held at once. Their own budget: what is sent to the API without a key
/// cannot crowd out events.
const API_MAX_PENDING: usize = 16 * 1024 * 1024;

/// The service that a listener serves.
#[derive(Debug)]
pub struct Front {
    ingest: Arc<Ingest>,
    api: axum::Router,
    api_pending: Arc<Budget>,
    body_timeout: Duration,
    ids: RequestIds,
    requests: Requests,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination<'p> {
    Event {
        tenant: &'p str,
    },
    Batch,
    Router,
    /// An ingest path with a method that it does not have.
    NoSuchMethod {
        allow: &'static str,
    },
}

/// The `route` labels that are counted here. The router counts what reaches it itself, by the
/// pattern of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    IngestEvent,
    IngestBatch,
    /// Refused before anybody knew what it was about.
    Other,
}

impl Route {
    const ALL: [(Route, &'static str); 3] = [
        (Self::IngestEvent, "ingest_event"),
        (Self::IngestBatch, "ingest_batch"),
        (Self::Other, "other"),
    ];
}

/// An answer, and under which route it is still to be counted; none where the router has done it.
type Answered = (Response<Body>, Option<Route>);

impl<'p> Destination<'p> {
    fn of(method: &Method, path: &'p str) -> Self {
        if path == "/v1/events" {
            return match *method {
                Method::POST => Self::Batch,
                Method::GET | Method::HEAD | Method::DELETE => Self::Router,
                _ => Self::NoSuchMethod { allow: "DELETE, GET, HEAD, POST" },
            };
        }
        let tenant = path
            .strip_prefix("/v1/tenants/")
            .and_then(|rest| rest.strip_suffix("/events"))
            .filter(|tenant| !tenant.is_empty() && !tenant.contains('/'));
        match tenant {
            Some(tenant) if *method == Method::POST => Self::Event { tenant },
            Some(_) => Self::NoSuchMethod { allow: "POST" },
            None => Self::Router,
        }
    }

    fn route(self) -> Route {
        match self {
            Self::Event { .. } => Route::IngestEvent,
            Self::Batch => Route::IngestBatch,
            Self::Router | Self::NoSuchMethod { .. } => Route::Other,
        }
    }
}

impl Front {
    /// `body_timeout` is for the API's bodies; ingest has its own.
    pub fn new(ingest: Arc<Ingest>, api: axum::Router, body_timeout: Duration) -> Self {
        Self {
            ingest,
            api,
            api_pending: Budget::new(API_MAX_PENDING),
            body_timeout,
            ids: RequestIds::default(),
            requests: Requests::new(),
        }
    }

    /// Answers one request; every request is counted once.
    pub async fn serve<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let version = request.version();
        let path = request.uri().path().to_owned();
        let destination = Destination::of(request.method(), &path);
        let id = self.ids.of(request.headers());
        let answered = caught(self.answer(destination, &id, request)).await;
        let (mut response, uncounted) = answered.unwrap_or_else(|_| {
            tracing::error!(request = %id, ?destination, "a request's handler panicked");
            let problem = Problem::new(Code::Internal, "the request could not be handled");
            let response = problem.closing().into_response(version).map(Body::new);
            (response, Some(destination.route()))
        });
        if let Some(route) = uncounted {
            self.requests.count(route, response.status());
        }
        let status = response.status().as_u16();
        tracing::debug!(request = %id, ?destination, status, "request answered");
        response.headers_mut().insert(REQUEST_ID, id.into_header());
        response
    }

    async fn answer<B>(
        &self,
        destination: Destination<'_>,
        id: &RequestId,
        mut request: Request<B>,
    ) -> Answered
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        if let Err(problem) = check_host(&request) {
            let response = problem.into_response(request.version()).map(Body::new);
            return (response, Some(destination.route()));
        }
        let response = match destination {
            Destination::Event { tenant } => {
                self.ingest.event(tenant, request).await.map(Body::new)
            }
            Destination::Batch => self.ingest.batch(request).await.map(Body::new),
            Destination::Router => {
                // Of the highest level, so that no level of the log leaves it out.
                let named = tracing::error_span!("request", %id);
                request.extensions_mut().insert(id.clone());
                return self.route(request).instrument(named).await;
            }
            Destination::NoSuchMethod { allow } => {
                let detail = "this resource takes only the methods in the header `Allow`";
                let problem = Problem::new(Code::MethodNotAllowed, detail);
                let version = request.version();
                body::linger(request.into_body());
                Problem { allow: Some(allow), ..problem }.into_response(version).map(Body::new)
            }
        };
        (response, Some(destination.route()))
    }

    /// Hands a request to the router, its body read whole: small, in time, and counted.
    async fn route<B>(&self, request: Request<B>) -> Answered
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let (head, mut body) = request.into_parts();
        let read = if body.is_end_stream() {
            Ok(Bytes::new())
        } else {
            body::read(&mut body, api::MAX_BODY, &self.api_pending, self.body_timeout).await
        };
        match read {
            Ok(bytes) => {
                let request = Request::from_parts(head, Body::from(bytes));
                match self.api.clone().call(request).await {
                    Ok(response) => (response, None),
                    Err(never) => match never {},
                }
            }
            Err(e) => {
                body::linger(body);
                (unread(e).into_response(head.version).map(Body::new), Some(Route::Other))
            }
        }
    }
}

fn unread(e: BodyError) -> Problem {
    let problem = match e {
        BodyError::TooLarge => {
            Problem::new(Code::PayloadTooLarge, format!("a body may have {} bytes", api::MAX_BODY))
        }
        BodyError::NoRoom => {
            Problem::new(Code::Overloaded, "too many requests are being read; try again")
                .retry_after(Duration::from_secs(1))
        }
        BodyError::Late => {
            Problem::new(Code::Timeout, "the body did not arrive within server.body_timeout")
        }
        BodyError::Broken => {
            Problem::new(Code::BadRequest, "the body broke off or is badly framed")
        }
    };
    problem.closing()
}

/// HTTP/1.1 requires exactly one `Host` (RFC 9112, section 3.2); hyper leaves that to us.
fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let is_good = match request.version() {
        Version::HTTP_11 => hosts == 1,
        _ => hosts <= 1,
    };
    if is_good {
        return Ok(());
    }
    Err(Problem::new(Code::BadRequest, "send exactly one Host header").closing())
}

/// The future's output, or that it panicked.
async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        // After a panic the future is not polled again, only dropped.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

#[derive(Debug)]
struct Panicked;

/// `senderz_http_requests_total`, its handles looked up once. Only series that can count are made:
/// nothing here answers with 1xx or 3xx, and `other` is never a success.
struct Requests([[metrics::Counter; 3]; Route::ALL.len()]);

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Requests")
    }
}

impl Requests {
    fn new() -> Self {
        Self(Route::ALL.map(|(route, name)| {
            ["2xx", "4xx", "5xx"].map(|class| {
                if route == Route::Other && class == "2xx" {
                    return metrics::Counter::noop();
                }
                metrics::counter!(HTTP_REQUESTS, "route" => name, "code_class" => class)
            })
        }))
    }

    fn count(&self, route: Route, status: http::StatusCode) {
        let class = match status.as_u16() {
            ..400 => 0,
            400..500 => 1,
            500.. => 2,
        };
        self.0[route as usize][class].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_routed_as_they_are_spelled() {
        let router = Destination::Router;
        for (method, path, expected) in [
            ("POST", "/v1/events", Destination::Batch),
            ("GET", "/v1/events", router),
            ("HEAD", "/v1/events", router),
            ("DELETE", "/v1/events", router),
            ("PUT", "/v1/events", Destination::NoSuchMethod { allow: "DELETE, GET, HEAD, POST" }),
            (
                "OPTIONS",
                "/v1/events",
                Destination::NoSuchMethod { allow: "DELETE, GET, HEAD, POST" },
            ),
            ("POST", "/v1/events/", router),
            ("POST", "/v1/events/evt_1", router),
            ("POST", "/v1/tenants/acme/events", Destination::Event { tenant: "acme" }),
            ("POST", "/v1/tenants/%2e%2e/events", Destination::Event { tenant: "%2e%2e" }),
            ("POST", "/v1/tenants/../events", Destination::Event { tenant: ".." }),
            ("GET", "/v1/tenants/acme/events", Destination::NoSuchMethod { allow: "POST" }),
            ("POST", "/v1/tenants//events", router),
            ("POST", "/v1/tenants/events", router),
            ("POST", "/v1/tenants/a/b/events", router),
            ("POST", "/v1/tenants/acme/events/", router),
            ("POST", "/v1/tenants/acme%2Fevents", router),
            ("POST", "//v1/events", router),
            ("POST", "/V1/events", router),
            ("POST", "/v1/./events", router),
            ("GET", "/openapi.json", router),
            ("GET", "/", router),
            ("GET", "/portal/x", router),
            ("GET", "/portals", router),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert_eq!(Destination::of(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn ingest_gets_the_paths_that_are_documented_as_its_own() {
        let event = crate::ingest::EVENT_PATH.replace("{tenant}", "acme");
        let expected = Destination::Event { tenant: "acme" };
        assert_eq!(Destination::of(&Method::POST, &event), expected);
        let batch = crate::ingest::BATCH_PATH;
        assert_eq!(Destination::of(&Method::POST, batch), Destination::Batch);
        for route in crate::api::routes::all() {
            let path = route.path.replace("{id}", "x");
            assert_eq!(Destination::of(&route.method, &path), Destination::Router, "{path}");
        }
    }

    #[test]
    fn route_labels_stand_at_their_routes() {
        for (i, (route, _)) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, i);
        }
    }
}
