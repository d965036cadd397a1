"""A local server that speaks OpenAI's embeddings API, with the faults that real ones have.

API: https://platform.openai.com/docs/api-reference/embeddings/create
"""

import base64
import json
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

BROKEN = ("json", "html", "empty", "short", "dimension", "nan", "shuffled")
"""What `broken` can be; the last is allowed by the API, though few expect it."""

_PAGE = b"<!doctype html><title>Welcome</title><p>It works."


@dataclass(frozen=True)
class Request:
    """One request as it came: the header that carries the key, and the body."""

    authorization: str | None
    body: dict


class EmbeddingServer:
    """Answers `POST {base_url}/embeddings` in a thread, from entering the context to leaving it.

    Args:
        encode: texts -> (N, D).
        dimension: of the vectors, which are cut to it; None: that of `encode`.
        after: this many requests are answered well before any fault below sets in.
        rate_limited: this many requests get 429, with leave to try again at once.
        failing: this many requests get 500.
        unauthorised: 401 for every key but `right-key`.
        unknown_model: 404.
        max_batch: 400 for more texts than this in a request.
        broken: one of BROKEN; `dimension` sets in with the second request at the earliest.
        slow: seconds before each answer.
    """

    def __init__(
        self,
        encode,
        dimension=None,
        *,
        after=0,
        rate_limited=0,
        failing=0,
        unauthorised=False,
        unknown_model=False,
        max_batch=None,
        broken=None,
        slow=0.0,
    ):
        assert broken in (None, *BROKEN), broken
        self.encode, self.dimension = encode, dimension
        self.after = max(after, 1) if broken == "dimension" else after
        self.rate_limited, self.failing = rate_limited, failing
        self.unauthorised, self.unknown_model, self.max_batch = unauthorised, unknown_model, max_batch
        self.broken, self.slow = broken, slow
        self.requests: list[Request] = []
        self._good = 0
        self._one_at_a_time = threading.Lock()  # clients may ask in parallel, but `encode` need not bear that
        self._closing = threading.Event()

    @property
    def base_url(self):
        """What a client needs to know, `/v1` included."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._closing.set()  # no answer is slow any more
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()  # waits for answers that are still being written

    def answer(self, path, request):
        """Status, headers and body (bytes) of the answer to `request`."""
        with self._one_at_a_time:
            self.requests.append(request)
            faulty = self._good >= self.after
        if faulty:
            self._closing.wait(self.slow)
        with self._one_at_a_time:
            status, body = (
                _invalid(path, request) or (faulty and self._fault(request)) or self._embeddings(request, faulty)
            )
            self._good += status == 200
        kind = "text/html" if body == _PAGE else "application/json"
        headers = {"content-type": kind, "content-length": str(len(body))}
        if status in (429, 500):  # OpenAI sends both; its client takes 0 seconds for no advice, and waits longer
            headers |= {"retry-after": "0", "retry-after-ms": "1"}
        return status, headers, body

    def _fault(self, request):
        """Status and body of the refusal that this server was asked for, if any."""
        if self.unauthorised and request.authorization != "Bearer right-key":
            return _error(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
        if self.rate_limited:
            self.rate_limited -= 1
            return _error(429, "Rate limit reached for requests.", "requests", "rate_limit_exceeded")
        if self.failing:
            self.failing -= 1
            return _error(500, "The server had an error while processing your request.", "server_error")
        if self.unknown_model:
            reason = f"The model `{request.body['model']}` does not exist or you do not have access to it."
            return _error(404, reason, "invalid_request_error", "model_not_found")
        if self.max_batch is not None and len(_texts(request)) > self.max_batch:
            reason = f"Invalid 'input': expected at most {self.max_batch} texts, got {len(_texts(request))}."
            return _error(400, reason, "invalid_request_error", "array_above_max_length")
        return None

    def _embeddings(self, request, faulty):
        body, texts, broken = request.body, _texts(request), self.broken if faulty else None
        vectors = np.asarray(self.encode(texts), np.float32)[:, : self.dimension]  # (N, D)
        if wanted := body.get("dimensions"):
            if wanted > vectors.shape[1]:
                return _error(400, f"'dimensions' is at most {vectors.shape[1]}.", "invalid_request_error")
            vectors = vectors[:, :wanted]
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        if broken == "nan":
            vectors = np.full_like(vectors, np.nan)
        elif broken == "dimension":
            vectors = vectors[:, :-1]
        coded = body.get("encoding_format") == "base64"
        rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() if coded else row.tolist() for row in vectors]
        data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
        data = {"shuffled": data[1:] + data[:1], "short": data[:-1], "empty": []}.get(broken, data)
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = _json({"object": "list", "data": data, "model": body["model"], "usage": usage})
        return 200, {"html": _PAGE, "json": answer[: len(answer) // 2]}.get(broken, answer)


def _invalid(path, request):
    """Status and body of the refusal of a request that OpenAI's own server refuses too, if it is one."""
    if path != "/v1/embeddings":
        return _error(404, f"Invalid URL (POST {path})", "invalid_request_error")
    texts = _texts(request)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        return _error(400, "'$.input' is invalid: expected texts, none of them empty.", "invalid_request_error")
    return None


def _texts(request):
    texts = request.body.get("input")
    return [texts] if isinstance(texts, str) else texts


def _error(status, message, kind, code=None):
    return status, _json({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _json(content):
    return json.dumps(content).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # they are joined when the server closes: no thread and no socket outlives a test

    def handle_error(self, request, client_address):
        """A client that did not wait for its answer is none of our business; anything else belongs on stderr."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request (HTTP 1.0): a client that keeps its connection would keep its thread, too."""

    timeout = 10

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, headers, content = self.server.owner.answer(self.path, Request(self.headers["authorization"], body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """No log lines."""
