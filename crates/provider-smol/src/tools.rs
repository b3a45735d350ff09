//! Chooses a tool and its arguments by what the model itself finds likely. No word of the user is compared with anything.
//!
//! The model is small and its chat template knows no tools. What it does well is to continue a pattern, so it reads a few
//! messages with the function that each needed, then the user's message, and is asked how likely the description of each
//! offered tool is to follow, and how likely those of things that need no tool. From each goes what the description gets
//! behind a message without content (contextual calibration: Zhao et al., Calibrate Before Use, 2021), because a
//! description is likely or not by itself, too. The arguments are written in the same way, one by one, each kept to its
//! schema; an optional one only counts where the user's message makes its value likelier.
//!
//! The prompts are the same for every set of tools, so that they are read once; a decision then costs the tokens of the
//! message and of the descriptions. Measured rates stand in the crate docs, the questions in `tests/it/choice.rs`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use bespoke_plugin_api::ToolSpec;
use bespoke_plugin_api::serde_json::{Map, Value};

use crate::constrain::{Lenience, Schema};
use crate::engine::{Engine, Thought};
use crate::error::Result;

/// How a choice went. Scores are natural logarithms: how many times likelier the message makes a description.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The likeliest tool, by its place in the list.
    pub tool: usize,
    /// How far it is above what needs no tool; it should be called where this is above 0.
    pub margin: f32,
    /// The score of each tool.
    pub scores: Vec<f32>,
}

/// Scores of descriptions behind messages without content, by their tokens.
pub(crate) type Baselines = Mutex<HashMap<Vec<u32>, f32>>;

/// Something that an assistant is asked for, in the examples that the model reads.
struct Example {
    message: &'static str,
    name: &'static str,
    description: &'static str,
    arguments: &'static [(&'static str, &'static str, &'static str)],
}

/// What needs no tool.
const ANSWERS: [(&str, &str); 4] = [
    ("answer", "Answers from general knowledge: people, places, history, nature."),
    ("chat", "Talks with the user, friendly."),
    ("write", "Writes texts such as stories and letters."),
    ("explain", "Calculates and explains how things work."),
];

/// They show each kind of answer, and pairs that differ only in whether many things are listed or one is fetched.
const EXAMPLES: [Example; 8] = [
    Example {
        message: "Switch off the light in the kitchen",
        name: "set_light",
        description: "Turns lamps on and off.",
        arguments: &[("room", "The room", "\"kitchen\""), ("on", "Whether it shines", "false")],
    },
    Example { message: "Who was the first person on the moon?", name: ANSWERS[0].0, description: ANSWERS[0].1, arguments: &[] },
    Example {
        message: "Which songs are on the album Thriller?",
        name: "list_songs",
        description: "Lists the songs of an album.",
        arguments: &[("album", "Name of the album", "\"Thriller\"")],
    },
    Example { message: "Hi there!", name: ANSWERS[1].0, description: ANSWERS[1].1, arguments: &[] },
    Example {
        message: "will it rain in Lisbon",
        name: "weather",
        description: "Tells the weather of today.",
        arguments: &[("city", "City and country, such as Oslo, Norway", "\"Lisbon, Portugal\"")],
    },
    Example { message: "Make up a story about a frog", name: ANSWERS[2].0, description: ANSWERS[2].1, arguments: &[] },
    Example {
        message: "I want to hear blue_moon.mp3, please.",
        name: "play_song",
        description: "Plays a song.",
        arguments: &[("file", "The file to play, such as song.mp3", "\"blue_moon.mp3\"")],
    },
    Example { message: "What does the word planet mean?", name: ANSWERS[3].0, description: ANSWERS[3].1, arguments: &[] },
];

/// Messages without content.
const EMPTY: [&str; 3] = ["N/A", "...", "Hello"];
/// A tool must be so much likelier than what needs none: chosen on the development questions.
const THRESHOLD: f32 = 0.35;
/// An optional argument must be so much likelier behind the message than behind one without content.
const SUPPORT: f32 = 3.0;
/// Tokens of a message that are read; of a longer one the last.
const MOST_MESSAGE: usize = 256;
/// Characters of a description that are read.
const MOST_DESCRIPTION: usize = 160;
/// Tokens of one argument.
const MOST_ARGUMENT: usize = 64;
/// Optional arguments that are considered; the later ones are left out.
const MOST_OPTIONAL: usize = 6;
const MOST_BASELINES: usize = 1024;

const TASK: &str = "For each message to an assistant, write which function it needs.\n\n";

/// Tokens that thinking took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens read, candidates among them.
    pub read: usize,
    /// Of those, tokens that were read in an earlier turn.
    pub cached: usize,
    /// Tokens written.
    pub written: usize,
}

/// Whether arguments for a tool can be written: its schema is one that [`Schema`] keeps.
pub fn can_be_called(tool: &ToolSpec) -> bool {
    Schema::compile(&tool.input_schema, Lenience::Checked).is_ok()
}

/// Makes one decision.
pub struct Chooser<'a> {
    engine: &'a Engine,
    cancelled: &'a dyn Fn() -> bool,
    spent: Spent,
}

impl<'a> Chooser<'a> {
    /// One that gives up when `cancelled` says so.
    pub fn new(engine: &'a Engine, cancelled: &'a dyn Fn() -> bool) -> Self {
        Self { engine, cancelled, spent: Spent::default() }
    }

    /// What its decisions took.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Which of `tools` a message asks for, and how clearly. `tools` must not be empty.
    ///
    /// # Errors
    /// [`Error::Busy`](crate::error::Error::Busy), [`Error::Cancelled`](crate::error::Error::Cancelled).
    pub fn choose(&mut self, message: &str, tools: &[ToolSpec]) -> Result<Decision> {
        let labels = tools.iter().map(|tool| label(&tool.name, &tool.description));
        let answers = ANSWERS.iter().map(|(name, description)| label(name, description));
        let candidates: Vec<Vec<u32>> = labels.chain(answers).map(|label| self.tokens(&format!(" {label}\n"))).collect();
        let before = self.baselines(&candidates)?;
        let after = self.scores(message, &candidates)?;
        let scores: Vec<f32> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let (scores, others) = scores.split_at(tools.len());
        let tool = (0..tools.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
        let most = |scores: &[f32]| scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Ok(Decision { tool, margin: most(scores) - most(others) - THRESHOLD, scores: scores.to_vec() })
    }

    /// The arguments with which a message asks for `tool`, an object that fits its schema as far as [`Lenience::Checked`]
    /// says.
    ///
    /// # Errors
    /// [`Error::Schema`](crate::error::Error::Schema) if the schema has no arguments that could be written; as
    /// [`Self::choose`].
    pub fn arguments(&mut self, message: &str, tool: &ToolSpec) -> Result<Value> {
        let whole = &tool.input_schema;
        // What is wrong with any part of it is found before anything is computed.
        Schema::compile(whole, Lenience::Checked)?;
        let none = Map::new();
        let properties = whole.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let required: Vec<&str> = whole.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let (mut written, mut lines, mut optional) = (Map::new(), String::new(), 0);
        for (name, schema) in properties {
            let needed = required.contains(&name.as_str());
            optional += usize::from(!needed);
            if !needed && optional > MOST_OPTIONAL {
                continue;
            }
            let schema_of_value = Schema::compile_part(whole, schema, Lenience::Checked)?;
            let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            let line = format!("{lines}{}", argument(name, description));
            let prompt = self.call(message, tool, &line);
            let Some((text, tokens)) = self.think(&prompt, |thought| thought.write(&schema_of_value, MOST_ARGUMENT))? else { continue };
            self.spent.written += tokens.len();
            if !needed && self.support(message, tool, &line, &tokens)? < SUPPORT {
                continue;
            }
            let Ok(value) = text.parse::<Value>() else { continue };
            lines = format!("{line}{text}\n");
            written.insert(name.clone(), value);
        }
        Ok(Value::Object(written))
    }

    /// How much likelier a message makes a value than messages without content do.
    fn support(&mut self, message: &str, tool: &ToolSpec, line: &str, tokens: &[u32]) -> Result<f32> {
        let mut score = |message: &str| {
            let prompt = self.call(message, tool, line);
            self.spent.read += tokens.len();
            self.think(&prompt, |thought| thought.score(tokens))
        };
        let with = score(message)?;
        let without = score(EMPTY[0])?.max(score(EMPTY[1])?);
        Ok(with - without)
    }

    /// The prompt for a choice.
    fn question(&self, message: &str) -> Vec<u32> {
        let mut text = TASK.to_owned();
        for example in &EXAMPLES {
            let label = label(example.name, example.description);
            // Writing into a string cannot fail.
            let _ = write!(text, "Message: {}\nFunction: {label}\n\n", example.message);
        }
        let mut prompt = self.tokens(&text);
        self.message(message, &mut prompt);
        self.engine.tokenizer().encode("\nFunction:", &mut prompt);
        prompt
    }

    /// The prompt for an argument of a call.
    fn call(&self, message: &str, tool: &ToolSpec, line: &str) -> Vec<u32> {
        let mut text = TASK.to_owned();
        for example in EXAMPLES.iter().filter(|example| !example.arguments.is_empty()) {
            let label = label(example.name, example.description);
            let _ = write!(text, "Message: {}\nFunction: {label}\n", example.message);
            for (name, description, value) in example.arguments {
                let _ = writeln!(text, "{} {value}", argument(name, description));
            }
            text.push('\n');
        }
        let mut prompt = self.tokens(&text);
        self.message(message, &mut prompt);
        self.engine.tokenizer().encode(&format!("\nFunction: {}\n{line}", label(&tool.name, &tool.description)), &mut prompt);
        prompt
    }

    fn message(&self, message: &str, prompt: &mut Vec<u32>) {
        let words: Vec<&str> = message.split_whitespace().collect();
        self.engine.tokenizer().encode("Message:", prompt);
        let tokens = self.tokens(&format!(" {}", words.join(" ")));
        prompt.extend_from_slice(&tokens[tokens.len().saturating_sub(MOST_MESSAGE)..]);
    }

    /// The mean score of each candidate behind messages without content; computed once for each candidate, and again when so
    /// many have come since that it was forgotten.
    fn baselines(&mut self, candidates: &[Vec<u32>]) -> Result<Vec<f32>> {
        let mut means: Vec<Option<f32>> = {
            let known = self.engine.baselines.lock().unwrap_or_else(PoisonError::into_inner);
            candidates.iter().map(|candidate| known.get(candidate).copied()).collect()
        };
        let missing: Vec<Vec<u32>> = candidates.iter().zip(&means).filter(|(_, mean)| mean.is_none()).map(|(c, _)| c.clone()).collect();
        if !missing.is_empty() {
            let mut sums = vec![0.0; missing.len()];
            for message in EMPTY {
                let scores = self.scores(message, &missing)?;
                sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score / EMPTY.len() as f32);
            }
            means.iter_mut().filter(|mean| mean.is_none()).zip(&sums).for_each(|(mean, sum)| *mean = Some(*sum));
            let mut known = self.engine.baselines.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() + missing.len() > MOST_BASELINES {
                known.clear();
            }
            known.extend(missing.into_iter().zip(sums));
        }
        Ok(means.into_iter().flatten().collect())
    }

    fn scores(&mut self, message: &str, candidates: &[Vec<u32>]) -> Result<Vec<f32>> {
        self.spent.read += candidates.iter().map(Vec::len).sum::<usize>();
        let prompt = self.question(message);
        self.think(&prompt, |thought| candidates.iter().map(|candidate| thought.score(candidate)).collect())
    }

    fn think<T>(&mut self, prompt: &[u32], think: impl FnOnce(&mut Thought<'_>) -> Result<T>) -> Result<T> {
        let (outcome, cached) = self.engine.think(prompt, self.cancelled, think)?;
        self.spent.read += prompt.len();
        self.spent.cached += cached;
        Ok(outcome)
    }

    fn tokens(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        self.engine.tokenizer().encode(text, &mut tokens);
        tokens
    }
}

/// A tool as the model reads it: its name as words, and the first sentence of its description.
fn label(name: &str, description: &str) -> String {
    let sentence = description.split_once(". ").map_or(description, |(first, _)| first);
    let short: String = sentence.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MOST_DESCRIPTION).collect();
    format!("{}: {}.", name.replace('_', " "), short.trim_end_matches('.'))
}

/// The line of an argument, up to its value.
fn argument(name: &str, description: &str) -> String {
    let sentence = description.split_once(". ").map_or(description, |(first, _)| first);
    let short: String = sentence.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MOST_DESCRIPTION).collect();
    if short.is_empty() { format!("{name} =") } else { format!("{name} ({}) =", short.trim_end_matches('.')) }
}
