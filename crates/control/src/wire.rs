//! Lines: what a request, an item, an answer and an error look like. No socket.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::mpsc,
};

use crate::LONGEST_ANSWER;

pub(crate) const PARSE_ERROR: i32 = -32700;
pub(crate) const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
pub(crate) const INTERNAL_ERROR: i32 = -32603;
pub(crate) const EXHAUSTED: i32 = -32050;
pub(crate) const CANCELLED: i32 = -32800;

/// Method of the line that brings an item of a stream.
pub(crate) const ITEM: &str = "$/item";
/// Method of the line that ends a request.
pub(crate) const CANCEL: &str = "$/cancel";

/// An error that travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fault {
    /// JSON-RPC's number, or one of whoever answers.
    pub code: i32,
    /// What was wrong, in one sentence.
    pub message: String,
    /// The command that would help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What a program may want to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Value>>,
}

impl Fault {
    /// An error with a number and a sentence.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Fault { code, message: message.into(), help: None, data: None }
    }

    /// Nobody here knows this method.
    pub fn no_method(method: &str) -> Self {
        Self::new(METHOD_NOT_FOUND, format!("there is no method `{method}`"))
    }

    /// The parameters of a request do not fit.
    pub fn params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    /// Adds the command that would help.
    #[must_use]
    pub fn with_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Adds what a program may want to read.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(Box::new(data));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// What a request streams before its answer.
#[derive(Debug, Clone)]
pub struct Items {
    id: Value,
    out: mpsc::Sender<Vec<u8>>,
}

impl Items {
    pub(crate) fn new(id: Value, out: mpsc::Sender<Vec<u8>>) -> Self {
        Items { id, out }
    }

    /// Sends one item; waits while the client has not read those before it. Whoever must not wait loses what comes meanwhile, and tells how
    /// much.
    ///
    /// # Errors
    /// When nobody reads any more, or the item is longer than a line may be.
    pub async fn send(&self, item: &Value) -> Result<(), Fault> {
        let line = line(&json!({ "jsonrpc": "2.0", "method": ITEM, "params": { "id": self.id, "item": item } }))?;
        self.out.send(line).await.map_err(|_| Fault::new(CANCELLED, "the client is gone"))
    }
}

/// A value as a line.
pub(crate) fn line(value: &Value) -> Result<Vec<u8>, Fault> {
    let mut line = serde_json::to_vec(value).map_err(|e| Fault::new(INTERNAL_ERROR, format!("cannot be written: {e}")))?;
    if line.len() > LONGEST_ANSWER {
        return Err(Fault::new(EXHAUSTED, format!("the answer is {} bytes long; {LONGEST_ANSWER} are the most", line.len())));
    }
    line.push(b'\n');
    Ok(line)
}

/// The answer to a request as a line; one that is too long is an error instead.
pub(crate) fn answer(id: &Value, result: Result<Value, Fault>) -> Vec<u8> {
    let error = |fault: Fault| json!({ "jsonrpc": "2.0", "id": id, "error": fault });
    let value = match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(fault) => error(fault),
    };
    // An error of our own is short.
    line(&value).or_else(|fault| line(&error(fault))).unwrap_or_default()
}

/// What a client asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    pub(crate) params: Value,
}

/// Reads a line as a request; what is none is refused, with its id where it has one.
pub(crate) fn request(line: &[u8]) -> Result<Request, Box<(Value, Fault)>> {
    let value: Value =
        serde_json::from_slice(line).map_err(|e| Box::new((Value::Null, Fault::new(PARSE_ERROR, format!("the line is no JSON: {e}")))))?;
    let Value::Object(mut fields) = value else {
        return Err(Box::new((Value::Null, Fault::new(INVALID_REQUEST, "a request is an object; there are no batches"))));
    };
    let id = fields.remove("id");
    let known = id.clone().filter(|id| id.is_string() || id.is_number());
    let refused = |why: &str| Err(Box::new((known.clone().unwrap_or_default(), Fault::new(INVALID_REQUEST, why))));
    if id.is_some() && known.is_none() {
        return refused("`id` is a string or a number");
    }
    if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return refused("`jsonrpc` is missing, or not \"2.0\"");
    }
    let Some(Value::String(method)) = fields.remove("method") else {
        return refused("`method` is missing, or no string");
    };
    match fields.remove("params").unwrap_or_else(|| json!({})) {
        params @ Value::Object(_) => Ok(Request { id: known, method, params }),
        _ => refused("`params` is an object"),
    }
}

/// A line, or why there is none.
#[derive(Debug)]
pub(crate) enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

/// Takes an input apart into lines, none longer than a limit.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    most: usize,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(input: R, most: usize) -> Self {
        Lines { input: BufReader::new(input), most, line: Vec::new() }
    }

    /// The next line that is not empty. Nothing is lost when the future is dropped. A last line without an end was cut off, and does not count.
    pub(crate) async fn next(&mut self) -> std::io::Result<Line> {
        loop {
            let bytes = self.input.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(Line::End);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + piece.len() > self.most {
                return Ok(Line::TooLong);
            }
            self.line.extend_from_slice(piece);
            let used = piece.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                if !line.trim_ascii().is_empty() {
                    return Ok(Line::Whole(line));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_request_or_is_refused_with_its_id() {
        let told = |line: &str| match request(line.as_bytes()) {
            Ok(Request { id, method, params }) => format!("{} {method} {params}", id.map_or("-".into(), |id| id.to_string())),
            Err(refused) => format!("{} {}", refused.0, refused.1.code),
        };
        let deep = format!(r#"{{"jsonrpc":"2.0","id":8,"method":"x","params":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        for (line, said) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"status"}"#, "1 status {}"),
            (r#"{"jsonrpc":"2.0","id":"a","method":"x","params":{"b":1}}"#, r#""a" x {"b":1}"#),
            (r#"{"jsonrpc":"2.0","method":"x"}"#, "- x {}"),
            (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, "null -32600"),
            (r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#, "null -32600"),
            (r#"{"id":1,"method":"x"}"#, "1 -32600"),
            (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, "1 -32600"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}"#, "1 -32600"),
            ("[]", "null -32600"),
            ("42", "null -32600"),
            ("hello", "null -32700"),
            (&deep, "null -32700"),
        ] {
            assert_eq!(told(line), said, "{}", &line[..line.len().min(80)]);
        }
    }

    #[test]
    fn an_error_keeps_what_is_known_of_it() {
        let fault = Fault::new(-32053, "no consent").with_help(Some("bespoke plugin grant x".into())).with_data(json!({ "exit": 4 }));
        let value: Value = serde_json::from_slice(&answer(&json!(7), Err(fault.clone()))).unwrap();
        assert_eq!(value["id"], 7);
        assert_eq!(serde_json::from_value::<Fault>(value["error"].clone()).unwrap(), fault);
        let long = answer(&json!(8), Ok(Value::from("x".repeat(LONGEST_ANSWER))));
        let value: Value = serde_json::from_slice(&long).unwrap();
        assert_eq!((&value["id"], &value["error"]["code"]), (&json!(8), &json!(EXHAUSTED)));
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let mut lines = Lines::new(&b"one\n\n \ntwo\nthe third is longer\n"[..], 8);
        let mut read = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                Line::Whole(line) => read.push(String::from_utf8(line).unwrap()),
                Line::TooLong => break read.push("too long".into()),
                Line::End => break read.push("end".into()),
            }
        }
        assert_eq!(read, ["one", "two", "too long"]);
        let mut cut = Lines::new(&b"cut of"[..], 8);
        assert!(matches!(cut.next().await.unwrap(), Line::End));
    }
}
