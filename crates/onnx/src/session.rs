//! One model in ONNX Runtime, run on the calling thread. Tensors are made once and refilled.

use std::sync::{Mutex, PoisonError};

use ort::session::SessionInputValue;
use ort::value::ValueType;

use crate::OnnxError;

/// A tensor that the caller owns, fills and hands to [`Session::run`] again and again.
#[derive(Debug)]
pub struct Tensor(Kind);

#[derive(Debug)]
enum Kind {
    F32(ort::value::Tensor<f32>),
    I64(ort::value::Tensor<i64>),
}

impl Tensor {
    /// A tensor of `f32`; an empty shape is a scalar. `data` has as many elements as the shape says.
    ///
    /// # Errors
    /// [`OnnxError::Run`] when shape and data disagree.
    pub fn f32(shape: &[i64], data: Vec<f32>) -> Result<Self, OnnxError> {
        Ok(Self(Kind::F32(ort::value::Tensor::from_array((shape.to_vec(), data)).map_err(run_error)?)))
    }

    /// A tensor of `i64`; as [`Tensor::f32`].
    ///
    /// # Errors
    /// As [`Tensor::f32`].
    pub fn i64(shape: &[i64], data: Vec<i64>) -> Result<Self, OnnxError> {
        Ok(Self(Kind::I64(ort::value::Tensor::from_array((shape.to_vec(), data)).map_err(run_error)?)))
    }

    /// The elements of a tensor of `f32`, to refill it; empty for another type.
    pub fn as_f32_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            Kind::F32(tensor) => tensor.extract_tensor_mut().1,
            Kind::I64(_) => &mut [],
        }
    }
}

/// A loaded model. One run at a time; give each stream its own.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    /// In the order of the model, which `run` hands its inputs over in.
    inputs: Vec<String>,
}

/// Making sessions takes tens of milliseconds of every core; one at a time is enough.
static BUILDING: Mutex<()> = Mutex::new(());

impl Session {
    pub(crate) fn new(environment: &ort::environment::Environment, model: &[u8]) -> Result<Self, OnnxError> {
        let _guard = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = build(environment, model).map_err(|error| OnnxError::Model(error.to_string()))?;
        let inputs = inner.inputs().iter().map(|input| input.name().to_owned()).collect();
        Ok(Self { inner, inputs })
    }

    /// Names of the inputs, in the order of the model.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Names of the outputs that are tensors, in the order of the model.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.inner.outputs().iter().filter(|o| matches!(o.dtype(), ValueType::Tensor { .. })).map(|output| output.name())
    }

    /// Runs the model once on this thread. `inputs` stand in the order of [`Session::inputs`].
    ///
    /// # Errors
    /// [`OnnxError::Run`] with what the runtime said, also for a wrong number of inputs.
    pub fn run<const N: usize>(&mut self, inputs: [&Tensor; N]) -> Result<Outputs<'_>, OnnxError> {
        if N != self.inputs.len() {
            return Err(OnnxError::Run(format!("the model takes {} inputs, not {N}", self.inputs.len())));
        }
        let values: [SessionInputValue<'_>; N] = inputs.map(|tensor| match &tensor.0 {
            Kind::F32(tensor) => tensor.into(),
            Kind::I64(tensor) => tensor.into(),
        });
        Ok(Outputs(self.inner.run(values).map_err(run_error)?))
    }
}

/// What a run gave; lives as long as the borrow of the session.
#[derive(Debug)]
pub struct Outputs<'s>(ort::session::SessionOutputs<'s>);

impl Outputs<'_> {
    /// Elements of the output `name`.
    ///
    /// # Errors
    /// [`OnnxError::Run`] when there is no such output or it holds another type.
    pub fn f32(&self, name: &str) -> Result<&[f32], OnnxError> {
        let value = self.0.get(name).ok_or_else(|| OnnxError::Run(format!("the model has no output {name}")))?;
        Ok(value.try_extract_tensor::<f32>().map_err(run_error)?.1)
    }
}

fn build(environment: &ort::environment::Environment, model: &[u8]) -> ort::Result<ort::session::Session> {
    // One thread and no spinning: a spinning pool on a busy machine is slower by orders of magnitude.
    ort::session::Session::builder(environment)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .commit_from_memory(model)
}

fn run_error(error: ort::Error) -> OnnxError {
    OnnxError::Run(error.to_string())
}
