"""The configuration of a training run: one dataclass a group, each field with its unit.

Knows no torch, no Hydra and no file: only values, and which of them contradict each other.
"""

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

MISSING: Any = "???"
"""OmegaConf's mark for a value that only the user knows."""

DEFAULT_MINUTES = 10.0
"""Budget of a run that is given none."""

DEFAULT_BATCH_TOKENS = 2048
"""Positions a batch of a run that is given no size."""

CORRECTION_STARTS = 0.3
"""Share of the budget after which correction is taught: before, hypotheses are too poor to learn from."""

SPLICES_END = 0.8
"""Share of the budget after which only sentences are learned from, no splices: what is inverted are sentences."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    _require(value in choices, f"{name} is {value!r}; expected one of {', '.join(choices)}")


ENCODER_KINDS = ("sentence_transformer", "transformer", "word_vectors", "openai", "python", "precomputed")
_MODELS = ("sentence_transformer", "transformer")
_ONLY_FOR = {
    "prompt": (*_MODELS, "openai"),
    "prompt_name": ("sentence_transformer",),
    "task": ("sentence_transformer",),
    "pooling": ("transformer",),
    "end_token": ("transformer",),
    "truncate_dimension": (*_MODELS, "openai"),
    "normalize": (*_MODELS, "word_vectors", "openai"),
    "max_length": _MODELS,
    "precision": _MODELS,
    "trust_remote_code": _MODELS,
    "base_url": ("openai",),
    "retries": ("openai",),
    "vectors": ("precomputed",),
    "batch_size": (*_MODELS, "openai"),
}
"""Which kinds of encoder heed an option."""


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder makes the vectors."""

    name: str = MISSING
    """A model by hub name or folder (`all-MiniLM-L6-v2` needs no network), a file of word vectors, or module:name."""
    kind: str = "sentence_transformer"
    """`sentence_transformer`, `transformer` (with `pooling`), `word_vectors`, `openai`, `python` or `precomputed`."""
    prompt: str = ""
    """Text put before every sentence, for encoders that were trained with one."""
    prompt_name: str | None = None
    """Instead of prompt: one of those that a sentence-transformers model brings; null: its default one, if any."""
    task: str | None = None
    """The task of a model that has several sets of weights, such as jina-embeddings-v3."""
    pooling: str | None = None
    """Of kind `transformer`: `mean` over the tokens, the `last` token's state, or the first, `cls`."""
    end_token: bool = False
    """End every text with the tokenizer's end token, for models that were trained so."""
    truncate_dimension: int | None = None
    """Keep only this many leading dimensions, for models that were trained for it (Matryoshka)."""
    normalize: bool = False
    """Divide each vector by its length, for encoders that do not do so themselves."""
    max_length: int | None = None
    """Longest text in tokens; null: the model's own limit. Longer sentences are dropped and counted."""
    precision: str = "fp32"
    """Of the encoder's weights: `fp32`, `bf16` or `fp16`. It changes the vectors a little."""
    trust_remote_code: bool = False
    """Run the code that comes with a model from the hub."""
    base_url: str | None = None
    """Of kind `openai`: the address of a server other than OpenAI's. The key comes from OPENAI_API_KEY only."""
    retries: int = 6
    """Of kind `openai`: how often a request is tried again after 429, 5xx or a lost connection, with growing pauses."""
    vectors: list[str] = field(default_factory=list)
    """Of kind `precomputed`: files of the sentences' vectors, row for row; data.paths where they hold both."""
    batch_size: int | None = None
    """Sentences encoded at a time; null: measured while encoding, the fastest is kept (128 for an endpoint)."""

    def __post_init__(self) -> None:
        if self.kind != "object":  # of a fingerprint: the encoder was an object in somebody's program
            _one_of("encoder.kind", self.kind, ENCODER_KINDS)
        for option in fields(self):
            value, kinds = getattr(self, option.name), _ONLY_FOR.get(option.name, (self.kind,))
            default = [] if option.name == "vectors" else option.default
            _require(
                self.kind in kinds or value == default,
                f"encoder.{option.name} has no effect with encoder.kind={self.kind}, only with {' or '.join(kinds)}",
            )
        for name in ("batch_size", "max_length", "truncate_dimension"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"encoder.{name} is {value}; expected > 0")
        _require(self.retries >= 0, f"encoder.retries is {self.retries}; expected >= 0")
        _one_of("encoder.precision", self.precision, ("fp32", "bf16", "fp16"))
        if self.kind == "transformer":
            _one_of("encoder.pooling", str(self.pooling), ("mean", "last", "cls"))
        _require(
            not (self.prompt and self.prompt_name),
            "encoder.prompt and encoder.prompt_name contradict: keep one of them",
        )
        for file in self.vectors:
            _require(
                not file.endswith(".txt"),
                f"encoder.kind=precomputed: {file} holds text, not vectors; give data.paths=[FILE] with both "
                "(.parquet, .jsonl, .npz), or the vectors' own files as encoder.vectors=[FILE]",
            )
        _require(
            self.kind != "python" or self.name == MISSING or ":" in self.name,
            f"encoder.name is {self.name!r}; expected module:name with encoder.kind=python",
        )


@dataclass(frozen=True)
class DataConfig:
    """Where the sentences come from, which are kept, and how they are split."""

    paths: list[str] = field(default_factory=list)
    """Files: .txt (a sentence a line), .jsonl, .csv, .parquet. Wildcards are allowed."""
    dataset: str | None = None
    """Instead of paths: a Hugging Face dataset by name, streamed."""
    dataset_config: str | None = None
    """The dataset's configuration, where it has several."""
    dataset_split: str = "train"
    """Which split of the dataset is read; ours are made by hash all the same."""
    column: str = "text"
    """The column of .jsonl, .csv, .parquet files and datasets that holds the sentence."""
    limit: int | None = None
    """At most this many sentences are kept (the first ones); null: all."""
    min_words: int = 1
    """Sentences of fewer words are dropped and counted."""
    max_words: int | None = None
    """Sentences of more words are dropped and counted, never cut; splices, if any, are made of them too."""
    max_characters: int | None = None
    """Sentences of more characters are dropped and counted, never cut; splices, if any, are made of them too."""
    splices: float = 0.0
    """So many splices a training sentence are learned from too, but in the last fifth of a run: texts made of the
    beginning of one sentence and the end of another, of those too that max_words and max_characters drop (up to 600
    characters). For long runs: what would be learned again and again is new."""
    splice_words: int | None = None
    """Splices have at most so many words; null: as sentences, max_words. Fewer turn a run to shorter texts."""
    max_tokens: int = 64
    """Sentences of more GPT tokens are dropped and counted; also the longest text that inversion writes."""
    validation: float = 0.01
    """Share of the sentences, by hash, that choose the best checkpoint."""
    test: float = 0.02
    """Share of the sentences, by hash, that only the final report sees."""
    cache: str = "cache"
    """Folder for the cleaned sentences and their vectors."""

    def __post_init__(self) -> None:
        _require(
            bool(self.paths) != bool(self.dataset),
            "data.paths and data.dataset: give exactly one, as data.paths=[my.txt]",
        )
        _require(
            self.dataset_config is None or self.dataset is not None,
            "data.dataset_config has no effect without data.dataset",
        )
        for name in ("validation", "test"):
            share = getattr(self, name)
            _require(0 < share < 0.5, f"data.{name} is {share}; expected a share between 0 and 0.5")
        _require(self.splices >= 0, f"data.splices is {self.splices}; expected >= 0")
        for name in ("limit", "max_words", "max_characters", "max_tokens", "min_words", "splice_words"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"data.{name} is {value}; expected > 0")
        _require(
            self.splice_words is None or self.splices > 0,
            f"data.splice_words is {self.splice_words}, but there are no splices: give data.splices too",
        )
        _require(
            self.max_words is None or self.min_words <= self.max_words,
            f"data.min_words is {self.min_words} and data.max_words is {self.max_words}: no sentence can satisfy both",
        )
        least = max(3, self.min_words)
        _require(
            self.splice_words is None or self.splice_words >= least,
            f"data.splice_words is {self.splice_words}; expected at least {least}: a splice has a word and two "
            f"that are shared, and data.min_words is {self.min_words}",
        )
        _require(
            self.splice_words is None or self.max_words is None or self.splice_words <= self.max_words,
            f"data.splice_words is {self.splice_words}; expected at most data.max_words ({self.max_words})",
        )


SIZES = ("hidden_size", "layers", "heads", "vocabulary_size", "dropout")
"""What a decoder's configuration says of a scratch GPT alone."""


@dataclass(frozen=True)
class DecoderConfig:
    """The GPT that writes the text."""

    name: str = MISSING
    """`scratch` (random weights, own tokenizer), `bundled` (that of the inverter in the package, and where encoder and
    projection are that inverter's, these too), or a Hugging Face causal LM: hub name or folder."""
    train: str = "all"
    """`all`: fine-tune the GPT. `lora`: learn low-rank additions to its matrices. `projection_only`: keep it frozen."""
    lora_rank: int | None = None
    """Of `lora`: rank of the additions; null: 16."""
    lora_alpha: int | None = None
    """Of `lora`: the additions are scaled by alpha / rank; null: twice the rank."""
    lora_dropout: float | None = None
    """Of `lora`: dropout before the additions; null: none."""
    lora_targets: list[str] | None = None
    """Of `lora`: names of the modules that get additions; null: peft's choice for the architecture."""
    precision: str = "fp32"
    """Of the weights in memory: `fp32`, or `bf16`, half the size, for weights that are not trained themselves."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, about a third more time."""
    hidden_size: int | None = None
    """Width H of a scratch GPT."""
    layers: int | None = None
    """Layers of a scratch GPT."""
    heads: int | None = None
    """Attention heads of a scratch GPT."""
    vocabulary_size: int | None = None
    """Entries of the byte-level BPE vocabulary that is learned for a scratch GPT."""
    dropout: float | None = None
    """Dropout of a scratch GPT."""

    def __post_init__(self) -> None:
        _one_of("decoder.train", self.train, ("all", "lora", "projection_only"))
        _one_of("decoder.precision", self.precision, ("fp32", "bf16"))
        for name in ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets"):
            value = getattr(self, name)
            _require(
                value is None or self.train == "lora",
                f"decoder.{name} has no effect with decoder.train={self.train}, only with lora",
            )
        _require(self.lora_targets != [], "decoder.lora_targets is empty; expected names of modules, or null")
        _require(
            self.lora_dropout is None or 0 <= self.lora_dropout < 1,
            f"decoder.lora_dropout is {self.lora_dropout}; expected a share from 0 to 1",
        )
        for name in ("lora_rank", "lora_alpha"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"decoder.{name} is {value}; expected > 0")
        _require(
            self.precision == "fp32" or self.train != "all",
            "decoder.precision=bf16 contradicts decoder.train=all: bf16 weights round small updates away; use "
            "decoder.train=lora, or fp32 (training.precision=bf16 multiplies in bf16 all the same)",
        )
        for name in SIZES:
            value = getattr(self, name)
            if self.name == "scratch":
                _require(value is not None, f"decoder.{name} is needed with decoder.name=scratch")
            else:
                _require(
                    value is None, f"decoder.{name} has no effect with decoder.name={self.name}, only with scratch"
                )
        if self.name == "scratch":
            _require(
                self.train == "all",
                f"decoder.train={self.train} contradicts decoder.name=scratch: random weights must be trained",
            )
            assert self.hidden_size is not None
            assert self.heads is not None
            assert self.vocabulary_size is not None
            _require(
                self.hidden_size % self.heads == 0,
                f"decoder.hidden_size {self.hidden_size} is no multiple of decoder.heads {self.heads}",
            )
            _require(
                self.vocabulary_size >= 257,
                f"decoder.vocabulary_size is {self.vocabulary_size}; expected at least 257: all bytes and an end token",
            )


@dataclass(frozen=True)
class ProjectionConfig:
    """How a vector becomes the prefix that the GPT reads."""

    kind: str = "mlp"
    """`zero_pad` (no parameters), `linear` or `mlp` (one hidden layer)."""
    prefix_length: int = 4
    """Prefix tokens P that a vector becomes."""
    hidden_size: int | None = None
    """Width of the mlp's hidden layer; null: the vector's dimension."""

    def __post_init__(self) -> None:
        _one_of("projection.kind", self.kind, ("zero_pad", "linear", "mlp"))
        _require(1 <= self.prefix_length <= 64, f"projection.prefix_length is {self.prefix_length}; expected 1 to 64")
        _require(
            self.kind != "zero_pad" or self.prefix_length == 1,
            f"projection.kind=zero_pad makes one token, but projection.prefix_length is {self.prefix_length}",
        )
        _require(
            self.hidden_size is None or self.kind == "mlp",
            f"projection.hidden_size has no effect with projection.kind={self.kind}",
        )


QUANTIZATIONS = ("int8", "binary", "fp16")
"""Ways of keeping vectors in fewer bits."""


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation, its budget, and what is logged and kept."""

    steps: int | None = None
    """Budget in optimiser steps. Give one of steps, epochs and minutes; with none of them it is 10 minutes."""
    epochs: float | None = None
    """Budget in passes over the training sentences that are not kept for correction."""
    minutes: float | None = None
    """Budget in minutes of wall clock, evaluation included; the schedule is complete at its end."""
    batch_tokens: int | None = None
    """Positions (prefix, text and padding) a batch, per process; 2048 where batch_sentences is not given."""
    batch_sentences: int | None = None
    """Instead of batch_tokens: sentences a batch, per process."""
    accumulation: int = 1
    """Batches whose gradients make one step."""
    optimizer: str = "adamw"
    """`adamw`, or `muon`: Muon for the matrices of the GPT's layers, AdamW for all else."""
    learning_rate: float = 5e-4
    """Peak learning rate of the GPT; with `muon`, of all of it but the matrices of its layers."""
    muon_learning_rate: float | None = None
    """Of `muon`: peak learning rate of those matrices, in steps of AdamW's size; null: 2e-3."""
    projection_learning_rate: float = 1e-3
    """Peak learning rate of the projection, and of what tells the parts of a correction apart."""
    weight_decay: float = 0.01
    """Weight decay of all optimisers, on matrices only."""
    warmup: float = 0.03
    """Share of the budget in which the learning rates rise; they then fall linearly to zero."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    noise: float = 0.0
    """Gaussian noise on training vectors: its expected length as a share of the vector's."""
    correction_fraction: float = 0.0
    """Share of the training sentences, and of a run's steps, that teach to correct hypotheses. They start after 30% of
    the budget, and each sentence costs an encoder query. 0: the inverter does not learn it."""
    reward_fraction: float = 0.0
    """Share of a run's steps that reward the inverter's own texts for being like the sentence, instead of teaching the
    sentence: where it is unsure it then writes less that is too much. For an inverter that can write already; such a
    step takes about ten times as long as another."""
    reward_samples: int | None = None
    """Of reward_fraction: texts that are written for each vector, and compared; null: 6."""
    quantize: list[str] | None = None
    """Change training vectors as vector stores do: `int8` (in the ranges of the training vectors), `binary`, `fp16`."""
    truncate: list[int] | None = None
    """Change training vectors so: keep only this many leading dimensions, with zeros after them."""
    changed_share: float | None = None
    """Share of the vectors that are changed, each in one of the ways of quantize and truncate, before any noise."""
    precision: str = "auto"
    """`bf16`, `fp32`, or `auto`: bf16 where the hardware multiplies it fast."""
    compile: bool | None = None
    """Compile the GPT's layers (torch.compile): half a minute, then faster steps; null: on an NVIDIA GPU."""
    seed: int = 0
    """Of the weights, the order of the batches, dropout, noise, which vectors are changed, and drawn texts."""
    evaluate_every: int = 500
    """Steps between evaluations on validation sentences; each can become the best checkpoint."""
    evaluate_sentences: int = 256
    """Validation sentences decoded at each evaluation."""
    calibration_sentences: int = 128
    """How many of these, at most, and of the test sentences are refined at the end, which calibrates and judges
    confidence and takes minutes on a CPU. 0: the inverter has no confidence."""
    test_sentences: int = 1000
    """Test sentences decoded for the final report."""
    sample_every: int = 500
    """Steps between sample tables."""
    samples: int = 6
    """Validation sentences in the sample table: always the same ones."""
    sample_temperature: float | None = None
    """Of the sample table's texts: logits are divided by it; null (with the next two null): greedy."""
    sample_top_k: int | None = None
    """Of the sample table's texts: drawn among the k likeliest tokens."""
    sample_top_p: float | None = None
    """Of the sample table's texts: drawn among the likeliest tokens of this joint probability."""
    checkpoint_every: int = 500
    """Steps between checkpoints to resume from."""

    def __post_init__(self) -> None:
        given = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        _require(
            len(given) <= 1,
            f"{' and '.join(f'training.{name}' for name in given)} contradict: keep one budget, set the other to null",
        )
        for name in given:
            _require(getattr(self, name) > 0, f"training.{name} is {getattr(self, name)}; expected > 0")
        _require(
            not self.correction_fraction or self.batch_sentences is None,
            "training.batch_sentences has no effect on corrections, whose batches take training.batch_tokens: give "
            f"that, or leave training.correction_fraction ({self.correction_fraction}) at 0",
        )
        _one_of("training.optimizer", self.optimizer, ("adamw", "muon"))
        _require(
            self.muon_learning_rate is None or self.optimizer == "muon",
            f"training.muon_learning_rate has no effect with training.optimizer={self.optimizer}",
        )
        _require(
            self.muon_learning_rate is None or self.muon_learning_rate > 0,
            f"training.muon_learning_rate is {self.muon_learning_rate}; expected > 0",
        )
        _require(
            0 <= self.correction_fraction <= 1 - CORRECTION_STARTS,
            f"training.correction_fraction is {self.correction_fraction}; expected 0 to {1 - CORRECTION_STARTS:g}, for "
            f"correction starts after {CORRECTION_STARTS:.0%} of the budget",
        )
        rest = 1 - self.correction_fraction
        _require(
            0 <= self.reward_fraction <= rest + 1e-9,  # 1 - 0.66 is less than 0.34
            f"training.reward_fraction is {self.reward_fraction}; expected 0 to {rest:g}, what "
            f"training.correction_fraction ({self.correction_fraction:g}) leaves",
        )
        _require(
            self.reward_samples is None or self.reward_fraction > 0,
            f"training.reward_samples is {self.reward_samples}, which has no effect without training.reward_fraction",
        )
        _require(
            self.reward_samples is None or self.reward_samples > 1,
            f"training.reward_samples is {self.reward_samples}; expected at least 2, which can be compared",
        )
        _one_of("training.precision", self.precision, ("auto", "bf16", "fp32"))
        _require(
            self.batch_tokens is None or self.batch_sentences is None,
            "training.batch_tokens and training.batch_sentences contradict: keep one, set the other to null",
        )
        for name in ("batch_tokens", "batch_sentences"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"training.{name} is {value}; expected > 0")
        positive = ("accumulation", "learning_rate", "projection_learning_rate", "clip")
        often = ("evaluate_every", "sample_every", "checkpoint_every")
        counts = ("evaluate_sentences", "test_sentences", "samples")
        for name in positive + often + counts:
            _require(getattr(self, name) > 0, f"training.{name} is {getattr(self, name)}; expected > 0")
        _require(
            self.calibration_sentences >= 0,
            f"training.calibration_sentences is {self.calibration_sentences}; expected >= 0",
        )
        _require(0 <= self.warmup < 1, f"training.warmup is {self.warmup}; expected a share from 0 to 1")
        for name, low, high in (("temperature", 0, float("inf")), ("top_k", 0, float("inf")), ("top_p", 0, 1)):
            value = getattr(self, f"sample_{name}")
            _require(
                value is None or low < value <= high, f"training.sample_{name} is {value}; expected more than {low}"
            )
        _require(self.noise >= 0, f"training.noise is {self.noise}; expected >= 0")
        self._check_changes()

    def _check_changes(self) -> None:
        ways = [name for name in ("quantize", "truncate") if getattr(self, name) is not None]
        for name in ways:
            _require(bool(getattr(self, name)), f"training.{name} is empty; expected at least one value, or null")
            _require(
                0 < (self.changed_share or 0) <= 1,
                f"training.{name} is given and training.changed_share is {self.changed_share}; expected the share of "
                "the vectors that are changed, above 0 and up to 1",
            )
        _require(
            self.changed_share is None or bool(ways),
            "training.changed_share has no effect without training.quantize or training.truncate",
        )
        for kind in self.quantize or ():
            _one_of("training.quantize", kind, QUANTIZATIONS)
        for count in self.truncate or ():
            _require(count > 0, f"training.truncate is {count}; expected > 0")

    def check_dimension(self, dimension: int) -> None:
        """Refuse what cannot be done to vectors of this dimension.

        Raises:
            ValueError: a truncation that keeps all of a vector.
        """
        for count in self.truncate or ():
            _require(
                count < dimension,
                f"training.truncate is {count}, but the encoder's vectors have {dimension} dimensions; expected fewer",
            )


@dataclass(frozen=True)
class AdaptationConfig:
    """Instead of training, or before it: a trained inverter is adapted to the encoder by a linear map."""

    to: str | None = None
    """Which inverter: `minilm-en` (in the package), a folder or a hub id; null: none, an inverter is trained."""
    pairs: int = 1000
    """Training sentences that the map is learned from; each is encoded by both encoders."""
    fine_tune: bool = False
    """Train on from there, on all training sentences, as `training` says; what is saved is an inverter of its own."""

    def __post_init__(self) -> None:
        _require(self.pairs >= 10, f"adaptation.pairs is {self.pairs}; expected at least 10")


@dataclass(frozen=True)
class RunConfig:
    """A whole training run, as `python train.py` composes it from conf/."""

    name: str
    """The run's folder under `runs`; the same name and configuration again resumes the run."""
    encoder: EncoderConfig
    data: DataConfig
    decoder: DecoderConfig
    projection: ProjectionConfig
    training: TrainingConfig
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    runs: str = "runs"
    """Folder that holds the runs."""

    def __post_init__(self) -> None:
        _require(
            self.projection.kind != "zero_pad" or self.decoder.train != "projection_only",
            "projection.kind=zero_pad has no parameters and decoder.train=projection_only: nothing is left to train",
        )
        _require(
            self.training.optimizer == "adamw" or self.decoder.train == "all",
            f"training.optimizer={self.training.optimizer} is for the GPT's own matrices, but decoder.train is "
            f"{self.decoder.train}: use training.optimizer=adamw",
        )
        _require(
            self.encoder.kind != "precomputed" or bool(self.encoder.vectors),
            "encoder.kind=precomputed needs files: data.paths=[FILE] with texts and vectors, or encoder.vectors=[FILE]",
        )

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Lines `group.field: other -> ours` for every value in which a saved configuration differs."""

        def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
            items: dict[str, Any] = {}
            for key, value in values.items():
                items |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
            return items

        groups = [(group.name, getattr(self, group.name)) for group in fields(self)]
        defaults = {
            f"{name}.{value.name}": value.default
            for name, group in groups
            if is_dataclass(group)
            for value in fields(group)
        }
        # What was saved before there was an option had what is now its default.
        ours, theirs = flat(asdict(self)), {**defaults, **flat(other)}
        keys = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
        return [f"{key}: {theirs.get(key)} -> {ours.get(key)}" for key in keys]
