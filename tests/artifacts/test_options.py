"""Options that others leave without effect are refused, and no others."""

import pytest
import torch
from click.testing import CliRunner

import main as cli
from artifacts import options
from artifacts.options import DataOptions, NetOptions, RunOptions
from tests.helpers.small_glass import loader, small_glass

IDLE_NET = [  # what leaves an option without effect, and the option
    ({"las": 0}, {"p": 0.0}, 2),
    ({"las": 0}, {"local_loss": "bce"}, 2),
    ({"gas": 0}, {"noise": 0.5}, 2),
    ({"gas": 0}, {"mining": 0}, 2),
    ({"gas": 0}, {"step": 5}, 2),
    ({"gas": 0}, {"project": 0}, 3),
    ({"gas": 0}, {"manifold_radii": (5.0, 9.0)}, 2),
    ({"mining": 0}, {"project": 0}, 3),
    ({"mining": 0}, {"manifold_radii": (5.0, 9.0)}, 2),
    ({"step": 0}, {"project": 0}, 3),
    ({"project": 0}, {"manifold_radii": (5.0, 9.0)}, 2),
    ({}, {"manifold_radii": (5.0, 9.0)}, 3),  # the hypothesis alone
]


def trained(svd: int, **changes: object) -> list[torch.Tensor]:
    """Return the weights after two steps."""
    model = small_glass(svd=svd, **changes)
    model.set_training(True)
    batches = list(loader(8, True))
    center, noise = model.center(batches, 0), torch.Generator().manual_seed(0)
    for batch in batches:
        model.train_step(batch, center, noise)
    return [value for network in model.trained().values() for value in network.state_dict().values()]


@pytest.mark.parametrize(("beside", "idle", "hypothesis"), IDLE_NET)
def test_what_is_refused_has_no_effect(beside, idle, hypothesis):
    pairs = zip(trained(hypothesis - 2, **beside), trained(hypothesis - 2, **beside, **idle), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    with pytest.raises(ValueError, match=f"^--{next(iter(idle))}: .*: leave one or the other out.$"):
        data = DataOptions(distribution=hypothesis, resize=288)
        options.with_recipe(RunOptions(), NetOptions(**beside, **idle), data, ())


@pytest.mark.parametrize(
    ("changes", "other"),
    [({"las": 0}, {"mining": 0}), ({"las": 0}, {"manifold_radii": (5.0, 9.0)}), ({"gas": 0}, {"p": 0.0}),
     ({"mining": 0}, {"noise": 0.5}), ({"project": 0}, {"step": 5})],
)  # fmt: skip
def test_what_has_an_effect_is_taken(changes, other):
    NetOptions(**changes, **other)
    pairs = zip(trained(0, **changes), trained(0, **changes, **other), strict=True)
    assert not all(torch.equal(one, two) for one, two in pairs)


def test_a_command_line_of_the_release_and_a_whitened_start_are_taken():
    NetOptions(mining=0, step=5)  # the step has no effect
    NetOptions(gas=0, dsc_init="whitened", noise=0.02)  # the start goes by the noise
    with pytest.raises(ValueError, match="^--noise, --step, --project: --gas 0 leaves out"):
        NetOptions(gas=0, noise=0.02, step=5, project=0)


def combined(run: dict, net: dict, **data: object) -> None:
    options.with_recipe(RunOptions(**run), NetOptions(**net), DataOptions(resize=288, **data), ())


LOOKS = {"mask_mode": "one", "mean": 0.3, "opacity": (0.5, 1.0), "defect_size": (0.1, 1.0), "rand_aug": 0}


@pytest.mark.parametrize("look", [{name: value} for name, value in LOOKS.items()])
def test_without_local_anomalies_nothing_says_how_they_look_unless_held_out_pictures_have_them(look):
    with pytest.raises(ValueError, match=f"^--{next(iter(look))}: --las 0 leaves out local anomalies"):
        combined({}, {"las": 0}, **look)
    combined({}, {}, **look)
    combined({"select": "synthetic"}, {"las": 0}, **look)
    combined({}, {"las": 0}, calibration=0.1, **look)


def test_real_defects_are_for_training_alone():
    with pytest.raises(ValueError, match="^--real_defects: --las 0 leaves out"):
        combined({"select": "synthetic"}, {"las": 0}, real_defects="confirmed")


def test_the_refusal_is_one_line_and_defaults_that_are_given_are_none(tmp_path, monkeypatch):
    def call(*words: object):
        line = ["--results_path", tmp_path, "net", *words, "dataset", "-d", "nut", "mvtec", tmp_path]
        return CliRunner().invoke(cli.main, [str(word) for word in line])

    done = call("--gas", 0, "--step", 5)
    wanted = "Error: --step: --gas 0 leaves out global anomalies: leave one or the other out."
    assert done.exit_code == 2 and done.output.splitlines()[-1] == wanted
    monkeypatch.setattr(cli, "Job", lambda *_: pytest.fail("reached"))
    with pytest.raises(pytest.fail.Exception, match="reached"):
        CliRunner().invoke(
            cli.main,
            f"--results_path {tmp_path} net --gas 0 --step 20 --noise 0.015 --mining 1 dataset -d nut mvtec x".split(),
            catch_exceptions=False,
        )
