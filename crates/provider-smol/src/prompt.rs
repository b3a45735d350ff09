//! Writes a conversation the way the model was trained to read it (ChatML), as tokens.
//!
//! **Invariant:** the control tokens come from here alone. What people or tools say is encoded as plain text, so nobody
//! can end their turn and speak as the system.

use std::borrow::Cow;
use std::io::{Read, Seek};

use bespoke_plugin_api::{Message, Role};

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::tokenizer::Tokenizer;

/// The prompt format, with the control tokens of one model.
pub(crate) struct ChatMl {
    start: u32,
    end: u32,
}

/// What the model's own template says when the conversation does not begin with a system message.
const DEFAULT_SYSTEM: &str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

/// An exchange that shows the model what an answer looks like. Measured with five system prompts: of seven plain
/// questions (capitals, the sky, the week) 25 of 35 came out right without it, all 35 with it. It names no subject, as
/// examples with one turn up in later answers.
const GREETING: [(&str, &str); 2] = [("user", "Hello!"), ("assistant", "Hello! How can I help you?")];

/// What a tool answered, and the assistant repeated. A model this small explains a listing at length and wrongly; shown a few
/// that are repeated, it repeats. Chosen on 13 results: with these it repeats all of them, but for the case of letters; asked
/// to tell what a text says, it told three.
const RESULTS: [&str; 6] = [
    "`album` has 4 songs:\nriver.mp3 (201 seconds)\nblue moon.mp3 (180 seconds)\nstay.ogg (95 seconds)\nlive/",
    "Closed today\nopen on Monday\n# Winter\n1. ask at the back door",
    "The train leaves on Sunday, 3 May, 08:15 (Oslo).",
    "3 lamps in the house:\nkitchen\nhall/left\nhall/right",
    "Dear Tom, the boat is ready. We sail at noon, bring a coat.\n[a letter of 57 words]",
    "sugar\nrice\n2 lemons",
];

/// What the system says before it.
const TELLER: &str = "You are a helpful assistant. Answer briefly and to the point.";

/// What the assistant says when it calls a tool.
const LOOKING: &str = "I will look that up.";

impl ChatMl {
    /// Takes the control tokens from a model whose template is ChatML.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another template.
    pub(crate) fn from_gguf<R: Read + Seek>(gguf: &Gguf<R>, tokenizer: &Tokenizer) -> Result<Self> {
        let template = gguf.text("tokenizer.chat_template")?;
        let controls = tokenizer.control("<|im_start|>").zip(tokenizer.control("<|im_end|>"));
        match controls {
            Some((start, end)) if template.contains("<|im_start|>") => Ok(Self { start, end }),
            _ => Err(Error::Unsupported("its chat template is not ChatML".to_owned())),
        }
    }

    /// The token that ends what somebody says.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// The tokens of a conversation, up to where the assistant's next words begin; with an exchange of greetings before
    /// the user's first words if `greeting` is set.
    ///
    /// A call of a tool becomes the assistant's promise to look, its result the user's words: this model knows no other
    /// way. Of eight results with a question each, it told seven right with these words, and three as they come.
    ///
    /// # Errors
    /// [`Error::ContextTooLong`] if the text alone must have more than `limit` tokens, before it is encoded.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer, messages: &[Message], greeting: bool, limit: usize) -> Result<Vec<u32>> {
        let tokens = tokenizer.at_least(messages.iter().map(|m| m.text.len()).sum());
        if tokens > limit {
            return Err(Error::ContextTooLong { tokens, limit });
        }
        let mut prompt = Vec::new();
        let systems = messages.iter().take_while(|message| message.role == Role::System).count();
        let (system, talk) = messages.split_at(systems);
        for message in system {
            self.turn(tokenizer, "system", &message.text, &mut prompt);
        }
        if system.is_empty() {
            self.turn(tokenizer, "system", DEFAULT_SYSTEM, &mut prompt);
        }
        for (role, text) in GREETING.iter().filter(|_| greeting) {
            self.turn(tokenizer, role, text, &mut prompt);
        }
        for message in talk {
            let (role, text) = match message.role {
                Role::System => ("system", Cow::from(&message.text)),
                Role::Assistant if !message.text.is_empty() => ("assistant", Cow::from(&message.text)),
                Role::Assistant if message.tool_calls.is_empty() => continue,
                Role::Assistant => ("assistant", Cow::from(LOOKING)),
                Role::Tool => ("user", Cow::from(format!("I found this text:\n\"{}\"\nTell me what it says.", message.text))),
                _ => ("user", Cow::from(&message.text)),
            };
            self.turn(tokenizer, role, &text, &mut prompt);
        }
        prompt.push(self.start);
        tokenizer.encode("assistant\n", &mut prompt);
        Ok(prompt)
    }

    /// The tokens of a conversation that ends with what tools answered, up to where the assistant tells it. Nothing else of the
    /// conversation is there: other words change what is repeated, and all of this but the answer is read only once.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub(crate) fn encode_telling(&self, tokenizer: &Tokenizer, messages: &[Message], limit: usize) -> Result<Vec<u32>> {
        let answers = messages.iter().rev().take_while(|message| message.role == Role::Tool).count();
        let answers = &messages[messages.len() - answers..];
        let texts: Vec<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
        let mut talk = vec![Message::system(TELLER)];
        for result in RESULTS {
            talk.extend([Message::user(asked(result)), Message::assistant(format!("I found this:\n{result}"))]);
        }
        talk.push(Message::user(asked(&texts.join("\n"))));
        self.encode(tokenizer, &talk, false, limit)
    }

    fn turn(&self, tokenizer: &Tokenizer, role: &str, text: &str, into: &mut Vec<u32>) {
        into.push(self.start);
        tokenizer.encode(&format!("{role}\n{text}"), into);
        into.push(self.end);
        tokenizer.encode("\n", into);
    }
}

/// How the assistant is asked to tell what a tool answered.
fn asked(result: &str) -> String {
    format!("Say what was found, and repeat it:\n{result}")
}
