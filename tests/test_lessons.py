"""Which kind of lesson a step is."""

import pytest

from vec2text.config import TrainingConfig
from vec2text.lessons import CORRECTION, PLAIN, REWARD, Lessons
from vec2text.progress import Progress


@pytest.mark.parametrize(
    ("corrected", "rewarded"), [(0.0, 0.0), (0.0, 0.7), (0.0, 1.0), (0.5, 0.25), (0.3, 0.7), (0.05, 0.75), (0.7, 0.0)]
)
def test_steps_of_each_kind_are_as_many_as_was_asked(corrected, rewarded):
    lessons = object.__new__(Lessons)
    lessons.config = TrainingConfig(steps=1000, correction_fraction=corrected, reward_fraction=rewarded)
    kinds = []
    for step in range(1000):
        lessons.progress = Progress(step=step)
        kinds.append(lessons.kind(step / 1000))
    assert kinds.count(CORRECTION) == pytest.approx(1000 * corrected, abs=10)
    assert kinds.count(REWARD) == pytest.approx(1000 * rewarded, abs=10)
    assert kinds.count(PLAIN) == 1000 - kinds.count(CORRECTION) - kinds.count(REWARD)
    assert CORRECTION not in kinds[:300]
