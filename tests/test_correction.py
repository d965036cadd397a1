"""What the GPT reads to mend a hypothesis, and that training teaches it to."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import LetterEncoder
from torch.nn import functional as F

from vec2text import Inverter, refinement
from vec2text.calibration import Calibration
from vec2text.config import ProjectionConfig
from vec2text.correction import Hypotheses, positions_of_prefix
from vec2text.decoders import load_decoder
from vec2text.fingerprint import Fingerprint
from vec2text.paths import Path, explore
from vec2text.refinement import RefinementStopped, refine
from vec2text.search import Proposal, Search


@pytest.fixture
def corrector(gpt2, encoder):
    """An inverter that corrects, with random roles."""
    from vec2text.config import DecoderConfig

    decoder, tokenizer = load_decoder(DecoderConfig(str(gpt2)), [], 60)
    torch.manual_seed(1)
    made = Inverter.build(ProjectionConfig("linear", 3), decoder, tokenizer, Fingerprint.of(encoder), 24, corrects=True)
    for parameter in made.correction.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.fixture
def targets(encoder, sentences):
    return torch.from_numpy(encoder.encode(sentences[:4]))


@pytest.fixture
def hypotheses(corrector, encoder, sentences):
    texts = [sentences[40], "A boat.", sentences[50], "No"]
    return Hypotheses.of(corrector.tokenizer(texts)["input_ids"], encoder.encode(texts))


def test_the_prefix_is_target_hypothesis_difference_tokens_and_end(corrector, targets, hypotheses):
    prefixes, mask = corrector.correction_prefixes(targets, hypotheses)
    roles, embed = corrector.correction, corrector.decoder.get_input_embeddings()
    row = 1
    tokens = hypotheses.ids[row, : hypotheses.lengths[row]]
    difference = F.normalize(targets[row] - hypotheses.vectors[row], dim=0)  # all have length 1
    with torch.no_grad():
        expected = torch.cat(
            [
                corrector.projection(targets[row : row + 1])[0],
                corrector.projection(hypotheses.vectors[row : row + 1])[0] + roles.hypothesis,
                corrector.projection(difference[None])[0] + roles.difference,
                embed(tokens) + roles.token,
                embed(torch.tensor([corrector.end_id])) + roles.token,
            ]
        )
    assert torch.allclose(prefixes[row][mask[row].bool()], expected, atol=1e-5)
    assert mask.sum(1).tolist() == [positions_of_prefix(3, n) for n in hypotheses.lengths.tolist()]


def test_loss_is_cross_entropy_of_the_text_behind_that_prefix(corrector, targets, hypotheses, sentences):
    texts = corrector.tokenizer(sentences[:4])["input_ids"]
    right = Hypotheses.of(texts, targets.numpy())
    loss = corrector(targets, right.ids, right.lengths, hypotheses)
    total, count = 0.0, 0
    for row, ids in enumerate(texts):  # one by one, without padding
        alone = hypotheses.take(slice(row, row + 1))
        prefix, mask = corrector.correction_prefixes(targets[row : row + 1], alone)
        assert mask.all()
        inputs = torch.cat([prefix, corrector.decoder.get_input_embeddings()(torch.tensor([ids]))], 1)
        logits = corrector.decoder(inputs_embeds=inputs).logits[0, prefix.shape[1] - 1 :]
        total += F.cross_entropy(logits, torch.tensor([*ids, corrector.end_id]), reduction="sum").item()
        count += len(ids) + 1
    assert loss.item() == pytest.approx(total / count, rel=1e-4)


def test_neighbours_in_a_batch_change_nothing(corrector, targets, hypotheses):
    def write(rows):
        prefixes, mask = corrector.correction_prefixes(targets[rows], hypotheses.take(np.arange(4)[rows]))
        return [path.ids for path in explore(corrector.decoder, prefixes, corrector.end_id, 12, mask=mask)]

    together = write(slice(0, 4))
    assert together == [write(slice(row, row + 1))[0] for row in range(4)]


def test_an_exact_hypothesis_has_no_difference_and_no_nan(corrector, targets, sentences):
    ids = corrector.tokenizer(sentences[:4])["input_ids"]
    prefixes, _ = corrector.correction_prefixes(targets, Hypotheses.of(ids, targets.numpy()))
    assert torch.isfinite(prefixes).all()


def test_every_step_reaches_every_parameter(corrector, targets, hypotheses):
    right = Hypotheses.of(corrector.tokenizer(["One boat."] * 4)["input_ids"], targets.numpy())
    for given in (None, hypotheses):
        corrector.zero_grad()
        corrector(targets, right.ids, right.lengths, given).backward()
        roles = [parameter.grad for parameter in corrector.correction.parameters()]
        assert all(gradient is not None for gradient in roles)
        assert all(bool(gradient.any()) == (given is not None) for gradient in roles)


def test_it_is_saved_and_loaded_with_the_inverter(corrector, targets, hypotheses, tmp_path):
    corrector.save_pretrained(tmp_path / "saved")
    again = Inverter.from_pretrained(tmp_path / "saved", device="cpu")
    for ours, theirs in zip(*(m.correction_prefixes(targets, hypotheses) for m in (corrector, again)), strict=True):
        assert torch.equal(ours, theirs)
    (tmp_path / "saved" / "correction.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"correction\.safetensors is broken"):
        Inverter.from_pretrained(tmp_path / "saved")


def test_only_the_direction_of_the_encoders_vectors_counts(corrector, targets, hypotheses):
    longer = hypotheses._replace(vectors=7 * hypotheses.vectors)
    for ours, theirs in zip(
        *(corrector.correction_prefixes(targets, it)[0] for it in (hypotheses, longer)), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_refinement_with_corrections_keeps_its_promises(corrector, encoder, sentences, in_fp32):
    vectors = encoder.encode(sentences[:30:3])
    counting = LetterEncoder()
    (alone,) = refine(corrector, counting, vectors[:1], rounds=3, candidates=2, polish=False)
    assert alone.queries == counting.queries == len(alone.hypotheses)
    found = refine(corrector, encoder, vectors, rounds=3, candidates=2, polish=False)
    for result, vector in zip(found, vectors, strict=True):
        steps = [float(encoder.encode([text])[0] @ vector) for text, _ in result.history]
        assert steps == sorted(steps)
        assert result.similarity == max(hypothesis.similarity for hypothesis in result.hypotheses)
    apart = refine(corrector, encoder, vectors, rounds=3, candidates=2, polish=False, batch_size=3)
    assert [result.text for result in apart] == [result.text for result in found]
    corrector.correction = None
    plain = refine(corrector, encoder, vectors, rounds=3, candidates=2, polish=False)
    assert [result.hypotheses for result in plain] != [result.hypotheses for result in found]


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5])
def test_what_a_round_found_before_the_encoder_failed_is_in_the_history(corrector, encoder, targets, calls):
    """A round asks for corrections, for branches, and from the second on for edits."""

    class Failing(LetterEncoder):
        left = calls

        def encode(self, texts):
            self.left -= 1
            if self.left < 0:
                raise ConnectionError("nobody answers")
            return super().encode(texts)

    with pytest.raises(RefinementStopped) as stop:
        refine(corrector, Failing(), targets, rounds=3, candidates=2)
    whole = refine(corrector, encoder, targets, rounds=3, candidates=2)
    for part, entire in zip(stop.value.reconstructions, whole, strict=True):
        assert part.history[-1] == (part.text, part.queries)
        assert len(set(part.history)) == len(part.history)
        assert set(part.hypotheses) <= set(entire.hypotheses)
        assert part.history[: min((calls + 1) // 2, 2)] == entire.history[: min((calls + 1) // 2, 2)]


def test_an_inverter_that_has_not_learned_it_says_so(inverter, targets, hypotheses):
    with pytest.raises(ValueError, match=r"has not learned to correct.*correction_fraction"):
        inverter.correction_prefixes(targets, hypotheses)


def test_a_gpt_with_too_few_positions_is_refused(gpt2, encoder):
    from vec2text.config import DecoderConfig

    decoder, tokenizer = load_decoder(DecoderConfig(str(gpt2)), [], 60)
    with pytest.raises(
        ValueError, match="max_tokens is 30, but this inverter's GPT has room for 27 and a hypothesis as"
    ):
        Inverter.build(ProjectionConfig("linear", 3), decoder, tokenizer, Fingerprint.of(encoder), 30, corrects=True)


def test_refinement_corrects_first_and_its_correction_is_what_the_gpt_writes(corrector, encoder, targets, in_fp32):
    (plain,) = refine(corrector, encoder, targets[:1], rounds=0)
    (once,) = refine(corrector, encoder, targets[:1], rounds=1, candidates=1)
    path = explore(corrector.decoder, corrector.prefixes(targets[:1]), corrector.end_id, 24)[0]
    written = path.ids[:-1] if path.ids[-1] == corrector.end_id else path.ids
    hypothesis = Hypotheses.of([written], encoder.encode([plain.text]))
    prefixes, mask = corrector.correction_prefixes(targets[:1], hypothesis)
    (expected,) = corrector.texts([explore(corrector.decoder, prefixes, corrector.end_id, 24, mask=mask)[0].ids])
    assert {plain.text, expected} <= {item.text for item in once.hypotheses}
    assert once.queries <= 4  # the plain text, its correction, and a branch of both


def test_branches_of_plain_inversion_are_proposed_beside_corrections(corrector, encoder, targets, in_fp32):
    corrected = refine(corrector, encoder, targets, rounds=1, candidates=3)
    corrector.correction = None
    plain = refine(corrector, encoder, targets, rounds=1, candidates=3)
    for both, alone in zip(corrected, plain, strict=True):
        assert {item.text for item in alone.hypotheses} <= {item.text for item in both.hypotheses}
        assert both.queries > alone.queries


def test_plain_inversion_is_gone_on_from_where_something_else_wrote_its_text_too(corrector, encoder, targets):
    search = Search(0, targets[0].numpy(), 3, True, True)
    batch = refinement._Batch(corrector, encoder, targets[:1], [search], 24, None, lambda: corrector.decoder)
    batch._propose([Proposal(0, None)])
    path, branch = search.plain[0], Path.unread([7, 8])
    text = search.best
    written = [(Proposal(0, text, (7,)), Path.unread([8]), "A boat."), (Proposal(0, None, (7,)), branch, "A boat.")]
    batch.writer.write = lambda *_: written
    batch._propose([proposal for proposal, *_ in written])
    assert search.written["A boat."][0] in [proposal for proposal, *_ in written]
    assert search.plain == [path, branch]  # both wrote it in one call
    batch._propose([written[1][0]])
    assert search.plain == [path, branch, branch]  # it had been compared


def test_a_search_of_poor_prospects_still_gets_all_its_branches_of_plain_inversion(
    corrector, encoder, targets, in_fp32
):
    corrector.calibration = Calibration(1.0, 0.5, 0.0, 10, prospect_closeness=0.0, prospect_bias=-9.0)
    for result in refine(corrector, encoder, targets, rounds=3, candidates=3):
        new = [after - before for (_, before), (_, after) in pairwise(result.history[1:])]
        assert all(3 <= count <= 1 + 1 + 3 for count in new)  # a correction, a branch of it, and three plain ones
