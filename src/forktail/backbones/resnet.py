"""The family of residual networks, as timm builds them: ResNet, ResNeXt, Wide ResNet, with squeeze or deep stem."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from forktail.backbones.adapters import adapts
from forktail.backbones.layered import Layered
from forktail.errors import InputError


@adapts("timm.models.resnet.ResNet")
def resnet(model: Any) -> Layered:
    """Cut timm's ``ResNet`` into stem, residual blocks and pooling.

    The stem reaches to the max-pooling before the first block; a block's own projection belongs to the block. Nothing
    behind the blocks has parameters, so what two tasks never share is their classifiers alone.

    Args:
        model: The network; its parts become those of the chain.

    Returns:
        The chain, with one unit for every residual block of its four stages.

    Raises:
        InputError: If the model does not pool its feature map into one vector.

    Example:
        >>> import torch
        >>> from timm.models.resnet import BasicBlock, ResNet
        >>> chain = resnet(ResNet(BasicBlock, (1, 2, 1, 1), channels=(8, 8, 12, 16)))
        >>> chain.depth, chain(torch.zeros(2, 3, 32, 32)).shape
        (5, torch.Size([2, 16]))
    """
    if not model.global_pool.pool_type:
        raise InputError(
            "a ResNet that returns its feature map (global_pool is empty)",
            expected="one feature vector per image",
            remedy="build it with global_pool='avg'",
        )
    stem = OrderedDict(conv1=model.conv1, bn1=model.bn1, act1=model.act1, maxpool=model.maxpool)
    units = [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]
    readout = nn.Sequential(model.global_pool, nn.Dropout(model.drop_rate))
    return Layered(nn.Sequential(stem), units, readout, num_features=model.head_hidden_size)
