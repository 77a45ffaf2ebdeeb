"""Small convolutional decoders whose targets are encoder features; they only serve training.

The phone branch is pulled to WavLM's 50 Hz features, the structure branch to the music features at
25 Hz (UniAudio 2.0, App. A.2). Shapes: `B` clips, `C` channels, `T` frames.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class _Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel_size=3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Upsample(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose1d(
            inputs,
            outputs,
            kernel_size=2 * stride,
            stride=stride,
            padding=(stride + 1) // 2,
            output_padding=stride % 2,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.deconv(x)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _Conv(channels, channels, bias=False)
        self.conv2 = nn.Conv1d(channels, channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.elu(self.conv1(F.elu(x))))


class _Block(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        if stride == 1:
            self.conv: nn.Module = _Conv(channels, channels, bias=True)
        else:
            self.conv = _Upsample(channels, channels, stride)
        self.res_units = nn.ModuleList(_Residual(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for unit in self.res_units:
            x = unit(x)
        return x


class FeatureDecoder(nn.Module):
    """(B, inputs, T) -> (B, outputs, T * product of ``strides``)."""

    def __init__(self, inputs: int, outputs: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = _Conv(inputs, outputs, bias=False)
        self.conv_blocks = nn.ModuleList(_Block(outputs, stride) for stride in strides)
        self.conv2 = _Conv(outputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for block in self.conv_blocks:
            x = block(x)
        return self.conv2(x)
