//! Packs of native runtimes: ONNX Runtime, XLA and what NVIDIA's need.
