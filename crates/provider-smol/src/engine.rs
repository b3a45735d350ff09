//! A loaded model that answers: tokens in, text out, one answer per call, on the caller's thread.
//!
//! It knows no plugin contract and no async; `provider` runs it on a worker thread.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bespoke_plugin_api::Message;

use crate::constrain::{Schema, Text, Vocabulary};
use crate::conversations::Conversations;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::kernel::{Compute, Isa};
use crate::kv::KvCache;
use crate::model::{Model, Scratch};
use crate::ops::log_probability;
use crate::output::Output;
use crate::prompt::ChatMl;
use crate::sampler::{Sampler, Sampling};
use crate::tokenizer::Tokenizer;
use crate::tools::Baselines;

/// How the engine uses the machine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads per answer. More than there are idle cores makes it slower.
    pub threads: usize,
    /// Answers computed at the same time; further ones wait.
    pub parallel: usize,
    /// Conversations whose computed prompt is kept between turns.
    pub conversations: usize,
    /// Most memory of those, in bytes.
    pub conversation_bytes: usize,
    /// The instruction set; the best of the processor when absent.
    pub isa: Option<Isa>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { threads: 1, parallel: 2, conversations: 4, conversation_bytes: 192 << 20, isa: None }
    }
}

/// What to generate.
#[derive(Debug, Clone)]
pub struct Generation {
    /// The prompt, from [`Engine::prompt`].
    pub prompt: Vec<u32>,
    /// Most tokens of the answer; at least 1. The context may end it earlier.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer and are not part of it; none with a schema, whose text has an end of its own.
    pub stop: Vec<String>,
    /// What the answer must fit. It always does, and is whole: where the tokens run out, what is open is closed.
    pub schema: Option<Arc<Schema>>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model was done, or wrote a stop text.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
}

/// How an answer went.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, tokens that were computed in an earlier turn.
    pub cached_tokens: usize,
    /// Tokens generated, without the one that ended the answer.
    pub completion_tokens: usize,
    /// From the start of the computation to the first token.
    pub first_token: Duration,
    /// From the first token to the end.
    pub rest: Duration,
}

/// A model in memory, with the caches of its conversations.
pub struct Engine {
    model: Model,
    tokenizer: Tokenizer,
    format: ChatMl,
    compute: Compute,
    conversations: Conversations,
    /// What was read to choose tools, apart from the conversations, so that neither pushes out the other.
    thoughts: Conversations,
    pub(crate) baselines: Baselines,
    vocabulary: OnceLock<Vocabulary>,
    gate: Gate,
}

/// Tokens that are read between two looks at whether the caller still waits: 40 ms with AVX-512, 70 ms with AVX2, below
/// a second with neither. More would not be faster.
const CHUNK: usize = 64;
/// Tokens whose following tokens are all looked at together: their logits have 3 MB.
const SCORED: usize = 16;
/// Most memory of what was read to choose tools, in bytes: some 2,800 tokens.
const THOUGHT_BYTES: usize = 64 << 20;
/// Answers that may wait for their turn.
const MOST_WAITING: usize = 64;

impl Engine {
    /// Loads a GGUF file: about 0.1 s and 105 MB for SmolLM2-135M in Q4_1.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`] or [`Error::Unsupported`].
    pub fn load(path: &Path, options: &EngineOptions) -> Result<Self> {
        let mut gguf = Gguf::open(path)?;
        let tokenizer = Tokenizer::from_gguf(&mut gguf)?;
        let format = ChatMl::from_gguf(&gguf, &tokenizer)?;
        let model = Model::load(&mut gguf, tokenizer.len())?;
        let compute = Compute::new(options.isa.unwrap_or_else(Isa::detect), options.threads)
            .map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let conversations = Conversations::new(options.conversations, options.conversation_bytes);
        let parallel = options.parallel.max(1);
        // Two prompts are read to choose tools: one for the choice, one for the arguments.
        let thoughts = Conversations::new(2 * parallel, THOUGHT_BYTES);
        let gate = Gate { free: Mutex::new((parallel, 0)), changed: Condvar::new() };
        let (baselines, vocabulary) = (Baselines::default(), OnceLock::new());
        Ok(Self { model, tokenizer, format, compute, conversations, thoughts, baselines, vocabulary, gate })
    }

    /// Tokens of prompt and answer together.
    pub fn context(&self) -> usize {
        self.model.shape().context
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.compute.isa()
    }

    /// The tokens of a conversation; with an exchange of greetings before its first words if `greeting` is set.
    ///
    /// # Errors
    /// [`Error::ContextTooLong`] if no room is left for an answer.
    pub fn prompt(&self, messages: &[Message], greeting: bool) -> Result<Vec<u32>> {
        let limit = self.context() - 1;
        self.bounded(self.format.encode(&self.tokenizer, messages, greeting, limit)?)
    }

    /// The tokens of a conversation that ends with what tools answered, in which the assistant is to tell that.
    ///
    /// # Errors
    /// As [`Self::prompt`].
    pub fn prompt_telling(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.bounded(self.format.encode_telling(&self.tokenizer, messages, self.context() - 1)?)
    }

    fn bounded(&self, prompt: Vec<u32>) -> Result<Vec<u32>> {
        let limit = self.context() - 1;
        if prompt.len() > limit {
            return Err(Error::ContextTooLong { tokens: prompt.len(), limit });
        }
        Ok(prompt)
    }

    /// Generates an answer. `show` gets whole characters as they come; `cancelled` is asked between tokens and between
    /// pieces of the prompt.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::ContextTooLong`] or [`Error::NoRoom`] before anything is computed, [`Error::Busy`] if too
    /// many wait, [`Error::Cancelled`].
    pub fn generate(&self, request: &Generation, cancelled: &dyn Fn() -> bool, show: &mut dyn FnMut(String)) -> Result<Answer> {
        request.sampling.check()?;
        let limit = self.context() - 1;
        if request.prompt.is_empty() || request.max_tokens == 0 {
            let (option, value) = if request.max_tokens == 0 { ("max_tokens", "0") } else { ("prompt", "empty") };
            return Err(Error::Option { option, value: value.to_owned(), range: "at least 1 token" });
        }
        if request.prompt.len() > limit {
            return Err(Error::ContextTooLong { tokens: request.prompt.len(), limit });
        }
        if let Some(schema) = &request.schema {
            if !request.stop.is_empty() {
                let range = "none beside a JSON Schema";
                return Err(Error::Option { option: "stop", value: request.stop.join(", "), range });
            }
            let (least, room) = (self.count(schema.shortest()), self.room(request));
            if least > room {
                return Err(Error::NoRoom { least, room });
            }
        }
        let _turn = self.gate.enter(cancelled)?;
        let mut cache = self.conversations.take(&request.prompt, || self.model.cache());
        let outcome = self.answer(request, &mut cache, cancelled, show);
        self.conversations.give(cache);
        outcome
    }

    /// The logits behind `tokens`, computed from nothing: for comparisons with other implementations.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let (mut cache, mut logits) = (self.model.cache(), Vec::new());
        self.read(tokens, &mut cache, &mut Scratch::default(), &mut logits, &|| false).unwrap_or_default();
        logits
    }

    fn answer(
        &self,
        request: &Generation,
        cache: &mut KvCache,
        cancelled: &dyn Fn() -> bool,
        show: &mut dyn FnMut(String),
    ) -> Result<Answer> {
        let start = Instant::now();
        let (mut scratch, mut logits) = (Scratch::default(), Vec::new());
        let cached_tokens = cache.tokens().len();
        self.read(&request.prompt[cached_tokens..], cache, &mut scratch, &mut logits, cancelled)?;

        let most = self.room(request);
        let mut sampling = request.sampling.clone();
        if request.schema.is_some() {
            // The marks of JSON come again and again.
            sampling.repeat_penalty = 1.0;
        }
        let mut sampler = Sampler::new(sampling);
        let mut output = Output::new(&request.stop);
        let mut text = request.schema.as_deref().map(Text::new);
        let mut tokens = Vec::new();
        let mut closed = 0;
        let mut first_token = None;
        let finish = loop {
            if let Some(text) = &text {
                self.constrain(text, &mut logits);
            }
            let token = sampler.next(&mut logits, &tokens);
            first_token.get_or_insert_with(|| start.elapsed());
            let bytes = self.tokenizer.bytes(token);
            if let Some(so_far) = &mut text {
                if so_far.complete() && self.tokenizer.is_control(token) {
                    break Finish::Stop;
                }
                // The end must still find room behind the token.
                match so_far.with_all(bytes).filter(|next| tokens.len() + 1 + self.count(&next.closing()) <= most) {
                    Some(next) => *so_far = next,
                    None => {
                        let end = so_far.closing();
                        closed = self.count(&end);
                        show_some(output.push(&end), show);
                        break Finish::Length;
                    }
                }
            } else if self.tokenizer.is_control(token) {
                // No control token belongs into an answer: <|im_end|> ends it, and so does any other.
                break Finish::Stop;
            }
            tokens.push(token);
            show_some(output.push(bytes), show);
            if output.stopped() || text.as_ref().is_some_and(Text::over) {
                break Finish::Stop;
            }
            if tokens.len() >= most {
                break Finish::Length;
            }
            self.read(&[token], cache, &mut scratch, &mut logits, cancelled)?;
        };
        show_some(output.finish(), show);
        let first_token = first_token.unwrap_or_default();
        Ok(Answer {
            finish,
            prompt_tokens: request.prompt.len(),
            cached_tokens,
            completion_tokens: tokens.len() + closed,
            first_token,
            rest: start.elapsed() - first_token,
        })
    }

    /// Leaves only the tokens that may follow `text`, and its end where it may end.
    fn constrain(&self, text: &Text<'_>, logits: &mut [f32]) {
        let end = text.complete().then_some(self.format.end());
        self.vocabulary().mask(&self.tokenizer, text).apply(logits, end);
    }

    /// The tokens by their bytes, sorted when they are first asked for.
    pub fn vocabulary(&self) -> &Vocabulary {
        self.vocabulary.get_or_init(|| Vocabulary::new(&self.tokenizer))
    }

    /// Most tokens that an answer may have.
    fn room(&self, request: &Generation) -> usize {
        request.max_tokens.min(self.context() - request.prompt.len())
    }

    /// Tokens of a text in UTF-8.
    fn count(&self, text: &[u8]) -> usize {
        let mut tokens = Vec::new();
        self.tokenizer.encode(&String::from_utf8_lossy(text), &mut tokens);
        tokens.len()
    }

    /// Reads `prompt`, of which the beginning may be known, and hands it to `think`, when it is this caller's turn. Returns
    /// also how many tokens were known.
    pub(crate) fn think<T>(
        &self,
        prompt: &[u32],
        cancelled: &dyn Fn() -> bool,
        think: impl FnOnce(&mut Thought<'_>) -> Result<T>,
    ) -> Result<(T, usize)> {
        let limit = self.context() / 2;
        if prompt.is_empty() || prompt.len() > limit {
            return Err(Error::ContextTooLong { tokens: prompt.len(), limit });
        }
        let _turn = self.gate.enter(cancelled)?;
        let cache = self.thoughts.take(prompt, || self.model.cache());
        let mut thought = Thought { engine: self, cache, scratch: Scratch::default(), logits: Vec::new(), cancelled };
        let known = thought.cache.tokens().len();
        let outcome = thought.read(&prompt[known..]).and_then(|()| think(&mut thought));
        self.thoughts.give(thought.cache);
        Ok((outcome?, known))
    }

    fn read(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        scratch: &mut Scratch,
        logits: &mut Vec<f32>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<()> {
        let pieces = tokens.len().div_ceil(CHUNK);
        for (i, piece) in tokens.chunks(CHUNK).enumerate() {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            let wanted = (i + 1 == pieces).then_some(&mut *logits);
            self.compute.run(|| self.model.forward(&self.compute, piece, cache, scratch, wanted));
        }
        Ok(())
    }
}

/// A prompt that was read, and what the model makes of it. It is never shown.
pub(crate) struct Thought<'a> {
    engine: &'a Engine,
    cache: KvCache,
    scratch: Scratch,
    /// Of what follows.
    logits: Vec<f32>,
    cancelled: &'a dyn Fn() -> bool,
}

impl Thought<'_> {
    /// Reads more; not nothing.
    pub(crate) fn read(&mut self, tokens: &[u32]) -> Result<()> {
        self.engine.read(tokens, &mut self.cache, &mut self.scratch, &mut self.logits, self.cancelled)
    }

    /// The logarithm of the probability that `tokens` follow.
    pub(crate) fn score(&mut self, tokens: &[u32]) -> Result<f32> {
        let Some((last, others)) = tokens.split_last() else { return Ok(0.0) };
        let engine = self.engine;
        let place = self.cache.tokens().len();
        let mut total = log_probability(engine.isa(), &self.logits, *others.first().unwrap_or(last));
        let mut each = Vec::new();
        for (i, part) in others.chunks(SCORED).enumerate() {
            if (self.cancelled)() {
                return Err(Error::Cancelled);
            }
            engine.compute.run(|| engine.model.forward_each(&engine.compute, part, &mut self.cache, &mut self.scratch, &mut each));
            let following = &tokens[i * SCORED + 1..];
            for (logits, token) in each.chunks_exact(engine.tokenizer.len()).zip(following) {
                total += log_probability(engine.isa(), logits, *token);
            }
        }
        self.cache.truncate(place);
        Ok(total)
    }

    /// Writes a space and a text that fits `schema` in up to `most` tokens, always the likeliest token, and returns its
    /// tokens as they were chosen. `None` if the shortest has more.
    pub(crate) fn write(&mut self, schema: &Schema, most: usize) -> Result<Option<(String, Vec<u32>)>> {
        let (engine, mut text) = (self.engine, Text::spaced(schema));
        let (mut bytes, mut tokens) = (Vec::new(), Vec::new());
        if engine.count(&text.closing()) > most {
            return Ok(None);
        }
        let mut sampler = Sampler::new(Sampling { repeat_penalty: 1.0, ..Sampling::default() });
        while !text.over() {
            let mut logits = self.logits.clone();
            engine.constrain(&text, &mut logits);
            let token = sampler.next(&mut logits, &[]);
            if text.complete() && engine.tokenizer.is_control(token) {
                break;
            }
            let next = text.with_all(engine.tokenizer.bytes(token));
            match next.filter(|next| tokens.len() + 1 + engine.count(&next.closing()) <= most) {
                Some(next) => text = next,
                None => {
                    let end = text.closing();
                    engine.tokenizer.encode(&String::from_utf8_lossy(&end), &mut tokens);
                    bytes.extend_from_slice(&end);
                    break;
                }
            }
            bytes.extend_from_slice(engine.tokenizer.bytes(token));
            tokens.push(token);
            self.read(&[token])?;
        }
        Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), tokens)))
    }
}

fn show_some(text: String, show: &mut dyn FnMut(String)) {
    if !text.is_empty() {
        show(text);
    }
}

/// Lets a bounded number of answers compute at the same time.
struct Gate {
    /// Free places and how many wait.
    free: Mutex<(usize, usize)>,
    changed: Condvar,
}

/// A place; given back on drop.
struct Turn<'a>(&'a Gate);

impl Gate {
    fn enter(&self, cancelled: &dyn Fn() -> bool) -> Result<Turn<'_>> {
        let mut state = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 == 0 && state.1 >= MOST_WAITING {
            return Err(Error::Busy { waiting: state.1 });
        }
        state.1 += 1;
        while state.0 == 0 && !cancelled() {
            // Woken by the next free place; the time limit is for callers that give up meanwhile.
            let woken = self.changed.wait_timeout(state, Duration::from_millis(50));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.1 -= 1;
        if state.0 == 0 {
            return Err(Error::Cancelled);
        }
        state.0 -= 1;
        Ok(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        self.0.changed.notify_one();
    }
}
