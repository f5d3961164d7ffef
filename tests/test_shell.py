"""The scripts in shell/ hand their settings to main.py as intended; a stand-in for Python records what it is given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import main
from artifacts.options import DataOptions, NetOptions, RunOptions, with_recipe

SHELL = Path(__file__).resolve().parent.parent / "shell"
DATASETS = {"mvtec": "mvtec", "visa": "visa", "mpdd": "mpdd", "wfdd": "wfdd", "custom": "folder"}
CLASS_COUNTS = {"mvtec": 15, "visa": 12, "mpdd": 6, "wfdd": 4, "custom": 2}
CSV = "Row Names,image_auroc,image_ap,pixel_auroc,pixel_ap,pixel_pro,best_epoch\nmvtec_tile,{0},nan,nan,nan,nan,3\n"
PAPER_NET = {
    "backbone_names": ("wideresnet50",),
    "layers_to_extract_from": ("layer2", "layer3"),
    "pretrain_embed_dimension": 1536,
    "target_embed_dimension": 1536,
    "patchsize": 3,
    "meta_epochs": 640,
    "eval_epochs": 1,
    "dsc_layers": 2,
    "dsc_hidden": 1024,
    "pre_proj": 1,
    "mining": 1,
    "noise": 0.015,
    "radius": 0.75,
    "p": 0.5,
    "step": 20,
    "limit": 392,
    "lr": 0.0001,
    "train_backbone": False,
}
PAPER_DATASET = {"mean": 0.5, "std": 0.1, "rand_aug": 1, "batch_size": 8, "imagesize": 288, "hflip": 0}

STAND_IN = """
import json, os, runpy, sys
script, *arguments = sys.argv[1:]
with open(os.environ["RECORD"], "a") as record:
    record.write(json.dumps([script, *arguments]) + "\\n")
if script.endswith("main.py"):
    results = arguments[len(arguments) - arguments[::-1].index("--results_path")]
    name = os.path.basename(results)
    if name.startswith(("Person", "Beta")):
        os.makedirs(results)
        with open(os.path.join(results, "results.csv"), "w") as file:
            file.write(os.environ["CSV"].format("0.5" if name.endswith("1") else "0.7"))
    sys.exit(int(os.environ.get("STATUS_OF_" + name, 0)))
if script == "-m":
    sys.path.insert(0, os.environ["PYTHONPATH"])
    sys.argv = sys.argv[2:]
    runpy.run_module(arguments[0], run_name="__main__")
else:
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")
"""


class Scripts:
    """Runs the scripts from a folder of its own, with blanks in every path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "with blanks"
        self.textures = self.folder / "dtd images"
        self.data = self.folder / "the data"
        for path in (self.textures, self.data, self.folder / "elsewhere"):
            path.mkdir(parents=True)
        stand_in = self.folder / "stand in.py"
        stand_in.write_text(STAND_IN)
        self.python = self.folder / "python"
        self.python.write_text(f'#!/usr/bin/env bash\nexec "{sys.executable}" "{stand_in}" "$@"\n')
        self.python.chmod(0o755)
        self.record = self.folder / "record"

    def run(self, script: str, *arguments: str, **settings: str | int | Path) -> subprocess.CompletedProcess[str]:
        """Run a script; the settings become its whole environment, but for what it needs to find its programs."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHON": str(self.python),
            "RECORD": str(self.record),
            "CSV": CSV,
            "DATAPATH": str(self.data),
            "AUGPATH": str(self.textures),
        }
        environment |= {name: str(value) for name, value in settings.items()}
        command = ["bash", str(SHELL / script), *arguments]
        return subprocess.run(command, env=environment, cwd=self.folder / "elsewhere", capture_output=True, text=True)

    def calls(self) -> list[list[str]]:
        """Return the arguments of every call of Python so far."""
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def parse(call: list[str]) -> tuple[dict, dict, dict]:
    """Let main.py's own commands read a recorded call: the options of the group, of net and of dataset."""
    assert call[0] == str(SHELL.parent / "main.py")
    net, dataset = call.index("net"), call.index("dataset")
    parts = {main.main: [*call[1:net], "net"], main.net: call[net + 1 : dataset], main.dataset: call[dataset + 1 :]}
    group, net, dataset = (command.make_context("main.py", arguments).params for command, arguments in parts.items())
    return group, net, vars(main.dataset.callback(**dataset))


@pytest.mark.parametrize("path", sorted(SHELL.glob("*.sh")), ids=lambda path: path.name)
def test_syntax(path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize("name", DATASETS)
def test_defaults_are_the_papers(scripts: Scripts, name: str) -> None:
    assert scripts.run(f"run-{name}.sh").returncode == 0
    (call,) = scripts.calls()
    group, net, dataset = parse(call)
    assert {key: net[key] for key in PAPER_NET} == PAPER_NET
    assert {key: dataset[key] for key in PAPER_DATASET} == PAPER_DATASET
    assert dataset["fg"] == (0 if name in ("mpdd", "custom") else 1)
    geometry = (None, "letterbox") if name == "custom" else (288, "crop")
    assert (dataset["resize"], dataset["resize_mode"]) == geometry
    assert dataset["distribution"] == 0
    assert dataset["name"] == DATASETS[name]
    assert len(set(dataset["subdatasets"])) == CLASS_COUNTS[name]
    assert (group["test"], group["seed"]) == ("ckpt", 0)
    assert group["results_path"] == SHELL.parent / "results"


def test_paths_with_blanks_arrive_whole(scripts: Scripts) -> None:
    scripts.run("run-mvtec.sh", RESULTS=scripts.folder / "my results")
    group, _, dataset = parse(scripts.calls()[0])
    assert (dataset["data_path"], dataset["aug_path"]) == (scripts.data, scripts.textures)
    assert group["results_path"] == scripts.folder / "my results"


def test_environment_overrides_settings(scripts: Scripts) -> None:
    settings = {"CLASSES": "tile wood", "EPOCHS": 3, "DISTRIBUTION": 3, "FG": 0, "BACKBONES": "resnet18", "LAYERS": ""}
    settings |= {"NET_OPTIONS": "--step 5 --lr 0.001", "DATASET_OPTIONS": "--hflip 0.5", "GPU": -1}
    scripts.run("run-mvtec.sh", **settings)
    group, net, dataset = parse(scripts.calls()[0])
    assert dataset["subdatasets"] == ("tile", "wood")
    assert (dataset["distribution"], dataset["fg"], dataset["hflip"]) == (3, 0, 0.5)
    assert (net["meta_epochs"], net["step"], net["lr"]) == (3, 5, 0.001)
    assert (net["backbone_names"], net["layers_to_extract_from"]) == (("resnet18",), ())
    assert group["gpu"] == (-1,)


def test_arguments_reach_main(scripts: Scripts) -> None:
    scripts.run("run-visa.sh", "--seed", "7", "--gpu", "1", "--results_path", "a b")
    group, _, _ = parse(scripts.calls()[0])
    assert (group["seed"], group["gpu"], group["results_path"]) == (7, (1,), Path("a b"))


@pytest.mark.parametrize("arguments", [("--test", "test"), ("--test=test",)])
def test_testing_needs_no_textures(scripts: Scripts, arguments: tuple[str, ...]) -> None:
    assert scripts.run("run-mvtec.sh", *arguments, AUGPATH="/nowhere").returncode == 0
    group, _, dataset = parse(scripts.calls()[0])
    assert (group["test"], dataset["aug_path"]) == ("test", None)


@pytest.mark.parametrize("setting", ["DATAPATH", "AUGPATH"])
def test_missing_folder_is_one_line(scripts: Scripts, setting: str) -> None:
    done = scripts.run("run-mvtec.sh", **{setting: "/no such folder"})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert setting in done.stderr and "/no such folder" in done.stderr
    assert scripts.calls() == []


def test_own_pictures_need_no_textures_and_benchmark_data_do_without_on_request(scripts: Scripts) -> None:
    assert scripts.run("run-custom.sh", AUGPATH="none").returncode == 0
    assert scripts.run("run-mpdd.sh", AUGPATH="none").returncode == 0
    assert [parse(call)[2]["aug_path"] for call in scripts.calls()] == [None, None]


def test_status_of_main_is_kept(scripts: Scripts) -> None:
    assert scripts.run("run-mvtec.sh", RESULTS=scripts.folder / "r", STATUS_OF_r="1").returncode == 1


def make_subsets(scripts: Scripts, *names: str) -> dict[str, Path]:
    for name in names:
        (scripts.data / name).mkdir()
    models = scripts.folder / "the models"
    models.mkdir()
    return {"MODELS": models, "RESULTS": scripts.folder / "mad results"}


def test_mad_man_tests_each_person_found(scripts: Scripts) -> None:
    settings = make_subsets(scripts, "Person_1", "Person_3")
    done = scripts.run("run-mad-man.sh", "--seed", "2", AUGPATH="/nowhere", **settings)
    assert done.returncode == 0, done.stderr
    *tests, table = scripts.calls()
    for call, person in zip(tests, ("Person_1", "Person_3"), strict=True):
        group, net, dataset = parse(call)
        assert (group["test"], group["seed"]) == ("test", 2)
        assert group["models_path"] == settings["MODELS"]
        assert group["results_path"] == settings["RESULTS"] / person
        assert (dataset["name"], dataset["data_path"]) == ("mvtec", scripts.data / person)
        assert len(set(dataset["subdatasets"])) == 15
        assert {key: net[key] for key in PAPER_NET} == PAPER_NET
    assert table[2:] == [str(settings["RESULTS"] / person / "results.csv") for person in ("Person_1", "Person_3")]


def test_mad_prints_a_table_per_subset_and_the_mean(scripts: Scripts) -> None:
    done = scripts.run("run-mad-man.sh", **make_subsets(scripts, "Person_1", "Person_2"))
    lines = done.stdout.splitlines()
    assert [line.split()[2] for line in lines if line.startswith("mvtec_tile")] == ["50.0", "70.0"]
    assert lines[-1].split()[:3] == ["Mean", "|", "60.0"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, ["Beta_0.1"]), ({"BETA_09": "1"}, ["Beta_0.1", "Beta_0.9"]), ({"SUBSETS": "Beta_0.9"}, ["Beta_0.9"])],
)
def test_mad_sys_takes_beta_09_on_request(scripts: Scripts, settings: dict[str, str], expected: list[str]) -> None:
    folders = make_subsets(scripts, "Beta_0.1", "Beta_0.9")
    assert scripts.run("run-mad-sys.sh", **folders, **settings).returncode == 0
    data = [parse(call)[2] for call in scripts.calls()[:-1]]
    assert [options["data_path"].name for options in data] == expected
    assert data[0]["subdatasets"] == ("carpet", "grid", "leather", "tile", "wood")


def test_mad_goes_on_after_a_failed_subset(scripts: Scripts) -> None:
    done = scripts.run("run-mad-man.sh", STATUS_OF_Person_1="1", **make_subsets(scripts, "Person_1", "Person_2"))
    assert done.returncode == 1
    assert len(scripts.calls()) == 3


def test_mad_stops_at_wrong_input(scripts: Scripts) -> None:
    done = scripts.run("run-mad-man.sh", STATUS_OF_Person_1="2", **make_subsets(scripts, "Person_1", "Person_2"))
    assert done.returncode == 2
    assert len(scripts.calls()) == 1


def test_mad_without_any_subset(scripts: Scripts) -> None:
    done = scripts.run("run-mad-man.sh", **make_subsets(scripts))
    assert done.returncode == 2
    assert "nothing to test" in done.stderr
    assert scripts.calls() == []


def test_an_ablation_trains_each_row_once_and_prints_a_table_per_study(scripts: Scripts) -> None:
    settings = {"STUDIES": "components radii", "RADII": "1,2", "RESULTS": scripts.folder / "out", "SEEDS": "0,1"}
    for row, seed, auroc in (("full", 0, 0.5), ("full", 1, 0.7), ("las", 0, 0.4), ("radii_1,2", 0, 0.3)):
        folder = scripts.folder / "out" / "ablation" / row / f"seed_{seed}"  # as main.py would leave it
        folder.mkdir(parents=True)
        (folder / "results.csv").write_text(CSV.format(auroc))
    done = scripts.run("run-ablation.sh", NET_OPTIONS="--lr 0.001", CLASSES="tile", **settings)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1:4] for line in done.stdout.splitlines() if line.startswith("full ")][::2] == [
        ["60.0", "±", "14.1"]
    ] * 2
    rows = {}
    for call in scripts.calls():
        if call[0].endswith("main.py"):
            group, net, dataset = parse(call)
            assert (group["seeds"], net["lr"], dataset["distribution"]) == ((0, 1), 0.001, 2)
            rows[group["results_path"].relative_to(scripts.folder / "out").as_posix()] = tuple(
                net[key] for key in ("las", "gas", "mining", "project", "manifold_radii")
            )
    assert rows == {
        "ablation/las": (1, 0, 1, 1, (0.5, 1)),
        "ablation/noise": (0, 1, 0, 1, (0.5, 1)),
        "ablation/las_noise": (1, 1, 0, 1, (0.5, 1)),
        "ablation/las_ascent": (1, 1, 1, 0, (0.5, 1)),
        "ablation/full": (1, 1, 1, 1, (0.5, 1)),
        "ablation/radii_1,2": (1, 1, 1, 1, (1, 2)),
    }


def test_options_for_all_rows_are_left_out_where_a_row_would_not_use_them(scripts: Scripts) -> None:
    more = {
        "NET_OPTIONS": "--step 10 --noise 0.02 --manifold_radii 1,2 --p 0 --lr 0.001",
        "DATASET_OPTIONS": "--mean 0.3",
    }
    done = scripts.run("run-ablation.sh", CLASSES="tile", RESULTS=scripts.folder / "out", **more)
    assert done.returncode == 0, done.stderr
    parsed = [parse(call) for call in scripts.calls() if call[0].endswith("main.py")]
    for group, net, data in parsed:
        with_recipe(RunOptions(**group), NetOptions(**net), DataOptions.given(**data), ())  # refuses none
    rows = {group["results_path"].name: (net["step"], net["noise"], net["p"], net["lr"], data["mean"])
            for group, net, data in parsed}  # fmt: skip
    assert rows["full"] == rows["mask_one"] == (10, 0.02, 0, 0.001, 0.3)
    assert rows["las"] == (20, 0.015, 0, 0.001, 0.3) and rows["noise"] == (10, 0.02, 0.5, 0.001, 0.5)


def test_the_rows_of_the_hypotheses_differ_in_the_hypothesis_alone(scripts: Scripts) -> None:
    done = scripts.run(
        "run-ablation.sh", STUDIES="backbones hypotheses", CLASSES="tile", RESULTS=scripts.folder / "out"
    )
    assert done.returncode == 0, done.stderr
    parsed = [parse(call) for call in scripts.calls() if call[0].endswith("main.py")]
    rows = {group["results_path"].name: (net["backbone_names"], data["distribution"]) for group, net, data in parsed}
    wide = ("wideresnet50",)
    assert rows == {name: ((name,), 2) for name in ("resnet18", "resnet50", "resnet101")} | {
        "full": (wide, 2),
        "hypersphere": (wide, 3),
        "judged": (wide, 0),
    }


def test_every_row_of_the_document_is_one_of_the_script(scripts: Scripts) -> None:
    done = scripts.run("run-ablation.sh", CLASSES="tile", RESULTS=scripts.folder / "out", RADII="1,2")
    assert done.returncode == 0, done.stderr
    trained = [parse(call)[0]["results_path"].name for call in scripts.calls() if call[0].endswith("main.py")]
    lines = (SHELL.parent / "docs/ablation.md").read_text().splitlines()
    rows = [line.split(" | ")[1].strip("`| ") for line in lines if line.startswith("| ") and " | `" in line]
    assert set(trained) == {row.replace("LOW,HIGH", "1,2") for row in rows} and len(trained) == len(set(trained))


def test_an_unknown_study_is_one_line(scripts: Scripts) -> None:
    done = scripts.run("run-ablation.sh", STUDIES="masques")
    assert (done.returncode, len(done.stderr.splitlines()), scripts.calls()) == (2, 1, [])
    assert "no study is called 'masques'" in done.stderr


def test_seeds_given_as_arguments_replace_the_seed(scripts: Scripts) -> None:
    assert scripts.run("run-mvtec.sh", "--seeds", "3,4").returncode == 0
    assert "--seed" not in scripts.calls()[0] and parse(scripts.calls()[0])[0]["seeds"] == (3, 4)


def submit(scripts: Scripts, **settings: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the array's script as SLURM would, a copy of it, from the folder that it was submitted from."""
    copy, tools = scripts.folder / "job script", scripts.folder / "tools"
    copy.write_bytes((SHELL / "slurm-array.sh").read_bytes())
    tools.mkdir()
    (tools / "srun").write_text('#!/usr/bin/env bash\nexec "$@"\n')
    (tools / "srun").chmod(0o755)
    return scripts.run(str(copy), "--seed", "3", PATH=f"{tools}:{os.environ['PATH']}", **settings)


@pytest.mark.parametrize(
    ("settings", "shard", "name"),
    [({}, "2/15", "mvtec"), ({"SHARDS": "4", "SCRIPT": "run-visa.sh"}, "2/4", "visa")],
)
def test_a_task_of_an_array_takes_its_share(scripts: Scripts, settings: dict[str, str], shard: str, name: str) -> None:
    done = submit(scripts, SLURM_ARRAY_TASK_ID="2", SLURM_SUBMIT_DIR=SHELL.parent, **settings)
    assert done.returncode == 0, done.stderr
    group, _, dataset = parse(scripts.calls()[0])
    assert (group["shard"], group["seed"], dataset["name"]) == (shard, 3, name)


@pytest.mark.parametrize("settings", [{"SLURM_ARRAY_TASK_ID": "2"}, {"SLURM_SUBMIT_DIR": SHELL.parent}])
def test_an_array_submitted_from_elsewhere_or_not_as_one_is_one_line(
    scripts: Scripts, settings: dict[str, str | Path]
) -> None:
    done = submit(scripts, **settings)
    assert (done.returncode, len(done.stderr.splitlines()), scripts.calls()) == (2, 1, [])


def test_run_tests_refuses_an_old_python(scripts: Scripts) -> None:
    old = scripts.folder / "old"
    old.write_text("#!/usr/bin/env bash\nexit 1\n")
    old.chmod(0o755)
    done = scripts.run("run-tests.sh", PYTHON=old, VENV=scripts.folder / "venv")
    assert done.returncode == 2
    assert "3.11" in done.stderr
    assert not (scripts.folder / "venv").exists()


def test_run_demo_hands_its_arguments_on_and_installs_only_once(scripts: Scripts) -> None:
    venv, requirements = scripts.folder / "venv", (SHELL.parent / "requirements.txt").read_bytes()
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(scripts.python)
    stamp = subprocess.run(["cksum"], input=2 * requirements, capture_output=True).stdout.decode()
    (venv / "requirements.txt.cksum").write_text(stamp)
    done = scripts.run("run-demo.sh", "-s", "1", "--help", PYTHON=sys.executable, VENV=venv)
    assert done.returncode == 0 and "--seeds" in done.stdout, done.stderr
    assert scripts.calls() == [[str(SHELL.parent / "demo.py"), "-s", "1", "--help"]]
