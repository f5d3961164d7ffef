"""The notebooks run as Jupyter runs them, offline, and what they show is right."""

import json
from pathlib import Path

import pytest

from tests.test_arrows import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ASKED = {  # what is asked of a notebook when it is done
    "synthesis": """
from sklearn.metrics import roc_auc_score

samples = [own.on_grid((SIDE, SIDE))[k] for k in range(8)]
inside = all(bool((s["aug"] == s["image"])[:, s["mask_s"] == 0].all()) for s in samples)
darker = all(bool((s["aug"] < s["image"])[:, s["mask_s"] == 1].all()) for s in samples)
_, scores, maps, labels, masks = net.predict(tests)
pixels = roc_auc_score(np.stack(masks).ravel() == 1, np.stack(maps).ravel())
found = {"inside": inside, "darker": darker, "images": roc_auc_score(labels, scores), "pixels": pixels, **figures}
""",
    "parts": """
other = build()
other.set_model_dir(Path(tempfile.mkdtemp()) / "models" / "backbone_0", train.name)
train.distribution = 2  # the manifold, as of a GLASS that is not told otherwise
again = DataLoader(train.on_grid(net.grid), batch_sampler=EpochSampler(len(train), 8, 0, train.name))
other.trainer(again, [], train.name)
pairs = [(net.state_dict()[key], value) for key, value in other.state_dict().items()]
spot = np.zeros((SIDE, SIDE), bool)
spot[20:32, 36:48] = True
found = {"same": all(map(torch.equal, *zip(*pairs))), "epochs": len(losses), "auroc": figures["image_auroc"],
         "rows": list(rows.shape), "peak": bool(spot.ravel()[int(maps[0].argmax())])}
""",
}


def ran(name: str) -> dict:
    """Run a notebook in its folder and return what is asked of it."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    last = nbformat.v4.new_code_cell(f"import json\n{ASKED[name]}\nprint('found', json.dumps(found))")
    notebook.cells.append(last)
    folder = {"metadata": {"path": str(ROOT / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    (text,) = [each["text"] for each in last["outputs"] if each.get("name") == "stdout"]
    return json.loads(text.rpartition("found ")[2])


def test_a_synthesis_of_ones_own_is_learnt():
    found = ran("synthesis")
    assert found["inside"] and found["darker"]
    assert found["ours"]["image_auroc"] == pytest.approx(found["images"])
    assert found["ours"]["pixel_auroc"] == pytest.approx(found["pixels"], abs=1e-4)
    assert found["ours"]["pixel_auroc"] > 0.9


def test_a_loop_of_ones_own_ends_with_the_weights_of_the_program():
    found = ran("parts")
    assert found["same"] and found["epochs"] == 4
    assert found["rows"] == [256, 32] and found["peak"] and found["auroc"] == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert {cell["cell_type"] for cell in cells} == {"code", "markdown"}
    assert [cell["outputs"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_every_notebook_runs():
    assert {path.stem for path in NOTEBOOKS} == set(ASKED)
