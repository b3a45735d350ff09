//! JSON-RPC 2.0: from a line to requests, and from what came of them to a line. What a method does is not its business.

use bespoke_plugin_api::{Code, Error};
use serde_json::{Map, Value, json};

use crate::scan::Scan;

/// Most requests in one batch.
pub(crate) const MOST_IN_BATCH: usize = 1000;
/// Most brackets that may be open at the same time; serde_json takes no more.
const DEEPEST: usize = 127;

/// What a line asks for.
#[derive(Debug)]
pub(crate) enum Message {
    /// One request, or why it is none.
    One(Result<Request, Refused>),
    /// Several, which are answered together.
    Batch(Vec<Result<Request, Refused>>),
    /// Nothing: an empty line, or an answer to a question that nobody asked.
    Nothing,
}

/// A request, or a notification when it has no id.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    pub(crate) params: Value,
}

/// Something that is no request. It is answered, whether it has an id or not: without one, nobody knows what it was meant to be.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) id: Value,
    pub(crate) error: Error,
}

impl Refused {
    pub(crate) fn new(id: Option<Value>, code: Code, message: impl Into<String>) -> Self {
        Refused { id: id.unwrap_or_default(), error: Error::new(code, message) }
    }
}

/// What a line says.
pub(crate) fn read(line: &[u8]) -> Message {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Message::Nothing;
    }
    let refused = |id, code, message: String| Message::One(Err(Refused::new(id, code, message)));
    if let Err(error) = std::str::from_utf8(line) {
        let message = format!("the line is no UTF-8: byte {} of it", error.valid_up_to() + 1);
        return refused(Scan::of(line).id().cloned(), Code::PARSE_ERROR, message);
    }
    match serde_json::from_slice(line) {
        Ok(Value::Array(all)) if all.is_empty() => refused(None, Code::INVALID_REQUEST, "an empty batch asks for nothing".into()),
        Ok(Value::Array(all)) if all.len() > MOST_IN_BATCH => {
            let message = format!("a batch of {} requests; {MOST_IN_BATCH} are the most", all.len());
            refused(None, Code::RESOURCE_EXHAUSTED, message)
        }
        Ok(Value::Array(all)) => match all.into_iter().filter_map(request).collect::<Vec<_>>() {
            all if all.is_empty() => Message::Nothing,
            all => Message::Batch(all),
        },
        Ok(value) => request(value).map_or(Message::Nothing, Message::One),
        Err(error) => {
            let scan = Scan::of(line);
            if scan.deepest() > DEEPEST {
                let message = format!("nested {} deep; {DEEPEST} is the most", scan.deepest());
                return refused(scan.id().cloned(), Code::INVALID_REQUEST, message);
            }
            // What follows the mistake may be anything, so nothing in the line is taken for its id.
            refused(None, Code::PARSE_ERROR, format!("the line is no JSON: {error}"))
        }
    }
}

/// A value as a request; nothing when it is an answer, because an answer to that would be answered in turn.
fn request(value: Value) -> Option<Result<Request, Refused>> {
    let Value::Object(mut fields) = value else {
        let what = match value {
            Value::Array(_) => "an array inside a batch",
            Value::String(_) => "a string",
            Value::Number(_) => "a number",
            Value::Bool(_) => "a truth value",
            _ => "null",
        };
        return Some(Err(Refused::new(None, Code::INVALID_REQUEST, format!("a request is an object, not {what}"))));
    };
    if !fields.contains_key("method") && (fields.contains_key("result") || fields.contains_key("error")) {
        return None;
    }
    let id = fields.shift_remove("id");
    let readable = id.clone().filter(|id| id.is_string() || id.is_number());
    let refused = |message: &str| Some(Err(Refused::new(readable.clone(), Code::INVALID_REQUEST, message)));
    if id.as_ref().is_some_and(|id| !id.is_null()) && readable.is_none() {
        return refused("`id` is a string or a number");
    }
    if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return refused("`jsonrpc` is missing, or not \"2.0\"");
    }
    let Some(Value::String(method)) = fields.shift_remove("method") else {
        return refused("`method` is missing, or no string");
    };
    let params = fields.shift_remove("params").unwrap_or_else(|| json!({}));
    if !params.is_object() && !params.is_array() {
        return refused("`params` is an object or an array");
    }
    Some(Ok(Request { id, method, params }))
}

/// The answer to a request.
pub(crate) fn answer(id: &Value, result: Result<Value, Error>) -> Value {
    match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error_value(&error) }),
    }
}

/// An error with everything that is known of it: JSON-RPC's own members, and ours beside them.
pub(crate) fn error_value(error: &Error) -> Value {
    let mut fields = Map::new();
    fields.insert("code".into(), error.code().value().into());
    fields.insert("message".into(), error.message().into());
    fields.insert("kind".into(), error.kind().into());
    fields.insert("retryable".into(), error.is_retryable().into());
    let optional = [("plugin", error.plugin().map(Value::from)), ("help", error.help().map(Value::from)), ("data", error.data().cloned())];
    fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: Message) -> String {
        let one = |request: Result<Request, Refused>| match request {
            Ok(Request { id, method, params }) => format!("{} {method} {params}", id.map_or("-".into(), |id| id.to_string())),
            Err(Refused { id, error }) => format!("{id} {}", error.code().value()),
        };
        match message {
            Message::One(request) => one(request),
            Message::Batch(all) => format!("[{}]", all.into_iter().map(one).collect::<Vec<_>>().join(", ")),
            Message::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn every_line_is_a_request_or_is_refused_with_its_id_where_that_can_be_read() {
        let deep = format!(r#"{{"jsonrpc":"2.0","id":8,"method":"ping","params":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        let many = format!("[{}1]", "1,".repeat(MOST_IN_BATCH));
        for (line, said) in [
            (&br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#[..], "1 ping {}"),
            (br#" {"jsonrpc":"2.0","id":"a","method":"x","params":[1]} "#, "\"a\" x [1]"),
            (br#"{"jsonrpc":"2.0","method":"x","params":{"a":1}}"#, r#"- x {"a":1}"#),
            (br#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, "null x {}"),
            (b"", "nothing"),
            (b"  \r", "nothing"),
            (b"42", "null -32600"),
            (b"null", "null -32600"),
            (b"\"ping\"", "null -32600"),
            (b"[]", "null -32600"),
            (b"{}", "null -32600"),
            (br#"{"id":1,"method":"ping"}"#, "1 -32600"),
            (br#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, "1 -32600"),
            (br#"{"jsonrpc":"2.0","id":1,"method":5}"#, "1 -32600"),
            (br#"{"jsonrpc":"2.0","id":1,"method":"x","params":"y"}"#, "1 -32600"),
            (br#"{"jsonrpc":"2.0","id":{"a":1},"method":"x"}"#, "null -32600"),
            (br#"{"jsonrpc":"2.0","id":1,"result":5}"#, "nothing"),
            (br#"{"jsonrpc":"2.0","id":1,"error":{}}"#, "nothing"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"\xff\"}", "3 -32700"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":", "null -32700"),
            (b"hello", "null -32700"),
            (br#"[1,{"jsonrpc":"2.0","id":2,"method":"ping"},[]]"#, "[null -32600, 2 ping {}, null -32600]"),
            (br#"[{"jsonrpc":"2.0","id":1,"result":5}]"#, "nothing"),
            (deep.as_bytes(), "8 -32600"),
            (many.as_bytes(), "null -32050"),
        ] {
            assert_eq!(told(read(line)), said, "{}", String::from_utf8_lossy(&line[..line.len().min(100)]));
        }
    }

    #[test]
    fn an_error_says_all_that_is_known_of_it() {
        let error = Error::new(Code::NOT_READY, "is failed").with_plugin("x").with_help("wait").retryable().with_data(json!({ "a": 1 }));
        let value = answer(&json!(1), Err(error));
        let all = json!({ "code": -32001, "message": "is failed", "kind": "NOT_READY", "retryable": true, "plugin": "x", "help": "wait", "data": { "a": 1 } });
        assert_eq!(value["error"], all);
        let plain = error_value(&Error::internal("x"));
        assert_eq!(plain, json!({ "code": -32603, "message": "x", "kind": "INTERNAL_ERROR", "retryable": false }));
    }
}
