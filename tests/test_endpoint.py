"""OpenAI-compatible endpoints: the right vectors in the right order, or one line that says what to do."""

import json
import socket
import sys
from contextlib import ExitStack
from itertools import chain, pairwise

import numpy as np
import openai._base_client
import pytest
from conftest import LetterEncoder
from embedding_server import EmbeddingServer

import vec2text.cache
from vec2text.cache import encode_corpus
from vec2text.config import DataConfig, EncoderConfig
from vec2text.corpus import build_corpus
from vec2text.encoders import load_encoder
from vec2text.fingerprint import Fingerprint

LETTERS = LetterEncoder()


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "right-key")


@pytest.fixture
def pauses(monkeypatch):
    """The pauses, in seconds, that the client would have made before it tried again."""
    made = []
    monkeypatch.setattr(openai._base_client.time, "sleep", made.append)
    return made


@pytest.fixture
def serve():
    """serve(encode, **faults): a server that is up until the end of the test."""
    with ExitStack() as stack:
        yield lambda encode=LETTERS.encode, **faults: stack.enter_context(EmbeddingServer(encode, **faults))


def load(server, name="letters", **config):
    return load_encoder(EncoderConfig(name, kind="openai", base_url=server.base_url, **config))


def asked(server):
    """The texts of each request, the first one of the loading left out."""
    return [request.body["input"] for request in server.requests[1:]]


def refusal(ask, *arguments, **options):
    """The message of the one ValueError with which `ask` ends, seen to be one line."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        ask(*arguments, **options)
    return str(refused.value)


# -- the vectors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [None, "shuffled"])
def test_the_vectors_are_those_of_the_server_in_the_order_of_the_texts(serve, sentences, broken):
    encoder = load(serve(broken=broken))
    texts = [*sentences[:20], "a", sentences[0], " ".join(sentences[:5])]
    vectors = encoder.encode(texts)
    assert vectors.dtype == np.float32
    assert encoder.dimension == 32
    np.testing.assert_allclose(vectors, LETTERS.encode(texts), atol=1e-6)


@pytest.mark.parametrize(("size", "sizes"), [(5, [5, 5, 2]), (12, [12]), (1, [1] * 12), (None, [12])])
def test_texts_are_sent_in_batches_of_the_size_asked_for(serve, sentences, size, sizes):
    server = serve()
    vectors = load(server, batch_size=size).encode(sentences[:12])
    assert [len(texts) for texts in asked(server)] == sizes
    assert list(chain.from_iterable(asked(server))) == sentences[:12]
    np.testing.assert_allclose(vectors, LETTERS.encode(sentences[:12]), atol=1e-6)


def test_no_texts_are_no_request(serve):
    server = serve()
    assert load(server).encode([]).shape == (0, 32)
    assert not asked(server)


def test_an_empty_text_has_a_vector(serve):
    encoder = load(serve())  # which refuses empty texts, as OpenAI's does
    assert np.isfinite(encoder.encode(["a", "", "b"])).all()
    np.testing.assert_allclose(encoder.encode(["a", "", "b"])[::2], LETTERS.encode(["a", "b"]), atol=1e-6)


def test_a_prompt_stands_before_every_text(serve, sentences):
    server = serve()
    vectors = load(server, prompt="query: ").encode([*sentences[:3], ""])
    prompted = [*(f"query: {text}" for text in sentences[:3]), "query: "]
    assert asked(server) == [prompted]
    np.testing.assert_allclose(vectors, LETTERS.encode(prompted), atol=1e-6)


def test_fewer_dimensions_are_asked_for_only_when_wanted(serve, sentences):
    server = serve()
    encoder = load(server, truncate_dimension=8)
    vectors = encoder.encode(sentences[:5])
    assert [request.body["dimensions"] for request in server.requests] == [8, 8]
    cut = LETTERS.encode(sentences[:5])[:, :8]
    np.testing.assert_allclose(vectors, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)
    assert encoder.dimension == Fingerprint.of(encoder).dimension == 8
    load(server)
    assert "dimensions" not in server.requests[-1].body


def test_normalize_divides_by_the_length(serve, sentences):
    long = serve(lambda texts: 7 * LETTERS.encode(texts))
    np.testing.assert_allclose(load(long).encode(sentences[:5]), 7 * LETTERS.encode(sentences[:5]), atol=1e-5)
    unit = load(long, normalize=True).encode(sentences[:5])
    np.testing.assert_allclose(unit, LETTERS.encode(sentences[:5]), atol=1e-6)


def test_the_model_is_asked_for_by_name_and_known_again(serve, sentences):
    server = serve()
    made = Fingerprint.from_dict(json.loads(json.dumps(Fingerprint.of(load(server, "some/model")).to_dict())))
    assert {request.body["model"] for request in server.requests} == {"some/model"}
    np.testing.assert_allclose(made.open_encoder().encode(sentences[:3]), LETTERS.encode(sentences[:3]), atol=1e-6)


# -- the key and the bill ----------------------------------------------------------------------------------------


def test_the_key_travels_in_its_header_and_stands_nowhere_else(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server = serve()
    encoder = load(server)
    encoder.encode(["a text"])
    assert {request.authorization for request in server.requests} == {"Bearer sk-secret"}
    assert not any("sk-secret" in json.dumps(request.body) for request in server.requests)
    assert "sk-secret" not in json.dumps(Fingerprint.of(encoder).to_dict())
    assert "sk-secret" not in repr(encoder.config)


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_only_a_server_of_ones_own_is_asked(serve, monkeypatch, key):
    monkeypatch.delenv("OPENAI_API_KEY") if key is None else monkeypatch.setenv("OPENAI_API_KEY", key)
    message = refusal(load_encoder, EncoderConfig("text-embedding-3-small", kind="openai"))
    assert "set the environment variable OPENAI_API_KEY" in message
    assert load(serve()).dimension == 32


def test_the_tokens_are_counted_over_all_requests(serve, sentences):
    server = serve()
    encoder = load(server, batch_size=5, prompt="two words ")
    encoder.encode(sentences[:12])
    encoder.encode(sentences[12:14])
    words = sum(len(text.split()) for request in server.requests for text in request.body["input"])
    assert encoder.tokens == words > 100
    assert encoder.usage() == f"{words:,} tokens billed"


@pytest.fixture
def corpus(tmp_path, sentences, monkeypatch):
    """60 sentences, for shards of 16."""
    monkeypatch.setattr(vec2text.cache, "_SHARD", 16)
    (tmp_path / "texts.txt").write_text("\n".join(sentences[:60]) + "\n")
    config = DataConfig([str(tmp_path / "texts.txt")], validation=0.2, test=0.2, cache=str(tmp_path / "cache"))
    return build_corpus(config)


def test_the_tokens_are_shown_while_a_corpus_is_encoded(tmp_path, serve, corpus, capsys):
    encoder = load(serve())
    encode_corpus(corpus, encoder, tmp_path / "cache", Fingerprint.of(encoder))
    shown = capsys.readouterr()
    assert encoder.usage() in " ".join(shown.err.split())
    assert not shown.out


# -- trying again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [{"rate_limited": 3}, {"failing": 3}, {"rate_limited": 2, "failing": 1}])
def test_faults_that_pass_are_waited_for(serve, sentences, faults):
    server = serve(after=1, **faults)
    np.testing.assert_allclose(load(server).encode(sentences[:4]), LETTERS.encode(sentences[:4]), atol=1e-6)
    assert asked(server) == [sentences[:4]] * 4  # the same batch, three times in vain


def test_a_connection_that_is_lost_is_made_again(serve, sentences, pauses):
    lost = iter([False, True, True, True])

    def encode(texts):
        if next(lost, False):
            raise ConnectionResetError
        return LETTERS.encode(texts)

    server = serve(encode)
    np.testing.assert_allclose(load(server).encode(sentences[:4]), LETTERS.encode(sentences[:4]), atol=1e-6)
    assert len(asked(server)) == 4
    assert len(pauses) == 3
    assert all(one < other for one, other in pairwise(pauses))  # growing


@pytest.mark.parametrize(("faults", "status"), [({"rate_limited": 99}, 429), ({"failing": 99}, 500)])
@pytest.mark.parametrize("retries", [0, 2])
def test_after_so_many_retries_it_gives_up(serve, sentences, faults, status, retries):
    server = serve(after=1, **faults)
    message = refusal(load(server, retries=retries).encode, sentences[:4])
    assert len(asked(server)) == 1 + retries
    assert f"{server.base_url}/ answers {status} for model 'letters'" in message


def test_what_no_retry_can_mend_is_not_tried_again(serve, monkeypatch, sentences):
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-key")
    for faults in ({"unauthorised": True}, {"unknown_model": True}, {"max_batch": 2}):
        server = serve(after=1, **faults)
        refusal(load(server).encode, sentences[:4])
        assert len(asked(server)) == 1


@pytest.mark.parametrize("shards", [0, 1, 3])
def test_an_encode_that_failed_goes_on_after_its_last_whole_shard(tmp_path, serve, corpus, shards):
    server = serve(after=2 + shards, failing=99)  # one to load and one for the fingerprint
    encoder = load(server, retries=0)
    fingerprint = Fingerprint.of(encoder)
    message = refusal(encode_corpus, corpus, encoder, tmp_path / "cache", fingerprint)
    assert "answers 500" in message
    assert len(asked(server)) == 1 + shards + 1
    server.failing = 0
    before = len(server.requests)
    vectors = encode_corpus(corpus, load(server), tmp_path / "cache", fingerprint)
    sent = [request.body["input"] for request in server.requests[before + 1 :]]
    assert list(chain.from_iterable(sent)) == list(corpus.texts)[16 * shards :]
    np.testing.assert_allclose(vectors[np.arange(60)], LETTERS.encode(list(corpus.texts)), atol=1e-6)


# -- what cannot be ----------------------------------------------------------------------------------------------


def test_a_server_that_is_down_is_named_with_what_to_check(serve, sentences, pauses):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = EncoderConfig("letters", kind="openai", base_url=f"http://127.0.0.1:{port}/v1", retries=2)
    message = refusal(load_encoder, config)
    assert f"http://127.0.0.1:{port}/v1/ cannot be reached" in message
    assert "check encoder.base_url" in message
    assert len(pauses) == 2


def test_a_server_that_goes_down_later_is_named_too(sentences, pauses):
    with EmbeddingServer(LETTERS.encode) as server:
        encoder = load(server)
    assert f"{server.base_url}/ cannot be reached" in refusal(encoder.encode, sentences[:4])


def test_a_server_that_never_answers_is_named_as_one_that_is_down(serve, sentences):
    server = serve(after=1, slow=60)
    encoder = load(server)
    encoder._client = encoder._client.with_options(timeout=0.1, max_retries=0)
    assert f"{server.base_url}/ cannot be reached (Request timed out.)" in refusal(encoder.encode, sentences[:4])


@pytest.mark.parametrize("address", ["localhost:8000/v1", "nonsense", "ftp://127.0.0.1/v1"])
def test_an_address_that_is_none_is_refused_with_what_to_check(pauses, address):
    message = refusal(load_encoder, EncoderConfig("letters", kind="openai", base_url=address, retries=0))
    assert address in message
    assert "encoder.base_url" in message


@pytest.mark.parametrize("address", ["", "/", "/v2", "/v1/embeddings"])
def test_a_wrong_path_is_refused_with_what_to_check(serve, address):
    base_url = serve().base_url.removesuffix("/v1") + address
    message = refusal(load_encoder, EncoderConfig("letters", kind="openai", base_url=base_url))
    assert message.startswith(base_url)
    assert "answers 404" in message
    assert "encoder.base_url" in message


ENDPOINT = ["gives a broken answer", "is it an embeddings endpoint?"]
FAULTS = {
    "unauthorised": ({"unauthorised": True}, ["refuses the key (401)", "set OPENAI_API_KEY"]),
    "unknown_model": ({"unknown_model": True}, ["answers 404", "model 'letters'", "does not exist", "encoder.name"]),
    "json": ({"broken": "json"}, ENDPOINT),
    "html": ({"broken": "html"}, ENDPOINT),
    "empty": ({"broken": "empty"}, ENDPOINT),
    "nan": ({"broken": "nan"}, ["gave NaN or infinity", "expected finite numbers"]),
}
LATER = {  # which one text alone does not show
    "max_batch": ({"max_batch": 3}, ["answers 400", "4 texts", "at most 3 texts, got 4", "encoder.batch_size"]),
    "short": ({"broken": "short"}, ["shape (3, 32) for 4 texts", "expected (4, 32)"]),
    "dimension": ({"broken": "dimension"}, ["shape (4, 31) for 4 texts", "expected (4, 32)"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_first_answer_is_one_line_with_the_address_and_what_to_do(serve, monkeypatch, name):
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-key")
    faults, reasons = FAULTS[name]
    server = serve(**faults)
    message = refusal(load, server, retries=0)
    for reason in (f"{server.base_url}/", *reasons):
        assert reason in message


@pytest.mark.parametrize("name", FAULTS | LATER)
def test_a_fault_of_a_later_answer_is_one_line_with_the_address_and_what_to_do(serve, monkeypatch, sentences, name):
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-key")
    faults, reasons = (FAULTS | LATER)[name]
    server = serve(after=1, **faults)
    message = refusal(load(server, retries=0).encode, sentences[:4])
    for reason in (f"{server.base_url}/", *reasons):
        assert reason in message


def test_a_smaller_batch_is_the_remedy_for_one_that_is_too_large(serve, sentences):
    encoder = load(serve(max_batch=3), batch_size=3)
    np.testing.assert_allclose(encoder.encode(sentences[:10]), LETTERS.encode(sentences[:10]), atol=1e-6)


def test_more_dimensions_than_there_are_is_what_the_server_says(serve):
    assert "'dimensions' is at most 32" in refusal(load, serve(), truncate_dimension=64)


def test_without_the_client_the_error_names_what_to_install(monkeypatch, serve):
    for module in [module for module in sys.modules if module.split(".")[0] == "openai"]:
        monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'vec2text-gpt[openai]'" in refusal(load, serve())
