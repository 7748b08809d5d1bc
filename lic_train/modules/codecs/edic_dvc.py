"""DVC with the networks of EDIC inside: residual, motion, and enhancement in the loop."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lic_train.modules.codecs.dvc import DVC
from lic_train.modules.layers.enhancement import Enhancement


class EnhancedDVC(DVC):
    """Liu, Lu, Hu, Xu 2020 (arXiv 2002.03370), the video experiment: their modules in DVC.

    ::

        v -> motion_codec (attention, mixture) -> v_hat -> warp -> compensation -> prediction
        x_t - prediction -> residual (attention, mixture)
                         -> + prediction -> [enhancement] -> x_hat_t

    The codecs are parts, chosen by ``model/residual`` and ``model/motion_codec``; this class adds
    the enhancement of each predicted frame, once, before the next one refers to it. Which of the
    modules the authors put where is not published: this split is a proposal.

    Args:
        enhancement_channels: width of the enhancement net; 0 is none.
        enhancement_blocks: its depth.
        parts: what :class:`DVC` takes.
    """

    def __init__(
        self, enhancement_channels: int = 32, enhancement_blocks: int = 3, **parts: Any
    ) -> None:
        super().__init__(**parts)
        self.enhancement: nn.Module | None = (
            Enhancement(enhancement_channels, enhancement_blocks) if enhancement_channels else None
        )

    def enhance(self, x_hat: Tensor) -> Tensor:
        return self._run(self.enhancement, x_hat)
