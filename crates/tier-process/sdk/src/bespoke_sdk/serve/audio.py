"""Speech: tts, stt and vad."""

from __future__ import annotations

import codecs
import contextlib
import functools
import re
from array import array
from collections.abc import AsyncIterator
from typing import Any, Dict, List, Optional

from bespoke_sdk import audio
from bespoke_sdk.errors import ErrorCodes, PluginError
from bespoke_sdk.run import accepted, on_thread, pieces, run
from bespoke_sdk.serve.base import Bulk, Served, Stream, text_of
from bespoke_sdk.specs import default_rate, offers
from contracts.stt_contract import STTContract
from contracts.tts_contract import TTSContract

_LIVE_RATE = 16000
#: Samples of one event.
_PIECE = 1 << 16
#: Between two sentences: space behind a mark, or behind a mark and a closing quote; nothing at all where no spaces are written.
_SENTENCE = re.compile(r"""(?<=[.!?\u2026])\s+|(?<=[.!?\u2026]["')\]\u201d\u2019])\s+|(?<=[\u3002\uff01\uff1f])|\n+""")


async def voices(served: Served, call: Any, name: str, args: Any, blob: bytes) -> List[Dict[str, Any]]:
    """``tts.voices``."""
    found = await run(served.plugin.get_voices)
    out = []
    for voice in found:
        entry = {"id": voice} if isinstance(voice, str) else voice if isinstance(voice, dict) else vars(voice)
        out.append({"id": str(entry["id"]), "language": str(entry.get("language") or entry.get("lang") or "und")})
    return out


async def speak(served: Served, stream: Stream, name: str, args: Any) -> AsyncIterator[Bulk]:
    """``tts.open``: each sentence is synthesised as soon as it is complete."""
    voice = args.get("voice")
    if voice is not None:
        known = [v["id"] for v in await voices(served, None, name, None, b"")]
        if known and voice not in known:
            message = f"there is no voice `{voice}`"
            raise PluginError(ErrorCodes.TTS_VOICE_NOT_FOUND, message, help=f"voices: {', '.join(known[:20])}")
    async for sentence in _sentences(stream):
        async for bulk in _synthesize(served, sentence, voice, args.get("speed")):
            yield bulk


async def _sentences(stream: Stream) -> AsyncIterator[str]:
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    text = ""
    async for piece in stream.input():
        text += decode(piece)
        *whole, text = _SENTENCE.split(text)
        for sentence in whole:
            if sentence.strip():
                yield sentence.strip()
    text += decode(b"", True)
    if text.strip():
        yield text.strip()


async def _synthesize(served: Served, text: str, voice: Optional[str], speed: Optional[float]) -> AsyncIterator[Bulk]:
    plugin = served.plugin
    streams = offers(type(plugin), TTSContract, "synthesize_stream")
    method = plugin.synthesize_stream if streams else plugin.synthesize
    options = None if speed is None else {"speed": speed}
    made = await run(method, text, **accepted(method, {"voice_id": voice, "speed": speed, "options": options}))
    rate = _rate(served)
    empty = True
    async for piece in pieces(made):
        data, its_rate, layout = piece, rate, ""
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            data = piece.get("audio_data") if isinstance(piece, dict) else getattr(piece, "audio_data", None)
            get = piece.get if isinstance(piece, dict) else lambda key, p=piece: getattr(p, key, None)
            its_rate, layout = get("sample_rate") or rate, get("format") or ""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            message = f"{method.__name__} returned {type(piece).__name__} instead of bytes or a SynthesisResult"
            raise PluginError(ErrorCodes.TTS_SYNTHESIS_FAILED, message)
        samples, its_rate = audio.samples_of(bytes(data), its_rate, "" if layout == "wav" else layout)
        for at in range(0, len(samples), _PIECE):
            empty = False
            chunk = audio.floats_to_bytes(samples[at : at + _PIECE])
            yield Bulk({"audio": {"samples": [], "rate": its_rate}}, chunk)
    if empty:
        raise PluginError(ErrorCodes.TTS_SYNTHESIS_FAILED, f"{method.__name__} made no audio of {text[:40]!r}")


def _rate(served: Served) -> int:
    """Samples per second of raw audio of a plugin."""
    rate = served.config.get("sample_rate")
    return rate if isinstance(rate, int) and rate > 0 else default_rate(served.loaded)


async def transcribe(served: Served, call: Any, name: str, args: Any, blob: bytes) -> Dict[str, Any]:
    """``stt.transcribe``."""
    recording = args["audio"]
    samples = audio.floats(blob) if blob else array("f", recording.get("samples", []))
    rate = recording["rate"]
    if not samples or rate <= 0:
        raise PluginError(ErrorCodes.STT_AUDIO_INVALID, "the recording is empty" if rate > 0 else f"the rate is {rate}")
    if any(s != s for s in samples):
        raise PluginError(ErrorCodes.STT_AUDIO_INVALID, "the recording has samples that are no numbers")
    language = args.get("language")
    if language is not None:
        await _check_language(served, language)
    wav = audio.to_wav(samples, rate)
    method = served.plugin.transcribe
    said = await run(method, wav, **accepted(method, {"language": language, "sample_rate": rate}))
    return _transcript(said, method.__name__)


async def _check_language(served: Served, language: str) -> None:
    known = []
    for entry in await run(served.plugin.get_languages):
        code = entry if isinstance(entry, str) else entry.get("code") or entry.get("id") or entry.get("language")
        known.append(str(code).lower())
    # `en` speaks for `en-US`, and the other way round.
    if known and not any(k == language.lower() or k.split("-")[0] == language.lower().split("-")[0] for k in known):
        message = f"the language `{language}` is not supported"
        raise PluginError(ErrorCodes.STT_LANGUAGE_NOT_SUPPORTED, message, help=f"languages: {', '.join(known[:40])}")


def _transcript(said: Any, method: str) -> Dict[str, Any]:
    text = text_of(said, ("text",))
    if text is None:
        message = f"{method} returned {type(said).__name__} instead of a text"
        raise PluginError(ErrorCodes.STT_TRANSCRIPTION_FAILED, message)
    out: Dict[str, Any] = {"text": text}
    if isinstance(said, str):
        return out
    entry = said if isinstance(said, dict) else vars(said)
    if isinstance(entry.get("language"), str):
        out["language"] = entry["language"]
    segments = [_segment(s if isinstance(s, dict) else vars(s)) for s in entry.get("segments") or []]
    return {**out, "segments": segments} if segments else out


def _segment(entry: Dict[str, Any]) -> Dict[str, Any]:
    def at(which: str) -> int:
        return int(entry[f"{which}_ms"]) if f"{which}_ms" in entry else round(1000 * float(entry.get(which) or 0))

    return {"start_ms": at("start"), "end_ms": at("end"), "text": str(entry.get("text", ""))}


async def listen(served: Served, stream: Stream, name: str, args: Any) -> AsyncIterator[Dict[str, Any]]:
    """``stt.open``, over a session of the plugin."""
    plugin, rate = served.plugin, args["sample_rate"]
    if not all(offers(type(plugin), STTContract, m) for m in ("start_stream", "feed_audio", "end_stream")):
        raise PluginError(ErrorCodes.METHOD_NOT_FOUND, "stt.open is not supported: the plugin transcribes whole recordings")
    given = accepted(plugin.start_stream, {"sample_rate": rate, "language": args.get("language")})
    if "sample_rate" not in given and rate != _LIVE_RATE:
        message = f"start_stream takes no sample_rate, so that audio has to come at {_LIVE_RATE} Hz; this is {rate}"
        raise PluginError(ErrorCodes.STT_AUDIO_INVALID, message)
    session = await run(plugin.start_stream, **given)
    at, ended = 0, False
    try:
        async for piece in stream.input():
            samples = audio.floats(piece)
            at += len(samples)
            heard = await run(plugin.feed_audio, session, audio.to_s16(samples))
            event = _heard(heard, at)
            if event is not None:
                yield event
        ended = True
        last = await run(plugin.end_stream, session)
        if last is not None:
            transcript = _transcript(last, "end_stream")
            if transcript["text"]:
                yield {"type": "final", "at": at, "transcript": transcript}
    finally:
        if not ended:
            # The stream was dropped: the session must not stay, and nobody wants its words.
            with contextlib.suppress(Exception):
                await run(plugin.end_stream, session)


def _heard(heard: Any, at: int) -> Optional[Dict[str, Any]]:
    if heard is None:
        return None
    entry = heard if isinstance(heard, dict) else {"text": heard} if isinstance(heard, str) else vars(heard)
    text = text_of(entry, ("text", "partial", "transcript"))
    if not text:
        return None
    if entry.get("is_final") or entry.get("final"):
        return {"type": "final", "at": at, "transcript": _transcript({**entry, "text": text}, "feed_audio")}
    return {"type": "interim", "at": at, "text": text}


async def detect(served: Served, stream: Stream, name: str, args: Any) -> AsyncIterator[Dict[str, Any]]:
    """``vad.open``."""
    detector = await run(served.plugin.open, args["sample_rate"])
    async for piece in stream.input():
        for event in await on_thread(functools.partial(_push, detector, audio.floats(piece))):
            yield event


def _push(detector: Any, samples: array) -> List[Dict[str, Any]]:
    return list(detector.push(samples) or [])
