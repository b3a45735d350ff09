//! A chat: the conversation as the protocol has it, and the answer as it comes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bespoke_plugin_api::{
    BoxStream, CallCx, ChatDelta, ChatRequest, Code, Error, HttpReply, Message, Result, Role, ToolChoice, ToolSpec,
    serde_json::{Map, Value, json},
};

use crate::{
    answer::{Answer, Wrong},
    body::{Body, MAX_ANSWER, Stopped},
    client::{Ask, Client, Failure, Tries},
    config::Settings,
    failure::Op,
    models,
    sse::{Events, TooLong},
};

/// How long to wait for what may follow the reason of the end: the tokens, `[DONE]`.
const AFTERWORD: Duration = Duration::from_secs(2);

/// Most bytes of a completion that comes whole, and of the beginning of an answer that an error shows.
const MAX_WHOLE: usize = 16 << 20;
const HEAD: usize = 1024;

/// Asks the server to go on with a conversation. The stream ends its request when it is dropped.
pub(crate) async fn chat(client: Arc<Client>, call: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
    call.check()?;
    if request.messages.is_empty() {
        return Err(Error::invalid_params("the conversation has no messages"));
    }
    let model = match request.model.clone() {
        Some(model) => model,
        None => models::default_model(&client, call).await?,
    };
    let body = request_body(&client.settings, &model, request);
    let ask = Ask::json(Op::Chat, &body, client.settings.first_token());
    let mut tries = Tries::default();
    let reply = loop {
        match client.attempt(call, &ask).await {
            Ok(reply) => break reply,
            Err(failure) => client.pause(call, &mut tries, failure).await?,
        }
    };
    let chat = Chat {
        source: Some(Source::new(&client, call, reply)),
        client,
        call: call.clone(),
        ask,
        tries,
        deltas: VecDeque::new(),
        failure: None,
        passed_on: false,
    };
    Ok(Box::pin(futures_util::stream::unfold(Some(chat), |chat| async {
        let mut chat = chat?;
        let delta = chat.next().await;
        // After the end or an error nothing is kept, the connection least of all.
        let over = matches!(delta, Err(_) | Ok(ChatDelta::Finish { .. }));
        Some((delta, (!over).then_some(chat)))
    })))
}

/// An answer under way.
struct Chat {
    client: Arc<Client>,
    call: CallCx,
    ask: Ask,
    tries: Tries,
    /// `None` between two tries.
    source: Option<Source>,
    deltas: VecDeque<ChatDelta>,
    failure: Option<Failure>,
    /// The caller has seen something: there is no other try.
    passed_on: bool,
}

/// What one try has brought.
struct Source {
    body: Body,
    format: Format,
    answer: Answer,
    /// The beginning, for errors.
    head: Vec<u8>,
    /// Something of use has come.
    begun: bool,
}

/// What the body is, as its first byte shows: servers say one thing in their headers and send another.
enum Format {
    Unknown,
    Events(Events),
    Whole(Vec<u8>),
    /// A page for people.
    Page,
}

impl Source {
    fn new(client: &Client, call: &CallCx, reply: HttpReply) -> Self {
        let mut id = [0; 6];
        if client.cx.host().random(&mut id).is_err() {
            id.copy_from_slice(&client.cx.now().0.to_le_bytes()[..6]);
        }
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Source {
            body: Body::new(&client.cx, call, reply.body, MAX_ANSWER, client.settings.first_token()),
            format: Format::Unknown,
            answer: Answer::new(id),
            head: Vec::new(),
            begun: false,
        }
    }
}

impl Chat {
    async fn next(&mut self) -> Result<ChatDelta> {
        loop {
            self.call.check()?;
            // What came before a failure is passed on before it.
            if let Some(delta) = self.deltas.pop_front() {
                self.passed_on = true;
                return Ok(delta);
            }
            if let Some(failure) = self.failure.take() {
                if self.passed_on {
                    return Err(failure.error);
                }
                self.source = None;
                self.client.pause(&self.call, &mut self.tries, failure).await?;
            }
            let result = match &mut self.source {
                Some(source) => read_on(source, &self.client, &self.ask, &mut self.deltas).await,
                None => {
                    let reply = self.client.attempt(&self.call, &self.ask).await;
                    reply.map(|reply| self.source = Some(Source::new(&self.client, &self.call, reply)))
                }
            };
            self.failure = result.err();
        }
    }
}

/// Reads until there is a delta, or the end.
async fn read_on(source: &mut Source, client: &Client, ask: &Ask, deltas: &mut VecDeque<ChatDelta>) -> Result<(), Failure> {
    let piece = match source.body.next().await {
        Ok(piece) => piece,
        // All was said; the connection need not end as it should.
        Err(Stopped::Silent(_) | Stopped::Broken(_)) if source.answer.is_finished() => None,
        Err(stopped @ Stopped::Broken(_)) => return Err(Failure::passing(stopped.into_error(Op::Chat.failed()))),
        Err(stopped) => return Err(Failure::last(stopped.into_error(Op::Chat.failed()))),
    };
    let Some(piece) = piece else { return end(source, client, ask, deltas).await };
    if source.head.len() < HEAD {
        source.head.extend_from_slice(&piece[..piece.len().min(HEAD - source.head.len())]);
    }
    if let Format::Unknown = source.format {
        let text = source.head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&source.head);
        match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => {}
            Some(b'{' | b'[') => source.format = Format::Whole(Vec::new()),
            Some(b'<') => source.format = Format::Page,
            Some(_) => source.format = Format::Events(Events::default()),
        }
    }
    match &mut source.format {
        // Blank so far: nothing that has to be kept.
        Format::Unknown => Ok(()),
        Format::Page => {
            let text = String::from_utf8_lossy(&source.head);
            Err(Failure::last(client.nonsense(Op::Chat, "a page instead of an answer", &text).await))
        }
        Format::Whole(whole) => {
            if whole.len() + piece.len() > MAX_WHOLE {
                return Err(Failure::last(Stopped::TooLong(MAX_WHOLE).into_error(Op::Chat.failed())));
            }
            whole.extend_from_slice(&piece);
            source.body.heard(client.settings.silence());
            Ok(())
        }
        Format::Events(events) => {
            let (mut taken, mut useful) = (Ok(()), false);
            let answer = &mut source.answer;
            let cut = events.push(&piece, &mut |data| {
                if taken.is_ok() && !answer.is_done() {
                    match answer.take(&data, &mut |delta| deltas.push_back(delta)) {
                        Ok(some) => useful |= some,
                        Err(wrong) => taken = Err((wrong, data)),
                    }
                }
            });
            if let Err((wrong, data)) = taken {
                return Err(explain(client, ask, wrong, &data).await);
            }
            if let Err(TooLong) = cut {
                let message = format!("the server sent a line longer than {} bytes", crate::sse::MAX_EVENT);
                return Err(Failure::last(Error::new(Code::RESOURCE_EXHAUSTED, message)));
            }
            if useful {
                source.begun = true;
                let silence = client.settings.silence();
                source.body.heard(if source.answer.is_finished() { silence.min(AFTERWORD) } else { silence });
            }
            if source.answer.is_done() { end(source, client, ask, deltas).await } else { Ok(()) }
        }
    }
}

/// The body is over.
async fn end(source: &mut Source, client: &Client, ask: &Ask, deltas: &mut VecDeque<ChatDelta>) -> Result<(), Failure> {
    let answer = &mut source.answer;
    let mut taken = Ok(());
    let mut take = |data: String| {
        if taken.is_ok() && !answer.is_done() {
            taken = answer.take(&data, &mut |delta| deltas.push_back(delta)).map(drop).map_err(|wrong| (wrong, data));
        }
    };
    match &mut source.format {
        // What is left of a line that broke off is seldom an event: the end below tells more than an error of JSON.
        Format::Events(events) => {
            let mut last = Vec::new();
            let _ = events.finish(&mut |data| last.push(data));
            last.into_iter()
                .filter(|data| data.trim() == "[DONE]" || bespoke_plugin_api::serde_json::from_str::<Value>(data).is_ok())
                .for_each(take);
        }
        Format::Whole(whole) => take(String::from_utf8_lossy(&std::mem::take(whole)).into_owned()),
        Format::Unknown | Format::Page => {}
    }
    if let Err((wrong, data)) = taken {
        return Err(explain(client, ask, wrong, &data).await);
    }
    match source.answer.end(&mut |delta| deltas.push_back(delta)) {
        Ok(true) => Ok(()),
        Err(wrong) => Err(explain(client, ask, wrong, "").await),
        Ok(false) => {
            let text = String::from_utf8_lossy(&source.head);
            if matches!(source.format, Format::Events(_)) && !source.begun && !text.contains("data:") && !text.trim_start().starts_with(':')
            {
                return Err(Failure::last(client.nonsense(Op::Chat, "something that is no answer", &text).await));
            }
            let message = format!("the answer of {} broke off: the connection ended before it was complete", client.url(Op::Chat));
            Err(Failure::passing(Error::new(Op::Chat.failed(), message).retryable()))
        }
    }
}

async fn explain(client: &Client, ask: &Ask, wrong: Wrong, data: &str) -> Failure {
    let failed = Op::Chat.failed();
    match wrong {
        Wrong::Complaint => client.complaint(ask, data).await,
        Wrong::Shape(why) => Failure::last(client.nonsense(Op::Chat, &why, data).await),
        // The next try may go better, but by the will of the caller: the model would be asked the same.
        Wrong::Call(why) => Failure::last(Error::new(failed, format!("the model made a call that cannot be run: {why}")).retryable()),
        Wrong::TooLong(what) => {
            Failure::last(Error::new(Code::RESOURCE_EXHAUSTED, format!("the answer of the server: {what} are too long")))
        }
        Wrong::Filtered => Failure::last(Error::new(failed, "the server's content filter kept the answer back")),
    }
}

/// The body of a request for a stream.
fn request_body(settings: &Settings, model: &str, request: ChatRequest) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("messages".into(), request.messages.iter().map(message).collect());
    body.insert("stream".into(), json!(true));
    if settings.config.stream_usage {
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
        let choice = match &request.tool_choice {
            ToolChoice::None => Some(json!("none")),
            ToolChoice::Required => Some(json!("required")),
            ToolChoice::Named(name) => Some(json!({ "type": "function", "function": { "name": name } })),
            // The default of the protocol.
            _ => None,
        };
        body.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    }
    let mut put = |key: &str, value: Option<Value>| body.extend(value.map(|value| (key.to_owned(), value)));
    put("temperature", request.temperature.map(decimal));
    put("top_p", request.top_p.map(decimal));
    put(settings.max_tokens_key, request.max_tokens.map(|n| json!(n)));
    put("stop", Some(json!(request.stop)).filter(|_| !request.stop.is_empty()));
    put("seed", request.seed.map(|n| json!(n)));
    put(
        "response_format",
        request.json_schema.map(|schema| {
            let strict = is_strict(&schema);
            json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": strict } })
        }),
    );
    Value::Object(body)
}

fn message(message: &Message) -> Value {
    match message.role {
        Role::System => json!({ "role": "system", "content": message.text }),
        Role::Tool => json!({ "role": "tool", "tool_call_id": message.tool_call_id, "content": message.text }),
        Role::Assistant if !message.tool_calls.is_empty() => {
            let calls: Vec<Value> = message
                .tool_calls
                .iter()
                .map(|call| json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.args.to_string() } }))
                .collect();
            let content = Some(&message.text).filter(|text| !text.is_empty());
            json!({ "role": "assistant", "content": content, "tool_calls": calls })
        }
        Role::Assistant => json!({ "role": "assistant", "content": message.text }),
        _ => json!({ "role": "user", "content": message.text }),
    }
}

fn tool(tool: &ToolSpec) -> Value {
    let function = json!({ "name": tool.name, "description": tool.description, "parameters": tool.input_schema });
    json!({ "type": "function", "function": function })
}

/// 0.7, not 0.699999988079071: a person reads it in the server's log.
fn decimal(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, |number| json!(number))
}

/// Whether a schema is of the kind that OpenAI keeps to the letter: each object is closed, and needs all of its properties. It
/// refuses others when they are said to be strict.
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let properties = fields.get("properties").and_then(Value::as_object);
            let is_object = properties.is_some() || fields.get("type").is_some_and(|t| t == "object");
            let required = fields.get("required").and_then(Value::as_array);
            let needs = |key: &String| required.is_some_and(|all| all.iter().any(|name| name == key));
            let closed = fields.get("additionalProperties") == Some(&Value::Bool(false));
            let complete = properties.into_iter().flatten().all(|(key, _)| needs(key));
            let refused = ["oneOf", "allOf", "not", "if", "patternProperties"].iter().any(|key| fields.contains_key(*key));
            (!is_object || closed && complete)
                && !refused
                && fields.iter().filter(|(key, _)| !matches!(key.as_str(), "enum" | "const")).all(|(_, v)| is_strict(v))
        }
        Value::Array(items) => items.iter().all(is_strict),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::ToolCall;
    use expect_test::expect;

    use super::*;
    use crate::Config;

    #[test]
    fn a_request_has_all_that_was_asked_and_nothing_else() {
        let settings = Settings::new(Config { base_url: "http://127.0.0.1:1".into(), ..Config::default() }).unwrap();
        let plain = request_body(&settings, "m", ChatRequest::new(vec![Message::user("Hi.")]));
        expect![[r#"{"model":"m","messages":[{"role":"user","content":"Hi."}],"stream":true,"stream_options":{"include_usage":true}}"#]]
            .assert_eq(&plain.to_string());

        let calls = vec![ToolCall::new("c1", "clock", json!({ "zone": "UTC" }))];
        let messages = vec![
            Message::system("Be brief."),
            Message::user("Time?"),
            Message::assistant("").tool_calls(calls.clone()),
            Message::tool("c1", "noon"),
            Message::assistant("Let me look again.").tool_calls(calls),
            Message::tool("c1", "noon"),
            Message::assistant("Noon."),
        ];
        let schema =
            json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"], "additionalProperties": false });
        let request = ChatRequest::new(messages)
            .tools(vec![ToolSpec::new("clock", "Tells the time.")])
            .tool_choice(ToolChoice::Named("clock".into()))
            .temperature(0.7)
            .top_p(0.9)
            .max_tokens(64)
            .stop(vec!["\n".into()])
            .seed(7)
            .json_schema(schema);
        let no_usage = Settings::new(Config { stream_usage: false, ..Config::default() }).unwrap();
        let full = request_body(&no_usage, "m", request);
        expect![[r#"
            {
              "model": "m",
              "messages": [
                {
                  "role": "system",
                  "content": "Be brief."
                },
                {
                  "role": "user",
                  "content": "Time?"
                },
                {
                  "role": "assistant",
                  "content": null,
                  "tool_calls": [
                    {
                      "id": "c1",
                      "type": "function",
                      "function": {
                        "name": "clock",
                        "arguments": "{\"zone\":\"UTC\"}"
                      }
                    }
                  ]
                },
                {
                  "role": "tool",
                  "tool_call_id": "c1",
                  "content": "noon"
                },
                {
                  "role": "assistant",
                  "content": "Let me look again.",
                  "tool_calls": [
                    {
                      "id": "c1",
                      "type": "function",
                      "function": {
                        "name": "clock",
                        "arguments": "{\"zone\":\"UTC\"}"
                      }
                    }
                  ]
                },
                {
                  "role": "tool",
                  "tool_call_id": "c1",
                  "content": "noon"
                },
                {
                  "role": "assistant",
                  "content": "Noon."
                }
              ],
              "stream": true,
              "tools": [
                {
                  "type": "function",
                  "function": {
                    "name": "clock",
                    "description": "Tells the time.",
                    "parameters": {
                      "type": "object",
                      "properties": {},
                      "additionalProperties": false
                    }
                  }
                }
              ],
              "tool_choice": {
                "type": "function",
                "function": {
                  "name": "clock"
                }
              },
              "temperature": 0.7,
              "top_p": 0.9,
              "max_completion_tokens": 64,
              "stop": [
                "\n"
              ],
              "seed": 7,
              "response_format": {
                "type": "json_schema",
                "json_schema": {
                  "name": "answer",
                  "schema": {
                    "type": "object",
                    "properties": {
                      "a": {
                        "type": "string"
                      }
                    },
                    "required": [
                      "a"
                    ],
                    "additionalProperties": false
                  },
                  "strict": true
                }
              }
            }"#]]
        .assert_eq(&bespoke_plugin_api::serde_json::to_string_pretty(&full).unwrap());
    }

    #[test]
    fn only_schemas_that_leave_nothing_open_are_strict() {
        let closed = json!({ "type": "object", "properties": { "a": { "enum": [{ "properties": {} }] } }, "required": ["a"], "additionalProperties": false });
        let open = json!({ "type": "object", "properties": { "a": {} }, "additionalProperties": false });
        for (schema, strict) in [
            (closed.clone(), true),
            (open.clone(), false),
            (json!({ "type": "string" }), true),
            (json!({ "type": "object" }), false),
            (json!({ "anyOf": [closed, { "type": "null" }] }), true),
            (json!({ "type": "array", "items": open }), false),
            (json!({ "oneOf": [{ "type": "string" }] }), false),
        ] {
            assert_eq!(is_strict(&schema), strict, "{schema}");
        }
    }
}
