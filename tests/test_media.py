"""Decoding: exact times and pixels on clips that carry their frame numbers and on real files; broken files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter

import clips
from paths import realdata
from videomatch.media.container import Unreadable, decoded, flush, packets, probe
from videomatch.media.decode import FrameRequest, Sampler
from videomatch.media.sound import SoundRequest

HALF = Fraction(1, 2)


def collect(path: Path, *requests: FrameRequest | SoundRequest, **options: bool) -> tuple[list[np.ndarray], Sampler]:
    """All values of each request, and the sampler; checks that chunks come in order."""
    sampler = Sampler(path, requests, **options)
    parts: list[list[np.ndarray]] = [[] for _ in requests]
    for chunk in sampler:
        assert chunk.first == sum(map(len, parts[chunk.request]))
        parts[chunk.request].append(chunk.values)
    return [np.concatenate(p) if p else np.zeros((0,)) for p in parts], sampler


def on_screen(pts: Sequence[int], time_base: Fraction, every: Fraction, count: int) -> list[int]:
    """The slow obvious answer: the last picture at or before each grid point."""
    order = sorted(pts)
    return [bisect_right(order, order[0] + k * every / time_base) - 1 for k in range(count)]


RNG = np.random.default_rng(5)
CFR = list(range(150))
VFR = np.cumsum(RNG.integers(1, 9, 150)).tolist()
GAPS = [n + 200 * (n > 40) + 35 * (n > 90) for n in range(150)]
NTSC = Fraction(1001, 30000)
CLIPS = {
    "cfr.mp4": (CFR, Fraction(1, 30), {}),
    "ntsc_b3.mp4": (CFR, NTSC, {"bf": "3", "g": "250"}),
    "short_gop.mp4": (CFR, Fraction(1, 30), {"bf": "2", "g": "12"}),
    "open_gop.mp4": (CFR, Fraction(1, 30), {"bf": "3", "g": "24", "x264-params": "open-gop=1:b-pyramid=normal"}),
    "open_gop.mkv": (CFR, Fraction(1, 25), {"bf": "3", "g": "18", "x264-params": "open-gop=1:scenecut=0"}),
    "vfr.mp4": (VFR, Fraction(1, 90), {"bf": "3", "g": "40"}),
    "gaps.mkv": (GAPS, Fraction(1, 30), {"bf": "2", "g": "30"}),
    "offset.mkv": ([n + 41 for n in CFR], Fraction(1, 30), {"bf": "2"}),
    "avi.avi": (CFR, Fraction(1, 30), {"bf": "2"}),
    "flv.flv": (CFR, Fraction(1, 30), {"bf": "2"}),
    "mov.mov": (CFR, Fraction(1, 30), {"bf": "0"}),
    "ts.ts": (CFR, Fraction(1, 30), {"bf": "2", "g": "20"}),
    "one.mp4": ([0], Fraction(1, 30), {}),
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("every", [HALF, Fraction(1, 7)], ids=["0.5", "1/7"])
def test_pictures_are_those_on_screen(name: str, every: Fraction, tmp_path: Path) -> None:
    pts, time_base, options = CLIPS[name]
    path = clips.write(tmp_path / name, pts, time_base=time_base, options=options)
    (planned,), sampler = collect(path, FrameRequest(every))
    (full,), _ = collect(path, FrameRequest(every), decode_all=True)
    assert np.array_equal(planned, full)
    assert len(planned) == len(sampler.times(0))
    if name == "avi.avi":  # it has no time stamps: the n-th picture is shown at n / rate
        assert [clips.number_of(f) for f in planned] == on_screen(pts, time_base, every, len(planned))
        return
    # containers round time stamps (mkv and flv: to 1 ms): what counts is the time stamp that the file holds
    with av.open(str(path)) as container:
        frames = [f.pts for f in container.decode(video=0)]
        ticks = container.streams.video[0].time_base
    assert len(frames) == len(pts)
    expected = on_screen(frames, ticks, every, len(planned))
    assert [clips.number_of(f) for f in planned] == expected
    # the grid ends with the last picture
    duration = float((max(frames) - min(frames)) * ticks)
    assert (len(planned) - 1) * float(every) < duration + 0.5
    assert len(planned) * float(every) > duration - 1e-6
    if len(pts) > 1:
        assert sampler.num_decoded <= len(pts)


def test_plan_decodes_less(tmp_path: Path) -> None:
    for options, most in (({"bf": "3", "g": "250"}, 0.75), ({"bf": "2", "g": "12"}, 0.5)):
        path = clips.write(tmp_path / "a.mp4", CFR, options=options)
        _, sampler = collect(path, FrameRequest(Fraction(1)))
        assert sampler.num_decoded < most * len(CFR)
        assert not sampler.warnings


def test_hevc_and_other_codecs(tmp_path: Path) -> None:
    for name, codec, options in (
        ("a.mp4", "libx265", {"x265-params": "keyint=20:bframes=4:log-level=none"}),
        ("a.mkv", "mpeg4", {"bf": "2", "g": "15"}),
        ("a.avi", "mpeg4", {"bf": "2", "g": "15"}),
        ("a.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime", "cpu-used": "8"}),
        ("b.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "16"}),
        ("a.mpg", "mpeg1video", {"bf": "2", "g": "12"}),
    ):
        pts = range(60)
        path = clips.write(tmp_path / name, pts, codec=codec, options={"b": "1M", **options})
        (planned,), sampler = collect(path, FrameRequest(Fraction(1, 5)))
        (full,), _ = collect(path, FrameRequest(Fraction(1, 5)), decode_all=True)
        assert np.array_equal(planned, full), name
        numbers = [clips.number_of(f) for f in planned]
        assert numbers == on_screen(pts, Fraction(1, 30), Fraction(1, 5), len(numbers)), (name, sampler.warnings)


def test_requests_share_one_decoding(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", CFR, tone=1.0)
    (small, large, sound), sampler = collect(
        path, FrameRequest(HALF, (8, 20)), FrameRequest(Fraction(1, 3), 24), SoundRequest(HALF)
    )
    assert small.shape == (10, 8, 20, 3)
    assert large.shape == (15, 24, 80, 3)
    assert sound.shape == (10, 8000)
    alone = collect(path, FrameRequest(HALF, (8, 20)))[0][0]
    assert np.array_equal(small, alone)
    level = np.abs(sound).max(1)
    assert level[:2].max() < 0.1  # silence before the tone begins at 1 s
    assert level[3:9].min() > 0.3
    assert np.allclose(sampler.times(0)[:2], [[0, 0.5], [0.5, 1]])
    assert sampler.times(0)[-1, 1] == pytest.approx(5.0)


def test_sound_requests_share_one_decoding(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", CFR, tone=0.5)
    (half, whole), _ = collect(path, SoundRequest(HALF), SoundRequest(Fraction(1)))
    assert np.array_equal(half.reshape(-1), whole.reshape(-1))
    assert np.array_equal(whole, collect(path, SoundRequest(Fraction(1)))[0][0])


def test_sound_is_counted_from_the_first_picture(tmp_path: Path) -> None:
    # pictures begin 1 s after the sound does: the tone from 2 s on begins 1 s after the first picture
    path = clips.write(tmp_path / "a.mkv", [n + 30 for n in CFR], tone=2.0)
    (_, sound), _ = collect(path, FrameRequest(HALF), SoundRequest(Fraction(1, 4)))
    level = np.abs(sound).max(1)
    assert level[:3].max() < 0.1
    assert level[5:14].min() > 0.3


def test_geometry(tmp_path: Path) -> None:
    upright = clips.write(tmp_path / "a.mp4", range(20))
    (plain,), _ = collect(upright, FrameRequest(HALF))
    # (a, b, c, d): 90 degrees clockwise, 180, 90 counterclockwise
    for matrix, turns in (((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)):
        path = clips.turn(clips.write(tmp_path / "b.mp4", range(20)), matrix)
        (turned,), _ = collect(path, FrameRequest(HALF))
        assert np.array_equal(turned, np.stack([np.rot90(f, turns) for f in plain]))
        facts = probe(path)
        assert (facts.height, facts.width) == turned.shape[1:3]
        assert (90 * facts.turns, facts.mirrored) == (turns * 90 % 360, False)
        (small,), _ = collect(path, FrameRequest(HALF, (30, 20)))
        assert small.shape[1:3] == (30, 20)
        (other,), _ = collect(upright, FrameRequest(HALF, (20, 30) if turns % 2 else (30, 20)))
        assert np.array_equal(small, np.stack([np.rot90(f, turns) for f in other]))
    wide = clips.write(tmp_path / "c.mp4", range(20), sar=Fraction(2))
    assert (probe(wide).width, probe(wide).height) == (2 * clips.WIDTH, clips.HEIGHT)
    assert collect(wide, FrameRequest(HALF))[0][0].shape[1:3] == (clips.HEIGHT, 2 * clips.WIDTH)
    odd = clips.write(tmp_path / "d.mkv", range(20), codec="ffv1", size=(161, 47))
    assert collect(odd, FrameRequest(HALF))[0][0].shape[1:3] == (47, 161)
    assert collect(odd, FrameRequest(HALF, 15))[0][0].shape[1:3] == (15, 15 * 161 // 47)
    dot = clips.write(tmp_path / "e.mkv", range(3), codec="ffv1", size=(16, 16))
    assert collect(dot, FrameRequest(HALF, 224))[0][0].shape[1:3] == (16, 16)  # never enlarged


def test_one_pixel(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=2)
        stream.width = stream.height = 1
        stream.pix_fmt = "bgr0"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((1, 1, 3), 90, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert (probe(path).width, probe(path).height) == (1, 1)
    (frames,), _ = collect(path, FrameRequest(HALF, (8, 8)))
    assert frames.shape == (4, 8, 8, 3)
    assert np.abs(frames.astype(int) - 90).max() <= 2


def test_unreadable_files_have_a_reason(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("no video at all\n" * 100)
    sound = tmp_path / "sound.m4a"
    with av.open(str(sound), "w") as container:
        clips.add_sound(container, 0.0, 1.0)
    whole = clips.write(tmp_path / "whole.mp4", CFR)
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(whole.read_bytes()[:3000])  # the index of an mp4 is at its end
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    for path, words in (
        (empty, "empty"),
        (text, "not a media file"),
        (sound, "no video stream (it holds: audio)"),
        (headless, "not a media file"),
        (tmp_path, "not a file"),
        (tmp_path / "missing.mp4", "does not exist"),
        (playlist, ""),
        (clips.write(tmp_path / "span.mkv", range(0, 100 * 80_000, 80_000)), "span 73 hours"),
    ):
        with pytest.raises(Unreadable) as caught:
            probe(path)
        assert words in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
        with pytest.raises(Unreadable):
            collect(path, FrameRequest(HALF))


def test_truncated_keeps_what_is_there(tmp_path: Path) -> None:
    whole = clips.write(tmp_path / "a.mp4", CFR, container_options={"movflags": "faststart"})
    (all_frames,), _ = collect(whole, FrameRequest(Fraction(1, 5)))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    (frames,), sampler = collect(cut, FrameRequest(Fraction(1, 5)))
    assert any(w.startswith("truncated") for w in sampler.warnings)
    assert any(w.startswith("truncated") for w in probe(cut).warnings)
    assert 3 < len(frames) < len(all_frames)
    assert np.array_equal(frames[:-2], all_frames[: len(frames) - 2])


def test_flipped_bytes_never_raise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a.mp4", "a.mkv", "a.ts"):
        whole = clips.write(tmp_path / name, CFR, options={"g": "30", "bf": "2"}, tone=0.0)
        for share in (0.002, 0.05):
            data = np.frombuffer(whole.read_bytes(), np.uint8).copy()
            hit = rng.random(len(data)) < share
            hit[:1000] = False
            data[hit] = rng.integers(0, 256, hit.sum())
            bad = tmp_path / f"bad_{name}"
            bad.write_bytes(data.tobytes())
            try:
                (frames, _), sampler = collect(bad, FrameRequest(HALF, 24), SoundRequest(HALF))
            except Unreadable:
                continue
            assert len(frames) <= len(sampler.times(0))
            assert sampler.warnings, (name, share)


def test_attached_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=16000, layout="mono")
        cover = container.add_stream("png")
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with pytest.raises(Unreadable, match="no video stream"):
        probe(path)


@pytest.mark.parametrize("name", ["a.mp4", "b.mp4", "c.mp4"])
def test_jumps_over_whole_groups(name: str, tmp_path: Path) -> None:
    """Wide steps leave whole groups out, open ones too: no picture is lost, and nothing is decoded in full instead."""
    codec, options = {
        "a.mp4": ("libx264", {"bf": "3", "g": "12", "x264-params": "open-gop=1:scenecut=0"}),
        "b.mp4": ("libx264", {"bf": "2", "g": "12"}),
        "c.mp4": ("libx265", {"x265-params": "keyint=12:bframes=4:open-gop=1:log-level=none"}),
    }[name]
    path = clips.write(tmp_path / name, CFR, codec=codec, options=options)
    (full,), _ = collect(path, FrameRequest(Fraction(1, 30)), decode_all=True)
    assert [clips.number_of(f) for f in full] == CFR
    for step in range(1, 75, 2):
        (planned,), sampler = collect(path, FrameRequest(Fraction(step, 30)))
        assert np.array_equal(planned, full[::step]), step
        assert not sampler.warnings
        # at most the group, and the one before it where a wanted picture refers back, of each wanted picture
        assert sampler.num_decoded <= min(len(CFR), 25 * len(planned)), step


def test_real_files_planned_equals_full() -> None:
    folder = realdata() / "videos"
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size < 400_000)
    assert len(files) > 10
    for path in files:
        requests = [FrameRequest(HALF, 64)]
        (planned,), sampler = collect(path, *requests)
        (full,), _ = collect(path, *requests, decode_all=True)
        assert np.array_equal(planned, full), path.name
        assert len(planned) == len(sampler.times(0))
        facts = probe(path)
        assert (len(planned) - 1) * 0.5 < facts.duration <= len(planned) * 0.5 + 1e-9
        with av.open(str(path)) as container:
            pts = sorted(f.pts for f in container.decode(video=0))
        assert sampler.timeline is not None
        assert pts[0] == sampler.timeline.start
        assert facts.num_frames == len(pts), path.name


def test_real_counter_shows_the_expected_numbers() -> None:
    """Neighbouring grid points of the counter clip show different numbers, and each equals a full decode's picture."""
    path = realdata() / "videos" / "Breakthrough+PySceneDetect" / "counter.mp4"
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        everything = {round(float(f.time * rate)): f.to_ndarray(format="rgb24") for f in container.decode(video=0)}
    (frames,), _ = collect(path, FrameRequest(HALF))
    for k, frame in enumerate(frames):
        differences = {n: np.abs(frame[::8, ::8].astype(int) - f[::8, ::8]).mean() for n, f in everything.items()}
        assert min(differences, key=lambda n: differences[n]) == k * rate / 2


def test_empty_packets_repeat_the_frame_before(tmp_path: Path) -> None:
    source = clips.write(tmp_path / "a.mp4", range(60), options={"bf": "0", "g": "10", "refs": "1"})
    for empty in ([9, 19], [8, 9, 28, 29, 39], [59]):  # the last ones of their groups: no other frame refers to them
        path = clips.remux(tmp_path / "a.nut", source, empty=empty)
        (frames,), sampler = collect(path, FrameRequest(Fraction(1, 30)))
        there = [n for n in range(60) if n not in empty]
        assert [clips.number_of(f) for f in frames] == [there[bisect_right(there, n) - 1] for n in range(60)]
        assert np.array_equal(frames, collect(path, FrameRequest(Fraction(1, 30)), decode_all=True)[0][0])
        assert not sampler.warnings
        assert (probe(path).num_frames, probe(path).duration) == (60 - len(empty), 2)


def test_theora_repeats_frames_by_empty_packets() -> None:
    path = Path(__file__).parent / "cases/theora.ogv"
    (frames,), sampler = collect(path, FrameRequest(HALF, (24, 32)))
    assert sampler.timeline is not None and not sampler.warnings
    assert (sampler.timeline.num_frames, sampler.timeline.duration) == (112, 12)
    with av.open(str(path)) as container:
        stream, scaler, shown = container.streams.video[0], VideoReformatter(), {}
        for packet in container.demux(stream):
            for frame in stream.codec_context.decode(packet) if packet.size else []:
                image = scaler.reformat(frame, 32, 24, "rgb24", interpolation=Interpolation.AREA)
                shown[frame.pts * stream.time_base] = image.to_ndarray()
    at = on_screen(list(shown), Fraction(1), HALF, 24)
    assert np.abs(frames - np.stack(list(shown.values()))[at].astype(float)).mean(axis=(1, 2, 3)).max() <= 2


def test_what_comes_after_the_end_of_a_stream_is_a_warning(tmp_path: Path) -> None:
    with av.open(str(clips.write(tmp_path / "a.mp4", range(9)))) as container:
        stream = container.streams.video[0]
        found: list[str] = []
        decoded(stream, flush(stream), found)
        for packet in packets(container, [stream], found):
            decoded(stream, packet, found)
    assert found == ["a packet came after the end of its stream and was not decoded"]


HOURS = 3600 * 30
JOINED = {
    "again": [0, 0],  # pictures from which on each part has its time stamps
    "thrice": [0, 0, 0],
    "forward": [0, 4 * HOURS],
    "back": [20 * HOURS, 2 * HOURS],
    "there and back": [HOURS, 9 * HOURS, HOURS + 200],
    "a little back": [1000, 1050],
    "not at all": [2**33 // 3000 - 30],  # the 33 bits of its clock overflow
}


@pytest.mark.parametrize("name", JOINED)
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2", "g": "20"}], ids=["bf0", "bf2"])
def test_joined_recordings(name: str, options: dict[str, str], tmp_path: Path) -> None:
    parts = [
        clips.write(tmp_path / f"{k}.ts", [first + n for n in range(60)], options=options)
        for k, first in enumerate(JOINED[name])
    ]
    path = clips.join(tmp_path / "a.ts", *parts)
    (frames,), sampler = collect(path, FrameRequest(Fraction(1, 5)))
    assert [clips.number_of(f) for f in frames] == len(parts) * list(range(0, 60, 6))
    assert np.array_equal(frames, collect(path, FrameRequest(Fraction(1, 5)), decode_all=True)[0][0])
    assert sampler.timeline is not None
    assert sampler.timeline.duration == 2 * len(parts)
    assert sampler.num_decoded < 60 * len(parts) or options == {"bf": "0"}
    jumps = [w for w in sampler.warnings if "clock jumps" in w]
    assert sampler.warnings == jumps
    assert jumps or len(parts) == 1


def test_the_sound_of_joined_recordings(tmp_path: Path) -> None:
    parts = [clips.write(tmp_path / f"{k}.ts", range(60), tone=tone) for k, tone in enumerate((1.0, 0.5))]
    (frames, sound), _ = collect(
        clips.join(tmp_path / "a.ts", *parts), FrameRequest(HALF), SoundRequest(Fraction(1, 4))
    )
    assert (len(frames), len(sound)) == (8, 16)
    level = np.abs(sound).max(1)
    assert level[[0, 1, 2, 9]].max() < 0.1
    assert level[[5, 6, 11, 12, 13]].min() > 0.3


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.nut", "a.webm"])
def test_hours_between_two_frames_are_none(name: str, tmp_path: Path) -> None:
    codec = "libvpx" if name == "a.webm" else "libx264"
    for pts in ([0, 47 * HOURS], [*range(30), *range(30 * HOURS, 30 * HOURS + 30)]):
        path = clips.write(tmp_path / name, pts, codec=codec)
        (frames,), sampler = collect(path, FrameRequest(Fraction(1, 5)))
        assert len(frames) == len(sampler.times(0)) == max(1, len(pts) // 6)
        assert any("clock jumps" in warning for warning in sampler.warnings)
    # in a format whose clock does not start again a picture may stay for minutes
    if name != "a.ts":
        path = clips.write(tmp_path / name, [0, 600 * 30], codec=codec)
        assert probe(path).duration == pytest.approx(600, abs=0.1)
        assert not probe(path).warnings


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_display_matrix(turns: int, mirrored: bool, tmp_path: Path) -> None:
    plain = clips.write(tmp_path / "a.mp4", range(20))
    (stored,), _ = collect(plain, FrameRequest(HALF))
    matrix = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turns)  # a quarter turn counterclockwise, y is down
    if mirrored:
        matrix = matrix @ [[-1, 0], [0, 1]]
    a, b, c, d = matrix.reshape(-1).tolist()
    path = clips.turn(plain, (a, b, c, d))
    (shown,), sampler = collect(path, FrameRequest(HALF))
    # the obvious way: the pixel at (x, y) is shown at (a x + c y, b x + d y), moved to where all are positive
    height, width = stored.shape[1:3]
    y, x = np.mgrid[:height, :width]
    column, row = a * x + c * y, b * x + d * y
    column, row = column - column.min(), row - row.min()
    expected = np.zeros((len(stored), row.max() + 1, column.max() + 1, 3), np.uint8)
    expected[:, row, column] = stored
    assert np.array_equal(shown, expected)
    assert (probe(path).height, probe(path).width) == shown.shape[1:3]
    assert not sampler.warnings


def test_an_odd_display_matrix_is_ignored(tmp_path: Path) -> None:
    path = clips.turn(clips.write(tmp_path / "a.mp4", range(20)), (1, 1, -1, 1))
    assert (probe(path).turns, probe(path).mirrored) == (0, False)
    assert "display matrix" in probe(path).warnings[0]


def test_best_stream(tmp_path: Path) -> None:
    film = clips.write(tmp_path / "film.mp4", range(60))
    large = clips.write(tmp_path / "large.mp4", range(60), size=(320, 96))
    long = clips.write(tmp_path / "long.mp4", range(90))
    still = clips.write(tmp_path / "still.mp4", [0], size=(640, 480), codec="mpeg4")
    stills = clips.write(tmp_path / "stills.mp4", [0, 20, 40], size=(640, 480), codec="mpeg4")
    for name in ("a.mp4", "a.mkv"):
        for streams, default, height in (
            ((still, film), 0, 48),
            ((stills, film), 1, 48),
            ((film, still), 0, 48),
            ((film, large), 1, 96),
            ((long, film), 1, 48),
            ((large, film), 1, 48),
        ):
            path = clips.remux(tmp_path / name, *streams, default=default)
            (frames,), sampler = collect(path, FrameRequest(HALF))
            assert frames.shape[:2] == (4, height) and not sampler.warnings, (name, streams)
            assert [clips.number_of(f) for f in frames] == [0, 15, 30, 45]


def test_dropped_frames_of_avi(tmp_path: Path) -> None:
    kept = [n for n in range(150) if n % 7 and not 40 < n < 60]
    for options in ({"bf": "2"}, {"bf": "3", "b-pyramid": "normal"}, {"bf": "1"}):
        source = clips.write(tmp_path / "a.ts", kept, options=options)
        path = clips.remux(tmp_path / "a.avi", source)
        (frames,), sampler = collect(path, FrameRequest(Fraction(1, 5)))
        (expected,), _ = collect(source, FrameRequest(Fraction(1, 5)))
        assert np.array_equal(frames, expected), options
        assert "times of pictures are guessed" in sampler.warnings[0]
    path = clips.remux(tmp_path / "a.avi", clips.write(tmp_path / "a.ts", range(30), options={"bf": "2"}))
    assert not probe(path).warnings
