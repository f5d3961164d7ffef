"""Command line: `python serve.py --model MODEL`: pictures are posted to /predict, verdicts come back as JSON.

Exit status: 0 ended by SIGTERM or Ctrl-C, every accepted picture answered; 1 the server failed; 2 wrong input.
"""

import logging
import socket
import sys
import threading
import time

import click
import uvicorn

from inference.model_options import model_options, open_predictor
from serving.app import Service
from system.logs import log_to_screen
from system.signals import stop_event

LOGGER = logging.getLogger(__name__)

LEAVE_SECONDS = 0.5  # for clients to leave after the signal; and for requests to arrive on connections that were let in


@click.command(context_settings={"show_default": True})
@model_options
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 lets other machines in.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port to listen on; 0 takes a free one.")
@click.option("--queue", type=click.IntRange(1), default=64, help="Requests at once; further ones get status 503.")
@click.option("--max_mb", type=click.IntRange(1), default=32, help="Largest body of a request in MiB.")
def main(host: str, port: int, queue: int, max_mb: int, **model: object) -> None:
    """Serve a trained model over HTTP until SIGTERM or Ctrl-C."""
    log_to_screen()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what clients send
    try:
        service = Service(open_predictor(**model), queue, max_mb << 20)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except (ValueError, OSError) as error:
        LOGGER.error("%s", error)
        sys.exit(2)
    sys.exit(0 if _serve(service, listening) else 1)


def _serve(service: Service, listening: socket.socket) -> bool:
    """Serve until a signal comes; return whether one did."""
    stop = stop_event()
    config = uvicorn.Config(service.application(), log_config=None, access_log=False, server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))  # signals belong to this one
    thread.start()
    host, port = listening.getsockname()[:2]
    LOGGER.info("Listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    while thread.is_alive() and not stop.wait(0.2):
        pass
    service.ending = True
    if thread.is_alive():
        time.sleep(LEAVE_SECONDS)
        for each in server.servers:
            each.get_loop().call_soon_threadsafe(each.close)
        time.sleep(LEAVE_SECONDS)
    server.should_exit = True
    thread.join()
    LOGGER.info("Ended: %d accepted, %d answered.", service.accepted, service.answered)
    return stop.is_set()


if __name__ == "__main__":
    main()
