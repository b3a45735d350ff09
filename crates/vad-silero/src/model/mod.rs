//! The weights inside `silero_vad.onnx`: both branches of its `If`, 16 kHz and 8 kHz, with every shape
//! checked. It reads; computing is the engines' business.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::protobuf::{Field, Malformed, Value, fields, varint};
use crate::Rate;

mod protobuf;

#[cfg(feature = "bundled")]
bespoke_plugin_api::notice! {
    name: "silero-vad",
    files: ["silero_vad.onnx"],
    license: "MIT",
    text: include_str!("../../../../LICENSES/silero-vad.txt"),
}

/// The file as it ships in the Python package `silero-vad` 6.2.3: 2,327,524 bytes.
pub const SHA256: &str = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3";

/// Far above any Silero file (2.3 MB), far below what could hurt.
const MAX_BYTES: u64 = 64 << 20;

/// A Silero model: its bytes, for ONNX Runtime, and its weights, for the built-in engine.
pub struct Model {
    bytes: std::borrow::Cow<'static, [u8]>,
    sha256: String,
    wide: Weights,
    narrow: Weights,
}

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file could not be read.
    #[error("cannot read the Silero model {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no such model, or a damaged one.
    #[error("{path} is not a usable silero_vad.onnx: {reason}; fetch it again", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        let content = |reason: String| ModelError::Content { path: path.to_owned(), reason };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > MAX_BYTES {
            return Err(content(format!("{length} bytes, expected about 2.3 million")));
        }
        Self::parse(std::fs::read(path).map_err(io)?.into()).map_err(content)
    }

    /// The model that is part of this program.
    ///
    /// # Errors
    /// None, unless the build was tampered with.
    #[cfg(feature = "bundled")]
    pub fn bundled() -> Result<Self, ModelError> {
        let bytes: &'static [u8] = include_bytes!("../../models/silero_vad.onnx");
        Self::parse(bytes.into()).map_err(|reason| ModelError::Content { path: "bundled silero_vad.onnx".into(), reason })
    }

    /// This model, if it is the pinned one: another of the same shape gives other probabilities.
    ///
    /// # Errors
    /// [`ModelError::Content`] with both digests.
    pub fn pinned(self, path: &Path) -> Result<Self, ModelError> {
        if self.sha256 == SHA256 {
            return Ok(self);
        }
        let reason = format!("its SHA-256 is {}, expected {SHA256}", self.sha256);
        Err(ModelError::Content { path: path.to_owned(), reason })
    }

    /// The ONNX file itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the file in lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Which published checkpoint this is, as far as it is known here. Checkpoints give different
    /// probabilities for the same sound, so it is worth reporting.
    pub fn checkpoint(&self) -> &'static str {
        match self.sha256.as_str() {
            SHA256 => "silero 6.2",
            "597d30b3ec076608d059477bb14cfeffdf951bf5cae370d38f65d33bbfe82004" => "silero 6.0",
            _ => "unknown checkpoint",
        }
    }

    /// The weights for a rate.
    pub(crate) fn weights(&self, rate: Rate) -> &Weights {
        match rate {
            Rate::Hz16000 => &self.wide,
            Rate::Hz8000 => &self.narrow,
        }
    }

    fn parse(bytes: std::borrow::Cow<'static, [u8]>) -> Result<Self, String> {
        let branches = branches(&bytes)?;
        // The branches are told apart by what they hold, not by their order in the file.
        let find = |rate: Rate| {
            branches
                .iter()
                .find(|tensors| tensors.get(BASIS).is_some_and(|t| t.dims == [2 * rate.bins(), 1, rate.fft()]))
                .ok_or_else(|| format!("it has no branch for {} Hz", rate.hz()))
                .and_then(|tensors| Weights::new(tensors, rate))
        };
        let (wide, narrow) = (find(Rate::Hz16000)?, find(Rate::Hz8000)?);
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { bytes, sha256, wide, narrow })
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("checkpoint", &self.checkpoint()).field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

/// The network for one rate. Convolutions are `[out][in][3]`, matrices `[out][in]`.
pub(crate) struct Weights {
    pub(crate) basis: Vec<f32>,
    pub(crate) conv: [Conv; 4],
    pub(crate) input_hidden: Vec<f32>,
    pub(crate) hidden_hidden: Vec<f32>,
    /// Sum of the two biases of the LSTM.
    pub(crate) gate_bias: Vec<f32>,
    pub(crate) output: Vec<f32>,
    pub(crate) output_bias: f32,
}

pub(crate) struct Conv {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

const BASIS: &str = "stft.forward_basis_buffer";

impl Weights {
    fn new(tensors: &Tensors<'_>, rate: Rate) -> Result<Self, String> {
        let take = |name: &str, dims: &[usize]| -> Result<Vec<f32>, String> {
            let tensor = tensors.get(name).ok_or_else(|| format!("the tensor {name} is missing"))?;
            if tensor.dims != dims {
                return Err(format!("the tensor {name} has the shape {:?}, expected {dims:?}", tensor.dims));
            }
            let values: Vec<f32> = tensor.raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if values.len() != dims.iter().product::<usize>() || tensor.raw.len() % 4 != 0 {
                return Err(format!("the tensor {name} holds {} bytes, which is not its shape {dims:?}", tensor.raw.len()));
            }
            if values.iter().any(|v| !v.is_finite()) {
                return Err(format!("the tensor {name} holds values that are not finite"));
            }
            Ok(values)
        };
        let conv = |layer: usize, inputs: usize, outputs: usize| -> Result<Conv, String> {
            Ok(Conv {
                inputs,
                outputs,
                weight: take(&format!("encoder.{layer}.reparam_conv.weight"), &[outputs, inputs, 3])?,
                bias: take(&format!("encoder.{layer}.reparam_conv.bias"), &[outputs])?,
            })
        };
        let (input_bias, hidden_bias) = (take("decoder.rnn.bias_ih", &[512])?, take("decoder.rnn.bias_hh", &[512])?);
        Ok(Self {
            basis: take(BASIS, &[2 * rate.bins(), 1, rate.fft()])?,
            conv: [conv(0, rate.bins(), 128)?, conv(1, 128, 64)?, conv(2, 64, 64)?, conv(3, 64, 128)?],
            input_hidden: take("decoder.rnn.weight_ih", &[512, 128])?,
            hidden_hidden: take("decoder.rnn.weight_hh", &[512, 128])?,
            gate_bias: input_bias.iter().zip(&hidden_bias).map(|(a, b)| a + b).collect(),
            output: take("decoder.decoder.2.weight", &[1, 128, 1])?,
            output_bias: take("decoder.decoder.2.bias", &[1])?[0],
        })
    }
}

/// A tensor of `f32` as it lies in the file.
struct RawTensor<'a> {
    dims: Vec<usize>,
    raw: &'a [u8],
}

type Tensors<'a> = HashMap<String, RawTensor<'a>>;

/// The named tensors of every branch of the `If` nodes at the top of the graph.
// Field numbers: ModelProto.graph 7; GraphProto.node 1, .initializer 5; NodeProto.op_type 4,
// .attribute 5; AttributeProto.t 5, .g 6; TensorProto.dims 1, .data_type 2, .name 8, .raw_data 9.
fn branches(bytes: &[u8]) -> Result<Vec<Tensors<'_>>, String> {
    let broken = |_: Malformed| "it is not an ONNX file, or it is damaged".to_owned();
    let mut graph = None;
    // The whole top level is read, so that a file cut anywhere is noticed.
    for field in fields(bytes) {
        graph = field.map_err(broken)?.bytes(7).or(graph);
    }
    let graph = graph.ok_or("it is not an ONNX file: it has no graph")?;
    let mut found = Vec::new();
    for node in fields(graph) {
        let Some(node) = node.map_err(broken)?.bytes(1) else { continue };
        for attribute in fields(node) {
            let Some(attribute) = attribute.map_err(broken)?.bytes(5) else { continue };
            for field in fields(attribute) {
                if let Some(branch) = field.map_err(broken)?.bytes(6) {
                    found.push(tensors(branch).map_err(broken)?);
                }
            }
        }
    }
    if found.is_empty() {
        return Err("it has no branches by sample rate; it is another Silero file or another model".into());
    }
    Ok(found)
}

/// The tensors of one graph: its constants and its initializers.
fn tensors(graph: &[u8]) -> Result<Tensors<'_>, Malformed> {
    let mut found = Tensors::new();
    let mut add = |bytes| -> Result<(), Malformed> {
        if let Some((name, tensor)) = tensor(bytes)? {
            found.insert(name, tensor);
        }
        Ok(())
    };
    for field in fields(graph) {
        let field = field?;
        if let Some(initializer) = field.bytes(5) {
            add(initializer)?;
        }
        for attribute in field.bytes(1).into_iter().flat_map(fields) {
            for value in attribute?.bytes(5).into_iter().flat_map(fields) {
                if let Some(constant) = value?.bytes(5) {
                    add(constant)?;
                }
            }
        }
    }
    Ok(found)
}

/// A named tensor of `f32` with raw data; `None` for any other.
fn tensor(bytes: &[u8]) -> Result<Option<(String, RawTensor<'_>)>, Malformed> {
    let (mut name, mut raw, mut dims, mut float) = (String::new(), &[][..], Vec::new(), false);
    for field in fields(bytes) {
        match field? {
            Field { number: 1, value: Value::Varint(dim) } => dims.push(usize::try_from(dim).map_err(|_| Malformed)?),
            Field { number: 1, value: Value::Bytes(mut packed) } => {
                while !packed.is_empty() {
                    let dim = varint(&mut packed).ok_or(Malformed)?;
                    dims.push(usize::try_from(dim).map_err(|_| Malformed)?);
                }
            }
            Field { number: 2, value: Value::Varint(kind) } => float = kind == 1,
            Field { number: 8, value: Value::Bytes(text) } => name = String::from_utf8_lossy(text).into_owned(),
            Field { number: 9, value: Value::Bytes(data) } => raw = data,
            _ => {}
        }
    }
    Ok((float && !name.is_empty()).then_some((name, RawTensor { dims, raw })))
}
