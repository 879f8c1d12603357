"""A web server on loopback that serves a folder by ranges of bytes, and remembers what it was asked."""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Served:
    """A folder being served."""

    url: str
    requests: list[tuple[str, str, int]] = field(default_factory=list)  # method, path and bytes sent


@contextlib.contextmanager
def serving(folder: Path, *, prefix: str = "") -> Iterator[Served]:
    """Serve a folder under a prefix of the path until the block ends."""
    served = Served("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            served.requests.append(("HEAD", self.path, 0))
            self.send_error(405)

        def do_GET(self) -> None:
            path = folder / self.path.removeprefix(prefix).lstrip("/")
            if not self.path.startswith(prefix) or not path.is_file():
                served.requests.append(("GET", self.path, 0))
                self.send_error(404)
                return
            data = path.read_bytes()
            total = len(data)
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            if asked:
                start, end = int(asked[1]), min(int(asked[2]) + 1, total)
                if start >= total:
                    self.send_error(416)
                    return
                data = data[start:end]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            served.requests.append(("GET", self.path, len(data)))

    with _running(Handler) as port:
        served.url = f"http://127.0.0.1:{port}{prefix}"
        yield served


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[Served]:
    """Serve a folder as buckets by what S3 clients ask: get ranges, put (only where nothing is), list by prefix."""
    served, lock = Served(""), threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
            served.requests.append((self.command, self.path, len(data)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("ETag", f'"{hash(data)}"')
            self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            path = folder / unquote(urlsplit(self.path).path).lstrip("/")
            with lock:
                if self.headers.get("If-None-Match") == "*" and path.exists():
                    self.answer(412)
                    return
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self.answer(200)

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            path = folder / unquote(url.path).lstrip("/")
            query = parse_qs(url.query)
            if "list-type" in query:
                prefix = query.get("prefix", [""])[0]
                keys = [file.relative_to(path).as_posix() for file in sorted(path.rglob("*")) if file.is_file()]
                contents = "".join(
                    f"<Contents><Key>{key}</Key><Size>1</Size><ETag>x</ETag>"
                    "<LastModified>2026-11-30T00:00:00.000Z</LastModified></Contents>"
                    for key in keys
                    if key.startswith(prefix)
                )
                text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
                self.answer(200, text.encode(), Content_Type="application/xml")
                return
            if not path.is_file():
                self.answer(404)
                return
            data = path.read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            if asked:
                start, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
                self.answer(206, data[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(data)}")
            else:
                self.answer(200, data)

    with _running(Handler) as port:
        served.url = f"http://127.0.0.1:{port}"
        yield served


@contextlib.contextmanager
def _running(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """Run a server on loopback until the block ends; yield its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
