"""The inverter: projection, GPT and tokenizer as one module that learns and inverts.

Knows nothing of corpora, training loops or files of vectors. What it is made of, and how that is saved: `assembly`.

Shapes: B batch, D vector dimension, P prefix tokens, T text tokens, H GPT hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vec2text.assembly import Assembly
from vec2text.constraints import Constraints
from vec2text.correction import Hypotheses
from vec2text.decoding import Decoding, decode
from vec2text.loss import chunked_cross_entropy, chunked_log_probabilities
from vec2text.pieces import Pieces
from vec2text.rules import Rules
from vec2text.sentences import case_variants
from vec2text.steps import places_of
from vec2text.vectors import check_rows


class Inverter(Assembly):
    """Turns vectors of one vector space back into text."""

    _pieces: Pieces | None = None

    # -- learning ------------------------------------------------------------------------------------------------

    def forward(
        self,
        vectors: torch.Tensor,
        ids: torch.Tensor,
        lengths: torch.Tensor,
        hypotheses: Hypotheses | None = None,
        shares: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean cross-entropy of the text tokens and the end token; prefix and padding do not count.

        Args:
            vectors: (B, D).
            ids: text tokens (B, T), anything beyond a row's length.
            lengths: tokens of each text, (B,); on the CPU a GPU need not be waited for.
            hypotheses: what the texts are written from, beside the vectors; None: plain inversion.
            shares: (B, T + 1) by which each token's cross-entropy, at a text's length that of its end, is multiplied
                before the mean; None: 1.
        """
        ends = lengths.to(ids.device, non_blocking=True).unsqueeze(1)  # (B, 1)
        targets = F.pad(ids, (0, 1), value=self.end_id).scatter(1, ends, self.end_id)
        counted = torch.arange(ids.shape[1] + 1, device=ids.device) <= ends  # (B, T + 1): T text tokens, then the end
        if ids.device.type == "cuda":  # without asking it how many there are, which would be to wait for it
            places = torch.nonzero_static(counted, size=int(lengths.sum()) + len(lengths))
        else:
            places = counted.nonzero()
        rows, columns = places.unbind(1)
        hidden = self._text_states(vectors, ids, hypotheses)[rows, columns]  # (counted tokens, H)
        head = self.decoder.get_output_embeddings()
        # Padding of texts is on the right and attention is causal: no counted token can see it, so it needs no mask.
        each = None if shares is None else shares[rows, columns]
        loss = chunked_cross_entropy(hidden, head.weight, head.bias, targets[rows, columns], each)
        if self.correction is not None and hypotheses is None:  # every step gives all parameters a gradient
            loss = loss + 0.0 * sum(parameter.sum() for parameter in self.correction.parameters())
        return loss

    def _text_states(
        self, vectors: torch.Tensor, ids: torch.Tensor, hypotheses: Hypotheses | None = None
    ) -> torch.Tensor:
        """The GPT's last hidden states at the places that predict text tokens and the end: (B, T + 1, H)."""
        tokens = self.decoder.get_input_embeddings()(ids)  # (B, T, H)
        masked = {}
        if hypotheses is None:
            prefix = self.projection(self._own(vectors)).to(tokens.dtype)  # (B, P, H)
        else:
            prefix, mask = self._correction_prefixes(vectors, hypotheses)  # (B, 3P + T' + 1, H)
            mask = torch.cat([mask, mask.new_ones(ids.shape)], 1)
            masked = {"attention_mask": mask, "position_ids": places_of(mask)}
        inputs = torch.cat([prefix, tokens], 1)  # (B, P + T, H)
        hidden = self.decoder.base_model(inputs_embeds=inputs, use_cache=False, **masked).last_hidden_state
        return hidden[:, prefix.shape[1] - 1 :]

    def _correction_prefixes(self, vectors: torch.Tensor, hypotheses: Hypotheses) -> tuple[torch.Tensor, torch.Tensor]:
        if self.correction is None:
            raise ValueError("this inverter has not learned to correct: train one with training.correction_fraction")
        embed = self.decoder.get_input_embeddings()
        known = hypotheses._replace(vectors=self._own(hypotheses.vectors))
        prefixes, mask = self.correction(self.projection, embed, self._own(vectors), known, self.end_id)
        return prefixes, mask

    def _own(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors as the projection knows them."""
        return vectors if self.alignment is None else self.alignment(vectors)

    # -- inversion -----------------------------------------------------------------------------------------------

    def invert(
        self,
        vectors: np.ndarray | torch.Tensor | Sequence[Any],
        *,
        num_beams: int = 1,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_tokens: int = 0,
        max_tokens: int | None = None,
        seed: int | torch.Generator | None = None,
        batch_size: int = 256,
        constraints: Constraints | None = None,
    ) -> list[str]:
        """Turn vectors back into text, in their order.

        Greedy unless `num_beams`, `temperature`, `top_k` or `top_p` say otherwise (see `Decoding`).

        Args:
            vectors: (N, D), or one vector (D,); numpy, torch or nested lists, of any float type.
            num_beams: hypotheses kept beside each other in beam search.
            temperature: of sampling; 0 is greedy.
            top_k: sample among the k most probable tokens.
            top_p: sample among the most probable tokens that together have this probability.
            min_tokens: shortest text, in tokens.
            max_tokens: longest text, in tokens; None: the longest that it was trained on.
            seed: of sampling: a number, or a CPU generator that goes on from call to call.
            batch_size: vectors decoded at a time.
            constraints: what every text must be like; words that it must contain only with greedy decoding.

        Raises:
            ValueError: another dimension, NaN, infinity or a vector of zeros, options that contradict, or constraints
                that cannot be obeyed, whatever the vectors. All of this is known before the first text is written.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        limit = self.max_tokens if max_tokens is None else max_tokens
        options = Decoding(num_beams, temperature, top_k, top_p, min_tokens, limit)
        self.check_length(limit)
        rules = self.rules(constraints, limit)
        if rules and constraints and constraints.must_contain and (options.sampled or num_beams > 1):
            manner = "sampling" if options.sampled else f"num_beams {num_beams}"
            raise ValueError(f"must_contain and {manner} contradict: words are put into greedy texts; leave one out")
        if rules and constraints and constraints.must_contain and min_tokens:
            raise ValueError(f"must_contain and min_tokens {min_tokens} contradict: leave one out")
        rows = self.rows(vectors)
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator()
        if isinstance(seed, int):
            generator.manual_seed(seed)
        elif seed is None:
            generator.seed()
        return self._write(rows, options, generator, batch_size, rules)

    def rules(self, constraints: Constraints | None, max_tokens: int) -> Rules | None:
        """Constraints as this inverter's decoder obeys them; None: there are none.

        Raises:
            ValueError: its tokenizer cannot write what is asked, or not in `max_tokens`.
        """
        if not constraints:
            return None
        if self._pieces is None:
            self._pieces = Pieces(self.tokenizer, self.decoder.get_output_embeddings().weight.shape[0])
        return Rules(constraints, self._pieces, self.end_id, max_tokens)

    def unaided(self) -> str:
        """What the GPT writes for a vector of zeros: the baseline of a decoder that is told nothing."""
        options = Decoding(max_tokens=self.max_tokens)
        return self._write(torch.zeros(1, self.fingerprint.dimension), options, None, 1)[0]

    @torch.inference_mode()
    def _write(
        self,
        rows: torch.Tensor,
        options: Decoding,
        generator: torch.Generator | None,
        batch_size: int,
        rules: Rules | None = None,
    ) -> list[str]:
        was_training = self.training
        self.eval()
        texts: list[str] = []
        for start in range(0, len(rows), batch_size):
            prefixes = self.prefixes(rows[start : start + batch_size])
            begin = None
            if rules and options.num_beams == 1:
                begin = [first for first, *_ in rules.beginnings(self.decoder, prefixes)]
            ids = decode(self.decoder, prefixes, self.end_id, options, generator, begin=begin, allowed=rules)
            texts += self.texts(ids)
        self.train(was_training)
        assert rules is None or all(map(rules.constraints.obeyed_by, texts)), "a text does not obey"
        return texts

    @torch.inference_mode()
    def prefixes(self, rows: torch.Tensor) -> torch.Tensor:
        """What the GPT reads for vectors (B, D): (B, P, H), in its own type and place."""
        batch = rows.to(self.device, self.projection.dtype)
        prefixes: torch.Tensor = self.projection(self._own(batch)).to(self.decoder.get_input_embeddings().weight.dtype)
        return prefixes

    @torch.inference_mode()
    def correction_prefixes(self, rows: torch.Tensor, hypotheses: Hypotheses) -> tuple[torch.Tensor, torch.Tensor]:
        """What the GPT reads to mend hypotheses of vectors (B, D), and its mask: see `Correction`.

        Raises:
            ValueError: it has not learned to.
        """
        batch, moved = rows.to(self.device, self.projection.dtype), hypotheses.to(self.device)
        return self._correction_prefixes(batch, moved._replace(vectors=moved.vectors.to(batch.dtype)))

    @torch.inference_mode()
    def log_probabilities(self, rows: torch.Tensor, texts: Sequence[str], *, batch_size: int = 256) -> np.ndarray:
        """The log-probability of given texts, and of their end, under plain inversion: (N,), in nats.

        Args:
            rows: (N, D), as `rows` gives them.
            texts: N, one for each vector; of one that is longer than the GPT has positions for, the beginning counts.
            batch_size: texts that are read at a time.
        """
        assert len(rows) == len(texts)
        was_training = self.training
        self.eval()
        head, room = self.decoder.get_output_embeddings(), self._room()
        sums: list[float] = []
        for start in range(0, len(texts), batch_size):
            part = list(texts[start : start + batch_size])
            found = self.tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)
            # Broken characters may take more tokens than those that they were written with.
            tokens = [[*ids[:room], self.end_id] for ids in found["input_ids"]]
            lengths = torch.tensor([len(ids) for ids in tokens])
            targets = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in tokens], batch_first=True)  # (B, T + 1)
            counted = torch.arange(targets.shape[1]) < lengths.unsqueeze(1)
            targets, counted = targets.to(self.device), counted.to(self.device)
            vectors = rows[start : start + batch_size].to(self.device, self.projection.dtype)
            hidden = self._text_states(vectors, targets[:, :-1])[counted]  # (counted tokens, H)
            scores = chunked_log_probabilities(hidden, head.weight, head.bias, targets[counted]).cpu()
            sums += [float(row.sum()) for row in scores.split(lengths.tolist())]
        self.train(was_training)
        return np.array(sums)

    def case_probabilities(self, rows: torch.Tensor, texts: Sequence[str]) -> np.ndarray:
        """The probability of each text among its case variants, under plain inversion: (N,), 0 to 1.

        Args:
            rows: (N, D), as `rows` gives them.
            texts: N, one for each vector.
        """
        variants = [case_variants(text) for text in texts]  # the text itself is the first
        counts = np.array([len(some) for some in variants], np.int64)
        owners, firsts = np.repeat(np.arange(len(texts)), counts), counts.cumsum() - counts
        scores = self.log_probabilities(rows[owners], [text for some in variants for text in some])
        found: np.ndarray = np.exp(scores[firsts] - np.logaddexp.reduceat(scores, firsts))
        return found

    def confidences(self, rows: torch.Tensor, texts: Sequence[str], similarities: np.ndarray) -> np.ndarray | None:
        """The probability of each text to be exactly what its vector was made of: (N,); None without calibration.

        Args:
            rows: (N, D), as `rows` gives them.
            texts: N, one for each vector.
            similarities: (N,) cosine of each text's vector to its row.
        """
        if self.calibration is None:
            return None
        return self.calibration.confidences(similarities, self.case_probabilities(rows, texts))

    def texts(self, ids: list[list[int]]) -> list[str]:
        """Token ids as texts, without special tokens and with single spaces."""
        found = self.tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [" ".join(text.split()) for text in found]

    def rows(self, vectors: np.ndarray | torch.Tensor | Sequence[Any]) -> torch.Tensor:
        """Vectors as checked (N, D) float32 rows, on the CPU.

        Raises:
            ValueError: another dimension, NaN, infinity or a vector of zeros.
        """
        if isinstance(vectors, torch.Tensor):
            vectors = vectors.detach().float().cpu().numpy()
        if not len(vectors):
            return torch.zeros(0, self.fingerprint.dimension)
        array = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
        if array.ndim != 2:
            raise ValueError(f"the vectors have shape {array.shape}; expected (N, D) or (D,)")
        check_rows(array)
        self.fingerprint.check_vectors(array)
        return torch.from_numpy(np.ascontiguousarray(array))
