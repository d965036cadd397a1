"""The projection: a vector becomes a prefix, a few tokens in the GPT's embedding space.

Knows nothing of the GPT beyond its width and the size of its token embeddings.

Shapes: B batch, D vector dimension, P prefix tokens, H GPT hidden size.
"""

import copy
from dataclasses import replace

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

    def after(self, matrix: torch.Tensor, offset: torch.Tensor, vector_norm: float) -> "Projection":
        """A projection that gives for a vector x what this one gives for `matrix @ x + offset`.

        Args:
            matrix: (D, E).
            offset: (D,).
            vector_norm: typical length of x.

        Raises:
            ValueError: zero_pad, which has no weights that could take the map in.
        """
        if self.config.kind == "zero_pad":
            raise ValueError("projection.kind is zero_pad: it has no weights, so that no map can become a part of it")
        found = copy.deepcopy(self)
        found.dimension = matrix.shape[1]
        found.scale = self.scale.new_tensor(found.dimension**0.5 / vector_norm)
        old: nn.Linear = self.layers if isinstance(self.layers, nn.Linear) else self.layers[0]  # type: ignore[index]
        new = nn.Linear(found.dimension, old.out_features, device=old.weight.device, dtype=old.weight.dtype)
        with torch.no_grad():
            weight = old.weight.double() * self.scale.double()  # (outputs, D)
            new.weight.copy_(weight @ matrix.double() / found.scale.double())
            new.bias.copy_(old.bias + weight @ offset.double())
        if isinstance(found.layers, nn.Linear):
            found.layers = new
        else:
            found.layers[0] = new  # type: ignore[operator]
            found.config = replace(self.config, hidden_size=old.out_features)  # by default as wide as the vector
        return found

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """The prefix of each vector."""
        if self.config.kind == "zero_pad":
            return F.pad(vectors, (0, self.hidden_size - self.dimension)).unsqueeze(1)  # (B, 1, H)
        flat = self.layers(vectors * self.scale)  # (B, P * H)
        return self.norm(flat.unflatten(-1, (self.config.prefix_length, self.hidden_size)))  # (B, P, H)
