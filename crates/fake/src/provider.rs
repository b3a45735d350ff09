//! A provider that says what the script says, word by word; without one it echoes the user.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bespoke_plugin_api::{
    BoxFuture, BoxStream, CallCx, Cancelled, ChatDelta, ChatRequest, Code, Error, FinishReason, ModelInfo, Provider, Result, Role,
    ToolCall, Usage, async_trait, futures_core::Stream,
};

use crate::{Fake, config::Step};

pub(crate) struct Mind(pub(crate) Arc<Fake>);

#[async_trait]
impl Provider for Mind {
    async fn models(&self, _cx: &CallCx) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new("fake", 4096).tools(true)])
    }

    async fn chat(&self, cx: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        if let Some(model) = request.model.as_deref().filter(|m| *m != "fake") {
            return Err(Error::new(Code::LLM_MODEL_NOT_AVAILABLE, format!("there is no model `{model}`, only `fake`")));
        }
        let last = request.messages.iter().rev().find(|m| m.role == Role::User);
        let Some(last) = last else { return Err(Error::invalid_params("there is no message of the user to answer")) };
        let script = self.0.script();
        let turn = self.0.replied.fetch_add(1, Ordering::Relaxed);
        let steps = script.replies.get(turn).cloned().unwrap_or_else(|| vec![Step::Text(last.text.clone())]);
        let prompt = request.messages.iter().map(|m| m.text.split_whitespace().count()).sum::<usize>();
        let delay = Duration::from_millis(script.piece_delay_ms);
        Ok(Box::pin(Answer {
            fake: self.0.clone(),
            cancelled: cx.cancelled(),
            plan: plan(steps, &request, turn, delay, u32::try_from(prompt).unwrap_or(u32::MAX)),
            sleep: None,
        }))
    }
}

/// What is left to do.
enum Act {
    Say(ChatDelta),
    Sleep(Duration),
    Fail(Error),
    Panic(String),
}

/// The acts of an answer: text cut into words, held to the limits of the request.
fn plan(steps: Vec<Step>, request: &ChatRequest, turn: usize, delay: Duration, prompt_tokens: u32) -> VecDeque<Act> {
    let mut acts = VecDeque::new();
    let (mut written, mut tools) = (0_u32, 0_usize);
    let mut said = String::new();
    let mut reason = FinishReason::Stop;
    'steps: for step in steps {
        match step {
            Step::Text(text) => {
                for piece in text.split_inclusive(' ') {
                    if request.max_tokens.is_some_and(|max| written >= max) {
                        reason = FinishReason::Length;
                        break 'steps;
                    }
                    let before = said.len();
                    said.push_str(piece);
                    let stop = request.stop.iter().filter(|s| !s.is_empty()).filter_map(|s| said.find(s.as_str())).min();
                    if !delay.is_zero() {
                        acts.push_back(Act::Sleep(delay));
                    }
                    match stop {
                        // A stop text that began in an earlier piece has been streamed already; only the rest is held back.
                        Some(at) => {
                            if let Some(rest) = said.get(before..at).filter(|rest| !rest.is_empty()) {
                                acts.push_back(Act::Say(ChatDelta::text(rest)));
                            }
                            break 'steps;
                        }
                        None => acts.push_back(Act::Say(ChatDelta::text(piece))),
                    }
                    written += 1;
                }
            }
            Step::Tool { name, args } => {
                tools += 1;
                acts.push_back(Act::Say(ChatDelta::tool_call(ToolCall::new(format!("call-{turn}-{tools}"), name, args))));
                reason = FinishReason::ToolCalls;
            }
            Step::DelayMs(ms) => acts.push_back(Act::Sleep(Duration::from_millis(ms))),
            Step::Error { code, message, retryable } => {
                let e = Error::new(Code::from_value(code), message);
                acts.push_back(Act::Fail(if retryable { e.retryable() } else { e }));
                return acts;
            }
            Step::Panic(message) => {
                acts.push_back(Act::Panic(message));
                return acts;
            }
        }
    }
    acts.push_back(Act::Say(ChatDelta::finish(reason, Usage::new(prompt_tokens, written))));
    acts
}

struct Answer {
    fake: Arc<Fake>,
    cancelled: Cancelled,
    plan: VecDeque<Act>,
    sleep: Option<BoxFuture<'static, ()>>,
}

impl Stream for Answer {
    type Item = Result<ChatDelta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if !this.plan.is_empty() && Pin::new(&mut this.cancelled).poll(cx).is_ready() {
            this.plan.clear();
            return Poll::Ready(Some(Err(Error::cancelled())));
        }
        loop {
            if let Some(sleep) = &mut this.sleep {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.sleep = None;
            }
            match this.plan.pop_front() {
                Some(Act::Say(delta)) => return Poll::Ready(Some(Ok(delta))),
                Some(Act::Sleep(time)) => this.sleep = Some(this.fake.cx.sleep(time)),
                Some(Act::Fail(e)) => {
                    this.plan.clear();
                    return Poll::Ready(Some(Err(e)));
                }
                Some(Act::Panic(message)) => std::panic::panic_any(message),
                None => return Poll::Ready(None),
            }
        }
    }
}
