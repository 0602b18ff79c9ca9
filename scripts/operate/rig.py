"""A gateway, the receivers that it delivers to, and a Prometheus that scrapes it: all real, all on
loopback, all ended with the process that made them."""

import http.client
import http.server
import json
import os
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

KEY = "szk_operator_test0test0test0test0test0test0test0"


def eventually(what, predicate, seconds=60):
    """Waits until the predicate says something true, and gives it back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = predicate()
        if found:
            return found
        time.sleep(0.2)
    raise SystemExit(f"not within {seconds} s: {what}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificate(folder):
    """One certificate for everything here: the gateway's listener and the receiver's."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-days", "90", "-subj", "/CN=receiver.test", "-keyout", key, "-out", certificate,
                    "-addext", "subjectAltName=DNS:receiver.test,IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"],
                   check=True, capture_output=True)
    return certificate, key


class Receiver:
    """Counts every request by its path and the status that it got; the path says what it gets."""

    def __init__(self, tls=None):
        self.counts, self.seen, self.lock = Counter(), set(), threading.Lock()
        receiver = self
        self.ended = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.decide(self.path, self.headers["webhook-id"])
                if status is None:
                    receiver.ended.wait(30)
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # The gateway closes connections as it likes.

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def decide(self, path, event):
        with self.lock:
            status = {"/ok": 200, "/dead": 500, "/gone": 404, "/hang": None}.get(path)
            if path == "/flaky":
                status = 200 if (path, event) in self.seen else 503
                self.seen.add((path, event))
            self.counts[status] += 1
        return status

    def stop(self):
        self.ended.set()
        self.server.shutdown()


class NameServer:
    """Every name is 127.0.0.1, and has no other address."""

    def __init__(self):
        name_server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                query, connection = self.request
                connection.sendto(name_server.answer(query), self.client_address)

        self.server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def answer(query):
        end = query.index(b"\0", 12) + 5  # Of the question: its name, type and class.
        is_a = query[end - 4:end - 2] == b"\0\1"
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
        address = b"\xc0\x0c\0\1\0\1" + (2).to_bytes(4, "big") + b"\0\4" + bytes([127, 0, 0, 1])
        return head + query[12:end] + (address if is_a else b"")

    def stop(self):
        self.server.shutdown()


class Gateway:
    def __init__(self, binary, folder, tls, settings):
        certificate, key = tls
        environment = {
            "PATH": os.environ["PATH"],
            "SENDERZ_DATA_DIR": str(folder / "data"),
            "SENDERZ_OPERATOR_KEY": KEY,
            "SENDERZ_SERVER__LISTEN": "127.0.0.1:0",
            "SENDERZ_SERVER__TLS_CERTIFICATE": str(certificate),
            "SENDERZ_SERVER__TLS_KEY": str(key),
            "SENDERZ_OPS__LISTEN": "127.0.0.1:0",
            "SENDERZ_TLS__CA_FILE": str(certificate),
            "SENDERZ_SECURITY__ALLOW_NETWORKS": "127.0.0.0/8",
            "SENDERZ_STORE__DISK_HEADROOM": "1MiB",
            "SENDERZ_LOG__LEVEL": "warn",
            **settings,
        }
        self.process = subprocess.Popen([binary, "serve"], env=environment, stdout=subprocess.PIPE, text=True)
        self.api = self.metrics = None
        for line in self.process.stdout:
            if found := re.match(r"\s+api\s+https://(\S+)", line):
                self.api = found[1]
            if found := re.match(r"\s+metrics\s+http://(\S+)/metrics", line):
                self.metrics = found[1]
                break
        if not self.metrics:
            raise SystemExit(f"the gateway ended with {self.process.wait()}")
        self.context = ssl.create_default_context(cafile=certificate)

    def client(self):
        return Client(self)

    def exposition(self):
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class Client:
    """One connection to the API; for one thread."""

    def __init__(self, gateway):
        self.connection = http.client.HTTPSConnection(gateway.api, context=gateway.context, timeout=30)

    def ask(self, method, path, body=None, tenant=None, key=KEY):
        headers = {"Authorization": f"Bearer {key}"}
        if tenant:
            headers["Senderz-Tenant"] = tenant
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        text = answer.read()
        is_json = "json" in answer.headers.get("Content-Type", "")
        return answer.status, json.loads(text) if is_json else None

    def must(self, *request, **more):
        status, answer = self.ask(*request, **more)
        if status >= 300:
            raise SystemExit(f"{request[0]} {request[1]} answered {status}: {answer}")
        return answer


def register(gateway, count, url, threads=16):
    """So many webhooks of tenants of their own, a thousand each, which nothing is sent to."""
    client = gateway.client()
    tenants = [f"idle{number}" for number in range(-(-count // 1000))]
    for tenant in tenants:
        client.must("POST", "/v1/tenants", {"id": tenant, "name": tenant})

    def register_part(part):
        own = gateway.client()
        for number in range(part, count, threads):
            webhook = {"url": f"{url}?{number}", "events": ["message.sent"]}
            own.must("POST", "/v1/webhooks", webhook, tenant=tenants[number % len(tenants)])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(register_part, range(threads)))


class Prometheus:
    """The real one, with the rules of deploy/prometheus, evaluated and scraped every second."""

    def __init__(self, folder, rules, target):
        binary = shutil.which("prometheus")
        if not binary:
            raise SystemExit("prometheus is missing: it is in Debian's package `prometheus`; scripts/test fetches it")
        names = []
        for path in rules:
            text = re.sub(r"(?m)^(\s+interval:) \S+$", r"\1 1s", path.read_text())
            (folder / path.name).write_text(text)
            names.append(path.name)
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": names,
            "scrape_configs": [{"job_name": "senderz-gateway", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML.
        self.base = f"127.0.0.1:{free_port()}"
        self.log = open(folder / "prometheus.log", "w")
        self.process = subprocess.Popen(
            [binary, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
             f"--web.listen-address={self.base}", "--log.level=warn"], stderr=self.log, stdout=self.log)
        eventually("Prometheus is ready", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"Prometheus ended; see {self.log.name}")
        try:
            with urllib.request.urlopen(f"http://{self.base}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, path, **parameters):
        url = f"http://{self.base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise QueryError(json.load(error)["error"]) from None

    def query(self, expression):
        return self.ask("query", query=expression)["result"]

    def value(self, expression):
        """The number that an expression of one series gives; none where there is no series."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def over(self, expression, seconds):
        """All samples of the last so many seconds."""
        now = time.time()
        series = self.ask("query_range", query=expression, start=now - seconds, end=now, step=2)["result"]
        return [float(value) for one in series for _, value in one["values"]]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


class QueryError(Exception):
    """What Prometheus says is wrong with an expression."""
