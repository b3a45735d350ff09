//! What a turn of the agent adds to asking the provider: history, budget, hooks, guard, stream; and what keeping it costs.

use std::{hint::black_box, time::Duration};

use bespoke_agent::{Agent, AgentConfig, Session};
use bespoke_benches::{Aim, Counting, Group};
use bespoke_host::{Host, Selection};
use bespoke_plugin_api::{CallCx, ChatDelta, ChatRequest, Message, Provider, serde_json::json};
use futures_util::StreamExt;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A history as long as a model of 8,192 tokens is shown.
const HISTORY: usize = 40;

fn conversation() -> Vec<Message> {
    (0..HISTORY).flat_map(|n| [Message::user(format!("question number {n}")), Message::assistant(format!("answer number {n}"))]).collect()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let host = runtime.block_on(async {
        let host = Host::builder().plugins([&bespoke_fake::BESPOKE_PLUGIN]).build().expect("an empty configuration");
        host.start(Selection::All).await;
        host
    });
    let config: AgentConfig = bespoke_plugin_api::serde_json::from_value(json!({ "provider": ["fake"], "tools": [] })).expect("a config");
    let agent = Agent::new(host.clone(), config).expect("in range");
    let slot = host.registry().get::<dyn Provider>("fake").expect("it is registered");
    let provider = slot.lease().expect("it is ready");
    let cx = CallCx::new();

    let direct = |history: &[Message], n: u64| {
        runtime.block_on(async {
            for _ in 0..n {
                let mut messages = history.to_vec();
                messages.push(Message::user("What time is it?"));
                let mut stream = provider.chat(&cx, ChatRequest::new(messages)).await.expect("it answers");
                let mut text = String::new();
                while let Some(Ok(delta)) = stream.next().await {
                    if let ChatDelta::Text { text: piece, .. } = delta {
                        text.push_str(&piece);
                    }
                }
                _ = black_box(text);
            }
        });
    };
    let turned = |session: &Session, n: u64| {
        runtime.block_on(async {
            for _ in 0..n {
                let mut session = session.clone();
                let turn = agent.turn(&cx, &mut session, "What time is it?", |_| {}).await.expect("it answers");
                _ = black_box(turn.text);
            }
        });
    };
    for (title, history) in [("agent turn, first of a conversation", Vec::new()), ("agent turn after 40 others", conversation())] {
        let session = Session::of("bench", history.clone());
        Group::new(title)
            .case("Provider::chat, and the pieces put together", |n| direct(&history, n))
            .case("Agent::turn", |n| turned(&session, n))
            .aim(Aim::Over(Duration::from_micros(50)))
            .run();
    }
    runtime.block_on(host.shutdown());
}
