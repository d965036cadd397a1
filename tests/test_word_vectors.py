"""Averaged word vectors: the mean of the vectors of a sentence's known words, whatever the format of the file."""

import gc
import re
import sys

import numpy as np
import pytest
from gensim.models.fasttext import FastText, load_facebook_vectors, save_facebook_model
from small_models import save_fasttext, save_word_vectors

from vec2text.cache import encode_corpus
from vec2text.config import DataConfig, EncoderConfig
from vec2text.corpus import build_corpus
from vec2text.encoders import load_encoder
from vec2text.fingerprint import Fingerprint

FORMATS = ["a.txt", "a.vec", "glove.txt", "a.bin", "a.kv"]
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # gensim's, where sizes are missing


@pytest.fixture(scope="module", autouse=True)
def _closed():
    """What gensim left open is closed here, not in the tests of another file."""
    yield
    gc.collect()


def load(path, **config):
    return load_encoder(EncoderConfig(str(path), kind="word_vectors", **config))


def refusal(path):
    """The message of the one ValueError with which a file is refused, seen to be one line that names it."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        load(path)
    assert str(path) in str(refused.value)
    return str(refused.value)


@pytest.fixture(scope="module")
def files(tmp_path_factory, sentences):
    """Format -> file with the same vectors of the sentences' words."""
    place = tmp_path_factory.mktemp("words")
    return {name: save_word_vectors(place / name, sentences, header=name != "glove.txt") for name in FORMATS}


@pytest.fixture(scope="module")
def table(sentences):
    """Word -> its vector in those files."""
    words = sorted({word for text in sentences for word in re.findall(r"\w+", text.lower())})
    vectors = np.random.default_rng(0).standard_normal((len(words), 16)).astype(np.float32)
    return dict(zip(words, vectors, strict=True))


@pytest.fixture(scope="module")
def fasttext(tmp_path_factory, sentences):
    return save_fasttext(tmp_path_factory.mktemp("words") / "fasttext.bin", sentences)


def write(path, vectors):
    """A file of word2vec's text format."""
    lines = [f"{word} {' '.join(str(float(x)) for x in vector)}\n" for word, vector in vectors.items()]
    path.write_text(f"{len(vectors)} {len(next(iter(vectors.values())))}\n" + "".join(lines))
    return path


# -- the mean ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_vector_is_the_mean_of_the_vectors_of_the_words(files, table, sentences, name):
    encoder = load(files[name])
    assert encoder.dimension == 16
    expected = [np.mean([table[word] for word in re.findall(r"\w+", text.lower())], 0) for text in sentences[::20]]
    vectors = encoder.encode(sentences[::20])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_word_that_occurs_twice_counts_twice_and_the_order_is_lost(files, table):
    one, other, short = load(files["a.bin"]).encode(["boat boat river", "river boat boat", "boat river"])
    np.testing.assert_allclose(one, (2 * table["boat"] + table["river"]) / 3, atol=1e-6)
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(one - short).max() > 0.01


def test_fasttext_makes_vectors_of_words_that_it_never_saw(fasttext, sentences):
    words = load_facebook_vectors(str(fasttext))
    assert "anna" in words.key_to_index
    encoder = load(fasttext)
    for text in ("anna zigzagging", "xylophone", "boat boats boaty"):
        expected = np.mean([words[word] for word in text.split()], 0)
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(encoder.encode([text])[0], expected, atol=1e-6)
        assert encoder.fault(text) is None
    assert np.abs(encoder.encode(["zigzagging"]) - encoder.encode(["xylophone"])).max() > 1e-4


# -- which words -------------------------------------------------------------------------------------------------

SIX = {
    "apple": [1.0, 0.0],
    "Apple": [0.0, 1.0],
    "paris": [2.0, 0.0],
    ".": [0.0, 8.0],
    "don't": [4.0, 4.0],
    "ёлка": [3.0, 1.0],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apple", [1, 0]),
        ("Apple", [0, 1]),  # as it stands
        ("APPLE", [1, 0]),  # in lower case
        ("Paris paris PARIS", [2, 0]),
        ("apple Apple APPLE", [2 / 3, 1 / 3]),
        ("apple.", [0.5, 4]),  # punctuation counts where the file has it
        ("apple . apple", [2 / 3, 8 / 3]),
        ("apple, (apple)!", [1, 0]),  # and is left out where the file lacks it
        ("apple unheard paris", [1.5, 0]),
        ("don't", [4, 4]),
        ("Don't apple", [2.5, 2]),
        ("Ёлка, ёлка", [3, 1]),
        ("", [0, 0]),
        ("unheard, of", [0, 0]),
        ("pineapple appleparis", [0, 0]),  # no parts of words
    ],
)
def test_which_words_count(tmp_path, text, expected):
    encoder = load(write(tmp_path / "six.txt", SIX))
    np.testing.assert_allclose(encoder.encode([text]), [expected], atol=1e-6)
    np.testing.assert_allclose(encoder.encode(["paris", text, "apple"])[1], expected, atol=1e-6)
    assert (encoder.fault(text) == "unknown_words") == (not np.any(expected))
    length = np.linalg.norm(expected) or 1.0
    normalised = load(tmp_path / "six.txt", normalize=True).encode([text])
    np.testing.assert_allclose(normalised, [np.array(expected) / length], atol=1e-6)


def test_fasttext_prefers_the_word_that_it_saw_to_a_guess(fasttext):
    """A file of lower-case words knows nothing of capitals: the parts of `Anna` were never trained."""
    words, encoder = load_facebook_vectors(str(fasttext)), load(fasttext)
    assert "Anna" not in words.key_to_index
    assert np.abs(words["Anna"] - words["anna"]).max() > 1e-3
    np.testing.assert_allclose(encoder.encode(["Anna"]), [words["anna"]], atol=1e-6)


# -- sentences without a vector ----------------------------------------------------------------------------------


def test_no_text_without_a_fault_has_a_vector_of_zeros(tmp_path):
    encoder = load(write(tmp_path / "zeros.txt", {"apple": [1.0, 0.0], "<pad>": [0.0, 0.0], "null": [0.0, 0.0]}))
    for text in ("apple", "null", "apple null", "unheard", "null unheard", ""):
        assert (encoder.fault(text) == "unknown_words") == (not encoder.encode([text]).any())


def test_a_fasttext_without_parts_so_short_has_no_vector_either(tmp_path, sentences):
    words = [re.findall(r"\w+", text.lower()) for text in sentences]
    settings = {"vector_size": 8, "min_count": 1, "bucket": 200, "min_n": 4, "epochs": 1, "workers": 1}
    save_facebook_model(FastText(words, **settings), str(tmp_path / "long.bin"))
    encoder = load(tmp_path / "long.bin")
    for text in ("!", "? !", "boat !", "zigzag", ""):  # `<!>` has no part of four letters
        assert (encoder.fault(text) == "unknown_words") == (not encoder.encode([text]).any())


def test_sentences_of_unknown_words_are_dropped_and_counted(tmp_path, files, sentences):
    strange = [f"Zyx {letter}qw wvu." for letter in "abcdefghij"]
    texts = [*sentences[:60], *strange, "!", "???", *sentences[60:90]]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    encoder = load(files["a.vec"])
    config = DataConfig([str(tmp_path / "texts.txt")], validation=0.2, test=0.2, cache=str(tmp_path / "cache"))
    corpus = build_corpus(config, encoder.fault)
    assert list(corpus.texts) == sentences[:90]
    assert corpus.counts["unknown_words"] == 12
    assert build_corpus(config).counts["unknown_words"] == 0
    vectors = encode_corpus(corpus, encoder, tmp_path / "cache", Fingerprint.of(encoder))
    assert vectors[np.arange(90)].any(1).all()


def test_a_fingerprint_knows_word_vectors_again(tmp_path, files, sentences):
    made = Fingerprint.of(load(files["a.bin"]))
    made.check_encoder(Fingerprint.of(load(files["a.kv"])))
    made.check_vectors(load(files["a.kv"]).encode(sentences[:50]))
    other = save_word_vectors(tmp_path / "other.bin", sentences, seed=1)
    with pytest.raises(ValueError, match="vectors of the probe sentences differ"):
        made.check_encoder(Fingerprint.of(load(other)))


# -- files that cannot be read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none.bin", "none.txt", "."])
def test_a_missing_file_is_refused(tmp_path, name):
    assert "there is no file" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", [*FORMATS, "a.model", "a.npy"])
@pytest.mark.parametrize("content", [b"", b"Two words\n", b"\x00\xff" * 3000, b"2 3\na 1 2 3\nb 1 x 3\n"])
def test_what_is_no_file_of_word_vectors_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "cannot be read as word vectors" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.txt", "a.vec", "a.bin", "a.kv", "fasttext.bin"])  # GloVe's has no number of words
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_file_that_was_cut_is_refused(tmp_path, files, fasttext, name, share):
    content = {**files, "fasttext.bin": fasttext}[name].read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    assert "cannot be read as word vectors" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.txt", "a.bin", "fasttext.bin"])
def test_without_gensim_the_error_names_what_to_install(monkeypatch, files, fasttext, name):
    for module in [module for module in sys.modules if module.split(".")[0] == "gensim"]:
        monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'vec2text-gpt[word-vectors]'" in refusal(files.get(name, fasttext))
