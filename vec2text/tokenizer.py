"""Tokenizer: a fast one, as its files say, with the names of transformers, but without the import of transformers.

What `FastTokenizer.reads` refuses goes to transformers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer

_FILE, _CONFIG = "tokenizer.json", "tokenizer_config.json"
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_AS_ITS_FILE = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Classes whose tokenizers are what tokenizer.json says."""
_GPT2 = ("GPT2Tokenizer", "GPT2TokenizerFast")
"""Those that split texts as GPT-2 does, whatever it says."""
_BESIDE = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
"""Files that may say more."""
_WITHOUT_EFFECT = (
    *("backend", "tokenizer_class", "model_max_length", "clean_up_tokenization_spaces", "errors"),
    *("is_local", "local_files_only", "name_or_path"),
)
"""What tokenizer_config.json may say, beside special tokens, that changes nothing here: texts are neither cut nor
tidied."""


class FastTokenizer:
    """A tokenizer of the `tokenizers` library, and which of its tokens are special.

    Args:
        backend: what splits texts.
        config: what tokenizer_config.json says.
    """

    is_fast = True
    eos_token: str | None
    bos_token: str | None
    sep_token: str | None
    pad_token: str | None

    def __init__(self, backend: Tokenizer, config: dict[str, Any] | None = None, **tokens: str) -> None:
        self.backend_tokenizer, self._config = backend, {**(config or {}), **tokens}
        for name in _NAMED:
            token = self._config.get(name)
            setattr(self, name, token["content"] if isinstance(token, dict) else token)
        backend.no_padding()
        backend.no_truncation()
        self._know()

    @staticmethod
    def reads(folder: Path) -> bool:
        """Whether a folder holds a tokenizer that is what its files say."""
        if any((folder / name).exists() for name in _BESIDE):
            return False
        try:
            config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            says = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if not isinstance(config, dict) or config.get("tokenizer_class") not in (*_AS_ITS_FILE, *_GPT2):
            return False
        if config["tokenizer_class"] in _GPT2:
            split = says.get("pre_tokenizer") or {}
            same = (
                split.get("type") == "ByteLevel" and not split.get("add_prefix_space") and split.get("use_regex", True)
            )
            if not same or says.get("normalizer") or not config.get("eos_token"):
                return False
        others = {name: value for name, value in config.items() if name not in (*_NAMED, *_WITHOUT_EFFECT)}
        return not any(others.values())

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """The tokenizer in a folder such that `reads` says yes.

        Raises:
            Exception: tokenizer.json is broken.
        """
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        return cls(Tokenizer.from_file(str(folder / _FILE)), config)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, as transformers reads them too."""
        self._know()
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.backend_tokenizer.save(str(Path(folder) / _FILE))
        kept = {name: value for name, value in self._config.items() if name not in (*_NAMED, "backend")}
        named = {name: getattr(self, name) for name in _NAMED if getattr(self, name)}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | kept | named
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (Path(folder) / _CONFIG).write_text(text, encoding="utf-8")

    def _know(self) -> None:
        """Have every special token in the vocabulary, and as a special one."""
        special = {
            added.content for added in self.backend_tokenizer.get_added_tokens_decoder().values() if added.special
        }
        named = dict.fromkeys(token for name in _NAMED if (token := getattr(self, name)))
        if new := [token for token in named if token not in special]:
            self.backend_tokenizer.add_special_tokens(new)

    def add_special_tokens(self, tokens: dict[str, str]) -> None:
        """Name special tokens; what is no token yet becomes one, after all others."""
        for name, token in tokens.items():
            assert name in _NAMED
            setattr(self, name, token)
        self._know()

    @property
    def eos_token_id(self) -> int | None:
        """Of the end token; None: there is none."""
        return None if self.eos_token is None else self.convert_tokens_to_ids(self.eos_token)

    @property
    def all_special_ids(self) -> list[int]:
        """Of the tokens that have a role."""
        named = (getattr(self, name) for name in _NAMED)
        return [self.convert_tokens_to_ids(token) for token in dict.fromkeys(named) if token]

    @property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Tokens that are no words, by their ids."""
        found: dict[int, Any] = self.backend_tokenizer.get_added_tokens_decoder()
        return found

    def __len__(self) -> int:
        """How many tokens there are."""
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def get_vocab(self) -> dict[str, int]:
        """Every token's id."""
        found: dict[str, int] = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        return found

    def convert_tokens_to_ids(self, token: str) -> int:
        """Its id.

        Raises:
            ValueError: it is no token.
        """
        found = self.backend_tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"{token!r} is not in the vocabulary")
        return int(found)

    def __call__(self, texts: str | Sequence[str], add_special_tokens: bool = True, **_: Any) -> dict[str, Any]:
        """The tokens of a text, or of each of several, under `input_ids`."""
        some = [texts] if isinstance(texts, str) else list(texts)
        found = [
            row.ids for row in self.backend_tokenizer.encode_batch_fast(some, add_special_tokens=add_special_tokens)
        ]
        return {"input_ids": found[0] if isinstance(texts, str) else found}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False, **_: Any) -> str:
        """The text of tokens."""
        return str(self.backend_tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def batch_decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False, **_: Any) -> list[str]:
        """The text of each row of tokens."""
        found: list[str] = self.backend_tokenizer.decode_batch(
            [list(row) for row in rows], skip_special_tokens=skip_special_tokens
        )
        return found
