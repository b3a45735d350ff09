//! One model in ONNX Runtime, run on the calling thread. Tensors are made once and refilled.

use std::ffi::{CString, c_char};
use std::sync::{Mutex, PoisonError};

use ort::AsPointer as _;
use ort::session::builder::SessionBuilder;
use ort::value::{Outlet, TensorElementType, ValueType};

use crate::{OnnxError, Provider};

/// A tensor that the caller owns and hands to [`Session::run`] again and again, as input or for an output.
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

    /// The elements of a tensor of `f32`; empty for another type.
    pub fn as_f32(&self) -> &[f32] {
        match &self.0 {
            Kind::F32(tensor) => tensor.extract_tensor().1,
            Kind::I64(_) => &[],
        }
    }

    /// The elements of a tensor of `f32`, to refill it; empty for another type.
    pub fn as_f32_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            Kind::F32(tensor) => tensor.extract_tensor_mut().1,
            Kind::I64(_) => &mut [],
        }
    }

    fn element(&self) -> TensorElementType {
        match &self.0 {
            Kind::F32(_) => TensorElementType::Float32,
            Kind::I64(_) => TensorElementType::Int64,
        }
    }

    fn pointer(&self) -> *const ort::sys::OrtValue {
        match &self.0 {
            Kind::F32(tensor) => tensor.ptr(),
            Kind::I64(tensor) => tensor.ptr(),
        }
    }

    fn pointer_mut(&mut self) -> *mut ort::sys::OrtValue {
        match &mut self.0 {
            Kind::F32(tensor) => tensor.ptr_mut(),
            Kind::I64(tensor) => tensor.ptr_mut(),
        }
    }
}

/// A loaded model. One run at a time; give each stream its own.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    provider: Provider,
}

/// An input or an output.
#[derive(Debug)]
struct Port {
    name: String,
    c_name: CString,
    /// What its tensor holds; `None` if it is no tensor.
    element: Option<TensorElementType>,
}

/// Making sessions takes tens of milliseconds of every core; one at a time is enough.
static BUILDING: Mutex<()> = Mutex::new(());

impl Session {
    pub(crate) fn new(environment: &ort::environment::Environment, model: &[u8], provider: Provider) -> Result<Self, OnnxError> {
        let _guard = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = builder(environment, provider)?.commit_from_memory(model).map_err(|error| OnnxError::Model(error.to_string()))?;
        let (inputs, outputs) = (ports(inner.inputs())?, ports(inner.outputs())?);
        Ok(Self { inner, inputs, outputs, provider })
    }

    /// Where it runs.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Names of the inputs, in the order of the model.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|port| &*port.name)
    }

    /// Names of the outputs, in the order of the model.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|port| &*port.name)
    }

    /// Runs the model once on this thread. `inputs` stand in the order of [`Session::inputs`], and each
    /// of `outputs`, which stand in the order of [`Session::outputs`], has the shape that the model will
    /// give it. Allocates nothing on this side of the library.
    ///
    /// # Errors
    /// [`OnnxError::Run`] with what the runtime said, also for a wrong number of tensors, a wrong type
    /// or a wrong shape. Outputs may be overwritten in part then.
    pub fn run<const I: usize, const O: usize>(&mut self, inputs: [&Tensor; I], mut outputs: [&mut Tensor; O]) -> Result<(), OnnxError> {
        check("inputs", &self.inputs, inputs.each_ref().map(|tensor| tensor.element()))?;
        check("outputs", &self.outputs, outputs.each_ref().map(|tensor| tensor.element()))?;
        // As many as there are ports: `check` has seen to it.
        let input_names: [*const c_char; I] = std::array::from_fn(|i| self.inputs[i].c_name.as_ptr());
        let output_names: [*const c_char; O] = std::array::from_fn(|i| self.outputs[i].c_name.as_ptr());
        let inputs = inputs.map(Tensor::pointer);
        let mut outputs = outputs.each_mut().map(|tensor| tensor.pointer_mut());
        // `ort` has a safe call for this, which allocates names and values for every output of every run.
        #[allow(unsafe_code, reason = "a call into ONNX Runtime")]
        // SAFETY: the session is alive and used by nobody else (`&mut self`). Names, inputs and outputs are arrays of the lengths
        // that are told; the names are those of the model and end with a zero; the values are tensors of the types of the model,
        // borrowed for the whole call, the outputs exclusively. The library checks their shapes. No options are given.
        let status = unsafe {
            (ort::api().Run)(
                self.inner.ptr_mut(),
                std::ptr::null(),
                input_names.as_ptr(),
                inputs.as_ptr(),
                I,
                output_names.as_ptr(),
                O,
                outputs.as_mut_ptr(),
            )
        };
        #[allow(unsafe_code, reason = "a pointer from ONNX Runtime")]
        // SAFETY: the status is what the library just returned, and is used once.
        unsafe { ort::Error::result_from_status(status) }.map_err(run_error)
    }
}

fn check<const N: usize>(what: &str, ports: &[Port], elements: [TensorElementType; N]) -> Result<(), OnnxError> {
    if N != ports.len() {
        return Err(OnnxError::Run(format!("the model has {} {what}, not {N}", ports.len())));
    }
    match ports.iter().zip(elements).find(|(port, element)| port.element != Some(*element)) {
        None => Ok(()),
        Some((port, element)) => Err(OnnxError::Run(format!("{} is no tensor of {element}", port.name))),
    }
}

fn ports(outlets: &[Outlet]) -> Result<Vec<Port>, OnnxError> {
    let port = |outlet: &Outlet| {
        let element = match outlet.dtype() {
            ValueType::Tensor { ty, .. } => Some(*ty),
            _ => None,
        };
        let c_name = CString::new(outlet.name()).map_err(|_| OnnxError::Model("a name with a zero in it".into()))?;
        Ok(Port { name: outlet.name().to_owned(), c_name, element })
    };
    outlets.iter().map(port).collect()
}

fn builder(environment: &ort::environment::Environment, provider: Provider) -> Result<SessionBuilder, OnnxError> {
    let options = || {
        // One thread and no spinning: a spinning pool on a busy machine is slower by orders of magnitude.
        Ok(ort::session::Session::builder(environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?)
    };
    let builder = options().map_err(|error: ort::Error| OnnxError::Model(error.to_string()))?;
    match provider {
        Provider::Cpu => Ok(builder),
        // Without `error_on_failure` the session would run on the processor and nobody would know. Full precision, so that a
        // model gives what it gives elsewhere.
        Provider::Cuda => builder
            .with_execution_providers([ort::ep::CUDA::default().with_tf32(false).build().error_on_failure()])
            .map_err(|error| OnnxError::Provider(error.to_string())),
    }
}

fn run_error(error: ort::Error) -> OnnxError {
    OnnxError::Run(error.to_string())
}
