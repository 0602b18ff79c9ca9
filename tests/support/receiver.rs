//! A scripted receiver: records every request, answers what the script says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::http::Connection;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub path: String,
    /// Names as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value.as_str())
    }
}

/// What to answer.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Status(u16),
    /// This status, and what was sent sent back.
    Echo(u16),
    /// Take the request and say nothing.
    Hang,
    /// Take the request and hang up.
    Close,
    /// A 200 whose body ends when nobody takes any more of it.
    Endless,
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

pub struct Receiver {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    count: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
}

/// Asks for an answer and leaves no record: see [`Receiver::settle`].
const FENCE: &str = "/fence";

impl Receiver {
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", script)
    }

    pub fn start_at(
        address: &str,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_keeping(address, true, Arc::new(script))
    }

    /// Without keeping the requests, for tests that send very many.
    pub fn start_counting(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_keeping("127.0.0.1:0", false, Arc::new(script))
    }

    fn start_keeping(address: &str, keep: bool, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind(address).expect("an address of this machine");
        let addr = listener.local_addr().expect("bound");
        let seen = Arc::<Mutex<Vec<Request>>>::default();
        let count = Arc::<AtomicU64>::default();
        let connections = Arc::<AtomicU64>::default();
        let ended = Arc::<AtomicU64>::default();
        let receiver = Self {
            addr,
            seen: Arc::clone(&seen),
            count: Arc::clone(&count),
            connections: Arc::clone(&connections),
            ended: Arc::clone(&ended),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                let seen = keep.then(|| Arc::clone(&seen));
                let (count, ended) = (Arc::clone(&count), Arc::clone(&ended));
                let worker = std::thread::Builder::new().stack_size(128 * 1024);
                let serving = worker.spawn(move || {
                    // None where the gateway broke off.
                    let _ = serve(stream, &*script, seen.as_deref(), &count);
                    ended.fetch_add(1, Ordering::SeqCst);
                });
                serving.expect("a thread");
            }
        });
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.addr)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("no panic holds it").clone()
    }

    /// Returns once all that a process sent before it died is recorded: what it had written still
    /// lies in the sockets then, and is read when its reader's turn comes.
    pub fn settle(&self) {
        // Connections are accepted in order: those of the dead process came before this one.
        let answer =
            Connection::open(self.addr).and_then(|mut c| c.request("POST", FENCE, &[], b""));
        assert_eq!(answer.expect("the receiver answers").status, 200);
        super::eventually("the connections end", Duration::from_secs(30), || {
            (self.ended.load(Ordering::SeqCst) == self.connections()).then_some(())
        });
    }

    /// Connections that came.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

/// Serves one connection until it ends.
fn serve(
    stream: TcpStream,
    script: &Script,
    seen: Option<&Mutex<Vec<Request>>>,
    count: &AtomicU64,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = read_request(&mut reader)?;
        if request.path == FENCE {
            reader.get_mut().write_all(b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n").ok()?;
            continue;
        }
        let answer = script(&request);
        let body =
            if matches!(answer, Answer::Echo(_)) { request.body.clone() } else { Vec::new() };
        if let Some(seen) = seen {
            seen.lock().expect("no panic holds it").push(request);
        }
        count.fetch_add(1, Ordering::SeqCst);
        match answer {
            Answer::Status(status) | Answer::Echo(status) => {
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
                reader.get_mut().write_all(&[head.as_bytes(), &body].concat()).ok()?;
            }
            Answer::Close => return None,
            Answer::Endless => {
                let stream = reader.get_mut();
                stream.write_all(b"HTTP/1.1 200 X\r\n\r\n").ok()?;
                loop {
                    stream.write_all(&[b'x'; 4096]).ok()?;
                }
            }
            Answer::Hang => loop {
                // Until the gateway closes the connection.
                let mut rest = [0; 64];
                reader.get_ref().set_read_timeout(Some(Duration::from_secs(600))).ok()?;
                if reader.read(&mut rest).ok()? == 0 {
                    return Some(());
                }
            },
        }
    }
}

/// One whole request; none at the end of the connection.
pub fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let path = line.split(' ').nth(1)?.to_owned();
    let mut request = Request { at: super::now(), path, headers: Vec::new(), body: Vec::new() };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = request.header("content-length").parse().ok()?;
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}
