//! A conversation and how much of it a model is shown. In memory; storing it is not done here.

use bespoke_plugin_api::{Message, Role};

/// What was said so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    id: String,
    messages: Vec<Message>,
    pub(crate) announced: bool,
}

impl Session {
    /// An empty conversation.
    pub fn new(id: impl Into<String>) -> Self {
        Session { id: id.into(), messages: Vec::new(), announced: false }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was said, oldest first, without the system prompt.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Forgets what was said.
    pub fn clear(&mut self) {
        self.messages.clear();
    }

    pub(crate) fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.messages.truncate(len);
    }

    /// Takes back a round of tool calls that was cut off before every call had its answer.
    pub(crate) fn drop_open_calls(&mut self) {
        let Some(at) = self.messages.iter().rposition(|m| m.role == Role::Assistant && !m.tool_calls.is_empty()) else { return };
        let answers = self.messages[at + 1..].iter().take_while(|m| m.role == Role::Tool).count();
        if answers < self.messages[at].tool_calls.len() {
            self.messages.truncate(at);
        }
    }

    /// The latest messages that fit a budget of tokens. Only whole turns are left out: a cut falls before a message of the
    /// user, so that no answer of a tool loses its call. The last turn is always there.
    pub(crate) fn window(&self, budget: u32) -> &[Message] {
        let mut start = self.messages.len();
        let mut used = 0;
        for (at, message) in self.messages.iter().enumerate().rev() {
            used += estimate(message);
            if message.role == Role::User {
                if used > budget && start < self.messages.len() {
                    break;
                }
                start = at;
            }
        }
        // A history that does not begin with the user has no whole turn to leave out.
        if self.messages.iter().any(|m| m.role == Role::User) { &self.messages[start..] } else { &self.messages }
    }
}

/// Tokens of a message, by the rule of thumb of four bytes a token, and four for its frame. Exact counts belong to a provider.
fn estimate(message: &Message) -> u32 {
    let calls: usize = message.tool_calls.iter().map(|call| call.name.len() + call.args.to_string().len()).sum();
    u32::try_from((message.text.len() + calls) / 4 + 4).unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::ToolCall;
    use serde_json::json;

    use super::*;

    fn session() -> Session {
        let mut session = Session::new("s");
        for n in 0..4 {
            session.push(Message::user(format!("question {n} {}", "x".repeat(36))));
            session.push(Message::assistant("").tool_calls(vec![ToolCall::new("1", "clock", json!({}))]));
            session.push(Message::tool("1", "noon"));
            session.push(Message::assistant("it is noon"));
        }
        session
    }

    #[test]
    fn leaves_out_whole_turns_and_keeps_tool_pairs_together() {
        let session = session();
        assert_eq!(session.window(u32::MAX / 2), session.messages());
        let window = session.window(70);
        assert_eq!(window.len(), 4 * 2);
        assert!(window[0].text.starts_with("question 2"));
    }

    #[test]
    fn an_open_round_of_calls_is_taken_back_and_a_closed_one_stays() {
        let mut session = session();
        let whole = session.clone();
        session.drop_open_calls();
        assert_eq!(session, whole);
        let call = |id: &str| ToolCall::new(id, "clock", json!({}));
        session.push(Message::user("again"));
        session.push(Message::assistant("").tool_calls(vec![call("1"), call("2")]));
        session.push(Message::tool("1", "noon"));
        session.drop_open_calls();
        assert_eq!(session.messages().last(), Some(&Message::user("again")));
    }

    #[test]
    fn the_last_turn_is_always_there() {
        let session = session();
        assert!(session.window(1)[0].text.starts_with("question 3"));
    }
}
