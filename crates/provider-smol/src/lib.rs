//! SmolLM2-135M-Instruct in process, from GGUF.
