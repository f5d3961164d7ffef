"""The command line from end to end, on small pictures and a random backbone."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import main as cli
from artifacts import options
from artifacts.options import DataOptions, NetOptions, RunOptions
from artifacts.run_state import RunState
from inference.predictor import Predictor
from reporting import review
from tests.helpers import trackers

SIDE = 64


def write_image(path: Path, rng: np.random.Generator, spot: bool = False) -> None:
    """Write a noisy picture, on request with a white square."""
    pixels = rng.integers(60, 120, (SIDE, SIDE, 3), dtype=np.uint8)
    if spot:
        pixels[20:40, 20:40] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data set in MVTec layout with two classes, and textures."""
    root, rng = tmp_path_factory.mktemp("data set"), np.random.default_rng(0)
    for name in ("nut", "bolt"):
        for i in range(5):
            write_image(root / name / "train" / "good" / f"{i:03d}.png", rng)
        for i in range(3):
            write_image(root / name / "test" / "good" / f"{i:03d}.png", rng)
            write_image(root / name / "test" / "spot" / f"{i:03d}.png", rng, spot=True)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[20:40, 20:40] = 255
            path = root / name / "ground_truth" / "spot" / f"{i:03d}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    for i in range(2):
        write_image(root / "dtd" / "dots" / f"{i}.jpg", rng)
    return root


NET = ["--pretrain_embed_dimension", 32, "--target_embed_dimension", 32, "--dsc_hidden", 16, "--meta_epochs", 2]
NET += ["--backbone_weights", "random"]
DATASET = ["--resize", SIDE, "--imagesize", SIDE, "--batch_size", 4, "--num_workers", 0, "--fg", 0, "--distribution", 2]


def command_line(
    data: Path, results: Path, *, group=(), net=(), dataset=(), classes=("nut",), name="mvtec", aug="dtd"
) -> list[str]:
    """Return the arguments of a small run of main.py."""
    chosen = [part for each in classes for part in ("-d", each)]
    backbone = () if "-b" in net else ("-b", "resnet18")
    line = [
        "--results_path",
        results,
        *group,
        "net",
        *NET,
        *backbone,
        *net,
        "dataset",
        *chosen,
        *DATASET,
        *dataset,
        name,
        data,
    ]
    line += [data / aug] if aug else []
    return [str(part) for part in line]


def call(data: Path, results: Path, **options) -> Result:
    """Run main.py in this process; the options are those of command_line."""
    return CliRunner().invoke(cli.main, command_line(data, results, **options))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> tuple[Path, Result]:
    """The results folder of a run over two classes."""
    results = tmp_path_factory.mktemp("out") / "results"
    return results, call(data, results, classes=("nut", "bolt"))


def test_a_run_writes_what_the_release_writes(trained):
    results, outcome = trained
    assert outcome.exit_code == 0, outcome.output
    folder = results / "models" / "backbone_0" / "mvtec_nut"
    assert {"ckpt.pth", "state.pth", "result.json", "tb"} <= {path.name for path in folder.iterdir()}
    assert len(list(folder.glob("ckpt_best_*.pth"))) == 1
    assert sorted(path.name for path in (results / "eval" / "mvtec_nut").iterdir()) == [
        f"{i:03d}.png" for i in range(1, 7)
    ]
    assert len(list((results / "training" / "mvtec_bolt").iterdir())) == 6
    with Image.open(results / "eval" / "mvtec_nut" / "001.png") as picture:
        assert picture.size == (768, 256)
    rows = list(csv.reader((results / "results.csv").open()))
    assert rows[0][:7] == ["Row Names", "image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_pro", "best_epoch"]
    assert [row[0] for row in rows[1:]] == ["mvtec_nut", "mvtec_bolt", "Mean"]
    assert "mvtec_bolt" in outcome.output


def test_a_run_leaves_one_page_and_what_it_is_made_of(trained):
    results, outcome = trained
    folder = results / "models" / "backbone_0" / "mvtec_nut"
    evidence = json.loads((folder / "evidence.json").read_text())
    assert evidence["images"] == [f"{kind}/{i:03d}.png" for kind in ("good", "spot") for i in range(3)]
    assert set(evidence["training"]) >= {"loss", "p_true", "i-auroc"}
    assert len(list((folder / "review").glob("*.jpg"))) == 3 + 3 + 5  # missed, false alarms, all training images
    page = (results / "report" / "index.html").read_text()
    assert page.count("<img") == 22 and str(results / "report" / "index.html") in outcome.output


def test_a_test_tells_the_settings_of_the_training(trained, data, tmp_path):
    group = ["--test", "test", "--models_path", trained[0]]
    assert call(data, tmp_path, group=group, net=["--meta_epochs", 9]).exit_code == 0
    result = json.loads((tmp_path / "models" / "backbone_0" / "mvtec_nut" / "result.json").read_text())
    assert result["settings"]["meta_epochs"] == 2


def test_the_stored_checkpoints_test_alike(trained, data, tmp_path):
    results, _ = trained
    for kind in ("training", "test"):
        extra = ["--test", "test"] if kind == "test" else []
        other = tmp_path / kind
        group = [*extra, "--models_path", results] if kind == "test" else []
        outcome = call(data, other if kind == "test" else results, group=group, classes=("nut", "bolt"), aug="dtd")
        assert outcome.exit_code == 0, outcome.output
        where = other if kind == "test" else results
        assert (where / "results.csv").read_bytes() == (results / "results.csv").read_bytes()
    assert not (tmp_path / "test" / "models" / "backbone_0" / "mvtec_nut" / "ckpt.pth").exists()


def test_textures_are_not_needed_to_test(trained, data, tmp_path):
    outcome = call(data, tmp_path, group=["--test", "test", "--models_path", trained[0]], aug=None)
    assert outcome.exit_code == 0, outcome.output


def test_the_same_command_gives_the_same_bytes_with_any_workers(trained, data, tmp_path):
    outcome = call(data, tmp_path, classes=("nut", "bolt"), dataset=["--num_workers", 2])
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "results.csv").read_bytes() == (trained[0] / "results.csv").read_bytes()


def test_a_line_written_for_the_release_runs(data, tmp_path):
    group = ["--gpu", "0", "--log_group", "simplenet_mvtec", "--log_project", "MVTecAD_Results", "--run_name", "run"]
    net = ["-b", "resnet18", "-le", "layer2", "-le", "layer3", "--svd", "1", "--dsc_margin", "0.5", "--radius", "0.75"]
    dataset = ["--mean", "0.5", "--std", "0.1", "--rand_aug", "1", "--augment", "--downsampling", "8"]
    outcome = call(data, tmp_path, group=group, net=net, dataset=dataset)
    assert outcome.exit_code == 0, outcome.output


def test_a_backbone_seed_changes_the_training_and_not_the_start(data, tmp_path):
    states = {}
    for name in ("resnet18", "resnet18.seed-5"):
        outcome = call(data, tmp_path / name, net=["-b", name], group=["--seed", 3])
        assert outcome.exit_code == 0, outcome.output
        folder = tmp_path / name / "models" / "backbone_0"
        weights = torch.load(folder / "mvtec_nut" / "ckpt.pth", weights_only=True)["discriminator"]["tail.0.weight"]
        states[name] = ((folder / "backbone.safetensors").read_bytes(), weights)
    assert states["resnet18"][0] == states["resnet18.seed-5"][0]
    assert not torch.equal(states["resnet18"][1], states["resnet18.seed-5"][1])


def test_several_backbones_take_their_own_layers_and_rows(data, tmp_path):
    layers = ["-le", "0.layer2", "-le", "0.layer3", "-le", "1.layer1"]
    outcome = call(data, tmp_path, net=["-b", "resnet18", "-b", "resnet18.seed-1", *layers])
    assert outcome.exit_code == 0, outcome.output
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("models/*/mvtec_nut/result.json"))]
    assert [result["settings"]["layers_to_extract_from"] for result in results] == ["layer2,layer3", "layer1"]
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 4


def test_judging_alone_writes_tables_and_trains_nothing(data, tmp_path):
    outcome = call(data, tmp_path, dataset=["--distribution", 1])
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "judge" / "mvtec_distribution.xlsx").is_file()
    assert not list(tmp_path.rglob("*.pth"))


def test_an_unlisted_class_is_judged_and_trained_in_one_run(data, tmp_path):
    outcome = call(data, tmp_path, dataset=["--distribution", 0])
    assert outcome.exit_code == 0, outcome.output
    assert "judged from its training images" in outcome.output
    assert (tmp_path / "results.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": ("screw",)}, "screw"),
        ({"aug": "nowhere"}, "nowhere"),
        ({"net": ["-b", "resnet81"]}, "Unknown backbone 'resnet81'"),
        ({"net": ["-le", "layre2"]}, "no layer 'layre2'"),
        ({"net": ["--backbone_weights", "lost.pth"]}, "lost.pth does not exist"),
        ({"net": ["--patchsize", 2]}, "--patchsize 2 must be odd"),
        ({"net": ["--las", 0, "--gas", 0]}, "--las 0 and --gas 0 leave nothing to learn from"),
        ({"net": ["--manifold_radii", "1,0.5"]}, "'1,0.5' is not LOW,HIGH"),
        ({"net": ["-b", "timm:test_convnext"]}, "Choose by -le: stem (stride 4)"),
        ({"net": ["-b", "timm:test_convnxt"]}, "has no model 'test_convnxt'. Near ones: test_convnext"),
        ({"dataset": ["--imagesize", 80]}, "--imagesize 80 is above --resize 64"),
        ({"dataset": ["--fg", 1]}, "--fg 0"),
        ({"group": ["--test", "test"]}, "holds no ckpt_best"),
        ({"group": ["--test", "tset"]}, "tset"),
        ({"name": "coco"}, "coco"),
        ({"net": ["--noise", "nan"]}, "'nan' is not a finite number"),
        ({"dataset": ["--mean", "inf"]}, "'inf' is not a finite number"),
        ({"group": ["--seed", "9" * 30]}, "--seed"),
        ({"net": ["-b", "resnet18.seed-" + "9" * 30]}, "the seed must be a number of up to 18 digits"),
        ({"net": ["--dsc_hidden", 10**7, "--dsc_layers", 3]}, "GB of memory"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(data, tmp_path, arguments, words):
    outcome = call(data, tmp_path, **arguments)
    assert outcome.exit_code == 2, outcome.output
    assert words in outcome.output
    assert "Traceback" not in outcome.output
    assert not list(tmp_path.rglob("*.pth")) + list(tmp_path.rglob("*.csv"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """Pictures of good parts in several sizes, nothing else; blanks, other letters and the class twice in the path."""
    root, rng = tmp_path_factory.mktemp("мои данные") / "part", np.random.default_rng(0)
    for i in range(5):
        pixels = rng.integers(60, 120, (40 + 9 * i, 70 - 6 * i, 3), dtype=np.uint8)
        path = root / "part" / f"Ж {i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def own(parts: Path, results: Path, *dataset: object, after: tuple = ()) -> Result:
    """Run main.py on own pictures with the defaults of NAME folder."""
    line = ["--results_path", results, "net", "-b", "resnet18", *NET, "dataset", "-d", "part", "--num_workers", 0]
    return CliRunner().invoke(cli.main, [str(part) for part in (*line, *dataset, "folder", parts, *after)])


def test_good_pictures_alone_are_enough_to_train(parts, tmp_path):
    outcome = own(parts, tmp_path, "--imagesize", "50x64")
    assert outcome.exit_code == 0, outcome.output
    assert "prepare.py dtd" in outcome.output and "judged from its training images" in outcome.output
    assert (tmp_path / "models" / "backbone_0" / "folder_part" / "ckpt.pth").is_file()


@pytest.mark.parametrize(("name", "expected"), [("folder", (0, "letterbox", None, 0.1)), ("mpdd", (1, "crop", 288, 0))])
def test_defaults_depend_on_the_name(name, expected):
    options = cli.dataset.make_context("dataset", ["-d", "part", name, "data", "none"]).params
    resolved = vars(cli.dataset.callback(**options))
    assert tuple(resolved[key] for key in ("fg", "resize_mode", "resize", "calibration")) == expected
    assert (resolved["imagesize"], resolved["normal_dir"], resolved["aug_path"]) == (288, ("good",), None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--imagesize", "20x"], "'20x' is neither a number of pixels nor HEIGHTxWIDTH"),
        (["--imagesize", "0"], "'0' is neither"),
        (["--imagesize", "200x300x3"], "is neither"),
        (["--resize", "64"], "--resize 64 does not fit --resize_mode letterbox"),
        (["--resize_mode", "crop", "--imagesize", "300x320"], "--imagesize 300x320 is above --resize 288"),
        (["--resize_mode", "crop", "--resize", "64x80", "--imagesize", "72"], "--imagesize 72 is above --resize 64x80"),
        (["--resize_mode", "zoom"], "zoom"),
        (["--normal_dir", "ok"], "no images in ok"),
        (["--fg", 1], "--fg 0"),
    ],
)
def test_wrong_options_for_own_pictures_are_one_line(parts, tmp_path, options, words):
    outcome = own(parts, tmp_path, *options)
    assert outcome.exit_code == 2, outcome.output
    assert words in " ".join(outcome.output.split())
    assert "Traceback" not in outcome.output


def test_a_crop_that_cuts_is_warned_about_once_a_class(parts, tmp_path):
    crop = ["--resize_mode", "crop", "--resize", 64, "--imagesize", 64]
    outcome = own(parts, tmp_path, *crop)
    assert outcome.output.count("folder_part: the crop cuts away 25.3 %") == 1, outcome.output
    outcome = own(parts, tmp_path, *crop, "--distribution", 1)  # to judge, pictures are stretched to a square
    assert outcome.exit_code == 0 and "the crop cuts away" not in outcome.output


@pytest.mark.parametrize("option", [("--mask_threshold", 0.5), ("--sidecars", "mask"), ("--sidecars", "picture")])
def test_options_that_mean_nothing_for_visas_list_are_refused(data, tmp_path, option):
    outcome = call(data, tmp_path, name="visa", dataset=[*option])
    assert outcome.exit_code == 2 and f"{option[0]} has no effect on visa" in outcome.output


def test_a_run_tells_what_check_finds(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:40, 20] = 255  # one pixel wide
    Image.fromarray(mask).save(tmp_path / "data/nut/ground_truth/spot/001_mask.png")
    outcome = call(tmp_path / "data", tmp_path / "out", dataset=["--imagesize", 32, "--resize", 32], net=["--step", 1])
    assert outcome.exit_code == 0, outcome.output
    assert "nut: 1 of 3 defects has no pixel left at 32x32: " in outcome.output
    assert "nut: 5 training images are few: add pictures" in outcome.output
    (tmp_path / "data/nut/test/spot").rename(tmp_path / "data/nut/test/OK")
    outcome = call(tmp_path / "data", tmp_path / "refused")
    assert outcome.exit_code == 2
    last = outcome.output.strip().splitlines()[-1]
    assert "OK (3) would count as a kind of defect, and sounds like good pictures" in last
    assert "--normal_dir good --normal_dir OK if it is good, --defect_dir OK if it shows defects" in last
    assert not list((tmp_path / "refused").rglob("*.pth"))


def test_bits_and_brightness_of_the_training_are_kept_for_prediction(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "own")
    for path in (tmp_path / "own/part").iterdir():
        values = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16
        Image.fromarray(values).save(path.with_suffix(".png"))
        path.unlink()
    refused = own(tmp_path / "own", tmp_path / "refused", "--imagesize", 64)
    assert refused.exit_code == 2 and "give --bits 12" in refused.output
    outcome = own(tmp_path / "own", tmp_path, "--imagesize", 64, "--bits", 12)
    assert outcome.exit_code == 0, outcome.output
    kept = json.loads((tmp_path / "models/backbone_0/folder_part/model.json").read_text())["pixels"]
    assert kept["bits"] == 12
    assert 100 < kept["brightness"][0] <= kept["brightness"][1] < 130


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnasnet_100", ["Cannot download mnasnet_100.rmsp_in1k.safetensors", "127.0.0.1", "--backbone_weights FILE"]),
        ("resnet200", ["no public weights"]),
    ],
)
def test_weights_that_cannot_come_are_one_line_and_status_2(data, tmp_path, monkeypatch, name, words):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # nobody listens there
    outcome = call(data, tmp_path / "results", net=["-b", name, "--backbone_weights", "imagenet"])
    assert outcome.exit_code == 2, outcome.output
    assert all(word in outcome.output for word in words)
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize("below", ["", "deeper"])
def test_results_cannot_go_where_a_file_is(data, tmp_path, below):
    (tmp_path / "file").write_text("kept")
    outcome = call(data, tmp_path / "file" / below)
    assert outcome.exit_code == 2
    assert isinstance(outcome.exception, SystemExit)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("command", [[], ["net"], ["dataset", "-d", "nut", "mvtec", "."]])
def test_a_missing_command_is_named(command):
    outcome = CliRunner().invoke(cli.main, command)
    assert outcome.exit_code == 2
    assert "Usage" in outcome.output


def test_other_options_are_not_mixed_into_a_trained_class(trained, data):
    before = {path: path.read_bytes() for path in trained[0].rglob("*.pth")}
    outcome = call(data, trained[0], net=["--lr", 0.01])
    assert outcome.exit_code == 2
    assert "lr 0.0001, now 0.01" in outcome.output
    assert before == {path: path.read_bytes() for path in trained[0].rglob("*.pth")}


def test_models_of_another_backbone_are_not_mixed(trained, data):
    outcome = call(data, trained[0], group=["--seed", 1], classes=("nut",))
    assert outcome.exit_code == 2
    assert "other backbone weights" in outcome.output


def test_the_authors_results_folder_is_tested_not_trained(trained, data, tmp_path):
    folder = tmp_path / "models" / "backbone_0" / "mvtec_nut"
    folder.mkdir(parents=True)
    source = trained[0] / "models" / "backbone_0"
    (folder / "ckpt_best_7.pth").write_bytes((source / "mvtec_nut" / "ckpt.pth").read_bytes())
    outcome = call(data, tmp_path)
    assert outcome.exit_code == 0, outcome.output
    result = json.loads((folder / "result.json").read_text())
    assert result["best_epoch"] == 7
    assert result["last_epoch"] is None
    assert [path.name for path in folder.glob("*.pth")] == ["ckpt_best_7.pth"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK cut off", "damaged"),
        ({"weights": torch.ones(1)}, "no discriminator"),
        (
            {"discriminator": {"tail.0.weight": torch.ones(1, 5)}, "pre_projection": {"a": torch.ones(1)}},
            "other options",
        ),
    ],
)
def test_a_checkpoint_that_is_none_of_ours_is_refused(data, tmp_path, content, words):
    path = tmp_path / "models" / "backbone_0" / "mvtec_nut" / "ckpt_best_3.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    before = path.read_bytes()
    for group in ([], ["--test", "test"]):
        outcome = call(data, tmp_path, group=group)
        assert outcome.exit_code == 2, outcome.output
        assert words in outcome.output
    assert path.read_bytes() == before
    assert not (tmp_path / "results.csv").exists()


def damage(root: Path, case: str) -> None:
    """Break a copy of the data in one way."""
    good, mask = root / "nut" / "train" / "good", root / "nut" / "ground_truth" / "spot" / "001_mask.png"
    if case == "truncated image":
        (good / "002.png").write_bytes((good / "002.png").read_bytes()[:200])
    elif case == "missing mask":
        mask.unlink()
    elif case == "mask of another size":
        Image.new("L", (SIDE, SIDE + 1)).save(mask)
    elif case == "no textures":
        shutil.rmtree(root / "dtd" / "dots")
    elif case == "no images":
        shutil.rmtree(good)
        good.mkdir()
    elif case == "a pipe":
        os.mkfifo(good / "pipe.png")
    elif case == "a pipe among textures":
        os.mkfifo(root / "dtd" / "dots" / "pipe.png")
    elif case == "several pages":
        pages = [Image.open(path).copy() for path in sorted(good.iterdir())]
        pages[0].save(good / "lot.tif", save_all=True, append_images=pages[1:])
    elif case == "empty foreground mask":
        (root / "fg_mask" / "nut").mkdir(parents=True)
        for path in good.iterdir():
            Image.new("L", (SIDE, SIDE)).save(root / "fg_mask" / "nut" / path.name)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("truncated image", "002.png cannot be read"),
        ("missing mask", "001"),
        ("mask of another size", "001_mask.png"),
        ("no textures", "dtd"),
        ("no images", "good"),
        ("empty foreground mask", "foreground"),
        ("a pipe", "pipe.png is a pipe, a socket or a device, not a file"),
        ("a pipe among textures", "pipe.png is a pipe"),
        ("several pages", "pages: save each as a picture of its own, or leave such images out by --skip_broken."),
    ],
)
def test_broken_data_is_named_before_any_training(data, tmp_path, case, words):
    shutil.copytree(data, tmp_path / "data")
    damage(tmp_path / "data", case)
    fg = ["--fg", 1] if "foreground" in case else []
    outcome = call(tmp_path / "data", tmp_path / "out", classes=("bolt", "nut") if not fg else ("nut",), dataset=fg)
    assert outcome.exit_code == 2, outcome.output
    last = outcome.output.strip().splitlines()[-1]
    assert words in last
    assert not list((tmp_path / "out").rglob("*.pth"))


def test_a_class_that_fails_does_not_stop_the_others(data, tmp_path):
    outcome = call(data, tmp_path, net=["--lr", 1e30], classes=("nut", "bolt"))
    assert outcome.exit_code == 1
    assert all(f"mvtec_{name}: loss not finite" in outcome.output for name in ("nut", "bolt"))


def test_a_picture_that_would_fill_the_memory_after_the_resize_is_refused(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    Image.new("RGB", (30_000, 2)).save(tmp_path / "data" / "nut" / "train" / "good" / "line.png")
    outcome = call(tmp_path / "data", tmp_path / "out", dataset=["--resize", 288])
    assert outcome.exit_code == 2
    assert "line.png has 288 x 4320000 pixels after the resize: shrink it" in outcome.output


SPAWNING = """
import multiprocessing, sys
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    sys.path.insert(0, sys.argv.pop(1))
    import main
    main.main()
"""


def test_a_run_whose_loaders_are_spawned_gives_the_same_bytes(trained, data, tmp_path):
    script = tmp_path / "spawning.py"
    script.write_text(SPAWNING)
    line = command_line(data, tmp_path / "results", classes=("nut", "bolt"), dataset=["--num_workers", 1])
    command = [sys.executable, str(script), str(Path(cli.__file__).parent), *line]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "results.csv").read_bytes() == (trained[0] / "results.csv").read_bytes()


def test_every_option_is_explained():
    for command in ("net", "dataset"):
        for option in cli.main.commands[command].params:
            assert option.param_type_name == "argument" or option.help, option.name


# --- recipes ----------------------------------------------------------------------------------------------------------


def told(results: Path) -> dict[str, dict]:
    """Return what the files of the class nut say, by name."""
    folder = results / "models" / "backbone_0" / "mvtec_nut"
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("run", "model", "result")}


@pytest.fixture(scope="module")
def quick(data, tmp_path_factory) -> tuple[Path, Result]:
    """The results folder of a run by the quick recipe, shortened."""
    results = tmp_path_factory.mktemp("quick")
    return results, call(data, results, net=["--recipe", "quick", "--iterations", 5, "--warmup", 2])


def test_a_recipe_and_what_it_sets_stand_wherever_settings_do(quick):
    results, outcome = quick
    assert outcome.exit_code == 0, outcome.output
    sets = {"lr": 0.001, "schedule": "cosine", "dsc_optimizer": "auto", "ema_decay": 0.98, "select": "last"}
    files = told(results)
    assert files["run"]["recipe"] == files["result"]["settings"]["recipe"] == "quick"
    assert files["run"]["recipe_sets"] == sets and files["model"]["recipe"] == {"name": "quick", "sets": sets}
    text = "recipe quick: lr 0.001, schedule cosine, dsc_optimizer auto, ema_decay 0.98, select last"
    page = (results / "report" / "index.html").read_text()
    assert text in outcome.output and f"Trained with {text}." in page and "AUROC without the average" in page
    assert (files["run"]["iterations"], files["run"]["warmup"]) == (5, 2)  # as the command line has it
    assert files["model"]["checkpoint"]["select"] == "last"


def test_a_recipe_ends_with_the_last_averaged_weights(quick):
    folder = quick[0] / "models" / "backbone_0" / "mvtec_nut"
    assert [path.name for path in folder.glob("ckpt_best*")] == ["ckpt_best_2.pth"]  # 5 images: 2 iterations an epoch
    best, latest = (torch.load(folder / name, weights_only=True) for name in ("ckpt_best_2.pth", "ckpt.pth"))
    raw = torch.load(folder / "state.pth", weights_only=True)["weights"]
    key = "body.block1.0.weight"
    assert torch.equal(best["discriminator"][key], latest["discriminator"][key])
    assert not torch.equal(best["discriminator"][key], raw["discriminator"][key])


def test_the_same_line_finds_a_recipes_class_done(quick, data):
    before = (quick[0] / "results.csv").read_bytes()
    outcome = call(data, quick[0], net=["--recipe", "quick", "--iterations", 5, "--warmup", 2])
    assert outcome.exit_code == 0, outcome.output
    assert (quick[0] / "results.csv").read_bytes() == before
    outcome = call(data, quick[0], net=["--iterations", 5, "--warmup", 2])
    assert outcome.exit_code == 2 and "recipe quick, now paper" in outcome.output


@pytest.mark.parametrize("finished", [True, False])
def test_a_class_by_an_earlier_versions_recipe_says_how_to_keep_it(quick, data, tmp_path, finished):
    results = shutil.copytree(quick[0], tmp_path / "results")
    folder = results / "models" / "backbone_0" / "mvtec_nut"
    state = RunState.load(folder)
    state.options["dsc_optimizer"], state.start, state.finished = "adamw", {}, finished
    state.save(folder)
    net = ["--recipe", "quick", "--iterations", 5, "--warmup", 2]
    outcome = call(data, results, net=net)
    advice = "adamw, now auto: --recipe quick sets that now. To keep what was, give --dsc_optimizer adamw; else"
    assert outcome.exit_code == 2 and advice in outcome.output and "or --fresh" in outcome.output
    outcome = call(data, results, net=[*net, "--lr", 0.01])  # which is no recipe's doing
    assert outcome.exit_code == 2 and "lr 0.001, now 0.01" in outcome.output and "to keep" not in outcome.output
    if finished:
        assert call(data, results, net=[*net, "--dsc_optimizer", "adamw"]).exit_code == 0


def test_the_papers_recipe_is_the_default_and_sets_nothing(trained, data, tmp_path):
    outcome = call(data, tmp_path, classes=("nut", "bolt"), net=["--recipe", "paper"])
    assert outcome.exit_code == 0, outcome.output
    for name in ("results.csv", "models/backbone_0/mvtec_nut/ckpt.pth", "models/backbone_0/mvtec_bolt/evidence.json"):
        assert (tmp_path / name).read_bytes() == (trained[0] / name).read_bytes(), name
    assert told(tmp_path)["model"]["recipe"] == {"name": "paper", "sets": {}}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dataset -d nut mvtec D", ("paper", 0.0001, 0, 640, "best")),
        ("dataset -d nut folder D", ("quick", 0.001, 320, 640, "last")),
        ("net --meta_epochs 40 dataset -d nut folder D", ("quick", 0.001, 0, 40, "last")),
        ("net --recipe paper dataset -d nut folder D", ("paper", 0.0001, 0, 640, "best")),
        ("net --recipe quick dataset -d nut mvtec D", ("quick", 0.001, 320, 640, "last")),
        ("net --recipe quick --lr 0.0001 dataset -d nut mvtec D", ("quick", 0.0001, 320, 640, "last")),
        ("net --recipe quick --meta_epochs 640 dataset -d nut mvtec D", ("quick", 0.001, 0, 640, "last")),
        ("--select best net --recipe quick dataset -d nut mvtec D", ("quick", 0.001, 320, 640, "best")),
    ],
)
def test_options_on_the_command_line_win_over_the_recipe(tmp_path, monkeypatch, line, expected):
    seen = []
    monkeypatch.setattr(cli, "Job", lambda settings, *_: seen.append(settings) or sys.exit(0))
    words = line.split() if "net" in line.split() else ["net", *line.split()]
    CliRunner().invoke(cli.main, ["--results_path", str(tmp_path), *words])
    net = seen[0].net
    assert (net.recipe, net.lr, net.iterations, net.meta_epochs, seen[0].run.select) == expected


def test_own_pictures_are_trained_by_the_quick_recipe_or_go_on_as_they_began():
    own, visa = (DataOptions(name=name, resize=288) for name in ("folder", "visa"))
    run, net = options.with_recipe(RunOptions(), NetOptions(recipe=None), own, ())
    assert (net.recipe, net.schedule, run.select) == ("quick", "cosine", "last")
    run, net = options.with_recipe(RunOptions(), NetOptions(recipe=None), own, (), begun="paper")
    assert (net, run.select) == (NetOptions(recipe="paper"), "best")
    _, net = options.with_recipe(RunOptions(), NetOptions(recipe=None), visa, ())
    assert net == NetOptions(recipe="paper")


def test_patience_does_not_fit_a_recipe_that_selects_nothing(data, tmp_path):
    outcome = call(data, tmp_path, group=["--patience", 3], net=["--recipe", "quick"])
    assert outcome.exit_code == 2 and "--patience has nothing to go by with --select last" in outcome.output


def test_options_that_are_experimental_or_without_effect_are_named(data, tmp_path):
    net = ["--dsc_init", "whitened", "--dsc_optimizer", "muon", "--iterations", 1, "--cuda_graph", "--triton"]
    outcome = call(data, tmp_path, net=net)
    assert outcome.exit_code == 0, outcome.output
    for name in ("--cuda_graph", "--triton"):
        assert f"{name} has no effect on the CPU." in outcome.output
    assert "--dsc_init whitened: experimental." in outcome.output
    settings = told(tmp_path)["result"]["settings"]
    assert (settings["dsc_init"], settings["dsc_optimizer"], settings["iterations"]) == ("whitened", "muon", 1)


def test_a_start_that_the_images_chose_is_recorded(data, tmp_path):
    outcome = call(data, tmp_path, net=["--dsc_init", "auto", "--dsc_optimizer", "auto", "--iterations", 1])
    assert outcome.exit_code == 0 and "training images held out vary" in outcome.output, outcome.output
    (path,) = tmp_path.rglob("run.json")
    start = json.loads(path.read_text())["start"]
    assert start["dsc_init"] in ("xavier", "whitened") and start["held_out_ratio"] > 0


def test_a_run_of_before_goes_on_and_its_missing_options_had_their_defaults(trained, data, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(trained[0], results)
    path = results / "models" / "backbone_0" / "mvtec_nut" / "state.pth"
    state = torch.load(path, weights_only=True)
    new = ("recipe", "iterations", "schedule", "warmup", "ema_decay", "dsc_init", "dsc_optimizer")
    state["options"] = {key: value for key, value in state["options"].items() if key not in new}
    del state["averaged"]
    for finished in (False, True):
        torch.save(state | {"finished": finished}, path)
        outcome = call(data, results, net=["--ema_decay", 0.9])
        assert outcome.exit_code == 2 and "ema_decay 0.0, now 0.9" in outcome.output
        outcome = call(data, results)
        assert outcome.exit_code == 0, outcome.output


@pytest.fixture
def defects(tmp_path) -> Path:
    """A folder of a confirmed defect and its mask."""
    rng = np.random.default_rng(7)
    write_image(tmp_path / "defects/seen.png", rng, spot=True)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:40, 20:40] = 255
    Image.fromarray(mask).save(tmp_path / "defects/seen_mask.png")
    return tmp_path / "defects"


def test_confirmed_defects_are_learnt_and_belong_to_the_run(data, tmp_path, defects):
    given = ("--real_defects", defects, "--real_share", 1, "--opacity", "0.5,1", "--defect_size", "0.1,0.5")
    net = ("--iterations", 2)
    outcome = call(data, tmp_path / "out", net=net, dataset=given)
    assert outcome.exit_code == 0, outcome.output
    assert "1 cut-outs of 1 pictures take part in the synthesis" in outcome.output
    folder = tmp_path / "out/models/backbone_0/mvtec_nut"
    kept = json.loads((folder / "result.json").read_text())["settings"]
    assert kept["real_defects"] == str(defects) and kept["real_share"] == 1
    assert kept["opacity"] == [0.5, 1] and kept["defect_size"] == [0.1, 0.5]
    with Image.open(review.picture(folder, review.SYNTHETIC, 0)) as picture:  # white squares on dark noise
        assert np.asarray(picture.convert("L"))[:, picture.width // 2 :].max() > 200
    again = call(data, tmp_path / "out", net=net)
    assert again.exit_code == 2 and "real_share 1.0, now 0.5" in again.output
    shutil.copy(data / "nut/test/spot/000.png", defects / "tested.png")
    refused = call(data, tmp_path / "other", net=net, dataset=given)
    assert refused.exit_code == 2 and "which is tested or counts as good" in refused.output.splitlines()[-1]


def test_a_run_of_a_version_without_these_options_goes_on(data, trained, tmp_path):
    results, nut = tmp_path / "results", "models/backbone_0/mvtec_nut"
    shutil.copytree(trained[0] / nut, results / nut)
    shutil.copy(trained[0] / nut / "../backbone.safetensors", results / nut / "..")
    path = results / nut / "state.pth"
    state = torch.load(path, weights_only=True)
    later = options.defaults(DataOptions, options.LATER)
    assert {"opacity", "real_defects", "synthesis", "mask_mode", "roi", "tile", "overlap"} <= later.keys()
    for name in later:
        assert state["options"].pop(name) == getattr(DataOptions, name)
    torch.save(state, path)
    assert call(data, results).exit_code == 0
    for given, told in (
        (("--opacity", "0.1,0.5"), "opacity None, now (0.1, 0.5)"),
        (("--tile", 32), "tile None, now 32"),
    ):
        refused = call(data, results, dataset=given)
        assert refused.exit_code == 2 and told in refused.output
    torch.save(state | {"finished": False}, path)  # it was stopped: the same command goes on
    assert call(data, results).exit_code == 0


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        (("--opacity", "0.5"), "two numbers 0<x<=1"),
        (("--opacity", "0.8,0.5"), "two numbers 0<x<=1"),
        (("--defect_size", "0.001,1"), "two numbers 0.0078125<=x<=1"),
        (("--opacity", "0.5,1", "--mean", "0.3"), "takes the place of --mean and --std"),
        (("--real_share", "0.3"), "no effect without --real_defects"),
        (("--synthesis", "math:fsum", "--mask_mode", "union"), "--mask_mode: --synthesis decides how defects look"),
        (("--synthesis", "nobodys:make"), "--synthesis nobodys:make: there is no module nobodys"),
        (("--synthesis", "math:pi"), "--synthesis math:pi: math is no function: pi"),
        (("--synthesis", "math:fsum"), "--synthesis math:fsum: TypeError: math.fsum() takes exactly one argument"),
        (("--synthesis", "math:fsum", "--std", "0.3"), "--std: --synthesis decides how defects look"),
        (("--real_defects", "nowhere"), "nowhere is not a folder: check --real_defects"),
    ],
)
def test_wrong_options_of_synthetic_defects_are_one_line(data, tmp_path, dataset, text):
    outcome = call(data, tmp_path / "out", dataset=dataset)
    assert outcome.exit_code == 2 and text in outcome.output


def test_tiles_of_a_region_are_trained_calibrated_tested_and_predicted_alike(data, tmp_path):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[4:60, 8:60], mask[10:16, 10:16] = 255, 0
    Image.fromarray(mask).save(tmp_path / "roi.png")
    tiles = ["--roi", tmp_path / "roi.png", "--tile", 32, "--overlap", 8]
    own = ["--calibration", 0.4, "--resize_mode", "crop", "--resize", 32, "--imagesize", 32]
    paper = ["--recipe", "paper", "--meta_epochs", 1]
    how = {"group": ["--false_alarm_rate", 0.5], "net": paper, "name": "folder", "aug": None}
    outcome = call(data, tmp_path / "out", dataset=[*tiles, *own], **how)
    assert outcome.exit_code == 0, outcome.output
    folder = tmp_path / "out" / "models" / "backbone_0" / "folder_nut"
    card = json.loads((folder / "model.json").read_text())
    assert card["images"] == {"train": 3, "calibration": 2, "select": 6, "test": 6}
    assert (card["framing"]["roi"], card["framing"]["tile"]) == ([8, 4, 52, 56], [32, 32])
    evidence, predictor = json.loads((folder / "evidence.json").read_text()), Predictor(folder)
    found = predictor.predict([data / "nut" / "test" / name for name in evidence["images"]])
    assert [each.score for each in found] == pytest.approx(evidence["scores"], abs=1e-6)
    assert all((each.map[mask == 0] == 0).all() and (each.map[mask > 0] > 0).all() for each in found)
    train = predictor.predict(sorted((data / "nut" / "train" / "good").iterdir()))
    for score in card["calibration"]["scores"]:  # held-out pictures: the highest of their tiles
        assert min(abs(score - each.score) for each in train) < 1e-6
    again = call(data, tmp_path / "out", dataset=own, **how)
    assert again.exit_code == 2 and "tile 32, now None" in again.output


SQUARES = """
def squares(image, texture, foreground, rng):
    y, x = rng.integers(40, size=2)
    mask = foreground * 0
    mask[y : y + 24, x : x + 24] = 1
    image[:, mask > 0] = 2.2  # nearly white
    return image, mask
"""


def test_a_function_makes_the_defects_and_belongs_to_the_run(data, tmp_path, monkeypatch):
    (tmp_path / "squares_to_learn.py").write_text(SQUARES)
    monkeypatch.syspath_prepend(tmp_path)
    given = {"net": ("--iterations", 2), "dataset": ("--synthesis", "squares_to_learn:squares")}
    outcome = call(data, tmp_path / "out", **given)
    assert outcome.exit_code == 0, outcome.output
    folder = tmp_path / "out/models/backbone_0/mvtec_nut"
    kept = json.loads((folder / "result.json").read_text())["settings"]
    assert kept["synthesis"] == "squares_to_learn:squares"
    assert json.loads((folder / "run.json").read_text())["synthesis"] == "squares_to_learn:squares"
    with Image.open(review.picture(folder, review.SYNTHETIC, 0)) as picture:  # white squares on dark noise
        assert np.asarray(picture.convert("L"))[:, picture.width // 2 :].max() > 200
    again = call(data, tmp_path / "out", net=given["net"])
    assert again.exit_code == 2 and "synthesis squares_to_learn:squares, now None" in again.output
    state = torch.load(folder / "state.pth", weights_only=True)
    torch.save(state | {"finished": False}, folder / "state.pth")
    (tmp_path / "squares_to_learn.py").write_text(SQUARES + "# another\n")
    changed = call(data, tmp_path / "out", **given)
    assert changed.exit_code == 2 and "began with other images, or another squares_to_learn:squares" in changed.output


def test_curves_go_to_the_tracker_that_is_asked_for(data, tmp_path, monkeypatch):
    group = ("--tracker", "wandb")
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    missing = call(data, tmp_path / "out", group=group)
    assert missing.exit_code == 2 and "--tracker wandb needs its package: pip install wandb" in missing.output
    assert len(missing.output.splitlines()) == 1
    monkeypatch.delitem(sys.modules, "wandb")
    trackers.install(tmp_path / "packages")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    outcome = call(data, tmp_path / "out", group=group, net=("--iterations", 2))
    assert outcome.exit_code == 0, outcome.output
    folder = tmp_path / "out/models/backbone_0/mvtec_nut"
    lines = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    expected = [[tag, value, line.get("iteration", line.get("epoch"))] for line in lines
                for tag, value in line.items() if tag not in ("iteration", "epoch")]  # fmt: skip
    sent = [each[2:] for each in trackers.told(tmp_path / "told") if each[0] == "metric"]
    assert sorted(sent) == sorted(expected) and [each[0] for each in sent if each[0] == "i-auroc"] == ["i-auroc"]
    monkeypatch.delitem(sys.modules, "wandb")
