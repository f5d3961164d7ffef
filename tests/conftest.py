"""What all tests share: one thread, as the last bits of sums depend on how many there are, and runs are compared."""

import os
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
import torch

from tests.helpers.file_server import CONTENT, SHA256, Handler

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # on the CPU, unless whoever runs the tests names a GPU there
torch.set_num_threads(1)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A server on a free port; `cut` ends its answers early, `asked` lists the Range of every request."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.promise, server.ranges, server.cut, server.asked = CONTENT, SHA256, True, None, []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
