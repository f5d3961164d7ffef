"""Files of tensors: what is refused, why, and that no code in them runs."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from artifacts import checkpoint


class Evil:
    """Would make a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, legacy):
    path = tmp_path / "ckpt.pth"
    torch.save({"discriminator": Evil(tmp_path / "ran")}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"ckpt.pth holds more than tensors \(\w+.system, which is not run\)"):
        checkpoint.load_tensors(path)
    path.write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"ckpt.pth is damaged, or no file of tensors"):
        checkpoint.load_tensors(path)
    assert not (tmp_path / "ran").exists()


def test_a_single_changed_byte_is_seen(tmp_path):
    path = tmp_path / "ckpt.pth"
    torch.save({"weight": torch.zeros(1000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # within the tensor: torch.load would take it
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load_tensors(path)


def test_a_packed_archive_is_refused_before_it_is_unpacked(tmp_path):
    buffer, path = io.BytesIO(), tmp_path / "bomb.pth"
    torch.save({"weight": torch.zeros(1000)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
    with pytest.raises(ValueError, match="bomb.pth is damaged"):
        checkpoint.load_tensors(path)


@pytest.mark.parametrize("wrong", [7, "", {"tail.0.weight": 1.0}, [torch.ones(1)], torch.zeros(0)])
def test_parts_that_are_no_tensors_are_refused(tmp_path, wrong):
    fine = {"tail.0.weight": torch.ones(1)}
    with pytest.raises(ValueError, match="file is damaged: its pre_projection is no table"):
        checkpoint.split_state({"discriminator": fine, "pre_projection": wrong}, Path("file"))
