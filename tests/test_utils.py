"""Seeds, devices and the judge of the hypothesis."""

import multiprocessing
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import utils
from artifacts import hypothesis_table


def test_derived_seeds_are_fixed_and_tell_their_parts_apart():
    assert utils.derive_seed(0, "mvtec_screw", 3) == utils.derive_seed(0, "mvtec_screw", 3)
    seeds = {utils.derive_seed(*parts) for parts in [(0, 1, 23), (0, 12, 3), (1, 0, 23), ("0", 123), (0,)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_fixed_seeds_repeat_every_source():
    draws = []
    for _ in range(2):
        utils.fix_seeds(-7)
        draws.append((np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]


def test_without_cuda_the_cpu_is_taken_with_a_line(caplog, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert utils.set_torch_device([0]) == torch.device("cpu")
    assert "running on the CPU" in caplog.text
    caplog.clear()
    assert utils.set_torch_device([]) == torch.device("cpu")
    assert not caplog.text


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="choose from 0 to 1"):
        utils.set_torch_device([2])


def test_the_wanted_gpu_becomes_the_one_of_the_process(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert utils.torch_device([1]) == torch.device("cuda:1") and not chosen
    assert utils.set_torch_device([1]) == torch.device("cuda:1") and chosen == [torch.device("cuda:1")]
    assert utils.set_torch_device([]) == torch.device("cpu") and len(chosen) == 1


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="PyTorch before 2.9 has no such setting")
@pytest.mark.parametrize(("precision", "expected"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_a_global_setting_does_not_leak_into_the_precision(precision, expected):
    try:
        torch.backends.fp32_precision = "tf32" if expected == "ieee" else "ieee"
        utils.set_precision(precision)
        parts = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
        assert {part.fp32_precision for part in parts} == {expected}
        assert torch.backends.mkldnn.conv.fp32_precision == "ieee"
        assert torch.backends.cudnn.benchmark == (precision != "fp32")
    finally:
        torch.backends.fp32_precision = "none"
        utils.set_precision("fp32")


@pytest.mark.parametrize(
    ("name", "flag"),
    [("mvtec_bottle", 1), ("mvtec_metal_nut", 0), ("visa_pipe_fryum", 1), ("mpdd_tubes", 0), ("wfdd_grey_cloth", 0)],
)
def test_the_tables_of_the_release(name, flag):
    assert hypothesis_table.table_flag(name, "Distribution") == flag
    assert hypothesis_table.table_flag(name, "Foreground") == flag


def test_the_tables_list_every_class():
    counts = {path.name.split("_")[0]: len(pd.read_excel(path)) for path in hypothesis_table.TABLES.glob("*.xlsx")}
    assert counts == {"mvtec": 15, "visa": 12, "mpdd": 6, "wfdd": 4}


def test_judgements_serve_what_the_tables_lack_and_override_nothing(tmp_path):
    assert hypothesis_table.table_flag("mvtec_new", "Distribution", tmp_path) is None
    hypothesis_table.record_judgement("mvtec_new", 1, tmp_path)
    hypothesis_table.record_judgement("mvtec_other", 0, tmp_path)
    hypothesis_table.record_judgement("mvtec_bottle", 0, tmp_path)
    assert hypothesis_table.table_flag("mvtec_new", "Foreground", tmp_path) == 1
    assert hypothesis_table.table_flag("mvtec_other", "Distribution", tmp_path) == 0
    assert hypothesis_table.table_flag("mvtec_bottle", "Distribution", tmp_path) == 1


def test_an_even_image_is_a_manifold(tmp_path):
    flat = np.full((200, 300, 3), 90, np.uint8)
    assert utils.distribution_judge(flat, "mvtec_flat", tmp_path) == 0
    assert (tmp_path / "avg" / "0" / "mvtec_flat.png").is_file()
    assert (tmp_path / "fft" / "0" / "mvtec_flat.png").is_file()


@pytest.mark.parametrize(("half_side", "flag"), [(3, 0), (20, 1)])
def test_a_dense_square_of_low_frequencies_is_a_hypersphere_if_it_is_large_enough(half_side, flag):
    bright = np.zeros((289, 289), bool)
    middle = slice(144 - half_side, 145 + half_side)
    bright[middle, middle] = True
    assert utils._is_hypersphere(bright) == flag


def test_a_sparse_spectrum_is_a_manifold():
    bright = np.zeros((289, 289), bool)
    bright[144, 44:245] = True
    bright[44:245, 144] = True
    assert utils._is_hypersphere(bright) == 0


def test_judgements_of_processes_at_once_are_all_kept(tmp_path):
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    names = [f"mvtec_{letter}" for letter in "abcd"]
    processes = [context.Process(target=hypothesis_table.record_judgement, args=(name, 1, tmp_path)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(pd.read_excel(tmp_path / "mvtec_distribution.xlsx").Class) == names


def test_a_judgement_that_the_table_lacks_still_counts_and_what_a_person_wrote_there_stays(tmp_path):
    hypothesis_table.record_judgement("mvtec_new", 1, tmp_path)
    path = tmp_path / "mvtec_distribution.xlsx"
    pd.DataFrame([{"Class": "mvtec_new", "Distribution": 0, "Foreground": 1}]).to_excel(path, index=False)
    hypothesis_table.record_judgement("mvtec_other", 1, tmp_path)
    assert hypothesis_table.table_flag("mvtec_new", "Distribution", tmp_path) == 0
    path.unlink()
    assert hypothesis_table.table_flag("mvtec_other", "Distribution", tmp_path) == 1
