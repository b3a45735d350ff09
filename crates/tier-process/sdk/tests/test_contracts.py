"""Each contract over the wire: specs, requests, answers and events as the host reads them."""

from __future__ import annotations

import struct
import unittest
from array import array
from typing import Any, List

from bespoke_sdk import audio
from tests.kit import Folder, PluginError

TTS = """
    import asyncio
    from contracts.base import HealthStatus
    from contracts.tts_contract import SynthesisResult, TTSContract

    class Speaker(TTSContract):
        async def initialize(self, config): return True
        async def shutdown(self): return True
        def health_check(self): return HealthStatus(self._status)

        async def get_voices(self):
            return [{"id": "anna", "name": "Anna", "language": "en-US"}, {"id": "bert"}]

        async def synthesize(self, text, voice_id=None, options=None):
            if text == "Wait.": await asyncio.sleep(3600)
            if text == "Nothing.": return b""
            if text == "Mp3.": return b"ID3 and so on"
            if text == "Odd.": return b"abc"
            if text == "None.": return None
            if text == "Full.": return SynthesisResult(b"\\0\\0\\0\\x3f", "pcm_f32le", 8000)
            if text == "Stereo.":
                import io, wave
                file = io.BytesIO()
                with wave.open(file, "wb") as w:
                    w.setnchannels(2); w.setsampwidth(2); w.setframerate(11025)
                    w.writeframes(b"\\0\\x40\\0\\0" * 3)
                return file.getvalue()
            # Raw 16 bit: the length of the text, then whether a voice and a speed were given.
            return bytes([len(text), 0, voice_id == "bert", 0, options == {"speed": 2.0}, 0])
"""

STT = """
    from contracts.base import HealthStatus
    from contracts.stt_contract import STTContract, TranscriptionResult

    class Listener(STTContract):
        async def initialize(self, config):
            self.sessions = {}
            return True
        async def shutdown(self): return True
        def health_check(self): return HealthStatus(self._status)
        def get_languages(self): return [{"code": "en"}, {"code": "de-DE"}]

        def transcribe(self, audio, language=None):
            if language == "de": return TranscriptionResult("ja", "de", [{"start": 0.5, "end": 1.25, "text": "ja"}])
            if len(audio) == 46: return 7
            return f"{audio[:4].decode()} {len(audio)} {language}"

        async def start_stream(self):
            self.sessions["s"] = b""
            return "s"

        async def feed_audio(self, session_id, audio_chunk):
            self.sessions[session_id] += audio_chunk
            n = len(self.sessions[session_id])
            return {"text": f"heard {n}", "is_final": n == 8} if n > 4 else None

        async def end_stream(self, session_id):
            return f"last of {len(self.sessions.pop(session_id))}"

        def open_sessions(self): return len(self.sessions)
"""

LLM = """
    import asyncio
    from contracts.base import HealthStatus, PluginError
    from contracts.llm_contract import LLMContract

    class Base:
        async def initialize(self, config): return True
        async def shutdown(self): return True
        def health_check(self): return HealthStatus(self._status)
"""


class Contracts(Folder):
    """A plugin of each contract."""

    def spec(self, guest: Any) -> Any:
        (only,) = guest.hello["specs"]
        return only["kind"], only["spec"]

    def refused(self, code: int, call: Any, *args: Any, **more: Any) -> PluginError:
        with self.assertRaises(PluginError) as caught:
            call(*args, **more)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return caught.exception

    def test_tts(self) -> None:
        schema = {"type": "object", "properties": {"sample_rate": {"type": "integer", "default": 22050}}}
        guest = self.guest(self.plugin("speaker", TTS, "tts", config_schema=schema))
        self.assertEqual(self.spec(guest), ("tts", {"name": "speaker", "sample_rate": 22050}))
        voices = guest.call("tts.voices", {}, name="speaker")
        self.assertEqual(voices, [{"id": "anna", "language": "en-US"}, {"id": "bert", "language": "und"}])

        def say(*texts: str, **options: Any) -> List[Any]:
            id = guest.open("tts.open", options, name="speaker")
            for text in texts:
                guest.tell("stream/data", text.encode(), id=id)
            guest.tell("stream/finish", id=id)
            return [(event["audio"]["rate"], list(audio.floats(blob))) for event, blob in guest.events(id)]

        # Cut anywhere, spoken a sentence at a time: "Hi there." and "Two… three!" and "é".
        told = [(rate, round(samples[0] * 32768)) for rate, samples in say("Hi th", "ere. Two", "… three!\n", "é")]
        self.assertEqual(told, [(22050, 9), (22050, 4), (22050, 6), (22050, 1)])
        self.assertEqual([round(s * 32768) for s in say("x", voice="bert", speed=2.0)[0][1]], [1, 1, 1])
        self.assertEqual(say("Full."), [(8000, [0.5])])
        self.assertEqual(say("Stereo."), [(11025, [0.25] * 3)])
        self.assertEqual(say("", "  "), [])
        for text in ("Nothing.", "Mp3.", "Odd.", "None."):
            self.refused(1000, say, text)
        self.assertIn("anna", self.refused(1001, say, "x", voice="carl").help or "")
        self.refused(-32000, lambda: guest.events(guest.open("tts.open", {}, name="other")))
        # What comes in one sentence is spoken before the text has ended.
        id = guest.open("tts.open", {}, name="speaker")
        guest.tell("stream/data", b"One. Tw", id=id)
        guest.take("stream/event", id)
        guest.tell("stream/reset", id=id)
        self.assertEqual(len(say("x")), 1)

    def test_a_stream_keeps_to_its_credit(self) -> None:
        guest = self.guest(self.plugin("speaker", TTS, "tts"))
        id = guest.open("tts.open", {}, name="speaker")
        guest.tell("stream/data", b"A. " * 300, id=id)
        guest.tell("stream/finish", id=id)
        for _ in range(256):
            guest.take("stream/event", id)
        self.assertTrue(guest.invoke("get_voices"))
        self.assertTrue(guest.of("stream/event", id).empty())
        guest.tell("stream/credit", id=id, amount=128)
        self.assertEqual(len(guest.events(id)), 300 - 256)
        # Input after its end, and input without credit.
        id = guest.open("tts.open", {}, name="speaker")
        guest.tell("stream/data", b"Wait. ", id=id)
        guest.tell("stream/finish", id=id)
        guest.tell("stream/data", b"x", id=id)
        guest.tell("$/cancel", id=id)
        self.refused(-32800, guest.events, id)
        # Credit for input, as it is taken.
        id = guest.open("tts.open", {}, name="speaker")
        guest.tell("stream/data", b" " * (1 << 20), id=id)
        self.assertEqual(guest.take("stream/credit", id).head["params"]["amount"], 1 << 20)
        guest.tell("stream/finish", id=id)
        self.assertEqual(guest.events(id), [])

    def test_stt(self) -> None:
        guest = self.guest(self.plugin("listener", STT, "stt"))
        self.assertEqual(self.spec(guest), ("stt", {"name": "listener", "languages": [], "streaming": True}))

        def hear(samples: List[float], rate: int = 16000, **more: Any) -> Any:
            blob = struct.pack(f"<{len(samples)}f", *samples)
            return guest.call("stt.transcribe", {"audio": {"samples": [], "rate": rate}, **more}, blob, name="listener")

        self.assertEqual(hear([0.5, -1.0]), {"text": "RIFF 48 None"})
        segments = [{"start_ms": 500, "end_ms": 1250, "text": "ja"}]
        self.assertEqual(hear([0.5, 0.5], language="de"), {"text": "ja", "language": "de", "segments": segments})
        self.refused(1101, hear, [])
        self.refused(1101, hear, [0.5, float("nan")])
        self.refused(1101, hear, [0.5], 0)
        self.refused(1102, hear, [0.5], language="fr")
        self.refused(1100, hear, [0.5])
        inline = guest.call("stt.transcribe", {"audio": {"samples": [0.5, 0.5], "rate": 8000}}, name="listener")
        self.assertEqual(inline, {"text": "RIFF 48 None"})

    def test_stt_live(self) -> None:
        guest = self.guest(self.plugin("listener", STT, "stt"), features=())
        id = guest.open("stt.open", {"sample_rate": 16000}, name="listener")
        for _ in range(3):
            guest.tell("stream/data", struct.pack("<2f", 0.5, -0.5), id=id)
        guest.tell("stream/finish", id=id)
        self.assertEqual(
            [event for event, _ in guest.events(id)],
            [
                {"type": "final", "at": 4, "transcript": {"text": "heard 8"}},
                {"type": "interim", "at": 6, "text": "heard 12"},
                {"type": "final", "at": 6, "transcript": {"text": "last of 12"}},
            ],
        )
        # A stream that was dropped leaves no session.
        id = guest.open("stt.open", {"sample_rate": 16000}, name="listener")
        for _ in range(2):
            guest.tell("stream/data", struct.pack("<2f", 0.5, -0.5), id=id)
        guest.take("stream/event", id)
        guest.tell("stream/reset", id=id)
        while guest.invoke("open_sessions"):
            pass
        id = guest.open("stt.open", {"sample_rate": 44100}, name="listener")
        self.refused(1101, guest.events, id)

    def chat(self, guest: Any, **request: Any) -> List[Any]:
        request.setdefault("messages", [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "Hi"}])
        id = guest.begin("provider.chat", request, name=guest.hello["plugin"])
        self.assertIsNone(guest.end(id)[0])
        return [event for event, _ in guest.events(id)]

    def test_llm(self) -> None:
        ways = {
            "texts": "async def complete(self, prompt, max_tokens=5): return f'{prompt}|{max_tokens}'",
            "dicts": """async def chat(self, messages, temperature=0.7, tools=None):
            if tools:
                return {"tool_calls": [{"id": "1", "function": {"name": "clock", "arguments": '{"a": 1}'}}], "finish_reason": "tool_calls"}
            return {"content": f"{messages[-1]} {temperature}", "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
        async def get_models(self): return [{"id": "m", "context_window": 8}]""",
            "streams": """async def stream_complete(self, prompt, **more):
            for word in sorted(more): yield word + " "
            yield {"finish_reason": "length"}""",
            "fails": "async def chat(self, messages): raise PluginError(1203, 'slow down')",
            "empty": "async def chat(self, messages): return {'odd': 1}",
            "waits": """async def stream_chat(self, messages):
            yield "a"
            await asyncio.sleep(3600)""",
        }
        guests = {}
        for name, way in ways.items():
            code = f"{LLM}\n    class P(Base, LLMContract):\n        {way}\n"
            guests[name] = self.guest(self.plugin(name, code, "llm"))
        self.assertEqual(self.spec(guests["texts"]), ("provider", {"name": "texts"}))
        finish = {"type": "finish", "reason": "stop"}
        prompt = "System: Be brief.\nUser: Hi\nAssistant:"
        self.assertEqual(self.chat(guests["texts"]), [{"type": "text", "text": f"{prompt}|5"}, finish])
        one = self.chat(guests["texts"], messages=[{"role": "user", "text": "Hi"}], max_tokens=9)
        self.assertEqual(one, [{"type": "text", "text": "Hi|9"}, finish])
        usage = {"prompt_tokens": 3, "cached_tokens": 0, "completion_tokens": 1}
        text = {"type": "text", "text": "{'role': 'user', 'content': 'Hi'} 0.5"}
        self.assertEqual(self.chat(guests["dicts"], temperature=0.5, model="m"), [text, {**finish, "usage": usage}])
        call = {"type": "tool_call", "call": {"id": "1", "name": "clock", "args": {"a": 1}}}
        wish = self.chat(guests["dicts"], tools=[{"name": "clock", "description": "", "input_schema": {}}])
        self.assertEqual(wish, [call, {**finish, "reason": "tool_calls"}])
        self.refused(1201, self.chat, guests["dicts"], model="n")
        model = {"id": "m", "context_window": 8, "tools": False, "json_schema": False}
        self.assertEqual(guests["dicts"].call("provider.models", {}, name="dicts"), [model])
        self.assertEqual(guests["texts"].call("provider.models", {}, name="texts")[0]["id"], "texts")
        streamed = self.chat(guests["streams"], stop=["x"], seed=1)
        self.assertEqual("".join(d["text"] for d in streamed[:-1]), "seed stop stop_sequences ")
        self.assertEqual(streamed[-1], {**finish, "reason": "length"})
        self.refused(1203, self.chat, guests["fails"])
        self.refused(1200, self.chat, guests["empty"])
        waits = guests["waits"]
        id = waits.begin("provider.chat", {"messages": []}, name="waits")
        waits.end(id)
        waits.take("stream/event", id)
        waits.tell("$/cancel", id=id)
        self.refused(-32800, waits.events, id)

    def test_tools(self) -> None:
        code = """
            import enum
            from typing import List, Literal, Optional
            from contracts.tool_contract import ToolContract, ToolOutput, tool

            class Unit(enum.Enum):
                C = "c"
                F = "f"

            class Kit(ToolContract):
                @tool(description="Adds.")
                async def add(self, a: int, b: float = 1.0): return a + b

                @tool(name="show")
                def picture(self, kind: Literal["png"], units: Optional[List[Unit]] = None):
                    '''Shows
                    a picture.

                    Not for the model.'''
                    return ToolOutput(["a", {"type": "blob", "mime": "image/png", "bytes": b"P"}, b"xy"], {"n": 1})

                @tool()
                async def wrong(self): return ToolOutput.error("try again")

                @tool()
                async def data(self): return {"a": [1]}
        """
        guest = self.guest(self.plugin("kit", code))
        specs = {s["spec"]["name"]: s["spec"] for s in guest.hello["specs"]}
        self.assertEqual(list(specs), ["add", "data", "show", "wrong"])
        self.assertEqual(specs["add"]["description"], "Adds.")
        add = {"a": {"type": "integer"}, "b": {"type": "number"}}
        schema = {"type": "object", "properties": add, "additionalProperties": False, "required": ["a"]}
        self.assertEqual(specs["add"]["input_schema"], schema)
        self.assertEqual(specs["show"]["description"], "Shows a picture.")
        units = {"type": "array", "items": {"enum": ["c", "f"]}}
        self.assertEqual(specs["show"]["input_schema"]["properties"], {"kind": {"enum": ["png"]}, "units": units})

        def call(tool: str, **args: Any) -> Any:
            return guest.end(guest.begin("tool.call", {"args": args}, name=tool))

        self.assertEqual(call("add", a=1)[0], {"content": [{"type": "text", "text": "2.0"}], "data": 2.0})
        blobs = [{"type": "blob", "mime": mime, "bytes": []} for mime in ("image/png", "application/octet-stream")]
        shown = {"content": [{"type": "text", "text": "a"}, *blobs], "data": {"n": 1}}
        self.assertEqual(call("show", kind="png"), (shown, b"\1\0\0\0P\2\0\0\0xy"))
        self.assertEqual(call("wrong")[0], {"content": [{"type": "text", "text": "try again"}], "is_error": True})
        self.assertEqual(call("data")[0], {"content": [{"type": "text", "text": '{"a": [1]}'}], "data": {"a": [1]}})

    def test_channel(self) -> None:
        code = """
            from contracts.channel_contract import ChannelContract

            class Post(ChannelContract):
                async def run(self, inbox):
                    await inbox.accept("c", "ann", "1", "hello")
                    self.taken = True

                async def send(self, chat, text, idempotency_key=None): return f"{chat}-{text}-{idempotency_key}"
                async def edit(self, chat, id, text): self.edited = (chat, id, text)
                async def stream(self, chat, pieces): return "".join([p async for p in pieces])
                def what(self): return self.edited
        """
        guest = self.guest(self.plugin("post", code, "channel"))
        spec = {"name": "post", "edits": True, "typing": False, "streams": True, "idempotent": False, "attachments": False}
        self.assertEqual(self.spec(guest), ("channel", spec))
        run = guest.begin("channel.run", {}, name="post")
        asked = guest.take("request", 1).head
        self.assertEqual(asked["method"], "inbox.accept")
        message = {"chat": "c", "sender": "ann", "id": "1", "text": "hello"}
        self.assertEqual(asked["params"]["args"], {"call": run, "message": message})
        guest.send({"id": 1, "result": None})
        self.assertIsNone(guest.end(run)[0])
        sent = guest.call("channel.send", {"chat": "c", "text": "t", "idempotency_key": "k"}, name="post")
        self.assertEqual(sent, {"chat": "c", "id": "c-t-k"})
        guest.call("channel.edit", {"message": {"chat": "c", "id": "1"}, "new": {"chat": "c", "text": "n"}}, name="post")
        self.assertEqual(guest.invoke("what"), ["c", "1", "n"])
        self.refused(-32601, guest.call, "channel.typing", {"chat": "c"}, name="post")
        id = guest.open("channel.stream", {"chat": "c"}, name="post")
        for piece in ("é".encode()[:1], "é".encode()[1:] + b"t", b"e"):
            guest.tell("stream/data", piece, id=id)
        guest.tell("stream/finish", id=id)
        self.assertEqual(guest.events(id), [({"chat": "c", "id": "éte"}, b"")])
        # Cancelled while it listens, a channel has ended well.
        run = guest.begin("channel.run", {}, name="post")
        guest.take("request", 2)
        guest.tell("$/cancel", id=run)
        self.assertIsNone(guest.end(run)[0])

    def test_channel_with_files(self) -> None:
        code = """
            from contracts.channel_contract import Attachment, ChannelContract

            class Post(ChannelContract):
                idempotent = True

                async def run(self, inbox):
                    files = [Attachment("audio/ogg", b"Og", "n.ogg", voice=True), Attachment("a/b", b"")]
                    await inbox.accept("c", "ann", "1", "", sender_name="Ann", attachments=files)

                async def send(self, chat, text, reply_to=None, attachments=()):
                    return reply_to + " " + " ".join(f"{f.name}:{f.data.decode()}" for f in attachments)
        """
        guest = self.guest(self.plugin("post", code, "channel"))
        _, spec = self.spec(guest)
        self.assertEqual((spec["idempotent"], spec["attachments"]), (True, True))
        guest.begin("channel.run", {}, name="post")
        asked = guest.take("request", 1)
        files = [{"mime": "audio/ogg", "voice": True, "size": 2, "name": "n.ogg"}, {"mime": "a/b", "voice": False, "size": 0}]
        message = asked.head["params"]["args"]["message"]
        self.assertEqual((message["sender_name"], message["attachments"]), ("Ann", files))
        self.assertEqual(asked.blob, b"\x02\0\0\0Og\0\0\0\0")
        sent = {"chat": "c", "text": "t", "reply_to": "7", "attachments": [{"mime": "m", "voice": False, "size": 1, "name": "f"}]}
        self.assertEqual(guest.call("channel.send", sent, b"\x01\0\0\0x", name="post")["id"], "7 f:x")
        self.refused(-32602, guest.call, "channel.send", sent, b"\x01\0\0\0x\0\0\0\0", name="post")

    def test_vad_embedder_command_hook_http(self) -> None:
        code = """
            from contracts.vad_contract import VADContract, speech_start, window

            class Detector:
                at = 0
                def push(self, samples):
                    self.at += len(samples)
                    yield window(self.at, max(samples))
                    if max(samples) > 0.5: yield speech_start(self.at, 0)

            class Vad(VADContract):
                def open(self, sample_rate): return Detector()
        """
        guest = self.guest(self.plugin("v", code, "vad"))
        self.assertEqual(self.spec(guest), ("vad", {"name": "v"}))
        id = guest.open("vad.open", {"sample_rate": 16000}, name="v")
        guest.tell("stream/data", audio.floats_to_bytes(array("f", [0.25, 0.75])), id=id)
        guest.tell("stream/finish", id=id)
        events = [{"type": "window", "at": 2, "probability": 0.75, "elapsed_us": 0}, {"type": "speech_start", "at": 2, "from": 0}]
        self.assertEqual([e for e, _ in guest.events(id)], events)

        code = """
            from contracts.embedder_contract import EmbedderContract
            class E(EmbedderContract):
                dimensions = 2
                async def embed(self, texts): return [[3.0, 4.0]] * (1 if texts == ["few", "er"] else len(texts))
        """
        guest = self.guest(self.plugin("e", code, "embedding"))
        self.assertEqual(self.spec(guest), ("embedder", {"name": "e", "dimensions": 2}))
        answer, blob = guest.end(guest.begin("embedder.embed", {"texts": ["a"]}, name="e"))
        self.assertEqual((answer, blob), ({"vectors": [[]]}, struct.pack("<I2f", 2, 0.6, 0.8)))
        self.refused(-32061, guest.call, "embedder.embed", {"texts": ["few", "er"]}, name="e")

        code = """
            from contracts.command_contract import CommandContract
            class C(CommandContract):
                '''Tells the weather.'''
                name, usage, require_auth = "weather", "weather CITY", False
                def run(self, args, out):
                    out.note("looking")
                    out.line(f"sun in {args[0]}")
                    return 3
        """
        guest = self.guest(self.plugin("c", code, "command"))
        spec = {"name": "weather", "about": "Tells the weather.", "usage": "weather CITY", "require_auth": False}
        self.assertEqual(self.spec(guest), ("command", spec))
        id = guest.begin("command.run", {"args": ["Rome"]}, name="weather")
        self.assertEqual(guest.end(id)[0], 3)
        told = [guest.take("$/output", id).head["params"] for _ in range(2)]
        self.assertEqual(told, [{"id": id, "note": "looking"}, {"id": id, "line": "sun in Rome"}])

        code = """
            from contracts.hook_contract import HookContract, Veto
            class H(HookContract):
                hook, priority, on_failure = "before_agent_run", 5, "closed"
                async def on(self, event):
                    if "veto" in event["input"]: return Veto("no")
                    if "same" in event["input"]: return None
                    return {**event, "input": event["input"].upper()}
        """
        guest = self.guest(self.plugin("h", code, "hook"))
        spec = {
            "name": "h",
            "hook": "before_agent_run",
            "priority": 5,
            "timeout_ms": 5000,
            "on_failure": "closed",
            "observer": False,
        }
        self.assertEqual(self.spec(guest), ("hook", spec))
        event = {"hook": "before_agent_run", "session": "s", "input": "hi"}
        replaced = {"reply": "replace", "event": {**event, "input": "HI"}}
        cases = (("hi", replaced), ("veto", {"reply": "veto", "reason": "no"}), ("same", {"reply": "continue"}))
        for text, reply in cases:
            self.assertEqual(guest.call("hook.on", {**event, "input": text}, name="h"), reply)

        code = """
            from contracts.hook_contract import HookContract, Veto, hook
            class H(HookContract):
                @hook("before_agent_run", on_failure="closed")
                async def guard(self, event): return Veto("no")
                @hook("on_event", topics=["a."])
                def on_it(self, event): self.heard = event["event"]["topic"]
                def heard_last(self): return self.heard
        """
        guest = self.guest(self.plugin("h2", code, "hook"))
        specs = {spec["spec"]["name"]: spec["spec"] for spec in guest.hello["specs"]}
        self.assertEqual(sorted(specs), ["guard", "on_it"])
        self.assertEqual((specs["guard"]["on_failure"], specs["on_it"]["topics"]), ("closed", ["a."]))
        self.assertNotIn("topics", specs["guard"])
        self.assertEqual(guest.call("hook.on", event, name="guard"), {"reply": "veto", "reason": "no"})
        told = {"hook": "on_event", "event": {"topic": "a.b", "seq": 1, "at": 1, "payload": None}}
        self.assertEqual(guest.call("hook.on", told, name="on_it"), {"reply": "continue"})
        self.assertEqual(guest.call("plugin.invoke", {"method": "heard_last", "args": {}}), "a.b")

        code = """
            from contracts.http_contract import HttpEndpointContract, HttpResponse
            class W(HttpEndpointContract):
                async def handle(self, request):
                    if request.url == "/json": return {"a": request.header("X-A")}
                    return HttpResponse(201, [("X-B", "c")], request.body[::-1])
        """
        guest = self.guest(self.plugin("w", code, "http"))
        self.assertEqual(self.spec(guest), ("http", {"name": "w", "body_limit": 1 << 20}))
        request = {"method": "POST", "url": "/", "headers": [["x-a", "1"]], "body": []}
        answer, blob = guest.end(guest.begin("http.handle", request, b"\1\2", name="w"))
        self.assertEqual((answer, blob), ({"status": 201, "headers": [["x-b", "c"]], "body": []}, b"\2\1"))
        _, blob = guest.end(guest.begin("http.handle", {**request, "url": "/json"}, name="w"))
        self.assertEqual(blob, b'{"a": "1"}')

    def test_calls_to_the_host(self) -> None:
        code = """
            from bespoke_sdk import current_call
            from contracts.tool_contract import ToolContract

            class A(ToolContract):
                async def ask(self):
                    self.host.progress({"half": True})
                    await self.host.store("k", b"\\xff")
                    stored = await self.host.load("k")
                    reply = await self.host.http("GET", "https://example.test/", {"Accept": "x"}, timeout=1.5)
                    body = await reply.read(10)
                    told = await self.host.call("tool", "clock", {"a": 1})
                    await self.host.emit("done", {"b": b"x"})
                    return [stored, reply.status, reply.header("Content-Type"), body, told, current_call().session]

                def ask_from_a_thread(self):
                    return self.host.wait(self.host.secret("KEY"))

                async def hear(self, n: int):
                    out = []
                    async for event in self.host.subscribe("a."):
                        out.append(event["topic"])
                        if len(out) == n: return out

                async def call(self): pass
        """
        guest = self.guest(self.plugin("a", code))
        id = guest.begin("plugin.invoke", {"method": "ask"}, cx={"session": "s1"})
        asked = []

        def answer(number: int, result: Any, blob: bytes = b"") -> None:
            message = guest.take("request", number)
            asked.append((message.head["method"], message.head["params"]["args"], message.blob))
            guest.send({"id": number, "result": result}, blob)

        answer(1, None)
        answer(2, [], b"\xff")
        answer(3, {"status": 200, "headers": [["content-type", "t"]]})
        for piece in (b"bo", b"dy"):
            guest.tell("stream/event", piece, id=3, event=[])
        guest.tell("stream/end", id=3)
        answer(4, {"time": 1})
        answer(5, None)
        b64 = {"base64": "/w=="}, {"base64": "Ym9keQ=="}
        self.assertEqual(guest.end(id)[0], [b64[0], 200, "t", b64[1], {"time": 1}, "s1"])
        request = {"method": "GET", "url": "https://example.test/", "headers": [["accept", "x"]], "body": [], "timeout_ms": 1500}
        self.assertEqual(
            asked,
            [
                ("host.store", {"key": "k", "value": []}, b"\xff"),
                ("host.load", "k", b""),
                ("host.http", request, b""),
                ("host.call", {"call": id, "target": {"kind": "tool", "name": "clock"}, "args": {"a": 1}}, b""),
                ("host.emit", {"topic": "done", "payload": {"b": {"base64": "eA=="}}}, b""),
            ],
        )
        self.assertEqual(guest.take("$/progress", id).head["params"]["value"], {"half": True})

        id = guest.begin("plugin.invoke", {"method": "ask_from_a_thread"})
        guest.take("request", 6)
        guest.send({"id": 6, "error": {"code": -32053, "message": "not granted"}})
        self.refused(-32053, guest.end, id)

        id = guest.begin("plugin.invoke", {"method": "hear", "args": {"n": 130}})
        self.assertEqual(guest.take("request", 7).head["params"]["args"], "a.")
        guest.send({"id": 7, "result": None})
        for i in range(130):
            guest.tell("stream/event", id=7, event={"topic": f"a.{i}", "seq": i, "at": 0, "payload": None})
        self.assertEqual(guest.take("stream/credit", 7).head["params"], {"id": 7, "amount": 128, "host_call": True})
        self.assertEqual(len(guest.end(id)[0]), 130)
        self.assertEqual(guest.take("$/cancel", 7).head["params"], {"id": 7, "abandoned": True})


if __name__ == "__main__":
    unittest.main()
