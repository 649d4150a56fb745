import pytest
import torch

from forktail.errors import InputError
from forktail.runtime import Runtime


def test_auto_is_the_processor_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Runtime.open("auto").device.type == "cpu"
    with pytest.raises(InputError, match="torch finds no GPU"):
        Runtime.open("cuda")


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Runtime.open("auto").device.type == "cuda"
    assert Runtime.open("cpu").device.type == "cpu"


def test_an_unknown_device_suggests_the_nearest():
    with pytest.raises(InputError, match='did you mean "cuda"'):
        Runtime.open("cudda")
