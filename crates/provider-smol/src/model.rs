//! A llama: its weights, and the forward pass over an explicit cache.
//!
//! RMSNorm, rotary positions on neighbouring pairs, grouped-query attention, SwiGLU, tied or own output matrix. It
//! computes logits; what is made of them is the sampler's business.

use std::io::{Read, Seek};

use crate::error::{Error, Result};
use crate::gguf::{Gguf, TensorKind};
use crate::kernel::{Activations, Compute};
use crate::kv::{HEAD, KvCache};
use crate::matrix::{COLS, Matrix, ROWS};
use crate::ops::{self, Part};

/// The weights of a model, read-only and shared by all requests.
pub struct Model {
    shape: Shape,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `None`: the embedding serves as the output matrix.
    output: Option<Matrix>,
}

/// The sizes of a model.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width of the feed-forward part.
    pub inner: usize,
    /// Query heads.
    pub heads: usize,
    /// Key heads; divides `heads`.
    pub key_heads: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Tokens that the model was trained to read at once.
    pub context: usize,
    epsilon: f32,
    rope_base: f32,
}

struct Layer {
    attention_norm: Vec<f32>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    attention_output: Matrix,
    inner_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// Working space of a forward pass, kept from one to the next.
#[derive(Default)]
pub struct Scratch {
    stream: Vec<f32>,
    normed: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    attended: Vec<f32>,
    delta: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    angles: Vec<[f32; 2]>,
    activations: Activations,
    tiles: Vec<[f32; ROWS]>,
}

/// Tokens whose attention is computed together, so that their common keys are read once.
const TOGETHER: usize = 8;

impl Model {
    /// Reads and packs the weights, tensor by tensor, so that the file is never in memory as a whole.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it is no llama of a shape that this crate runs, [`Error::Damaged`] if tensors are
    /// missing or have other sizes than the header says.
    pub fn load<R: Read + Seek>(gguf: &mut Gguf<R>, vocabulary: usize) -> Result<Self> {
        let shape = Shape::read(gguf, vocabulary)?;
        let key_width = shape.key_heads * HEAD;
        let (width, inner) = (shape.width, shape.inner);
        let mut layers = Vec::with_capacity(shape.layers);
        for i in 0..shape.layers {
            let mut matrix = |part: &str, rows, cols| matrix(gguf, &format!("blk.{i}.{part}.weight"), rows, cols);
            let (query, key) = (matrix("attn_q", width, width)?, matrix("attn_k", key_width, width)?);
            let (value, attention_output) = (matrix("attn_v", key_width, width)?, matrix("attn_output", width, width)?);
            let (gate, up) = (matrix("ffn_gate", inner, width)?, matrix("ffn_up", inner, width)?);
            let down = matrix("ffn_down", width, inner)?;
            let attention_norm = vector(gguf, &format!("blk.{i}.attn_norm.weight"), width)?;
            let inner_norm = vector(gguf, &format!("blk.{i}.ffn_norm.weight"), width)?;
            layers.push(Layer { attention_norm, query, key, value, attention_output, inner_norm, gate, up, down });
        }
        let embedding = matrix(gguf, "token_embd.weight", vocabulary, width)?;
        let output = match gguf.tensor("output.weight") {
            Some(_) => Some(matrix(gguf, "output.weight", vocabulary, width)?),
            None => None,
        };
        let norm = vector(gguf, "output_norm.weight", width)?;
        Ok(Self { shape, embedding, layers, norm, output })
    }

    /// The sizes of the model.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// An empty cache for this model.
    pub fn cache(&self) -> KvCache {
        KvCache::new(self.shape.layers, self.shape.key_heads)
    }

    /// Reads `tokens` behind those that are in `cache`, adds them to it and, if `logits` is given, writes there one
    /// logit per token of the vocabulary for what follows the last. Tokens beyond the vocabulary read as zeros.
    pub fn forward(&self, compute: &Compute, tokens: &[u32], cache: &mut KvCache, scratch: &mut Scratch, logits: Option<&mut Vec<f32>>) {
        let wanted = usize::from(logits.is_some());
        self.pass(compute, tokens, cache, scratch, wanted, logits.unwrap_or(&mut Vec::new()));
    }

    /// As [`Self::forward`], with the logits behind every one of `tokens`: `[token][vocabulary]`, 197 KB a token for
    /// SmolLM2-135M.
    pub fn forward_each(&self, compute: &Compute, tokens: &[u32], cache: &mut KvCache, scratch: &mut Scratch, logits: &mut Vec<f32>) {
        self.pass(compute, tokens, cache, scratch, tokens.len(), logits);
    }

    /// A pass with the logits behind the last `wanted` tokens.
    fn pass(&self, compute: &Compute, tokens: &[u32], cache: &mut KvCache, scratch: &mut Scratch, wanted: usize, logits: &mut Vec<f32>) {
        let shape = &self.shape;
        let (count, place, isa) = (tokens.len(), cache.tokens().len(), compute.isa());
        let key_width = shape.key_heads * HEAD;
        let Scratch { stream, normed, query, key, value, attended, delta, gate, up, angles, activations, tiles } = scratch;
        for (buffer, width) in [
            (&mut *stream, shape.width),
            (normed, shape.width),
            (query, shape.width),
            (key, key_width),
            (value, key_width),
            (attended, shape.width),
            (delta, shape.width),
            (gate, shape.inner),
            (up, shape.inner),
        ] {
            buffer.resize(count * width, 0.0);
        }
        shape.angles(place, count, angles);
        for (token, row) in tokens.iter().zip(stream.chunks_exact_mut(shape.width)) {
            row.fill(0.0);
            self.embedding.row(*token as usize, row);
        }
        for (i, layer) in self.layers.iter().enumerate() {
            ops::rms_norm(isa, stream, &layer.attention_norm, shape.epsilon, normed);
            activations.quantise(isa, shape.width, normed);
            compute.product(&layer.query, activations, tiles, query);
            compute.product(&layer.key, activations, tiles, key);
            compute.product(&layer.value, activations, tiles, value);
            for (t, angles) in angles.chunks_exact(HEAD / 2).enumerate() {
                let keys = t * key_width..(t + 1) * key_width;
                ops::rotate(isa, &mut query[t * shape.width..(t + 1) * shape.width], angles);
                ops::rotate(isa, &mut key[keys.clone()], angles);
                cache.write(i, place + t, &key[keys.clone()], &value[keys]);
            }
            let heads = cache.layer(i);
            compute.each_piece(attended, TOGETHER * shape.width, |piece, out| {
                let first = piece * TOGETHER;
                let queries = &query[first * shape.width..first * shape.width + out.len()];
                let group = shape.heads / shape.key_heads;
                let mut scores = Vec::new();
                for (i, head) in heads.iter().enumerate() {
                    let part = Part { width: shape.width, first: i * group * HEAD, heads: group };
                    ops::attend(isa, queries, &part, head, place + first + 1, &mut scores, out);
                }
            });
            activations.quantise(isa, shape.width, attended);
            compute.product(&layer.attention_output, activations, tiles, delta);
            ops::add(isa, stream, delta);

            ops::rms_norm(isa, stream, &layer.inner_norm, shape.epsilon, normed);
            activations.quantise(isa, shape.width, normed);
            compute.product(&layer.gate, activations, tiles, gate);
            compute.product(&layer.up, activations, tiles, up);
            ops::swiglu(isa, gate, up);
            activations.quantise(isa, shape.inner, gate);
            compute.product(&layer.down, activations, tiles, delta);
            ops::add(isa, stream, delta);
        }
        cache.commit(tokens);
        if wanted > 0 {
            let last = &mut normed[..wanted * shape.width];
            ops::rms_norm(isa, &stream[stream.len() - wanted * shape.width..], &self.norm, shape.epsilon, last);
            activations.quantise(isa, shape.width, last);
            logits.resize(wanted * shape.vocabulary, 0.0);
            compute.product(self.output.as_ref().unwrap_or(&self.embedding), activations, tiles, logits);
        }
    }
}

impl Shape {
    fn read<R: Read + Seek>(gguf: &Gguf<R>, vocabulary: usize) -> Result<Self> {
        let architecture = gguf.text("general.architecture")?;
        if architecture != "llama" {
            return Err(Error::Unsupported(format!("its architecture is {architecture}")));
        }
        let shape = Self {
            layers: gguf.int("llama.block_count", 1..=256)?,
            width: gguf.int("llama.embedding_length", 32..=16384)?,
            inner: gguf.int("llama.feed_forward_length", 32..=65536)?,
            heads: gguf.int("llama.attention.head_count", 1..=256)?,
            key_heads: gguf.int("llama.attention.head_count_kv", 1..=256)?,
            vocabulary,
            context: gguf.int("llama.context_length", 16..=1 << 20)?,
            epsilon: gguf.float("llama.attention.layer_norm_rms_epsilon")?,
            rope_base: gguf.float("llama.rope.freq_base")?,
        };
        if shape.width != shape.heads * HEAD || !shape.heads.is_multiple_of(shape.key_heads) || !shape.inner.is_multiple_of(COLS) {
            return Err(Error::Unsupported(format!("its shape is {shape:?}; heads must be {HEAD} wide")));
        }
        if let Some(kind) = gguf.value("llama.rope.scaling.type") {
            return Err(Error::Unsupported(format!("its positions are scaled ({kind:?})")));
        }
        Ok(shape)
    }

    /// `[cos, sin]` of each pair of a head, for `count` tokens from `place` on.
    fn angles(&self, place: usize, count: usize, into: &mut Vec<[f32; 2]>) {
        into.clear();
        for place in place..place + count {
            for pair in 0..HEAD / 2 {
                let angle = place as f64 * f64::from(self.rope_base).powf(-2.0 * pair as f64 / HEAD as f64);
                into.push([angle.cos() as f32, angle.sin() as f32]);
            }
        }
    }
}

fn matrix<R: Read + Seek>(gguf: &mut Gguf<R>, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
    let Some(info) = gguf.tensor(name).cloned() else {
        return Err(Error::Unsupported(format!("it has no tensor {name}")));
    };
    if info.shape() != Some((rows, cols)) {
        return Err(Error::Unsupported(format!("{name} has the shape {:?}, not [{cols}, {rows}]", info.dims)));
    }
    let bytes = gguf.tensor_bytes(name)?;
    Matrix::pack(name, &info, &bytes)
}

fn vector<R: Read + Seek>(gguf: &mut Gguf<R>, name: &str, len: usize) -> Result<Vec<f32>> {
    match gguf.tensor(name) {
        Some(info) if info.shape() == Some((1, len)) && info.kind == TensorKind::F32 => {}
        other => return Err(Error::Unsupported(format!("{name} is {other:?}, not {len} floats"))),
    }
    let bytes = gguf.tensor_bytes(name)?;
    Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}
