//! Moonshine itself: one stretch of speech in, its text out, by greedy decoding with a key-value cache. It knows
//! nothing of pauses (`pauses.rs`), streams or plugins.
//!
//! Moonshine (Jeffries et al., 2024, arXiv:2410.15608) takes raw 16 kHz samples: its encoder begins with three
//! convolutions instead of a spectrogram and makes about 41 frames a second. The decoder is one "merged" graph whose
//! flag `use_cache_branch` tells the first step, which computes the cross-attention keys of the encoder frames, from
//! the later ones, which only extend the cache of the text so far.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rten::{Dimension, Model, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, NdTensorView, Tensor};

use crate::error::EngineError;
use crate::vocabulary::Vocabulary;

/// The only rate that the model was trained on, in Hz.
pub const SAMPLE_RATE: u32 = 16_000;

/// Where the three files of the model lie.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// `encoder_model.onnx`
    pub encoder: PathBuf,
    /// `decoder_model_merged.onnx`
    pub decoder: PathBuf,
    /// `tokenizer.json`
    pub tokenizer: PathBuf,
}

impl ModelFiles {
    /// The three files under their usual names in one folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            encoder: folder.join("encoder_model.onnx"),
            decoder: folder.join("decoder_model_merged.onnx"),
            tokenizer: folder.join("tokenizer.json"),
        }
    }
}

/// The loaded model. It is not changed by use, so one engine serves many threads.
pub struct Engine {
    encoder: Encoder,
    decoder: Decoder,
    vocabulary: Vocabulary,
    pool: Arc<ThreadPool>,
}

impl Engine {
    /// Loads the model (0.12 s; 130 MB in memory, 160 MB at work) for `threads` threads per graph run. One is the right number beside other
    /// work: two bring little for a model this small.
    ///
    /// # Errors
    ///
    /// A file is missing, broken or of another model.
    pub fn load(files: &ModelFiles, threads: usize) -> Result<Self, EngineError> {
        Ok(Self {
            encoder: Encoder::load(&files.encoder)?,
            decoder: Decoder::load(&files.decoder)?,
            vocabulary: Vocabulary::load(&files.tokenizer)?,
            pool: Arc::new(ThreadPool::with_num_threads(threads.max(1))),
        })
    }

    /// Writes down one stretch of speech: mono, 16 kHz, nominally −1 to 1. Best between 1 and 12 seconds; on silence
    /// or minutes of audio the model invents words, so callers cut first. The text is empty where the model hears nothing
    /// to write. `cancelled` is asked before each token.
    ///
    /// # Errors
    ///
    /// The call was cancelled, or the graphs do not fit together.
    pub fn recognise(&self, speech: &[f32], cancelled: &dyn Fn() -> bool) -> Result<String, EngineError> {
        if speech.len() < MIN_SAMPLES {
            return Ok(String::new());
        }
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        let frames = self.encoder.run(speech, options.clone())?;

        let limit = token_limit(speech.len());
        let mut steps = self.decoder.start(frames, options);
        let mut tokens = Vec::with_capacity(limit);
        let mut token = self.vocabulary.start;
        for _ in 0..limit {
            if cancelled() {
                return Err(EngineError::Cancelled);
            }
            let mut logits = steps.next(token)?;
            if tokens.is_empty() {
                self.doubt_silence(&mut logits);
            }
            token = likeliest(&logits).ok_or(EngineError::Output { stage: "decoder", output: "logits" })?;
            if token == self.vocabulary.end {
                break;
            }
            tokens.push(token);
            if let Some(kept) = without_loop(&tokens) {
                tokens.truncate(kept);
                break;
            }
        }
        Ok(self.vocabulary.decode(&tokens))
    }

    /// Takes the end token out of the first step's logits unless the model is sure that there is nothing to write. Clear
    /// speech now and then gets it first, with a probability of 0.2 to 0.8; typing, office and white noise get 0.9 to 1.
    fn doubt_silence(&self, logits: &mut [f32]) {
        const SURE: f32 = 0.85;
        let best = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - best).exp()).sum();
        if let Some(end) = logits.get_mut(self.vocabulary.end as usize).filter(|end| (**end - best).exp() / sum < SURE) {
            *end = f32::MIN;
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// The convolutions need 895 samples for their first frame; the model's authors ask for at least 0.1 s.
const MIN_SAMPLES: usize = SAMPLE_RATE as usize / 10;

/// English speech has at most about 6.5 tokens a second (the limit that the model's authors advise); a few more let
/// short, fast answers end with their full stop.
fn token_limit(samples: usize) -> usize {
    (samples as f32 / SAMPLE_RATE as f32 * 6.5).ceil() as usize + 6
}

/// Greedy decoding can fall into a loop. When the last tokens are one block of up to 24, said at least four times and
/// at least 12 tokens long in all, this is the length to keep: everything up to the end of the first copy.
fn without_loop(tokens: &[u32]) -> Option<usize> {
    (1..=24).find_map(|period| {
        let copies = (12usize.div_ceil(period)).max(4);
        let start = tokens.len().checked_sub(period * copies)?;
        let looped = tokens[start..].windows(period + 1).all(|w| w[0] == w[period]);
        looped.then_some(start + period)
    })
}

struct Encoder {
    model: Model,
    input: NodeId,
    output: NodeId,
}

impl Encoder {
    fn load(path: &Path) -> Result<Self, EngineError> {
        let model = load_graph(path)?;
        Ok(Self { input: node(&model, path, "input_values")?, output: node(&model, path, "last_hidden_state")?, model })
    }

    /// Samples to frames of shape [1, frames, width].
    fn run(&self, speech: &[f32], options: RunOptions) -> Result<Value, EngineError> {
        let samples = NdTensorView::from_data([1, speech.len()], speech);
        let outputs = self
            .model
            .run(vec![(self.input, samples.into())], &[self.output], Some(options))
            .map_err(|source| EngineError::Run { stage: "encoder", source })?;
        outputs.into_iter().next().ok_or(EngineError::Output { stage: "encoder", output: "last_hidden_state" })
    }
}

/// The merged decoder and the places of its caches, read from the graph, so that the base size would run as well.
struct Decoder {
    model: Model,
    token: NodeId,
    frames: NodeId,
    use_cache: NodeId,
    logits: NodeId,
    /// What the text so far left behind: replaced at every step.
    text_cache: Vec<CacheSlot>,
    /// What depends on the audio alone: computed by the first step, read by all later ones.
    audio_cache: Vec<CacheSlot>,
}

struct CacheSlot {
    past: NodeId,
    present: NodeId,
    /// [1, heads, 0, width of a head]
    empty_shape: Vec<usize>,
}

impl Decoder {
    fn load(path: &Path) -> Result<Self, EngineError> {
        let model = load_graph(path)?;
        let (mut text_cache, mut audio_cache) = (Vec::new(), Vec::new());
        for &past in model.input_ids() {
            let info = model.node_info(past);
            let name = info.as_ref().and_then(|i| i.name()).unwrap_or_default();
            let Some(slot) = name.strip_prefix("past_key_values.") else { continue };
            let shape = info.as_ref().and_then(|i| i.shape()).unwrap_or_default();
            let [_, Dimension::Fixed(heads), _, Dimension::Fixed(width)] = shape[..] else {
                return Err(EngineError::NotMoonshine { path: path.into(), missing: format!("fixed shape of {name}") });
            };
            let cache = if slot.contains("decoder") { &mut text_cache } else { &mut audio_cache };
            cache.push(CacheSlot { past, present: node(&model, path, &format!("present.{slot}"))?, empty_shape: vec![1, heads, 0, width] });
        }
        if text_cache.is_empty() || audio_cache.is_empty() {
            return Err(EngineError::NotMoonshine { path: path.into(), missing: "key-value cache".into() });
        }
        Ok(Self {
            token: node(&model, path, "input_ids")?,
            frames: node(&model, path, "encoder_hidden_states")?,
            use_cache: node(&model, path, "use_cache_branch")?,
            logits: node(&model, path, "logits")?,
            text_cache,
            audio_cache,
            model,
        })
    }

    fn start(&self, frames: Value, options: RunOptions) -> Steps<'_> {
        Steps { decoder: self, options, frames, text: Vec::new(), audio: Vec::new() }
    }
}

/// One decoding under way.
struct Steps<'a> {
    decoder: &'a Decoder,
    options: RunOptions,
    frames: Value,
    text: Vec<Value>,
    audio: Vec<Value>,
}

impl Steps<'_> {
    /// Feeds one token and gives the logits of the next one.
    fn next(&mut self, token: u32) -> Result<Vec<f32>, EngineError> {
        let decoder = self.decoder;
        let first = self.audio.is_empty();
        if first {
            self.text = decoder.text_cache.iter().map(CacheSlot::empty).collect();
            self.audio = decoder.audio_cache.iter().map(CacheSlot::empty).collect();
        }
        // Token numbers are below the vocabulary's limit of 2^20, so the cast keeps them.
        let token = NdTensor::from_data([1, 1], vec![token as i32]);
        let use_cache = NdTensor::from_data([1], vec![i32::from(!first)]);
        let mut inputs: Vec<(NodeId, ValueOrView<'_>)> = vec![
            (decoder.token, token.view().into()),
            (decoder.frames, ValueOrView::View(self.frames.as_view())),
            (decoder.use_cache, use_cache.view().into()),
        ];
        // The text caches are handed over, so that the runtime may grow them in place.
        let text = std::mem::take(&mut self.text);
        inputs.extend(decoder.text_cache.iter().zip(text).map(|(slot, value)| (slot.past, value.into())));
        inputs.extend(decoder.audio_cache.iter().zip(&self.audio).map(|(slot, value)| (slot.past, ValueOrView::View(value.as_view()))));
        let mut wanted = vec![decoder.logits];
        wanted.extend(decoder.text_cache.iter().map(|slot| slot.present));
        if first {
            wanted.extend(decoder.audio_cache.iter().map(|slot| slot.present));
        }
        let mut outputs = decoder
            .model
            .run(inputs, &wanted, Some(self.options.clone()))
            .map_err(|source| EngineError::Run { stage: "decoder", source })?
            .into_iter();
        let logits = outputs.next();
        self.text = outputs.by_ref().take(decoder.text_cache.len()).collect();
        if first {
            self.audio = outputs.collect();
        }
        logits.as_ref().and_then(last_position).filter(|l| !l.is_empty()).ok_or(EngineError::Output { stage: "decoder", output: "logits" })
    }
}

impl CacheSlot {
    fn empty(&self) -> Value {
        Tensor::<f32>::zeros(&self.empty_shape).into()
    }
}

/// The logits of the last position, out of [1, positions, vocabulary].
fn last_position(logits: &Value) -> Option<Vec<f32>> {
    let logits = logits.as_tensor_view::<f32>()?;
    let vocabulary = *logits.shape().last()?;
    let logits = logits.to_contiguous();
    let data = logits.data();
    Some(data.get(data.len().checked_sub(vocabulary)?..)?.to_vec())
}

/// The token with the highest logit.
fn likeliest(logits: &[f32]) -> Option<u32> {
    let (token, _) = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    u32::try_from(token).ok()
}

fn load_graph(path: &Path) -> Result<Model, EngineError> {
    // Read first, so that a missing file and a broken graph are told apart.
    let bytes = std::fs::read(path).map_err(|source| EngineError::Read { path: path.into(), source })?;
    Model::load(bytes).map_err(|source| EngineError::Graph { path: path.into(), source })
}

fn node(model: &Model, path: &Path, name: &str) -> Result<NodeId, EngineError> {
    model.find_node(name).ok_or_else(|| EngineError::NotMoonshine { path: path.into(), missing: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_cut_after_their_first_copy() {
        assert_eq!(without_loop(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]), None);
        assert_eq!(without_loop(&[7; 11]), None, "eleven times the same token may still be meant");
        assert_eq!(without_loop(&[7; 12]), Some(1));
        let said_four_times = [9, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4];
        assert_eq!(without_loop(&said_four_times), Some(5));
        assert_eq!(without_loop(&said_four_times[..16]), None);
    }

    #[test]
    fn the_token_limit_follows_the_length() {
        assert_eq!(token_limit(16_000), 13);
        assert_eq!(token_limit(160_000), 71);
    }
}
