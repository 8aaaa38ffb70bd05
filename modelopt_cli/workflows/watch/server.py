"""The report of a run under way as a page on 127.0.0.1, which asks for what is new by itself.

Nobody but this machine's browsers is let in: it listens on 127.0.0.1 alone, it answers only requests that name it as
127.0.0.1 or localhost (a page of somebody else whose name was made to point here says another one), it gives no other
site leave to read what it says, and it knows two paths. It answers GET and HEAD, reads no body, and writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

from modelopt_cli.core.errors import InputError, ModeloptError, UsageError
from modelopt_cli.workflows.search.unfinished import unfinished_report
from modelopt_cli.workflows.shared.reporting import Outcome, provisional
from modelopt_cli.workflows.watch.watcher import STORE, Snapshot, Watcher

if TYPE_CHECKING:
    from pathlib import Path

    from modelopt_cli.results.report import Kind, Report

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost")
_PATIENCE = 10.0  # seconds that a client may take over its request
_LONGEST_PATH = 1_000
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": _POLICY,
}

_KINDS: Mapping[str, Kind] = {"distill": "distillation", "tune": "search", "compress": "compression"}
"""Workflow -> the kind of report that its page is made as while it goes on; else that of a training."""

Page = Callable[["Report", "Path"], str]
Data = Callable[["Report"], Any]


@dataclass(frozen=True)
class Answer:
    """What one path gives."""

    kind: str  # of the content
    content: bytes


class LiveReport:
    """The report of a run as it is now: looked at once in `interval` seconds, made anew when something has changed."""

    def __init__(self, path: Path, page: Page, data: Data, interval: float) -> None:
        """`page`, `data`: what makes a page, and the data that its script draws, of a report. Raises InputError."""
        self._watcher, self._page, self._data, self._interval = Watcher(path), page, data, interval
        self._lock = threading.Lock()
        self._looked = -interval
        self._mark: object = None
        self._version = ""
        self.snapshot = self._watcher.look()
        self._report = report_of(self.snapshot)

    def page(self) -> bytes:
        """The whole page."""
        with self._lock:
            self._look()
            return self._page(self._report, self._watcher.path).encode()

    def data(self) -> bytes:
        """What the page's script asks for: `version` changes with the `data`, and is all there is if it is the same."""
        with self._lock:
            self._look()
            content = {"version": self._version, "status": self.snapshot.status, "data": self._data(self._report)}
            return json.dumps(content).encode()

    def _look(self) -> None:
        """Look at the run again, where that is due. What cannot be read now is shown as it was."""
        now = time.monotonic()
        if now - self._looked < self._interval:
            return
        try:
            snapshot = self._watcher.look()
            mark = (len(snapshot.ends), sum(len(trial.curve) for trial in snapshot.trials), snapshot.status)
            if mark != self._mark or not snapshot.trials:
                self._report = report_of(snapshot)
                text = self._report.model_copy(update={"seconds": 0.0}).to_json()
                self._version = hashlib.sha256(f"{snapshot.status}{text}".encode()).hexdigest()[:16]
            self.snapshot, self._mark = snapshot, mark
        except ModeloptError:
            pass
        self._looked = time.monotonic()


def report_of(snapshot: Snapshot) -> Report:
    """The report of a run that has ended; of one under way what is known of it."""
    if snapshot.report is not None and snapshot.status != "killed":
        return snapshot.report
    if (snapshot.path / STORE).exists():
        try:
            report = unfinished_report(snapshot.path)
        except InputError:
            pass
        else:
            return report.model_copy(update={"seconds": snapshot.seconds or 0.0})
    progress = snapshot.progress
    workflow = snapshot.workflow or "train"
    report = provisional(
        _KINDS.get(workflow, "training"),
        workflow,
        Outcome(metrics={} if progress is None else progress["metrics"]),
        name=snapshot.path.parent.name,
        seed=0,
        best=None,
        artefacts={"directory": str(snapshot.path)},
        failed=None,
    )
    stage = [] if progress is None else [f"under way: {progress['stage']}"]
    return report.model_copy(update={"seconds": snapshot.seconds or 0.0, "warnings": stage})


class _Handler(BaseHTTPRequestHandler):
    """One connection. The server that made it says what there is."""

    server: ReportServer
    server_version = "modelopt"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    _methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD")

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _refuse_method(self) -> None:
        self.close_connection = True  # its body is not read
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, _text("only GET and HEAD"), {"Allow": ", ".join(self._methods)})

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse_method  # noqa: N815

    def _answer(self) -> None:
        hosts = self.headers.get_all("Host") or []
        port = self.server.server_port
        if len(hosts) != 1 or hosts[0].strip().lower() not in {f"{name}:{port}" for name in _NAMES}:
            self.close_connection = True
            self._send(HTTPStatus.FORBIDDEN, _text(f"ask for http://{HOST}:{port}/"))
            return
        if self.headers.get("Content-Length") not in (None, "0") or self.headers.get("Transfer-Encoding") is not None:
            self.close_connection = True
            self._send(HTTPStatus.BAD_REQUEST, _text("no body is taken"))
            return
        path = self.path.partition("?")[0]
        answer = self.server.answer(path) if len(path) <= _LONGEST_PATH else None
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, _text("there is nothing here"))
        else:
            self._send(HTTPStatus.OK, answer)

    def _send(self, status: HTTPStatus, answer: Answer, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": answer.kind, "Content-Length": str(len(answer.content)), **_HEADERS, **(more or {})}
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no request at all, or of a method that nobody knows: as short as the other answers."""
        self.close_connection = True
        if not hasattr(self, "command") or self.command is None:
            self.command = "GET"
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._refuse_method()
            return
        self._send(HTTPStatus(code), _text("bad request"))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is written down."""


def _text(text: str) -> Answer:
    return Answer("text/plain; charset=utf-8", f"{text}\n".encode())


class ReportServer(ThreadingHTTPServer):
    """Serves a LiveReport. `server_port`: where; `stop` ends it."""

    daemon_threads = True
    allow_reuse_address = False
    request_queue_size = 16

    def __init__(self, report: LiveReport, port: int) -> None:
        """Raises UsageError where the port cannot be had."""
        self.report = report
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"port {port} on {HOST} cannot be had ({error.strerror}); choose another, or a free one: --serve 0"
            ) from None

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def answer(self, path: str) -> Answer | None:
        """What a path gives; None: there is no such path."""
        match path:
            case "/":
                return Answer("text/html; charset=utf-8", self.report.page())
            case "/data.json":
                return Answer("application/json", self.report.data())
            case _:
                return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone, or was too slow, is none of our concern."""

    def serve_until(self, over: Callable[[], bool]) -> None:
        """Serve until `over`, asked twice a second, says so."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.25}, daemon=True)
        thread.start()
        try:
            while not over():
                time.sleep(0.5)
        finally:
            self.shutdown()
            self.server_close()
