"""Opening media files: what is inside, which of its tracks count, and how its frames lie on the 25 fps grid.

Every other module of this package opens files through `open_media`, so that all failures become one
`DecodeError` that names the file and the reason.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from bench.core.errors import BenchError, unforeseen
from bench.media.errors import DecodeError
from bench.media.pictures import MAX_BYTES, Orientation, check_size, colour_note, stored_size
from bench.media.timeline import FPS, ResamplePlan, Timeline, resample, timeline

__all__ = ["FPS", "Probe", "ResamplePlan", "open_media", "probe", "resample_plan"]

_INDIRECT = {"concat", "dash", "hls", "imf"}

_ONE_PACKET_ONE_FRAME = {"h264", "hevc", "mjpeg", "prores", "ffv1", "qtrle", "png", "rawvideo"}
"""Codecs whose packets tell the times of their frames; in others packets may show nothing, and frames tell."""

_SIDE_TRACKS = (
    Disposition.attached_pic
    | Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.karaoke
)


@dataclass(frozen=True, slots=True)
class Probe:
    """What a video file holds.

    Attributes:
        path: the file.
        width, height: pixels as shown, that is after orientation metadata and non-square pixels.
        fps: mean native frame rate.
        frames: number of native frames.
        duration: seconds from the first frame's start to the last frame's end.
        has_audio: there is an audio stream that can be decoded.
        rotation: degrees counter-clockwise the stored picture has to be turned by: 0, 90, 180 or 270.
        vfr: the time between frames varies.
        mirrored: the stored picture has to be mirrored left to right before it is turned.
        notes: what was chosen or changed in reading its pictures, in short phrases.
    """

    path: Path
    width: int
    height: int
    fps: float
    frames: int
    duration: float
    has_audio: bool
    rotation: int
    vfr: bool
    mirrored: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Facts:
    """What one reading of a file found out, remembered while the file stays the same.

    Attributes:
        times: when its frames are shown.
        keyed: its packets say which of them are key frames.
        width, height, orientation: of the picture as shown.
        has_audio, notes: see `Probe`.
    """

    times: Timeline
    keyed: bool
    width: int
    height: int
    orientation: Orientation
    has_audio: bool
    notes: tuple[str, ...]


@contextmanager
def open_media(path: Path) -> Iterator[Any]:
    """Open `path` for reading and turn everything that goes wrong inside the block into a `DecodeError`.

    Files are opened by absolute name and without any network protocol, so that a file called
    `concat:a.mp4` or a playlist cannot make the demuxer read something else.
    """
    path = Path(path)
    identity(path)
    try:
        limits = {"protocol_whitelist": "file", "max_pixels": str(MAX_BYTES // 4)}
        with av.open(str(path.absolute()), options=limits) as container:
            if container.format.name in _INDIRECT:
                raise DecodeError(
                    f"Cannot read {path}: it is a list of other files ({container.format.name}), not media.",
                    "Give the media files themselves.",
                )
            for stream in (*container.streams.video, *container.streams.audio):
                if stream.codec_context is None:
                    continue
                # One thread: workers are counted in CPUs. `explode`: damage is an error, not a grey patch.
                stream.codec_context.thread_count = 1
                stream.codec_context.options = {"err_detect": "explode"}
            yield container
    except BenchError:
        raise
    except av.EOFError as error:
        raise _damaged(path, "it ends too early, no frame could be read") from error
    except av.FFmpegError as error:
        raise _damaged(path, error.strerror or type(error).__name__) from error
    except UnicodeError as error:
        raise _damaged(path, f"its metadata cannot be decoded ({error})") from error
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        raise DecodeError(f"Cannot read {path}: {unforeseen(error)}", "Until then leave it out.") from error


def identity(path: Path) -> tuple[int, ...]:
    """Return what tells a file from another, or from itself after a change, without reading it.

    Raises:
        DecodeError: there is nothing to read: missing, empty, no permission, or not a regular file.
    """
    if isinstance(found := _readable(Path(path)), str):
        raise DecodeError(f"Cannot read {path}: {found}.", "Check the path, or leave this file out.")
    return found


def probe(path: Path) -> Probe:
    """Return what the video file holds, reading all packets and decoding at least the first frame.

    Raises:
        DecodeError: not a video, damaged, empty, or unreadable.
    """
    found = _facts_of(path)
    return Probe(
        path=Path(path),
        width=found.width,
        height=found.height,
        fps=found.times.fps,
        frames=len(found.times.ticks),
        duration=found.times.duration,
        has_audio=found.has_audio,
        rotation=found.orientation.rotation,
        vfr=found.times.varies,
        mirrored=found.orientation.mirrored,
        notes=found.notes,
    )


def picture_digest(path: Path) -> str:
    """Return the sha256 (hex) of a clip's coded pictures and their times: equal where only the sound differs.

    Raises:
        DecodeError: not a video, damaged, or empty.
    """
    found = probe(path)
    state = hashlib.sha256(repr((found.width, found.height, found.rotation, found.mirrored)).encode())
    with open_media(path) as container:
        stream = video_stream(path, container)
        state.update(repr((stream.codec_context.name, stream.time_base)).encode())
        state.update(stream.codec_context.extradata or b"")
        for packet in container.demux(stream):
            state.update(repr((packet.pts, packet.duration, packet.size)).encode())
            state.update(bytes(packet))
    return state.hexdigest()


def timeline_of(path: Path) -> Timeline:
    """Return when the video's frames are shown.

    Raises:
        DecodeError: not a video, damaged, empty, or unreadable.
    """
    return _facts_of(path).times


def resample_plan(path: Path, fps: float | None = FPS) -> ResamplePlan:
    """Return which native frame each output frame shows, see `bench.media.timeline.resample`.

    Raises:
        DecodeError: not a video, damaged, empty, or unreadable.
    """
    return resample(timeline_of(path), fps)


def video_stream(path: Path, container: Any) -> Any:
    """Return the video stream a player shows: the default one, else the first (cover art does not count).

    Raises:
        DecodeError: there is none that can be decoded.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    stream = _preferred(streams)
    if stream is not None:
        return stream
    if streams:
        raise DecodeError(
            f"Cannot read {path}: nothing here can decode its video ({_codec_tag(streams[0])}).",
            f"Convert it where it plays: ffmpeg -i {str(path)!r} -c:v libx264 -c:a aac fixed.mp4",
        )
    found = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
    raise DecodeError(
        f"Cannot read {path}: it has no video stream (found: {found}).",
        "Give a video file, or leave this file out.",
    )


def sound_stream(container: Any) -> Any | None:
    """Return the sound a player plays: the default track, else the first; None where none can be decoded."""
    return _preferred(container.streams.audio)


def has_sound(path: Path) -> bool | None:
    """Return whether the file has sound that can be decoded; None if it cannot be read. Reads its header alone."""
    try:
        with open_media(path) as container:
            return sound_stream(container) is not None
    except DecodeError:
        return None


def track_notes(container: Any, kind: str) -> list[str]:
    """Return what a user should know about the choice among a file's `video` or `audio` tracks."""
    streams = container.streams.video if kind == "video" else container.streams.audio
    streams = [s for s in streams if not s.disposition & Disposition.attached_pic]
    name = "video" if kind == "video" else "sound"
    chosen = _preferred(streams)
    if not streams:
        return []
    if chosen is None:
        return [f"its {name} cannot be decoded here ({_codec_tag(streams[0])}) and is left out"]
    if len(streams) == 1:
        return []
    why = "the default one" if chosen.disposition & Disposition.default else "the first that can be decoded"
    return [f"track {streams.index(chosen) + 1} of {len(streams)} {name} tracks is read, {why}"]


def decoded(path: Path, container: Any) -> Iterator[Any]:
    """Yield the `av.VideoFrame`s that are shown, in presentation order, from where the container stands.

    Pictures before the first key frame cannot be shown and are left out: those a cut without re-encoding leaves
    without what they refer to.

    Raises:
        DecodeError: a frame is damaged.
    """
    yield from _decoded(path, container, _facts_of(path).keyed)


def displayed(path: Path, frame: Any, stream: Any) -> tuple[int, int, Orientation]:
    """Return (width, height, orientation) of the picture as a player shows it.

    Raises:
        DecodeError: its size or its pixels' shape is absurd.
    """
    width, height = stored_size(path, frame, pixel_aspect(stream))
    orientation = Orientation.of(frame)
    return (height, width, orientation) if orientation.transposed else (width, height, orientation)


def is_still(container: Any) -> bool:
    """Whether the file is a picture, whose density is about paper and not about the shape of its pixels."""
    name = container.format.name
    return bool(name == "image2" or name.endswith("_pipe"))


def pixel_aspect(stream: Any) -> Fraction | None:
    """Return width over height of the stream's pixels; None where nothing is said, or for stills."""
    return None if is_still(stream.container) else stream.sample_aspect_ratio


def _preferred(streams: Sequence[Any]) -> Any | None:
    usable = [s for s in streams if s.codec_context is not None]
    return min(
        usable,
        key=lambda s: (bool(s.disposition & _SIDE_TRACKS), not s.disposition & Disposition.default),
        default=None,
    )


def _codec_tag(stream: Any) -> str:
    return "a codec of unknown name" if stream.codec_context is None else stream.codec_context.name


def _facts_of(path: Path) -> _Facts:
    return _facts(Path(path).absolute(), identity(path))


@lru_cache(maxsize=64)
def _facts(path: Path, _identity: tuple[int, ...]) -> _Facts:
    """Read the times of all frames from the packets, or by decoding where packets do not tell; remembered."""
    with open_media(path) as container:
        stream = video_stream(path, container)
        check_size(path, stream.codec_context.width, stream.codec_context.height, stream.codec_context.format)
        sound = sound_stream(container) is not None
        notes = track_notes(container, "video")
        if not sound:
            notes += track_notes(container, "audio")
        found = _packet_times(path, container, stream)
        packets = len(found.times)
    with open_media(path) as container:
        stream = video_stream(path, container)
        frames = _decoded(path, container, found.keyed)
        first = next(frames, None)
        if first is None:
            raise _damaged(path, "it has a video stream but no frame")
        width, height, orientation = displayed(path, first, stream)
        base = stream.time_base
        if not found.tells or first.interlaced_frame:
            step = round(1 / ((stream.average_rate or Fraction(FPS)) * base))
            found.times = [(0 if first.pts is None else first.pts, first.duration or step)]
            for index, frame in enumerate(frames, start=1):
                found.times.append((index * step if frame.pts is None else frame.pts, frame.duration or step))
        notes += [note for note in (colour_note(first),) if note]
        if found.leading and (left := packets - len(found.times)) > 0:
            notes.append(f"{left} pictures before its first key frame left out")
    times = timeline(path, [tick for tick, _ in found.times], max(found.times)[1], base)
    if times.longest > 1:
        notes.append(f"a picture stands for {times.longest:.1f} s")
    return _Facts(
        times=times,
        keyed=found.keyed,
        width=width,
        height=height,
        orientation=orientation,
        has_audio=sound,
        notes=tuple(notes),
    )


@dataclass(slots=True)
class _PacketTimes:
    """What the packets say.

    Attributes:
        times: (time, duration) in ticks of every packet that is not to be discarded.
        tells: these are the times of the frames.
        keyed: some packet is a key frame.
        leading: there are pictures before the first key frame.
    """

    times: list[tuple[int, int]]
    tells: bool
    keyed: bool
    leading: bool


def _packet_times(path: Path, container: Any, stream: Any) -> _PacketTimes:
    times: list[tuple[int, int]] = []
    tells = stream.codec_context.name in _ONE_PACKET_ONE_FRAME
    key: int | None = None
    keys, leading = 0, False
    for number, packet in enumerate(container.demux(stream)):
        if packet.size == 0:
            continue
        if packet.is_corrupt:
            raise _damaged(path, f"it ends early, after {len(times)} of {stream.frames or 'its'} frames")
        if packet.is_keyframe:
            keys += 1
            if key is None:
                key = packet.pts
        elif keys == 0 or (keys == 1 and key is not None and packet.pts is not None and packet.pts < key):
            leading, tells = True, False
        if packet.is_discard:
            continue
        if packet.pts is None:
            tells = False
        times.append((number if packet.pts is None else packet.pts, packet.duration or 0))
    if not times:
        raise _damaged(path, "it has a video stream but no frame")
    if len({tick for tick, _ in times}) < len(times):
        tells = False
    return _PacketTimes(times, tells, keyed=keys > 0, leading=leading)


def _decoded(path: Path, container: Any, keyed: bool) -> Iterator[Any]:
    stream = video_stream(path, container)
    decoder = _decoder(stream)
    keys = index = 0
    key: int | None = None
    for packet in container.demux(stream):
        if packet.is_keyframe and packet.size:
            keys += 1
            key = packet.pts if keys == 1 else key
        elif keyed and keys == 0 and packet.size:
            continue
        try:
            frames = decoder.decode(packet) if packet.size else decoder.decode(None)
        except av.InvalidDataError:
            if keys == 1 and key is not None and packet.pts is not None and packet.pts < key:
                continue
            raise
        for frame in frames:
            early = keys == 1 and key is not None and frame.pts is not None and frame.pts < key
            if early and stream.codec_context.name == "h264":  # shown as they are, they would be grey or torn
                continue
            if frame.is_corrupt:
                raise _damaged(path, f"frame {index} is damaged")
            index += 1
            yield frame


def _decoder(stream: Any) -> Any:
    """Return what decodes the stream; FFmpeg's own decoders do not know the transparency of VP8 and VP9."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    decoder = av.CodecContext.create(name, "r")
    decoder.thread_count = 1
    return decoder


def _readable(path: Path) -> tuple[int, ...] | str:
    """Return what identifies a file that can be read, or why it cannot be; never waits for a pipe's writer."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            return "it is a folder"
        if not stat.S_ISREG(found.st_mode):
            return "it is a pipe, a socket or a device, not a regular file"
        with path.open("rb") as file:
            if not file.read(1):
                return "the file is empty (0 bytes)"
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    except (OSError, ValueError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()


def _damaged(path: Path, reason: str) -> DecodeError:
    return DecodeError(
        f"Cannot read {path}: {reason}. It is damaged, incomplete or not a media file.",
        f"Try to play it; if it plays, convert it: ffmpeg -i {str(path)!r} -c:v libx264 -c:a aac fixed.mp4",
    )
