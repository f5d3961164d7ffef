"""The report page: what it shows, what it leaves out, and how a real browser takes it."""

import base64
import errno
import html
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import report
from artifacts import class_results, model_card, run_info, test_scores
from artifacts.test_scores import Evidence
from reporting import growth_table, report_page, review
from reporting.growth_table import Growth, Judged
from system import files
from tests.long.browser import Keyboard, browse, complaints, in_browser

EVIL = "<b>&\"'x"
CURVE = [[0, 0.5, 1], [0, 0.75, 1]]
THRESHOLD = {"score": 0.9, "pixel": 0.9, "false_alarm_rate": 0.01, "promised_rate": 0.5, "basis": "held-out normals"}
THRESHOLD |= {"count": 1}
VOID = {"meta", "link", "img", "wbr", "br", "path", "use", "rect"}


def add_class(folder: Path, name: str = "mvtec_screw", index: int = 0, **changes: object) -> Path:
    """Put a tested class into a results folder; return its folder."""
    best = {"image_auroc": 0.98, "pixel_auroc": 0.995, "pixel_pro": 0.9}
    content = {"backbone": "resnet18", "best": best, "best_epoch": 3, "last": best, "last_epoch": 5}
    content |= {"settings": {"lr": 0.1, "note": EVIL}}
    result = class_results.Result(name, backbone_index=index, **(content | changes))
    path = class_results.result_path(folder, index, name)
    path.parent.mkdir(parents=True)
    path.write_text(class_results.to_json(result))
    rng = np.random.default_rng(0)
    labels = [k % 2 for k in range(20)]
    found = Evidence(
        dict(result.best),
        [f"{EVIL if label else 'good'}/{k:03d}.png" for k, label in enumerate(labels)],
        [EVIL if label else "good" for label in labels],
        labels,
        (0.5 * rng.random(20) + 0.2 * np.array(labels)).tolist(),
        {"image_roc": CURVE, "pixel_roc": CURVE, "pixel_pro": [[0, 0.3], [0, 0.75]]},
        {"i-auroc": CURVE, "loss": CURVE},
        train_images=320,
    )
    (path.parent / test_scores.EVIDENCE_FILE).write_text(test_scores.to_json(found))
    for sort, count in ((review.MISSED, 6), (review.ALARM, 6), (review.SYNTHETIC, 2)):
        for rank in range(count):
            picture = review.picture(path.parent, sort, rank)
            picture.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (32, 64, 3), dtype=np.uint8)).save(picture)
    return path.parent


class Parsed(HTMLParser):
    """The elements of a page, by tag, and its text; what is wrongly nested is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.found.append((tag, dict(attributes)))
        self.words += [] if tag == "wbr" else [" "]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of two classes; one has a threshold."""
    folder = tmp_path_factory.mktemp("results")
    nut = add_class(folder, "mvtec_nut")
    add_class(folder)
    (nut / model_card.FILE).write_text(json.dumps({"provenance": {"command": f"main.py {EVIL}", "git": None}}))
    sessions = [{"began": "today", "versions": {"torch": "2.9"}}, {"began": "later"}]
    (nut / run_info.RUN_FILE).write_text(json.dumps({"lr": 0.1, "options": {"b": 1}, "sessions": sessions}))
    content = json.loads((nut / test_scores.EVIDENCE_FILE).read_text())
    content["threshold"] = {"score": 0.4, "basis": "test normals", "count": 10}
    (nut / test_scores.EVIDENCE_FILE).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return report_page.build(results)


def test_the_page_holds_everything_in_itself(page: str) -> None:
    parsed = Parsed(page)
    assert parsed.all("script", "iframe", "object") == []
    links = [value for _, each in parsed.found for key, value in each.items() if key in ("src", "href", "xlink:href")]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"url\((?!#)", page) and "@import" not in page


def test_every_link_within_the_page_has_its_target(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    targets = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert targets <= set(ids)
    assert {"mvtec_nut", "mvtec_screw"} <= targets


def test_pictures_and_plots_have_words(page: str) -> None:
    parsed = Parsed(page)
    assert len(parsed.all("img")) == 28 and all(each["alt"] and each["width"] for each in parsed.all("img"))
    assert len(parsed.all("svg")) == 10
    assert all(each["role"] == "img" and each["aria-label"] for each in parsed.all("svg"))


def test_headings_descend_by_one(page: str) -> None:
    levels = [int(tag[1]) for tag, _ in Parsed(page).found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_everything_is_escaped(page: str) -> None:
    assert "<b>" not in page and EVIL not in page
    text = Parsed(page).text
    assert f"main.py {EVIL}" in text and f"{EVIL}/019.png" in text


def test_provenance_is_told_without_the_settings_once_more(page: str) -> None:
    text = Parsed(page).text
    assert "training.sessions.1.versions.torch 2.9" in text
    assert "training.sessions.2.began later" in text and "training.lr" not in text and "training.options" not in text


def test_the_threshold_divides(page: str, results: Path) -> None:
    found = test_scores.from_json((results / "models/backbone_0/mvtec_nut/evidence.json").read_text(), Path())
    missed = sum(score <= 0.4 for score, label in zip(found.scores, found.labels, strict=True) if label)
    alarms = sum(score > 0.4 for score, label in zip(found.scores, found.labels, strict=True) if not label)
    assert missed and alarms
    text = Parsed(page).text
    assert f"Threshold 0.40000, set by 10 test normals: {alarms} of 10 normal images are false alarms" in text
    assert f"{missed} of 10 defective ones are missed" in text
    assert text.count(" false alarm ") == alarms and text.count("png · ") == 24


def test_the_paper_is_compared(page: str) -> None:
    text = Parsed(page).text
    assert "image AUROC 98.0 98.0 99.5 100.0 100.0 100.0 \N{MINUS SIGN}2.0 below" in text
    assert "pixel AUROC 99.5 99.5 99.5 99.5 99.5 99.5 +0.0 reached" in text
    assert "lr 0.1 0.0001" in text
    assert "other data than the paper" in text


def test_equal_files_give_equal_bytes(page: str, results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "copy")
    assert report_page.build(tmp_path / "copy") == page


def test_absent_figures_are_dashes(tmp_path: Path) -> None:
    add_class(tmp_path, best={"image_auroc": 0.5}, last={}, last_epoch=None)
    page = report_page.build(tmp_path)
    assert "mvtec_screw 50.0 - - - - - 3" in Parsed(page).text
    assert "nan" not in Parsed(page).text.lower()


def test_evidence_of_another_test_is_left_out(tmp_path: Path) -> None:
    folder = add_class(tmp_path)
    content = json.loads((folder / class_results.RESULT_FILE).read_text())
    content["best"]["image_auroc"] = 0.7
    (folder / class_results.RESULT_FILE).write_text(json.dumps(content))
    parsed = Parsed(report_page.build(tmp_path))
    assert "scores of another one: test the class again" in parsed.text
    assert len(parsed.all("svg")) == 0
    assert len(parsed.all("img")) == 2  # synthetic defects are of the training


def test_a_class_without_test_images(tmp_path: Path) -> None:
    folder = add_class(tmp_path, best={}, last={})
    content = {"figures": {}, "train_images": 12, "threshold": THRESHOLD}
    (folder / test_scores.EVIDENCE_FILE).write_text(json.dumps(content))
    text = Parsed(report_page.build(tmp_path)).text
    assert "12 normal training images; no test images." in text
    promise = "at most 50 % false alarms; 98 more held-out good pictures promise 1 %"
    assert f"Threshold 0.90000, set by 1 held-out normal: {promise}; test the class again" in text
    assert f"python predict.py --model {folder} --out first PICTURES" in text
    assert "I-AUC" not in text and " - -" not in text


def test_a_class_without_test_images_shows_what_is_held_out(tmp_path: Path) -> None:
    add_class(tmp_path, "mvtec_nut")
    page = report_page.build(tmp_path)
    folder = add_class(tmp_path, best={}, last={})
    scores = {"labels": [0, 1, 0, 1], "scores": [0.2, 0.95, 0.4, 0.5], "images": ["bolt/1.png"] * 4}
    content = {"figures": {}, "train_images": 12, "threshold": THRESHOLD, "held_out": True, **scores}
    content["kinds"] = ["held out", "synthetic defect"] * 2
    (folder / test_scores.EVIDENCE_FILE).write_text(json.dumps(content))
    parsed = Parsed(report_page.build(tmp_path))
    assert "mvtec_screw 2 0.30000 0.40000 0.90000 1 of 2 3" in parsed.text
    assert "12 normal training images; no test images. Epoch 3." in parsed.text
    assert "Synthetic defects with the lowest scores" in parsed.text
    assert "Held-out good pictures with the highest scores" in parsed.text
    assert "held out normal 2 0.20000 0.30000 0.40000 - 0" in parsed.text
    assert parsed.text.count("I-AP") == Parsed(page).text.count("I-AP")  # the other class's


def test_a_grown_model_stands_beside_the_old_one(tmp_path: Path) -> None:
    folder = add_class(tmp_path)
    rows = [
        Judged("old", "old", 4, 0.2, 0.3, 0.3, 0, 3, True),
        Judged("new", "new", 1, 0.1, 0.1, None, None, None, False),
    ]
    growth_table.write(folder, Growth("200 iterations from ckpt_best_3.pth sha256:12ab", rows))
    text = Parsed(report_page.build(tmp_path)).text
    assert "the old training old 4 0.20000 0.30000 0.30000* 0 of 4 3 of 4" in text
    assert "the new pictures new 1 0.10000 0.10000 - - -" in text
    assert "Grown by 200 iterations from ckpt_best_3.pth." in text


def test_pictures_of_earlier_versions_are_not_said_to_have_todays_colours(tmp_path: Path) -> None:
    folder = add_class(tmp_path)
    content = json.loads((folder / test_scores.EVIDENCE_FILE).read_text())
    content["threshold"] = {"score": 0.4, "pixel": 0.3, "basis": "test normals", "count": 10}
    for scale in (None, {"score": 0.2, "pixel": 0.1}):
        (folder / test_scores.EVIDENCE_FILE).write_text(json.dumps(content | {"scale": scale}))
        page = Parsed(report_page.build(tmp_path))
        assert ("marked above 0.30000" in page.text) == ("0.5 is the threshold" in page.text) == (scale is not None)
        lowest = page.text.partition("001.png · ")[2] or page.text
        assert bool(re.search(r"png · 0\.\d{5} \(0\.\d\d\)", lowest)) == (scale is not None)


def test_the_image_that_sets_the_threshold_is_no_false_alarm(tmp_path: Path) -> None:
    folder = add_class(tmp_path)
    content = json.loads((folder / test_scores.EVIDENCE_FILE).read_text())
    highest = max(score for score, label in zip(content["scores"], content["labels"], strict=True) if not label)
    content["threshold"] = {"score": highest, "basis": "test normals", "count": 10}
    content["scores"] = [float(f"{score:.9g}") + 1e-9 for score in content["scores"]]  # as earlier versions rounded
    (folder / test_scores.EVIDENCE_FILE).write_text(json.dumps(content))
    text = Parsed(report_page.build(tmp_path)).text
    assert ": 0 of 10 normal images are false alarms" in text and " false alarm " not in text


def test_each_backbone_has_a_part(tmp_path: Path) -> None:
    add_class(tmp_path)
    add_class(tmp_path, index=1, backbone="wideresnet50")
    parsed = Parsed(report_page.build(tmp_path))
    ids = [each["id"] for each in parsed.all("h2") if "id" in each]
    assert ids[-2:] == ["mvtec_screw-0", "mvtec_screw-1"]
    assert "on 2 backbones" in parsed.text


def test_many_large_pictures_do_not_make_the_page_large(tmp_path: Path) -> None:
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 600, 3), dtype=np.uint8)).save(noise, "JPEG")
    for k in range(4):
        folder = add_class(tmp_path, f"mvtec_{k:02d}")
        for path in (folder / review.FOLDER).iterdir():
            path.write_bytes(noise.getvalue())
    page = report_page.build(tmp_path)
    shown = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(page) < 5_000_000 and len(shown) >= 15
    assert {base64.b64decode(each) for each in shown} == {noise.getvalue()}


def test_the_program_writes_the_page(results: Path, page: str, tmp_path: Path) -> None:
    outcome = CliRunner().invoke(report.main, [str(results)])
    assert (outcome.exit_code, outcome.output.strip()) == (0, str(results / "report" / "index.html"))
    assert (results / "report" / "index.html").read_text() == page
    assert CliRunner().invoke(report.main, [str(results), "--out", str(tmp_path / "a.html")]).exit_code == 0
    assert (tmp_path / "a.html").read_text() == page


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (None, "", "test a class first"),
        ("result.json", "{", "result.json is damaged"),
        ("evidence.json", "{", "evidence.json is damaged"),
        ("model.json", "[]", "model.json is damaged"),
        ("run.json", "{", "run.json is damaged"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(tmp_path: Path, name: str | None, text: str, words: str) -> None:
    if name is not None:
        (add_class(tmp_path) / name).write_text(text)
    outcome = CliRunner().invoke(report.main, [str(tmp_path)])
    assert outcome.exit_code == 2
    assert words in outcome.output and len(outcome.output.splitlines()) == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("content", [b"", b"no picture", None, "cut"])
def test_a_damaged_picture_is_left_out_and_named(results: Path, tmp_path: Path, content: bytes | str | None) -> None:
    shutil.copytree(results, tmp_path / "results")
    picture = next((tmp_path / "results").rglob("alarm_2.jpg"))
    whole = picture.read_bytes()
    picture.unlink()
    picture.mkdir() if content is None else picture.write_bytes(whole[:200] if content == "cut" else content)
    outcome = CliRunner().invoke(report.main, [str(tmp_path / "results")])
    assert outcome.exit_code == 0, outcome.output
    line, page = outcome.output.strip().splitlines()
    assert line.startswith(f"{picture} cannot be shown (")
    assert len(Parsed(Path(page).read_text()).all("img")) == 27


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_nothing_is_one_line(results: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    outcome = CliRunner().invoke(report.main, [str(results)])
    assert outcome.exit_code == 2
    (line,) = outcome.output.splitlines()
    assert f"index.html cannot be written ({os.strerror(number)}): make room or give another folder" in line


@pytest.mark.parametrize("letters", ["cp1252", "latin-1"])
def test_a_console_need_not_have_the_letters_of_a_folder(tmp_path: Path, letters: str) -> None:
    add_class(tmp_path / "\u65e5\u672c")
    outcome = CliRunner(charset=letters).invoke(report.main, [str(tmp_path / "\u65e5\u672c")])
    assert outcome.exit_code == 0 and "\\u65e5\\u672c" in outcome.output
    outcome = CliRunner(charset=letters).invoke(report.main, [str(tmp_path / "\u65e5")])
    assert outcome.exit_code == 2 and "\\u65e5 holds no models" in outcome.output


def test_results_that_are_a_file_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = CliRunner().invoke(report.main, [str(tmp_path / "file")])
    assert outcome.exit_code == 2 and len(outcome.output.splitlines()) == 1


MEASURE = """<script>onload = () => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument, root = page.documentElement;
  const broken = [...page.images].filter(each => !each.naturalWidth).length;
  document.title = [root.clientWidth, root.scrollWidth, page.images.length, broken].join(" ");
  frame.remove();
}</script>"""


@in_browser
def test_a_browser_has_nothing_to_complain_about(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "bad.html").write_text(page.replace("</body>", '<img src="http://127.0.0.1:1/a.png"></body>'))
    assert complaints(browse(tmp_path / "page.html", "--dump-dom")) == []
    assert complaints(browse(tmp_path / "bad.html", "--dump-dom"))  # so a complaint would have been seen


@in_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_needs_no_scrolling_sideways(page: str, tmp_path: Path, width: int) -> None:
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(page)}"></iframe>'
    (tmp_path / "frame.html").write_text(f"<title>-</title>{frame}{MEASURE}")
    done = browse(tmp_path / "frame.html", "--dump-dom", "--window-size=1600,1000")
    client, scroll, pictures, broken = map(int, re.search("<title>(.*?)</title>", done.stdout)[1].split())
    assert width - 20 <= client and scroll <= client
    assert (pictures, broken) == (28, 0)


@pytest.fixture(scope="module", params=[390, 1440])
def keyboard(page: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Keyboard]:
    """The page in a browser of a width, driven by keys."""
    path = tmp_path_factory.mktemp("keyboard") / "page.html"
    path.write_text(page)
    driven = Keyboard(path, request.param)
    yield driven
    driven.close()


@in_browser
def test_the_keyboard_stops_in_order_at_all_there_is(keyboard: Keyboard) -> None:
    stops = keyboard.walk()
    nut = ["Settings of mvtec_nut", "Provenance of mvtec_nut"]
    back = ["Back to the list of classes"]
    expected = ["Skip to the figures", "mvtec_nut", "mvtec_screw", *nut, *back, "Settings of mvtec_screw", *back]
    assert [stop["name"] for stop in stops] == expected
    assert all(stop["seen"] for stop in stops)
    assert [keyboard.press("Tab", shift=True)["name"] for _ in expected] == expected[::-1]


@in_browser
def test_links_take_the_focus_along(keyboard: Keyboard) -> None:
    places = {"Skip to the figures": "figures", "mvtec_nut": "mvtec_nut", "mvtec_screw": "mvtec_screw"}
    places["Back to the list of classes"] = "classes"
    for name, place in places.items():
        keyboard.run("document.activeElement.blur()")
        while keyboard.press("Tab")["name"] != name:
            pass
        there = keyboard.press("Enter")
        assert (there["id"], there["seen"]) == (place, True)


@in_browser
def test_keys_open_and_close_what_is_folded(keyboard: Keyboard) -> None:
    keyboard.run("document.querySelector('summary').focus()")
    shown = []
    for key in ("Enter", "Space", "Space", "Enter"):
        keyboard.press(key)
        shown.append(keyboard.run("document.querySelector('details dl').checkVisibility()"))
    assert shown == [True, False, True, False]
    assert keyboard.complaints == []
