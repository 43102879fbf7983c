"""Weight files: search order, verification, resumable download, licences."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
import zipfile
from pathlib import Path

import pytest

from bench import weights
from bench.core.errors import MissingError, UsageError
from bench.core.spec import Reason, Unscored

CONTENT = bytes(range(256)) * 9000  # 2.3 MB: several blocks


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder with Range support, cuts answers short on demand and records what was asked."""

    def __init__(self, folder: Path) -> None:
        self.ranges: list[str | None] = []
        self.cut: int | None = None
        self.allow_range = True
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.directory) / self.path.lstrip("/")
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if not path.is_file():
            self.send_error(404)
            return
        data, start = path.read_bytes(), 0
        if asked and self.server.allow_range:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cut is not None:
            body, self.server.cut = body[: self.server.cut], None
        self.wfile.write(body)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "net.bin").write_bytes(CONTENT)
    with Server(folder) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """Write a lock with the given tables and make it current; home and folder are empty."""
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BENCH_WEIGHTS", "")
    monkeypatch.setenv("BENCH_WEIGHTS_LOCK", str(tmp_path / "weights.lock"))

    def write(**tables: dict) -> Path:
        lines = []
        for name, table in tables.items():
            table = {"file": "net.bin", "urls": [], "licence": "CC0", "metrics": ["toy/one"]} | table
            lines.append(f'["{name}"]')
            for key, value in table.items():
                text = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
                lines.append(f"{key} = {text}")
        (tmp_path / "weights.lock").write_text("\n".join(lines))
        return tmp_path / "home" / "weights"

    return write


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_shipped_lock_is_complete():
    entries = weights.lock()
    assert {"syncnet_v2", "sfd_face", "inception_fid", "face_landmarker"} <= set(entries)
    for entry in entries.values():
        assert entry.licence and entry.metrics and (entry.urls or entry.by_hand)
        assert entry.pin or not entry.urls, f"{entry.name} can be downloaded but not verified"
        assert all(url.startswith("https://") for url in entry.urls)


def test_needed_takes_ids_families_and_all():
    assert set(weights.needed(["fid/pytorch_fid_allframes"])) == {"inception_fid"}
    assert set(weights.needed(["fid/facecrop+bf16"])) == {"inception_fid", "sfd_face"}
    assert set(weights.needed(["fvd"])) == {"i3d_kinetics400", "i3d_torchscript", "resnet50_kinetics"}
    assert set(weights.needed(["expr/blendshape_l1"])) == {"face_landmarker"}
    assert set(weights.needed(["all"])) == set(weights.lock())
    assert weights.needed(["psnr"]) == ()


def test_fetch_downloads_verifies_and_reports_progress(server, lock):
    folder = lock(net={"urls": [server.url("net.bin")], "sha256": sha256(CONTENT), "size": len(CONTENT)})
    seen = []
    path = weights.fetch("net", progress=lambda *args: seen.append(args))
    assert path == folder / "net.bin"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("net.bin", len(CONTENT), len(CONTENT)) and len(seen) > 1
    assert weights.locate("net") == path
    assert weights.fetch("net") == path and len(server.ranges) == 1
    assert [p.name for p in folder.iterdir() if not p.name.startswith(".")] == ["net.bin"]


def test_a_broken_connection_resumes_where_it_stopped(server, lock):
    lock(net={"urls": [server.url("net.bin")], "sha256": sha256(CONTENT)})
    server.cut = 1_500_000
    assert weights.fetch("net").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1500000-"]


def test_a_part_from_an_earlier_process_is_continued(server, lock):
    folder = lock(net={"urls": [server.url("net.bin")], "sha256": sha256(CONTENT)})
    folder.mkdir(parents=True)
    (folder / "net.bin.part").write_bytes(CONTENT[:700_000])
    weights.fetch("net")
    assert server.ranges == ["bytes=700000-"]


def test_a_complete_part_needs_no_second_transfer(server, lock):
    folder = lock(net={"urls": [server.url("net.bin")], "sha256": sha256(CONTENT)})
    folder.mkdir(parents=True)
    (folder / "net.bin.part").write_bytes(CONTENT)
    assert weights.fetch("net").read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_part_of_another_version_is_started_afresh(server, lock):
    folder = lock(net={"urls": [server.url("net.bin")], "sha256": sha256(CONTENT)})
    folder.mkdir(parents=True)
    (folder / "net.bin.part").write_bytes(b"x" * 700_000)
    assert weights.fetch("net").read_bytes() == CONTENT
    assert server.ranges == ["bytes=700000-", None]


def test_a_server_without_ranges_sends_everything_again(server, lock):
    lock(net={"urls": [server.url("net.bin")], "sha256": sha256(CONTENT)})
    server.cut, server.allow_range = 1_000_000, False
    assert weights.fetch("net").read_bytes() == CONTENT


def test_wrong_content_is_refused_and_not_kept(server, lock):
    folder = lock(net={"urls": [server.url("net.bin")], "sha256": "0" * 64})
    with pytest.raises(weights.WrongContent, match="the lock says 000"):
        weights.fetch("net")
    assert not list(folder.glob("net*"))


def test_the_second_source_is_used_when_the_first_fails(server, lock):
    lock(net={"urls": [server.url("gone.bin"), server.url("net.bin")], "sha256": sha256(CONTENT)})
    assert weights.fetch("net").is_file()


def test_no_source_says_what_to_do(lock):
    lock(net={"urls": ["http://127.0.0.1:9/net.bin"], "sha256": sha256(CONTENT)})
    with pytest.raises(MissingError, match="could not be downloaded") as caught:
        weights.fetch("net")
    assert "put the file into" in caught.value.hint


def test_offline_only_verifies(server, lock):
    folder = lock(net={"urls": [server.url("net.bin")], "sha256": sha256(CONTENT)})
    with pytest.raises(MissingError, match=r"net\.bin is not in"):
        weights.fetch("net", offline=True)
    assert server.ranges == []
    folder.mkdir(parents=True)
    (folder / "net.bin").write_bytes(CONTENT)
    assert weights.fetch("net", offline=True) == folder / "net.bin"


@pytest.mark.parametrize("pin", ["sha256", "size", "git_blob", "sha256_prefix"])
def test_a_truncated_file_is_never_returned(pin, lock):
    pins = {
        "sha256": sha256(CONTENT),
        "size": len(CONTENT),
        "git_blob": hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest(),
        "sha256_prefix": sha256(CONTENT)[:8],
    }
    folder = lock(net={pin: pins[pin]})
    folder.mkdir(parents=True)
    (folder / "net.bin").write_bytes(CONTENT)
    assert weights.locate("net") == folder / "net.bin"
    (folder / "net.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(Unscored, match="the lock says") as caught:
        weights.locate("net")
    assert caught.value.reason is Reason.MISSING_WEIGHTS
    assert [s.state for s in weights.verify(["net"])] == ["wrong"]
    with pytest.raises(weights.WrongContent):
        weights.fetch("net")


def test_missing_names_the_command(lock):
    lock(net={"sha256": sha256(CONTENT), "metrics": ["toy/one"], "urls": ["https://example.org/net.bin"]})
    with pytest.raises(Unscored, match="Run: bench prepare --metrics toy/one") as caught:
        weights.locate("net")
    assert caught.value.reason is Reason.MISSING_WEIGHTS


def test_the_chosen_folder_comes_first(tmp_path, lock):
    folder = lock(net={})
    chosen = tmp_path / "chosen"
    for where, data in ((folder, b"home"), (chosen, b"chosen")):
        where.mkdir(parents=True)
        (where / "net.bin").write_bytes(data)
    assert weights.locate("net") == folder / "net.bin"
    weights.use_folder(chosen)
    assert weights.locate("net") == chosen / "net.bin"


def test_another_lock_counts_from_then_on(tmp_path, lock, monkeypatch):
    lock(net={})
    other = tmp_path / "other.lock"
    other.write_text((tmp_path / "weights.lock").read_text().replace('"net"', '"other"'))
    monkeypatch.setenv("BENCH_WEIGHTS_LOCK", "")
    weights.use_lock(other)
    assert "other" in weights.lock() and "net" not in weights.lock()


def test_ref_reads_pinned_files_from_the_lock_and_hashes_unpinned_ones(lock):
    folder = lock(a={"sha256": "ab" * 32}, b={"git_blob": "cd" * 20}, c={"file": "c.bin"})
    assert weights.ref("a").sha256 == "ab" * 32
    assert weights.ref("b").sha256 == "git-blob:" + "cd" * 20
    assert weights.ref("c").sha256 == "absent"
    folder.mkdir(parents=True)
    (folder / "c.bin").write_bytes(b"one")
    assert weights.ref("c").sha256 == sha256(b"one")


def test_terms_must_be_accepted_before_anything_is_asked_for(server, lock):
    lock(net={"urls": [server.url("net.bin")], "sha256": sha256(CONTENT), "needs_acceptance": True})
    with pytest.raises(MissingError, match="terms you must accept first: CC0") as caught:
        weights.fetch("net")
    assert "--accept-licences" in caught.value.hint and server.ranges == []
    assert weights.fetch("net", accept_licence=True).is_file()


def test_a_zip_is_downloaded_once_for_all_its_members(server, lock, tmp_path):
    archive = tmp_path / "served" / "pack.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        pack.writestr("pack/a.onnx", b"a" * 1000)
        pack.writestr("pack/b.onnx", b"b" * 1000)
    common = {
        "urls": [server.url("pack.zip")],
        "archive": "pack.zip",
        "archive_sha256": sha256(archive.read_bytes()),
    }
    folder = lock(
        a=common | {"file": "a.onnx", "member": "pack/a.onnx", "sha256": sha256(b"a" * 1000)},
        b=common | {"file": "b.onnx", "member": "pack/b.onnx", "sha256": sha256(b"b" * 1000)},
    )
    assert weights.fetch("a").read_bytes() == b"a" * 1000
    assert weights.fetch("b").read_bytes() == b"b" * 1000
    assert len(server.ranges) == 1
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == ["a.onnx", "b.onnx"]


def test_a_file_without_a_source_says_where_it_is_published(lock):
    lock(net={"by_hand": "published on the project page"})
    with pytest.raises(MissingError, match="not fetched automatically: published on the project page"):
        weights.fetch("net")


def test_unknown_names_and_broken_locks_are_usage_errors(lock, tmp_path):
    lock(net={})
    with pytest.raises(UsageError, match="Did you mean 'net'"):
        weights.entry("nett")
    (tmp_path / "weights.lock").write_text('["net"]\nfiles = "x"')
    with pytest.raises(UsageError, match="unknown fields"):
        weights.lock()
