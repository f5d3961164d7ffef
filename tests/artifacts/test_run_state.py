"""state.pth: states of other versions, damaged ones, and how often one is written."""

import pytest
import torch

from artifacts import checkpoint, run_state
from artifacts.run_state import RunState


def test_a_state_of_before_is_read_and_one_of_later_refused(tmp_path):
    RunState(epoch=3, weights={"discriminator": {}}).save(tmp_path)
    content = torch.load(tmp_path / run_state.STATE, weights_only=True)
    del content["position"]
    checkpoint.save_tensors(tmp_path / run_state.STATE, content)
    assert (RunState.load(tmp_path).epoch, RunState.load(tmp_path).position) == (3, 0)
    checkpoint.save_tensors(tmp_path / run_state.STATE, content | {"news": 1})
    with pytest.raises(ValueError, match="written by a later version"):
        RunState.load(tmp_path)


@pytest.mark.parametrize("wrong", [{"epoch": "3"}, {"weights": None}, {"center": 1.0}, {"best": []}])
def test_a_state_of_wrong_types_is_refused(tmp_path, wrong):
    RunState(**wrong).save(tmp_path)
    with pytest.raises(ValueError, match=f"is damaged .{next(iter(wrong))}.: restore it, or train again with --fresh"):
        RunState.load(tmp_path)


def test_saving_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(run_state.time, "monotonic", lambda: clock[0])
    write = checkpoint.save_tensors

    def slow(*arguments) -> None:
        write(*arguments)
        clock[0] += 5

    monkeypatch.setattr(run_state, "save_tensors", slow)
    network = torch.nn.Linear(1, 1)
    saver = run_state.Saver(tmp_path, {"net": network}, {"net": torch.optim.Adam(network.parameters())}, {})
    clock[0] = 61
    assert saver.due()
    saver.save(RunState())  # takes 10 s
    clock[0] = 61 + 499
    assert not saver.due()
    clock[0] = 61 + 501
    assert saver.due()
