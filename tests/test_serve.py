"""The service: scores as predict.py's, batches, refusals in a line, and an end that loses nothing."""

import base64
import http.client
import io
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import click.testing
import numpy as np
import pytest
import uvicorn
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

import export
import predict
import serve
from inference.predictor import Predictor
from serving import bodies
from serving.app import PAGE, Service
from tests.helpers.small_model import learn_drift, pictures, small_model
from tests.test_arrows import ROOT, WITHOUT_TORCH
from tests.test_predict import rows

PNG = {"Content-Type": "image/png"}
MOST = 1 << 20  # bytes of a body
NEEDED = "onnx", "onnxscript", "onnxruntime"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@contextmanager
def running(predictor: Predictor, most_waiting: int = 64) -> Iterator[Service]:
    """Run a service in this process; its `port` is free."""
    service = Service(predictor, most_waiting, MOST)
    server = uvicorn.Server(uvicorn.Config(service.application(), log_config=None))
    listening = socket.create_server(("127.0.0.1", 0))
    service.port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield service
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def service(folder) -> Iterator[Service]:
    with running(Predictor(folder)) as service:
        yield service


def ask(
    service: Service, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> http.client.HTTPResponse:
    """Send a request; return the answer with its `content`."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    answer.content = answer.read()
    connection.close()
    return answer


def post(service: Service, body: object, query: str = "", headers: dict[str, str] = PNG) -> tuple[int, dict]:
    answer = ask(service, "POST", f"/predict{query}", body, headers)
    return answer.status, json.loads(answer.content)


def metric(service: Service, name: str, **labels: str) -> float:
    text = ask(service, "GET", "/metrics").content.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return next((each.value for each in samples if (each.name, each.labels) == (name, labels)), 0)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def form(content: bytes, name: str = 'name="picture"; filename="part.png"', end: str = "--") -> tuple[bytes, dict]:
    body = f"--edge\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + content + f"\r\n--edge{end}".encode()
    return body, {"Content-Type": "multipart/form-data; boundary=edge"}


def test_clients_at_once_get_the_scores_of_predict(folder, tmp_path):
    paths = pictures(tmp_path / "in", 12)
    scores = sorted(each.score for each in Predictor(folder).predict(paths))
    threshold = round((scores[5] + scores[6]) / 2, 5)
    arguments = "--model", folder, "--threshold", threshold, "--out", tmp_path / "out", tmp_path / "in"
    assert click.testing.CliRunner().invoke(predict.main, list(map(str, arguments))).exit_code == 0
    expected = {row["image"]: row for row in rows(tmp_path / "out")}
    with running(Predictor(folder, threshold=threshold)) as service, ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda path: post(service, path.read_bytes()), paths * 4))
    for path, (status, answer) in zip(paths * 4, answers, strict=True):
        row = expected[path.name]
        assert status == 200 and (answer["width"], answer["height"]) == (60, 40)
        assert answer["score"] == pytest.approx(float(row["score"]), abs=1.1e-5)  # five decimals, and batches differ
        assert answer["calibrated"] == pytest.approx(float(row["calibrated"]), abs=1e-3)
        assert answer["verdict"] == row["verdict"] and abs(answer["area"] - int(row["area"])) <= 2
        assert answer["threshold"] == float(row["threshold"])
    assert {answer["verdict"] for _, answer in answers} == {"OK", "NG"}


def test_drift_is_answered_measured_and_logged_once(folder, tmp_path, caplog):
    shutil.copytree(folder.parent.parent, tmp_path / "models")
    known, model = pictures(tmp_path / "in", 6), tmp_path / "models/backbone_0" / folder.name
    learn_drift(model, known)
    odd = [encoded(Image.fromarray(np.asarray(Image.open(path)) // 2 + 64)) for path in known[:3]]
    with running(Predictor(model)) as service:
        assert json.loads(ask(service, "GET", "/drift").content) == {"limit": 1, "drift": []}
        found = [post(service, content)[1]["drift"] for content in [*(path.read_bytes() for path in known), *odd]]
        assert [value > 1 for value in found] == [False] * 6 + [True] * 3
        assert json.loads(ask(service, "GET", "/drift").content)["drift"] == found
        assert metric(service, "glass_drift") == found[-1]
    assert sum("no longer look like those of the training" in line for line in caplog.messages) == 1


def test_boxes_cover_what_is_marked(service, tmp_path):
    predictor, path = service.predictor, pictures(tmp_path, 1)[0]
    area, (x, y, width, height) = predictor.marked(predictor(path).map)
    _, answer = post(service, path.read_bytes())
    boxes = answer["boxes"]
    assert area == answer["area"] == sum(box["area"] for box in boxes) > 0
    assert (min(box["x"] for box in boxes), min(box["y"] for box in boxes)) == (x, y)
    assert max(box["x"] + box["width"] for box in boxes) == x + width
    assert max(box["y"] + box["height"] for box in boxes) == y + height


def test_maps_and_overlays_come_on_request(service, tmp_path):
    path = pictures(tmp_path, 1)[0]
    expected = service.predictor(path).map
    found = {}
    for query in ("map=npy", "map=png", "overlay=png", "overlay=jpg"):
        name = query.partition("=")[0]
        found[query] = io.BytesIO(base64.b64decode(post(service, path.read_bytes(), f"?{query}")[1][name]))
    np.testing.assert_allclose(np.load(found["map=npy"]), expected, atol=1e-6)
    gray = np.asarray(Image.open(found["map=png"]))
    assert gray.dtype == np.uint16
    np.testing.assert_allclose(gray / 65535, np.nan_to_num(expected), atol=1e-5)
    for kind in ("png", "jpg"):
        overlay = Image.open(found[f"overlay={kind}"])
        assert overlay.width >= 60 and overlay.height > 40
    assert not {"map", "overlay"} & set(post(service, path.read_bytes())[1])


def test_a_form_a_body_and_any_format_say_the_same(service, tmp_path):
    path = pictures(tmp_path, 1)[0]
    content = path.read_bytes()
    bare = post(service, content, headers={"Content-Type": "application/octet-stream"})
    tiff = post(service, encoded(Image.open(path), "TIFF"), headers={"Content-Type": "image/tiff"})
    assert post(service, content) == bare == tiff
    body, headers = form(content)
    assert post(service, body, headers=headers) == bare


def hostile(width: int, height: int) -> bytes:
    return encoded(Image.new("1", (width, height)))


SMALL = encoded(Image.new("RGB", (40, 40)))
REFUSED = {  # name -> what is posted, query, headers, status, words of the line
    "too many bytes": (bytes(MOST + 1), "", PNG, 413, "larger than 1 MiB"),
    "no picture": (b"hello", "", PNG, 422, "is none of PNG, JPEG"),
    "cut off": (SMALL[:60], "", PNG, 422, "cannot be read as an image"),
    "too many pixels": (hostile(20000, 20000), "", PNG, 422, "20000 x 20000 pixels"),
    "a strip": (hostile(200000, 1), "", PNG, 422, "after the resize"),
    "nothing": (b"", "", PNG, 422, "no picture"),
    "text": (SMALL, "", {"Content-Type": "text/plain"}, 415, "text/plain"),
    "packed": (SMALL, "", PNG | {"Content-Encoding": "gzip"}, 415, "Content-Encoding"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "", PNG, 422, "is none of PNG, JPEG"),
    "an unknown wish": (SMALL, "?maps=npy", PNG, 422, "maps=npy is not known"),
    "an unknown kind": (SMALL, "?map=exr", PNG, 422, "map=exr is not known"),
    "a form without a file": (form(b"x", 'name="a"')[0], "", form(b"")[1], 422, "no file"),
    "a form that is none": (SMALL, "", form(b"")[1], 422, "form"),
    "a form that breaks off": (form(SMALL, end="")[0], "", form(b"")[1], 422, "form"),
    "a form without its edge": (SMALL, "", {"Content-Type": "multipart/form-data"}, 422, "form"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_line_says_what_is_wrong(service, name):
    body, query, headers, status, words = REFUSED[name]
    before = metric(service, "glass_answers_total", status=str(status))
    found, answer = post(service, body, query, headers)
    assert found == status and words in answer["error"] and "\n" not in answer["error"], answer
    assert metric(service, "glass_answers_total", status=str(status)) == before + 1
    assert post(service, SMALL)[0] == 200 and service.under_way == 0


def test_a_body_without_end_is_cut_off(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent, chunk = 0, b"10000\r\n" + bytes(1 << 16) + b"\r\n"
        with suppress(ConnectionError):
            while sent < 100 * MOST:
                client.sendall(chunk)
                sent += len(chunk)
    assert sent < 50 * MOST  # of which most is on its way
    assert post(service, SMALL)[0] == 200


def test_a_body_that_does_not_arrive_is_given_up(service, monkeypatch):
    monkeypatch.setattr(bodies, "SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhello")
        assert client.recv(100).startswith(b"HTTP/1.1 408")
    assert service.under_way == 0


@contextmanager
def held(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Callable[[], None], list[int]]]:
    """Let a predictor wait; give what releases it, and the sizes of its batches."""
    go, sizes, score = threading.Event(), [], predictor.predict

    def wait(images: list[Image.Image]) -> list:
        sizes.append(len(images))
        assert go.wait(60)
        return score(images)

    monkeypatch.setattr(predictor, "predict", wait)
    try:
        yield go.set, sizes
    finally:
        go.set()


def test_what_arrives_together_is_scored_together_and_too_many_are_sent_away(folder, monkeypatch):
    predictor = Predictor(folder, batch_size=4)
    with (
        held(predictor, monkeypatch) as (release, sizes),
        running(predictor, 6) as service,
        ThreadPoolExecutor(6) as clients,
    ):
        asked = [clients.submit(post, service, SMALL)]
        wait_for(lambda: sizes == [1])
        asked += [clients.submit(post, service, SMALL) for _ in range(5)]
        wait_for(lambda: service.batches.waiting.qsize() == 5)
        answer = ask(service, "POST", "/predict", SMALL, PNG)
        assert answer.status == 503 and answer.headers["Retry-After"] == "1"
        assert ask(service, "GET", "/health").status == 200
        release()
        assert [each.result()[0] for each in asked] == [200] * 6
        assert sizes == [1, 4, 1]
        assert metric(service, "glass_batch_pictures_sum") == metric(service, "glass_pictures_total", verdict="NG") == 6


def wait_for(done: Callable[[], bool]) -> None:
    ready = threading.Event()
    for _ in range(1000):
        if done():
            return
        ready.wait(0.02)
    raise AssertionError("it did not come to that")


def test_a_picture_that_cannot_be_scored_spoils_no_other(folder, monkeypatch):
    predictor = Predictor(folder)
    score = predictor.predict

    def fail(images: list[Image.Image]) -> list:
        if any(image.width == 41 for image in images):
            raise MemoryError("too much")
        return score(images)

    monkeypatch.setattr(predictor, "predict", fail)
    bad = encoded(Image.new("RGB", (41, 40)))
    with running(predictor) as service, ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda body: post(service, body), [SMALL, SMALL, bad, SMALL] * 4))
    assert [status for status, _ in found] == [200, 200, 500, 200] * 4
    assert "log says why" in found[2][1]["error"]


def test_health_version_and_what_is_not_there(service, folder):
    assert json.loads(ask(service, "GET", "/health").content) == {"status": "ok"}
    about = json.loads(ask(service, "GET", "/version").content)
    card = service.predictor.engine.card
    assert (about["model"], about["checkpoint"]) == (card.name, card.checkpoint.sha256)
    assert about["threshold"]["score"] == card.threshold.score and about["versions"]["numpy"] == np.__version__
    assert ask(service, "GET", "/predict").status == 405 and ask(service, "GET", "/x").status == 404


def test_one_that_ends_says_so(folder):
    with running(Predictor(folder)) as service:
        service.ending = True
        assert ask(service, "GET", "/health").status == 503
        answer = ask(service, "POST", "/predict", SMALL, PNG)
        assert answer.status == 200 and answer.headers["Connection"] == "close"


def test_the_page_needs_nothing_from_elsewhere(service):
    answer = ask(service, "GET", "/")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    assert answer.content == PAGE.read_bytes() and "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert re.findall(r"https?://|@import|<link|<script src", answer.content.decode()) == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model", "nowhere.onnx"], "nowhere.onnx does not exist"),
        (["--model", "MODEL", "--overlap", "3"], "--tile"),
        (["--model", "MODEL", "--port", "PORT"], "Address already in use"),
    ],
)
def test_wrong_input_is_told(service, folder, arguments, words):
    known = {"MODEL": str(folder), "PORT": str(service.port)}
    result = click.testing.CliRunner().invoke(serve.main, [known.get(each, each) for each in arguments])
    assert result.exit_code == 2 and words in result.output


def copied(target: Path) -> list[str]:
    """Copy what the Dockerfile copies; return the command that it starts."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    for *sources, place in (shlex.split(line)[1:] for line in lines if line.startswith("COPY")):
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target / place)
            else:
                (target / place).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, target / place)
    return json.loads(next(line for line in lines if line.startswith("ENTRYPOINT")).removeprefix("ENTRYPOINT"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_sigterm_under_load_loses_no_accepted_picture_and_the_image_has_all_it_needs(folder, tmp_path):
    for name in NEEDED:
        pytest.importorskip(name, reason=f"{name} is not installed (requirements/export.txt)")
    model = tmp_path / "model.onnx"
    exported = click.testing.CliRunner().invoke(
        export.main, ["--model", str(folder), "--format", "onnx", "--out", str(model)]
    )
    assert exported.exit_code == 0, exported.output
    app = tmp_path / "app"
    app.mkdir()
    known = {"0.0.0.0": "127.0.0.1", "/model.onnx": str(model)}
    program, *arguments = [known.get(each, each) for each in copied(app)[1:]]
    code = WITHOUT_TORCH + f"import runpy; sys.argv = sys.argv[1:]; runpy.run_path({program!r}, run_name='__main__')"
    code = code.replace("sys.argv[1:]:", "():")
    line = [sys.executable, "-c", code, program, *arguments, "--port", "0"]
    with subprocess.Popen(line, cwd=app, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = [process.stdout.readline()]
        while "Listening" not in said[-1]:
            assert said[-1], said
            said.append(process.stdout.readline())
        port = int(said[-1].rpartition(":")[2])
        statuses: list[int] = []

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            with suppress(OSError, http.client.HTTPException):
                while True:
                    connection.request("POST", "/predict", SMALL, PNG)
                    answer = connection.getresponse()
                    statuses.append(answer.status if json.loads(answer.read())["verdict"] == "NG" else 0)

        clients = [threading.Thread(target=client) for _ in range(8)]
        for each in clients:
            each.start()
        wait_for(lambda: len(statuses) > 20)
        process.send_signal(signal.SIGTERM)
        for each in clients:
            each.join()
        rest = process.stdout.read()
    assert process.returncode == 0, rest
    assert set(statuses) == {200} and f"Ended: {len(statuses)} accepted, {len(statuses)} answered." in rest, rest
