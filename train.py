"""Train an inverter: conf/ -> encoder, corpus, inverter -> fit -> runs/NAME/inverter. See `python train.py --help`."""

import logging
import os
import signal
import sys
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from vec2text.commandline import importing
from vec2text.config import RunConfig


def writable(node: DictConfig) -> DictConfig:
    """A schema that Hydra can compose into: that of frozen dataclasses is read-only."""
    OmegaConf.set_readonly(node, False)
    for child in (node._get_node(key) for key in node):
        if isinstance(child, DictConfig):
            writable(child)
    return node


ConfigStore.instance().store("schema", node=writable(OmegaConf.structured(RunConfig)))


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: DictConfig) -> None:
    """Train what Hydra composed, and print the final report."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, also while vectors are computed
    try:
        config: Any = OmegaConf.to_object(composed)
        with importing():  # torch and its kind, after the configuration has been found sound
            from vec2text import outcome, runs

        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("vec2text").setLevel(logging.INFO)
        if report := runs.train(config):
            print(outcome.describe(report, config))
    except KeyboardInterrupt:
        sys.exit(_say("stopped; what is done is kept. Run the same command again to go on", 130))
    except Exception as error:
        code = 2 if isinstance(error, OmegaConfBaseException | ValueError | OSError) else getattr(error, "exit_code", 0)
        if not code:
            raise
        sys.exit(_say(error, code))


def _say(error: BaseException | str, code: int) -> int:
    """An error on one line of stderr, with its cause where Hydra hides that; returns the exit code."""
    if isinstance(error, MissingMandatoryValue):
        error = f"{error.full_key} is needed, and only you know it: give {error.full_key}=..."
    causes = [error, error.__cause__ if isinstance(error, HydraException) else None]
    texts = (str(cause).split("See https")[0].split("Config search path")[0] for cause in causes if cause)
    print("train.py: " + ": ".join(" ".join(text.split()) for text in texts), file=sys.stderr)
    return code


if __name__ == "__main__":
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # what Hydra cannot compose reaches us, not its own traceback
    try:
        main()
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_say(error, 2))
