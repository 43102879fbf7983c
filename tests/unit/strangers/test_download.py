"""Servers that break off, lie or talk nonsense: a sentence, nothing kept as whole, and a next try that works."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.core.download import Source, WrongContent, download
from bench.core.errors import BenchError, MissingError, UsageError
from bench.weights import lock as read_lock

BODY = bytes(range(200)) * 5


class Liar:
    """Answers each request with the next of the given bytes and remembers what was asked."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answers: list[bytes] = []
        self.asked: list[str] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.asked.append(client.recv(8192).decode())
            client.sendall(
                self.answers.pop(0) if self.answers else b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n"
            )
            client.close()

    def source(self, size: int | None = None) -> Source:
        return Source((f"http://127.0.0.1:{self.listener.getsockname()[1]}/x",), size)


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Liar]:
    monkeypatch.setenv("no_proxy", "*")
    made = Liar()
    yield made
    made.listener.close()


def whole(body: bytes = BODY, head: str = "200 OK", *lines: str) -> bytes:
    return (
        f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n{''.join(x + chr(10) for x in lines)}\r\n".encode()
        + body
    )


LIES = {
    "cut in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nabc",
    "nonsense length": b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabc",
    "no protocol": b"hello",
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc",
    "announces more than the lock": whole(BODY + b"x"),
    "sends more than the lock": b"HTTP/1.1 200 OK\r\n\r\n" + BODY * 3,
    "sends less than the lock": b"HTTP/1.1 200 OK\r\n\r\nabc",
    "nothing to say": b"",
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "leads to http elsewhere": b"HTTP/1.1 302 F\r\nLocation: http://192.0.2.1/x\r\nContent-Length: 0\r\n\r\n",
    "leads to a file": b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "asks for a login": b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_a_sentence_and_the_next_try_gets_the_file(lie: str, liar: Liar, tmp_path: Path) -> None:
    liar.answers = [LIES[lie]]
    source = liar.source(len(BODY))
    with pytest.raises(MissingError, match=r"file\.bin could not be downloaded"):
        download(source, tmp_path / "file.bin", tmp_path)
    assert not (tmp_path / "file.bin").exists()
    part = tmp_path / "file.bin.part"
    kept = part.stat().st_size if part.exists() else 0
    assert kept <= len(BODY)
    if kept:
        rest = f"Content-Range: bytes {kept}-{len(BODY) - 1}/{len(BODY)}\r"
        part.write_bytes(BODY[:kept])
        liar.answers = [whole(BODY[kept:], "206 Partial", rest)]
    else:
        liar.answers = [whole()]
    assert download(source, tmp_path / "file.bin", tmp_path).read_bytes() == BODY
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 416 No\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n",  # the file became shorter
        whole(b"x" * 900, "206 Partial", "Content-Range: bytes 50-949/1000\r"),  # another part than asked for
        whole(b"x" * 900, "206 Partial"),  # which part is not said
    ],
)
def test_resuming_recovers_from_lies(answer: bytes, liar: Liar, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(BODY[:100])
    liar.answers = [answer, whole()]
    assert download(liar.source(), tmp_path / "file.bin", tmp_path).read_bytes() == BODY
    assert "Range: bytes=100-" in liar.asked[0]
    assert "Range:" not in liar.asked[1]


def test_wrong_content_is_not_kept(liar: Liar, tmp_path: Path) -> None:
    liar.answers = [whole()]
    with pytest.raises(WrongContent, match="could not be verified"):
        download(liar.source(), tmp_path / "file.bin", tmp_path, lambda part: "is another")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://example.org/x", "ftp://example.org/x", "file:///etc/passwd", "x"])
def test_only_https_unless_allowed(url: str, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="only https is fetched"):
        download(Source((url,)), tmp_path / "x", tmp_path)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", ".bashrc", "a/../../x", "x\n", "-rf", ""])
def test_a_lock_cannot_name_a_place(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((UsageError, ValueError)):
        download(Source(()), tmp_path / "folder" / name, tmp_path / "folder")
    table = {"file": name, "urls": [], "licence": "x", "metrics": []}
    text = "[net]\n" + "".join(f"{k} = {v!r}\n".replace("'", '"') for k, v in table.items())
    (tmp_path / "weights.lock").write_text(text)
    monkeypatch.setenv("BENCH_WEIGHTS_LOCK", str(tmp_path / "weights.lock"))
    with pytest.raises(BenchError, match="is not a weights lock"):
        read_lock()


def test_a_planted_part_is_not_written_through(liar: Liar, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.bin.part").symlink_to(tmp_path / "precious")
    liar.answers = [whole()]
    with pytest.raises(UsageError, match="cannot be written"):
        download(liar.source(), tmp_path / "folder" / "file.bin", tmp_path / "folder")
    assert (tmp_path / "precious").read_text() == "precious"


def test_swapped_content_with_the_old_time_is_seen(tmp_path: Path) -> None:
    import os

    from bench.weights.digests import content

    file = tmp_path / "net.bin"
    file.write_bytes(b"first")
    first, times = content(file), file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content(file) != first


@pytest.mark.parametrize("trick", ["none", "another file takes its name", "it is written to"])
def test_what_is_read_is_what_was_compared(trick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib
    import os

    from bench import weights
    from bench.core.spec import Unscored

    right, wrong = b"right" * 99, b"WRONG" * 99
    digest = hashlib.sha256(right).hexdigest()
    (tmp_path / "w.lock").write_text(
        f'[net]\nfile = "net.pth"\nurls = []\nlicence = "l"\nmetrics = ["fvd"]\nsize = 495\nsha256 = "{digest}"\n'
    )
    monkeypatch.setenv("BENCH_WEIGHTS_LOCK", str(tmp_path / "w.lock"))
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path))
    file = tmp_path / "net.pth"
    file.write_bytes(right)
    os.utime(file, ns=(1, 1))
    if trick == "none":
        with weights.opened("net") as opened:
            assert opened.read() == right
        return
    with pytest.raises(Unscored, match="changed while it was read"), weights.opened("net") as opened:
        if trick == "another file takes its name":
            (tmp_path / "other").write_bytes(wrong)
            (tmp_path / "other").replace(file)
            assert opened.read() == right
        else:
            file.write_bytes(wrong)
            os.utime(file, ns=(1, 1))
