//! Puts the deltas of an answer together from the chunks of a stream, or from one whole completion. Pure: text in, deltas out.

use bespoke_plugin_api::{
    ChatDelta, FinishReason, ToolCall, Usage,
    serde::{self, Deserialize},
    serde_json::{self, Value},
};

use crate::failure::Complaint;

/// Most bytes of the names and arguments of all calls of one answer, and most calls.
const MAX_CALLS_TEXT: usize = 4 << 20;
const MAX_CALLS: usize = 256;

/// Why a chunk cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is no JSON, or not of the shape that the protocol has.
    Shape(String),
    /// The server says that something failed; the chunk is what it says.
    Complaint,
    /// The model made a call that is none.
    Call(String),
    /// The calls are too long or too many.
    TooLong(&'static str),
    /// A filter kept the whole answer back.
    Filtered,
}

/// An answer that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Stands before the number in an id that the server left out.
    id_prefix: String,
    calls: Vec<Partial>,
    calls_text: usize,
    finish: Option<FinishReason>,
    usage: Option<Usage>,
    said: bool,
    done: bool,
}

/// A call whose arguments may not be complete.
#[derive(Debug)]
struct Partial {
    index: Option<u64>,
    id: String,
    name: String,
    args: String,
}

impl Answer {
    /// An answer; `id_prefix` makes ids of calls unique where the server gives none.
    pub(crate) fn new(id_prefix: String) -> Self {
        Answer { id_prefix, ..Answer::default() }
    }

    /// Takes the data of an event, or a whole completion, and says whether there was anything of use in it.
    pub(crate) fn take(&mut self, data: &str, emit: &mut impl FnMut(ChatDelta)) -> Result<bool, Wrong> {
        let data = data.trim();
        if data == "[DONE]" {
            self.done = true;
            return Ok(true);
        }
        if data.is_empty() {
            return Ok(false);
        }
        let value: Value = serde_json::from_str(data).map_err(|e| Wrong::Shape(format!("no JSON: {e}")))?;
        if Complaint::of(&value).is_some() {
            return Err(Wrong::Complaint);
        }
        if !value.is_object() {
            return Err(Wrong::Shape("JSON that is no object".into()));
        }
        let chunk = Chunk::deserialize(value).map_err(|e| Wrong::Shape(format!("no chunk of an answer: {e}")))?;
        let mut useful = false;
        if let Some(usage) = chunk.usage.as_ref().and_then(usage_of) {
            self.usage = Some(usage);
            useful = true;
        }
        // Only one answer was asked for; a server that gives more is not to mix them.
        for choice in chunk.choices.into_iter().flatten().filter(|choice| choice.index.unwrap_or(0) == 0) {
            useful |= self.take_choice(choice, emit)?;
        }
        Ok(useful)
    }

    fn take_choice(&mut self, choice: Choice, emit: &mut impl FnMut(ChatDelta)) -> Result<bool, Wrong> {
        let mut useful = false;
        if let Some(delta) = choice.delta.or(choice.message) {
            useful |= delta.reasoning_content.is_some_and(|text| !text.is_empty()) || delta.reasoning.is_some_and(|text| !text.is_empty());
            for text in [delta.content.map(Content::into_text), delta.refusal].into_iter().flatten().filter(|text| !text.is_empty()) {
                useful = true;
                self.said = true;
                emit(ChatDelta::text(text));
            }
            for fragment in delta.tool_calls.into_iter().flatten() {
                useful = true;
                self.take_call(fragment)?;
            }
        }
        if let Some(reason) = choice.finish_reason.filter(|_| self.finish.is_none()) {
            useful = true;
            self.take_finish(&reason, emit)?;
        }
        Ok(useful)
    }

    fn take_call(&mut self, fragment: CallFragment) -> Result<(), Wrong> {
        let (id, function) = (fragment.id.unwrap_or_default(), fragment.function.unwrap_or_default());
        let (name, args) = (function.name.unwrap_or_default(), function.arguments.map_or(String::new(), Arguments::into_text));
        self.calls_text += id.len() + name.len() + args.len();
        if self.calls_text > MAX_CALLS_TEXT {
            return Err(Wrong::TooLong("the arguments of its tool calls"));
        }
        // A fragment belongs to the last call of its index; without one, to the last call. An id that is new begins a call even
        // so: some servers number all of them 0.
        let at = match fragment.index {
            Some(index) => self.calls.iter().rposition(|call| call.index == Some(index)),
            None => self.calls.len().checked_sub(1),
        };
        let begins = |call: &Partial| {
            let other_id = !id.is_empty() && !call.id.is_empty() && call.id != id;
            // Without index and id, a second name is a second call.
            let other_name = fragment.index.is_none() && id.is_empty() && !name.is_empty() && !call.args.is_empty();
            other_id || other_name
        };
        match at.filter(|at| !begins(&self.calls[*at])) {
            Some(at) => {
                let call = &mut self.calls[at];
                if call.id.is_empty() {
                    call.id = id;
                }
                // Most send the name once and whole; some repeat it with each fragment.
                if call.name != name {
                    call.name.push_str(&name);
                }
                call.args.push_str(&args);
            }
            None if self.calls.len() == MAX_CALLS => return Err(Wrong::TooLong("the list of its tool calls")),
            None => self.calls.push(Partial { index: fragment.index, id, name, args }),
        }
        Ok(())
    }

    fn take_finish(&mut self, reason: &str, emit: &mut impl FnMut(ChatDelta)) -> Result<(), Wrong> {
        let called = !self.calls.is_empty();
        self.finish = Some(match reason {
            // Calls are there to be made, whatever the server calls the end.
            "stop" | "tool_calls" | "function_call" | "end_turn" | "eos" | "eos_token" if called => FinishReason::ToolCalls,
            // And where there are none, nobody is to wait for them.
            "stop" | "tool_calls" | "function_call" | "end_turn" | "eos" | "eos_token" => FinishReason::Stop,
            "length" | "max_tokens" => FinishReason::Length,
            "content_filter" if !self.said && !called => return Err(Wrong::Filtered),
            _ => FinishReason::Unknown,
        });
        self.emit_calls(emit)
    }

    fn emit_calls(&mut self, emit: &mut impl FnMut(ChatDelta)) -> Result<(), Wrong> {
        let cut_off = self.finish == Some(FinishReason::Length);
        for (number, call) in std::mem::take(&mut self.calls).into_iter().enumerate() {
            if call.name.is_empty() {
                return Err(Wrong::Call("it calls a tool without saying which".into()));
            }
            let args = match arguments(&call.args) {
                Ok(args) => args,
                Err(_) if cut_off => {
                    return Err(Wrong::Call(format!("its call of `{}` was cut off by the limit of the answer", call.name)));
                }
                Err(why) => return Err(Wrong::Call(format!("it calls `{}` with arguments that are {why}", call.name))),
            };
            let id = if call.id.is_empty() { format!("call_{}_{number}", self.id_prefix) } else { call.id };
            emit(ChatDelta::tool_call(ToolCall::new(id, call.name, args)));
        }
        Ok(())
    }

    /// Whether the reason of the end is known: only tokens may follow.
    pub(crate) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether the server said that nothing follows.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The last delta, once there is nothing more to read; `None` when the answer has no end. `[DONE]` is one, too.
    pub(crate) fn end(&mut self, emit: &mut impl FnMut(ChatDelta)) -> Result<bool, Wrong> {
        if self.finish.is_none() && self.done {
            self.take_finish("stop", emit)?;
        }
        let Some(reason) = self.finish else { return Ok(false) };
        emit(ChatDelta::finish(reason, self.usage));
        Ok(true)
    }
}

fn arguments(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        _ if text.trim().is_empty() => Ok(Value::Object(Default::default())),
        Ok(Value::Null) => Ok(Value::Object(Default::default())),
        Ok(args @ Value::Object(_)) => Ok(args),
        Ok(_) => Err("no object".into()),
        Err(e) => Err(format!("no JSON ({e})")),
    }
}

fn usage_of(value: &Value) -> Option<Usage> {
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let prompt = number(value.get("prompt_tokens"))?;
    let cached = number(value.get("prompt_tokens_details").and_then(|details| details.get("cached_tokens")));
    let usage = Usage::new(prompt, number(value.get("completion_tokens")).unwrap_or(0));
    Some(usage.cached_tokens(cached.unwrap_or(0)))
}

/// As the wire has it. What is not named here (`timings`, `logprobs`, …) is passed over.
#[derive(Deserialize)]
#[serde(crate = "serde")]
struct Chunk {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
#[serde(crate = "serde")]
struct Choice {
    #[serde(default)]
    index: Option<u64>,
    /// In a stream.
    #[serde(default)]
    delta: Option<Delta>,
    /// In a whole completion.
    #[serde(default)]
    message: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(crate = "serde")]
struct Delta {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    refusal: Option<String>,
    /// What a model thinks before it speaks: not part of the answer, but a sign of life.
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallFragment>>,
}

#[derive(Deserialize)]
#[serde(crate = "serde", untagged)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

impl Content {
    fn into_text(self) -> String {
        match self {
            Content::Text(text) => text,
            Content::Parts(parts) => parts.into_iter().filter_map(|part| part.text).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(crate = "serde")]
struct ContentPart {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(crate = "serde")]
struct CallFragment {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionFragment>,
}

#[derive(Default, Deserialize)]
#[serde(crate = "serde")]
struct FunctionFragment {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<Arguments>,
}

/// JSON in a string, as the protocol wants it, or, from some servers, as it is.
#[derive(Deserialize)]
#[serde(crate = "serde", untagged)]
enum Arguments {
    Text(String),
    Value(Value),
}

impl Arguments {
    fn into_text(self) -> String {
        match self {
            Arguments::Text(text) => text,
            Arguments::Value(value) => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::serde_json::json;

    use super::*;

    fn all(chunks: &[&str]) -> Result<Vec<ChatDelta>, Wrong> {
        let (mut answer, mut deltas) = (Answer::new("p".into()), Vec::new());
        for chunk in chunks {
            answer.take(chunk, &mut |delta| deltas.push(delta))?;
        }
        assert!(answer.end(&mut |delta| deltas.push(delta))?, "no end: {deltas:?}");
        Ok(deltas)
    }

    fn call(id: &str, name: &str, args: Value) -> ChatDelta {
        ChatDelta::tool_call(ToolCall::new(id, name, args))
    }

    /// A chunk with fragments of calls.
    fn calls(fragments: Value) -> String {
        json!({ "choices": [{ "index": 0, "delta": { "tool_calls": fragments }, "finish_reason": null }] }).to_string()
    }

    const TOOLS: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#;
    const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

    #[test]
    fn text_and_tokens() {
        let deltas = all(&[
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}],"usage":null}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"another answer"}}]}"#,
            r#"{"choices":[{"delta":{"content":[{"type":"text","text":"lo"},{"type":"other"}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"."},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":5}},"timings":{"x":1}}"#,
            "[DONE]",
        ]);
        let usage = Usage::new(7, 2).cached_tokens(5);
        let expected = [ChatDelta::text("Hel"), ChatDelta::text("lo"), ChatDelta::text("."), ChatDelta::finish(FinishReason::Stop, usage)];
        assert_eq!(deltas.unwrap(), expected);
    }

    #[test]
    fn calls_are_put_together_however_servers_cut_and_number_them() {
        let weather = |id: &str| call(id, "weather", json!({ "city": "Paris" }));
        let clock = |id: &str| call(id, "clock", json!({}));
        for (what, fragments, expected) in [
            (
                "by index, interleaved",
                vec![
                    json!([{ "index": 0, "id": "a", "type": "function", "function": { "name": "weather", "arguments": "" } }]),
                    json!([{ "index": 1, "id": "b", "type": "function", "function": { "name": "clock", "arguments": "{" } }]),
                    json!([{ "index": 0, "function": { "arguments": "{\"city\":" } }, { "index": 1, "function": { "arguments": "}" } }]),
                    json!([{ "index": 0, "function": { "arguments": " \"Paris\"}" } }]),
                ],
                vec![weather("a"), clock("b")],
            ),
            (
                "whole, without index",
                vec![json!([
                    { "id": "a", "function": { "name": "weather", "arguments": "{\"city\": \"Paris\"}" } },
                    { "id": "b", "function": { "name": "clock", "arguments": "{}" } },
                ])],
                vec![weather("a"), clock("b")],
            ),
            (
                "whole, all with index 0",
                vec![
                    json!([{ "index": 0, "id": "a", "function": { "name": "weather", "arguments": "{\"city\": \"Paris\"}" } }]),
                    json!([{ "index": 0, "id": "b", "function": { "name": "clock", "arguments": "" } }]),
                ],
                vec![weather("a"), clock("b")],
            ),
            (
                "without ids",
                vec![json!([
                    { "index": 0, "function": { "name": "weather", "arguments": { "city": "Paris" } } },
                    { "index": 1, "function": { "name": "clock", "arguments": null } },
                ])],
                vec![weather("call_p_0"), clock("call_p_1")],
            ),
            (
                "without index and ids",
                vec![
                    json!([{ "function": { "name": "weather", "arguments": "{\"city\":" } }]),
                    json!([{ "function": { "arguments": "\"Paris\"}" } }]),
                    json!([{ "function": { "name": "clock", "arguments": "null" } }]),
                ],
                vec![weather("call_p_0"), clock("call_p_1")],
            ),
            (
                "the id and the name with each fragment",
                vec![
                    json!([{ "index": 0, "id": "a", "function": { "name": "weather", "arguments": "{\"city\":" } }]),
                    json!([{ "index": 0, "id": "a", "function": { "name": "weather", "arguments": "\"Paris\"}" } }]),
                ],
                vec![weather("a")],
            ),
            (
                "the name after the id, in pieces",
                vec![
                    json!([{ "index": 0, "id": "a" }]),
                    json!([{ "index": 0, "function": { "name": "wea" } }]),
                    json!([{ "index": 0, "function": { "name": "ther" } }]),
                    json!([{ "index": 0, "function": { "arguments": "{\"city\":\"Paris\"}" } }]),
                ],
                vec![weather("a")],
            ),
        ] {
            let mut chunks: Vec<String> = fragments.into_iter().map(calls).collect();
            for end in [TOOLS, STOP] {
                chunks.push(end.into());
                let chunks_of: Vec<&str> = chunks.iter().map(String::as_str).collect();
                let mut expected = expected.clone();
                expected.push(ChatDelta::finish(FinishReason::ToolCalls, None));
                assert_eq!(all(&chunks_of).unwrap(), expected, "{what}");
                chunks.pop();
            }
        }
    }

    #[test]
    fn calls_that_are_none_are_refused_by_name() {
        for (function, end, why) in [
            (json!({ "name": "clock", "arguments": "{\"zone\": " }), TOOLS, "it calls `clock` with arguments that are no JSON ("),
            (json!({ "name": "clock", "arguments": "[1]" }), TOOLS, "it calls `clock` with arguments that are no object"),
            (json!({ "arguments": "{}" }), TOOLS, "it calls a tool without saying which"),
            (
                json!({ "name": "clock", "arguments": "{\"zo" }),
                r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#,
                "its call of `clock` was cut off by the limit of the answer",
            ),
        ] {
            let chunk = calls(json!([{ "index": 0, "id": "a", "function": function }]));
            match all(&[&chunk, end]) {
                Err(Wrong::Call(text)) => assert!(text.starts_with(why), "{text}"),
                other => panic!("{why}: {other:?}"),
            }
        }
    }

    #[test]
    fn ends() {
        let chunk = |reason: &str| format!(r#"{{"choices":[{{"delta":{{"content":"x"}},"finish_reason":"{reason}"}}]}}"#);
        for (reason, expected) in [
            ("stop", FinishReason::Stop),
            ("eos", FinishReason::Stop),
            ("tool_calls", FinishReason::Stop),
            ("length", FinishReason::Length),
            ("content_filter", FinishReason::Unknown),
            ("vanished", FinishReason::Unknown),
        ] {
            assert_eq!(all(&[&chunk(reason)]).unwrap().last(), Some(&ChatDelta::finish(expected, None)), "{reason}");
        }
        let filtered = all(&[r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#]);
        assert_eq!(filtered, Err(Wrong::Filtered));
        let only_done = [r#"{"choices":[{"delta":{"content":"x"}}]}"#, "[DONE]"];
        assert_eq!(all(&only_done).unwrap(), [ChatDelta::text("x"), ChatDelta::finish(FinishReason::Stop, None)]);
        let mut open = Answer::default();
        open.take(only_done[0], &mut |_| ()).unwrap();
        assert_eq!(open.end(&mut |_| ()), Ok(false));
    }

    #[test]
    fn a_refusal_is_said_and_a_whole_completion_taken_as_one_chunk() {
        let refusal = r#"{"choices":[{"delta":{"content":null,"refusal":"I will not."},"finish_reason":"stop"}]}"#;
        assert_eq!(all(&[refusal]).unwrap()[0], ChatDelta::text("I will not."));
        let whole = json!({ "choices": [{ "index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Wait.", "tool_calls": [{ "id": "a", "type": "function", "function": { "name": "clock", "arguments": "{}" } }]
        } }], "usage": { "prompt_tokens": 1, "completion_tokens": 5_000_000_000u64 } });
        let expected =
            [ChatDelta::text("Wait."), call("a", "clock", json!({})), ChatDelta::finish(FinishReason::ToolCalls, Usage::new(1, u32::MAX))];
        assert_eq!(all(&[&whole.to_string()]).unwrap(), expected);
    }

    #[test]
    fn what_is_no_chunk_is_refused_and_what_says_nothing_passed_over() {
        for bad in ["{", "nonsense", "[]", "7", r#"{"choices":"none"}"#, r#"{"choices":[7]}"#, r#"{"choices":[{"delta":{"content":7}}]}"#] {
            assert!(matches!(all(&[bad]), Err(Wrong::Shape(_))), "{bad}");
        }
        for complaint in [r#"{"error":{"message":"no"}}"#, r#"{"error":"no"}"#, r#"{"detail":"no"}"#] {
            assert_eq!(all(&[complaint]), Err(Wrong::Complaint), "{complaint}");
        }
        let mut answer = Answer::default();
        for idle in ["", "{}", r#"{"type":"ping"}"#, r#"{"choices":null}"#, r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#]
        {
            assert_eq!(answer.take(idle, &mut |delta| panic!("{delta:?}")), Ok(false), "{idle}");
        }
    }

    #[test]
    fn calls_are_bounded() {
        let mut answer = Answer::default();
        let args = "x".repeat(1 << 20);
        let chunk = calls(json!([{ "index": 0, "id": "a", "function": { "name": "t", "arguments": args } }]));
        let refused = (0..10).find_map(|_| answer.take(&chunk, &mut |_| ()).err());
        assert_eq!(refused, Some(Wrong::TooLong("the arguments of its tool calls")));

        let many: Vec<Value> = (0..1000).map(|n| json!({ "index": n, "id": n.to_string(), "function": { "name": "t" } })).collect();
        let refused = Answer::default().take(&calls(json!(many)), &mut |_| ());
        assert_eq!(refused, Err(Wrong::TooLong("the list of its tool calls")));
    }
}
