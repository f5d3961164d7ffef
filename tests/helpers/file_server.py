"""A server of one file in this process, that can cut answers off and redirect as a hub does."""

import hashlib
from http.server import BaseHTTPRequestHandler

import numpy as np

from system import download

CONTENT = np.random.default_rng(0).bytes(3 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves the server's `content` under /file, honours Range, and redirects /hub/ as the Hugging Face hub does."""

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        if self.path.startswith("/hub/"):
            self.send_response(302)
            self.send_header(download.PROMISE, f'"{self.server.promise}"')
            self.send_header("Location", "/file")
            self.end_headers()
        elif self.path == "/file":
            self.send_file()
        else:
            self.send_error(404)

    def send_file(self) -> None:
        content, wanted = self.server.content, self.headers.get("Range") if self.server.ranges else None
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if wanted and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.cut])

    def log_message(self, *_: str) -> None:
        """Stay silent."""
