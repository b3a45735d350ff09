//! The arguments of the verbs that hear and speak: `demo`, `say`, `vad`, `transcribe`, `speak`. What each does is in `cmd`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Fetching;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where the spoken answer goes
    #[arg(long, value_name = "WAV", default_value = "reply.wav")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Args)]
pub(crate) struct Say {
    /// The recording
    pub(crate) input: PathBuf,
    /// Where the spoken answer goes; nowhere when absent
    #[arg(long, value_name = "WAV")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VadEngine {
    /// What the configuration says: Silero, else by energy
    Auto,
    /// Silero on ONNX Runtime
    Ort,
    /// Silero in the engine that is part of this binary
    Builtin,
    /// By loudness
    Energy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VadFormat {
    /// A line per stretch of speech
    Table,
    /// One JSON object per file: probabilities, timestamps, events
    Jsonl,
    /// A picture per file
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct Vad {
    /// WAV files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Which detector
    #[arg(long, value_enum, default_value_t = VadEngine::Auto)]
    pub(crate) engine: VadEngine,
    /// How to print
    #[arg(long, value_enum, default_value_t = VadFormat::Table)]
    pub(crate) format: VadFormat,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Args)]
pub(crate) struct Transcribe {
    /// WAV files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Args)]
pub(crate) struct Speak {
    /// The text; read from a pipe when absent
    pub(crate) text: Option<String>,
    /// The WAV file to write
    #[arg(long, value_name = "WAV")]
    pub(crate) out: PathBuf,
    /// A voice of the engine
    #[arg(long)]
    pub(crate) voice: Option<String>,
    /// Speed, 0.5–2.0
    #[arg(long)]
    pub(crate) speed: Option<f32>,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}
