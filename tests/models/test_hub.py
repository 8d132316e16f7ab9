"""Models on the Hub: what is pushed comes back, through the real huggingface_hub and a small Hub on this machine."""

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from huggingface_hub import constants

from unclouded.cli import main
from unclouded.errors import UsageError
from unclouded.models import hub, store
from unclouded.models.page import page

COMMIT = "0" * 40
NOWHERE = "http://127.0.0.1:9"


class Hub(ThreadingHTTPServer):
    """Holds the files of each repository; speaks what create_repo, create_commit and hf_hub_download ask for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: object) -> None:
        pass

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(json.dumps(value).encode(), {"Content-Type": "application/json"}, status)

    def _answer(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != "Bearer secret":
            return self._json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo in self.server.repositories:
                return self._json(
                    {"error": "You already created this model repo", "url": f"{self.server.url}/{repo}"}, 409
                )
            self.server.repositories[repo] = {}
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.add(repo)
            return self._json({"url": f"{self.server.url}/{repo}"})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path)
        assert found is not None, self.path
        if found[2] == "preupload":
            files = json.loads(body)["files"]
            return self._json(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        for line in map(json.loads, body.decode().splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[found[1]][line["value"]["path"]] = content
        return self._json({"commitOid": COMMIT, "commitUrl": f"{self.server.url}/{found[1]}/commit/{COMMIT}"})

    def do_GET(self) -> None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(main|v1)/(.+)", self.path)
        content = found and self.server.repositories.get(found[1], {}).get(found[3])
        if content is None:
            return self._answer(b"", {"X-Error-Code": "RepoNotFound"}, 404)
        tag = hashlib.sha256(content).hexdigest()
        return self._answer(content, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

    def do_HEAD(self) -> None:
        self.do_GET()


@pytest.fixture
def server() -> Iterator[Hub]:
    running = Hub()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `unclouded models` against a Hub, with an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def call(*arguments: object, endpoint: str = server.url, token: str = "secret", offline: bool = False) -> Done:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(SystemExit) as exit_:
            main(["models", *map(str, arguments)])
        return Done(int(exit_.value.code or 0), *capsys.readouterr())

    return call


def test_what_is_pushed_comes_back(server: Hub, run: Run) -> None:
    pushed = run("push", "rgbn", "we/clear", "--json")
    assert pushed.code == 0, pushed.err
    assert json.loads(pushed.out) == {"pushed": "hf://we/clear"}
    files, source = server.repositories["we/clear"], store.resolve("rgbn")
    assert files[hub.FILE] == source.read_bytes()
    assert files["README.md"].decode() == hub.readme(store.read_card(source))
    assert not server.private
    for address in ("hf://we/clear", "hf://we/clear@v1"):
        info = run("info", address, "--json")
        assert info.code == 0, info.err
        assert json.loads(info.out)["sha256"] == store.sha256(source)
    offline = run("info", "hf://we/clear", "--json", offline=True)
    assert json.loads(offline.out)["name"] == "rgbn"  # from the cache
    again = run("push", "base", "we/clear")  # into a repository that is there
    assert again.code == 0, again.err
    assert files[hub.FILE] == store.resolve("base").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "token", "code", "sentence"),
    [
        (["info", "hf://we/nothing"], "secret", 1, "hf://we/nothing cannot be fetched"),
        (["info", "hf://nothing"], "secret", 2, "does not name a model on the Hub"),
        (["push", "base", "nothing"], "secret", 2, "does not name a repository"),
        (["push", "base", "we/clear"], "wrong", 1, "we/clear cannot be written"),
    ],
)
def test_what_is_refused(run: Run, arguments: list[str], token: str, code: int, sentence: str) -> None:
    done = run(*arguments, token=token)
    assert (done.code, done.out) == (code, "")
    assert sentence in done.err


def test_an_unreachable_hub_is_one_sentence(run: Run) -> None:
    for done in (run("push", "base", "we/clear", endpoint=NOWHERE), run("info", "hf://we/clear", offline=True)):
        assert done.code == 1
        assert done.err.startswith("Error: ")
        assert done.err.count("\n") == 1


def test_weights_without_a_stated_licence_are_not_published(server: Hub, run: Run, tmp_path: Path) -> None:
    source, theirs = store.resolve("rgbn"), tmp_path / "theirs.safetensors"
    card = store.read_card(source).model_copy(update={"licence": "not stated by the authors"})
    store.with_card(source, theirs, card)
    assert "cannot be published" in run("push", theirs, "we/theirs").err
    assert not server.repositories
    assert run("push", theirs, "we/theirs", "--private").code == 0
    assert server.private == {"we/theirs"}
    assert "license_name: not stated by the authors" in server.repositories["we/theirs"]["README.md"].decode()


def test_the_readme_is_the_page_under_front_matter() -> None:
    card = store.read_card(store.resolve("base"))
    readme = hub.readme(card)
    assert readme.endswith(page(card) + "\n")
    assert readme.startswith("---\nlibrary_name: unclouded\nlicense: apache-2.0\n")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'unclouded\[hub\]'"):
        hub.fetch("hf://we/clear")
