"""A web server on loopback that serves a folder by ranges of bytes, and remembers what it was asked."""

import contextlib
import functools
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


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

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler))
    served.url = f"http://127.0.0.1:{server.server_port}{prefix}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
