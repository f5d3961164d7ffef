"""Several seeds in one command: a results folder each, shared, resumed and summed up as one."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import main
from artifacts import layout, run_info
from datasets import base
from datasets.published import MEAN, METRICS, published_figures
from jobs import checks, job
from tests.helpers.small_model import pictures

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes in MVTec AD's layout, with a kind of defect."""
    root = tmp_path_factory.mktemp("data")
    for name in ("nut", "bolt"):
        for folder, count in (("train/good", 4), ("test/good", 2), ("test/scratch", 2)):
            pictures(root / name / folder, count, (32, 32))
        for path in (root / name / "test/scratch").iterdir():
            mask = torch.zeros(32, 32, dtype=torch.uint8)
            mask[8:20, 8:20] = 255
            write_mask(root / name / "ground_truth/scratch" / f"{path.stem}_mask.png", mask)
    return root


def write_mask(path: Path, mask: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.numpy()).save(path)


def run(data: Path, results: Path, *group: object, classes: tuple[str, ...] = ("nut", "bolt")) -> Result:
    line = ["--results_path", results, *group, "net", "-b", "resnet18", "--backbone_weights", "random"]
    line += ["--pretrain_embed_dimension", 16, "--target_embed_dimension", 16, "--dsc_hidden", 8, "--step", 2]
    line += ["--meta_epochs", 1, "dataset", *(part for name in classes for part in ("-d", name)), "--resize", 32]
    line += ["--imagesize", 32, "--batch_size", 4, "--num_workers", 0, "--fg", 0, "--distribution", 2, "mvtec", data]
    return CliRunner().invoke(main.main, [str(part) for part in line])


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    results = tmp_path_factory.mktemp("out") / "results"
    return results, run(data, results, "--seeds", "0,3")


def test_each_seed_is_a_results_folder_as_one_seed_alone_makes_it(trained, data, tmp_path):
    results, outcome = trained
    assert outcome.exit_code == 0, outcome.output
    assert run(data, tmp_path / "alone", "--seed", 3).exit_code == 0
    seeded = layout.seed_folder(results, 3)
    assert (seeded / "results.csv").read_bytes() == (tmp_path / "alone" / "results.csv").read_bytes()
    for name in ("model.json", "evidence.json", "result.json"):
        assert (layout.class_folder(seeded, 0, "mvtec_nut") / name).is_file()
    settings = json.loads((layout.class_folder(seeded, 0, "mvtec_nut") / "result.json").read_text())["settings"]
    assert settings["seed"] == 3
    weights = [
        torch.load(layout.class_folder(folder, 0, "mvtec_nut") / "ckpt.pth", weights_only=True)["discriminator"]
        for folder in layout.results_folders(results)
    ]
    assert not torch.equal(weights[0]["tail.0.weight"], weights[1]["tail.0.weight"])


def test_a_run_ends_with_mean_and_deviation_and_the_kinds_of_defect(trained):
    results, outcome = trained
    rows = {row["Row Names"]: row for row in csv.DictReader((results / layout.SEEDS_FILE).open())}
    own = [
        {row["Row Names"]: float(row["image_auroc"]) for row in csv.DictReader((folder / "results.csv").open())}
        for folder in layout.results_folders(results)
    ]
    assert list(rows) == ["mvtec_nut", "mvtec_bolt", "Mean"]
    for name, row in rows.items():
        first, second = (each[name] for each in own)
        assert float(row["image_auroc_mean"]) == pytest.approx((first + second) / 2, abs=2e-6)
        assert float(row["image_auroc_std"]) == pytest.approx(abs(first - second) / 2**0.5, abs=2e-6)
    assert "best epoch on test (%), 2 runs" in outcome.output and str(results / layout.SEEDS_FILE) in outcome.output
    kinds = list(csv.DictReader((layout.results_folders(results)[0] / layout.KINDS_FILE).open()))
    assert [(row["Row Names"], row["kind"], row["images"]) for row in kinds] == [
        ("mvtec_nut", "scratch", "2"),
        ("mvtec_bolt", "scratch", "2"),
    ]
    tested = next(csv.DictReader((layout.results_folders(results)[0] / "results.csv").open()))
    for metric in ("image_auroc", "pixel_auroc"):  # one kind alone is all there is
        assert float(kinds[0][metric]) == pytest.approx(float(tested[metric]), abs=2e-6)


def test_the_same_command_goes_on_and_shards_share_classes_and_seeds(trained, data, tmp_path):
    outcomes = [run(data, tmp_path, "--seeds", "0,3", "--shard", f"{shard}/3", classes=("nut",)) for shard in (1, 2)]
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    assert "This shard holds none" in outcomes[1].output
    done = [path for path in layout.results_folders(tmp_path) if (path / "results.csv").is_file()]
    assert [path.name for path in done] == ["seed_3"]
    before = (layout.class_folder(done[0], 0, "mvtec_nut") / "ckpt.pth").stat().st_mtime_ns
    outcome = run(data, tmp_path, "--seeds", "0,3", classes=("nut",))
    assert outcome.exit_code == 0, outcome.output
    assert (layout.class_folder(done[0], 0, "mvtec_nut") / "ckpt.pth").stat().st_mtime_ns == before
    assert (tmp_path / layout.SEEDS_FILE).is_file()


def test_tests_read_the_models_of_each_seed(trained, data, tmp_path):
    outcome = run(data, tmp_path, "--seeds", "3", "--test", "test", "--models_path", trained[0])
    assert outcome.exit_code == 0, outcome.output
    seeded = [layout.seed_folder(path, 3) / "results.csv" for path in (trained[0], tmp_path)]
    assert seeded[0].read_bytes() == seeded[1].read_bytes()


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (("--seeds", "0,1", "--seed", 2), "--seed is for one training, --seeds for several: leave one out."),
        (("--seeds", "1,1"), "'1,1' is no list of different seeds as in 0,1,2."),
        (("--seeds", "0,x"), "is no list of different seeds"),
    ],
)
def test_wrong_seeds_are_one_line(data, tmp_path, group, words):
    outcome = run(data, tmp_path, *group)
    assert outcome.exit_code == 2 and words in " ".join(outcome.output.split())


def test_the_space_of_all_seeds_must_be_there(data, tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(job, "check_space", lambda _, spaces: found.append(spaces) or sys.exit(0))
    for group in (("--seed", 0), ("--seeds", "0,1")):
        run(data, tmp_path / str(len(found)), *group)
    (one,), (first, second) = found
    assert one == first == second and one.lasting > one.passing > 0
    monkeypatch.undo()
    monkeypatch.setattr(checks.files, "free_bytes", lambda _: one.lasting + one.passing)
    checks.check_space(tmp_path, [one])
    with pytest.raises(ValueError, match="GB free, this run needs about"):
        checks.check_space(tmp_path, [first, second])
    monkeypatch.setattr(checks.files, "free_bytes", lambda _: 2 * one.lasting + one.passing)
    checks.check_space(tmp_path, [first, second])


def test_the_checks_decode_and_hash_no_image_for_each_seed(data, tmp_path, monkeypatch):
    looked, hashed = [], []
    look, digests = base.look_at_picture, run_info.digests
    monkeypatch.setattr(base, "look_at_picture", lambda path, *more: looked.append(path) or look(path, *more))
    monkeypatch.setattr(run_info, "digests", lambda paths: hashed.extend(paths) or digests(paths))
    outcome = run(data, tmp_path, "--seeds", "0,1", classes=("nut",))
    assert outcome.exit_code == 0, outcome.output
    assert len(looked) == len(set(looked)) == 8 and len(hashed) == len(set(hashed)) >= 8


def test_the_documents_have_the_published_figures():
    rows = [line.split(" | ") for line in (ROOT / "docs/ablation.md").read_text().splitlines() if line.startswith("| ")]
    figures, compared = published_figures(), 0
    methods = {"full": "glass-m", "hypersphere": "glass-h", "judged": "glass-j"}
    for row in rows:
        name = row[1].strip("`| ")
        method, backbone = methods.get(name, "glass-m"), name if name.startswith("resnet") else "wideresnet50"
        if name in methods or backbone != "wideresnet50":
            wanted = figures["mvtec", MEAN, (method, backbone)]
            assert row[3].strip("| ") == " / ".join(f"{wanted[metric]:.1f}" for metric in METRICS), name
            compared += 1
    assert compared == 7
