from __future__ import annotations

import pytest
import timm

from forktail.backbones.open import BackboneSpec, input_facts, open_backbone
from forktail.backbones.timm_models import build, check_name
from forktail.errors import InputError


def test_no_connection_is_one_clear_line(monkeypatch):
    def create_model(*_, **__):
        raise OSError("the hub is out of reach\nand so on")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(
        InputError, match=r"^vit_base_patch16_224\.mae could not be loaded: the hub is out of reach; exp"
    ):
        open_backbone(BackboneSpec("vit_base_patch16_224.mae"))


@pytest.mark.parametrize("error", [ValueError("bad name\nand so on"), KeyError("architecture"), TimeoutError()])
def test_whatever_the_hub_answers_is_one_clear_line(monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(timm, "create_model", fails)
    monkeypatch.setattr(timm.models, "load_model_config_from_hf", fails)
    for ask in (open_backbone, input_facts):
        with pytest.raises(InputError, match=r"^hf-hub:a/b could not be loaded: .*; expected a connection") as caught:
            ask(BackboneSpec("hf-hub:a/b"))
        assert "\n" not in str(caught.value)


def test_an_input_size_that_the_model_refuses_is_no_matter_of_the_connection(monkeypatch):
    def fails(*_, **__):
        raise AssertionError("img_size must be a multiple")

    monkeypatch.setattr(timm, "create_model", fails)
    with pytest.raises(InputError, match="vit_tiny_patch16_224 cannot be built with input_size 33: img_size must be"):
        build("vit_tiny_patch16_224", pretrained=False, drop_path=0, input_size=33)


def test_a_name_of_the_hub_is_not_looked_up_among_those_of_timm():
    check_name("hf-hub:no/such")
    with pytest.raises(InputError, match="no backbone named"):
        check_name("no/such")
