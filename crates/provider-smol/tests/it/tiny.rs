//! A model of two layers with random weights and a vocabulary of single bytes, written as a GGUF file: what the engine
//! does can be tested without the real weights.

use std::path::PathBuf;

pub(crate) const CONTEXT: usize = 192;
const WIDTH: u64 = 128;
const INNER: u64 = 96;
const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const VOCABULARY: u64 = 256 + CONTROLS.len() as u64;

/// Writes the file into a folder that lives as long as the first value.
pub(crate) fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    std::fs::write(&path, Writer::default().tiny()).unwrap();
    (folder, path)
}

/// The bytes of the file.
pub(crate) fn bytes() -> Vec<u8> {
    Writer::default().tiny()
}

/// Puts a GGUF file together.
#[derive(Default)]
pub(crate) struct Writer {
    values: Vec<u8>,
    value_count: u64,
    table: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

impl Writer {
    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key, 8);
        string(&mut self.values, value);
        self
    }

    pub(crate) fn number(&mut self, key: &str, value: u32) -> &mut Self {
        self.key(key, 4);
        self.values.extend(value.to_le_bytes());
        self
    }

    fn float(&mut self, key: &str, value: f32) -> &mut Self {
        self.key(key, 6);
        self.values.extend(value.to_le_bytes());
        self
    }

    fn texts(&mut self, key: &str, values: &[String]) -> &mut Self {
        self.key(key, 9);
        self.values.extend(8u32.to_le_bytes());
        self.values.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| string(&mut self.values, value));
        self
    }

    fn numbers(&mut self, key: &str, values: &[i32]) -> &mut Self {
        self.key(key, 9);
        self.values.extend(5u32.to_le_bytes());
        self.values.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| self.values.extend(value.to_le_bytes()));
        self
    }

    fn tensor(&mut self, name: &str, dims: &[u64], values: impl Iterator<Item = f32>) -> &mut Self {
        self.tensor_count += 1;
        string(&mut self.table, name);
        self.table.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| self.table.extend(dim.to_le_bytes()));
        self.table.extend(0u32.to_le_bytes());
        self.table.extend((self.data.len() as u64).to_le_bytes());
        values.for_each(|value| self.data.extend(value.to_le_bytes()));
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(self.tensor_count.to_le_bytes());
        file.extend(self.value_count.to_le_bytes());
        file.extend(&self.values);
        file.extend(&self.table);
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&self.data);
        file
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.value_count += 1;
        string(&mut self.values, key);
        self.values.extend(kind.to_le_bytes());
    }

    fn tiny(&mut self) -> Vec<u8> {
        let printable = |b: &u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let mut spare = 0x100;
        let mut tokens: Vec<String> = (0..256u32)
            .map(|byte| {
                let code = if printable(&byte) { byte } else { spare };
                spare += u32::from(code != byte);
                char::from_u32(code).unwrap().to_string()
            })
            .collect();
        tokens.extend(CONTROLS.map(String::from));
        let types: Vec<i32> = (0..VOCABULARY).map(|i| if i < 256 { 1 } else { 3 }).collect();
        self.text("general.architecture", "llama")
            .number("llama.block_count", 2)
            .number("llama.context_length", CONTEXT as u32)
            .number("llama.embedding_length", WIDTH as u32)
            .number("llama.feed_forward_length", INNER as u32)
            .number("llama.attention.head_count", 2)
            .number("llama.attention.head_count_kv", 1)
            .float("llama.rope.freq_base", 10000.0)
            .float("llama.attention.layer_norm_rms_epsilon", 1e-5)
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "smollm")
            .text("tokenizer.chat_template", "<|im_start|>")
            .texts("tokenizer.ggml.tokens", &tokens)
            .texts("tokenizer.ggml.merges", &[])
            .numbers("tokenizer.ggml.token_type", &types);
        let mut seed = 7u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((seed >> 8) as f32 / (1 << 23) as f32 - 1.0) * 0.3
        };
        for i in 0..2 {
            for (name, cols, rows) in [
                ("attn_q", WIDTH, WIDTH),
                ("attn_k", WIDTH, 64),
                ("attn_v", WIDTH, 64),
                ("attn_output", WIDTH, WIDTH),
                ("ffn_gate", WIDTH, INNER),
                ("ffn_up", WIDTH, INNER),
                ("ffn_down", INNER, WIDTH),
            ] {
                let values: Vec<f32> = (0..cols * rows).map(|_| random()).collect();
                self.tensor(&format!("blk.{i}.{name}.weight"), &[cols, rows], values.into_iter());
            }
            for name in ["attn_norm", "ffn_norm"] {
                self.tensor(&format!("blk.{i}.{name}.weight"), &[WIDTH], (0..WIDTH).map(|_| 1.0));
            }
        }
        let embedding: Vec<f32> = (0..WIDTH * VOCABULARY).map(|_| random()).collect();
        self.tensor("token_embd.weight", &[WIDTH, VOCABULARY], embedding.into_iter());
        self.tensor("output_norm.weight", &[WIDTH], (0..WIDTH).map(|_| 1.0));
        self.finish()
    }
}

fn string(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u64).to_le_bytes());
    into.extend(text.as_bytes());
}
