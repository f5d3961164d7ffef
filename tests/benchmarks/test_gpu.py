"""What measures a GPU runs here in small: on the CPU and on a pretended GPU; it goes on, and says what failed."""

import json
import time
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu, gpu_stages
from benchmarks.cases import one_thread
from tests.helpers.pictures import noise, write
from tests.helpers.pretended_gpu import CUDA, PretendedGPU

NOT_PRETENDED = {"graph", "triton", "exported", "loading", "ratios"}  # it does not capture, compile, trace, or pin
INTERRUPTED = """
trap '' INT  # as a shell does that waits for Python
"$PYTHON" -c "
import os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ['RESULTS'], 'models', 'backbone_0', 'mvtec_screw')
folder.mkdir(parents=True)
def stop(*_):
    (folder / 'saved').touch()
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
text = '{\\"iteration\\": 0, \\"loss\\": 1.0}\\n'
for epoch in range(2):
    text += '{\\"epoch\\": %d, \\"i-auroc\\": 0.%d, \\"p-auroc\\": 0.5}\\n' % (epoch, 7 + epoch)
    (folder / 'curves.jsonl').write_text(text)
    time.sleep(1)
time.sleep(60)
"
"""


def call(*arguments: object):
    return CliRunner().invoke(gpu.main, [str(each) for each in arguments])


def test_without_a_gpu_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = call()
    assert outcome.exit_code == 2 and len(outcome.output.splitlines()) == 1 and "no GPU" in outcome.output
    assert not list(tmp_path.iterdir())


def test_a_pretended_gpu_takes_the_stages_without_a_fault(tmp_path):
    names = [name for name in gpu.SECONDS if name not in NOT_PRETENDED]
    rig = replace(gpu.small_rig(CUDA, tmp_path), repeat=1, sizes=replace(gpu.SMALL, imagesize=64))
    with PretendedGPU() as pretended:
        findings = gpu.Findings(tmp_path / gpu.FILE)
        assert gpu.measure_all(rig, findings, names, time.monotonic() + 1e6) == []
    assert not pretended.faults, pretended.report()
    assert [name for name in names if "error" in findings.stages[name]] == []
    assert findings.stages["environment"]["device"].startswith("pretended GPU")
    assert findings.stages["waits"]["host waits in a step"] == 0
    shown = gpu.table(json.loads(findings.path.read_text()))
    assert "training step, bf16, hypersphere" in shown and "kernels in a step" in shown


def test_what_is_compared_with_the_releases_way_agrees(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_stages, "RATIOS", ("embed",))
    findings, rig = gpu.Findings(tmp_path / gpu.FILE), gpu.small_rig(torch.device("cpu"), tmp_path)
    with one_thread():
        gpu.measure_all(rig, findings, ["loading", "ratios"], time.monotonic() + 1e6)
    assert all(map(gpu.sound, findings.stages.values())), findings.stages
    assert findings.stages["loading"]["1 workers"]["then batches/s"] > 0
    assert "embed, release's way / this program" in gpu.table(findings.stages)


def test_a_call_goes_on_where_the_last_one_ended(tmp_path):
    first = call("--small", "--out", tmp_path, "environment")
    assert first.exit_code == 0 and "copy GB/s" in first.output
    findings = json.loads((tmp_path / gpu.FILE).read_text())
    again = call("--small", "--out", tmp_path, "--minutes", 0.01)
    assert again.exit_code == 0 and "Call again for steps" in again.output and "copy" not in again.output
    assert json.loads((tmp_path / gpu.FILE).read_text()) == findings
    findings["environment"]["device"] = "another"
    (tmp_path / gpu.FILE).write_text(json.dumps(findings))
    assert call("--small", "--out", tmp_path).exit_code == 2


def test_a_stage_that_fails_is_told_and_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_stages, "environment", lambda rig: 1 / 0)
    outcome = call("--small", "--out", tmp_path, "environment", "evaluation")
    assert outcome.exit_code == 1 and "ZeroDivisionError" in outcome.output
    found = json.loads((tmp_path / gpu.FILE).read_text())
    assert "error" in found["environment"] and "8 images" in found["evaluation"]
    findings = gpu.Findings(tmp_path / gpu.FILE)
    assert findings.known("evaluation") and not findings.known("environment") and not findings.known("steps")


def test_answers_that_differ_are_no_success():
    assert gpu.sound({"step": {"agree": True}, "seconds": 1.0})
    assert not gpu.sound({"step": {"agree": False}})


def test_exported_files_give_the_models_answers(tmp_path):
    found = gpu_stages._exported(gpu.small_rig(torch.device("cpu"), tmp_path), "letterbox")
    assert max(found["against PyTorch"].values()) < 1e-5 and found["batch 3"]["images/s"] > 0


def test_the_page_names_every_stage():
    page = (gpu.ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert [name for name in (*gpu.SECONDS, "screw") if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize("i", [0, 1])
def test_box_sums_are_the_grouped_convolution(tmp_path, i):
    rig = gpu.small_rig(torch.device("cpu"), tmp_path)
    glass = rig.glass()
    with torch.no_grad():
        plane = list(glass.aggregator(rig.images(2)).values())[i]
        weight, groups = getattr(glass.patch_embedding, f"weight{i}"), glass.patch_embedding.groups[i]
        torch.testing.assert_close(gpu_stages.BoxSums(weight, groups)(plane), glass.patch_embedding.pool(i, plane))


def test_a_training_is_stopped_in_time_and_saves(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    (tmp_path / "shell").mkdir()
    (tmp_path / "shell" / "run-mvtec.sh").write_text(INTERRUPTED)
    found = gpu.train(tmp_path, {}, time.monotonic() + gpu.SAVING + 6)
    assert found["epochs"] == 2 and not found["done"] and found["i-auroc"] == 0.8
    assert 0.5 < found["seconds an epoch"] < 4
    assert list(tmp_path.rglob("saved"))


def test_a_training_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    (tmp_path / "shell").mkdir()
    (tmp_path / "shell" / "run-mvtec.sh").write_text("exit 2")
    with pytest.raises(RuntimeError, match="screw.log"):
        gpu.train(tmp_path, {}, time.monotonic() + 60)


def test_screw_is_trained_to_its_end(tmp_path):
    for k in range(4):
        write(tmp_path / f"data/screw/train/good/{k:03d}.png", noise(k, (40, 40)))
        write(tmp_path / f"data/screw/test/good/{k:03d}.png", noise(k + 9, (40, 40)))
    settings = {
        "DATAPATH": str(tmp_path / "data"), "AUGPATH": "none", "EPOCHS": "1", "EMBED": "24", "RESIZE": "32",
        "IMAGESIZE": "32", "BATCH_SIZE": "2", "NUM_WORKERS": "0", "DISTRIBUTION": "2",
        "NET_OPTIONS": "--backbone_weights random --dsc_hidden 16",
    }  # fmt: skip
    found = gpu.train(tmp_path, settings, time.monotonic() + 600)
    assert found["done"], (tmp_path / "screw.log").read_text()


def test_the_stage_of_triton_compares_both_ways(tmp_path, monkeypatch):
    right = gpu_stages.start_ascent
    monkeypatch.setattr(gpu_stages, "start_ascent", lambda *args: right(*args[:-1]))  # a CPU has no Triton
    found = gpu_stages.triton(gpu.small_rig(torch.device("cpu"), tmp_path))
    assert found["climb by Triton, fp32"]["largest difference"] == 0
    assert found["step as a graph by Triton, bf16"]["queued"] > 0
