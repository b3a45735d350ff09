//! A model that emits no tool calls of its own, but keeps an answer to a JSON Schema, is led to tools: first it chooses among
//! them under a schema of what it may choose, then it fills in the arguments under the schema of the tool. What it says to the
//! user is never put under a schema, so that it streams as it should.

use bespoke_plugin_api::{Code, Error, Message, Result, Role, ToolSpec};
use serde_json::{Value, json};

/// What the model writes when it wants no tool.
const NO_TOOL: &str = "none";
/// Most bytes of an answer under a schema. A server that does not keep schemas may go on for ever.
pub(crate) const LONGEST: usize = 64 * 1024;

/// What is asked to have a tool chosen: messages and the schema of the answer.
pub(crate) fn choosing(said: &[Message], tools: &[ToolSpec]) -> (Vec<Message>, Value) {
    let list: Vec<_> = tools.iter().map(|tool| format!("- {}: {}", tool.name, tool.description)).collect();
    let task = format!(
        "Before you answer, decide whether one of these tools is needed:\n{}\n- {NO_TOOL}: answer without a tool\n\
         Reply with JSON only: {{\"tool\": NAME}}.",
        list.join("\n")
    );
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).chain([NO_TOOL]).collect();
    let schema = json!({
        "type": "object",
        "properties": { "tool": { "type": "string", "enum": names } },
        "required": ["tool"],
        "additionalProperties": false,
    });
    (with_task(said, task), schema)
}

/// What the model chose; `None` is an answer without a tool.
pub(crate) fn chosen<'t>(answer: &str, tools: &'t [ToolSpec]) -> Result<Option<&'t ToolSpec>> {
    let value: Value = serde_json::from_str(answer.trim()).map_err(|_| unkept(answer))?;
    match value.get("tool").and_then(Value::as_str) {
        Some(NO_TOOL) => Ok(None),
        Some(name) => tools.iter().find(|tool| tool.name == name).map(Some).ok_or_else(|| unkept(answer)),
        None => Err(unkept(answer)),
    }
}

/// What is asked to have the arguments of a tool.
pub(crate) fn filling(said: &[Message], tool: &ToolSpec) -> Vec<Message> {
    let task = format!(
        "You call the tool {}: {}\nReply with JSON only: its arguments, taken from the conversation, as this schema says: {}",
        tool.name, tool.description, tool.input_schema
    );
    with_task(said, task)
}

/// The arguments that the model wrote.
pub(crate) fn filled(answer: &str) -> Result<Value> {
    serde_json::from_str(answer.trim()).ok().filter(Value::is_object).ok_or_else(|| unkept(answer))
}

/// Whether a tool takes arguments at all.
pub(crate) fn takes_arguments(tool: &ToolSpec) -> bool {
    tool.input_schema.get("properties").and_then(Value::as_object).is_none_or(|properties| !properties.is_empty())
}

/// A conversation in the words of a model that knows no tools: its calls are text of its own, their answers are told by the user.
pub(crate) fn in_words(said: &[Message]) -> Vec<Message> {
    let mut told: Vec<Message> = Vec::with_capacity(said.len());
    for message in said {
        let (role, text) = match message.role {
            Role::Tool => (Role::User, format!("[The tool answered: {}]", message.text)),
            Role::Assistant if !message.tool_calls.is_empty() => {
                let calls: Vec<_> = message.tool_calls.iter().map(|call| format!("[I call {} with {}]", call.name, call.args)).collect();
                let calls = calls.join("\n");
                (Role::Assistant, if message.text.is_empty() { calls } else { format!("{}\n{calls}", message.text) })
            }
            role => (role, message.text.clone()),
        };
        match told.last_mut() {
            // Templates want the roles to alternate.
            Some(last) if last.role == role && role != Role::System => {
                last.text.push('\n');
                last.text.push_str(&text);
            }
            _ => told.push(Message::new(role, text)),
        }
    }
    told
}

/// The task stands at the end of the last message, where every template lets it stand.
fn with_task(said: &[Message], task: String) -> Vec<Message> {
    let mut messages = in_words(said);
    match messages.last_mut() {
        Some(last) if last.role == Role::User => {
            last.text.push_str("\n\n");
            last.text.push_str(&task);
        }
        _ => messages.push(Message::user(task)),
    }
    messages
}

fn unkept(answer: &str) -> Error {
    // Without what it said: errors are logged.
    let message = format!("the model did not keep to the schema in {} bytes", answer.len());
    Error::new(Code::LLM_COMPLETION_FAILED, message)
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::ToolCall;

    use super::*;

    #[test]
    fn a_conversation_with_tools_is_told_in_words() {
        let said = [
            Message::system("Be brief."),
            Message::user("What time is it?"),
            Message::assistant("Let me see.").tool_calls(vec![ToolCall::new("1", "clock", json!({}))]),
            Message::tool("1", "12:00"),
        ];
        let told: Vec<_> = in_words(&said).iter().map(|m| (m.role, m.text.clone())).collect();
        assert_eq!(
            told,
            [
                (Role::System, "Be brief.".to_owned()),
                (Role::User, "What time is it?".to_owned()),
                (Role::Assistant, "Let me see.\n[I call clock with {}]".to_owned()),
                (Role::User, "[The tool answered: 12:00]".to_owned()),
            ]
        );
        let tools = [ToolSpec::new("clock", "Tells the time.")];
        let (messages, schema) = choosing(&said, &tools);
        assert_eq!(messages.len(), 4, "the task is part of the last message");
        assert!(messages[3].text.starts_with("[The tool answered: 12:00]\n\nBefore you answer"), "{messages:?}");
        assert_eq!(schema["properties"]["tool"]["enum"], json!(["clock", "none"]));
    }

    #[test]
    fn what_a_model_chose_is_a_tool_none_or_an_error() {
        let tools = [ToolSpec::new("clock", "Tells the time.")];
        assert_eq!(chosen(" {\"tool\": \"clock\"}\n", &tools).unwrap(), Some(&tools[0]));
        assert_eq!(chosen("{\"tool\":\"none\"}", &tools).unwrap(), None);
        for broken in ["I would use the clock", "{\"tool\":\"dice\"}", "{}", "[]", "{\"tool\":1}", ""] {
            assert_eq!(chosen(broken, &tools).unwrap_err().code(), Code::LLM_COMPLETION_FAILED, "{broken}");
        }
        assert_eq!(filled("{\"a\":1}").unwrap(), json!({ "a": 1 }));
        assert!(filled("[1]").is_err() && filled("{\"a\":").is_err());
    }
}
