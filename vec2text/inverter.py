"""The inverter: projection, GPT and tokenizer as one module that learns, inverts, saves and loads.

Knows nothing of corpora, training loops or files of vectors.

Shapes: B batch, D vector dimension, P prefix tokens, T text tokens, H GPT hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vec2text.adaptation import Alignment
from vec2text.calibration import Calibration
from vec2text.compact import save_compact
from vec2text.config import ProjectionConfig
from vec2text.constraints import Constraints
from vec2text.correction import Correction, Hypotheses, positions_of_prefix
from vec2text.decoders import open_decoder
from vec2text.decoding import Decoding, decode
from vec2text.description import Description
from vec2text.fingerprint import Fingerprint
from vec2text.hardware import best_device
from vec2text.loss import chunked_cross_entropy, chunked_log_probabilities
from vec2text.pieces import Pieces
from vec2text.projection import Projection
from vec2text.rules import Rules
from vec2text.sentences import case_variants
from vec2text.steps import places_of
from vec2text.storage import BUNDLED, find_folder, written_whole
from vec2text.vectors import check_rows


class Inverter(nn.Module):
    """Turns vectors of one vector space back into text.

    Args:
        projection: vectors to prefixes.
        decoder: a Hugging Face causal LM.
        tokenizer: the decoder's, with an end token.
        fingerprint: the vector space that it is for.
        max_tokens: the longest text, in tokens, that it is trained on.
        training: summary of how it was made, kept in inverter.json.
        correction: of an inverter that learns to correct hypotheses, or has learned it.
        calibration: how sure a reconstruction is; None: nobody has measured it.
    """

    def __init__(
        self,
        projection: Projection,
        decoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        fingerprint: Fingerprint,
        max_tokens: int,
        training: dict[str, Any] | None = None,
        correction: Correction | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__()
        self.projection, self.tokenizer, self.correction = projection, tokenizer, correction
        self.decoder: Any = decoder  # each architecture has a type of its own
        self.fingerprint, self.max_tokens, self.training_summary = fingerprint, max_tokens, training or {}
        self.calibration = calibration
        self.alignment: Alignment | None = None  # of an adapted inverter, from the vectors' space to its own
        self.adapts: str | None = None
        self.end_id = int(tokenizer.eos_token_id)
        self._pieces: Pieces | None = None

    @classmethod
    def build(
        cls,
        config: ProjectionConfig,
        decoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        fingerprint: Fingerprint,
        max_tokens: int,
        corrects: bool = False,
    ) -> Inverter:
        """A new inverter, with an untrained projection fitted to the GPT's width and embedding size.

        Raises:
            ValueError: it is to correct hypotheses, for which the GPT has too few positions.
        """
        embed: Any = decoder.get_input_embeddings()
        some = torch.arange(min(embed.num_embeddings, 4096), device=embed.weight.device)
        with torch.no_grad():  # through the module, since some scale what their table holds
            tokens = embed(some).detach().float()  # (4096, H)
        projection = Projection(
            config,
            fingerprint.dimension,
            tokens.shape[1],
            vector_norm=fingerprint.norm,
            token_rms=float(tokens.square().mean().sqrt()),
        )
        correction = Correction(config.prefix_length, tokens.shape[1]) if corrects else None
        inverter = cls(projection, decoder, tokenizer, fingerprint, max_tokens, correction=correction)
        if corrects:
            inverter.check_length(max_tokens, max_tokens)
        return inverter

    # -- learning ------------------------------------------------------------------------------------------------

    def forward(
        self,
        vectors: torch.Tensor,
        ids: torch.Tensor,
        lengths: torch.Tensor,
        hypotheses: Hypotheses | None = None,
    ) -> torch.Tensor:
        """Mean cross-entropy of the text tokens and the end token; prefix and padding do not count.

        Args:
            vectors: (B, D).
            ids: text tokens (B, T), anything beyond a row's length.
            lengths: tokens of each text, (B,); on the CPU a GPU need not be waited for.
            hypotheses: what the texts are written from, beside the vectors; None: plain inversion.
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
        loss = chunked_cross_entropy(hidden, head.weight, head.bias, targets[rows, columns])
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

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.decoder.get_input_embeddings().weight.device
        return device

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

    def check_length(self, max_tokens: int, hypothesis: int | None = None) -> None:
        """Refuse texts for which the GPT has no positions.

        Args:
            max_tokens: of the text.
            hypothesis: tokens of the hypothesis that it is written from; None: plain inversion.

        Raises:
            ValueError: that is more than there is room for.
        """
        room = self._room(hypothesis)
        if room is not None and max_tokens > room:
            fits, beside = room, ""
            if hypothesis is not None:
                fits, beside = (room + hypothesis) // 2, " and a hypothesis as long, which it corrects"
            raise ValueError(f"max_tokens is {max_tokens}, but this inverter's GPT has room for {max(0, fits)}{beside}")

    def _room(self, hypothesis: int | None = None) -> int | None:
        """Text tokens for which the GPT has positions, beside a hypothesis of so many; None: any number."""
        positions = getattr(self.decoder.config, "max_position_embeddings", None)
        taken = positions_of_prefix(self.projection.config.prefix_length, hypothesis)
        return None if positions is None else int(positions) - taken

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

    # -- saving and loading --------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, *, compact: bool = False, about: str = "") -> None:
        """Write the inverter to `folder`, in open formats; whatever was there is replaced only when all is written.

        Args:
            folder: a new one, or one that is replaced.
            compact: the GPT's matrices rounded to int8, projection and correction to bf16, in files of at most 15 MB;
                all are multiplied as precisely as these are. transformers alone cannot read such a GPT.
            about: Markdown that stands at the end of the model card.

        Raises:
            OSError: the folder cannot be written, or the disk is full; what was there before is untouched.
            ValueError: a compact one whose decoder is an adapter.
        """
        if compact and getattr(self.decoder, "peft_config", None):
            raise ValueError("this inverter's decoder is an adapter, which is small already: save it without compact")
        with written_whole(folder) as partial:
            if self.alignment is not None:
                save_file(self.alignment.state_dict(), partial / "alignment.safetensors")
                self._description().write(partial)
                self._description().write_card(partial, f"that of the inverter {self.adapts}, which it adapts", about)
                return
            if compact:
                self.decoder.config.save_pretrained(partial / "decoder")
                save_compact(self.decoder.state_dict(), partial / "decoder")
            else:
                self.decoder.save_pretrained(partial / "decoder")
            self.tokenizer.save_pretrained(partial / "decoder")
            for name, module in (("projection", self.projection), ("correction", self.correction)):
                if module is not None:
                    weights = module.state_dict()
                    kept = {key: value.bfloat16() for key, value in weights.items()} if compact else weights
                    save_file(kept, partial / f"{name}.safetensors")
            description = self._description()
            description.write(partial)
            gpt = f"{self.decoder.config.model_type}, {self.decoder.num_parameters():,} parameters"
            description.write_card(partial, gpt, about)

    @classmethod
    def from_pretrained(
        cls, name: str | Path = BUNDLED, *, device: str | torch.device | None = None, precision: str | None = None
    ) -> Inverter:
        """Load a saved inverter.

        Args:
            name: a folder, or the id of a Hugging Face hub repository; `minilm-en` comes with the package.
            device: where to put it; None: a GPU if there is one.
            precision: of the decoder's weights: `fp32` or `bf16`; None: that in which they were saved.

        Raises:
            ValueError: there is none, it is of a newer format, or its weights are broken.
        """
        folder = find_folder(name)
        description = Description.read(folder)
        precision = precision or description.precision
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is {precision!r}; expected fp32 or bf16")
        if description.adapts is not None:
            return cls._adapted(folder, description, device, precision)
        decoder, tokenizer = open_decoder(folder / "decoder", precision)
        inverter = cls.build(
            description.projection,
            decoder,
            tokenizer,
            description.fingerprint,
            description.max_tokens,
            description.corrects,
        )
        inverter.training_summary, inverter.calibration = description.training, description.calibration
        if description.base and not np.allclose(inverter._base_mark(), description.base, rtol=0.02, atol=1e-3):
            raise ValueError(
                f"{folder}/decoder is an adapter, and the model that it was trained on top of is another one than that "
                "which adapter_config.json names now (base_model_name_or_path): bring the former back"
            )
        for name, module in (("projection", inverter.projection), ("correction", inverter.correction)):
            try:
                if module is not None:
                    module.load_state_dict(load_file(folder / f"{name}.safetensors"))
            except (OSError, RuntimeError, SafetensorError) as error:
                reason = " ".join(str(error).split())
                raise ValueError(f"{folder}/{name}.safetensors is broken: {reason}; save the inverter again") from error
        device = device or best_device()
        inverter.eval()
        try:
            return inverter.to(device)
        except (AssertionError, RuntimeError) as error:  # torch's ways to say that there is no such device
            raise ValueError(f"device {str(device)!r}: {str(error).splitlines()[0]}") from error

    def adapted(self, name: str, alignment: Alignment, fingerprint: Fingerprint) -> Inverter:
        """This inverter for vectors of another space.

        Saved, it is a small folder that refers to this one. Confidence has to be calibrated anew.

        Args:
            name: under which it can be loaded again: a folder, a hub id, `minilm-en`.
            alignment: leads from that space to this inverter's.
            fingerprint: of that space.

        Raises:
            ValueError: it is an adapted one itself.
        """
        if self.alignment is not None:
            raise ValueError(f"{name} is itself adapted, to {self.adapts}: adapt that one")
        found = copy.copy(self)
        found._modules = dict(self._modules)
        found.alignment, found.adapts = alignment.to(self.device), name
        found.fingerprint, found.calibration, found.training_summary = fingerprint, None, {}
        return found.eval()

    @classmethod
    def _adapted(
        cls, folder: Path, description: Description, device: str | torch.device | None, precision: str
    ) -> Inverter:
        """An adapted inverter, and what it refers to."""
        try:
            base = cls.from_pretrained(str(description.adapts), device=device, precision=precision)
        except ValueError as error:
            raise ValueError(
                f"{folder} adapts the inverter {description.adapts}, which cannot be had: {error}"
            ) from error
        if not np.allclose(base._base_mark(), description.base or [], rtol=0.02, atol=1e-3):
            raise ValueError(
                f"{folder} adapts the inverter {description.adapts}, which is another one now: adapt it again, or "
                "bring the former one back"
            )
        alignment = Alignment(description.fingerprint.dimension, base.projection.dimension)
        try:
            alignment.load_state_dict(load_file(folder / "alignment.safetensors"))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{folder}/alignment.safetensors is broken: {reason}; adapt the inverter again") from error
        found = base.adapted(str(description.adapts), alignment, description.fingerprint)
        found.training_summary, found.calibration = description.training, description.calibration
        return found

    def push_to_hub(self, repository: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the inverter to the Hugging Face hub; returns the address of the commit.

        Args:
            repository: `user/name`; made when it does not exist.
            private: whether a new repository is private.
            token: access token; None: the one that `hf auth login` keeps.
        """
        from huggingface_hub import HfApi

        if self.adapts is not None and Path(self.adapts).is_dir():
            raise ValueError(f"this inverter adapts the inverter {self.adapts}, which is on this machine alone")
        for adapter in getattr(self.decoder, "peft_config", {}).values():
            if Path(adapter.base_model_name_or_path).is_dir():
                raise ValueError(
                    f"this inverter's decoder is an adapter to the folder {adapter.base_model_name_or_path}, which "
                    "nobody else has: train it on a model named as on the hub"
                )
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as place:
            self.save_pretrained(Path(place) / "inverter")
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=Path(place) / "inverter"))

    def _base_mark(self) -> list[float]:
        """By which the weights under an adapter are recognised: the sizes of their first token embeddings."""
        sizes: list[float] = self.decoder.get_input_embeddings().weight[:8].detach().float().norm(dim=1).tolist()
        return sizes

    def _description(self) -> Description:
        weights = self.decoder.get_input_embeddings().weight
        return Description(
            self.projection.config,
            self.fingerprint,
            self.max_tokens,
            self.training_summary,
            precision="bf16" if weights.dtype == torch.bfloat16 else "fp32",
            corrects=self.correction is not None,
            calibration=self.calibration,
            base=self._base_mark() if getattr(self.decoder, "peft_config", None) or self.adapts else None,
            adapts=self.adapts,
        )
