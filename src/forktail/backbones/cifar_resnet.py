"""``resnet32`` and its siblings: the residual networks of the CIFAR benchmarks, which long-tail papers train."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from forktail.backbones.adapters import adapts
from forktail.backbones.layered import Layered

# No name is one of timm's, whose ResNets have another stem, four stages and 64 channels at least.
NUM_LAYERS = {f"resnet{layers}": layers for layers in (8, 14, 20, 32, 44, 56, 110)}
WIDTHS = (16, 32, 64)
INPUT_SIZE = 32
# CIFAR-10's statistics, as the long-tail repositories use them for CIFAR-100 too.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters (He et al. 2016, section 3.3, option A)."""

    def __init__(self, width_before: int, width: int, drop_path: float) -> None:
        from timm.layers.drop import DropPath  # here, because timm takes seconds

        super().__init__()
        self.stride = 1 if width == width_before else 2
        self.new_channels = width - width_before
        self.conv1 = nn.Conv2d(width_before, width, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, hidden: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(relu(self.bn1(self.conv1(hidden)))))
        summed: Tensor = self.drop_path(residual) + self._shortcut(hidden)
        return relu(summed)

    def _shortcut(self, hidden: Tensor) -> Tensor:
        """Keep every second pixel; half of the new channels of zeros come first and half last, as in those papers."""
        if self.stride == 1:
            return hidden
        half = self.new_channels // 2
        return pad(hidden[:, :, ::2, ::2], (0, 0, 0, 0, half, half))


class CifarResNet(nn.Module):
    """A residual network of three stages of n blocks without classifier (He et al. 2016, section 4.2).

    Args:
        num_layers: 6n + 2, the classifier counted.
        drop_path: Rate of stochastic depth at the last block, in [0, 1); it grows linearly from 0 at the first.
    """

    def __init__(self, num_layers: int, drop_path: float = 0.0) -> None:
        super().__init__()
        blocks, rest = divmod(num_layers - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"{num_layers} layers; expected 6n + 2 with n >= 1")
        rates = iter(drop_path * block / (3 * blocks - 1) for block in range(3 * blocks))
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.act1 = nn.ReLU()
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], [next(rates) for _ in range(blocks)])
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], [next(rates) for _ in range(blocks)])
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], [next(rates) for _ in range(blocks)])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Turn (B, 3, H, W) pictures into (B, 64) features."""
        hidden = self.act1(self.bn1(self.conv1(images)))
        features: Tensor = self.layer3(self.layer2(self.layer1(hidden))).mean((2, 3))
        return features


def _stage(width_before: int, width: int, rates: list[float]) -> nn.Sequential:
    return nn.Sequential(*(_Block(width_before if not i else width, width, rate) for i, rate in enumerate(rates)))


def cifar_resnet(name: str, *, drop_path: float = 0.0) -> CifarResNet:
    """Build a residual network of the CIFAR benchmarks with random weights (He et al. 2016, section 4.2).

    A 3x3 stem, then stages of 16, 32 and 64 channels with n blocks each. Parameters have the names of the long-tail
    repositories (``layer1.0.conv1.weight``). Any input size will do; 32 pixels are usual.

    Args:
        name: ``resnet8``, ``resnet14``, ``resnet20``, ``resnet32``, ``resnet44``, ``resnet56`` or ``resnet110``.
        drop_path: Rate of stochastic depth at the last block, in [0, 1).

    Returns:
        The network without classifier; ``resnet32`` has 0.46 million parameters.

    Example:
        >>> round(sum(p.numel() for p in cifar_resnet("resnet32").parameters()) / 1e6, 2)
        0.46
    """
    return CifarResNet(NUM_LAYERS[name], drop_path)


@adapts("forktail.backbones.cifar_resnet.CifarResNet")
def layered(model: CifarResNet) -> Layered:
    """Cut a ``CifarResNet`` into stem, residual blocks and pooling.

    Args:
        model: The network; its parts become those of the chain.

    Returns:
        The chain of 3n units.

    Example:
        >>> layered(cifar_resnet("resnet32")).depth
        15
    """
    stem = OrderedDict(conv1=model.conv1, bn1=model.bn1, act1=model.act1)
    units = [*model.layer1, *model.layer2, *model.layer3]
    readout = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Layered(nn.Sequential(stem), units, readout, num_features=WIDTHS[-1])
