//! The engine on ONNX Runtime. Its tensors are made once and refilled for every window.

use std::sync::{Mutex, PoisonError, Weak};

use bespoke_onnx::{OnnxError, Session, Tensor};

use super::{Engine, EngineError, EngineKind};
use crate::Rate;

/// One stream on ONNX Runtime.
pub(super) struct Ort {
    /// `None` only while it is dropped.
    session: Option<Session>,
    rate: Rate,
    /// Context, then window.
    input: Tensor,
    sample_rate: Tensor,
    probability: Tensor,
    /// The state that the next window starts from, and the one that it leaves behind.
    state: Tensor,
    next_state: Tensor,
    /// Where the session goes when the stream ends; it has no state of its own.
    home: Weak<Mutex<Vec<Session>>>,
}

impl Ort {
    pub(super) fn new(session: Session, rate: Rate, home: Weak<Mutex<Vec<Session>>>) -> Result<Self, EngineError> {
        if !session.inputs().eq(["input", "state", "sr"]) || !session.outputs().eq(["output", "stateN"]) {
            let (inputs, outputs): (Vec<_>, Vec<_>) = (session.inputs().collect(), session.outputs().collect());
            let reason = format!("it makes {outputs:?} of {inputs:?}, expected output and stateN of input, state and sr");
            return Err(OnnxError::Model(reason).into());
        }
        let length = rate.context() + rate.window();
        let state = || Tensor::f32(&[2, 1, 128], vec![0.0; 256]);
        Ok(Self {
            session: Some(session),
            rate,
            input: Tensor::f32(&[1, length as i64], vec![0.0; length])?,
            sample_rate: Tensor::i64(&[], vec![i64::from(rate.hz())])?,
            probability: Tensor::f32(&[1, 1], vec![0.0])?,
            state: state()?,
            next_state: state()?,
            home,
        })
    }
}

impl Engine for Ort {
    fn kind(&self) -> EngineKind {
        EngineKind::Ort
    }

    fn rate(&self) -> Rate {
        self.rate
    }

    fn window(&mut self, window: &[f32]) -> Result<f32, EngineError> {
        super::check_length(window, self.rate)?;
        let context = self.rate.context();
        let input = self.input.as_f32_mut();
        // The context is the end of what the model saw last, the window included.
        input.copy_within(self.rate.window().., 0);
        input[context..].copy_from_slice(window);
        let Some(session) = &mut self.session else {
            return Err(EngineError::Run("the stream is closed".into()));
        };
        session.run([&self.input, &self.state, &self.sample_rate], [&mut self.probability, &mut self.next_state])?;
        std::mem::swap(&mut self.state, &mut self.next_state);
        self.probability.as_f32().first().copied().ok_or_else(|| EngineError::Run("the model gave no probability".into()))
    }

    fn reset(&mut self) {
        self.input.as_f32_mut().fill(0.0);
        self.state.as_f32_mut().fill(0.0);
    }
}

impl Drop for Ort {
    fn drop(&mut self) {
        if let (Some(home), Some(session)) = (self.home.upgrade(), self.session.take()) {
            home.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}
