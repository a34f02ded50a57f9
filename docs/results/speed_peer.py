"""The other side of speed.py: SimSiam by lightly on PyTorch, one turn of steps for each line it reads.

Runs in an environment of its own: pip install torch lightly timm. The network is timm's ResNet-V2 with batch norm,
which has BiT's units and stem; heads and loss are lightly's, with the sizes of the paper.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
from timm.layers import BatchNormAct2d, create_conv2d
from timm.models.resnetv2 import ResNetV2

DEPTHS = {"R50x1": (3, 4, 6, 3), "R26x1": (2, 2, 2, 2)}


class Network(torch.nn.Module):
    """Two views -> the loss."""

    def __init__(self, backbone: str):
        super().__init__()
        plain = {"norm_layer": BatchNormAct2d, "conv_layer": create_conv2d}
        self.backbone = ResNetV2(DEPTHS[backbone], num_classes=0, **plain)
        self.projector = SimSiamProjectionHead(2048, 2048, 2048)
        self.predictor = SimSiamPredictionHead(2048, 512, 2048)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, views_a: torch.Tensor, views_b: torch.Tensor) -> torch.Tensor:
        """As in lightly's example of SimSiam."""
        projections_a, projections_b = (self.projector(self.backbone(views)) for views in (views_a, views_b))
        predictions_a, predictions_b = self.predictor(projections_a), self.predictor(projections_b)
        return 0.5 * (
            self.criterion(predictions_a, projections_b.detach())
            + self.criterion(predictions_b, projections_a.detach())
        )


def main() -> None:
    """Says what it is, then answers each line with the seconds of a turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", choices=DEPTHS)
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--precision", choices=["float32", "bfloat16"])
    parser.add_argument("--layout", choices=["channels_last", "contiguous"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if options.layout == "channels_last" else torch.contiguous_format
    network = Network(options.backbone).to(memory_format=layout).train()
    forward = torch.compile(network) if options.compile else network
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    shape = [options.batch_size, 3, options.image_size, options.image_size]
    views = [torch.rand(shape).mul_(2).sub_(1).to(memory_format=layout) for _ in range(2)]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            loss = forward(*views)
        loss.backward()
        optimizer.step()

    step()
    print(sum(weight.numel() for weight in network.backbone.parameters()), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(options.steps):
            step()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
