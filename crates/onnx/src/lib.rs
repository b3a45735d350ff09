//! One ONNX Runtime environment per process: search order, loading, sessions.
