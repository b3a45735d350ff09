//! A loaded model that answers: tokens in, text out, one answer per call, on the caller's thread.
//!
//! It knows no plugin contract and no async; `provider` runs it on a worker thread.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bespoke_plugin_api::Message;

use crate::conversations::Conversations;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::kernel::{Compute, Isa};
use crate::kv::KvCache;
use crate::model::{Model, Scratch};
use crate::output::Output;
use crate::prompt::ChatMl;
use crate::sampler::{Sampler, Sampling};
use crate::tokenizer::Tokenizer;

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
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
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
    gate: Gate,
}

/// Tokens that are read between two looks at whether the caller still waits: 40 ms with AVX-512, 70 ms with AVX2, below
/// a second with neither. More would not be faster.
const CHUNK: usize = 64;
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
        let gate = Gate { free: Mutex::new((options.parallel.max(1), 0)), changed: Condvar::new() };
        Ok(Self { model, tokenizer, format, compute, conversations, gate })
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
        let prompt = self.format.encode(&self.tokenizer, messages, greeting, limit)?;
        if prompt.len() > limit {
            return Err(Error::ContextTooLong { tokens: prompt.len(), limit });
        }
        Ok(prompt)
    }

    /// Generates an answer. `show` gets whole characters as they come; `cancelled` is asked between tokens and between
    /// pieces of the prompt.
    ///
    /// # Errors
    /// [`Error::Option`] or [`Error::ContextTooLong`] before anything is computed, [`Error::Busy`] if too many wait,
    /// [`Error::Cancelled`].
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

        let room = self.context() - request.prompt.len();
        let most = request.max_tokens.min(room);
        let mut sampler = Sampler::new(request.sampling.clone());
        let mut output = Output::new(&request.stop);
        let mut tokens = Vec::new();
        let mut first_token = None;
        let finish = loop {
            let token = sampler.next(&mut logits, &tokens);
            first_token.get_or_insert_with(|| start.elapsed());
            // No control token belongs into an answer: <|im_end|> ends it, and so does any other.
            if self.tokenizer.is_control(token) {
                break Finish::Stop;
            }
            tokens.push(token);
            let text = output.push(self.tokenizer.bytes(token));
            if !text.is_empty() {
                show(text);
            }
            if output.stopped() {
                break Finish::Stop;
            }
            if tokens.len() >= most {
                break Finish::Length;
            }
            self.read(&[token], cache, &mut scratch, &mut logits, cancelled)?;
        };
        let text = output.finish();
        if !text.is_empty() {
            show(text);
        }
        let first_token = first_token.unwrap_or_default();
        Ok(Answer {
            finish,
            prompt_tokens: request.prompt.len(),
            cached_tokens,
            completion_tokens: tokens.len(),
            first_token,
            rest: start.elapsed() - first_token,
        })
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
