"""Tensors in files: what is written is there again, room is given back, and a full disk is said in time."""

import errno
import os

import pytest
import torch

from ddhub.base import mapped_tensors
from ddhub.base.errors import UserError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.int64])
def test_a_file_is_found_as_it_was_left(tmp_path, dtype):
    written = torch.arange(6).view(2, 3).to(dtype)
    mapped_tensors.tensor(tmp_path / "new" / "a", (2, 3), dtype).copy_(written)
    assert mapped_tensors.has_size(tmp_path / "new" / "a", (2, 3), dtype)
    assert torch.equal(mapped_tensors.tensor(tmp_path / "new" / "a", (2, 3), dtype), written)


def test_room_is_given_back_whatever_happens(tmp_path):
    """Also what a killed run left; tensors go on to be read by whoever holds them."""
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "left").touch()
    with pytest.raises(ZeroDivisionError), mapped_tensors.in_folder(tmp_path / "room") as allocate:
        assert not (tmp_path / "room" / "left").exists()
        held, other = allocate((4,), torch.float32).fill_(1), allocate((4,), torch.float32).fill_(2)
        assert len(list((tmp_path / "room").iterdir())) == 2
        raise ZeroDivisionError
    assert not (tmp_path / "room").exists()
    assert torch.equal(held + other, torch.full((4,), 3.0))


def test_a_disk_without_room_says_so(tmp_path, monkeypatch):
    """Before anything is written: a store through a mapping would end the process."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="a: the disk is full"):
        mapped_tensors.tensor(tmp_path / "a", (2, 3))
