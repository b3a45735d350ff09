//! The names of packs: a runtime and the device it runs on. Which versions there are is in the table.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A runtime and a device. Written `onnx:cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Spec {
    /// ONNX Runtime on the processor.
    OnnxCpu,
    /// ONNX Runtime on NVIDIA's devices.
    OnnxCuda,
    /// XLA on the processor.
    XlaCpu,
    /// XLA on NVIDIA's devices.
    XlaCuda,
    /// XLA on Google's TPUs.
    XlaTpu,
    /// NVIDIA's run-time compiler.
    CudaNvrtc,
}

/// Which generation of NVIDIA's libraries a pack is for. The driver decides: see [`crate::Hardware::set`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Set {
    /// CUDA 12: drivers from 525 on.
    Cu12,
    /// CUDA 13: drivers from 580 on.
    Cu13,
}

/// There is no such pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no runtime {text:?}; {}", suggestion(.nearest))]
pub struct UnknownSpec {
    /// What was written.
    pub text: String,
    /// What may have been meant.
    pub nearest: Option<Spec>,
}

impl Spec {
    /// All, in the order of listings.
    pub const ALL: [Spec; 6] = [Spec::OnnxCpu, Spec::OnnxCuda, Spec::XlaCpu, Spec::XlaCuda, Spec::XlaTpu, Spec::CudaNvrtc];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Spec::OnnxCpu => "onnx:cpu",
            Spec::OnnxCuda => "onnx:cuda",
            Spec::XlaCpu => "xla:cpu",
            Spec::XlaCuda => "xla:cuda",
            Spec::XlaTpu => "xla:tpu",
            Spec::CudaNvrtc => "cuda:nvrtc",
        }
    }

    /// The part before the colon: also the name of the feature that a program needs to use it.
    pub fn runtime(self) -> &'static str {
        self.parts().0
    }

    /// The part after the colon.
    pub fn device(self) -> &'static str {
        self.parts().1
    }

    /// Whether it is of use with an NVIDIA driver only.
    pub fn needs_nvidia(self) -> bool {
        matches!(self, Spec::OnnxCuda | Spec::XlaCuda | Spec::CudaNvrtc)
    }

    /// Whether it is of use with a TPU only.
    pub fn needs_tpu(self) -> bool {
        self == Spec::XlaTpu
    }

    fn parts(self) -> (&'static str, &'static str) {
        self.as_str().split_once(':').unwrap_or((self.as_str(), ""))
    }
}

impl Set {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Set::Cu12 => "cu12",
            Set::Cu13 => "cu13",
        }
    }
}

impl FromStr for Spec {
    type Err = UnknownSpec;

    fn from_str(text: &str) -> Result<Self, UnknownSpec> {
        if let Some(spec) = Spec::ALL.into_iter().find(|spec| spec.as_str() == text) {
            return Ok(spec);
        }
        let lower = text.to_ascii_lowercase();
        let near = |spec: &Spec| strsim::damerau_levenshtein(spec.as_str(), &lower);
        let nearest = Spec::ALL.into_iter().min_by_key(near).filter(|spec| near(spec) <= 2);
        // Half a name is meant as the one for the processor, or the only one.
        let half = || Spec::ALL.into_iter().find(|spec| !lower.is_empty() && (spec.runtime() == lower || spec.device() == lower));
        Err(UnknownSpec { text: text.to_owned(), nearest: nearest.or_else(half) })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

fn suggestion(nearest: &Option<Spec>) -> String {
    match nearest {
        Some(spec) => format!("did you mean {spec}?"),
        None => format!("there are {}", Spec::ALL.map(Spec::as_str).join(", ")),
    }
}
