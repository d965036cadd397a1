"""The projection: a vector becomes a prefix, a few tokens in the GPT's embedding space.

Knows nothing of the GPT beyond its width and the size of its token embeddings.

Shapes: B batch, D vector dimension, P prefix tokens, H GPT hidden size.
"""

import torch
from torch import nn
from torch.nn import functional as F

from vec2text.config import ProjectionConfig


class Projection(nn.Module):
    """Vectors (B, D) to prefixes (B, P, H).

    `zero_pad` is the method of Koziev's vector2text: the vector itself, filled up with zeros, is one token. `linear`
    and `mlp` are trained; their tokens are normalised to the size of the GPT's own token embeddings, so that the GPT
    meets familiar magnitudes from the first step on.

    Args:
        config: kind, prefix length, width of the hidden layer.
        dimension: D.
        hidden_size: H.
        vector_norm: typical length of a vector; inputs are scaled so that their entries are about 1.
        token_rms: root mean square of the GPT's token embeddings.

    Raises:
        ValueError: zero_pad with D > H.
    """

    def __init__(
        self, config: ProjectionConfig, dimension: int, hidden_size: int, *, vector_norm: float, token_rms: float
    ) -> None:
        super().__init__()
        self.config, self.dimension, self.hidden_size = config, dimension, hidden_size
        outputs = config.prefix_length * hidden_size
        if config.kind == "zero_pad":
            if dimension > hidden_size:
                raise ValueError(
                    f"projection.kind=zero_pad: the vectors have dimension {dimension}, more than the GPT's hidden "
                    f"size {hidden_size}; use projection=linear or projection=mlp, or a wider GPT"
                )
            return
        self.scale: torch.Tensor
        self.register_buffer("scale", torch.tensor(dimension**0.5 / vector_norm))
        if config.kind == "linear":
            self.layers: nn.Module = nn.Linear(dimension, outputs)
        else:
            width = config.hidden_size or dimension
            self.layers = nn.Sequential(nn.Linear(dimension, width), nn.GELU(), nn.Linear(width, outputs))
        self.norm = nn.LayerNorm(hidden_size)
        nn.init.constant_(self.norm.weight, token_rms)

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        return next((parameter.dtype for parameter in self.parameters()), torch.float32)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """The prefix of each vector."""
        if self.config.kind == "zero_pad":
            return F.pad(vectors, (0, self.hidden_size - self.dimension)).unsqueeze(1)  # (B, 1, H)
        flat = self.layers(vectors * self.scale)  # (B, P * H)
        return self.norm(flat.unflatten(-1, (self.config.prefix_length, self.hidden_size)))  # (B, P, H)
